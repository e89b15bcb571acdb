"""`EventSequences`: marked events in continuous time, sequence by sequence.

    start      t_1        t_2                t_3       end
      |---------x----------x------------------x---------|
         gap 1     gap 2          gap 3          tail: nothing happened for so long

What a sequence says is when events happened, what kind each was (its mark), and that nothing else happened between
`start` and `end`. The last part, the tail, belongs to the likelihood as much as the events do.

A batch has a row for the start, for each event and for the end, in which x holds the time since the row before and the
mark as one-hot::

    row 0        0                0 ... 0
    row i        t_i - t_{i-1}    mark of event i             i = 1 ... n,   t_0 = start
    row n + 1    end - t_n        0 ... 0

So a causal net that has read the rows up to i knows all that came before event i + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from timecell.data.containers import Batch, Schema, Sequences, fingerprint
from timecell.data.splits import TEST, VALID, Splits, by_sample
from timecell.errors import InputError

FEW = 10  # sequences: of fewer, each is cut by time, since whole ones would make parts of very few
PIECE = 100  # events in a piece of a sequence that is cut by time


@dataclass(frozen=True)
class EventSequences:
    """Marked event sequences of different lengths.

    Attributes:
        times: [S] when each event happened, all sequences end to end, increasing within each.
        marks: [S] what kind it was, a number into `schema.classes`.
        offsets: [N + 1] sequence i holds the events offsets[i] ... offsets[i + 1] - 1; it may hold none.
        start: [N] when observation began, at or before the first event.
        end: [N] when it ended, at or after the last event.
        schema: kind "events"; channels "gap" and one for each mark; classes are the marks; lengths count the rows of a
            batch: events and 2.
        group: [N] group of each sequence (a user, a site), or None; splits keep groups together.
        part: [N] of "train", "valid", "test" where the data come with a split of their own, or None.
        resolution: width within which coinciding time stamps were spread; None where nothing was done.

    Example:
        >>> data = EventSequences.of([[1.0, 2.5], [0.5]], [[0, 1], [1]], end=4.0, classes=("buy", "sell"))
        >>> batch = data.batch(np.array([0, 1]))
        >>> batch.x[0].tolist(), batch.lengths.tolist()
        ([[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.5, 0.0, 1.0], [1.5, 0.0, 0.0]], [4, 3])
    """

    times: Float[np.ndarray, "S"]
    marks: Int[np.ndarray, "S"]
    offsets: Int[np.ndarray, "N+1"]
    start: Float[np.ndarray, "N"]
    end: Float[np.ndarray, "N"]
    schema: Schema
    group: Int[np.ndarray, "N"] | None = None
    part: Shaped[np.ndarray, "N"] | None = None
    resolution: float | None = None

    @classmethod
    def of(
        cls,
        times: Sequence[object],
        marks: Sequence[object] | None = None,
        *,
        start: object = 0.0,
        end: object = None,
        classes: tuple[str, ...] | None = None,
        group: object = None,
        part: object = None,
        resolution: float | None = None,
        label: str | None = None,
    ) -> EventSequences:
        """From a list of times and a list of marks for each sequence.

        Args:
            times: N lists of increasing times.
            marks: N lists of numbers 0, 1, ... as long as those of the times; None = events of one kind.
            start: when observation began, one number or one a sequence; None = with the first event, which then is no
                longer an event but the origin (and its mark is lost).
            end: when it ended, one number or one a sequence; None = with the last event.
            classes: names of the marks; None = "0", "1", ...
            group: [N] whole numbers, or None.
            part: [N] of "train", "valid", "test", or None.
            resolution: time stamps are rounded to this width: where some coincide, every event is moved by a random
                part of it (drawn with a fixed seed, in the order of the events), since a density knows no ties.
            label: where the marks come from, for descriptions.

        Raises:
            InputError: no sequence at all, times that do not increase, events outside of start and end, a mark that
                is no class; it names the sequence and the event.
        """
        if len(times) == 0:
            raise InputError("times", found="none", expected="at least one sequence", remedy="pass some data")
        listed = [np.asarray(t, dtype=np.float64).reshape(-1) for t in times]
        kinds = [np.zeros(len(t), np.int64) for t in listed] if marks is None else [_whole(m) for m in marks]
        if len(kinds) != len(listed):
            raise InputError(
                "marks", found=f"{len(kinds)} lists", expected=f"{len(listed)}, as many as of times",
                remedy="give each sequence its marks",
            )  # fmt: skip
        for i, (t, m) in enumerate(zip(listed, kinds)):
            if len(t) != len(m):
                raise InputError(
                    f"marks[{i}]", found=f"{len(m)} marks", expected=f"{len(t)}, one for each time",
                    remedy="match the two",
                )  # fmt: skip
        t, m = np.concatenate(listed), np.concatenate(kinds)
        offsets = np.concatenate([[0], np.cumsum([len(s) for s in listed])]).astype(np.int64)
        if resolution is not None:
            t = _spread(t, offsets, resolution)
        if start is None:
            t, m, offsets, start = _from_first(t, m, offsets)
        N = len(listed)
        last = np.array([t[stop - 1] if stop > begin else np.nan for begin, stop in pairwise(offsets)])
        starts = np.broadcast_to(np.asarray(start, np.float64), (N,)).copy()
        ends = np.broadcast_to(np.asarray(end, np.float64), (N,)) if end is not None else np.fmax(last, starts)
        if resolution is not None:
            ends = np.fmax(ends, last)  # the last event may have been moved beyond a stamp that says when it ended
        names = classes or tuple(str(k) for k in range(int(m.max(initial=0)) + 1))
        rows = np.diff(offsets) + 2
        schema = Schema(
            "events", ("gap", *names), tuple(names), lengths=(int(rows.min()), int(rows.max())), label=label
        )  # fmt: skip
        data = cls(
            t, m, offsets, starts, ends.astype(np.float64), schema,
            None if group is None else np.asarray(group, dtype=np.int64),
            None if part is None else np.asarray(part, dtype=str),
            resolution,
        )  # fmt: skip
        data._check()
        return data

    def _check(self) -> None:
        """Refuse what no likelihood can be computed of."""
        sequence = np.repeat(np.arange(len(self)), self.counts)
        event = np.arange(len(self.times)) - self.offsets[sequence]
        first = event == 0
        before = np.where(first, self.start[sequence], np.concatenate([[0.0], self.times[:-1]]))

        def refuse(bad: np.ndarray, name: str, found: str, expected: str, remedy: str) -> None:
            if bad.any():
                i = int(np.argmax(bad))
                values = {"time": f"{self.times[i]:g}", "mark": self.marks[i], "before": f"{before[i]:g}"}
                place = f"{name}[{sequence[i]}][{event[i]}]"
                raise InputError(place, found=found.format(**values), expected=expected, remedy=remedy)

        refuse(~np.isfinite(self.times), "times", "{time}", "a finite time", "give every event its time")
        for name, moment in (("start", self.start), ("end", self.end)):
            if not np.isfinite(moment).all():
                i = int(np.argmin(np.isfinite(moment)))
                raise InputError(f"{name}[{i}]", found=moment[i], expected="a finite time", remedy="say when it was")
        refuse(first & (self.times < before), "times", "{time}, before the start at {before}", "events from start on",
               "move the start, or pass start=None")  # fmt: skip
        refuse(~first & (self.times < before), "times", "{time} after {before}", "increasing times", "sort the events")
        refuse(
            self.times == before, "times", "{time} twice", "times that differ: a density knows no ties",
            "pass resolution=, the width to which the time stamps are rounded, and the events are spread within it",
        )  # fmt: skip
        known = len(self.schema.classes or ())
        refuse(
            (self.marks < 0) | (self.marks >= known), "marks", "{mark}", f"a number from 0 to {known - 1}",
            "number the marks, and name them in classes=(...)",
        )  # fmt: skip
        late = self.times > self.end[sequence]
        refuse(late, "times", "{time}, after the end", "events until end", "move the end, or pass end=None")
        if (self.end < self.start).any():
            i = int(np.argmax(self.end < self.start))
            raise InputError(
                f"end[{i}]", found=f"{self.end[i]:g}", expected=f"at least the start, {self.start[i]:g}",
                remedy="exchange the two",
            )  # fmt: skip

    # --- what every data set has ----------------------------------------------------------------------------------

    @property
    def fingerprint(self) -> str:
        """Hash of times, marks and windows of observation."""
        return fingerprint(self.times, self.marks, self.offsets, self.start, self.end)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def batch(self, index: Int[np.ndarray, "B"]) -> Batch:
        """Rows of gaps and marks [B, M + 2, 1 + K] as above, float32; zeros beyond a sequence's last row."""
        counts = self.counts[index]
        x = np.zeros((len(index), int(counts.max(initial=0)) + 2, len(self.schema.channels)), np.float32)
        for row, (i, n) in enumerate(zip(index, counts)):
            begin = self.offsets[i]
            x[row, 1 : n + 2, 0] = np.diff(self.times[begin : begin + n], prepend=self.start[i], append=self.end[i])
            x[row, np.arange(1, n + 1), 1 + self.marks[begin : begin + n]] = 1
        group = None if self.group is None else torch.from_numpy(self.group[index])
        return Batch(torch.from_numpy(x), lengths=torch.from_numpy(counts + 2), group=group)

    def select(self, index: Int[np.ndarray, "n"]) -> EventSequences:
        """The sequences with these numbers, in this order; the list of marks stays whole."""
        rows = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in index]
        chosen = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        return replace(
            self,
            times=self.times[chosen],
            marks=self.marks[chosen],
            offsets=np.concatenate([[0], np.cumsum(self.counts[index])]).astype(np.int64),
            start=self.start[index],
            end=self.end[index],
            group=None if self.group is None else self.group[index],
            part=None if self.part is None else self.part[index],
        )

    # --- what only events have ------------------------------------------------------------------------------------

    @property
    def counts(self) -> Int[np.ndarray, "N"]:
        """Number of events of each sequence."""
        return np.diff(self.offsets)

    @property
    def happened(self) -> Bool[np.ndarray, "R"]:
        """[R] for each event and for each end, sequence by sequence: True for an event. R = S + N."""
        happened = np.ones(len(self.times) + len(self), bool)
        happened[self.offsets[1:] + np.arange(len(self))] = False
        return happened

    @property
    def waits(self) -> Float[np.ndarray, "R"]:
        """[R] time to each event from the one before (or the start), and to each end from the last event.

        Example:
            >>> data = EventSequences.of([[1.0, 2.5], []], end=4.0)
            >>> data.waits.tolist(), data.happened.astype(int).tolist()
            ([1.0, 1.5, 1.5, 4.0], [1, 1, 0, 0])
        """
        moment = np.empty(len(self.times) + len(self))
        moment[self.happened], moment[~self.happened] = self.times, self.end
        return moment - self.before(self.times, self.start)

    def before(self, event: Shaped[np.ndarray, "S"], start: Shaped[np.ndarray, "N"]) -> Shaped[np.ndarray, "R"]:
        """[R] what is known before each event and each end: something of the event before, or of the start."""
        known = np.empty(len(event) + len(start), np.result_type(event, start))
        first = self.offsets[:-1] + np.arange(len(start))
        since = np.ones(len(known), bool)
        since[first] = False
        known[first], known[since] = start, event
        return known

    @property
    def mean_gap(self) -> float:
        """Time observed for each event.

        Raises:
            InputError: there are no events.
        """
        if not len(self.times):
            raise InputError("data", found="no events", expected="at least one", remedy="bring longer sequences")
        return float((self.end - self.start).sum() / len(self.times))

    def scaled(self, unit: float) -> EventSequences:
        """The same events with time counted in another unit, e.g. in mean gaps.

        Example:
            >>> data = EventSequences.of([[2.0, 4.0]], end=6.0)
            >>> data.scaled(data.mean_gap).times.round(3).tolist()
            [0.667, 1.333]
        """
        if not 0 < unit < np.inf:
            raise InputError("unit", found=unit, expected="a length of time above 0", remedy="pass data.mean_gap")
        width = None if self.resolution is None else self.resolution / unit
        return replace(
            self, times=self.times / unit, start=self.start / unit, end=self.end / unit, resolution=width
        )  # fmt: skip

    def cut(self, begin: float, stop: float, piece: int = PIECE) -> EventSequences:
        """What happened from one moment to another, in pieces of so many events that follow each other.

        A piece ends with its last event, where the next one starts; the last piece ends with the window. What came
        before a piece is unknown to it.

        Example:
            >>> long = EventSequences.of([[1.0, 2.0, 3.0, 4.0, 5.0]], end=6.0)
            >>> pieces = long.cut(1.5, 6.0, piece=2)
            >>> pieces.start.tolist(), pieces.end.tolist(), pieces.counts.tolist()
            ([1.5, 3.0], [3.0, 6.0], [2, 2])
        """
        bounds, starts, ends, owner = [], [], [], []
        for i in range(len(self)):
            low, high = max(begin, self.start[i]), min(stop, self.end[i])
            if low >= high:
                continue
            a, b = self.offsets[i], self.offsets[i + 1]
            first, after = a + np.searchsorted(self.times[a:b], [low, high], side="right")
            pieces = max(1, round((after - first) / piece))
            edges = np.linspace(first, after, pieces + 1).round().astype(int)
            borders = [low, *self.times[edges[1:-1] - 1], high]
            bounds += [np.arange(*pair) for pair in pairwise(edges)]
            starts += borders[:-1]
            ends += borders[1:]
            owner += [i] * pieces
        rows = np.concatenate([*bounds, np.zeros(0, np.int64)])
        counts = [len(b) for b in bounds]
        lengths = (min(counts, default=0) + 2, max(counts, default=0) + 2)
        return replace(
            self,
            schema=replace(self.schema, lengths=lengths),
            times=self.times[rows],
            marks=self.marks[rows],
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            start=np.array(starts),
            end=np.array(ends),
            group=None if self.group is None else self.group[owner],
            part=None,
        )


class NextRows(NamedTuple):
    """What a batch of events asks: after each row but the last, what of the next one? All [B, T - 1].

    Attributes:
        row: the row that is known.
        gap: time to the next row; 1 beyond a sequence's end, so that nothing there is infinite.
        event: True where the next row is an event.
        tail: True where it is the end.
    """

    row: Int[Tensor, "B R"]
    gap: Float[Tensor, "B R"]
    event: Bool[Tensor, "B R"]
    tail: Bool[Tensor, "B R"]


def next_rows(x: Float[Tensor, "B T C"], lengths: Int[Tensor, "B"] | None) -> NextRows:
    """The questions of a batch.

    Example:
        >>> batch = EventSequences.of([[1.0, 3.0], [2.0]], end=5.0).batch(np.arange(2))
        >>> next_rows(batch.x, batch.lengths).gap.tolist()
        [[1.0, 2.0, 2.0], [2.0, 3.0, 1.0]]
    """
    B, T, _ = x.shape
    row = torch.arange(T - 1, device=x.device).expand(B, -1)
    last = (torch.full((B,), T, device=x.device) if lengths is None else lengths)[:, None] - 1
    event, tail = row + 1 < last, row + 1 == last
    return NextRows(row, torch.where(event | tail, x[:, 1:, 0], 1.0), event, tail)


def split_events(data: EventSequences, seed: int = 0, valid: float = VALID, test: float = TEST) -> Splits:
    """Training, validation and test parts: whole sequences; fewer than ten sequences are each cut by time.

    Sequences are drawn with groups whole, and a split of the data's own is kept, as in `by_sample`. Cut by time, the
    earliest events train and the latest test, at the same moments in all sequences, and each part consists of pieces
    of about a hundred events.

    Raises:
        InputError: too few sequences or events to fill the three parts, or a share out of range.
        DataError: the data's own split lacks a part.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> parts = split_events(EventSequences.of([np.cumsum(rng.exponential(size=1000))]))
        >>> [len(part.times) for part in (parts.train, parts.valid, parts.test)]
        [650, 150, 200]
    """
    if len(data) >= FEW or data.part is not None:
        rows = np.zeros((len(data), 1), np.int8)
        schema = Schema("sequences", ("number",))
        whole = by_sample(
            Sequences(np.arange(len(data))[:, None] + rows, np.arange(len(data) + 1), None, schema, data.group, data.part),
            seed, valid, test,
        )  # fmt: skip
        chosen = [part.values[:, 0] for part in (whole.train, whole.valid, whole.test)]  # type: ignore[attr-defined]
        return Splits(*(data.select(index) for index in chosen))
    if not (valid > 0 and test > 0 and valid + test < 1):
        raise InputError(
            "valid, test", found=f"{valid} and {test}", expected="shares above 0 that leave some to train on",
            remedy=f"try valid={VALID}, test={TEST}",
        )  # fmt: skip
    if len(data.times) < 3 * FEW:
        raise InputError(
            "data", found=f"{len(data.times)} events in {len(data)} sequences",
            expected=f"at least {FEW} sequences, or {3 * FEW} events to be cut by time", remedy="bring more data",
        )  # fmt: skip
    ordered = np.sort(data.times)
    edges = [ordered[round(len(ordered) * share) - 1] for share in (1 - valid - test, 1 - test)]
    moments = [float(data.start.min()), *edges, float(data.end.max())]
    return Splits(*(data.cut(begin, stop) for begin, stop in pairwise(moments)))


def _whole(marks: object) -> Int[np.ndarray, "n"]:
    found = np.asarray(marks)
    if found.size and found.dtype.kind not in "iub":
        raise InputError(
            "marks", found=f"{found.dtype} marks such as {found.flat[0]!r}", expected="numbers 0, 1, ...",
            remedy="number the marks and pass their names as classes=(...)",
        )  # fmt: skip
    return found.astype(np.int64).reshape(-1)


def _spread(times: Float[np.ndarray, "S"], offsets: Int[np.ndarray, "N+1"], width: float) -> Float[np.ndarray, "S"]:
    """Each event moved by a random part of the width; events of one stamp stay in their order."""
    if not 0 < width < np.inf:
        raise InputError("resolution", found=width, expected="a length of time above 0", remedy="60 = whole minutes")
    sequence = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    part = np.random.default_rng(0).random(len(times))
    _, stamp = np.unique(np.stack([sequence, times]), axis=1, return_inverse=True)
    part = part[np.lexsort((part, stamp))][np.argsort(np.argsort(stamp, kind="stable"), kind="stable")]
    return times + width * part


def _from_first(
    times: Float[np.ndarray, "S"], marks: Int[np.ndarray, "S"], offsets: Int[np.ndarray, "N+1"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Observation that begins with the first event of each sequence, which then is its start."""
    counts = np.diff(offsets)
    if not counts.all():
        i = int(np.argmin(counts))
        raise InputError(
            f"times[{i}]", found="no events, and no start", expected="a start, or a first event to start with",
            remedy="pass start=, or leave the sequence out",
        )  # fmt: skip
    kept = np.delete(np.arange(len(times)), offsets[:-1])
    return times[kept], marks[kept], offsets - np.arange(len(offsets)), times[offsets[:-1]]
