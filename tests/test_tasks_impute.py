"""`Impute`: masks are fixed where they must be and fresh where they may, only hidden values count, no part sees another."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from timecell.checkpoint import seeded
from timecell.combine import Sequential
from timecell.config import from_dict, to_dict
from timecell.data.containers import Batch, Schema, Sequences, Series
from timecell.data.masked import MaskedWindows, by_masking, draw
from timecell.data.scaling import Standardise
from timecell.errors import InputError
from timecell.memory import LSTM
from timecell.recipe import Recipe, Stage
from timecell.system import Run, Task
from timecell.tasks.fitted import FittedArrays
from timecell.tasks.impute import Impute
from timecell.tasks.predictions import Imputed
from timecell.train import fit, predict

RUN = Run(updates=3, device="cpu")


def series(T=400, period=12, seed=0, gaps=True):
    rng = np.random.default_rng(seed)
    t = np.arange(T)[:, None]
    values = 10 * np.sin(2 * np.pi * t / 12 + np.arange(2)) + rng.normal(size=(T, 2)) + [0, 100]
    if gaps:
        values[rng.random(values.shape) < 0.05] = np.nan
    return Series(values, Schema("series", ("a", "b"), period=period))


def changed_from(data, step):
    """The same series with other values from a step on."""
    values = data.values.copy()
    values[step:] = 1e3 * np.random.default_rng(1).normal(size=values[step:].shape)
    return replace(data, values=values)


# --- masks --------------------------------------------------------------------------------------------------------------


@given(share=st.floats(0.05, 0.9), gap=st.integers(1, 10))
def test_the_share_is_hidden_on_average_whatever_the_gaps(share, gap):
    uniform = torch.rand(4000, 5, generator=torch.Generator().manual_seed(0))
    assert draw(uniform, share, gap)[gap:].mean() == pytest.approx(share, abs=0.03)


def test_a_gap_has_its_length():
    uniform = torch.ones(10, 1)
    uniform[4] = 0.0
    assert np.flatnonzero(draw(uniform, 0.3, 3)[:, 0]).tolist() == [4, 5, 6]


def test_masks_are_fresh_in_training_and_fixed_beyond_it():
    parts = Impute().split(series(), seed=3)
    index = np.arange(4)
    with seeded(0):
        first, second = parts.train.batch(index), parts.train.batch(index)
    with seeded(0):
        again = parts.train.batch(index)
    assert not torch.equal(first.x, second.x) and torch.equal(first.x, again.x)
    for part in (parts.valid, parts.test):
        assert torch.equal(part.batch(np.array([0])).x, part.batch(np.array([0])).x)
    same, other = Impute().split(series(), seed=3), Impute().split(series(), seed=4)
    assert parts.test.fingerprint == same.test.fingerprint != other.test.fingerprint


def test_a_batch_holds_each_value_on_one_side():
    windows = Impute().split(series()).valid
    batch = windows.batch(np.arange(len(windows)))
    values, seen = batch.x.chunk(2, dim=2)
    truth = torch.tensor(
        windows.series.values[windows.starts[:, None] + np.arange(windows.length)], dtype=torch.float32
    )
    hidden = ~batch.target.isnan()
    torch.testing.assert_close(values[seen > 0], truth[seen > 0])
    torch.testing.assert_close(batch.target[hidden], truth[hidden])
    assert not (hidden & (seen > 0)).any() and torch.equal(hidden | (seen > 0), ~truth.isnan())
    assert (values[seen == 0] == 0).all() and windows.schema.channels == ("a", "b", "a seen", "b seen")


def test_scaling_leaves_the_flags_alone():
    windows = Impute().split(series()).valid
    near = Standardise.fit(windows).data(windows).batch(np.array([0]))
    assert set(near.x[..., 2:].flatten().tolist()) == {0.0, 1.0} and near.x[..., :2].abs().max() < 10


# --- the task -----------------------------------------------------------------------------------------------------------


def test_it_is_a_task():
    task: Task = Impute()
    parts = task.split(series())
    assert (task.name, task.kind, task.needs_whole, task.outputs(parts.train)) == ("impute", "series", None, 2)
    assert [b.card.slug for b in task.baselines()] == ["mean", "last-value", "linear-interpolation", "ridge-neighbours"]
    assert from_dict(to_dict(task)) == task
    assert parts.train.length == 24 and Impute(history=30).split(series()).test.length == 30


@given(seed=st.integers(0, 1000), cuts=st.sets(st.integers(1, 5)), error=st.sampled_from(["absolute", "squared"]))
def test_slices_add_up_to_the_whole(seed, cuts, error):
    g = torch.Generator().manual_seed(seed)
    target = torch.randn(3, 6, 2, generator=g)
    target[torch.rand(3, 6, 2, generator=g) < 0.6] = torch.nan
    y, batch = torch.randn(3, 6, 2, generator=g), Batch(torch.zeros(3, 6, 4), target)
    task = Impute(share=0.4, error=error)
    parts = sum(task.loss(y[:, a:b], batch, slice(a, b)) for a, b in pairwise([0, *sorted(cuts), 6]))
    torch.testing.assert_close(parts, task.loss(y, batch, slice(0, 6)))


def test_only_hidden_values_have_a_gradient():
    windows = Impute().split(series()).test
    batch = windows.batch(np.arange(3))
    y = torch.zeros_like(batch.target, requires_grad=True)
    Impute().loss(y, batch, slice(0, 24)).backward()
    assert torch.equal(y.grad != 0, ~batch.target.isnan())


def test_what_is_seen_stays_and_scores_are_those_of_hidden_values_only():
    data = series(gaps=False)
    windows = Impute(share=0.3).split(data).test
    seen, truth = windows.sides()
    values = np.where(np.isnan(seen), 0.0, seen)
    scores = Impute().score(Imputed(values), windows)
    hidden = ~np.isnan(truth)
    scale = np.broadcast_to(data.values.std(axis=0), truth.shape)
    assert scores.metrics["nmae"] == pytest.approx((np.abs(truth) / scale)[hidden].mean())
    assert scores.metrics["rmse"] == pytest.approx(np.sqrt((truth[hidden] ** 2).mean()))
    assert scores.items.mean() == pytest.approx(scores.value) and not scores.higher_is_better
    worse = np.where(hidden, 0.0, 1e6)
    assert Impute().score(Imputed(worse), windows).value == pytest.approx(scores.value)


def test_scores_do_not_depend_on_units():
    data = series()
    task = Impute(history=24)
    windows = task.split(data).test
    other = task.split(replace(data, values=data.values * [3.0, 0.01] + [5, -7])).test
    for baseline in task.baselines()[:3]:
        one, two = (task.score(baseline.fit(w, w, task, RUN).predict(w), w).value for w in (windows, other))
        assert one == pytest.approx(two)


def test_a_perfect_answer_has_no_error_and_a_rhythm_is_filled_by_ridge_best():
    task = Impute(gap=6, history=36)
    parts = task.split(series(T=1500))
    values = {
        b.card.slug: task.score(b.fit(parts.train, parts.valid, task, RUN).predict(parts.test), parts.test).value
        for b in task.baselines()
    }
    assert values["ridge-neighbours"] < 0.6 * values["linear-interpolation"] < 0.6 * values["last-value"]
    truth = np.nan_to_num(np.where(np.isnan(parts.test.sides()[0]), parts.test.sides()[1], parts.test.sides()[0]))
    assert task.score(Imputed(truth), parts.test).value == 0


def test_baselines_are_kept(tmp_path):
    task = Impute()
    parts = task.split(series())
    for baseline in task.baselines():
        fitted = baseline.fit(parts.train, parts.valid, task, RUN)
        fitted.save(tmp_path / baseline.card.slug)
        loaded = FittedArrays.load(tmp_path / baseline.card.slug)
        np.testing.assert_array_equal(loaded.predict(parts.test).values, fitted.predict(parts.test).values)


def test_any_network_learns_it():
    data = series(T=900)
    task = Impute(share=0.3, history=24)
    parts = task.split(data)
    scale = Standardise.fit(parts.train)
    near, valid = scale.data(parts.train), scale.data(parts.valid)
    with seeded(0):
        net = Sequential(LSTM(4, 16), torch.nn.Linear(16, 2))
    before = task.score(predict(net, valid, task), valid).value
    fit(net, near, task, valid=valid, recipe=Recipe((Stage(lr=2e-2),)), run=replace(RUN, updates=80))
    assert task.score(predict(net, valid, task), valid).value < 0.7 * before


# --- time does not leak -------------------------------------------------------------------------------------------------


def test_the_future_changes_neither_training_nor_earlier_windows():
    data = series()
    task = Impute(gap=3)
    parts, other = task.split(data), task.split(changed_from(data, 350))
    assert parts.train.fingerprint == other.train.fingerprint and parts.valid.fingerprint == other.valid.fingerprint
    before = parts.test.starts + parts.test.length <= 350
    assert before.any() and not before.all()
    for baseline in task.baselines():
        fitted = baseline.fit(parts.train, parts.valid, task, RUN)
        one, two = (fitted.predict(p).values for p in (parts.test, other.test))
        np.testing.assert_array_equal(one[before], two[before])


def test_parts_do_not_overlap():
    parts = by_masking(series(), 24, 0.25)
    ends = [p.covered for p in (parts.train, parts.valid, parts.test)]
    assert ends[0].stop <= ends[1].start < ends[1].stop <= ends[2].start
    assert len(parts.train.series) == 260 and len(parts.valid.series) == 320


# --- errors -------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(InputError, match=r"share: found 1\.0, expected above 0 and below 1"):
        Impute(share=1.0)
    with pytest.raises(InputError, match="gap: found 0"):
        Impute(gap=0)
    with pytest.raises(InputError, match="did you mean 'absolute'"):
        Impute(error="absolut")
    with pytest.raises(InputError, match=r"series: found 60 steps in the valid part, .* window of 100 steps"):
        Impute(history=100).split(series())
    with pytest.raises(InputError, match="data: found Sequences, expected a Series"):
        Impute().split(Sequences.of(np.zeros((3, 4, 1))))
    windows = Impute().split(series()).test
    with pytest.raises(InputError, match=r"prediction: found shape \(1, 2, 3\)"):
        Impute().score(Imputed(np.zeros((1, 2, 3))), windows)
    with pytest.raises(InputError, match=r"values\[0, 0, 1\]: found nan"):
        Imputed(np.array([[[0.0, np.nan]]]))
    flat = replace(series(), values=np.ones((400, 2)))
    with pytest.raises(InputError, match="no hidden value of a channel that varies"):
        flat_windows = Impute().split(flat).test
        Impute().score(Imputed(np.zeros_like(flat_windows.sides()[0])), flat_windows)
    fitted = Impute().baselines()[0].fit(windows, windows, Impute(), RUN)
    one = MaskedWindows(Series(np.zeros((50, 1)), Schema("series", ("x",))), 10, np.array([0]), 0.5)
    with pytest.raises(InputError, match="found 1 channels, expected 2, as in training"):
        fitted.predict(one)
