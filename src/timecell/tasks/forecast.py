"""`Forecast`: what comes next in a series?

A network reads `history` steps and answers at the last one with H * C' numbers: for each step of the horizon and each
target channel, how much the value will differ from the last one seen, or from the one a season before. So a network that
says zero makes the naive or the seasonal naive forecast. The task computes in whatever units the batch has; who scales
the data un-scales the answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from timecell.data.containers import AnyData, Batch, Data, Gridded, Kind, Series, with_channels
from timecell.data.splits import Splits, by_time
from timecell.errors import InputError, unknown_name
from timecell.system import Scores, System
from timecell.tasks import metrics
from timecell.tasks.forecasters import Naive, RidgeLags, SeasonalNaive
from timecell.tasks.predictions import Forecasted
from timecell.tasks.readout import last, lengths, span
from timecell.tasks.truth import future, naive_scale, of_kind, require_shape, windowed

Error = Literal["absolute", "huber"]
LOSSES: dict[Error, Callable[..., Tensor]] = {"absolute": F.l1_loss, "huber": F.huber_loss}


@dataclass(frozen=True)
class Forecast:
    """The next `horizon` steps of some channels, from the last `history` steps of all.

    In the splits, the channels to forecast come first: they are the first C' of the inputs' channels. So the loss
    finds a target's last value without a list of names.

    Attributes:
        history: input steps; None = two seasons where the season is known, else twice the horizon but at least 32
            steps; in any case no more than a quarter of the series.
        horizon: steps to forecast.
        targets: names of the channels to forecast; () = all.
        error: what is minimised, "absolute" or "huber" (quadratic within one unit).
        season: a network answers with the change from the last `season` steps of the input, repeated over the horizon;
            1 = from the last value. At most the history; see `seasonal`.

    Raises:
        InputError: an attribute is out of its range.

    Example:
        >>> import torch
        >>> batch = Batch(torch.ones(1, 5, 2), target=torch.tensor([[[3.0], [torch.nan]]]))
        >>> task = Forecast(horizon=2)
        >>> y = torch.zeros(1, 5, 2)
        >>> task.loss(y, batch, slice(0, 5)).item(), task.scores_from_outputs(y, batch).tolist()
        (1.0, [[[1.0], [1.0]]])
    """

    history: int | None = None
    horizon: int = 24
    targets: tuple[str, ...] = ()
    error: Error = "absolute"
    season: int = 1

    name: ClassVar[str] = "forecast"
    kind: ClassVar[Kind] = "series"
    needs_whole: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        if self.error not in get_args(Error):
            raise unknown_name("error", self.error, get_args(Error))
        for field, steps in (("history", self.history), ("horizon", self.horizon), ("season", self.season)):
            if steps is not None and steps < 1:
                raise InputError(field, found=steps, expected="at least 1 step", remedy=f"pass a positive {field}")
        if self.history is not None:
            self._require_season(self.history)

    def seasonal(self, series: Series) -> Forecast:
        """The same task with the season that the series' schema knows, if one fits into the history; else with 1.

        Example:
            >>> import numpy as np
            >>> from timecell.data.containers import Schema
            >>> hourly = Series(np.zeros((960, 1)), Schema("series", ("load",), period=24))
            >>> Forecast().seasonal(hourly).season, Forecast(history=12).seasonal(hourly).season
            (24, 1)
        """
        plain = replace(self, season=1)
        period = series.schema.period or 1
        return replace(plain, season=period) if period <= plain._history(series) else plain

    def split(self, data: AnyData, seed: int = 0) -> Splits:
        """Windows whose targets lie in the first 65 % of the series, the next 15 %, the last 20 %; nothing is drawn.

        Raises:
            InputError: the data are no series, a target is no channel, the series is too short or never changes.
        """
        series = of_kind(data, Series, "a Series", "many short ones are for ShortTerm, labelled sequences for Classify")
        series, targets = self.targets_first(series)
        splits = by_time(series, self._history(series), self.horizon, targets=targets)
        naive_scale(windowed(splits.valid))  # raises now what scoring would raise after the fits
        return splits

    def score(self, prediction: Forecasted, data: Data) -> Scores:
        """MASE ranks; the items are each window's part of it, NaN for a window that nothing is known of.

        Raises:
            InputError: the prediction is of other windows, or no target is observed.
        """
        windows = windowed(data)
        truth = future(windows)
        require_shape(prediction.values, truth)
        values, items = metrics.forecasting(prediction, truth, naive_scale(windows))
        return Scores(values, "mase", False, items, blocks=windows.starts // windows.horizon)

    def baselines(self) -> list[System]:
        """The last value, the last season, ridge regression on lags."""
        return [Naive(), SeasonalNaive(), RidgeLags()]

    def outputs(self, data: Data) -> int:
        """H * C': one unit for each step of the horizon and each target channel."""
        return self.horizon * len(self._leading(data))

    def loss(self, y: Float[Tensor, "B t K"], batch: Batch, steps: slice) -> Float[Tensor, ""]:
        """Mean error over windows, steps and channels, in the batch's units; all of it comes from the last step.

        What is not observed costs nothing, and counts in the mean as if it were right.

        Args:
            y: outputs of the network at these steps.
            batch: the whole batch, with targets.
            steps: which of its steps y holds.

        Raises:
            InputError: there are no targets, y does not fit the slice, or the windows are shorter than the season.
        """
        if batch.target is None:
            raise InputError("batch.target", found="None", expected="[B, H, C'] future values", remedy="pass windows")
        answer, here = self._answer(y, batch, steps)
        target = batch.target[here]
        error = LOSSES[self.error](answer, target.nan_to_num(), reduction="none")
        return torch.where(target.isnan(), 0.0, error).sum() / batch.target.numel()

    def scores_from_outputs(self, y: Float[Tensor, "B T K"], batch: Batch) -> Float[Tensor, "B H C"]:
        """Forecast values in the batch's units from the outputs of all steps."""
        return self._answer(y, batch, slice(None))[0]

    def prediction(self, answers: Float[Tensor, "N H C"], data: Data) -> Forecasted:
        """The forecasts of all windows."""
        self._leading(data)
        return Forecasted(answers.detach().cpu().double().numpy())

    def calibration(self, prediction: Forecasted, data: Data) -> Float[np.ndarray, "H C Q"] | None:
        """How far the truth lies from the forecasts of these (validation) data, at `metrics.LEVELS`; None where a step
        of some channel is never observed."""
        return metrics.spread(prediction.values, future(windowed(data)))

    def calibrated(self, prediction: Forecasted, residuals: Float[np.ndarray, "H C Q"]) -> Forecasted:
        """The forecasts with these quantiles around them."""
        return prediction.widened(residuals, metrics.LEVELS)

    def _answer(self, y: Tensor, batch: Batch, steps: slice) -> tuple[Float[Tensor, "b H C"], Bool[Tensor, "B"]]:
        """Forecasts of the windows whose last step lies in the slice, and which these are."""
        change, here = last(y, batch, span(y, batch, steps))
        change = change.unflatten(1, (self.horizon, -1))
        if self.season > 1:
            self._require_season(int(lengths(batch).min()))
        back = (
            self.season - torch.arange(self.horizon, device=y.device) % self.season
        )  # from the first step to forecast
        at = lengths(batch)[here, None] - back
        windows = torch.arange(len(batch), device=y.device)[here, None]
        return batch.x[windows, at, : change.shape[2]] + change, here

    def targets_first(self, data: Gridded) -> tuple[Gridded, tuple[int, ...]]:
        """The data with the channels to forecast in front, and their numbers there.

        Raises:
            InputError: a target is no channel.
        """
        channels = data.schema.channels
        for name in self.targets:
            if name not in channels:
                raise unknown_name("targets", name, channels)
        first = self.targets or channels
        order = [channels.index(name) for name in (*first, *(c for c in channels if c not in first))]
        return with_channels(data, order), tuple(range(len(first)))

    def _leading(self, data: Data) -> list[int]:
        """The numbers of the target channels, known to be the first ones."""
        found = windowed(data).target_channels
        if found != list(range(len(found))):
            raise InputError(
                "data.targets",
                found=found,
                expected="the first channels of the series",
                remedy="cut the windows with Forecast(...).split, which puts them first",
            )
        return found

    def _history(self, series: Series) -> int:
        """Input steps as asked for, or the default."""
        season = series.schema.period
        default = 2 * season if season else max(2 * self.horizon, 32)
        history = self.history or max(1, min(default, len(series) // 4))
        self._require_season(history)
        return history

    def _require_season(self, history: int) -> None:
        if self.season > history:
            raise InputError(
                "season", found=self.season, expected=f"at most the history, {history} steps",
                remedy="lengthen the history, or pass season=1",
            )  # fmt: skip
