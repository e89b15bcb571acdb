"""What a comparison found: `Row`s ranked best first, who could not take part and why, and a bootstrap that says which
differences are real.

Everything here is plain data: `Comparison.to_json` holds every number a report shows, and the test predictions that
its figures of errors are drawn from travel beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from timecell.compare.settings import Settings


@dataclass(frozen=True)
class Trial:
    """One setting of the hyperparameters and its validation score; `error` where the fit failed instead."""

    hyperparameters: Mapping[str, Any]
    score: float | None
    error: str | None = None


@dataclass(frozen=True)
class Behind:
    """How much worse than the best row: the mean difference and its 95 % bootstrap interval, in units of the metric.

    Positive is worse, whichever way the metric points.
    """

    mean: float
    low: float
    high: float

    @property
    def distinguishable(self) -> bool:
        """True if the interval does not hold zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Row:
    """One system's result.

    Attributes:
        slug, title, summary, family: from its card.
        values: primary metric on the test set, one a seed.
        metrics: every metric on the test set, one value a seed.
        hyperparameters: the chosen ones.
        trials: all that were tried, in order.
        valid: validation score of the chosen trial.
        valid_metric: what that is a score of; without labels it may be another metric than on the test part.
        behind: difference from the best row; None for the best row itself and where items were not scored one by one.
        seconds: mean wall time of a refit, while other fits ran beside it.
        report: what the first seed's fit says of itself: parameters, curves, synaptic operations, ...
    """

    slug: str
    title: str
    summary: str
    family: str
    values: tuple[float, ...]
    metrics: Mapping[str, tuple[float, ...]]
    hyperparameters: Mapping[str, Any]
    trials: tuple[Trial, ...]
    valid: float
    valid_metric: str
    seconds: float
    report: Mapping[str, Any]
    behind: Behind | None = None

    @property
    def metric(self) -> float:
        """Mean of the primary metric over seeds."""
        return float(np.mean(self.values))

    @property
    def spread(self) -> float:
        """Standard deviation of the primary metric over seeds; zero for a single seed."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else 0.0

    @property
    def is_baseline(self) -> bool:
        """True for the simple methods that networks must beat."""
        return self.family == "baseline"


@dataclass(frozen=True)
class Rejected:
    """A system that does not accept these data, with its reason."""

    slug: str
    title: str
    reason: str


@dataclass(frozen=True)
class Failed:
    """A system that raised: where in the protocol, and what."""

    slug: str
    title: str
    stage: str
    error: str
    traceback: str


@dataclass(frozen=True)
class Comparison:
    """The outcome of `compare`: rows best first, and all that is needed to read them.

    Attributes:
        task: its name; `question` is its description in full.
        metric: name of the primary metric.
        higher_is_better: its direction.
        rows: one a system, best mean first.
        rejected, failed: systems without a row, and why.
        data: kind, channels, classes, sizes of the parts, fingerprint, ...
        settings: the budget.
        versions: of timecell and of what it stands on.
        seconds: wall time of all of it.
        predictions: slug -> named arrays of the first seed's test prediction (not part of the JSON).
    """

    task: str
    question: str
    metric: str
    higher_is_better: bool
    rows: tuple[Row, ...]
    rejected: tuple[Rejected, ...]
    failed: tuple[Failed, ...]
    data: Mapping[str, Any]
    settings: Settings
    versions: Mapping[str, str]
    seconds: float
    predictions: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict, repr=False)

    def to_json(self) -> dict[str, Any]:
        """All but the predictions, as JSON values; a number that is not finite becomes None."""
        whole = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "predictions"}
        whole["rows"] = [asdict(r) | {"metric": r.metric, "spread": r.spread} for r in self.rows]
        return plain(whole)


def plain(value: Any) -> Any:
    """The same value in JSON's types: tuples become lists, numpy numbers Python's, NaN and infinity None.

    Example:
        >>> plain({"loss": np.float32(0.5), "lengths": (3, 4), "best": float("nan")})
        {'loss': 0.5, 'lengths': [3, 4], 'best': None}
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if hasattr(value, "__dataclass_fields__"):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    return str(value)


def differences(
    items: Sequence[Float[np.ndarray, "S N"]],
    blocks: Int[np.ndarray, " N"],
    higher_is_better: bool,
    draws: int = 2000,
) -> list[Behind]:
    """How far each row lies behind the first one, by a bootstrap over seeds and test items.

    Every draw takes seeds and items with replacement, the same ones for all rows, so what makes an item hard for
    everybody cancels. Items of one block (windows that overlap) are taken together, since they are not independent.

    Args:
        items: per row, the primary metric's contribution of each test item under each seed; NaN = not observed.
        blocks: block number of each item.
        higher_is_better: direction of the metric.
        draws: bootstrap draws.

    Example:
        >>> better, worse = np.ones((2, 50)), np.zeros((2, 50))
        >>> differences([better, worse], np.arange(50), higher_is_better=True)[1]
        Behind(mean=1.0, low=1.0, high=1.0)
    """
    values = np.stack(items)  # [R, S, N]
    seen = ~np.isnan(values).any(axis=(0, 1))
    _, block = np.unique(blocks[seen], return_inverse=True)
    gap = (values[:1] - values)[:, :, seen] * (1.0 if higher_is_better else -1.0)
    size = np.bincount(block).astype(float)
    total = np.stack([[np.bincount(block, weights=seed) for seed in row] for row in gap])  # [R, S, blocks]
    rng = np.random.default_rng(0)
    means = np.empty((draws, len(items)))
    for d in range(draws):
        times = np.bincount(rng.integers(len(size), size=len(size)), minlength=len(size))
        seeds = rng.integers(values.shape[1], size=values.shape[1])
        means[d] = (total @ times)[:, seeds].mean(axis=1) / (size @ times)
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    centre = gap.mean(axis=(1, 2))
    return [Behind(float(c), float(a), float(b)) for c, a, b in zip(centre, low, high)]
