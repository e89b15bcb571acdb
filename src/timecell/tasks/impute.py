"""`Impute`: what were the values that are missing?

Known values are hidden, singly or in gaps, and asked for. A network reads at each step the values (zero where hidden) and
for each channel whether it is seen, and answers at every step with a value for each channel. Only answers to hidden
values count. A causal network fills a gap from its past alone, one that sees the whole window from both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from timecell.data.containers import AnyData, Batch, Data, Kind
from timecell.data.masked import by_masking
from timecell.data.splits import Splits
from timecell.errors import InputError, unknown_name
from timecell.system import Scores, System
from timecell.tasks.imputers import ChannelMean, LastSeen, LinearInterpolation, RidgeNeighbours
from timecell.tasks.predictions import Imputed
from timecell.tasks.readout import span
from timecell.tasks.truth import masked, require_shape, whole_series

Error = Literal["absolute", "squared"]
LOSSES: dict[Error, Callable[..., Tensor]] = {"absolute": F.l1_loss, "squared": F.mse_loss}


@dataclass(frozen=True)
class Impute:
    """The hidden values of windows of a series.

    Attributes:
        share: of the values that is hidden, in (0, 1).
        gap: steps of a gap; 1 = single values.
        history: steps of a window; None = two seasons where the season is known, else 96, but at most a tenth of the
            series.
        error: what a network minimises, "absolute" or "squared".

    Raises:
        InputError: an attribute is out of its range.

    Example:
        >>> import torch
        >>> batch = Batch(torch.tensor([[[5.0, 1.0], [0.0, 0.0]]]), target=torch.tensor([[[torch.nan], [3.0]]]))
        >>> y, task = torch.tensor([[[9.0], [1.0]]]), Impute(share=0.5)
        >>> task.loss(y, batch, slice(0, 2)).item(), task.scores_from_outputs(y, batch).tolist()
        (2.0, [[[5.0], [1.0]]])
    """

    share: float = 0.25
    gap: int = 1
    history: int | None = None
    error: Error = "absolute"

    name: ClassVar[str] = "impute"
    kind: ClassVar[Kind] = "series"
    needs_whole: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InputError("share", found=self.share, expected="above 0 and below 1", remedy="try 0.25")
        for name, steps in (("gap", self.gap), ("history", self.history)):
            if steps is not None and steps < 1:
                raise InputError(name, found=steps, expected="at least 1 step", remedy=f"pass a positive {name}")
        if self.error not in get_args(Error):
            raise unknown_name("error", self.error, get_args(Error))

    def split(self, data: AnyData, seed: int = 0) -> Splits:
        """Windows of the first 65 % of the series, the next 15 %, the last 20 %; the seed draws what is hidden.

        Raises:
            InputError: the data are no series, or too short.
        """
        series = whole_series(data)
        usual = 2 * series.schema.period if series.schema.period else 96
        length = self.history or max(1, min(usual, len(series) // 10))
        return by_masking(series, length, self.share, self.gap, seed)

    def score(self, prediction: Imputed, data: Data) -> Scores:
        """The normalised mean absolute error ranks: errors count in standard deviations of their channel.

        The items are what each window adds to it, NaN for one of which nothing is hidden. A channel that never varies
        has no scale and no part in it.

        Raises:
            InputError: the prediction is of other windows, or no hidden value can be scored.
        """
        windows = masked(data)
        _, truth = windows.sides()
        require_shape(prediction.values, truth)
        values = windows.series.values
        scale = np.nanstd(np.where(np.isnan(values).all(0), 0, values), axis=0)
        error = prediction.values - truth
        scaled = np.abs(error) / np.where(scale > 1e-9 * np.nanmax(np.abs(values), axis=0, initial=0), scale, np.nan)
        counts = (~np.isnan(scaled)).sum(axis=(1, 2))
        if not counts.any():
            raise InputError("data", found="no hidden value of a channel that varies", expected="at least one to score",
                             remedy="hide a larger share, or choose other channels")  # fmt: skip
        total = np.where(counts > 0, np.nansum(scaled, axis=(1, 2)), np.nan)
        metrics = {
            "nmae": float(np.nansum(total) / counts.sum()),
            "nmse": float(np.nansum(scaled**2) / counts.sum()),
            "mae": float(np.nanmean(np.abs(error))),
            "rmse": float(np.sqrt(np.nanmean(error**2))),
        }
        return Scores(metrics, "nmae", False, total * (counts > 0).sum() / counts.sum())

    def baselines(self) -> list[System]:
        """The channel's mean, the last value, the line between neighbours, ridge regression on neighbours."""
        return [ChannelMean(), LastSeen(), LinearInterpolation(), RidgeNeighbours()]

    def outputs(self, data: Data) -> int:
        """C: a value for each channel, at every step."""
        return masked(data).series.values.shape[1]

    def loss(self, y: Float[Tensor, "B t C"], batch: Batch, steps: slice) -> Float[Tensor, ""]:
        """Error of the hidden values at these steps, over how many are hidden on average, in the batch's units.

        Raises:
            InputError: there are no targets, or y does not fit the slice.
        """
        span(y, batch, steps)
        if batch.target is None:
            raise InputError(
                "batch.target", found="None", expected="[B, L, C] hidden values", remedy="cut MaskedWindows"
            )
        target = batch.target[:, steps]
        error = LOSSES[self.error](y, target.nan_to_num(), reduction="none")
        return error.masked_fill(target.isnan(), 0.0).sum() / (self.share * batch.target.numel())

    def scores_from_outputs(self, y: Float[Tensor, "B L C"], batch: Batch) -> Float[Tensor, "B L C"]:
        """What is seen stays as it is, the rest is answered."""
        values, seen = batch.x.chunk(2, dim=2)
        return y.where(seen == 0, values)

    def prediction(self, answers: Float[Tensor, "N L C"], data: Data) -> Imputed:
        """All windows, filled."""
        masked(data)
        return Imputed(answers.detach().cpu().double().numpy())
