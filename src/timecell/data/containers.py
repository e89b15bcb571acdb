"""What data look like inside timecell: `Schema`, `Sequences`, `Series`, `Windows`, and the `Batch` that is cut of them.

Time is the second axis everywhere: `[B, T, C]`. Ragged sequences are stored end to end with offsets; a `Batch` pads
them with zeros and says how long each one is. In a target, NaN means *not observed*: it is neither trained on nor
scored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from timecell.errors import InputError

Kind = Literal["sequences", "series", "events", "edges"]


@dataclass(frozen=True)
class Schema:
    """What a data set holds, without the data.

    Attributes:
        kind: "sequences" (many labelled samples), "series" (one long multivariate record), "events" (marked event
            sequences in continuous time) or "edges" (a stream of contacts between the nodes of a graph).
        channels: name of each column of the last axis; of edges, their features.
        classes: class names in the order of the integer targets, or the names of the marks of events; None where there
            is no label.
        rate: steps per second; None when unknown.
        lengths: (shortest, longest) number of steps of a sample.
        spikes: True if every value is a non-negative count of events.
        period: steps in one season (24 for hourly data with a daily rhythm); None when unknown.
        label: name of the column or array that the classes come from; None when there is none.
    """

    kind: Kind
    channels: tuple[str, ...]
    classes: tuple[str, ...] | None = None
    rate: float | None = None
    lengths: tuple[int, int] = (0, 0)
    spikes: bool = False
    period: int | None = None
    label: str | None = None


@dataclass(frozen=True)
class Batch:
    """The one currency of training: padded inputs with what belongs to them.

    Attributes:
        x: [B, T, C] inputs, zero beyond a sample's end.
        target: what the task asks for: [B] class indices, or [B, H, C] future values (NaN = not observed).
        lengths: [B] true number of steps of each sample; None when all have T.
        dt: [B, T] time since the previous step, for irregular sampling.
        group: [B] which subject, session or speaker a sample comes from.
    """

    x: Float[Tensor, "B T C"]
    target: Shaped[Tensor, "B ..."] | None = None
    lengths: Int[Tensor, "B"] | None = None
    dt: Float[Tensor, "B T"] | None = None
    group: Int[Tensor, "B"] | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        moved = {k: v.to(device) for k, v in vars(self).items() if v is not None}
        return replace(self, **moved)

    def __len__(self) -> int:
        return len(self.x)


class AnyData(Protocol):
    """What a file holds: `Sequences`, a `Series`, `EventSequences` or `TemporalEdges`; a task splits it into parts."""

    @property
    def schema(self) -> Schema:
        """What the data hold."""

    @property
    def fingerprint(self) -> str:
        """Hash of the content, for ledgers and caches."""

    def __len__(self) -> int: ...


class Data(AnyData, Protocol):
    """Anything that can be cut into batches: `Sequences` and `Windows`."""

    def batch(self, index: Int[np.ndarray, "B"]) -> Batch:
        """The samples with these numbers, padded."""

    def select(self, index: Int[np.ndarray, "n"]) -> Data:
        """A smaller data set."""


def fingerprint(*arrays: np.ndarray) -> str:
    """Hash of shapes, types and bytes.

    Example:
        >>> fingerprint(np.zeros(3)) == fingerprint(np.zeros(3)), fingerprint(np.zeros(3)) == fingerprint(np.ones(3))
        (True, False)
    """
    h = hashlib.sha256()
    for a in arrays:
        h.update(f"{a.shape}{a.dtype}".encode())
        h.update(np.ascontiguousarray(a).data)
    return h.hexdigest()[:16]


@dataclass(frozen=True)
class Sequences:
    """Labelled samples of equal or different lengths.

    Attributes:
        values: [sum of lengths, C] all samples end to end, of any number type.
        offsets: [N + 1] sample i is `values[offsets[i]:offsets[i + 1]]`.
        target: [N] class indices into `schema.classes`, or None.
        schema: description.
        group: [N] group of each sample (speaker, subject), or None; splits keep groups together.
        part: [N] of "train", "valid", "test" where the data come with a split of their own, or None.

    Example:
        >>> data = Sequences.of([np.ones((3, 2)), np.ones((5, 2))], target=[0, 1])
        >>> batch = data.batch(np.array([0, 1]))
        >>> tuple(batch.x.shape), batch.lengths.tolist()
        ((2, 5, 2), [3, 5])
    """

    values: Shaped[np.ndarray, "S C"]
    offsets: Int[np.ndarray, "N+1"]
    target: Int[np.ndarray, "N"] | None
    schema: Schema
    group: Int[np.ndarray, "N"] | None = None
    part: Shaped[np.ndarray, "N"] | None = None

    @classmethod
    def of(
        cls,
        samples: list[np.ndarray] | np.ndarray,
        target: object = None,
        *,
        classes: tuple[str, ...] | None = None,
        channels: tuple[str, ...] | None = None,
        rate: float | None = None,
        group: object = None,
        part: object = None,
    ) -> Sequences:
        """From a list of [T_i, C] arrays (or one [N, T, C] array) and integer targets."""
        if len(samples) == 0:
            raise InputError("samples", found="none", expected="at least one [T, C] array", remedy="pass some data")
        for i, s in enumerate(samples):
            if s.ndim != 2 or s.shape[1] != samples[0].shape[1]:
                raise InputError(
                    f"samples[{i}]",
                    found=f"shape {s.shape}",
                    expected=f"[T, {samples[0].shape[-1]}]",
                    remedy="give every sample the shape [time, channels] with the same channels",
                )
        lengths = np.array([len(s) for s in samples])
        values = np.concatenate(list(samples))
        if lengths.min() == 0:
            raise InputError(
                f"samples[{lengths.argmin()}]", found="no steps", expected="at least one", remedy="leave it out"
            )
        y = None if target is None else np.asarray(target)
        if y is not None and (y.dtype.kind not in "iub" or (y.size and y.min() < 0)):
            raise InputError(
                "target", found=f"{y.dtype} labels such as {y.flat[0]!r}", expected="class indices 0, 1, ...",
                remedy="number the classes and pass their names as classes=(...)",
            )  # fmt: skip
        y = None if y is None else y.astype(np.int64)
        if y is not None and len(y) != len(lengths):
            raise InputError(
                "target", found=f"{len(y)} labels", expected=f"{len(lengths)}, one a sample", remedy="match the two"
            )
        if y is not None and classes is None:
            classes = tuple(str(k) for k in range(int(y.max()) + 1))
        schema = Schema(
            "sequences",
            channels or tuple(f"x{c}" for c in range(values.shape[1])),
            classes,
            rate,
            (int(lengths.min()), int(lengths.max())),
            spikes=is_counts(values),
        )
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return cls(
            values,
            offsets,
            y,
            schema,
            None if group is None else np.asarray(group, dtype=np.int64),
            None if part is None else np.asarray(part, dtype=str),
        )

    @property
    def lengths(self) -> Int[np.ndarray, "N"]:
        """Number of steps of each sample."""
        return np.diff(self.offsets)

    @property
    def fingerprint(self) -> str:
        """Hash of values, cuts and targets."""
        return fingerprint(self.values, self.offsets, *([] if self.target is None else [self.target]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> Shaped[np.ndarray, "T C"]:
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    def batch(self, index: Int[np.ndarray, "B"]) -> Batch:
        """Padded float32 inputs with lengths (None when all are equal), targets and groups."""
        lengths = self.lengths[index]
        x = np.zeros((len(index), int(lengths.max()), self.values.shape[1]), dtype=np.float32)
        for row, i in enumerate(index):
            x[row, : lengths[row]] = self[int(i)]
        ragged = bool((lengths != lengths[0]).any())
        return Batch(
            torch.from_numpy(x),
            None if self.target is None else torch.from_numpy(self.target[index]),
            torch.from_numpy(lengths) if ragged else None,
            group=None if self.group is None else torch.from_numpy(self.group[index]),
        )

    def select(self, index: Int[np.ndarray, "n"]) -> Sequences:
        """The samples with these numbers, in this order; the schema's class list stays whole."""
        lengths = self.lengths[index]
        rows = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in index]
        return replace(
            self,
            values=self.values[np.concatenate(rows) if rows else np.zeros(0, np.int64)],
            offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            target=None if self.target is None else self.target[index],
            group=None if self.group is None else self.group[index],
            part=None if self.part is None else self.part[index],
        )


@dataclass(frozen=True)
class Series:
    """One long record on a regular grid; NaN where a value is missing.

    Attributes:
        values: [T, C] float, NaN = missing (a gap in the time stamps has become rows of NaN).
        schema: description; `schema.period` is the season in steps if known.
        time: [T] seconds (float64, Unix epoch where the file had dates), or None.
    """

    values: Float[np.ndarray, "T C"]
    schema: Schema
    time: Float[np.ndarray, "T"] | None = None

    @property
    def fingerprint(self) -> str:
        """Hash of the values."""
        return fingerprint(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def cut(self, start: int, stop: int) -> Series:
        """The steps start..stop-1."""
        time = None if self.time is None else self.time[start:stop]
        return replace(self, values=self.values[start:stop], time=time)


Gridded = TypeVar("Gridded", bound="Sequences | Series")


def with_channels(data: Gridded, order: Sequence[int]) -> Gridded:
    """The same series or sequences with the channels of these numbers, in this order.

    Example:
        >>> series = Series(np.array([[1.0, 2.0, 3.0]]), Schema("series", ("a", "b", "c")))
        >>> found = with_channels(series, (2, 0))
        >>> found.values.tolist(), found.schema.channels
        ([[3.0, 1.0]], ('c', 'a'))
    """
    schema = replace(data.schema, channels=tuple(data.schema.channels[c] for c in order))
    return replace(data, values=data.values[:, list(order)], schema=schema)  # type: ignore[type-var]


class Cut:
    """Pieces of one series: `Windows`, and what else is cut of one. What is measured on them is measured on `covered`."""

    series: Series

    @property
    def covered(self) -> slice:
        """The steps of the series that the pieces cover with their targets."""
        raise NotImplementedError

    @property
    def first_target(self) -> int:
        """The first step that is asked for."""
        return self.covered.start

    @property
    def input_channels(self) -> list[int]:
        """Numbers of the series' channels that make the inputs."""
        return list(range(self.series.values.shape[1]))

    @property
    def target_channels(self) -> list[int]:
        """Numbers of the series' channels that are asked for."""
        return list(range(self.series.values.shape[1]))


@dataclass(frozen=True)
class Windows(Cut):
    """Every window of a series: `history` steps in, the `horizon` steps after it as target.

    Inputs never hold NaN: a missing value is replaced by the last one seen before it (by the channel's first seen
    value where there is none), which uses no future beyond that. Targets keep NaN: such steps are not scored.

    Attributes:
        series: the record the windows are cut from.
        history: input steps L.
        horizon: target steps H.
        starts: [N] first input step of each window.
        targets: indices of the channels to forecast; None = all.
    """

    series: Series
    history: int
    horizon: int
    starts: Int[np.ndarray, "N"]
    targets: tuple[int, ...] | None = None

    @property
    def schema(self) -> Schema:
        """The series' schema with the window's length."""
        return replace(self.series.schema, lengths=(self.history, self.history))

    @property
    def covered(self) -> slice:
        """From the first input to the last target."""
        return slice(int(self.starts.min()), int(self.starts.max()) + self.history + self.horizon)

    @property
    def first_target(self) -> int:
        """The step after the first history."""
        return int(self.starts.min()) + self.history

    @property
    def target_channels(self) -> list[int]:
        """Numbers of the channels to forecast."""
        return super().target_channels if self.targets is None else list(self.targets)

    @property
    def fingerprint(self) -> str:
        """Hash of the series and the cuts."""
        return fingerprint(self.series.values, self.starts, np.array([self.history, self.horizon]))

    def __len__(self) -> int:
        return len(self.starts)

    def batch(self, index: Int[np.ndarray, "B"]) -> Batch:
        """Inputs [B, L, C] and targets [B, H, C'] in the series' own units."""
        at = self.starts[index][:, None] + np.arange(self.history + self.horizon)
        window = self.series.values[at]
        x = fill_forward(window[:, : self.history])
        y = window[:, self.history :]
        if self.targets is not None:
            y = y[:, :, list(self.targets)]
        return Batch(torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y.astype(np.float32)))

    def select(self, index: Int[np.ndarray, "n"]) -> Windows:
        """The windows with these numbers."""
        return replace(self, starts=self.starts[index])


def fill_forward(x: Float[np.ndarray, "B T C"]) -> Float[np.ndarray, "B T C"]:
    """Replace NaN by the last value seen before it in the same window, or the first one after it at the very start.

    A window with no value at all becomes zero.

    Example:
        >>> fill_forward(np.array([[[1.0], [np.nan], [3.0]]]))[0, :, 0].tolist()
        [1.0, 1.0, 3.0]
    """
    gap = np.isnan(x)
    if not gap.any():
        return x
    T = x.shape[1]
    step = np.arange(T)[None, :, None]
    last = np.maximum.accumulate(np.where(gap, -1, step), axis=1)
    first = np.where(gap, T, step).min(axis=1, keepdims=True)
    source = np.clip(np.where(last < 0, first, last), 0, T - 1)
    return np.nan_to_num(np.take_along_axis(x, source, axis=1), nan=0.0)


def is_counts(values: np.ndarray) -> bool:
    """True if every value is a non-negative whole number and most are zero: binned events."""
    v = np.asarray(values)
    return bool(v.size and np.all(v >= 0) and np.all(v == np.floor(v)) and np.mean(v == 0) > 0.5)
