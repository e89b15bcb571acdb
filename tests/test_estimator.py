"""scikit-learn's own checks pass, on baselines and on a network, and its tools reach what is inside a system."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from timecell import Cell
from timecell.card import Card
from timecell.controls import GatedNet
from timecell.data.containers import Sequences
from timecell.errors import InputError
from timecell.estimator import TimecellClassifier, TimecellRegressor
from timecell.network_system import NetworkSystem
from timecell.recipe import Recipe, Stage
from timecell.system import Run
from timecell.tasks import Classify
from timecell.tasks.classifiers import SummaryLogistic
from timecell.tasks.forecasters import RidgeLags
from timecell.train import predict


class Whole(Cell):
    """A linear map of the whole window, answered at every step: the quickest net there is."""

    causal = False

    def __init__(self, steps, channels, outputs):
        super().__init__()
        self.map = nn.Linear(steps * channels, outputs)

    def forward(self, x, state=None, *, lengths=None):
        return self.map(x.flatten(1))[:, None].expand(-1, x.shape[1], -1), None


@dataclass(frozen=True)
class LinearNet(NetworkSystem):
    """A net for which a few updates are enough."""

    lr: float = 0.1
    card = Card("linear-net", "A linear net", "For tests.", "example")

    def build(self, schema, outputs):
        return Whole(schema.lengths[0], len(schema.channels), outputs)

    def recipe(self):
        return Recipe((Stage(lr=self.lr),), batch=100)


FAST = Run(updates=40, device="cpu")
ESTIMATORS = [
    TimecellClassifier(SummaryLogistic()),
    TimecellRegressor(RidgeLags()),
    TimecellClassifier(LinearNet(), run=FAST),
    TimecellRegressor(LinearNet(), run=FAST),
]


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def tones(n=60, channels=2, seed=0):
    """[n, T, C]: which channel carries the slow wave?"""
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=n)
    slow, fast = np.sin(0.3 * np.arange(20)), np.sin(1.2 * np.arange(20))
    X = np.stack([np.stack([slow, fast] if k else [fast, slow], axis=1) for k in y])[:, :, :channels]
    return X + 0.3 * rng.standard_normal(X.shape), np.array(["left", "right"])[y]


@pytest.mark.parametrize("channels", [1, 2])
def test_a_published_kind_of_net_in_three_dimensions(channels):
    X, y = tones(channels=channels)
    model = TimecellClassifier(GatedNet(hidden=8), task=Classify("last"), run=replace(FAST, updates=60))
    assert model.fit(X[:40], y[:40]).score(X[40:], y[40:]) > 0.8
    assert model.classes_.tolist() == ["left", "right"] and model.n_features_in_ == 20
    assert model.predict_proba(X).shape == (60, 2) and model.fitted_.report["updates"] == 60
    if channels == 1:  # two axes are one channel
        flat = clone(model).fit(X[:40, :, 0], y[:40])
        assert np.array_equal(flat.predict_proba(X[:, :, 0]), model.predict_proba(X))
    with pytest.raises(ValueError, match="19 features"):
        model.predict(X[:, :19])
    with pytest.raises(InputError, match=r"channels: found .* as in training"):
        model.predict(np.concatenate([X, X], axis=2))


def test_searches_reach_into_the_system():
    X, y = tones(channels=1)
    pipeline = make_pipeline(StandardScaler(), TimecellClassifier(SummaryLogistic(C=1e-9)))
    grid = {"timecellclassifier__system__C": [1e-9, 1.0], "timecellclassifier__task__readout": ["last", "mean"]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(X[:, :, 0], y)
    assert search.best_params_["timecellclassifier__system__C"] == 1.0
    assert cross_val_score(search.best_estimator_, X[:, :, 0], y, cv=2).mean() > 0.9


def test_nested_parameters():
    model = TimecellClassifier(GatedNet())
    model.set_params(system__hidden=3, run__updates=7, run__seed=4, task__readout="mean", validation_fraction=0.3)
    assert (model.system.hidden, model.run, model.task.readout) == (3, Run(updates=7, seed=4), "mean")
    assert model.get_params()["system__hidden"] == 3 and "system__hidden" not in model.get_params(deep=False)
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(system=LinearNet(), system__lr=0.5).system == LinearNet(lr=0.5)
    for name in ("hiden", "system__hiden", "system__lr__x"):
        with pytest.raises(InputError, match=f"parameter of TimecellClassifier: found '{name}'"):
            model.set_params(**{name: 1})


class Spy:
    """A system that keeps what it is given."""

    def fit(self, train, valid, task, run):
        self.train, self.valid, self.task = train, valid, task


def test_each_class_validates_and_nothing_is_used_twice():
    X = np.arange(22.0)[:, None] * np.ones((1, 5)) + 0.5
    y = np.repeat([3, 7, 9], [12, 8, 2])
    model = TimecellClassifier(Spy(), validation_fraction=0.25).fit(X, y)
    train, valid = model.system.train, model.system.valid
    assert np.bincount(train.target).tolist() == [9, 6, 1] and np.bincount(valid.target).tolist() == [3, 2, 1]
    firsts = np.concatenate([part.values[part.offsets[:-1], 0] for part in (train, valid)])
    assert sorted(firsts) == X[:, 0].tolist() and train.schema == valid.schema


def test_a_regressor_gives_the_system_windows():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 6, 2)), rng.standard_normal((30, 3))
    model = TimecellRegressor(Spy(), error="absolute").fit(X, y)
    train, valid = model.system.train, model.system.valid
    assert len(train) + len(valid) == 30 and len(valid) == 4 and model.system.task.error == "absolute"
    both = [part.batch(np.arange(len(part))) for part in (train, valid)]
    inputs, targets = (torch.cat([getattr(b, name) for b in both]).numpy() for name in ("x", "target"))
    assert inputs.shape == (30, 6, 5) and not inputs[:, :, :3].any() and targets.shape == (30, 1, 3)
    seen = {(a.tobytes(), b.tobytes()) for a, b in zip(inputs[:, :, 3:], targets[:, 0])}
    assert seen == {(a.tobytes(), b.tobytes()) for a, b in zip(X.astype(np.float32), y.astype(np.float32))}


def test_a_regressor_of_a_few_numbers():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 6, 2))
    y = np.stack([100 * X[:, 2, 1] + 7, -X[:, 5, 0]], axis=1)  # of very different scales
    for system in (RidgeLags(), LinearNet()):
        model = TimecellRegressor(system, run=replace(FAST, updates=150)).fit(X[:150], y[:150])
        assert model.predict(X).shape == (200, 2) and model.score(X[150:], y[150:]) > 0.95
        assert model.fit(X[:150], y[:150, 0]).predict(X).shape == (200,)


def test_integers_are_no_spike_counts_if_training_saw_none():
    X, y = tones()
    model = TimecellClassifier(GatedNet(hidden=4), run=replace(FAST, updates=5)).fit(X, y)
    counts = np.ones((2, 20, 2))
    assert np.allclose(model.predict_proba(counts), model.predict_proba(counts + 1e-6), atol=1e-4)
    scaled = model.fitted_.scale.apply(counts)
    answer = predict(model.fitted_.network, Sequences.of(scaled + 0.0, classes=("a", "b")), Classify())
    assert np.allclose(model.predict_proba(counts), answer.probabilities, atol=1e-6)


@pytest.mark.parametrize(
    ("X", "y", "says"),
    [
        (np.ones((4, 3)), [0, 0, 0, 0], "y: found one class, 0, expected two or more"),
        (np.ones((4, 3)), [0, 0, 0, 5], "y: found one sample of class 5, expected two or more"),
        (np.ones((4, 3, 2, 2)), [0, 0, 1, 1], r"X: found shape \(4, 3, 2, 2\), expected \[n, T\] or \[n, T, C\]"),
    ],
)
def test_errors_name_what_is_wrong(X, y, says):
    with pytest.raises(InputError, match=says):
        TimecellClassifier(SummaryLogistic()).fit(X, np.array(y))


def test_a_share_out_of_range():
    with pytest.raises(InputError, match=r"validation_fraction: found 1.0, expected a share between 0 and 1"):
        TimecellRegressor(RidgeLags(), validation_fraction=1.0).fit(np.ones((4, 3)), np.arange(4.0))
    with pytest.raises(InputError, match="X: found 1 sample, expected two or more"):
        TimecellRegressor(RidgeLags()).fit(np.ones((1, 3)), np.arange(1.0))
