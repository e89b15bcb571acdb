"""Streams of tasks and the matrix of what is kept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from timecell.data.containers import Schema, Sequences, Series
from timecell.data.splits import Splits, by_sample
from timecell.errors import InputError
from timecell.tasks.stream import ScoreMatrix, TaskStream, learn_in_turn

SQUARE = st.integers(1, 5).flatmap(lambda n: arrays(float, (n, n), elements=st.floats(-10, 10)))


def splits(n=80, channels=6, classes=4):
    rng = np.random.default_rng(0)
    return by_sample(Sequences.of(rng.random((n, 3, channels)), np.arange(n) % classes))


def test_permuted_tasks_hold_the_same_numbers_in_another_order():
    whole = splits()
    stream = TaskStream.permuted(whole, tasks=4, seed=1)
    first, *others = stream.parts
    for name in ("train", "valid", "test"):
        truth = getattr(whole, name)
        assert np.array_equal(getattr(first, name).values, truth.values)
        for part in (getattr(one, name) for one in others):
            assert np.array_equal(part.target, truth.target) and not np.array_equal(part.values, truth.values)
            assert np.array_equal(np.sort(part.values, axis=1), np.sort(truth.values, axis=1))
    order = [np.flatnonzero(others[0].train.values[0] == v)[0] for v in first.train.values[0]]
    assert np.array_equal(others[0].test.values[:, order], first.test.values), "one order in all parts of a task"
    again = TaskStream.permuted(whole, tasks=4, seed=1)
    assert all(a.train.fingerprint == b.train.fingerprint for a, b in zip(stream.parts, again.parts))


def test_tasks_by_class_share_nothing_and_lose_nothing():
    whole = splits()
    stream = TaskStream.by_class(whole, [(0, 2), (1, 3)])
    assert stream.names == ("0, 2", "1, 3")
    assert [set(part.train.target) for part in stream.parts] == [{0, 2}, {1, 3}]
    assert sum(len(part.test) for part in stream.parts) == len(whole.test)
    assert all(part.train.schema.classes == whole.train.schema.classes for part in stream.parts)


@settings(deadline=None, max_examples=30)
@given(SQUARE)
def test_the_matrix(values):
    scores = ScoreMatrix(values)
    n = len(values)
    assert scores.average == pytest.approx(values[-1].mean())
    assert scores.forgetting >= -scores.backward_transfer - 1e-12, "the best moment is no worse than the first"
    lower = ScoreMatrix(-values, higher_is_better=False)
    assert lower.backward_transfer == pytest.approx(scores.backward_transfer)
    assert lower.forgetting == pytest.approx(scores.forgetting)
    if n == 1:
        assert scores.backward_transfer == scores.forgetting == 0
    else:
        total = scores.plasticity * n + scores.backward_transfer * (n - 1)
        assert total == pytest.approx(scores.average * n), "what one has is what one learnt and kept"


def test_learning_in_turn_scores_every_task_after_each():
    stream, seen = TaskStream.permuted(splits(), tasks=3), []

    def learn(number, parts):
        assert parts is stream.parts[number]
        seen.append(number)

    def score(number, data):
        assert data is stream.parts[number].test
        return 10 * len(seen) + number

    assert learn_in_turn(stream, learn, score).values.tolist() == [[10, 11, 12], [20, 21, 22], [30, 31, 32]]
    assert seen == [0, 1, 2]


def test_refusals():
    whole = splits()
    with pytest.raises(InputError, match=r"TaskStream: found 1 names, 2 tasks"):
        TaskStream(("a",), (whole, whole))
    with pytest.raises(InputError, match="found 0 names, 0 tasks"):
        TaskStream((), ())
    with pytest.raises(InputError, match=r"ScoreMatrix\(values\): found shape \(2, 3\)"):
        ScoreMatrix(np.zeros((2, 3)))
    series = Series(np.zeros((9, 2)), Schema("series", ("x", "y")))
    with pytest.raises(InputError, match="found Series, expected Sequences"):
        TaskStream.permuted(Splits(series, series, series), 2)
