"""`Decode`: what do some channels of a recording say about others, at the same moment?

Spikes about the speed of the animal, an EEG about a grip: the network reads the inputs up to now and answers at every
step with the targets of that step. The score is R², the share of the variance that is explained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from timecell.data.containers import AnyData, Batch, Data, Kind
from timecell.data.splits import Splits
from timecell.data.stretches import by_stretches
from timecell.errors import InputError, unknown_name
from timecell.system import Scores, System
from timecell.tasks.decoders import MeanTarget, WienerFilter
from timecell.tasks.predictions import Decoded
from timecell.tasks.readout import span
from timecell.tasks.truth import counted, require_shape, stretches, usual_history, whole_series


@dataclass(frozen=True)
class Decode:
    """The target channels at every step, from the other channels up to this step.

    Attributes:
        targets: names of the channels to decode.
        history: steps on which a memory warms up before the steps that count; as many count then, at a time. None:
            100, or a fortieth of the record if that is less.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> hidden = np.cumsum(rng.normal(size=400))
        >>> values = np.stack([hidden, hidden + rng.normal(size=400)], axis=1)
        >>> from timecell.data.containers import Schema, Series
        >>> task = Decode(targets=("position",))
        >>> parts = task.split(Series(values, Schema("series", ("position", "sensor"))))
        >>> parts.test.schema.channels, parts.test.batch(np.arange(2)).target.shape
        (('sensor',), torch.Size([2, 20, 1]))
    """

    targets: tuple[str, ...] = ()
    history: int | None = None

    name: ClassVar[str] = "decode"
    kind: ClassVar[Kind] = "series"
    needs_whole: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        if self.history is not None and self.history < 1:
            raise InputError("history", found=self.history, expected="at least 1 step", remedy="try 100")

    def split(self, data: AnyData, seed: int = 0) -> Splits:
        """Stretches of the first 65 % of the record, the next 15 %, the last 20 %; nothing is drawn.

        Raises:
            InputError: the data are no series, a target is no channel, no channel is left as input, the series is too
                short.
        """
        series = whole_series(data)
        channels = series.schema.channels
        for name in self.targets:
            if name not in channels:
                raise unknown_name("targets", name, channels)
        targets = tuple(channels.index(name) for name in self.targets)
        inputs = tuple(c for c in range(len(channels)) if c not in targets)
        if not targets or not inputs:
            raise InputError(
                "targets", found=", ".join(self.targets) or "none",
                expected=f"some, but not all, of the channels {', '.join(channels)}",
                remedy="name the channels to decode (--target); the others are what they are decoded from",
            )  # fmt: skip
        return by_stretches(series, inputs, targets, self.history or usual_history(series))

    def score(self, prediction: Decoded, data: Data) -> Scores:
        """R², mean over the targets, ranks; the items are what each stretch adds to it.

        Raises:
            InputError: the prediction is of other stretches, or no target varies.
        """
        truth = stretches(data).truth()
        require_shape(prediction.values, truth)
        seen = ~np.isnan(truth)
        known = np.where(seen, truth, 0.0)
        mean = known.sum((0, 1)) / np.maximum(seen.sum((0, 1)), 1)
        variation = np.where(seen, (known - mean) ** 2, 0.0).sum((0, 1))
        error = np.where(seen, (prediction.values - known) ** 2, 0.0)
        varies = variation > 1e-12 * np.maximum(1.0, mean**2) * seen.sum((0, 1))
        if not varies.any():
            raise InputError(
                "data", found="no target that varies in this part", expected="one", remedy="choose another target"
            )
        share = (error.sum(1)[:, varies] / variation[varies]).mean(1)
        metrics = {
            "r2": float(1 - share.sum()),
            "rmse": float(np.sqrt(error.sum() / seen.sum())),
            "correlation": float(np.mean([_correlation(truth[..., c], prediction.values[..., c]) for c in np.flatnonzero(varies)])),
        }  # fmt: skip
        return Scores(metrics, "r2", True, 1 - len(share) * share)

    def baselines(self) -> list[System]:
        """The mean of the training data; ridge regression on lags (the Wiener filter)."""
        return [MeanTarget(), WienerFilter()]

    def outputs(self, data: Data) -> int:
        """C', one a target."""
        return len(stretches(data).targets)

    def loss(self, y: Float[Tensor, "B t K"], batch: Batch, steps: slice) -> Float[Tensor, ""]:
        """Squared error of the steps that count, over the number of all targets that count in the batch."""
        span(y, batch, steps)
        target = counted(batch)
        here = target[:, steps]
        error = F.mse_loss(y, here.nan_to_num(), reduction="none")
        return error.masked_fill(here.isnan(), 0.0).sum() / (~target.isnan()).sum().clamp(min=1)

    def scores_from_outputs(self, y: Float[Tensor, "B T K"], batch: Batch) -> Float[Tensor, "B T K"]:
        """The outputs are the answer."""
        return y

    def prediction(self, answers: Float[Tensor, "N T K"], data: Data) -> Decoded:
        """The answers at the steps that count."""
        return Decoded(answers[:, stretches(data).warm :].detach().cpu().double().numpy())


def _correlation(truth: Float[np.ndarray, "N L"], answer: Float[np.ndarray, "N L"]) -> float:
    """Pearson's; 0 for an answer that never varies."""
    seen = ~np.isnan(truth)
    a, b = truth[seen] - truth[seen].mean(), answer[seen] - answer[seen].mean()
    norm = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / norm) if norm > 1e-12 * len(a) else 0.0
