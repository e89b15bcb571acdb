"""`Detect`: labels score and do nothing else, chance stands beside every number, the future changes no score."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st

from timecell.checkpoint import seeded
from timecell.combine import Sequential
from timecell.config import from_dict, to_dict
from timecell.data.containers import Batch, Schema, Series
from timecell.data.labelled_series import LabelledSeries
from timecell.data.scaling import Standardise
from timecell.errors import DataError, InputError
from timecell.memory import LSTM
from timecell.system import Run, Task
from timecell.tasks.alarms import detection, events
from timecell.tasks.detect import Detect
from timecell.tasks.fitted import FittedArrays
from timecell.tasks.predictions import AnomalyScores
from timecell.train import fit, predict

RUN = Run(updates=3, device="cpu")


def record(T=1000, seed=0, at=((700, 705), (850, 870))):
    """A rhythm of 20 steps that is flat, and noisy, where it is anomalous."""
    rng = np.random.default_rng(seed)
    t = np.arange(T)
    values = np.stack([np.sin(2 * np.pi * t / 20), np.cos(2 * np.pi * t / 20)], axis=1) + 0.1 * rng.normal(size=(T, 2))
    marks = np.zeros(T, bool)
    for start, stop in at:
        marks[start:stop] = True
        values[start:stop] = 2 + rng.normal(size=(stop - start, 2))
    return LabelledSeries(values, Schema("series", ("a", "b"), period=20, label="anomaly"), None, marks)


# --- labels -------------------------------------------------------------------------------------------------------------


def test_a_channel_becomes_the_labels():
    data = record()
    both = Series(np.column_stack([data.values, data.anomalous]), Schema("series", ("a", "b", "y")))
    found = LabelledSeries.of(both, "y")
    np.testing.assert_array_equal(found.anomalous, data.anomalous)
    assert found.schema.channels == ("a", "b") and found.schema.label == "y"
    assert found.cut(10, 30).anomalous.shape == (20,) and type(found.unlabelled()) is Series
    assert found.fingerprint != LabelledSeries.of(replace(both, values=both.values * [1, 1, 0]), "y").fingerprint


def test_wrong_labels_are_refused():
    values = np.zeros((4, 2))
    with pytest.raises(InputError, match="did you mean 'label'"):
        LabelledSeries.of(Series(values, Schema("series", ("x", "label"))), "lable")
    values[2, 1] = 3
    with pytest.raises(DataError, match="label, step 2: found 3, expected 1 for an anomalous step"):
        LabelledSeries.of(Series(values, Schema("series", ("x", "label"))), "label")
    values[2, 1] = np.nan
    with pytest.raises(DataError, match="label, step 2: found no label"):
        LabelledSeries.of(Series(values, Schema("series", ("x", "label"))), "label")
    with pytest.raises(InputError, match="the only channel"):
        LabelledSeries.of(Series(values[:, :1], Schema("series", ("x",))), "x")
    with pytest.raises(InputError, match=r"anomalous: found shape \(3,\), expected \[4\]"):
        LabelledSeries(values, Schema("series", ("x", "y")), None, np.zeros(3, bool))


def test_only_the_test_part_has_labels_and_no_answer_depends_on_them():
    data, task = record(), Detect(history=40)
    parts = task.split(data)
    assert type(parts.train.series) is Series and type(parts.valid.series) is Series
    moved = task.split(replace(data, anomalous=np.roll(data.anomalous, 50)))
    assert parts.train.fingerprint == moved.train.fingerprint and parts.valid.fingerprint == moved.valid.fingerprint
    for baseline in task.baselines():
        fitted = baseline.fit(parts.train, parts.valid, task, RUN)
        one, two = fitted.predict(parts.test), fitted.predict(moved.test)
        np.testing.assert_array_equal(one.scores, two.scores)
        assert one.threshold == two.threshold


# --- the task -----------------------------------------------------------------------------------------------------------


def test_it_is_a_task():
    task: Task = Detect()
    parts = task.split(record())
    assert (task.name, task.kind, task.needs_whole, task.outputs(parts.train)) == ("detect", "series", None, 2)
    assert [b.card.slug for b in task.baselines()] == [
        "random-scores", "seasonal-distance", "ridge-residual", "nearest-past",
    ]  # fmt: skip
    assert from_dict(to_dict(task)) == task
    assert (parts.train.covered, parts.valid.covered, parts.test.covered) == (
        slice(0, 400), slice(400, 500), slice(500, 1000),
    )  # fmt: skip


@given(seed=st.integers(0, 1000), cuts=st.sets(st.integers(1, 5)), step=st.sampled_from(["next", "same"]))
def test_slices_add_up_to_the_whole(seed, cuts, step):
    g = torch.Generator().manual_seed(seed)
    target = torch.randn(3, 6, 2, generator=g)
    target[:, :2], target[1, 4, 0] = torch.nan, torch.nan
    y, batch = torch.randn(3, 6, 2, generator=g), Batch(torch.randn(3, 6, 2, generator=g), target)
    task = Detect(step=step)
    parts = sum(task.loss(y[:, a:b], batch, slice(a, b)) for a, b in pairwise([0, *sorted(cuts), 6]))
    torch.testing.assert_close(parts, task.loss(y, batch, slice(0, 6)))


@pytest.mark.parametrize("step", ["next", "same"])
def test_a_score_is_the_error_of_the_answer_for_that_step(step):
    part = Detect(history=40).split(record()).test
    batch = part.batch(np.arange(len(part)))
    y = torch.randn(batch.x.shape, generator=torch.Generator().manual_seed(0))
    task = Detect(step=step)
    scores = task.prediction(task.scores_from_outputs(y, batch), part).scores
    answer = y[:, 40:] if step == "same" else (batch.x + y)[:, 39:-1]
    expected = (answer - batch.target[:, 40:]).square().mean(2).flatten()[: len(scores)]
    np.testing.assert_allclose(scores, expected.numpy(), rtol=1e-5)
    counted = (answer - batch.target[:, 40:]).square()
    expected_loss = counted[~counted.isnan()].mean()
    torch.testing.assert_close(task.loss(y, batch, slice(None)), expected_loss)


def test_every_step_of_the_test_part_has_one_score():
    data = record(T=1013)
    task = Detect(history=40)
    test = task.split(data).test
    for baseline in task.baselines():
        scores = baseline.fit(test, test, task, RUN).predict(test).scores
        assert scores.shape == (1013 - round(1013 * 0.5),)


def test_without_labels_the_error_ranks():
    task = Detect(history=40)
    parts = task.split(record())
    fitted = task.baselines()[1].fit(parts.train, parts.valid, task, RUN)
    scores = task.score(fitted.predict(parts.valid), parts.valid)
    assert (scores.primary, scores.higher_is_better) == ("error", False) and scores.value == pytest.approx(1, abs=0.3)
    assert task.score(fitted.predict(parts.test), parts.test).primary == "pr_auc"


def test_baselines_find_what_is_there_and_random_scores_do_not():
    task = Detect(history=40)
    parts = task.split(record())
    found = {
        b.card.slug: task.score(b.fit(parts.train, parts.valid, task, RUN).predict(parts.test), parts.test).metrics
        for b in task.baselines()
    }
    chance = found["random-scores"].pop("pr_auc")
    assert chance < 0.15 and found["random-scores"]["random_pr_auc"] == pytest.approx(25 / 500)
    assert found["seasonal-distance"]["pr_auc"] > 0.9 and found["ridge-residual"]["pr_auc"] > 0.7
    assert found["nearest-past"]["pr_auc"] > 0.4


def test_baselines_are_kept(tmp_path):
    task = Detect(history=40)
    parts = task.split(record())
    for baseline in task.baselines():
        fitted = baseline.fit(parts.train, parts.valid, task, RUN)
        fitted.save(tmp_path / baseline.card.slug)
        one, two = FittedArrays.load(tmp_path / baseline.card.slug).predict(parts.test), fitted.predict(parts.test)
        np.testing.assert_array_equal(one.scores, two.scores)
        assert one.threshold == two.threshold


def test_any_causal_network_detects():
    task = Detect(history=40)
    parts = task.split(record())
    scale = Standardise.fit(parts.train)
    near, valid, test = (scale.data(p) for p in (parts.train, parts.valid, parts.test))
    with seeded(0):
        net = Sequential(LSTM(2, 8), torch.nn.Linear(8, 2))
    fit(net, near, task, valid=valid, run=replace(RUN, updates=60))
    found = predict(net, test, task)
    found = task.calibrated(found, task.calibration(predict(net, valid, task), valid))
    scores = task.score(found, test)
    assert scores.value > 0.6 and scores.metrics["f1"] > 3 * scores.metrics["random_f1"]


def test_gaps_are_not_scored():
    data = record()
    data.values[600:610] = np.nan
    data.values[620, 0] = np.nan
    task = Detect(history=40)
    parts = task.split(data)
    for baseline in task.baselines():
        scores = baseline.fit(parts.train, parts.valid, task, RUN).predict(parts.test).scores
        assert np.flatnonzero(np.isnan(scores)).tolist() == list(range(100, 110))


# --- time does not leak -------------------------------------------------------------------------------------------------


def test_the_future_changes_no_score_of_the_past():
    data, task = record(), Detect(history=40)
    values = data.values.copy()
    values[820:] += 50 * np.random.default_rng(2).normal(size=(180, 2))
    parts, other = task.split(data), task.split(replace(data, values=values))
    assert parts.train.fingerprint == other.train.fingerprint and parts.valid.fingerprint == other.valid.fingerprint
    for baseline in task.baselines():
        fitted = baseline.fit(parts.train, parts.valid, task, RUN)
        one, two = fitted.predict(parts.test).scores, fitted.predict(other.test).scores
        np.testing.assert_array_equal(one[:320], two[:320])
    with seeded(0):
        net = Sequential(LSTM(2, 4), torch.nn.Linear(4, 2))
    one, two = (predict(net, p.test, task).scores for p in (parts, other))
    np.testing.assert_array_equal(one[:320], two[:320])
    assert (one[320:] != two[320:]).any()


# --- metrics ------------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000))
def test_raw_numbers_equal_their_oracles_and_adjustment_only_adds(seed):
    rng = np.random.default_rng(seed)
    truth = np.repeat(rng.random(20) < 0.3, 5)
    truth[:5], truth[-5:] = False, True
    p = AnomalyScores(rng.normal(size=100), threshold=1.0)
    found = detection(p, truth)
    assert found["pr_auc"] == pytest.approx(sklearn.metrics.average_precision_score(truth, p.scores))
    assert found["f1"] == pytest.approx(sklearn.metrics.f1_score(truth, p.alarms, zero_division=0))
    assert found["adjusted_f1"] >= found["f1"] and found["random_adjusted_f1"] >= found["random_f1"]
    assert found["random_pr_auc"] == truth.mean()


def test_point_adjustment_flatters_chance():
    """One long anomaly, scores drawn at random: the adjusted F1 is high, the raw one is not, and chance shows both."""
    truth = np.arange(1000) >= 900
    p = AnomalyScores(np.random.default_rng(0).random(1000), threshold=0.95)
    found = detection(p, truth)
    assert found["adjusted_f1"] > 0.75 > 0.2 > found["f1"]
    assert found["random_adjusted_f1"] == pytest.approx(found["adjusted_f1"], abs=0.1)
    assert found["random_f1"] == pytest.approx(found["f1"], abs=0.1)


def test_anomalies_are_numbered():
    assert events(np.array([1, 1, 0, 1, 0], bool)).tolist() == [1, 1, 0, 2, 0]


def test_without_a_threshold_there_are_no_alarms():
    assert set(detection(AnomalyScores(np.arange(4.0)), np.array([0, 0, 0, 1], bool))) == {"pr_auc", "random_pr_auc"}
    with pytest.raises(InputError, match="threshold: found None"):
        _ = AnomalyScores(np.arange(4.0)).alarms


# --- errors -------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(InputError, match=r"normal: found 1\.5, expected above 0 and below 1"):
        Detect(normal=1.5)
    with pytest.raises(InputError, match="quantile: found 0"):
        Detect(quantile=0)
    with pytest.raises(InputError, match="did you mean 'next'"):
        Detect(step="nxt")
    with pytest.raises(InputError, match=r"steps from 500, the test part: found 0 of 500 anomalous.*\n.*normal="):
        Detect().split(record(at=((100, 120),)))
    with pytest.raises(InputError, match="prediction: found 3 steps, expected 500"):
        Detect().score(AnomalyScores(np.zeros(3)), Detect().split(record()).test)
    with pytest.raises(InputError, match=r"scores: found shape \(1, 3\)"):
        AnomalyScores(np.zeros((1, 3)))
    fitted = Detect().baselines()[1].fit(*[Detect().split(record()).train] * 2, Detect(), RUN)
    one = Detect().split(Series(record().values[:, :1], Schema("series", ("a",)))).test
    with pytest.raises(InputError, match="found 1 channels, expected 2, as in training"):
        fitted.predict(one)
