"""`Classify`: slices add up, padding has no part, metrics equal their oracles, bad input is named."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from timecell.data.containers import Batch, Schema, Sequences, Series
from timecell.errors import InputError
from timecell.system import Task
from timecell.tasks import Classify, ClassScores
from timecell.tasks.metrics import classification

READOUTS = ("last", "mean", "max", "softmax_sum", "every")
K = 3


def ragged(seed: int, T: int = 7, B: int = 5) -> tuple[torch.Tensor, Batch]:
    """Outputs [B, T, K] and a batch whose longest sample has T steps."""
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, T + 1, (B,), generator=g)
    lengths[0] = T
    target = torch.randint(0, K, (B,), generator=g)
    y = torch.randn(B, T, K, generator=g, dtype=torch.float64)
    return y, Batch(torch.zeros(B, T, 2), target, lengths)


def labelled(n: int = 60, seed: int = 0) -> Sequences:
    rng = np.random.default_rng(seed)
    return Sequences.of([rng.normal(size=(rng.integers(3, 9), 2)) for _ in range(n)], target=np.arange(n) % K)


def test_it_is_a_task():
    task: Task = Classify()
    assert task.name == "classify"
    assert task.outputs(labelled()) == K
    assert [b.card.slug for b in task.baselines()] == ["majority", "summary-logistic", "random-convolutions"]


@pytest.mark.parametrize("readout", ["last", "every"])
@given(seed=st.integers(0, 1000), cuts=st.sets(st.integers(1, 6)), smoothing=st.sampled_from([0.0, 0.1]))
def test_slices_add_up_to_the_whole(readout, seed, cuts, smoothing):
    y, batch = ragged(seed)
    task = Classify(readout, label_smoothing=smoothing)
    assert task.needs_whole is None
    borders = [0, *sorted(cuts), 7]
    parts = sum(task.loss(y[:, a:b], batch, slice(a, b)) for a, b in pairwise(borders))
    torch.testing.assert_close(parts, task.loss(y, batch, slice(0, 7)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("readout", READOUTS)
def test_loss_and_answer_are_what_one_sample_at_a_time_gives(readout):
    y, batch = ragged(3)
    losses, answers = [], []
    for i, n in enumerate(batch.lengths.tolist()):
        own, label = y[i, :n], batch.target[i]
        if readout == "every":
            losses.append(torch.stack([F.cross_entropy(step, label) for step in own]).mean())
            answers.append(own.softmax(dim=1).mean(dim=0))
            continue
        logits = {
            "last": own[-1],
            "mean": own.mean(dim=0),
            "max": own.max(dim=0).values,
            "softmax_sum": own.softmax(dim=1).sum(dim=0),
        }[readout]
        losses.append(F.cross_entropy(logits, label))
        answers.append(logits.softmax(dim=0))
    task = Classify(readout)
    torch.testing.assert_close(task.loss(y, batch, slice(None)), torch.stack(losses).mean())
    torch.testing.assert_close(task.scores_from_outputs(y, batch), torch.stack(answers))


@pytest.mark.parametrize("readout", READOUTS)
def test_padding_has_no_part_and_no_gradient(readout):
    y, batch = ragged(4)
    task = Classify(readout)
    padding = torch.arange(7) >= batch.lengths[:, None]
    other = y.masked_fill(padding[:, :, None], 9.0).requires_grad_()
    assert task.loss(other, batch, slice(None)) == task.loss(y, batch, slice(None))
    assert torch.equal(task.scores_from_outputs(other, batch), task.scores_from_outputs(y, batch))
    task.loss(other, batch, slice(None)).backward()
    assert (other.grad[padding] == 0).all()
    assert (other.grad[~padding] != 0).any()


@pytest.mark.parametrize("readout", ["mean", "max", "softmax_sum"])
def test_a_readout_of_all_steps_refuses_a_slice(readout):
    y, batch = ragged(5)
    with pytest.raises(InputError, match=rf"(?s)steps: found 0 to 3 of 7.*the {readout} readout is one loss of all"):
        Classify(readout).loss(y[:, :3], batch, slice(0, 3))


def test_metrics_equal_their_definitions():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4) / 2, size=500)
    truth = np.where(rng.random(500) < 0.6, p.argmax(axis=1), rng.integers(0, 4, 500))
    m = classification(ClassScores(p, ("a", "b", "c", "d")), truth, bins=10)
    guess = p.argmax(axis=1)
    assert m["accuracy"] == pytest.approx((guess == truth).mean())
    assert m["balanced_accuracy"] == pytest.approx(sklearn.metrics.balanced_accuracy_score(truth, guess))
    assert m["macro_f1"] == pytest.approx(sklearn.metrics.f1_score(truth, guess, average="macro"))
    assert m["log_loss"] == pytest.approx(-np.log(p[np.arange(500), truth].clip(1e-15)).mean(), rel=1e-6)
    bins = np.minimum((p.max(axis=1) * 10).astype(int), 9)
    gaps = [abs((guess == truth)[bins == b].sum() - p.max(axis=1)[bins == b].sum()) / 500 for b in range(10)]
    assert m["calibration_error"] == pytest.approx(sum(gaps), abs=1e-6)


def test_a_class_that_the_test_part_lacks_is_no_error():
    p = ClassScores(np.array([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1]]), ("a", "b", "c"))
    m = classification(p, np.array([0, 0]), bins=5)
    assert (m["accuracy"], m["balanced_accuracy"]) == (0.5, 0.5)
    assert np.isfinite(m["log_loss"])


def test_scores_do_not_depend_on_order():
    data, rng = labelled(), np.random.default_rng(1)
    p = rng.dirichlet(np.ones(K), size=len(data))
    task, order = Classify(), rng.permutation(len(data))
    one = task.score(ClassScores(p, data.schema.classes), data)
    other = task.score(ClassScores(p[order], data.schema.classes), data.select(order))
    assert one.metrics == pytest.approx(other.metrics)
    assert one.primary == "accuracy" and one.higher_is_better
    assert one.items.mean() == pytest.approx(one.value)
    assert (one.items[order] == other.items).all()


def test_random_scores_are_at_chance():
    data = labelled(3000)
    p = np.random.default_rng(2).dirichlet(np.ones(K), size=len(data))
    scores = Classify().score(ClassScores(p, data.schema.classes), data)
    assert scores.metrics["balanced_accuracy"] == pytest.approx(1 / K, abs=0.04)


def test_split_covers_all_samples_once():
    data = labelled(100)
    parts = Classify().split(data, seed=1)
    values = np.concatenate([p.values for p in (parts.train, parts.valid, parts.test)])
    assert len(parts.train) > len(parts.test) > 0 and len(parts.valid) > 0
    assert np.array_equal(np.sort(values, axis=0), np.sort(data.values, axis=0))
    assert parts.train.fingerprint == Classify().split(data, seed=1).train.fingerprint


def test_prediction_carries_the_class_names():
    data = labelled()
    answers = torch.full((len(data), K), 1 / K)
    prediction = Classify().prediction(answers, data)
    assert prediction.classes == data.schema.classes
    assert set(prediction.arrays()) == {"probabilities", "classes"}


BAD = {
    "no labels": (lambda d: replace(d, target=None), r"data\.target: found no labels.*name the label column"),
    "one class": (
        lambda d: replace(d, target=d.target * 0, schema=replace(d.schema, classes=("a",))),
        r"data\.schema\.classes: found one class, 'a', expected at least two",
    ),
    "unknown label": (
        lambda d: replace(d, target=np.where(np.arange(len(d)) == 4, -1, d.target)),
        r"data\.target\[4\]: found -1, expected a class index from 0 to 2",
    ),
    "a NaN": (
        lambda d: replace(d, values=np.where(np.arange(len(d.values))[:, None] == d.offsets[2] + 1, np.nan, d.values)),
        r"data\[2\], step 1: found \[nan, nan\], expected finite",
    ),
    "an empty sample": (
        lambda d: replace(d, offsets=np.concatenate([[0, 0], d.offsets[2:]])),
        r"data\[0\]: found no steps",
    ),
    "a series": (lambda d: Series(d.values, Schema("series", ("x", "y"))), r"found Series.*expected Sequences"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_data_are_named(what):
    spoil, message = BAD[what]
    with pytest.raises(InputError, match="(?s)" + message):
        Classify().split(spoil(labelled()))


def test_bad_arguments_are_named():
    with pytest.raises(InputError, match=r"readout: found 'men', expected one of.*\n.*did you mean 'mean'"):
        Classify("men")
    with pytest.raises(InputError, match="label_smoothing"):
        Classify(label_smoothing=1.0)
    with pytest.raises(InputError, match="bins"):
        Classify(bins=0)
    y, batch = ragged(0)
    with pytest.raises(InputError, match=r"y: found shape \(5, 7, 3\), expected \[5, 2, K\]"):
        Classify("last").loss(y, batch, slice(0, 2))
    with pytest.raises(InputError, match=r"batch\.target: found None"):
        Classify("last").loss(y, replace(batch, target=None), slice(0, 7))


def test_a_prediction_that_is_none_is_refused():
    with pytest.raises(InputError, match=r"probabilities\[1\]: found \[nan, 0.5\].*\n.*diverged"):
        ClassScores(np.array([[0.5, 0.5], [np.nan, 0.5]]), ("a", "b"))
    with pytest.raises(InputError, match=r"found shape \(1, 2\), expected \[N, 3\]"):
        ClassScores(np.array([[0.5, 0.5]]), ("a", "b", "c"))
    data = labelled()
    with pytest.raises(InputError, match="prediction: found 1 rows"):
        Classify().score(ClassScores(np.ones((1, K)) / K, data.schema.classes), data)
