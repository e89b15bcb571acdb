"""``timecell diagnose``: a trained network from its folder, on a file."""

import json
import shutil

import numpy as np
import pytest

from timecell import cli


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    """Forty labelled sequences of twelve steps: a ramp up or down in noise."""
    path, rng = tmp_path_factory.mktemp("data") / "moves.csv", np.random.default_rng(0)
    rows = [[("falls", "rises")[n % 2], *(n % 2 * 2 - 1) * np.arange(12) + rng.normal(size=12)] for n in range(40)]
    head = ["kind", *(f"x_{i}" for i in range(12))]
    path.write_text("\n".join(",".join(map(str, row)) for row in [head, *rows]))
    return path


@pytest.fixture(scope="module")
def model(sequences, tmp_path_factory):
    """A folder with a spiking net after a few updates."""
    folder = tmp_path_factory.mktemp("model")
    how = ["--target", "kind", "--system", "spiking-mlp", "--updates", "3", "--device", "cpu", "--out", str(folder)]
    assert cli.main(["train", str(sequences), *how]) == 0
    return folder


def test_a_trained_network_is_looked_into(call, model, sequences):
    status, out, err = call("diagnose", model, sequences, "--samples", 10, "--json")
    document = json.loads(out)
    assert status == (1 if document["findings"] else 0)
    assert document["samples"] == 10 and document["loss"] > 0
    assert [layer["kind"] for layer in document["layers"]].count("LIF") == 2
    assert len(document["layers"][-1]["blame"]) == 12
    assert "40 sequences" in err

    status, out, _ = call("diagnose", model, sequences)
    assert out.startswith("40 samples") and "spikes/step" in out and "2 LIF" in out


def test_findings_and_their_remedies_are_told(call, model, sequences, tmp_path):
    """The same network with a deaf first layer."""
    from timecell.pretrained import read_folder, write_folder

    sick = tmp_path / "sick"
    shutil.copytree(model, sick)
    config, tensors = read_folder(model)
    tensors["network.1.bias"] -= 100.0
    write_folder(sick, config, tensors, "")
    status, out, err = call("diagnose", sick, sequences)
    assert status == 1, err
    assert "dead layer: 2 (LIF)" in out and "Remedy: lower the threshold" in out
    status, out, _ = call("diagnose", sick, sequences, "--json")
    assert status == 1 and json.loads(out)["findings"][0]["illness"] == "dead layer"


def test_without_labels_nothing_is_said_about_gradients(call, model, sequences, tmp_path):
    unlabelled = tmp_path / "new.csv"
    unlabelled.write_text("\n".join(line.partition(",")[2] for line in sequences.read_text().splitlines()))
    out = call("diagnose", model, unlabelled)[1]
    assert "without labels, so nothing is said about gradients" in out
    document = json.loads(call("diagnose", model, unlabelled, "--json")[1])
    assert document["loss"] is None and document["layers"][0]["gradient"] is None


def test_labels_keep_their_meaning_whichever_of_them_a_file_holds(call, model, sequences, tmp_path):
    head, *rows = sequences.read_text().splitlines()
    of = {name: [row for row in rows if row.startswith(name)] for name in ("falls", "rises")}
    losses = {}
    for name, some in {**of, "both": rows}.items():
        path = tmp_path / f"{name}.csv"
        path.write_text("\n".join([head, *some]))
        losses[name] = json.loads(call("diagnose", model, path, "--json")[1])["loss"]
    assert losses["both"] == pytest.approx((losses["falls"] + losses["rises"]) / 2, rel=1e-4)
    assert losses["falls"] != pytest.approx(losses["rises"], rel=1e-4)

    other = tmp_path / "other.csv"
    other.write_text("\n".join([head, *(row.replace("falls", "sinks") for row in rows)]))
    status, _, err = call("diagnose", model, other)
    assert status == 2 and "found the label 'sinks', expected one of falls, rises, as in training" in err


def test_a_forecaster_is_looked_into(call, tmp_path):
    path, hours = tmp_path / "load.csv", np.arange(400)
    lines = [f"2026-01-{1 + h // 24:02d}T{h % 24:02d}:00,{h % 7},{10 + h % 24}" for h in hours]
    path.write_text("\n".join(["time,a,b", *lines]))
    how = "--target", "b", "--task", "forecast", "--horizon", 3, "--history", 12, "--updates", 2, "--device", "cpu"
    assert call("train", path, *how, "--system", "leaky-net", "--out", tmp_path / "model")[0] == 0
    document = json.loads(call("diagnose", tmp_path / "model", path, "--samples", 5, "--json")[1])
    assert document["samples"] == 5 and document["loss"] > 0

    short = tmp_path / "short.csv"
    short.write_text("\n".join(path.read_text().splitlines()[:12]))
    status, _, err = call("diagnose", tmp_path / "model", short)
    assert status == 2 and "found 11 steps, expected at least 15, for one window" in err


def test_a_decoder_is_a_user_error(call, tmp_path):
    path = tmp_path / "reach.csv"
    path.write_text("\n".join(["time,spikes,speed", *(f"{t},{t % 7},{t % 7 / 2}" for t in range(300))]))
    how = "--task", "decode", "--target", "speed", "--updates", 2, "--device", "cpu", "--system", "gru"
    status, _, err = call("train", path, *how, "--out", tmp_path / "model")
    assert status == 0, err
    status, _, err = call("diagnose", tmp_path / "model", path)
    assert status == 2 and "a net for the task decode" in err and "timecell.lens.diagnose" in err


def test_what_cannot_be_looked_into_is_a_user_error(call, model, sequences, tmp_path):
    how = "--target", "kind", "--system", "majority", "--out", tmp_path / "baseline"
    assert call("train", sequences, *how)[0] == 0
    status, _, err = call("diagnose", tmp_path / "baseline", sequences)
    assert status == 2 and "expected a network" in err and "baselines have no layers" in err
    status, _, err = call("diagnose", model, sequences, "--samples", 0)
    assert status == 2 and "samples: found 0, expected at least 1" in err
    status, _, err = call("diagnose", tmp_path / "nothing", sequences)
    assert status == 2 and "asked.json: found No such file" in err
    status, _, err = call("diagnose", model, tmp_path / "nothing.csv")
    assert status == 2 and "nothing.csv" in err
