"""When do measurements say that a statement holds? The interval and the three verdicts.

Each contrast of a statement gets an interval. The statement

    holds         if every interval lies within its bounds,
    falls short   if one interval lies wholly outside,
    is undecided  otherwise; then more seeds may settle it.

The arms of a seed share their data and draws, so a contrast is taken within each seed and within each test item:
d[s, i]. Its standard error has two parts, the spread over seeds and what a test set adds that every seed is scored on:

    SE^2 = var_s(mean_i d) / S + max(0, MS_items - MS_rest) / (S N)          (two-way random effects)

The interval reaches Student's t with S - 1 degrees of freedom times SE to either side; each bound may miss in `ERROR`
of cases. Where seeds are added while the verdict is open, the looks at the data share that allowance equally. Since all
contrasts must hold, their number calls for no correction.

Why not a bootstrap over seeds and items? Three seeds are too few to resample. Simulated with two equal arms, 1000 test
items and accuracies that spread by 3 points over seeds, percentiles at 5 % are wrong in 7 to 9 % of cases. Student's t
with the bootstrap's standard error counts the noise of items twice: of true differences of 5 points it finds 0.3 to 5 %
at three seeds and a margin of 2.5, where the rule above finds 14 to 47 %. The rule above, simulated with 360 and 1000
items, one test set for all seeds or one a seed, and spreads of 0, 1 and 3 points, is at worst wrong in (+- 0.6 %)

    margin       true difference    "holds", 3 seeds    "holds", looks at 3, 6, 12    "falls short", looks at 3, 6, 12
    0            0                  5.4 %               5.1 %
    1 point      0                  3.1 %               1.7 %
    2.5 points   5 points           right               right (27 to 99 %)            0.2 %
    m            m                  5.8 %               5.0 %                         5.3 %

Seeds that collapse and heavy tails stay below 4.5 %. `tests/test_claims.py` simulates it again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from timecell.claims.statements import Contrast, Measurements, Statement

Verdict = Literal["holds", "falls short", "undecided"]
ERROR = 0.05


@dataclass(frozen=True)
class Finding:
    """A contrast as measured: its mean, its interval, and where it must lie."""

    contrast: str
    mean: float
    low: float
    high: float
    at_least: float
    at_most: float

    @property
    def verdict(self) -> Verdict:
        """Where the interval lies."""
        if self.low >= self.at_least and self.high <= self.at_most:
            return "holds"
        return "falls short" if self.high < self.at_least or self.low > self.at_most else "undecided"


@dataclass(frozen=True)
class Judgement:
    """A verdict and what it rests on; `error` is the one-sided level of the intervals."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    error: float


def judge(statement: Statement, margins: Mapping[str, float], seen: Measurements, error: float = ERROR) -> Judgement:
    """The verdict on a statement.

    Args:
        statement: what must hold.
        margins: its margins by name.
        seen: for each seed, what each arm scored.
        error: how often one side of an interval may miss.

    Example:
        >>> from timecell.claims import Measured, Ordering
        >>> seen = [{"new": Measured(v + 3), "old": Measured(v)} for v in (70.0, 74.0, 71.0)]
        >>> judge(Ordering("new", "old"), {"new > old": 2.0}, seen).verdict
        'holds'
        >>> judge(Ordering("new", "old"), {"new > old": 4.0}, seen).verdict
        'falls short'
    """
    findings = []
    for c in statement.contrasts(margins):
        mean, low, high = interval(*paired(c, seen), error=error)
        findings.append(Finding(c.name, mean, low, high, c.at_least, c.at_most))
    return Judgement(worst([f.verdict for f in findings]), tuple(findings), error)


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on "all of these": falls short before undecided before holds."""
    order: tuple[Verdict, ...] = ("falls short", "undecided", "holds")
    return min(verdicts, key=order.index)


def paired(contrast: Contrast, seen: Measurements) -> tuple[Float[np.ndarray, "S"], Float[np.ndarray, "S N"] | None]:
    """The contrast within each seed and, if all seeds have equally many items, within each item."""
    values = np.array([sum(w * arms[a].value for a, w in contrast.weights.items()) for arms in seen])
    items = [[arms[a].items for a in contrast.weights] for arms in seen]
    sizes = {None if i is None else len(i) for row in items for i in row}
    if None in sizes or len(sizes) > 1:
        return values, None  # no items; or as many test sets as seeds, and then the spread over seeds holds everything
    return values, np.einsum("a,sai->si", list(contrast.weights.values()), np.array(items, dtype=float))


def interval(
    values: Float[np.ndarray, "S"], items: Float[np.ndarray, "S N"] | None = None, error: float = ERROR
) -> tuple[float, float, float]:
    """Mean, lower and upper bound of a contrast over seeds and test items; a single seed bounds nothing.

    Args:
        values: the contrast under each seed.
        items: what each test item adds to it; NaN = not observed.
        error: how often each bound may miss.

    Example:
        >>> mean, low, high = interval(np.array([1.0, 2.0, 3.0]))
        >>> print(f"{mean:.2f} {low:.2f} {high:.2f}")
        2.00 0.31 3.69
    """
    S, mean = len(values), float(np.mean(values))
    if S < 2:
        return mean, -math.inf, math.inf
    variance = np.var(values, ddof=1) / S
    if items is not None:
        variance += shared_variance(items[:, ~np.isnan(items).any(axis=0)])
    half = float(stdtrit(S - 1, 1 - error) * math.sqrt(variance))
    return mean, mean - half, mean + half


def shared_variance(d: Float[np.ndarray, "S N"]) -> float:
    """What the choice of test items adds to the variance of the mean: (MS_items - MS_rest) / (S N), at least 0."""
    S, N = d.shape
    if N < 2:
        return 0.0
    by_seed, by_item, mean = d.mean(axis=1, keepdims=True), d.mean(axis=0, keepdims=True), d.mean()
    ms_items = S * float(((by_item - mean) ** 2).sum()) / (N - 1)
    ms_rest = float(((d - by_seed - by_item + mean) ** 2).sum()) / ((S - 1) * (N - 1))
    return max(0.0, ms_items - ms_rest) / (S * N)
