"""The answers that data hold: labels of sequences; past, future and natural scale of windows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from timecell.data.containers import Batch, Data, Sequences, Series, Windows, fill_forward
from timecell.data.masked import MaskedWindows
from timecell.data.stretches import Stretches
from timecell.errors import InputError

D = TypeVar("D")


def of_kind(data: object, kind: type[D], expected: str, remedy: str) -> D:
    """The same data, known to be of a kind.

    Raises:
        InputError: they are something else.
    """
    if isinstance(data, kind):
        return data
    raise InputError("data", found=type(data).__name__, expected=expected, remedy=remedy)


def sequences(data: object) -> Sequences:
    """The same data, known to be sequences of at least one step each, without a gap.

    Raises:
        InputError: they are something else, a sample has no steps or holds a value that is not finite.
    """
    data = of_kind(data, Sequences, "Sequences", "a series is for the task Forecast")
    if not data.lengths.all():
        raise InputError(
            f"data[{int(np.argmin(data.lengths))}]", found="no steps", expected="at least one", remedy="leave it out"
        )
    finite = np.isfinite(data.values).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        sample = int(np.searchsorted(data.offsets, row, side="right")) - 1
        raise InputError(
            f"data[{sample}], step {row - int(data.offsets[sample])}",
            found=data.values[row].tolist(),
            expected="finite values",
            remedy="fill gaps or leave the sample out",
        )
    return data


def labelled(data: object) -> Sequences:
    """The same data, known to be sequences with a class each.

    Raises:
        InputError: as in `sequences`; there are no labels, a label is no class, there are fewer than two classes.
    """
    known = sequences(data)
    classes = known.schema.classes
    if known.target is None or classes is None:
        raise InputError(
            "data.target",
            found="no labels",
            expected="a class for each sample",
            remedy="name the label column or array when loading, or pass target= to Sequences.of",
        )
    if len(classes) < 2:
        raise InputError(
            "data.schema.classes",
            found=f"one class, {classes[0]!r}" if classes else "none",
            expected="at least two",
            remedy="check which column is the label",
        )
    outside = (known.target < 0) | (known.target >= len(classes))
    if outside.any():
        i = int(np.argmax(outside))
        raise InputError(
            f"data.target[{i}]",
            found=int(known.target[i]),
            expected=f"a class index from 0 to {len(classes) - 1}",
            remedy="leave samples without a label out",
        )
    return known


def with_classes(data: Sequences, classes: tuple[str, ...]) -> Sequences:
    """The same samples with labels that are numbers into these classes, whichever of them the data happen to hold.

    Raises:
        InputError: a sample has a label that is none of them.

    Example:
        >>> data = Sequences.of(np.zeros((2, 3, 1)), target=[0, 0], classes=("move",))
        >>> with_classes(data, ("rest", "move")).target.tolist()
        [1, 1]
    """
    schema = replace(data.schema, classes=classes)
    if data.target is None:
        return replace(data, schema=schema)
    names = data.schema.classes or ()
    for k in np.unique(data.target):
        if names[k] not in classes:
            raise InputError(
                f"data.target[{int(np.argmax(data.target == k))}]", found=f"the label {names[k]!r}",
                expected=f"one of {', '.join(classes)}, as in training",
                remedy="correct the label, leave its samples out, or train on data that have it",
            )  # fmt: skip
    number = np.array([classes.index(name) if name in classes else -1 for name in names])
    return replace(data, schema=schema, target=number[data.target])


def labels(data: Data) -> Int[np.ndarray, "N"]:
    """[N] class index of each sample; errors as in `labelled`."""
    target = labelled(data).target
    assert target is not None
    return target


def windowed(data: object) -> Windows:
    """The same data, known to be windows of a series.

    Raises:
        InputError: they are something else.
    """
    remedy = "cut the series with Forecast(...).split or Forecast(...).windows"
    return of_kind(data, Windows, "Windows of a series", remedy)


def past(data: Windows) -> Float[np.ndarray, "N L C"]:
    """Inputs of all windows in double precision, gaps filled as in `Windows.batch`.

    Example:
        >>> from timecell.data.containers import Schema, Series
        >>> series = Series(np.arange(6.0)[:, None], Schema("series", ("x",)))
        >>> windows = Windows(series, history=3, horizon=2, starts=np.array([0, 1]))
        >>> past(windows)[:, :, 0].tolist(), future(windows)[:, :, 0].tolist()
        ([[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]], [[3.0, 4.0], [4.0, 5.0]])
    """
    return fill_forward(data.series.values[data.starts[:, None] + np.arange(data.history)].astype(np.float64))


def future(data: Windows) -> Float[np.ndarray, "N H K"]:
    """Targets of all windows in double precision; NaN where not observed."""
    at = data.starts[:, None] + data.history + np.arange(data.horizon)
    return data.series.values[:, data.target_channels][at].astype(np.float64)


def naive_scale(data: Windows) -> Float[np.ndarray, "K"]:
    """Mean absolute error of the seasonal naive forecast on all steps before the first target (Hyndman, Koehler 2006).

    A season is `schema.period` steps, or one step where that is unknown; one step as well in a channel that repeats
    exactly or was not seen for a whole season. NaN for a channel that never changes: it has no scale.

    Raises:
        InputError: no target channel ever changes.

    Example:
        >>> from timecell.data.containers import Schema, Series
        >>> series = Series(np.array([[0.0], [2.0], [4.0], [6.0], [8.0]]), Schema("series", ("x",)))
        >>> naive_scale(Windows(series, history=3, horizon=1, starts=np.array([0, 1]))).tolist()
        [2.0]
    """
    known = data.series.values[: int(data.starts.min()) + data.history, data.target_channels]
    scale = np.full(known.shape[1], np.nan)
    for lag in (data.schema.period or 1, 1):
        change = np.abs(known[lag:] - known[:-lag])
        seen = ~np.isnan(change)
        mean = np.where(seen, change, 0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
        rounding = 1e-9 * np.nanmax(np.abs(known), axis=0, initial=0)
        scale = np.where(np.isnan(scale) & (mean > rounding), mean, scale)
    if np.isnan(scale).all():
        names = ", ".join(data.schema.channels[c] for c in data.target_channels)
        raise InputError(
            "data",
            found=f"no change in {names} before step {len(known)}",
            expected="values that vary over time",
            remedy="forecast another channel, or pass a longer series",
        )
    return scale


def whole_series(data: object) -> Series:
    """The same data, known to be a series."""
    remedy = "labelled sequences are for Classify, events for NextEvent, edges for LinkPrediction"
    return of_kind(data, Series, "a Series", remedy)


def usual_history(series: Series) -> int:
    """Steps to warm up on where nobody says how many."""
    return max(1, min(100, len(series) // 40))


def stretches(data: object) -> Stretches:
    """The same data, known to be stretches."""
    return of_kind(data, Stretches, "Stretches of a series", "cut it with the task's split")


def counted(batch: Batch) -> Float[Tensor, "B T K"]:
    """The targets, NaN where a step does not count."""
    if batch.target is None:
        raise InputError("batch.target", found="None", expected="[B, T, C'] targets", remedy="cut it from Stretches")
    return batch.target


def require_same(what: str, found: Any, expected: Any) -> None:
    """Refuse new data that are not like those of the training.

    Args:
        what: which part of their schema it is about: channels, classes.
        found: that of the new data.
        expected: that of the training data.

    Raises:
        InputError: it is another, or in another order.

    Example:
        >>> require_same("channels", ("x", "y"), ("x", "y"))
    """
    if found != expected:
        raise InputError(
            f"data.schema.{what}", found=found, expected=f"{expected}, as in training",
            remedy=f"bring the same {what} in the same order",
        )  # fmt: skip


def require_shape(values: np.ndarray, truth: np.ndarray) -> None:
    """Raise InputError unless a prediction is of these pieces of a series."""
    if values.shape != truth.shape:
        raise InputError(
            "prediction", found=f"shape {values.shape}", expected=f"{truth.shape}",
            remedy="predict what is scored",
        )  # fmt: skip


def masked(data: object) -> MaskedWindows:
    """The same data, known to be masked windows."""
    return of_kind(data, MaskedWindows, "MaskedWindows of a series", "cut the series with Impute(...).split")
