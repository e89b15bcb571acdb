"""`NextEvent`: when does the next event come, and what will it be?

A system gives each event a probability before it happens: a density of its time, and a distribution of its mark given
the time. Together with the probability that nothing happens after the last event, these make the likelihood of a
sequence, whatever kind of model they come from. So the log-likelihood per event ranks systems of all kinds; it is in the
data's own unit of time, however a model counts time inside.

A network answers at every row of a batch (see `timecell.data.event_sequences`) with the numbers of a decoder: they make
the distribution of the event in the row after it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from timecell.data.containers import Batch, Data, Kind
from timecell.data.event_sequences import next_rows, split_events
from timecell.data.splits import Splits
from timecell.errors import InputError
from timecell.layers.event_decoders import Decoder, LogNormalMixture, wait
from timecell.system import Scores, System
from timecell.tasks.calibration import expected_calibration_error, pit_error
from timecell.tasks.event_baselines import HawkesMLE, LogNormalRenewal, PoissonRates
from timecell.tasks.event_predictions import NextEvents, event_sequences
from timecell.tasks.readout import span


@dataclass(frozen=True)
class NextEvent:
    """The time and the mark of each event, given all events before it in its sequence.

    Attributes:
        decoder: what the outputs of a network mean.

    Example:
        >>> from timecell.data.synthetic.point_processes import hawkes
        >>> from timecell.system import Run
        >>> task, data = NextEvent(), hawkes(sequences=50).data
        >>> parts = task.split(data)
        >>> fitted = [system.fit(parts.train, parts.valid, task, Run()) for system in task.baselines()]
        >>> scores = [task.score(each.predict(parts.test), parts.test).value for each in fitted]
        >>> bool(scores[-1] == max(scores))  # the Hawkes process
        True
    """

    decoder: Decoder = field(default_factory=LogNormalMixture)

    name: ClassVar[str] = "next-event"
    kind: ClassVar[Kind] = "events"
    needs_whole: ClassVar[str | None] = None

    def split(self, data: object, seed: int = 0) -> Splits:
        """Whole sequences; where there are fewer than ten, by time. See `split_events`.

        Raises:
            InputError: the data are no event sequences, or too few.
        """
        return split_events(event_sequences(data), seed)

    def score(self, prediction: NextEvents, data: Data) -> Scores:
        """The log-likelihood per event [nats] ranks; the items are each sequence's part of it.

        Its two parts add up to it: `time_log_likelihood` holds the densities of the times and the probabilities of the
        ends, `mark_log_likelihood` the probabilities of the marks at their times. `time_error` is the mean distance of
        the median from the true gap, `mark_accuracy` the share of the marks that were the most probable ones at their
        times; `time_calibration_error` and `mark_calibration_error` are `pit_error` and `expected_calibration_error`.

        Raises:
            InputError: the prediction is of other data, or there are no events.
        """
        events = event_sequences(data)
        happened = events.happened
        if not np.array_equal(prediction.happened, happened) or prediction.classes != events.schema.classes:
            raise InputError(
                "prediction", found=f"{len(prediction.happened)} rows and the marks {prediction.classes}",
                expected=f"{len(happened)} rows, one for each event and each end, and {events.schema.classes}",
                remedy="predict the sequences that are scored",
            )  # fmt: skip
        n = len(events.times)
        if n == 0:
            raise InputError("data", found="no events", expected="at least one to score", remedy="bring more data")
        log_mark = prediction.log_mark[happened]
        of_marks = log_mark[np.arange(n), events.marks]
        if not np.isfinite(of_marks).all():
            i = int(np.argmin(np.isfinite(of_marks)))
            raise InputError(
                f"prediction.log_mark of event {i}", found=f"probability 0 of {events.schema.classes[events.marks[i]]!r}",
                expected="a chance for every mark", remedy="smooth it: what never came in training may come",
            )  # fmt: skip
        rows = prediction.log_time.copy()
        rows[happened] += of_marks
        items = np.add.reduceat(rows, events.offsets[:-1] + np.arange(len(events)))
        metrics = {
            "log_likelihood": float(rows.sum() / n),
            "time_log_likelihood": float(prediction.log_time.sum() / n),
            "mark_log_likelihood": float(of_marks.mean()),
            "time_error": float(np.abs(prediction.median - events.waits)[happened].mean()),
            "mark_accuracy": float((log_mark.argmax(1) == events.marks).mean()),
            "time_calibration_error": pit_error(prediction.pit[happened]),
            "mark_calibration_error": expected_calibration_error(np.exp(log_mark), events.marks),
        }
        return Scores(metrics, "log_likelihood", True, items * len(events) / n)

    def baselines(self) -> list[System]:
        """Constant rates, log-normal waiting times, a Hawkes process."""
        return [PoissonRates(), LogNormalRenewal(), HawkesMLE()]

    # --- what a network needs ---------------------------------------------------------------------------------------

    def outputs(self, data: Data) -> int:
        """The numbers that the decoder needs."""
        return self.decoder.outputs(len(event_sequences(data).schema.classes or ()))

    def loss(self, y: Float[Tensor, "B t P"], batch: Batch, steps: slice) -> Float[Tensor, ""]:
        """Minus the log-likelihood of what these steps foretell: the events of the rows after them; mean over sequences.

        Args:
            y: outputs of the network at these steps.
            batch: the whole batch.
            steps: which of its rows y holds.

        Raises:
            InputError: y does not fit the slice.
        """
        inside = span(y, batch, steps)
        rows = next_rows(batch.x, batch.lengths)
        here = slice(inside.start, min(inside.stop, batch.x.shape[1] - 1))
        p, gap = y[:, : here.stop - here.start], rows.gap[:, here]
        log_intensity = self.decoder.log_intensity(p, gap)
        of_mark = (log_intensity * batch.x[:, 1:, 1:][:, here]).sum(-1)
        known = (rows.event | rows.tail)[:, here]
        gain = torch.where(rows.event[:, here], of_mark, 0.0) - torch.where(
            known, self.decoder.compensator(p, gap), 0.0
        )
        return -gain.sum() / len(batch)

    def scores_from_outputs(self, y: Float[Tensor, "B T P"], batch: Batch) -> Float[Tensor, "R A"]:
        """A row for each event and each end of the batch: log time, median, compensator, log probabilities of the marks."""
        rows = next_rows(batch.x, batch.lengths)
        known = rows.event | rows.tail
        p, gap, happened = y[:, :-1][known], rows.gap[known], rows.event[known]
        log_intensity, mass = self.decoder.log_intensity(p, gap), self.decoder.compensator(p, gap)
        log_time = torch.where(happened, log_intensity.logsumexp(-1), 0.0) - mass
        median = wait(lambda tau: self.decoder.compensator(p, tau), torch.full_like(gap, math.log(2.0)), halvings=32)
        return torch.cat([torch.stack([log_time, median, mass], 1), log_intensity.log_softmax(-1)], 1)

    def prediction(self, answers: Float[Tensor, "R A"], data: Data) -> NextEvents:
        """The distributions of all events, in the units of the data.

        Raises:
            InputError: the answers are of other data.
        """
        events = event_sequences(data)
        found = answers.detach().cpu().double().numpy()
        if len(found) != len(events.happened):
            raise InputError(
                "answers", found=f"{len(found)} rows", expected=f"{len(events.happened)}, one for each event and end",
                remedy="answer for the same sequences, in their order",
            )  # fmt: skip
        return NextEvents(
            events.happened, found[:, 0], found[:, 3:], found[:, 1], -np.expm1(-found[:, 2]), events.schema.classes or ()
        )  # fmt: skip
