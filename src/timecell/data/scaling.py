"""The scale of data, measured on training data and nothing else: `Standardise` for values, `MeanGap` for events.

`scale_of` measures the one that fits. A scale applies to `data`, and says with `of_answers` what the answers to these
data must be brought back with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from timecell.data.containers import Cut, Data, Sequences
from timecell.data.event_sequences import EventSequences
from timecell.errors import DataError, InputError

Scaled = TypeVar("Scaled", bound="Sequences | Cut")
ROUNDING = 1e-9  # of a channel's mean: a spread below it is rounding, and the channel constant


@dataclass(frozen=True)
class Standardise:
    """x -> (x - mean) / std, channel by channel.

    A constant channel has std 1. Spike counts are left as they are (mean 0, std 1), because zero means silence there.

    Attributes:
        mean: [C] mean of the training values.
        std: [C] their standard deviation.

    Example:
        >>> data = Sequences.of([np.array([[1.0, 5.0], [3.0, 5.0]])])
        >>> scale = Standardise.fit(data)
        >>> scale.data(data).values.tolist(), scale.invert(np.array([[-1.0, 0.0]])).tolist()
        ([[-1.0, 0.0], [1.0, 0.0]], [[1.0, 5.0]])
    """

    mean: Float[np.ndarray, "C"]
    std: Float[np.ndarray, "C"]

    @classmethod
    def fit(cls, train: Sequences | Cut) -> Standardise:
        """Measured on all steps of these samples, or on the stretch of the series that these pieces cover.

        Missing values (NaN) have no part in it.

        Raises:
            InputError: a channel has no value at all.
        """
        whole = train.series if isinstance(train, Cut) else train
        values = train.series.values[train.covered] if isinstance(train, Cut) else train.values
        C = values.shape[1]
        if whole.schema.spikes:
            return cls(np.zeros(C), np.ones(C))
        known = ~np.isnan(values)
        count = known.sum(axis=0)
        if not count.all():
            name = whole.schema.channels[int(np.argmin(count))]
            raise InputError(
                "train", found=f"no value of channel {name!r}", expected="at least one to measure its scale",
                remedy="leave the channel out, or bring a record in which it has values early on",
            )  # fmt: skip
        mean = np.where(known, values, 0).sum(axis=0, dtype=np.float64) / count
        std = np.sqrt(np.where(known, (values - mean) ** 2, 0).sum(axis=0) / count)
        return cls(mean, np.where(std > ROUNDING * np.abs(mean), std, 1.0))

    @overload
    def apply(self, x: Tensor) -> Tensor: ...
    @overload
    def apply(self, x: np.ndarray) -> np.ndarray: ...
    def apply(self, x: Any) -> Any:
        """Values [..., C] in standard units; padding is no longer zero, so scale the data before they are padded."""
        return (x - _like(self.mean, x)) / _like(self.std, x)

    @overload
    def invert(self, x: Tensor) -> Tensor: ...
    @overload
    def invert(self, x: np.ndarray) -> np.ndarray: ...
    def invert(self, x: Any) -> Any:
        """Values [..., C] back in their own units."""
        return x * _like(self.std, x) + _like(self.mean, x)

    def data(self, data: Scaled) -> Scaled:
        """The same data in standard units, targets of windows included; batches of them are padded with zeros."""
        if isinstance(data, Cut):
            series = replace(data.series, values=self.apply(data.series.values))
            return replace(data, series=series)  # type: ignore[type-var]
        return data if data.schema.spikes else replace(data, values=self.apply(data.values))

    def of_answers(self, data: Data) -> Standardise | None:
        """The scale of what is asked about these pieces of a series; None where answers have no units (classes)."""
        return self.channels(data.target_channels) if isinstance(data, Cut) else None

    def channels(self, numbers: Sequence[int]) -> Standardise:
        """The scale of some channels, e.g. of those that are forecast."""
        return Standardise(self.mean[list(numbers)], self.std[list(numbers)])

    def to_json(self) -> dict[str, list[float]]:
        """A dict of lists, exact in JSON."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_json(cls, config: dict[str, list[float]]) -> Standardise:
        """The inverse of `to_json`.

        Raises:
            DataError: a key is missing, the lists differ in length, a number is not finite or a std not positive.
        """
        try:
            mean, std = (np.array(config[key], dtype=np.float64) for key in ("mean", "std"))
            if mean.ndim != 1 or mean.shape != std.shape or not (np.isfinite(mean).all() and (std > 0).all()):
                raise ValueError("lengths or values do not fit")
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                "scale", found=f"{config} ({error})", expected="lists mean and std of one length, finite and std > 0",
                remedy="save the model again",
            ) from error  # fmt: skip
        return cls(mean, std)


@dataclass(frozen=True)
class MeanGap:
    """Time of events counted in mean gaps: a scale without an origin, for a gap of zero stays zero.

    Attributes:
        unit: time observed for each event in the training data.

    Example:
        >>> data = EventSequences.of([[2.0, 4.0]], end=6.0)
        >>> scale = MeanGap.fit(data)
        >>> scale.unit, scale.data(data).end.tolist()
        (3.0, [2.0])
    """

    unit: float

    @classmethod
    def fit(cls, train: EventSequences) -> MeanGap:
        """Measured on all events."""
        return cls(train.mean_gap)

    def data(self, data: EventSequences) -> EventSequences:
        """The same events in this unit."""
        return data.scaled(self.unit)

    def of_answers(self, data: Data) -> float:
        """The unit."""
        return self.unit

    def to_json(self) -> dict[str, float]:
        """A dict, exact in JSON."""
        return {"unit": self.unit}

    @classmethod
    def from_json(cls, config: dict[str, float]) -> MeanGap:
        """The inverse of `to_json`.

        Raises:
            DataError: the unit is missing, or no length of time.
        """
        unit = config.get("unit")
        if not isinstance(unit, float | int) or not 0 < unit < np.inf:
            raise DataError("scale", found=config, expected="a unit above 0", remedy="save the model again")
        return cls(float(unit))


class Scale(Protocol):
    """What the two have in common."""

    def data(self, data: Any) -> Any:
        """The same data in this scale."""

    def of_answers(self, data: Any) -> Any:
        """What answers to these data are brought back with; None where they have no units."""

    def to_json(self) -> dict[str, Any]:
        """Exact in JSON."""


def scale_of(train: Data) -> Scale:
    """The scale that fits such data, measured on them."""
    if isinstance(train, EventSequences):
        return MeanGap.fit(train)
    if not isinstance(train, Sequences | Cut):
        raise InputError(
            "train", found=type(train).__name__, expected="sequences, events, or pieces of a series",
            remedy="split the data with a task",
        )  # fmt: skip
    return Standardise.fit(train)


def scale_from_json(config: dict[str, Any]) -> Scale:
    """The scale that `to_json` wrote."""
    return MeanGap.from_json(config) if "unit" in config else Standardise.from_json(config)


def _like(stat: Float[np.ndarray, "C"], x: Tensor | np.ndarray) -> Any:
    """The statistic in the type and on the device of x."""
    if isinstance(x, Tensor):
        return torch.as_tensor(stat, dtype=x.dtype if x.is_floating_point() else torch.float32, device=x.device)
    return stat.astype(x.dtype) if x.dtype.kind == "f" else stat
