"""`Forecast`: what comes next in a series?

A network reads `history` steps and answers at the last one with H * C' numbers: for each step of the horizon and each
target channel, how much the value will differ from the last one seen. So a network that says zero makes the naive
forecast. The task computes in whatever units the batch has; who scales the data un-scales the answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import numpy as np
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from timecell.data.containers import Batch, Data, Sequences, Series
from timecell.data.splits import by_time
from timecell.errors import InputError, unknown_name
from timecell.system import Scores, Splits, System
from timecell.tasks import metrics
from timecell.tasks.forecasters import Naive, RidgeLags, SeasonalNaive
from timecell.tasks.predictions import Forecasted
from timecell.tasks.readout import last, span
from timecell.tasks.truth import future, naive_scale, target_channels, windowed

Error = Literal["absolute", "huber"]
LOSSES = {"absolute": F.l1_loss, "huber": F.huber_loss}


@dataclass(frozen=True)
class Forecast:
    """The next `horizon` steps of some channels, from the last `history` steps of all.

    In the splits, the channels to forecast come first: they are the first C' of the inputs' channels. So the loss
    finds a target's last value without a list of names.

    Attributes:
        history: input steps; None = two seasons where the season is known, else twice the horizon but at least 32
            steps; less where the series is too short for that.
        horizon: steps to forecast.
        targets: names of the channels to forecast; () = all.
        error: what is minimised, "absolute" or "huber" (quadratic within one unit).

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

    name: ClassVar[str] = "forecast"
    needs_whole: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        if self.error not in get_args(Error):
            raise unknown_name("error", self.error, get_args(Error))
        for field, steps in (("history", self.history), ("horizon", self.horizon)):
            if steps is not None and steps < 1:
                raise InputError(field, found=steps, expected="at least 1 step", remedy=f"pass a positive {field}")
