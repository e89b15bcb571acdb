"""The baselines of `Detect`: random scores, distances from the season's mean, from a linear forecast, from the past."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Float, Int

from timecell.data.containers import Data, Schema, fill_forward
from timecell.data.stretches import Stretches
from timecell.errors import InputError
from timecell.system import Card, Run, Task
from timecell.tasks.fitted import FittedArrays
from timecell.tasks.predictions import AnomalyScores
from timecell.tasks.ridge import ridge_path
from timecell.tasks.truth import stretches

MAX_PATTERNS = 2_000  # pieces of the training part that are remembered, evenly spaced
MAX_STEPS = 10_000  # that a regression is fitted on, evenly spaced
MAX_FEATURES = 500  # lags of all channels


@dataclass(frozen=True)
class FittedDetector(FittedArrays):
    """Scores every step by what it differs from.

    Attributes:
        threshold: above which a score is an alarm; None until it is calibrated.
    """

    threshold: float | None

    def scores(self, part: Stretches) -> Float[np.ndarray, "S"]:
        """Of the steps that count."""
        raise NotImplementedError

    def predict(self, data: Data) -> AnomalyScores:
        """Scores, NaN where nothing was observed, with the threshold.

        Raises:
            InputError: the data have another number of channels.
        """
        part = stretches(data)
        unseen = np.isnan(part.series.values[part.covered]).all(axis=1)
        return AnomalyScores(np.where(unseen, np.nan, self.scores(part)), self.threshold)

    def calibrated(self, valid: Data, task: Any, start: float) -> Self:
        """The same with the task's threshold for its scores of these data, and the time since the start."""
        threshold = float(task.calibration(self.predict(valid), valid)[0])
        return replace(self, threshold=threshold, seconds=time.perf_counter() - start)


@dataclass(frozen=True)
class _Baseline:
    card: ClassVar[Card]

    def accepts(self, schema: Schema, task: Task) -> str | None:
        """Stretches of a series."""
        return None if task.name == "detect" else f"it detects anomalies, and the task is {task.name}"

    def space(self) -> Mapping[str, Sequence[Any]]:
        """Nothing to tune."""
        return {}

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> FittedDetector:
        """Learn what is normal; the validation data set the threshold."""
        start = time.perf_counter()
        return self.fitted(stretches(train), stretches(valid), run).calibrated(valid, task, start)

    def fitted(self, train: Stretches, valid: Stretches, run: Run) -> FittedDetector:
        """What is normal."""
        raise NotImplementedError


# --- chance -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dice(FittedDetector):
    """Uniform random numbers.

    Attributes:
        seed: of them.
    """

    seed: int

    def scores(self, part: Stretches) -> Float[np.ndarray, "S"]:
        """[S]."""
        return np.random.default_rng(self.seed).random(part.covered.stop - part.covered.start)


@dataclass(frozen=True)
class RandomScores(_Baseline):
    """What anything must beat.

    Example:
        >>> from timecell.data.containers import Series
        >>> from timecell.tasks.detect import Detect
        >>> values = np.sin(0.3 * np.arange(400.0))
        >>> values[300] = 5.0
        >>> task = Detect(history=20)
        >>> parts = task.split(Series(values[:, None], Schema("series", ("x",), period=21)))
        >>> for system in task.baselines()[1:]:
        ...     found = system.fit(parts.train, parts.valid, task, Run()).predict(parts.test)
        ...     print(system.card.slug, 0 <= found.scores.argmax() + parts.test.covered.start - 300 < 24)
        seasonal-distance True
        ridge-residual True
        nearest-past True
    """

    card = Card("random-scores", "Random scores", "Scores drawn at random.", "baseline")

    def fitted(self, train: Stretches, valid: Stretches, run: Run) -> Dice:
        """Nothing to learn."""
        return Dice(self.card, 0.0, None, run.seed)


# --- the season's mean ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SeasonalMean(FittedDetector):
    """Squared distance from the mean of the step's phase in the season, in units of its training mean.

    Attributes:
        mean: [P, C] of each phase.
        power: [C] mean squared distance on the training data.
    """

    mean: Float[np.ndarray, "P C"]
    power: Float[np.ndarray, "C"]

    def scores(self, part: Stretches) -> Float[np.ndarray, "S"]:
        """[S]."""
        values = observed(part, len(self.power))
        return scaled(values - self.mean[phase(part, len(self.mean))], self.power)


@dataclass(frozen=True)
class SeasonalDistance(_Baseline):
    """The mean of each phase of the season; without a season, of the whole training part."""

    card = Card("seasonal-distance", "Distance from the season", "How far from the mean of its phase.", "baseline")

    def fitted(self, train: Stretches, valid: Stretches, run: Run) -> SeasonalMean:
        """Average the seasons."""
        values = observed(train, train.series.values.shape[1])
        period = train.series.schema.period or 1
        at = phase(train, period)
        whole = _mean(values)
        mean = np.stack([_mean(values[at == p], whole) for p in range(period)])
        return SeasonalMean(self.card, 0.0, None, mean, _power(values - mean[at]))


# --- a linear forecast ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LinearForecast(FittedDetector):
    """Squared error of a linear forecast of the next step, in units of its mean on the training data.

    Attributes:
        lags: steps that it sees.
        weight: [lags * C, C].
        bias: [C].
        power: [C] mean squared error on the training data.
    """

    lags: int
    weight: Float[np.ndarray, "F C"]
    bias: Float[np.ndarray, "C"]
    power: Float[np.ndarray, "C"]

    def scores(self, part: Stretches) -> Float[np.ndarray, "S"]:
        """[S]."""
        values = observed(part, len(self.power))
        steps = np.arange(part.covered.start, part.covered.stop)
        return scaled(values - (before(part, steps, self.lags) @ self.weight + self.bias), self.power)


@dataclass(frozen=True)
class NextStepRidge(_Baseline):
    """Ridge regression of each step on those before it; the penalty is chosen on the validation data.

    Attributes:
        lags: steps that are seen; fewer where all channels together would make more than 500 features.
    """

    lags: int = 24

    card = Card("ridge-residual", "Ridge residual", "The error of a linear forecast of the next step.", "baseline")

    def space(self) -> Mapping[str, Sequence[Any]]:
        """How far it looks back."""
        return {"lags": (1, 4, 12, 24, 48)}

    def fitted(self, train: Stretches, valid: Stretches, run: Run) -> LinearForecast:
        """Solve for a path of penalties."""
        lags = max(1, min(self.lags, MAX_FEATURES // train.series.values.shape[1]))
        x, y = _pairs(train, lags)
        x_valid, y_valid = _pairs(valid, lags)
        seen = ~np.isnan(y_valid)
        best = min(ridge_path(x, y), key=lambda linear: float(((linear(x_valid) - y_valid)[seen] ** 2).mean()))
        return LinearForecast(self.card, 0.0, None, lags, best.weight, best.bias, _power(best(x) - y))


# --- the nearest past -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Patterns(FittedDetector):
    """Distance of the last steps from the most similar piece of the training part.

    Attributes:
        steps: of a piece.
        spread: [C] standard deviation of each channel in training.
        known: [M, steps * C] pieces of the training part, in units of the spread.
    """

    steps: int
    spread: Float[np.ndarray, "C"]
    known: Float[np.ndarray, "M F"]

    def scores(self, part: Stretches) -> Float[np.ndarray, "S"]:
        """[S]."""
        from sklearn.neighbors import NearestNeighbors

        observed(part, len(self.spread))
        at = np.arange(part.covered.start, part.covered.stop)
        nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(self.known)
        return nearest.kneighbors(pieces(part, at, self.steps, self.spread))[0][:, 0]


@dataclass(frozen=True)
class NearestNeighbour(_Baseline):
    """How unlike anything in the training part the last steps are; in the spirit of the matrix profile (Yeh et al., 2016),
    but looking back only.

    Attributes:
        steps: of the pieces that are compared.
    """

    steps: int = 24

    card = Card("nearest-past", "Nearest past", "The distance from the most similar piece of the past.", "baseline")

    def space(self) -> Mapping[str, Sequence[Any]]:
        """How long the pieces are."""
        return {"steps": (4, 12, 24, 48, 96)}

    def fitted(self, train: Stretches, valid: Stretches, run: Run) -> Patterns:
        """Remember."""
        values = observed(train, train.series.values.shape[1])
        deviation = np.sqrt(_power(values - _mean(values)))
        at = np.arange(min(train.covered.start + self.steps - 1, train.covered.stop - 1), train.covered.stop)
        at = at[:: -(-len(at) // MAX_PATTERNS)]
        return Patterns(self.card, 0.0, None, self.steps, deviation, pieces(train, at, self.steps, deviation))


# --- what they share --------------------------------------------------------------------------------------------------


def observed(part: Stretches, channels: int) -> Float[np.ndarray, "S C"]:
    """The steps that count, NaN where nothing was observed.

    Raises:
        InputError: there are other channels than in training.
    """
    values = part.series.values[part.covered].astype(np.float64)
    if values.shape[1] != channels:
        raise InputError("data", found=f"{values.shape[1]} channels", expected=f"{channels}, as in training",
                         remedy="load the same columns as for training")  # fmt: skip
    return values


def scaled(error: Float[np.ndarray, "S C"], power: Float[np.ndarray, "C"]) -> Float[np.ndarray, "S"]:
    """Mean over observed channels of the squared error, in units of what it is in training."""
    seen = ~np.isnan(error)
    return np.where(seen, error**2 / power, 0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)


def phase(part: Stretches, period: int) -> Int[np.ndarray, "S"]:
    """Where in the season a step lies: by the clock if there is one, else counted from the record's beginning."""
    series, steps = part.series, np.arange(part.covered.start, part.covered.stop)
    if series.time is not None and series.schema.rate:
        steps = np.round(series.time[steps] * series.schema.rate).astype(np.int64)
    return steps % period


def before(part: Stretches, steps: Int[np.ndarray, "S"], lags: int) -> Float[np.ndarray, "S F"]:
    """[S, lags * C] the steps before each of these, the latest first; gaps are filled, and the beginning repeated."""
    filled = fill_forward(part.series.values[None].astype(np.float64))[0]
    return filled[(steps[:, None] - 1 - np.arange(lags)).clip(0)].reshape(len(steps), -1)


def pieces(
    part: Stretches, last: Int[np.ndarray, "S"], steps: int, spread: Float[np.ndarray, "C"]
) -> Float[np.ndarray, "S F"]:
    """Pieces of the record that end with these steps, in units of the spread."""
    return before(part, last + 1, steps) / np.tile(spread, steps)


def _pairs(part: Stretches, lags: int) -> tuple[Float[np.ndarray, "S F"], Float[np.ndarray, "S C"]]:
    steps = np.arange(part.covered.start, part.covered.stop)
    steps = steps[:: -(-len(steps) // MAX_STEPS)]
    steps = steps[~np.isnan(part.series.values[steps]).all(axis=1)]
    return before(part, steps, lags), part.series.values[steps].astype(np.float64)


def _mean(values: Float[np.ndarray, "S C"], otherwise: np.ndarray | float = 0.0) -> Float[np.ndarray, "C"]:
    """Of each channel's observed values."""
    count = (~np.isnan(values)).sum(axis=0)
    return np.where(count > 0, np.nansum(values, axis=0) / np.maximum(count, 1), otherwise)


def _power(error: Float[np.ndarray, "S C"]) -> Float[np.ndarray, "C"]:
    """Mean square of each channel; 1 where it is nothing."""
    power = _mean(error**2)
    return np.where(power > 0, power, 1.0)
