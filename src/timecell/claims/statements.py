"""What a trial yields, and what a claim says must hold of it.

A statement comes down to contrasts: weighted sums of the arms' means that must lie between two bounds, which the
margins give. "a > b by at least m" is the contrast 1 a - 1 b with the lower bound m.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Float

from timecell.errors import InputError

Better = Literal["higher", "lower"]


@dataclass(frozen=True, eq=False)
class Measured:
    """What one arm scored under one seed.

    Attributes:
        value: the score.
        items: [N] what each independent test item adds to it (correct 0/1, absolute error, ...; overlapping windows
            are averaged first), its mean being the value; NaN = not observed. None for a score that is no mean over
            items: the verdict then speaks of this test set alone.
        data: fingerprint of the test data. All arms of a seed must have the same.
        extra: JSON values to report beside: parameters, seconds, curves, ...

    Raises:
        InputError: the value is not finite, or not the mean of the items; or extra holds more than JSON.

    Example:
        >>> Measured(0.75, np.array([1, 1, 0, 1])).items.tolist()
        [1.0, 1.0, 0.0, 1.0]
    """

    value: float
    items: Float[np.ndarray, "N"] | None = None
    data: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", float(self.value))
        if not math.isfinite(self.value):
            raise InputError("value", found=self.value, expected="a finite score", remedy="see why the fit diverged")
        try:
            json.dumps(self.extra, allow_nan=False)
        except (TypeError, ValueError) as e:
            raise InputError("extra", found=e, expected="JSON values", remedy="pass plain numbers and texts") from None
        if self.items is None:
            return
        items = np.asarray(self.items, dtype=np.float32)  # so that the ledger keeps exactly what was judged
        object.__setattr__(self, "items", items)
        if items.ndim != 1 or not np.isfinite(items).any():
            raise InputError(
                "items", found=f"shape {items.shape}", expected="[N], one number a test item", remedy="flatten them"
            )
        mean = float(np.nanmean(items, dtype=np.float64))
        if not math.isclose(mean, self.value, rel_tol=1e-4, abs_tol=1e-6):
            raise InputError(
                "items", found=f"a mean of {mean:.6g}", expected=f"the value, {self.value:.6g}",
                remedy="pass what each item adds to the score, or leave items out if the score is no mean over items",
            )  # fmt: skip


Measurements = Sequence[Mapping[str, Measured]]  # one mapping of arms a seed


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of arms that must lie in [at_least, at_most]."""

    name: str
    weights: Mapping[str, float]
    at_least: float = -math.inf
    at_most: float = math.inf


class Statement(Protocol):
    """What must hold of the means of some arms."""

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms it speaks of."""

    @property
    def margins(self) -> tuple[str, ...]:
        """Names of the margins it needs."""

    def contrasts(self, margins: Mapping[str, float]) -> list[Contrast]:
        """All of which must lie within their bounds."""


class _OfArms:
    """A statement about arms that are given one after the other."""

    arms: tuple[str, ...]

    def __init__(self, *arms: str) -> None:
        if len(arms) < 2 or len(set(arms)) < len(arms):
            raise InputError("arms", found=arms, expected="two or more different names", remedy="name each arm once")
        self.arms = arms

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in vars(self).items())})"


class Ordering(_OfArms):
    """Each arm is better than the next by at least their margin; the best comes first.

    Example:
        >>> Ordering("learned", "frozen", "none").contrasts({"learned > frozen": 5, "frozen > none": 2})[1]
        Contrast(name='frozen > none', weights={'frozen': 1.0, 'none': -1.0}, at_least=2, at_most=inf)
    """

    def __init__(self, *arms: str, better: Better = "higher") -> None:
        super().__init__(*arms)
        self.better = better

    @property
    def margins(self) -> tuple[str, ...]:
        """One a pair of neighbours, "a > b" (read: a better than b)."""
        return tuple(f"{a} > {b}" for a, b in pairwise(self.arms))

    def contrasts(self, margins: Mapping[str, float]) -> list[Contrast]:
        """One a pair of neighbours."""
        sign = _sign(self.better)
        return [
            Contrast(name, {a: sign, b: -sign}, at_least=margins[name])
            for name, (a, b) in zip(self.margins, pairwise(self.arms))
        ]


class NonInferior(_OfArms):
    """The new arm is worse than the old one by no more than the margin."""

    def __init__(self, new: str, old: str, *, better: Better = "higher") -> None:
        super().__init__(new, old)
        self.better = better

    @property
    def margins(self) -> tuple[str, ...]:
        """ "new >= old": the loss that is tolerated."""
        return (f"{self.arms[0]} >= {self.arms[1]}",)

    def contrasts(self, margins: Mapping[str, float]) -> list[Contrast]:
        """One."""
        (new, old), (name,), sign = self.arms, self.margins, _sign(self.better)
        return [Contrast(name, {new: sign, old: -sign}, at_least=-margins[name])]


@dataclass(frozen=True)
class Matches:
    """The arm's mean is what theory says, up to the margin."""

    arm: str
    theory: float
    margins = ("tolerance",)  # to either side

    @property
    def arms(self) -> tuple[str, ...]:
        """The one."""
        return (self.arm,)

    def contrasts(self, margins: Mapping[str, float]) -> list[Contrast]:
        """One."""
        m = margins["tolerance"]
        return [Contrast(f"{self.arm} = {self.theory:g}", {self.arm: 1.0}, self.theory - m, self.theory + m)]


@dataclass(frozen=True)
class AtMost(Matches):
    """The arm's mean is no higher than the level, up to the margin."""

    def contrasts(self, margins: Mapping[str, float]) -> list[Contrast]:
        """One."""
        most = self.theory + margins["tolerance"]
        return [Contrast(f"{self.arm} <= {self.theory:g}", {self.arm: 1.0}, at_most=most)]


class Trend(_OfArms):
    """From arm to arm, in this order, the value rises (or falls): the slope of the least-squares line.

    Example:
        >>> Trend("8 units", "16 units", "32 units", direction="rises").contrasts({"slope": 0.5})[0].weights
        {'8 units': -0.5, '16 units': 0.0, '32 units': 0.5}
    """

    def __init__(self, *arms: str, direction: Literal["rises", "falls"]) -> None:
        super().__init__(*arms)
        self.direction = direction

    @property
    def margins(self) -> tuple[str, ...]:
        """ "slope" per arm, at least."""
        return ("slope",)

    def contrasts(self, margins: Mapping[str, float]) -> list[Contrast]:
        """One."""
        position = np.arange(len(self.arms)) - (len(self.arms) - 1) / 2
        slope = position / (position**2).sum() * (1 if self.direction == "rises" else -1)
        name = f"{self.arms[0]} .. {self.arms[-1]} {self.direction}"
        return [Contrast(name, dict(zip(self.arms, slope.tolist())), at_least=margins["slope"])]


class Flat(_OfArms):
    """No two arms differ by more than the margin."""

    @property
    def margins(self) -> tuple[str, ...]:
        """ "difference" between any two, at most."""
        return ("difference",)

    def contrasts(self, margins: Mapping[str, float]) -> list[Contrast]:
        """One a pair."""
        m = margins["difference"]
        return [Contrast(f"{a} = {b}", {a: 1.0, b: -1.0}, -m, m) for a, b in combinations(self.arms, 2)]


def _sign(better: Better) -> float:
    return 1.0 if better == "higher" else -1.0
