"""Many short series: windows within each, units of their own, and the split that keeps their last steps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timecell.data.containers import Sequences
from timecell.data.short_series import beyond, by_ends
from timecell.errors import InputError
from timecell.tasks import Forecasted, ShortTerm
from timecell.tasks.forecasters import Naive
from timecell.tasks.truth import future, past


def walks(lengths, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return Sequences.of([scale * (5 + rng.normal(size=(n, 2)).cumsum(0)) for n in lengths])


@given(st.lists(st.integers(17, 40), min_size=1, max_size=6), st.integers(1, 4), st.integers(1, 5))
def test_no_window_crosses_from_one_series_into_the_next(lengths, horizon, history):
    data = walks(lengths)
    parts = by_ends(data, history, horizon)
    for part, left in ((parts.train, 2 * horizon), (parts.valid, horizon), (parts.test, 0)):
        ends = np.cumsum([n - left for n in lengths])
        first, last = part.starts, part.starts + history + horizon - 1
        assert (np.searchsorted(ends, first, "right") == part.owner).all()
        assert (np.searchsorted(ends, last, "right") == part.owner).all()
    assert parts.test.owner.tolist() == parts.valid.owner.tolist() == list(range(len(lengths)))
    for i, n in enumerate(lengths):
        assert (parts.train.owner == i).sum() == n - 2 * horizon - history - horizon + 1
        whole = np.concatenate([parts.test.restored(x) for x in (past(parts.test), future(parts.test))], 1)[i]
        np.testing.assert_allclose(whole, data[i][-history - horizon :], rtol=1e-9, atol=1e-9)


def test_each_series_is_measured_in_its_own_change():
    small, large = (by_ends(walks((30, 30), scale), 6, 3) for scale in (1.0, 1000.0))
    np.testing.assert_allclose(small.test.series.values, large.test.series.values)
    training = small.train.series.values[:24]
    assert np.abs(np.diff(training, axis=0)).mean(0) == pytest.approx([1.0, 1.0])


def test_the_unit_knows_nothing_of_what_validates_and_tests():
    data = walks((30, 25))
    other = data.values.copy()
    for end in data.offsets[1:]:
        other[end - 6 : end] *= 50
    changed = by_ends(Sequences(other, data.offsets, None, data.schema), 6, 3)
    np.testing.assert_array_equal(changed.train.series.values, by_ends(data, 6, 3).train.series.values)


def test_a_constant_series_has_the_usual_unit_and_all_constant_ones_are_refused():
    still = np.full((20, 1), 7.0)
    parts = by_ends(Sequences.of([still, 2.0 * np.arange(20.0)[:, None], 4.0 * np.arange(20.0)[:, None]]), 4, 2)
    assert parts.train.unit[:, 0].tolist() == [3.0, 2.0, 4.0]
    with pytest.raises(InputError, match="never change"):
        by_ends(Sequences.of([still, still]), 4, 2)


def test_the_shortest_series_is_named():
    with pytest.raises(InputError, match=r"sequence 1: found 12 steps, expected at least 13.*\n.*shorten"):
        by_ends(walks((30, 12)), 4, 3)


def test_beyond_the_end_nothing_is_known():
    data = walks((9, 14))
    windows = beyond(data, 5, 4, targets=(1,))
    assert len(windows) == 2 and np.isnan(future(windows)).all() and future(windows).shape == (2, 4, 1)
    np.testing.assert_allclose(windows.restored(past(windows)[:, -4:, 1:]), [data[i][-4:, 1:] for i in range(2)])


def test_errors_are_those_of_each_series_and_percentages_those_of_the_data():
    data = Sequences.of([10.0**i * np.arange(1.0, 21.0)[:, None] for i in range(3)])
    task = ShortTerm(history=4, horizon=2)
    parts = task.split(data)
    naive = Naive().fit(parts.train, parts.valid, task, None).predict(parts.test)
    scores = task.score(naive, parts.test)
    assert scores.value == pytest.approx(1.5) and scores.items.tolist() == pytest.approx([1.5] * 3)
    assert scores.metrics["smape"] == pytest.approx(100 * (1 / 18.5 + 2 / 19) / 2)
    assert task.score(Forecasted(future(parts.test)), parts.test).metrics["smape"] == 0
