"""The baselines of `Forecast`: the last value, the last season, ridge regression on lags."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Float

from timecell.data.containers import Data, Schema, Windows, fill_forward
from timecell.errors import InputError
from timecell.system import Card, Run, Task
from timecell.tasks.fitted import FittedArrays
from timecell.tasks.metrics import LEVELS, spread
from timecell.tasks.predictions import Forecasted
from timecell.tasks.ridge import ridge_path
from timecell.tasks.truth import future, past, windowed

MAX_WINDOWS = 10_000  # that ridge regression is fitted on, evenly spaced; neighbours overlap in all but one step
MAX_LAGGED = 2_000  # values of the past in its input, all channels together
HARMONICS = 5  # of the season


@dataclass(frozen=True)
class _Baseline:
    card: ClassVar[Card]

    def accepts(self, schema: Schema, task: Task) -> str | None:
        """Windows of a series, or of many short ones."""
        return None if task.name in ("forecast", "short-term") else f"it forecasts, and the task is {task.name}"

    def space(self) -> Mapping[str, Sequence[Any]]:
        """Nothing to tune."""
        return {}


@dataclass(frozen=True)
class FittedForecaster(FittedArrays):
    """A forecaster with quantiles around its forecasts, taken like any other system's from its validation errors.

    Attributes:
        residuals: [H, C', Q] how far the validation targets lay from the forecasts; None where that is not known.
    """

    residuals: Float[np.ndarray, "H C Q"] | None

    def points(self, windows: Windows) -> Float[np.ndarray, "N H C"]:
        """[N, H, C'] forecasts."""
        raise NotImplementedError

    def predict(self, data: Data) -> Forecasted:
        """[N, H, C'] forecasts with their quantiles.

        Raises:
            InputError: the windows are not like those of training.
        """
        forecast = Forecasted(self.points(windowed(data)))
        if self.residuals is None:
            return forecast
        if forecast.values.shape[1:] != self.residuals.shape[:2]:
            raise InputError(
                "data", found="windows of {} steps and {} channels to forecast".format(*forecast.values.shape[1:]),
                expected="{} and {}, as in training".format(*self.residuals.shape[:2]),
                remedy="cut the series as for training",
            )  # fmt: skip
        return forecast.widened(self.residuals, LEVELS)

    def with_quantiles(self, valid: Data) -> Self:
        """The same with quantiles from its errors on these data."""
        windows = windowed(valid)
        return replace(self, residuals=spread(self.points(windows), future(windows)))


@dataclass(frozen=True)
class Repeated(FittedForecaster):
    """The last `period` steps of the input, again and again; gaps are filled from the seasons before."""

    period: int

    def points(self, windows: Windows) -> Float[np.ndarray, "N H C"]:
        """[N, H, C'] forecasts.

        Raises:
            InputError: a window is shorter than the period.
        """
        if windows.history < self.period:
            raise InputError(
                "data.history",
                found=windows.history,
                expected=f"at least one season, {self.period} steps",
                remedy="cut longer windows",
            )
        season = np.concatenate([_last_season(windows.select(i), self.period) for i in _chunks(len(windows))])
        ahead = np.arange(windows.horizon) % self.period
        return season[:, ahead][:, :, windows.target_channels]


@dataclass(frozen=True)
class Naive(_Baseline):
    """The last value seen, at every step of the horizon.

    Example:
        >>> from timecell.data.containers import Series
        >>> from timecell.tasks.forecast import Forecast
        >>> series = Series(np.arange(8.0)[:, None], Schema("series", ("x",)))
        >>> windows = Windows(series, history=4, horizon=2, starts=np.array([0]))
        >>> Naive().fit(windows, windows, Forecast(), Run()).predict(windows).values[0, :, 0].tolist()
        [3.0, 3.0]
    """

    card = Card("naive", "Last value", "Answers with the last value seen.", "baseline")

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> Repeated:
        """Nothing to learn but how far off it is."""
        return Repeated(self.card, 0.0, residuals=None, period=1).with_quantiles(valid)


@dataclass(frozen=True)
class SeasonalNaive(_Baseline):
    """The value of one season before, at every step of the horizon.

    Example:
        >>> from timecell.data.containers import Series
        >>> from timecell.tasks.forecast import Forecast
        >>> series = Series(np.arange(8.0)[:, None] % 3, Schema("series", ("x",), period=3))
        >>> windows = Windows(series, history=4, horizon=4, starts=np.array([0]))
        >>> SeasonalNaive().fit(windows, windows, Forecast(), Run()).predict(windows).values[0, :, 0].tolist()
        [1.0, 2.0, 0.0, 1.0]
    """

    card = Card("seasonal-naive", "Last season", "Answers with the value of one season before.", "baseline")

    def accepts(self, schema: Schema, task: Task) -> str | None:
        """Windows that hold a season of known length."""
        if schema.period is None:
            return super().accepts(schema, task) or "the length of a season is unknown"
        if schema.lengths[0] < schema.period:
            return super().accepts(schema, task) or (
                f"a season of {schema.period} steps is longer than the {schema.lengths[0]} steps of a window"
            )
        return super().accepts(schema, task)

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> Repeated:
        """Take the season from the schema.

        Raises:
            InputError: the schema has none.
        """
        if train.schema.period is None:
            raise InputError("schema.period", found="None", expected="steps in a season", remedy="set it, or use Naive")
        return Repeated(self.card, 0.0, residuals=None, period=train.schema.period).with_quantiles(valid)


@dataclass(frozen=True)
class LaggedForecaster(FittedForecaster):
    """A linear map of the lags of all channels and of the phase of the season.

    Attributes:
        lags: last steps of the input that are seen.
        horizon: H.
        period: steps in a season; None = the phase is not used.
        rate: steps per second, where the series has time stamps; else None, and the phase is counted from the
            series' start.
        weight: [F, H * C'].
        bias: [H * C'].
    """

    lags: int
    horizon: int
    period: int | None
    rate: float | None
    weight: Float[np.ndarray, "F O"]
    bias: Float[np.ndarray, "O"]

    def points(self, windows: Windows) -> Float[np.ndarray, "N H C"]:
        """[N, H, C'] forecasts.

        Raises:
            InputError: the windows have another horizon, other channels, or fewer steps than the lags.
        """
        channels, targets = windows.series.values.shape[1], len(windows.target_channels)
        found = windows.horizon, self.lags <= windows.history, len(self.weight), len(self.bias)
        features = self.lags * channels + len(_phase_features(self.period, np.zeros(1))[0])
        if found != (self.horizon, True, features, self.horizon * targets):
            raise InputError(
                "data",
                found=f"windows of {windows.history} + {windows.horizon} steps, {channels} channels, {targets} targets",
                expected=f"at least {self.lags} + exactly {self.horizon} steps and the channels of the training data",
                remedy="cut the series as for training",
            )
        return np.concatenate([self._forecast(windows.select(i)) for i in _chunks(len(windows))])

    def _forecast(self, windows: Windows) -> Float[np.ndarray, "N H C"]:
        x, last = inputs(windows, self.lags, self.period, self.rate)
        change = x @ self.weight + self.bias
        return last[:, None] + change.reshape(len(x), self.horizon, -1)


@dataclass(frozen=True)
class RidgeLags(_Baseline):
    """Ridge regression of all steps of the horizon on the lags of all channels and the phase of the season.

    It forecasts the change from the last value seen, so that a strong penalty leads to the naive forecast. The penalty
    is chosen on the validation data, since the whole path of them costs hardly more than one. It is fitted on at most
    10,000 evenly spaced training windows, and sees at most 2,000 past values.

    Attributes:
        lags: last steps of the window that are seen, at most; None = all.

    Example:
        >>> from timecell.data.containers import Series
        >>> from timecell.tasks.forecast import Forecast
        >>> series = Series(np.sin(np.arange(200.0) * 0.3)[:, None], Schema("series", ("x",)))
        >>> windows = Windows(series, history=10, horizon=2, starts=np.arange(100))
        >>> fitted = RidgeLags().fit(windows, windows, Forecast(), Run())
        >>> bool(np.abs(fitted.predict(windows).values - future(windows)).max() < 1e-2)
        True
    """

    lags: int | None = None

    card = Card("ridge-lags", "Ridge on lags", "Ridge regression on all lags and the season's phase.", "baseline")

    def __post_init__(self) -> None:
        if self.lags is not None and self.lags < 1:
            raise InputError("lags", found=self.lags, expected="at least 1, or None", remedy="try lags=24")

    def space(self) -> Mapping[str, Sequence[Any]]:
        """How far it looks back."""
        return {"lags": (None, 4, 12, 24, 48)}

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> LaggedForecaster:
        """Solve for a path of penalties and keep the one with the least absolute error on the validation windows.

        Raises:
            InputError: there is no observed target to fit on or to choose by.
        """
        start = time.perf_counter()
        windows, unseen = windowed(train), windowed(valid)
        channels = windows.series.values.shape[1]
        lags = min(self.lags or windows.history, windows.history, max(1, MAX_LAGGED // channels))
        period = windows.schema.period
        rate = None if windows.series.time is None else windows.schema.rate

        windows = windows.select(np.arange(0, len(windows), -(-len(windows) // MAX_WINDOWS)))
        x, last = inputs(windows, lags, period, rate)
        change = future(windows) - last[:, None]
        spread = _spread(change)
        path = ridge_path(x, (change / spread).reshape(len(x), -1))

        x_valid, last_valid = inputs(unseen, lags, period, rate)
        truth = ((future(unseen) - last_valid[:, None]) / spread).reshape(len(x_valid), -1)
        seen = ~np.isnan(truth)
        if not seen.any():
            raise InputError(
                "valid",
                found="no observed target",
                expected="at least one to choose the penalty by",
                remedy="choose a part without this gap",
            )
        best = min(path, key=lambda linear: np.abs(linear(x_valid) - truth)[seen].mean())
        unit = np.tile(spread, windows.horizon)
        fitted = LaggedForecaster(
            card=self.card,
            seconds=time.perf_counter() - start,
            residuals=None,
            lags=lags,
            horizon=windows.horizon,
            period=period,
            rate=rate,
            weight=best.weight * unit,
            bias=best.bias * unit,
        )
        return fitted.with_quantiles(valid)


def inputs(
    windows: Windows, lags: int, period: int | None, rate: float | None
) -> tuple[Float[np.ndarray, "N F"], Float[np.ndarray, "N K"]]:
    """What ridge regression sees of each window, and the last values [N, C'] of the channels to forecast.

    The last value of each channel, how the lags before it differ from it, and the phase of the season.
    """
    recent = np.concatenate([past(windows.select(i))[:, -lags:] for i in _chunks(len(windows))])
    last = recent[:, -1]
    earlier = (recent[:, :-1] - last[:, None]).reshape(len(recent), -1)
    x = np.concatenate([last, earlier, _phase_features(period, _origins(windows, rate))], axis=1)
    return x, last[:, windows.target_channels]


def _last_season(windows: Windows, period: int) -> Float[np.ndarray, "N P C"]:
    """The last `period` steps; a value that was missed is that of the season before, as far as the window goes."""
    N, L, C = len(windows), windows.history, windows.series.values.shape[1]
    at = windows.starts[:, None] + np.arange(L % period, L)
    seasons = windows.series.values[at].reshape(N, L // period, period * C)
    never_seen = np.isnan(seasons).all(axis=1)
    simply_last = past(windows)[:, -period:].reshape(N, period * C)
    return np.where(never_seen, simply_last, fill_forward(seasons)[:, -1]).reshape(N, period, C)


def _phase_features(period: int | None, step: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N P"]:
    """Sine and cosine of the season's first harmonics."""
    harmonics = np.arange(1, min(HARMONICS, (period or 0) // 2) + 1)
    angle = 2 * np.pi * step[:, None] * harmonics / (period or 1)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


def _origins(windows: Windows, rate: float | None) -> Float[np.ndarray, "N"]:
    """The last step of each input, counted from the zero of the clock, or from the series' start without one."""
    at = windows.starts + windows.history - 1
    if rate is None:
        return at.astype(np.float64)
    if windows.series.time is None:
        raise InputError(
            "data.series.time",
            found="None",
            expected="time stamps as in the training data",
            remedy="name the time column when loading",
        )
    return windows.series.time[at] * rate


def _spread(change: Float[np.ndarray, "N H C"]) -> Float[np.ndarray, "C"]:
    """Root mean square of the observed changes of each channel; 1 where there are none."""
    seen = ~np.isnan(change)
    square = np.where(seen, change, 0) ** 2
    mean = square.sum(axis=(0, 1)) / np.maximum(seen.sum(axis=(0, 1)), 1)
    return np.where(mean > 0, np.sqrt(mean), 1.0)


def _chunks(items: int, size: int = 4096) -> Iterator[np.ndarray]:
    return (np.arange(start, min(start + size, items)) for start in range(0, items, size))
