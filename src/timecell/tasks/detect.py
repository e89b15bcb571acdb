"""`Detect`: which steps of a record are anomalous?

A network learns the first part of a record, which is taken to be normal, and is bad at what it has not learnt: the score
of a step is the squared error of its answer for it. It answers either with the *next* step, as the change from this one
(any causal network can), or with the *same* step (a network that passes its input through something narrow). Labels, where
there are any, serve to score and nothing else; the parts to train and validate on do not even have them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from timecell.data.containers import AnyData, Batch, Data, Kind
from timecell.data.labelled_series import LabelledSeries
from timecell.data.splits import Splits
from timecell.data.stretches import Stretches, by_stretches
from timecell.errors import InputError, unknown_name
from timecell.system import Scores, System
from timecell.tasks.alarms import detection
from timecell.tasks.detectors import NearestNeighbour, NextStepRidge, RandomScores, SeasonalDistance
from timecell.tasks.predictions import AnomalyScores
from timecell.tasks.readout import span
from timecell.tasks.truth import counted, stretches, usual_history, whole_series

Step = Literal["next", "same"]


@dataclass(frozen=True)
class Detect:
    """A score for every step of the last part of a record; the higher, the more anomalous.

    Attributes:
        normal: share of the record, from its beginning, that is presumed normal: four fifths of it train, the rest
            validates and sets the threshold.
        history: steps that come before those that count in a stretch; as many count. None: two seasons where the
            season is known, else 100, or less in a short record.
        step: which step a network answers with: "next" or "same".
        quantile: of the validation scores that makes the threshold of an alarm.

    Raises:
        InputError: an attribute is out of its range.

    Example:
        >>> batch = Batch(torch.tensor([[[1.0], [2.0], [4.0]]]), target=torch.tensor([[[torch.nan], [2.0], [4.0]]]))
        >>> still = torch.zeros(1, 3, 1)
        >>> Detect().scores_from_outputs(still, batch).tolist(), Detect(step="same").loss(still, batch, slice(0, 3)).item()
        ([[nan, 1.0, 4.0]], 10.0)
    """

    normal: float = 0.5
    history: int | None = None
    step: Step = "next"
    quantile: float = 0.99

    name: ClassVar[str] = "detect"
    kind: ClassVar[Kind] = "series"
    needs_whole: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        for name, share in (("normal", self.normal), ("quantile", self.quantile)):
            if not 0 < share < 1:
                raise InputError(
                    name, found=share, expected="above 0 and below 1", remedy=f"try {Detect.__dict__[name]}"
                )
        if self.history is not None and self.history < 1:
            raise InputError("history", found=self.history, expected="at least 1 step", remedy="try 100")
        if self.step not in get_args(Step):
            raise unknown_name("step", self.step, get_args(Step))

    def split(self, data: AnyData, seed: int = 0) -> Splits:
        """The part presumed normal, without labels, and the rest, with them; nothing is drawn.

        Raises:
            InputError: the data are no series, or too short; the rest has labels, but of one kind only.
        """
        series = whole_series(data)
        period = series.schema.period
        usual = max(1, min(2 * period, len(series) // 20)) if period else usual_history(series)
        channels = tuple(range(series.values.shape[1]))
        length = self.history or usual
        parts = by_stretches(series, channels, channels, length, valid=0.2 * self.normal, test=1 - self.normal)
        if not isinstance(series, LabelledSeries):
            return parts
        test = stretches(parts.test)
        marks = series.anomalous[test.covered]
        if marks.all() or not marks.any():
            raise InputError(
                f"labels of the steps from {test.covered.start}, the test part",
                found=f"{int(marks.sum()):,} of {len(marks):,} anomalous", expected="some, but not all",
                remedy="move the border between what is presumed normal and the rest (normal=)",
            )  # fmt: skip
        train, valid = (
            replace(p, series=series.cut(0, p.stop).unlabelled()) for p in map(stretches, (parts.train, parts.valid))
        )
        return Splits(train, valid, test)

    def score(self, prediction: AnomalyScores, data: Data) -> Scores:
        """With labels, the area under the precision-recall curve ranks, beside F1 and what chance gets.

        Without labels, as in training and validation, the mean score ranks, the lower the better: all is presumed normal.

        Raises:
            InputError: the prediction is of other steps, or nothing was observed.
        """
        part = stretches(data)
        steps = part.covered
        if prediction.scores.shape != (steps.stop - steps.start,):
            raise InputError(
                "prediction", found=f"{len(prediction.scores)} steps", expected=f"{steps.stop - steps.start}",
                remedy="predict the steps that are scored",
            )  # fmt: skip
        if np.isnan(prediction.scores).all():
            raise InputError("data", found="no observed value", expected="at least one", remedy="choose another part")
        if isinstance(part.series, LabelledSeries):
            return Scores(detection(prediction, part.series.anomalous[steps]), "pr_auc", True)
        return Scores({"error": float(np.nanmean(prediction.scores))}, "error", False)

    def baselines(self) -> list[System]:
        """Random scores; the distances from the season's mean, from a linear forecast, from the nearest past."""
        return [RandomScores(), SeasonalDistance(), NextStepRidge(), NearestNeighbour()]

    def outputs(self, data: Data) -> int:
        """C: a value for each channel, at every step."""
        return len(stretches(data).targets)

    def loss(self, y: Float[Tensor, "B t C"], batch: Batch, steps: slice) -> Float[Tensor, ""]:
        """Squared error of the answers that these steps give, over the number of all values that count in the batch."""
        answer, truth = self._sides(y, batch, steps)
        error = (answer - truth.nan_to_num()).square().masked_fill(truth.isnan(), 0.0)
        return error.sum() / (~counted(batch).isnan()).sum().clamp(min=1)

    def scores_from_outputs(self, y: Float[Tensor, "B T C"], batch: Batch) -> Float[Tensor, "B T"]:
        """Mean squared error over the observed channels of each step; NaN where none counts."""
        answer, truth = self._sides(y, batch, slice(None))
        error = (answer - truth).square().nanmean(dim=2)
        if self.step == "same":
            return error
        return torch.cat([torch.full_like(error[:, :1], torch.nan), error], dim=1)

    def prediction(self, answers: Float[Tensor, "N T"], data: Data) -> AnomalyScores:
        """The scores of the steps that count, one after the other."""
        return AnomalyScores(in_line(answers.detach().cpu().double().numpy(), stretches(data)))

    def calibration(self, prediction: AnomalyScores, data: Data) -> Float[np.ndarray, "1"]:
        """The threshold: a quantile of scores of what is presumed normal."""
        return np.array([np.nanquantile(prediction.scores, self.quantile)])

    def calibrated(self, prediction: AnomalyScores, threshold: Float[np.ndarray, "1"]) -> AnomalyScores:
        """The same scores with this threshold."""
        return replace(prediction, threshold=float(threshold[0]))

    def _sides(self, y: Tensor, batch: Batch, steps: slice) -> tuple[Float[Tensor, "B t C"], Float[Tensor, "B t C"]]:
        """The answers that these steps give, and what they are about (NaN = does not count); none follows the last step."""
        inside = span(y, batch, steps)
        target = counted(batch)
        if self.step == "same":
            return y, target[:, steps]
        ahead = target[:, inside.start + 1 : inside.stop + 1]
        return (batch.x[:, steps] + y)[:, : ahead.shape[1]], ahead


def in_line(answers: Float[np.ndarray, "N T"], part: Stretches) -> Float[np.ndarray, "S"]:
    """What stretches say of the steps that count, end to end."""
    steps = part.covered
    return answers[:, part.warm :].reshape(-1)[: steps.stop - steps.start]
