"""Each task on the command line: a file of its kind is recognised, a baseline trained, and new data answered."""

import json

import numpy as np
import pytest

from timecell import cli
from timecell.data.synthetic.point_processes import hawkes


@pytest.fixture
def call(capsys, tmp_path):
    """Run a command in which only the baselines and the plain networks are known: (exit status, stdout, stderr)."""
    nobody = tmp_path / "nobody"
    nobody.mkdir()

    def run(*arguments):
        status = cli.main([*map(str, arguments), "--root", str(nobody)])
        out, err = capsys.readouterr()
        return status, out, " ".join(err.split())

    return run


def write(path, head, rows):
    path.write_text("\n".join([head, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


@pytest.fixture
def clicks(tmp_path):
    data = hawkes(sequences=15, end=40.0, seed=1).data
    rows = [
        (f"u{i}", f"{t:.5f}", ("view", "buy")[m])
        for i in range(len(data))
        for t, m in zip(*(array[data.offsets[i] : data.offsets[i + 1]] for array in (data.times, data.marks)))
    ]
    return write(tmp_path / "clicks.csv", "sequence,time,event", rows)


@pytest.fixture
def plant(tmp_path):
    t, rng = np.arange(500), np.random.default_rng(0)
    flow = np.sin(2 * np.pi * t / 24) + 0.05 * rng.normal(size=500)
    odd = np.isin(t, [300, 301, 430])
    flow[odd] += 2
    rows = [
        (i * 3600, round(f, 4), round(f + 0.1 * rng.normal(), 4), int(a)) for i, (f, a) in enumerate(zip(flow, odd))
    ]
    return write(tmp_path / "plant.csv", "time,flow,heat,anomaly", rows)


def trained(call, tmp_path, file, *options):
    """A model in a folder, and its answers for the same file."""
    model = tmp_path / "model"
    status, _, err = call("train", file, "--out", model, *options)
    assert status == 0, err
    status, out, err = call("predict", model, file, "--json")
    assert status == 0, err
    return json.loads(out)


def test_events_are_found_and_the_next_one_told(call, clicks, tmp_path):
    rows = trained(call, tmp_path, clicks, "--system", "poisson")
    assert len(rows) == 15 and rows[0]["likely mark"] in ("view", "buy") and rows[0]["half of the time within"] > 0


def test_new_marks_are_refused(call, clicks, tmp_path):
    trained(call, tmp_path, clicks, "--system", "poisson")
    other = tmp_path / "other.csv"
    other.write_text(clicks.read_text().replace("buy", "steal"))
    status, _, err = call("predict", tmp_path / "model", other)
    assert status == 2 and "steal" in err and "view" in err


def test_steps_get_scores_and_alarms(call, plant, tmp_path):
    rows = trained(call, tmp_path, plant, "--task", "detect", "--system", "ridge-residual")
    scores = np.array([row["score"] for row in rows], float)
    assert len(rows) == 500 and {300, 430} <= set(np.argsort(-scores)[:8].tolist())


def test_detectors_are_not_compared_without_labels(call, plant, tmp_path):
    bare = write(
        tmp_path / "bare.csv", "time,flow", [line.split(",")[:2] for line in plant.read_text().splitlines()[1:]]
    )
    status, _, err = call("compare", bare, "--task", "detect", "--out", tmp_path / "out")
    assert status == 2 and "--target NAME" in err


def test_gaps_are_filled_and_nothing_else_is_touched(call, plant, tmp_path):
    lines = plant.read_text().splitlines()
    cells = lines[251].split(",")
    lines[251] = ",".join([cells[0], "", *cells[2:]])
    plant.write_text("\n".join(lines) + "\n")
    rows = trained(call, tmp_path, plant, "--task", "impute", "--ignore", "anomaly", "--system", "linear-interpolation")
    assert rows[250]["flow"] == pytest.approx(float(cells[1]), abs=0.3)
    assert rows[249]["heat"] == float(lines[250].split(",")[2])


def test_one_channel_is_decoded_from_the_others(call, plant, tmp_path):
    options = ("--task", "decode", "--target", "heat", "--ignore", "anomaly", "--system", "wiener-filter")
    rows = trained(call, tmp_path, plant, *options)
    truth = [float(line.split(",")[2]) for line in plant.read_text().splitlines()[1:]]
    assert np.corrcoef(truth, [row["heat"] for row in rows])[0, 1] > 0.9


def test_spikes_are_a_population_and_edges_a_stream(call, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "spikes.npz", times=np.sort(rng.random(900) * 60), units=rng.integers(0, 4, 900))
    status, _, err = call("train", tmp_path / "spikes.npz", "--system", "poisson-glm", "--out", tmp_path / "a")
    assert status == 0 and "4 channels" in err
    rows = [(f"p{a}", f"p{b}", t) for t, (a, b) in enumerate(rng.integers(0, 20, (400, 2))) if a != b]
    mails = write(tmp_path / "mails.csv", "source,target,time", rows)
    status, _, err = call("train", mails, "--system", "edgebank", "--out", tmp_path / "b")
    assert status == 0 and "20 nodes" in err
    status, _, err = call("predict", tmp_path / "b", mails)
    assert status == 2 and "predict(...) in Python" in err


def test_what_a_task_does_not_know_is_refused(call, clicks, tmp_path):
    status, _, err = call("train", clicks, "--system", "poisson", "--horizon", 3, "--out", tmp_path / "m")
    assert status == 2 and "the task is next-event" in err
    status, _, err = call("train", clicks, "--task", "next-evnt", "--system", "poisson", "--out", tmp_path / "m")
    assert status == 2 and "did you mean 'next-event'" in err
