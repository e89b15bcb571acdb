"""What a fitted system answers: one frozen type a task.

An answer that is not one (a NaN, rows that do not sum to one, quantiles that do not fit their levels) is refused here,
once, so that no metric has to ask again.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from timecell.data.scaling import Standardise
from timecell.errors import InputError


@dataclass(frozen=True)
class ClassScores:
    """Class probabilities.

    Attributes:
        probabilities: [N, K] rows sum to one.
        classes: names of the K classes.

    Raises:
        InputError: a shape is wrong, or a row is no distribution.

    Example:
        >>> ClassScores(np.array([[0.2, 0.8]]), ("rest", "move")).predicted
        array([1])
    """

    probabilities: Float[np.ndarray, "N K"]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        p = self.probabilities
        if p.ndim != 2 or p.shape[1] != len(self.classes):
            raise InputError(
                "probabilities",
                found=f"shape {p.shape}",
                expected=f"[N, {len(self.classes)}], one column a class",
                remedy="give every class a column",
            )
        wrong = ~(np.all(p >= 0, axis=1) & np.isclose(p.sum(axis=1), 1, atol=1e-4))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(
                f"probabilities[{row}]",
                found=p[row].tolist(),
                expected="non-negative numbers that sum to one",
                remedy="a NaN means that the fit has diverged: lower the learning rate; else normalise the row",
            )

    @property
    def predicted(self) -> Int[np.ndarray, "N"]:
        """[N] index of the most probable class."""
        return self.probabilities.argmax(axis=1)

    def arrays(self) -> dict[str, Any]:
        """`probabilities` and `classes`."""
        return {"probabilities": self.probabilities, "classes": np.array(self.classes)}


@dataclass(frozen=True)
class Forecasted:
    """Future values, in the units of the data.

    Attributes:
        values: [N, H, C] point forecasts.
        quantiles: [N, H, C, Q] one value for each of `levels`, or None.
        levels: increasing probabilities, e.g. (0.1, 0.5, 0.9).

    Raises:
        InputError: a shape is wrong, a value is not finite, or the levels do not increase within (0, 1).

    Example:
        >>> Forecasted(np.zeros((5, 24, 1))).widened(np.array([[[-1.0, 1.0]]]), (0.1, 0.9)).quantiles.shape
        (5, 24, 1, 2)
    """

    values: Float[np.ndarray, "N H C"]
    quantiles: Float[np.ndarray, "N H C Q"] | None = None
    levels: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.values.ndim != 3:
            raise InputError(
                "values",
                found=f"shape {self.values.shape}",
                expected="[N, H, C]",
                remedy="give windows, horizon and channels an axis each",
            )
        bounds = (0.0, *self.levels, 1.0)
        if not all(a < b for a, b in pairwise(bounds)):
            raise InputError(
                "levels",
                found=self.levels,
                expected="probabilities that increase within (0, 1)",
                remedy="sort them and leave out 0 and 1",
            )
        shape = None if self.quantiles is None else self.quantiles.shape
        if shape != ((*self.values.shape, len(self.levels)) if self.levels else None):
            raise InputError(
                "quantiles",
                found=f"shape {shape} for {len(self.levels)} levels",
                expected="[N, H, C, Q] with one of Q for each level, or None without levels",
                remedy="match the two",
            )
        for name, array in (("values", self.values), ("quantiles", self.quantiles)):
            if array is not None and not np.isfinite(array).all():
                at = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
                raise InputError(
                    f"{name}{list(at)}",
                    found=array[at],
                    expected="a finite forecast",
                    remedy="the fit has diverged, or its input held a NaN: lower the learning rate, check the input",
                )

    def rescaled(self, scale: Standardise) -> Forecasted:
        """The same forecasts in the units that the scale of their channels came from."""
        quantiles = None if self.quantiles is None else scale.invert(self.quantiles.swapaxes(2, 3)).swapaxes(2, 3)
        return Forecasted(scale.invert(self.values), quantiles, self.levels)

    def widened(self, offsets: Float[np.ndarray, "#H #C Q"], levels: tuple[float, ...]) -> Forecasted:
        """The same point forecasts with quantiles around them; offsets come from `residual_quantiles`."""
        return Forecasted(self.values, self.values[..., None] + offsets, levels)

    def arrays(self) -> dict[str, Any]:
        """`values`, and `quantiles` with their `levels` where there are any."""
        if self.quantiles is None:
            return {"values": self.values}
        return {"values": self.values, "quantiles": self.quantiles, "levels": np.array(self.levels)}


@dataclass(frozen=True)
class Decoded:
    """Values of the target channels at every step that counts, in the units of the data.

    Attributes:
        values: [N, L, C'] one row of stretches after the other; what lies beyond the end of the part is not scored.

    Raises:
        InputError: a value is not finite.
    """

    values: Float[np.ndarray, "N L C"]

    def __post_init__(self) -> None:
        if not np.isfinite(self.values).all():
            raise InputError(
                "values", found="NaN or infinity", expected="finite values",
                remedy="the fit has diverged, or its input held a NaN: lower the learning rate, check the input",
            )  # fmt: skip

    def rescaled(self, scale: Standardise) -> Decoded:
        """The same in the units that the scale of the targets came from."""
        return Decoded(scale.invert(self.values))

    def arrays(self) -> dict[str, Any]:
        """`values`."""
        return {"values": self.values}


@dataclass(frozen=True)
class Rates:
    """Expected counts of the units in every bin.

    Attributes:
        values: [N, L, C'] above zero.

    Raises:
        InputError: a value is not finite, or not above zero: a spike there would be impossible.
    """

    values: Float[np.ndarray, "N L C"]

    def __post_init__(self) -> None:
        if not (np.isfinite(self.values) & (self.values > 0)).all():
            raise InputError(
                "values", found="a rate that is not finite or not above zero", expected="expected counts above 0",
                remedy="answer with the exponential of something finite",
            )  # fmt: skip

    def arrays(self) -> dict[str, Any]:
        """`values`."""
        return {"values": self.values}


@dataclass(frozen=True)
class Imputed:
    """A value for every entry of every window; those that were seen are as they were.

    Attributes:
        values: [N, L, C] in the units of the data.

    Raises:
        InputError: a value is not finite.
    """

    values: Float[np.ndarray, "N L C"]

    def __post_init__(self) -> None:
        if not np.isfinite(self.values).all():
            at = tuple(int(i) for i in np.argwhere(~np.isfinite(self.values))[0])
            raise InputError(f"values{list(at)}", found=self.values[at], expected="a finite value",
                             remedy="the fit has diverged: lower the learning rate")  # fmt: skip

    def rescaled(self, scale: Standardise) -> Imputed:
        """The same in the units that the scale of the channels came from."""
        return Imputed(scale.invert(self.values))

    def arrays(self) -> dict[str, Any]:
        """`values`."""
        return {"values": self.values}


@dataclass(frozen=True)
class AnomalyScores:
    """How anomalous each step is; comparable within one record, without a unit.

    Attributes:
        scores: [S] the higher, the more anomalous; NaN where nothing was observed.
        threshold: a step whose score lies above it is an alarm; None = nobody has set one.

    Raises:
        InputError: the shape is wrong, or a score or the threshold is infinite.

    Example:
        >>> AnomalyScores(np.array([0.1, 3.0, np.nan]), threshold=1.0).alarms.tolist()
        [False, True, False]
    """

    scores: Float[np.ndarray, "S"]
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.scores.ndim != 1:
            raise InputError("scores", found=f"shape {self.scores.shape}", expected="[S], one a step",
                             remedy="put the steps end to end")  # fmt: skip
        if np.isinf(self.scores).any() or not (self.threshold is None or np.isfinite(self.threshold)):
            raise InputError("scores, threshold", found="infinity", expected="finite numbers",
                             remedy="the fit has diverged: lower the learning rate")  # fmt: skip

    @property
    def alarms(self) -> Bool[np.ndarray, "S"]:
        """[S] true where the score lies above the threshold.

        Raises:
            InputError: there is none.
        """
        if self.threshold is None:
            raise InputError(
                "threshold", found="None", expected="a number", remedy="fit with validation data, or set one"
            )
        return self.scores > self.threshold

    def arrays(self) -> dict[str, Any]:
        """`scores`, and the `threshold` where there is one."""
        known = {} if self.threshold is None else {"threshold": np.array(self.threshold)}
        return {"scores": self.scores} | known
