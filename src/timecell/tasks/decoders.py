"""The baselines of `Decode` and `CoSmoothing`: a constant, and a regression on the last steps of the inputs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from timecell.data.containers import Data, Schema, fill_forward
from timecell.data.stretches import Stretches
from timecell.errors import InputError
from timecell.system import Card, Run, Task
from timecell.tasks.fitted import FittedArrays
from timecell.tasks.predictions import Decoded, Rates
from timecell.tasks.ridge import ridge_path
from timecell.tasks.truth import stretches

MAX_FEATURES = 2_000  # lags of all inputs together
MAX_STEPS = 20_000  # that a regression is fitted on, evenly spaced
LOG_RATES = (-20.0, 10.0)  # between which a logarithm of a rate is kept
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)  # of the Poisson regression, on features of unit variance


@dataclass(frozen=True)
class _Baseline:
    card: ClassVar[Card]
    task: ClassVar[str]

    def accepts(self, schema: Schema, task: Task) -> str | None:
        """Stretches, for its own task."""
        return None if task.name == self.task else f"it is for the task {self.task}, and the task is {task.name}"

    def space(self) -> Mapping[str, Sequence[Any]]:
        """Nothing to tune."""
        return {}


@dataclass(frozen=True)
class LinearDecoder(FittedArrays):
    """An affine map of the last steps of the inputs; with no steps, a constant.

    Attributes:
        lags: steps that are seen.
        weight: [lags * C, C'].
        bias: [C'].
    """

    lags: int
    weight: Float[np.ndarray, "F K"]
    bias: Float[np.ndarray, "K"]

    def linear(self, data: Data) -> Float[np.ndarray, "N L K"]:
        """The map at every step that counts.

        Raises:
            InputError: the data have other channels than the training data.
        """
        known = stretches(data)
        if self.lags * len(known.inputs) != len(self.weight) or len(known.targets) != len(self.bias):
            raise InputError(
                "data", found=f"{len(known.inputs)} inputs and {len(known.targets)} targets",
                expected=f"as in training, with {len(self.bias)} targets", remedy="load the same channels",
            )  # fmt: skip
        at = known.starts[:, None] + np.arange(known.length)
        flat = lagged(known, at.ravel(), self.lags) @ self.weight + self.bias
        return flat.reshape(*at.shape, -1)

    def predict(self, data: Data) -> Decoded:
        """The targets."""
        return Decoded(self.linear(data))


@dataclass(frozen=True)
class RateModel(LinearDecoder):
    """exp of an affine map: the expected count of each unit in each bin."""

    def predict(self, data: Data) -> Rates:  # type: ignore[override]
        """The rates."""
        return Rates(np.exp(np.clip(self.linear(data), *LOG_RATES)))


@dataclass(frozen=True)
class MeanTarget(_Baseline):
    """The mean of each target over the training data.

    Example:
        >>> from timecell.data.containers import Series
        >>> from timecell.tasks.decode import Decode
        >>> series = Series(np.arange(80.0).reshape(40, 2) % 7, Schema("series", ("a", "b")))
        >>> parts = Decode(targets=("a",), history=4).split(series)
        >>> round(float(MeanTarget().fit(parts.train, parts.valid, Decode(), Run()).bias[0]), 2)
        2.92
    """

    card = Card("mean", "Mean", "Answers with the mean of the training data.", "baseline")
    task = "decode"

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> LinearDecoder:
        """Average."""
        mean = _means(stretches(train))
        return LinearDecoder(self.card, 0.0, 0, np.zeros((0, len(mean))), mean)


@dataclass(frozen=True)
class MeanRate(_Baseline):
    """The mean count of each unit over the training data: the score of this one is 0 bits by construction, or below."""

    card = Card("mean-rate", "Mean rate", "Each unit fires at its mean rate.", "baseline")
    task = "co-smooth"

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> RateModel:
        """Average."""
        mean = mean_counts(stretches(train))
        return RateModel(self.card, 0.0, 0, np.zeros((0, len(mean))), np.log(mean))


@dataclass(frozen=True)
class WienerFilter(_Baseline):
    """Ridge regression on the last steps of all inputs (Wiener, 1949); the penalty is chosen on the validation data.

    Attributes:
        lags: steps that are seen; fewer where all inputs together would make more than 2,000 features.
    """

    lags: int = 10

    card = Card("wiener-filter", "Wiener filter", "Ridge regression on the last steps of all inputs.", "baseline")
    task = "decode"

    def space(self) -> Mapping[str, Sequence[Any]]:
        """How far it looks back."""
        return {"lags": (1, 5, 10, 20, 40)}

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> LinearDecoder:
        """Solve for a path of penalties, keep the one with the least squared error on the validation data."""
        start = time.perf_counter()
        lags, x, y, x_valid, y_valid = _designs(train, valid, self.lags)
        seen = ~np.isnan(y_valid)
        best = min(ridge_path(x, y), key=lambda linear: float(((linear(x_valid) - y_valid)[seen] ** 2).mean()))
        return LinearDecoder(self.card, time.perf_counter() - start, lags, best.weight, best.bias)


@dataclass(frozen=True)
class PoissonRegression(_Baseline):
    """A generalised linear model of each unit: log rate = an affine map of the last steps of the inputs (Truccolo et al.,
    2005); the penalty is chosen on the validation data.

    Attributes:
        lags: steps that are seen; fewer where all inputs together would make more than 2,000 features.
    """

    lags: int = 5

    card = Card(
        "poisson-glm", "Poisson regression", "A generalised linear model on the last bins of all inputs.", "baseline"
    )
    task = "co-smooth"

    def space(self) -> Mapping[str, Sequence[Any]]:
        """How far it looks back."""
        return {"lags": (1, 3, 5, 10, 20)}

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> RateModel:
        """One regression a unit and penalty; each unit keeps the penalty with the best validation likelihood."""
        from sklearn.linear_model import PoissonRegressor

        start = time.perf_counter()
        lags, x, y, x_valid, y_valid = _designs(train, valid, self.lags)
        spread = np.where(x.std(0) > 0, x.std(0), 1.0)
        mean = mean_counts(stretches(train))
        weight, bias = np.zeros((x.shape[1], y.shape[1])), np.log(mean)
        for unit in range(y.shape[1]):
            used, checked = ~np.isnan(y[:, unit]), ~np.isnan(y_valid[:, unit])
            if not y[used, unit].any():
                continue
            best = _log_likelihood(np.full(checked.sum(), bias[unit]), y_valid[checked, unit])
            for alpha in PENALTIES:
                model = PoissonRegressor(alpha=alpha, solver="newton-cholesky").fit(x[used] / spread, y[used, unit])
                own = model.coef_ / spread
                found = _log_likelihood(x_valid[checked] @ own + model.intercept_, y_valid[checked, unit])
                if found > best:
                    best, weight[:, unit], bias[unit] = found, own, model.intercept_
        return RateModel(self.card, time.perf_counter() - start, lags, weight, bias)


def lagged(data: Stretches, at: np.ndarray, lags: int) -> Float[np.ndarray, "S F"]:
    """The last `lags` steps of the inputs, the present one first; zeros before the series begins.

    Example:
        >>> from timecell.data.containers import Series
        >>> series = Series(np.arange(6.0)[:, None], Schema("series", ("x",)))
        >>> data = Stretches(series, (0,), (0,), np.array([0]), length=6, stop=6, lag=1)
        >>> lagged(data, np.array([0, 3]), 2).tolist()
        [[0.0, 0.0], [2.0, 1.0]]
    """
    seen = at[:, None] - data.lag - np.arange(lags)
    values = fill_forward(data.series.values[None, : data.stop, list(data.inputs)])[0]
    return np.where((seen >= 0)[..., None], values[seen.clip(0, data.stop - 1)], 0.0).reshape(len(at), -1)


def _designs(train: Data, valid: Data, lags: int) -> tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Lags that are affordable; features and targets of training and validation, at most `MAX_STEPS` of each."""
    known, unseen = stretches(train), stretches(valid)
    lags = max(1, min(lags, MAX_FEATURES // len(known.inputs)))
    found: list[np.ndarray] = []
    for part in (known, unseen):
        steps = np.arange(part.covered.start, part.covered.stop)
        steps = steps[:: -(-len(steps) // MAX_STEPS)]
        y = part.series.values[steps][:, list(part.targets)].astype(np.float64)
        some = ~np.isnan(y).all(axis=1)
        found += [lagged(part, steps[some], lags), y[some]]
    return lags, found[0], found[1], found[2], found[3]


def mean_counts(data: Stretches) -> Float[np.ndarray, "K"]:
    """Mean count of each target in a bin; a unit that never fired counts as if it had, once in one bin more."""
    seen = (~np.isnan(data.truth())).sum((0, 1))
    return np.maximum(_means(data), 1 / (1 + seen))


def _means(data: Stretches) -> Float[np.ndarray, "K"]:
    """Mean of each target over the steps where it was observed."""
    truth = data.truth()
    return np.nansum(truth, (0, 1)) / np.maximum((~np.isnan(truth)).sum((0, 1)), 1)


def _log_likelihood(log_rate: np.ndarray, counts: np.ndarray) -> float:
    """Poisson's, up to what does not depend on the rate."""
    log_rate = np.clip(log_rate, *LOG_RATES)
    return float((counts * log_rate - np.exp(log_rate)).sum())
