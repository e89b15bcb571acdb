"""`LabelledSeries`: a record in which somebody has marked what is anomalous."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool

from timecell.data.containers import Series, fingerprint
from timecell.errors import DataError, InputError, unknown_name


@dataclass(frozen=True)
class LabelledSeries(Series):
    """A `Series` with a mark for each step. The marks are no channel: nothing learns from them, they only score.

    Attributes:
        anomalous: [T] true where a step belongs to an anomaly.

    Example:
        >>> from timecell.data.containers import Schema
        >>> both = Series(np.array([[0.1, 0.0], [9.0, 1.0], [0.2, 0.0]]), Schema("series", ("load", "label")))
        >>> series = LabelledSeries.of(both, "label")
        >>> series.schema.channels, series.anomalous.tolist(), series.schema.label
        (('load',), [False, True, False], 'label')
    """

    anomalous: Bool[np.ndarray, "T"] = field(default_factory=lambda: np.zeros(0, bool))

    def __post_init__(self) -> None:
        if self.anomalous.shape != (len(self.values),):
            raise InputError(
                "anomalous", found=f"shape {self.anomalous.shape}", expected=f"[{len(self.values)}], one mark a step",
                remedy="mark every step",
            )  # fmt: skip

    @classmethod
    def of(cls, series: Series, column: str) -> LabelledSeries:
        """A series one of whose channels is the mark: 1 = anomalous, 0 = not.

        Raises:
            InputError: there is no such channel, or no other one.
            DataError: the channel holds something else than 0 and 1.
        """
        channels = series.schema.channels
        if column not in channels:
            raise unknown_name("target", column, channels)
        if len(channels) == 1:
            raise InputError("target", found=f"{column!r}, the only channel", expected="a column of labels beside others",
                             remedy="bring the values that were labelled, too")  # fmt: skip
        at = channels.index(column)
        marks = series.values[:, at]
        wrong = ~np.isin(marks, (0, 1))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(
                f"{column}, step {row}", found="no label" if np.isnan(marks[row]) else f"{marks[row]:g}",
                expected="1 for an anomalous step, 0 for any other",
                remedy="mark every step with 0 or 1, and leave no gap in the time stamps",
            )  # fmt: skip
        schema = replace(series.schema, channels=channels[:at] + channels[at + 1 :], label=column)
        return cls(np.delete(series.values, at, axis=1), schema, series.time, marks.astype(bool))

    @property
    def fingerprint(self) -> str:
        """Hash of values and marks."""
        return fingerprint(self.values, self.anomalous)

    def cut(self, start: int, stop: int) -> LabelledSeries:
        """The steps start..stop-1."""
        time = None if self.time is None else self.time[start:stop]
        return replace(self, values=self.values[start:stop], time=time, anomalous=self.anomalous[start:stop])

    def unlabelled(self) -> Series:
        """The record alone."""
        return Series(self.values, self.schema, self.time)
