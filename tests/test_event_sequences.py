"""Event sequences: what they refuse, how they are batched, cut and split."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timecell.data.event_sequences import EventSequences, next_rows, split_events
from timecell.errors import InputError


def random(sequences=12, events=30, marks=3, seed=0):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, events, sequences)
    times = [np.cumsum(rng.exponential(size=n)) for n in counts]
    kinds = [rng.integers(0, marks, n) for n in counts]
    ends = [t[-1] + 1 if len(t) else 1.0 for t in times]
    return EventSequences.of(times, kinds, end=ends, classes=tuple("abc"))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 100))
def test_a_batch_holds_what_the_sequences_hold(seed):
    data = random(seed=seed)
    index = np.random.default_rng(seed).permutation(len(data))[:5]
    batch = data.batch(index)
    for row, i in enumerate(index):
        n = data.counts[i]
        own = slice(data.offsets[i], data.offsets[i + 1])
        x = batch.x[row].double().numpy()
        assert batch.lengths[row] == n + 2
        np.testing.assert_allclose(data.start[i] + x[1 : n + 1, 0].cumsum(), data.times[own], rtol=1e-5)
        np.testing.assert_array_equal(x[1 : n + 1, 1:].argmax(1) if n else [], data.marks[own])
        np.testing.assert_allclose(x[: n + 2, 0].sum(), data.end[i] - data.start[i], rtol=1e-5)
        assert not x[0].any() and not x[n + 1, 1:].any() and not x[n + 2 :].any()


def test_select_keeps_order_and_marks():
    data = random()
    part = data.select(np.array([3, 1]))
    assert part.counts.tolist() == data.counts[[3, 1]].tolist()
    assert part.schema.classes == data.schema.classes
    assert torch.equal(part.batch(np.array([1])).x, data.batch(np.array([1])).x)


def test_waits_are_the_rows_of_a_batch():
    data = random()
    batch = data.batch(np.arange(len(data)))
    rows = next_rows(batch.x, batch.lengths)
    known = rows.event | rows.tail
    np.testing.assert_allclose(rows.gap[known].numpy(), data.waits, rtol=1e-5)
    np.testing.assert_array_equal(rows.event[known].numpy(), data.happened)


def test_fingerprints_tell_data_apart():
    data = random()
    assert data.fingerprint == random().fingerprint
    assert data.fingerprint != data.scaled(2.0).fingerprint
    assert data.fingerprint != random(seed=1).fingerprint


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"times": []}, ["times", "at least one sequence"]),
        ({"times": [[1.0, 0.5]]}, ["times[0][1]", "0.5 after 1", "sort"]),
        ({"times": [[1.0], [1.0, 2.0, 2.0]]}, ["times[1][2]", "2 twice", "resolution="]),
        ({"times": [[1.0, np.nan]]}, ["times[0][1]", "nan", "finite"]),
        ({"times": [[-1.0]]}, ["times[0][0]", "before the start"]),
        ({"times": [[1.0]], "end": 0.5}, ["times[0][0]", "after the end"]),
        ({"times": [[1.0]], "marks": [[0, 1]]}, ["marks[0]", "2 marks", "1, one for each time"]),
        ({"times": [[1.0]], "marks": [[0], [1]]}, ["marks", "2 lists"]),
        ({"times": [[1.0]], "marks": [[0.5]]}, ["marks", "float64", "number the marks"]),
        ({"times": [[1.0]], "marks": [[2]], "classes": ("a", "b")}, ["marks[0][0]", "found 2", "0 to 1"]),
        ({"times": [[1.0], []], "start": None}, ["times[1]", "no events", "start"]),
        ({"times": [[1.0]], "resolution": 0.0}, ["resolution", "above 0"]),
        ({"times": [[]], "start": 2.0, "end": 1.0}, ["end[0]", "at least the start"]),
    ],
)
def test_messages(arguments, words):
    with pytest.raises(InputError) as caught:
        EventSequences.of(**arguments)
    for word in words:
        assert word in str(caught.value)


def test_observation_may_begin_with_the_first_event():
    data = EventSequences.of([[5.0, 6.0, 8.0]], [[0, 1, 0]], start=None)
    assert data.start.tolist() == [5.0] and data.times.tolist() == [6.0, 8.0] and data.marks.tolist() == [1, 0]


def test_coinciding_stamps_are_spread_in_their_order():
    times = [[0.0, 0.0, 0.0, 1.0, 1.0, 7.0]]
    marks = [[0, 1, 2, 0, 1, 2]]
    data = EventSequences.of(times, marks, resolution=1.0)
    assert (np.diff(data.times) > 0).all()
    assert np.floor(data.times).tolist() == times[0] and data.marks.tolist() == marks[0]
    assert data.fingerprint == EventSequences.of(times, marks, resolution=1.0).fingerprint


def test_many_sequences_are_split_whole():
    data = random(sequences=40)
    parts = split_events(data, seed=3)
    counts = [len(p) for p in (parts.train, parts.valid, parts.test)]
    assert sum(counts) == 40 and counts == [26, 6, 8]
    moments = np.concatenate([p.times for p in (parts.train, parts.valid, parts.test)])
    assert sorted(moments) == sorted(data.times)


def test_groups_stay_together():
    whole = random(sequences=40)
    data = EventSequences.of(
        np.split(whole.times, whole.offsets[1:-1]), end=whole.end, group=np.arange(40) // 4, classes=("event",)
    )
    parts = split_events(data)
    groups = [set(p.group.tolist()) for p in (parts.train, parts.valid, parts.test)]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])


def test_a_long_sequence_is_cut_by_time_and_nothing_is_lost():
    rng = np.random.default_rng(0)
    long = EventSequences.of([np.cumsum(rng.exponential(size=1000))], [rng.integers(0, 2, 1000)], end=1100.0)
    parts = split_events(long)
    pieces = [parts.train, parts.valid, parts.test]
    np.testing.assert_array_equal(np.concatenate([p.times for p in pieces]), long.times)
    np.testing.assert_array_equal(np.concatenate([p.marks for p in pieces]), long.marks)
    starts, ends = (np.concatenate([getattr(p, name) for p in pieces]) for name in ("start", "end"))
    np.testing.assert_array_equal(starts[1:], ends[:-1])  # every moment belongs to one piece
    assert starts[0] == 0 and ends[-1] == 1100.0
    assert all(60 <= n <= 140 for p in pieces for n in p.counts)
    assert parts.train.schema.lengths == (parts.train.counts.min() + 2, parts.train.counts.max() + 2)


def test_too_little_to_split():
    with pytest.raises(InputError, match="at least 10 sequences, or 30 events"):
        split_events(EventSequences.of([[1.0, 2.0]]))
