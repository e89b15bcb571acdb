"""`CoSmoothing`: how much do some spikes say about others?

The counts of a population are predicted from other neurons in the same bin and before (`held_out` units), or all of
them from the bins before (no `held_out`: the next bin). The score is the gain in log-likelihood over each neuron's mean
rate, in bits per spike (Pei et al., "Neural Latents Benchmark" 2021, arXiv:2109.04463).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from timecell.data.containers import AnyData, Batch, Data, Kind, Series
from timecell.data.splits import Splits
from timecell.data.stretches import by_stretches
from timecell.errors import InputError, unknown_name
from timecell.system import Scores, System
from timecell.tasks.decoders import LOG_RATES, MeanRate, PoissonRegression, mean_counts
from timecell.tasks.predictions import Rates
from timecell.tasks.readout import span
from timecell.tasks.truth import counted, require_shape, stretches, usual_history, whole_series


@dataclass(frozen=True)
class CoSmoothing:
    """Counts of some units from the others, or of all units from the bins before.

    A network answers with the logarithm of each rate over the unit's mean rate in training: zero is the mean rate.

    Attributes:
        held_out: names of the units to predict from the others; () = all units, from what came before.
        history: bins on which a memory warms up before the bins that count; as many count then, at a time. None: 100,
            or a fortieth of the record if that is less.

    Example:
        >>> from timecell.data.containers import Schema, Series
        >>> counts = np.random.default_rng(0).poisson(0.1, (400, 3)).astype(float)
        >>> series = Series(counts, Schema("series", ("a", "b", "c"), spikes=True))
        >>> task = CoSmoothing()
        >>> parts = task.split(series)
        >>> batch = parts.train.batch(np.arange(1))
        >>> bool((batch.x[0, 12] == batch.target[0, 11, :3]).all())  # the input is one bin late
        True
    """

    held_out: tuple[str, ...] = ()
    history: int | None = None

    name: ClassVar[str] = "co-smooth"
    kind: ClassVar[Kind] = "series"
    needs_whole: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        if self.history is not None and self.history < 1:
            raise InputError("history", found=self.history, expected="at least 1 bin", remedy="try 100")

    def split(self, data: AnyData, seed: int = 0) -> Splits:
        """Stretches of the first 65 % of the record, the next 15 %, the last 20 %; nothing is drawn.

        Raises:
            InputError: the data are no series, a value is no count, a unit is not among them, the series is too short.
        """
        series = counts(whole_series(data))
        units = series.schema.channels
        for name in self.held_out:
            if name not in units:
                raise unknown_name("held_out", name, units)
        hidden = tuple(units.index(name) for name in self.held_out)
        seen = tuple(u for u in range(len(units)) if u not in hidden)
        if not seen:
            raise InputError("held_out", found="all units", expected="some to predict from", remedy="name fewer")
        history = self.history or usual_history(series)
        parts = by_stretches(series, seen, hidden or seen, history, lag=0 if hidden else 1)
        base = tuple(np.log(mean_counts(stretches(parts.train))).tolist())
        return Splits(*(replace(stretches(part), base=base) for part in (parts.train, parts.valid, parts.test)))

    def score(self, prediction: Rates, data: Data) -> Scores:
        """Bits per spike over the mean rates of the scored part rank; the items are what each stretch adds to them.

        Raises:
            InputError: the prediction is of other bins, or there is no spike.
        """
        truth = stretches(data).truth()
        require_shape(prediction.values, truth)
        seen = ~np.isnan(truth)
        counts = np.where(seen, truth, 0.0)
        spikes = counts.sum()
        if not spikes:
            raise InputError("data", found="no spike in this part", expected="some", remedy="score a longer part")
        mean = counts.sum((0, 1)) / np.maximum(seen.sum((0, 1)), 1)
        base = np.where(mean > 0, mean, 1.0)  # a silent unit has no spikes to explain
        gain = counts * (np.log(prediction.values) - np.log(base)) - (prediction.values - mean)
        bits = np.where(seen, gain, 0.0).sum((1, 2)) / (spikes * math.log(2))
        null = (np.where(seen, counts * np.log(base) - mean, 0.0)).sum() / seen.sum()
        metrics = {
            "bits_per_spike": float(bits.sum()),
            "log_likelihood": float(null + bits.sum() * spikes * math.log(2) / seen.sum()),
            "spikes": float(spikes),
        }
        return Scores(metrics, "bits_per_spike", True, len(bits) * bits)

    def baselines(self) -> list[System]:
        """Mean rates; a Poisson regression on the last bins."""
        return [MeanRate(), PoissonRegression()]

    def outputs(self, data: Data) -> int:
        """One log rate a unit."""
        return len(stretches(data).targets)

    def loss(self, y: Float[Tensor, "B t K"], batch: Batch, steps: slice) -> Float[Tensor, ""]:
        """Negative Poisson log-likelihood of the bins that count (constants left out), over their number."""
        span(y, batch, steps)
        target, base = counted(batch).chunk(2, dim=2)
        here = target[:, steps]
        log_rate = (y + base[:, steps]).clamp(*LOG_RATES)
        cost = F.poisson_nll_loss(log_rate, here.nan_to_num(), log_input=True, full=False, reduction="none")
        return cost.masked_fill(here.isnan(), 0.0).sum() / (~target.isnan()).sum().clamp(min=1)

    def scores_from_outputs(self, y: Float[Tensor, "B T K"], batch: Batch) -> Float[Tensor, "B T K"]:
        """The rates."""
        return (y + counted(batch).chunk(2, dim=2)[1]).clamp(*LOG_RATES).exp()

    def prediction(self, answers: Float[Tensor, "N T K"], data: Data) -> Rates:
        """The rates of the bins that count."""
        return Rates(answers[:, stretches(data).warm :].detach().cpu().double().numpy())


def counts(series: Series) -> Series:
    """The same series, known to hold spike counts, which no scaling touches.

    Raises:
        InputError: a value is no count: the message names channel and step.
    """
    values = series.values
    broken = ~(np.isnan(values) | ((values >= 0) & (values == np.floor(values))))
    if broken.any():
        step, channel = np.argwhere(broken)[0]
        raise InputError(
            f"data, channel {series.schema.channels[channel]!r}, step {step}", found=f"{values[step, channel]:g}",
            expected="a count of spikes: 0, 1, 2, ...", remedy="leave this channel out (ignore), or use the task decode",
        )  # fmt: skip
    return replace(series, schema=replace(series.schema, spikes=True))
