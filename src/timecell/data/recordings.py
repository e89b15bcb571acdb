"""`Recording`: continuous channels with a rate, their units, and annotations; whole as a `Series`, or cut into trials."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from timecell.data.containers import Schema, Sequences, Series
from timecell.errors import DataError, InputError, unknown_name


class Annotation(NamedTuple):
    """What happened when.

    Attributes:
        onset: seconds, on the clock of the recording.
        duration: seconds; 0 for an instant.
        text: what it was; the label of a trial.
    """

    onset: float
    duration: float
    text: str


@dataclass(frozen=True)
class Recording:
    """Channels on an even grid, with what was noted beside them.

    Attributes:
        values: [T, C] in the units of each channel; NaN where nothing was recorded.
        rate: steps per second.
        channels: name of each channel.
        units: unit of each channel as the file has it ("uV", "V", "" where it says none).
        annotations: in the order of their onsets.
        start: seconds of the first step, on the clock of the annotations.
        source: what to call the recording in a message.

    Example:
        >>> beeps = (Annotation(0.5, 0.0, "high"), Annotation(1.5, 0.0, "low"))
        >>> recording = Recording(np.zeros((300, 2)), 100.0, ("Cz", "Pz"), ("uV", "uV"), beeps)
        >>> trials = recording.epochs((-0.1, 0.4))
        >>> len(trials), trials[0].shape, trials.schema.classes
        (2, (50, 2), ('high', 'low'))
    """

    values: Float[np.ndarray, "T C"]
    rate: float
    channels: tuple[str, ...]
    units: tuple[str, ...] = ()
    annotations: tuple[Annotation, ...] = ()
    start: float = 0.0
    source: str = "recording"

    def series(self, *, period: int | None = None) -> Series:
        """The whole record, with time in seconds on the clock of the annotations."""
        T = len(self.values)
        counts = bool(self.units) and set(self.units) == {"spikes"}
        schema = Schema("series", self.channels, rate=self.rate, lengths=(T, T), spikes=counts, period=period)
        return Series(self.values, schema, self.start + np.arange(T) / self.rate)

    def epochs(self, epoch: tuple[float, float] | None = None, *, classes: Collection[str] | None = None) -> Sequences:
        """A trial for each annotation, labelled with its text.

        A trial starts with the step nearest to its first moment.

        Args:
            epoch: seconds from onset to the trial's (first step, end): (-0.2, 0.8) is one second; None takes each from
                its onset to its end, so that lengths may differ.
            classes: texts that make a trial, in the order of their numbers; None = all, sorted.

        Raises:
            DataError: there is no annotation, a trial reaches beyond the recording or holds a gap, or lasts no time.
            InputError: `epoch` ends before it starts, or no annotation has one of the classes.
        """
        if isinstance(classes, str):
            raise InputError("classes", found=repr(classes), expected="a list", remedy=f"write classes=[{classes!r}]")
        if epoch is not None and not (len(epoch) == 2 and -np.inf < epoch[0] < epoch[1] < np.inf):
            raise InputError(
                "epoch", found=epoch, expected="(start, stop) in seconds", remedy="write epoch=(-0.2, 0.8)"
            )
        if not self.annotations:
            raise DataError(
                self.source, found="no annotations", expected="at least one, to cut trials by",
                remedy="read it as a series, or add annotations of the trials",
            )  # fmt: skip
        texts = tuple(sorted({a.text for a in self.annotations}))
        for name in classes or ():
            if name not in texts:
                raise unknown_name(f"{self.source}, classes", name, texts)
        chosen = [a for a in self.annotations if classes is None or a.text in classes]
        for a in chosen:
            if not a.text:
                raise DataError(
                    f"{self.source}, annotation at {a.onset:g} s", found="no label", expected="one for each trial",
                    remedy="name the column of the trials with target= (--target), or the labels to use with classes=",
                )  # fmt: skip
        names = texts if classes is None else tuple(dict.fromkeys(classes))
        trials = [self._cut(a, epoch) for a in chosen]
        labels = [names.index(a.text) for a in chosen]
        return Sequences.of(trials, labels, classes=names, channels=self.channels, rate=self.rate)

    def _cut(self, annotation: Annotation, epoch: tuple[float, float] | None) -> Float[np.ndarray, "T C"]:
        """The steps of one trial."""
        place = f"{self.source}, annotation {annotation.text!r} at {annotation.onset:g} s"
        before, after = epoch or (0.0, annotation.duration)
        first = round((annotation.onset + before - self.start) * self.rate)
        last = first + round((after - before) * self.rate)
        if last == first:
            raise DataError(
                place, found=f"{after - before:g} s", expected=f"at least one step of {1 / self.rate:g} s",
                remedy="say how much around each onset to take: epoch=(0.0, 1.0) (--epoch 0 1)",
            )  # fmt: skip
        if first < 0 or last > len(self.values):
            begin, end = (self.start + step / self.rate for step in (0, len(self.values)))
            raise DataError(
                place, found=f"a trial from {self.start + first / self.rate:g} to {self.start + last / self.rate:g} s",
                expected=f"one within the recording, {begin:g} to {end:g} s",
                remedy="choose a shorter epoch, leave such annotations out with classes=, or copy the file if it was cut",
            )  # fmt: skip
        trial = self.values[first:last]
        gap = np.isnan(trial)
        if gap.any():
            step, channel = np.argwhere(gap)[0]
            raise DataError(
                f"{place}, channel {self.channels[channel]!r}", found=f"no value at its step {step}", expected="numbers",
                remedy="leave the channel or such annotations out",
            )  # fmt: skip
        return trial
