"""The baselines of `Impute`: the channel's mean, the last value, the line between neighbours, ridge on neighbours."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int

from timecell.data.containers import Data, Schema, fill_forward
from timecell.data.masked import MaskedWindows, draw
from timecell.errors import InputError
from timecell.system import Card, Run, Task
from timecell.tasks.fitted import FittedArrays
from timecell.tasks.predictions import Imputed
from timecell.tasks.ridge import ridge_path
from timecell.tasks.truth import masked

REACH = 8  # steps to either side that ridge regression looks at
MAX_FEATURES = 500  # neighbours of all channels together
MAX_VALUES = 5_000  # hidden values of a channel that it is fitted on


@dataclass(frozen=True)
class _Baseline:
    card: ClassVar[Card]

    def accepts(self, schema: Schema, task: Task) -> str | None:
        """Masked windows."""
        return None if task.name == "impute" else f"it imputes, and the task is {task.name}"

    def space(self) -> Mapping[str, Sequence[Any]]:
        """Nothing to tune."""
        return {}

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> FittedImputer:
        """Measure the means."""
        return self.fitted(masked(train))

    def fitted(self, windows: MaskedWindows) -> FittedImputer:
        """With the means of the training data."""
        raise NotImplementedError


@dataclass(frozen=True)
class FittedImputer(FittedArrays):
    """Fills what is not seen; a channel of which a window shows nothing has its mean.

    Attributes:
        mean: [C] of the channels on the training data.
    """

    mean: Float[np.ndarray, "C"]

    def predict(self, data: Data) -> Imputed:
        """All windows, filled.

        Raises:
            InputError: the data have another number of channels.
        """
        windows = masked(data)
        if windows.series.values.shape[1] != len(self.mean):
            raise InputError(
                "data", found=f"{windows.series.values.shape[1]} channels", expected=f"{len(self.mean)}, as in training",
                remedy="load the same columns as for training",
            )  # fmt: skip
        seen, _ = windows.sides()
        return Imputed(np.where(np.isnan(seen), self.guess(windows, seen), seen))

    def guess(self, windows: MaskedWindows, seen: Float[np.ndarray, "N L C"]) -> Float[np.ndarray, "N L C"]:
        """An answer for every value, seen or not; here the channel's mean."""
        return np.broadcast_to(self.mean, seen.shape)


@dataclass(frozen=True)
class ChannelMean(_Baseline):
    """The mean of the channel over the training data.

    Example:
        >>> from timecell.data.containers import Series
        >>> series = Series(np.array([[1.0], [5.0], [3.0]]), Schema("series", ("x",)))
        >>> hidden = np.array([[False], [True], [False]])
        >>> windows = MaskedWindows(series, 3, np.array([0]), share=0.3, hidden=hidden)
        >>> for baseline in (ChannelMean(), LastSeen(), LinearInterpolation()):
        ...     print(baseline.fitted(windows).predict(windows).values[0, :, 0].tolist())
        [1.0, 3.0, 3.0]
        [1.0, 1.0, 3.0]
        [1.0, 2.0, 3.0]
    """

    card = Card("mean", "Mean", "Answers with the mean of the training data.", "baseline")

    def fitted(self, windows: MaskedWindows) -> FittedImputer:
        """Measure it."""
        return FittedImputer(self.card, 0.0, means(windows))


@dataclass(frozen=True)
class Carried(FittedImputer):
    """The last value seen before, or the first one after it at the very start."""

    def guess(self, windows: MaskedWindows, seen: Float[np.ndarray, "N L C"]) -> Float[np.ndarray, "N L C"]:
        """[N, L, C]."""
        return np.where(unseen(seen), self.mean, fill_forward(seen))


@dataclass(frozen=True)
class LastSeen(_Baseline):
    """The last value seen before the gap."""

    card = Card("last-value", "Last value", "Answers with the last value seen.", "baseline")

    def fitted(self, windows: MaskedWindows) -> FittedImputer:
        """Nothing but the means, for windows that show nothing."""
        return Carried(self.card, 0.0, means(windows))


@dataclass(frozen=True)
class Interpolated(FittedImputer):
    """The straight line between the values on either side; beyond the outermost ones, these."""

    def guess(self, windows: MaskedWindows, seen: Float[np.ndarray, "N L C"]) -> Float[np.ndarray, "N L C"]:
        """[N, L, C]."""
        return interpolated(seen, self.mean)


@dataclass(frozen=True)
class LinearInterpolation(_Baseline):
    """The straight line between the values before and after the gap."""

    card = Card("linear-interpolation", "Linear interpolation", "A line across each gap.", "baseline")

    def fitted(self, windows: MaskedWindows) -> FittedImputer:
        """Nothing but the means, for windows that show nothing."""
        return Interpolated(self.card, 0.0, means(windows))


@dataclass(frozen=True)
class Neighbours(FittedImputer):
    """The line across the gap, corrected by how neighbouring steps of all channels differ from it.

    Attributes:
        offsets: [O] steps from the value to its neighbours.
        weight: [C, O * C] of the neighbours, for each channel.
        bias: [C].
    """

    offsets: Int[np.ndarray, "O"]
    weight: Float[np.ndarray, "C F"]
    bias: Float[np.ndarray, "C"]

    def guess(self, windows: MaskedWindows, seen: Float[np.ndarray, "N L C"]) -> Float[np.ndarray, "N L C"]:
        """[N, L, C]."""
        line = interpolated(seen, self.mean)
        answer = line.copy()
        for c, (weight, bias) in enumerate(zip(self.weight, self.bias)):
            window, step = np.nonzero(np.isnan(seen[:, :, c]))
            answer[window, step, c] += neighbours(line, window, step, self.offsets) @ weight + bias
        return answer


@dataclass(frozen=True)
class RidgeNeighbours(_Baseline):
    """Ridge regression on the neighbours of a hidden value: steps around it, and one season before and after it.

    It answers with the difference from linear interpolation, so that a strong penalty leads there. The neighbours are
    interpolated themselves where they are hidden. The penalty is chosen on the validation windows, for each channel.
    """

    card = Card("ridge-neighbours", "Ridge on neighbours", "Ridge regression on the steps around a gap.", "baseline")

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> FittedImputer:
        """Solve for a path of penalties, on one mask of the training windows."""
        start = time.perf_counter()
        windows, held_out = masked(train), masked(valid)
        C = windows.series.values.shape[1]
        uniform = torch.rand(windows.series.values.shape, generator=torch.Generator().manual_seed(run.seed))
        one_mask = replace(windows, hidden=draw(uniform, windows.share, windows.gap))
        few = one_mask.select(np.arange(0, len(windows), max(1, windows.length // 4)))
        mean, offsets = means(windows), reach(windows)
        weight, bias = np.zeros((C, len(offsets) * C)), np.zeros(C)
        for c in range(C):
            x, y = pairs(few, mean, c, offsets)
            x_valid, y_valid = pairs(held_out, mean, c, offsets)
            if len(y) and len(y_valid):
                best = min(ridge_path(x, y[:, None]), key=lambda f: float(np.abs(f(x_valid)[:, 0] - y_valid).mean()))
                weight[c], bias[c] = best.weight[:, 0], best.bias[0]
        return Neighbours(self.card, time.perf_counter() - start, mean, offsets, weight, bias)


def means(windows: MaskedWindows) -> Float[np.ndarray, "C"]:
    """Of each channel over the stretch that the windows cover; 0 of one that was never observed."""
    values = windows.series.values[windows.covered]
    return np.nan_to_num(values).sum(axis=0) / np.maximum((~np.isnan(values)).sum(axis=0), 1)


def unseen(seen: Float[np.ndarray, "N L C"]) -> np.ndarray:
    """[N, 1, C] whether a window shows nothing of a channel."""
    return np.isnan(seen).all(axis=1, keepdims=True)


def interpolated(seen: Float[np.ndarray, "N L C"], mean: Float[np.ndarray, "C"]) -> Float[np.ndarray, "N L C"]:
    """Straight lines across the gaps.

    Example:
        >>> interpolated(np.array([[[np.nan], [1.0], [np.nan], [3.0]]]), np.zeros(1))[0, :, 0].tolist()
        [1.0, 1.0, 2.0, 3.0]
    """
    L = seen.shape[1]
    step = np.arange(L)[None, :, None]
    gap = np.isnan(seen)
    before = np.maximum.accumulate(np.where(gap, -1, step), axis=1)
    after = np.minimum.accumulate(np.where(gap, L, step)[:, ::-1], axis=1)[:, ::-1]
    before, after = np.where(before < 0, after, before), np.where(after == L, before, after)
    filled = np.where(np.isnan(seen), 0.0, seen)
    left, right = (np.take_along_axis(filled, np.clip(side, 0, L - 1), axis=1) for side in (before, after))
    way = (step - before) / np.maximum(after - before, 1)
    return np.where(unseen(seen), mean, left + way * (right - left))


def reach(windows: MaskedWindows) -> Int[np.ndarray, "O"]:
    """Offsets of the neighbours: as many steps as are affordable, and one season to either side if it is known."""
    C = windows.series.values.shape[1]
    near = max(1, min(REACH, windows.length - 1, MAX_FEATURES // (2 * C)))
    period = windows.series.schema.period
    season = [period] if period and near < period < windows.length else []
    after = [*range(1, near + 1), *season]
    return np.array([*(-o for o in after), *after])


def neighbours(
    line: Float[np.ndarray, "N L C"],
    window: Int[np.ndarray, "n"],
    step: Int[np.ndarray, "n"],
    offsets: Int[np.ndarray, "O"],
) -> Float[np.ndarray, "n F"]:
    """How the neighbours of some steps differ from them, in all channels; beyond the edge of a window, its edge."""
    at = (step[:, None] + offsets).clip(0, line.shape[1] - 1)
    difference = line[window[:, None], at] - line[window, step][:, None]
    return difference.reshape(len(window), -1)


def pairs(
    windows: MaskedWindows, mean: Float[np.ndarray, "C"], channel: int, offsets: Int[np.ndarray, "O"]
) -> tuple[Float[np.ndarray, "n F"], Float[np.ndarray, "n"]]:
    """Neighbours of the hidden values of a channel, and how far these lie from the line; at most `MAX_VALUES`."""
    seen, truth = windows.sides()
    window, step = np.nonzero(~np.isnan(truth[:, :, channel]))
    some = slice(None, None, -(-len(window) // MAX_VALUES) or 1)
    window, step = window[some], step[some]
    line = interpolated(seen, mean)
    y = truth[window, step, channel] - line[window, step, channel]
    return neighbours(line, window, step, offsets), y
