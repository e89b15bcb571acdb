"""Training, validation and test parts: samples by class and group, series by time.

The test part is 20 % and the validation part 15 % unless told otherwise. No group lies in two parts, and no training
window reaches into what is forecast later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from jaxtyping import Float, Int, Shaped

from timecell.data.containers import Data, Sequences, Series, Windows
from timecell.errors import DataError, InputError

VALID, TEST = 0.15, 0.20
NAMES = ("train", "valid", "test")


@dataclass(frozen=True)
class Splits:
    """Three disjoint parts. `test` stays sealed until the scores are drawn."""

    train: Data
    valid: Data
    test: Data


def by_sample(data: Sequences, seed: int = 0, valid: float = VALID, test: float = TEST) -> Splits:
    """Random parts with the classes in proportion and every group whole.

    Of a class with two samples, one trains and one tests; a single sample trains. Where the data come with a split of
    their own (`data.part`) it is kept, and only the validation part is cut off the training part if there is none;
    groups are then kept whole only if that split did so.

    Args:
        data: labelled or unlabelled sequences.
        seed: of the draw.
        valid: share of the samples that validates (of the given training part, where there is one).
        test: share that tests.

    Raises:
        InputError: a share is out of range; there are too few samples or groups to fill the three parts.
        DataError: the data's own split has no training or no test part, or one of another name.

    Example:
        >>> data = Sequences.of(np.zeros((20, 5, 1)), target=[0, 1] * 10)
        >>> parts = by_sample(data, seed=0)
        >>> len(parts.train), len(parts.valid), len(parts.test), sorted(parts.test.target.tolist())
        (12, 4, 4, [0, 0, 1, 1])
    """
    check_shares(valid, test)
    if data.part is None:
        part = _deal(data, np.arange(len(data)), (1 - valid - test, valid, test), seed, whole=True)
    else:
        part = _given(data.part)
        if 1 not in part:
            train = np.flatnonzero(part == 0)
            part[train] = _deal(data, train, (1 - valid, valid), seed, whole=_keeps_groups(data, part))
    return Splits(*(data.select(np.flatnonzero(part == p)) for p in range(3)))


def by_time(
    series: Series,
    history: int,
    horizon: int,
    valid: float = VALID,
    test: float = TEST,
    targets: tuple[int, ...] | None = None,
) -> Splits:
    """Windows whose targets lie in the first, the middle and the last stretch of time.

    No target crosses a border, and a part holds the series only up to its own end, so nothing later can leak into it;
    the inputs of a window may reach back into the part before. Windows without any observed target are left out.

    Args:
        series: the record.
        history: input steps of a window.
        horizon: target steps of a window.
        valid: share of the steps that validates.
        test: share that tests.
        targets: numbers of the channels to forecast; None = all.

    Raises:
        InputError: the series is too short (the message says how many steps are needed), a part has no observed
            target, or an argument is out of range.

    Example:
        >>> from timecell.data.containers import Schema
        >>> parts = by_time(Series(np.arange(40.0)[:, None], Schema("series", ("x",))), history=8, horizon=4)
        >>> [(len(p), int(p.starts[0]) + 8, len(p.series)) for p in (parts.train, parts.valid, parts.test)]
        [(15, 8, 26), (3, 26, 32), (5, 32, 40)]
    """
    check_shares(valid, test)
    for name, steps in (("history", history), ("horizon", horizon)):
        if steps < 1:
            raise InputError(name, found=steps, expected="at least 1 step", remedy=f"pass a positive {name}")

    def borders(T: int) -> tuple[int, int, int, int]:
        return history, round(T * (1 - valid - test)), round(T * (1 - test)), T

    def suffices(T: int) -> bool:
        return bool((np.diff(borders(T)) >= horizon).all())

    if not suffices(len(series)):
        needed = next(T for T in count(len(series)) if suffices(T))
        raise InputError(
            "series", found=f"{len(series):,} steps",
            expected=f"at least {needed:,} for windows of {history} + {horizon} steps in three parts",
            remedy="shorten history or horizon, or bring a longer series",
        )  # fmt: skip
    edges = borders(len(series))
    observed = ~np.isnan(series.values if targets is None else series.values[:, list(targets)]).all(axis=1)
    parts = []
    for name, start, stop in zip(NAMES, edges[:-1], edges[1:]):
        first_target = np.arange(start, stop - horizon + 1)
        seen = observed[first_target[:, None] + np.arange(horizon)].any(axis=1)
        if not seen.any():
            raise InputError(
                "series", found=f"no observed target in steps {start} to {stop - 1}, the {name} part",
                expected="values in each part", remedy="cut the series to where it was recorded",
            )  # fmt: skip
        parts.append(Windows(series.cut(0, stop), history, horizon, first_target[seen] - history, targets))
    return Splits(*parts)


def _given(part: Shaped[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
    """Numbers of the parts in the data's own split, which must have a training and a test part."""
    words = set(part.tolist())
    if not {"train", "test"} <= words <= set(NAMES):
        raise DataError(
            "data.part", found=", ".join(sorted(words)), expected="train and test, and perhaps valid",
            remedy="correct the split, or leave it out to have one drawn",
        )  # fmt: skip
    return np.array([NAMES.index(word) for word in part.tolist()])


def _deal(
    data: Sequences, among: Int[np.ndarray, "n"], shares: Sequence[float], seed: int, *, whole: bool
) -> Int[np.ndarray, "n"]:
    """The part of each of these samples, drawn by group if there are groups to keep whole, else by class."""
    rng = np.random.default_rng(seed)
    target = np.zeros(len(among), np.int64) if data.target is None else data.target[among]
    if data.group is not None and whole:
        return _deal_groups(data.group[among], target, shares, rng)
    part = np.zeros(len(among), np.int64)
    for k in np.unique(target):
        own = rng.permutation(np.flatnonzero(target == k))
        part[own] = np.repeat(np.arange(len(shares)), _quota(len(own), shares))
    missing = set(range(len(shares))) - set(part.tolist())
    if missing:
        raise InputError(
            "data", found=f"{len(among)} samples, too few for {len(shares)} parts",
            expected=f"a class with at least {len(shares)} samples", remedy="bring more data of each class",
        )  # fmt: skip
    return part


def _quota(n: int, shares: Sequence[float]) -> list[int]:
    """How many of n samples of one class go to each part: one at least, as far as they last.

    Training has the first call on them, then the last part, then the middle one.
    """
    quota = [0] * len(shares)
    for p in range(len(shares) - 1, 0, -1):
        free = n - sum(quota) - 1
        others = p - 1
        quota[p] = min(free, max(1, min(round(shares[p] * n), free - others)))
    quota[0] = n - sum(quota)
    return quota


def _deal_groups(
    group: Int[np.ndarray, "n"], target: Int[np.ndarray, "n"], shares: Sequence[float], rng: np.random.Generator
) -> Int[np.ndarray, "n"]:
    """Whole groups, the largest first, each to the part that its classes are most wanted in."""
    groups, member = np.unique(group, return_inverse=True)
    if len(groups) < len(shares):
        raise InputError(
            "group", found=f"{len(groups)} groups", expected=f"at least {len(shares)}, as no group is split over parts",
            remedy="bring more groups, or leave the group column out with ignore=",
        )  # fmt: skip
    table = np.zeros((len(groups), int(target.max()) + 1))
    np.add.at(table, (member, target), 1)
    table /= np.maximum(table.sum(axis=0), 1)  # each class counts the same, however rare
    want: Float[np.ndarray, "P K"] = np.array(shares)[:, None] * table.sum(axis=0)
    order = rng.permutation(len(groups))
    order = order[np.argsort(-table[order].sum(axis=1), kind="stable")]
    home = np.full(len(groups), -1)
    for done, g in enumerate(order):
        empty = [p for p in range(len(shares)) if p not in home]
        open_parts = empty if len(empty) == len(groups) - done else range(len(shares))
        gain = {p: (want[p] ** 2 - (want[p] - table[g]) ** 2).sum() for p in open_parts}
        home[g] = max(gain, key=gain.__getitem__)
        want[home[g]] -= table[g]
    return home[member]


def _keeps_groups(data: Sequences, part: Int[np.ndarray, "N"]) -> bool:
    """Whether no group lies on both sides of the data's own split."""
    return data.group is not None and not np.isin(data.group[part == 0], data.group[part == 2]).any()


def check_shares(valid: float, test: float) -> None:
    """Raise InputError unless both are shares that leave some to train on."""
    if not (valid > 0 and test > 0 and valid + test < 1):
        raise InputError(
            "valid, test", found=f"{valid} and {test}", expected="shares above 0 that leave some to train on",
            remedy=f"try valid={VALID}, test={TEST}",
        )  # fmt: skip
