"""Systems that are networks: scaled, seeded, trained, used in the data's own units, and kept on disk."""

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from timecell import GRU, LIF, Delayed, LeakyIntegrator, Sequential
from timecell.card import Card
from timecell.config import from_dict, to_dict
from timecell.data.containers import Batch, Schema, Sequences, Series
from timecell.errors import DataError, InputError
from timecell.lens import synaptic_operations
from timecell.network_system import FittedNetwork, NetworkSystem
from timecell.recipe import Anneal, Recipe, Stage
from timecell.system import Run
from timecell.tasks import Classify, Forecast

RUN = Run(updates=60, device="cpu")


@dataclass(frozen=True)
class Gated(NetworkSystem):
    card: ClassVar[Card] = Card("gated", "A gated net", "For tests.", "test")
    hidden: int = 12
    widths: tuple[int, ...] = (1, 2)

    def build(self, schema, outputs):
        return Sequential(GRU(len(schema.channels), self.hidden), nn.Linear(self.hidden, outputs))

    def recipe(self):
        return Recipe((Stage(lr=1e-2),), batch=40)


@dataclass(frozen=True)
class WithDelays(NetworkSystem):
    card: ClassVar[Card] = Card("delays", "A net with delays", "For tests.", "test")

    def build(self, schema, outputs):
        return Sequential(
            Delayed(len(schema.channels), 8, max_delay=4), LIF(8), nn.Linear(8, outputs), LeakyIntegrator(outputs)
        )

    def recipe(self):
        return Recipe((Stage(anneal=(Anneal("sigma", 2.0, 0.5),)), Stage(prepare="harden")), batch=40)


def loud(n=120, seed=0, unit=1000.0):
    rng = np.random.default_rng(seed)
    label = rng.integers(2, size=n)
    channel = np.arange(2) == label[:, None]
    samples = [unit * (5 + rng.standard_normal((rng.integers(8, 12), 2)) + c) for c in channel]
    return Sequences.of(samples, label, classes=("left", "right"))


def wave(missing=False):
    rng = np.random.default_rng(0)
    t = np.arange(400)[:, None]
    values = 1000 + 100 * np.sin(0.4 * t) * np.array([1.0, 0.1]) + rng.standard_normal((400, 2))
    if missing:
        values[rng.random(values.shape) < 0.05] = np.nan
    return Series(values, Schema("series", ("big", "small")))


@pytest.fixture(scope="module")
def classified():
    return Gated().fit(loud(), loud(60, 1), Classify("every"), RUN)


def test_a_classifier_of_raw_units(classified):
    unseen = loud(100, 2)
    task = Classify("every")
    assert task.score(classified.predict(unseen), unseen).value > 0.85
    assert classified.predict(unseen).classes == ("left", "right")


def test_new_data_are_read_as_those_of_training(classified):
    """Without labels, with one class only, and when they happen to look like spike counts."""
    fitted, test = classified, loud(30, 2)
    expected = fitted.predict(test).probabilities
    left = np.flatnonzero(test.target == 0)
    alone = test.select(left)
    alone = replace(alone, schema=replace(alone.schema, classes=("left",)))
    for data, rows in (
        (replace(test, target=None, schema=replace(test.schema, classes=None)), slice(None)),
        (alone, left),
    ):
        answer = fitted.predict(data)
        assert answer.classes == ("left", "right") and np.array_equal(answer.probabilities, expected[rows])
    right = replace(alone, schema=replace(alone.schema, classes=("right",)))
    task = Classify()
    assert task.score(answer, alone).value == pytest.approx(1 - task.score(answer, right).value)
    other = replace(alone, schema=replace(alone.schema, classes=("up",)))
    with pytest.raises(InputError, match=r"data.target\[0\]: found the label 'up', expected one of left, right"):
        task.score(answer, other)
    whole = replace(test, values=test.values.round())
    counts = replace(whole, schema=replace(whole.schema, spikes=True))
    assert np.array_equal(fitted.predict(whole).probabilities, fitted.predict(counts).probabilities)


@pytest.mark.parametrize("missing", [False, True])
def test_a_forecast_is_in_the_units_of_the_series(missing):
    task = Forecast(history=16, horizon=3, targets=("small",))
    splits = task.split(wave(missing))
    fitted = Gated().fit(splits.train, splits.valid, task, replace(RUN, updates=150))
    prediction = fitted.predict(splits.test)
    truth = np.stack([splits.test.batch(np.array([i])).target[0].numpy() for i in range(len(splits.test))])
    assert prediction.values.shape == truth.shape
    assert np.nanmean(np.abs(prediction.values - truth)) < 4  # the channel swings by 10 around 1000
    assert task.score(prediction, splits.test).value < 1
    inside = (prediction.quantiles[..., 0] <= truth) & (truth <= prediction.quantiles[..., 2])
    assert prediction.levels == (0.1, 0.5, 0.9) and 0.5 < inside[~np.isnan(truth)].mean() < 0.98


def test_scale_and_choice_come_from_the_right_parts():
    shifted = loud(60, 1)
    shifted = replace(shifted, values=shifted.values + 1e6)
    a, b = (Gated().fit(loud(), valid, Classify("every"), replace(RUN, updates=3)) for valid in (loud(60, 1), shifted))
    assert np.array_equal(a.scale.mean, b.scale.mean) and np.array_equal(a.scale.std, b.scale.std)
    assert np.allclose(a.scale.mean, loud().values.mean(axis=0))


def test_the_same_seed_is_the_same_net():
    nets = []
    for noise, seed in ((0, 0), (1, 0), (0, 1)):
        torch.manual_seed(noise)
        fitted = Gated().fit(loud(), loud(60, 1), Classify("every"), replace(RUN, updates=4, seed=seed))
        nets.append([p.detach().numpy().tobytes() for p in fitted.network.parameters()])
    assert nets[0] == nets[1] != nets[2]


def test_the_report_is_json_and_says_what_was_done(classified):
    report = json.loads(json.dumps(to_dict(classified.report)))
    assert report["parameters"] == sum(p.numel() for p in classified.network.parameters())
    assert report["updates"] == 60 and report["seconds"] > 0 and not report["hit_time_cap"]
    assert {"update", "train_loss", "valid_loss", "valid_score"} <= report["history"][-1].keys()
    assert report["best"] in report["history"] and report["synaptic_operations"] > 0
    capped = Gated().fit(loud(), loud(60, 1), Classify("every"), replace(RUN, updates=100_000, seconds=0.2))
    assert capped.report["hit_time_cap"] and capped.report["updates"] < 100_000


def test_delays_count_as_parameters_though_they_end_up_frozen():
    fitted = WithDelays().fit(loud(), loud(60, 1), Classify("every"), replace(RUN, updates=6))
    assert fitted.report["parameters"] == 2 * 2 * 8 + 8 * 2 + 2
    assert not fitted.network[0].delay.requires_grad


# --- on disk -----------------------------------------------------------------------------------------------------------


def test_saved_and_loaded_it_answers_the_same(tmp_path):
    for system in (Gated(hidden=5, widths=(3,)), WithDelays()):
        folder = tmp_path / system.card.slug
        fitted = system.fit(loud(), loud(60, 1), Classify("every"), replace(RUN, updates=8))
        fitted.save(folder)
        assert sorted(p.name for p in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
        loaded = FittedNetwork.load(folder, classes=(type(system),))
        assert loaded.system == system and loaded.schema == fitted.schema and loaded.task == fitted.task
        unseen = loud(30, 2)
        assert np.array_equal(loaded.predict(unseen).probabilities, fitted.predict(unseen).probabilities)
        assert loaded.report["updates"] == 8 and system.card.title in (folder / "README.md").read_text()
    assert loaded.network[0].hard and loaded.network[0].sigma == 0.5


def test_quantiles_survive(tmp_path):
    task = Forecast(history=16, horizon=3)
    splits = task.split(wave())
    fitted = Gated().fit(splits.train, splits.valid, task, replace(RUN, updates=4))
    fitted.save(tmp_path)
    loaded = FittedNetwork.load(tmp_path, classes=(Gated,))
    assert np.array_equal(loaded.predict(splits.test).quantiles, fitted.predict(splits.test).quantiles)


def test_a_shipped_system_needs_no_class(tmp_path):
    controls = pytest.importorskip("timecell.controls")
    fitted = controls.GatedNet(hidden=4).fit(loud(), loud(60, 1), Classify("every"), replace(RUN, updates=3))
    fitted.save(tmp_path)
    assert FittedNetwork.load(tmp_path).system == controls.GatedNet(hidden=4)


def test_a_file_can_not_name_code_to_run(classified, tmp_path):
    classified.save(tmp_path)
    with pytest.raises(InputError, match=r"found 'test_train_network_system.Gated'.*(?s:.)*classes=\(Gated,\)"):
        FittedNetwork.load(tmp_path)
    for name in ("os.system", "timecell.errors.InputError", "timecell.nothing.Here", "timecell.train.fit", 3):
        with pytest.raises(InputError, match="a dataclass of timecell or one of the classes given"):
            from_dict({"class": name})


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "of another net"])
def test_damaged_files_are_named(classified, tmp_path, name, damage):
    classified.save(tmp_path)
    path = tmp_path / name
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        config = json.loads((tmp_path / "config.json").read_text())
        config["system"]["hidden"] = 13
        (tmp_path / "config.json").write_text(json.dumps(config))
        name = "model.safetensors"  # that is where the two are found not to match
    with pytest.raises(DataError, match=f"(?s){name}: found .*Remedy: .*save the model again"):
        FittedNetwork.load(tmp_path, classes=(Gated,))


def test_a_field_of_another_version_is_named(classified, tmp_path):
    classified.save(tmp_path)
    text = (tmp_path / "config.json").read_text().replace('"hidden"', '"heights"')
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match="heights"):
        FittedNetwork.load(tmp_path, classes=(Gated,))


def test_dataclasses_survive_json():
    recipe = Recipe((Stage(rates={"delay": 30.0}, anneal=(Anneal("sigma", 3.0, 0.5),)),), patience=4)
    assert from_dict(json.loads(json.dumps(to_dict(recipe)))) == recipe
    with pytest.raises(InputError, match="ndarray"):
        to_dict(Gated(hidden=np.zeros(2)))


# --- what is refused ---------------------------------------------------------------------------------------------------


def test_it_accepts_what_it_can_do():
    series, sequences = wave().schema, loud().schema
    assert Gated().accepts(sequences, Classify()) is None and Gated().accepts(series, Forecast()) is None
    assert "data are series" in Gated().accepts(series, Classify())
    assert "data are sequences" in Gated().accepts(sequences, Forecast())
    assert "fewer than two" in Gated().accepts(replace(sequences, classes=("one",)), Classify())

    class Forecaster(Gated):
        made_for = ("forecast", "detect", "impute")

    assert Forecaster().accepts(series, Forecast()) is None
    said = Forecaster().accepts(sequences, Classify())
    assert said == "it can forecast, detect and impute; the task is classify"

    class Cluster:
        name = "cluster"

    assert "the task cluster asks for something else" in Gated().accepts(sequences, Cluster())
    with pytest.raises(InputError, match=r"gated: found .*fewer than two"):
        one = loud()
        Gated().fit(replace(one, schema=replace(one.schema, classes=("one",))), one, Classify(), RUN)


def test_other_channels_are_refused(classified):
    other = loud(10)
    other = replace(other, schema=replace(other.schema, channels=("x1", "x0")))
    with pytest.raises(InputError, match=r"data.schema.channels: found \('x1', 'x0'\)"):
        classified.predict(other)


# --- work --------------------------------------------------------------------------------------------------------------


def test_operations_are_events_times_fan_out():
    torch.manual_seed(0)
    x = (torch.rand(3, 7, 4) < 0.3).float()
    net = Sequential(nn.Linear(4, 6), LIF(6, threshold=0.1), Delayed(6, 5, max_delay=2))
    spikes, _ = Sequential(net[0], net[1])(x)
    expected = (x.count_nonzero() * 6 + spikes.count_nonzero() * 5) / 3
    assert synaptic_operations(net, Batch(x)) == pytest.approx(float(expected))
    lengths = torch.tensor([7, 2, 4])
    dense = Sequential(GRU(4, 3))
    assert synaptic_operations(dense, Batch(torch.rand(3, 7, 4), lengths=lengths)) == 13 * (4 + 3) * 9 / 3

    class Kernel(nn.Module):  # with weights of its own, of which nobody knows how they are used
        def __init__(self):
            super().__init__()
            self.kernel = nn.Parameter(torch.rand(4, 4))

        def forward(self, x):
            return x @ self.kernel

    assert synaptic_operations(Sequential(Kernel()), Batch(torch.rand(2, 3, 4))) is None
