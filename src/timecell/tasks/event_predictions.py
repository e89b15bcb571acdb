"""`NextEvents`: what a system says of each event before it happens."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from timecell.data.event_sequences import EventSequences
from timecell.data.synthetic.point_processes import ExactProcess
from timecell.errors import InputError
from timecell.layers.event_decoders import wait
from timecell.tasks.truth import of_kind


@dataclass(frozen=True)
class NextEvents:
    """The distribution of each next event, given all that came before it in its sequence, held against what came.

    There are R rows: one for each event and one for each sequence's end, sequence by sequence, as in
    `EventSequences.waits`.

    Attributes:
        happened: [R] True for an event, False for an end.
        log_time: [R] log density of the gap to the event [nats]; at an end, the log probability that nothing happened
            until then.
        log_mark: [R, K] log probability of each mark, given that an event comes at that time.
        median: [R] until when the next event was as likely to come as not, counted from the last one.
        pit: [R] probability that it comes no later than it did.
        classes: names of the marks.

    Raises:
        InputError: shapes that do not fit, a value that is not finite, marks whose probabilities do not sum to one.
    """

    happened: Bool[np.ndarray, "R"]
    log_time: Float[np.ndarray, "R"]
    log_mark: Float[np.ndarray, "R K"]
    median: Float[np.ndarray, "R"]
    pit: Float[np.ndarray, "R"]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        R, K = len(self.log_time), len(self.classes)
        for name, shape in (
            ("happened", (R,)),
            ("log_time", (R,)),
            ("log_mark", (R, K)),
            ("median", (R,)),
            ("pit", (R,)),
        ):
            array = getattr(self, name)
            if array.shape != shape:
                raise InputError(
                    name, found=f"shape {array.shape}", expected=f"{shape}",
                    remedy="give a row to each event and to each sequence's end",
                )  # fmt: skip
            broken = np.isnan(array) if name == "log_mark" else ~np.isfinite(array)
            if broken.any():
                at = tuple(int(i) for i in np.argwhere(broken)[0])
                raise InputError(
                    f"{name}{list(at)}", found=array[at], expected="a finite number",
                    remedy="the fit has diverged, or holds an event for impossible: lower the learning rate, smooth it",
                )  # fmt: skip
        whole = np.isclose(np.exp(self.log_mark).sum(axis=1), 1, atol=1e-3)
        if not whole.all():
            row = int(np.argmin(whole))
            raise InputError(
                f"log_mark[{row}]", found=f"probabilities {np.exp(self.log_mark[row]).tolist()}",
                expected="numbers that sum to one", remedy="normalise them",
            )  # fmt: skip

    @classmethod
    def of_process(cls, process: ExactProcess, data: EventSequences) -> NextEvents:
        """What a process in closed form says."""
        memory, waits, happened = process.remember(data), data.waits, data.happened
        log_intensity, mass = process.log_intensity(memory, waits), process.compensator(memory, waits)
        total = np.logaddexp.reduce(log_intensity, axis=1)
        unit = data.mean_gap

        def later(tau: Tensor) -> Tensor:
            return torch.from_numpy(process.compensator(memory, unit * tau.numpy()))

        median = unit * wait(later, torch.full((len(waits),), math.log(2.0), dtype=torch.float64)).numpy()
        with np.errstate(invalid="ignore"):  # a tail of no length may have no intensity at all
            log_mark = np.where(happened[:, None], log_intensity - total[:, None], -np.log(log_intensity.shape[1]))
        log_time = np.where(happened, total, 0.0) - mass
        return cls(happened, log_time, log_mark, median, -np.expm1(-mass), data.schema.classes or ())

    def rescaled(self, unit: float) -> NextEvents:
        """The same in other units: what was counted in multiples of `unit` is counted in ones.

        The density of a time is so much smaller, by log(unit) for each event; probabilities stay as they are.

        Example:
            >>> one = np.zeros(1)
            >>> said = NextEvents(np.array([True]), one, one[:, None], median=one + 2, pit=one + 0.5, classes=("event",))
            >>> in_seconds = said.rescaled(60.0)  # they were minutes
            >>> in_seconds.median.tolist(), round(in_seconds.log_time.item(), 3)
            ([120.0], -4.094)
        """
        shrunk = np.where(self.happened, self.log_time - math.log(unit), self.log_time)
        return replace(self, log_time=shrunk, median=self.median * unit)

    def arrays(self) -> dict[str, Any]:
        """All of them, by name."""
        return {
            "happened": self.happened,
            "log_time": self.log_time,
            "log_mark": self.log_mark,
            "median": self.median,
            "pit": self.pit,
            "classes": np.array(self.classes),
        }


def event_sequences(data: object) -> EventSequences:
    """The same data, known to be event sequences.

    Raises:
        InputError: they are something else.
    """
    remedy = "load the file as events, or make them with EventSequences.of"
    return of_kind(data, EventSequences, "EventSequences", remedy)
