"""Each task on the command line: a file of its kind is recognised, a baseline trained, and new data answered."""

import json

import numpy as np
import pytest

from timecell.cli.answering import ANSWERS
from timecell.cli.models import Predict
from timecell.data.synthetic.point_processes import hawkes
from timecell.tasks import every


@pytest.fixture
def call(call, tmp_path):
    """Run a command in which only the baselines and the plain networks are known: (exit status, stdout, stderr)."""
    nobody = tmp_path / "nobody"
    nobody.mkdir()
    return lambda *arguments: call(*arguments, "--root", nobody)


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


def test_every_task_has_an_answer_and_the_help_says_which():
    assert set(ANSWERS) == set(every())
    told = [line.split()[0] for line in Predict.__doc__.splitlines() if " of a" in line and line.startswith(" " * 8)]
    assert set(told) == set(every())


def test_what_a_task_does_not_know_is_refused(call, clicks, tmp_path):
    status, _, err = call("train", clicks, "--system", "poisson", "--horizon", 3, "--out", tmp_path / "m")
    assert status == 2 and "the task is next-event" in err
    status, _, err = call("train", clicks, "--task", "next-evnt", "--system", "poisson", "--out", tmp_path / "m")
    assert status == 2 and "did you mean 'next-event'" in err


# --- spikes -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def population(tmp_path):
    """Unit c fires one bin after unit b, which follows a at once; bins of 10 ms."""
    rng = np.random.default_rng(0)
    a = np.flatnonzero(rng.random(2000) < 0.2)
    b = a[rng.random(len(a)) < 0.8]
    times = np.concatenate([a, b, b + 1]) * 0.01 + 0.005
    units = np.repeat([0, 1, 2], [len(a), len(b), len(b)])
    order = np.argsort(times, kind="stable")
    np.savez(tmp_path / "spikes.npz", times=times[order], units=units[order])
    return tmp_path / "spikes.npz"


@pytest.mark.parametrize("system", ["poisson-glm", "gru"])
@pytest.mark.parametrize("held_out", [(), ("unit1",)], ids=["the next bin", "a hidden unit"])
def test_rates_come_bin_by_bin(call, population, tmp_path, system, held_out):
    options = ("--task", "co-smooth", "--system", system, "--updates", 80)
    rows = trained(call, tmp_path, population, *options, *(("--target", *held_out) if held_out else ()))
    data = np.load(population)
    counts = np.zeros((len(rows), 3))
    np.add.at(counts, ((data["times"] / 0.01).astype(int), data["units"]), 1)
    rates = np.array([[row[name] for name in rows[0] if name not in ("step", "time")] for row in rows], float)
    assert rates.shape == (len(rows), len(held_out) or 3) and len(rows) == pytest.approx(2001, abs=1)
    assert np.allclose(rates.mean(0), counts.mean(0)[[1] if held_out else [0, 1, 2]], rtol=0.15)
    cause, effect = (counts[:, 0], rates[:, 0]) if held_out else (counts[:-1, 1], rates[1:, 2])
    assert effect[cause == 1].mean() > 4 * effect[cause == 0].mean()


@pytest.mark.parametrize("task", ["co-smooth", "decode"])
def test_a_net_from_before_its_channels_had_an_order_is_refused(call, population, tmp_path, task):
    for system in ("gru", {"co-smooth": "poisson-glm", "decode": "wiener-filter"}[task]):
        options = ("--task", task, "--target", "unit1", "--system", system, "--updates", 2)
        folder = tmp_path / system
        folder.mkdir()
        trained(call, folder, population, *options)
        file = folder / "model" / "asked.json"
        file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "base"}))
        status, _, err = call("predict", folder / "model", population)
        assert status == (2 if system == "gru" else 0)
        assert system != "gru" or f"a net for the task {task} from an earlier version" in err


def test_a_net_decodes_wherever_the_file_has_its_target(call, plant, tmp_path):
    lines = [line.split(",") for line in plant.read_text().splitlines()[1:]]
    file = write(tmp_path / "far.csv", "time,far,flow", [(t, 1000 + 100 * float(h), f) for t, f, h, _ in lines])
    rows = trained(call, tmp_path, file, "--task", "decode", "--target", "far", "--system", "gru", "--updates", 150)
    far = [1000 + 100 * float(h) for _, _, h, _ in lines]
    assert np.corrcoef(far, [row["far"] for row in rows])[0, 1] > 0.8
    assert np.mean([row["far"] for row in rows]) == pytest.approx(1000, abs=30)


# --- edges ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mails(tmp_path):
    """Everybody writes to the next two in a circle; a file with all rows, and one with the first three hundred."""
    rng = np.random.default_rng(0)
    rows = [(f"p{u}", f"p{(u + rng.integers(1, 3)) % 12}", t) for t, u in enumerate(rng.integers(0, 12, 400))]
    write(tmp_path / "first.csv", "source,target,time", rows[:300])
    return write(tmp_path / "mails.csv", "source,target,time", rows)


def test_each_edge_is_scored_by_what_came_before_it(call, mails, tmp_path):
    rows = trained(call, tmp_path, mails, "--system", "pair-recency")
    assert [row["time"] for row in rows] == list(range(400))
    assert rows[0] == {**rows[0], "score": 0.0, "rivals beaten": ""}  # nothing came before it
    assert np.mean([row["rivals beaten"] for row in rows[100:]]) > 0.7
    status, out, _ = call("predict", tmp_path / "model", tmp_path / "first.csv", "--json")
    assert status == 0 and json.loads(out) == rows[:300]  # and by nothing that came later


def test_candidates_for_one_moment_are_asked_about_after_a_stream(call, mails, tmp_path):
    model = tmp_path / "model"
    whole = trained(call, tmp_path, mails, "--system", "pair-recency")
    later = write(tmp_path / "later.csv", "source,target,time", [("p3", f"p{n}", 400) for n in (4, 5, 6, 99)])
    status, out, err = call("predict", model, later, "--before", mails, "--json")
    assert status == 0, err
    scores = {row["target"]: row["score"] for row in json.loads(out)}
    assert scores["p4"] > 0 and scores["p5"] > 0 and scores["p6"] == scores["p99"] == 0
    rest = tmp_path / "rest.csv"
    lines = mails.read_text().splitlines()
    rest.write_text("\n".join([lines[0], *lines[301:]]) + "\n")
    status, out, _ = call("predict", model, rest, "--before", tmp_path / "first.csv", "--json")
    assert status == 0 and [row["score"] for row in json.loads(out)] == [row["score"] for row in whole[300:]]
    status, _, err = call("predict", model, rest, "--before", mails)
    assert status == 2 and "history: found an edge at 399, expected all before 300" in err


def test_only_edges_go_on(call, plant, tmp_path):
    trained(call, tmp_path, plant, "--task", "forecast", "--horizon", 3, "--system", "naive")
    status, _, err = call("predict", tmp_path / "model", plant, "--before", plant)
    assert status == 2 and "leave --before out" in err


@pytest.fixture
def shops(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        (f"shop {i}", week, round(10.0**i * (5 + np.sin(week / 2 + i) + 0.1 * rng.normal()), 4))
        for i in range(6)
        for week in range(30 + 2 * i)
    ]
    return write(tmp_path / "shops.csv", "shop,week,sales", rows)


def test_many_short_series_are_each_continued_in_their_own_unit(call, shops, tmp_path):
    options = ("--id", "shop", "--time", "week", "--horizon", "3", "--system", "ridge-lags")
    rows = trained(call, tmp_path, shops, *options)
    assert len(rows) == 6 * 3 and list(rows[0]) == ["sequence", "step", "sales"] and rows[0]["step"] == 1
    for i in range(6):  # each of its own size, a tenth of the next one's
        told = np.array([row["sales"] for row in rows if row["sequence"] == i])
        weeks = 30 + 2 * i + np.arange(3)
        assert np.abs(told / 10.0**i - 5 - np.sin(weeks / 2 + i)).max() < 0.6
    asked = json.loads((tmp_path / "model" / "asked.json").read_text())
    assert asked["task"]["class"].endswith("ShortTerm") and asked["test"]["samples"] == 6


def test_short_series_are_compared(call, shops, tmp_path):
    status, out, err = call(
        "compare", shops, "--id", "shop", "--time", "week", "--horizon", "3", "--updates", "5", "--trials", "1",
        "--seeds", "1", "--jobs", "1", "--only", "gru", "--json", "--out", tmp_path / "run",
    )  # fmt: skip
    assert status == 0, err
    assert {"gru", "naive", "ridge-lags"} <= {row["slug"] for row in json.loads(out)["rows"]}
    page = (tmp_path / "run" / "report.html").read_text()
    assert "first training sample" in page and "Forecasts of sales" in page


def test_a_series_that_is_too_short_is_named(call, shops, tmp_path):
    status, _, err = call("train", shops, "--id", "shop", "--time", "week", "--horizon", "10", "--history", "9",
                          "--system", "naive", "--out", tmp_path / "model")  # fmt: skip
    assert status == 2 and "sequence 0: found 30 steps, expected at least 39" in err
