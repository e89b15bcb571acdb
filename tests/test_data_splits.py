"""Parts are disjoint, keep groups whole, respect time, and say what is missing when they cannot."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timecell.data import Schema, Sequences, Series, by_sample, by_time, spoken_digits
from timecell.errors import DataError, InputError


def numbered(target, **more) -> Sequences:
    """Samples that hold their own number, to be followed through a split."""
    return Sequences.of(np.arange(len(target), dtype=float)[:, None, None], target, **more)


def members(splits) -> list[set[int]]:
    return [{int(v) for v in part.values.ravel()} for part in (splits.train, splits.valid, splits.test)]


def line(T: int, gaps=(), channels: int = 1) -> Series:
    values = np.arange(float(T * channels)).reshape(T, channels)
    values[list(gaps)] = np.nan
    return Series(values, Schema("series", tuple(f"x{c}" for c in range(channels)), period=24))


# --- samples ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 3), min_size=8, max_size=60), st.integers(0, 99))
def test_samples_are_dealt_once_and_every_class_as_far_as_it_goes(target, seed):
    target = [0, 0, 0, *target]
    train, valid, test = members(by_sample(numbered(target), seed))
    assert train | valid | test == set(range(len(target))) and len(train) + len(valid) + len(test) == len(target)
    for k in set(target):
        own = {i for i, label in enumerate(target) if label == k}
        present = [bool(own & part) for part in (train, valid, test)]
        assert present == ([True] * 3 if len(own) >= 3 else [True, False, len(own) == 2])


def test_shares_and_seeds():
    data = numbered([0, 1] * 500)
    splits = by_sample(data, seed=3)
    assert [len(part) for part in members(splits)] == [650, 150, 200]
    assert members(splits) == members(by_sample(data, seed=3)) != members(by_sample(data, seed=4))
    assert [len(part) for part in members(by_sample(data, valid=0.3, test=0.4))] == [300, 300, 400]
    assert splits.test.target.mean() == 0.5


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), min_size=1, max_size=60), st.integers(0, 99))
def test_groups_are_never_split(rows, seed):
    rows = [(g, 0) for g in (7, 8, 9)] + rows
    group, target = map(list, zip(*rows))
    parts = members(by_sample(numbered(target, group=group), seed))
    assert set.union(*parts) == set(range(len(rows))) and sum(map(len, parts)) == len(rows) and all(parts)
    owners = [{group[i] for i in part} for part in parts]
    assert not (owners[0] & owners[1] or owners[1] & owners[2] or owners[0] & owners[2])


def test_many_groups_keep_shares_and_classes():
    rng = np.random.default_rng(0)
    group, target = rng.integers(0, 40, 2000), rng.integers(0, 4, 2000)
    splits = by_sample(numbered(target, group=group))
    assert np.allclose([len(part) / 2000 for part in members(splits)], [0.65, 0.15, 0.2], atol=0.03)
    for part in (splits.train, splits.valid, splits.test):
        assert np.allclose(np.bincount(part.target) / len(part), 0.25, atol=0.05)


def test_the_datas_own_split_is_kept_and_only_training_is_cut():
    part = ["train"] * 20 + ["test"] * 10
    train, valid, test = members(by_sample(numbered([0, 1] * 15, part=part), seed=1))
    assert test == set(range(20, 30)) and train | valid == set(range(20)) and len(valid) == 4
    whole = ["train"] * 10 + ["valid"] * 10 + ["test"] * 10
    assert members(by_sample(numbered([0, 1] * 15, part=whole))) == [set(range(k, k + 10)) for k in (0, 10, 20)]


def test_groups_stay_whole_beside_an_own_split_unless_it_cuts_through_them():
    part = ["train"] * 20 + ["test"] * 10
    apart = np.repeat([0, 1, 2, 3, 4, 5], 5)
    _, valid, _ = members(by_sample(numbered([0] * 30, part=part, group=apart)))
    assert len({apart[i] for i in valid}) * 5 == len(valid)
    shared = by_sample(numbered([0] * 30, part=part, group=[0, 1] * 15))
    assert set(shared.train.group) & set(shared.valid.group)


def test_spoken_digits_split_by_take_or_by_speaker():
    data = spoken_digits()
    splits = by_sample(data)
    assert [len(p) for p in (splits.train, splits.valid, splits.test)] == [2300, 400, 300]
    apart = by_sample(replace(data, part=None))
    speakers = [set(p.group) for p in (apart.train, apart.valid, apart.test)]
    assert set.union(*speakers) == set(range(6)) and sum(map(len, speakers)) == 6


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (numbered([0, 1]), ["2 samples", "a class with at least 3 samples"]),
        (numbered([0, 0, 1, 1]), ["4 samples"]),
        (numbered([0] * 9, group=[0, 1, 1] * 3), ["2 groups", "at least 3", "ignore="]),
        (numbered([0] * 3, part=["train"] * 3), ["data.part", "train", "test"]),
        (numbered([0] * 3, part=["train", "test", "dev"]), ["data.part", "dev"]),
    ],
)
def test_too_few_samples_are_explained(data, words):
    with pytest.raises((InputError, DataError)) as caught:
        by_sample(data)
    assert all(word in str(caught.value) for word in [*words, "Remedy: "])


def test_shares_must_leave_something():
    with pytest.raises(InputError, match=r"valid, test: found 0.5 and 0.5"):
        by_sample(numbered([0] * 9), valid=0.5, test=0.5)


# --- time -------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 80), st.sets(st.integers(0, 200), max_size=40))
def test_windows_respect_time(history, horizon, more, gaps):
    T = 60 + history + more
    series = line(T, gaps=[g for g in gaps if g < T])
    try:
        splits = by_time(series, history, horizon)
    except InputError as error:
        assert "no observed target" in str(error)
        return
    border, everything = 0, []
    for part in (splits.train, splits.valid, splits.test):
        target = part.starts[:, None] + history + np.arange(horizon)
        assert part.starts.min() >= 0 and target.min() >= border
        border = len(part.series)
        assert target.max() < border
        assert not np.isnan(part.series.values[target, 0]).all(axis=1).any()
        np.testing.assert_array_equal(part.series.values, series.values[:border])
        everything += part.starts.tolist()
    assert border == T and len(set(everything)) == len(everything)
    edges = [len(p.series) for p in (splits.train, splits.valid, splits.test)]
    fitting = [
        s for s in range(T - history - horizon + 1) if not any(s + history < e < s + history + horizon for e in edges)
    ]
    observed = [s for s in fitting if not np.isnan(series.values[s + history : s + history + horizon]).all()]
    assert sorted(everything) == observed


@given(st.integers(1, 30), st.integers(1, 30))
def test_the_error_says_how_many_steps_are_needed(history, horizon):
    with pytest.raises(InputError) as caught:
        by_time(line(history + horizon), history, horizon)
    needed = int(str(caught.value).split("at least ")[1].split()[0].replace(",", ""))
    by_time(line(needed), history, horizon)
    with pytest.raises(InputError):
        by_time(line(needed - 1), history, horizon)


def test_only_the_forecast_channels_need_observed_targets():
    series = line(100, channels=2)
    series.values[:80, 1] = np.nan
    assert len(by_time(series, 4, 2, targets=(0,)).train) == 65 - 4 - 1
    with pytest.raises(InputError, match="no observed target in steps 4 to 64, the train part"):
        by_time(series, 4, 2, targets=(1,))


def test_window_arguments_are_checked():
    with pytest.raises(InputError, match="horizon: found 0"):
        by_time(line(100), 4, 0)
    with pytest.raises(InputError, match="history: found -1"):
        by_time(line(100), -1, 4)
