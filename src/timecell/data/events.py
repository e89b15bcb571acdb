"""`EventStream`: what an event camera saw, as pixel, time and polarity of each change of brightness.

Bin k of a recording holds the events in [k dt, (k+1) dt) after the first one: cameras count time from when they were
switched on, which says nothing about the scene. Every event is counted once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int, Shaped, UInt

from timecell.data.arrays import EVENT
from timecell.data.binning import bin_spikes
from timecell.data.containers import Schema, Sequences
from timecell.errors import DataError, InputError

Size = tuple[int, int]


@dataclass(frozen=True)
class EventStream:
    """Events in the order of time.

    Attributes:
        x: [E] column of the pixel, 0 to W - 1.
        y: [E] row of the pixel, 0 to H - 1.
        t: [E] time, never decreasing, in units of `tick`.
        p: [E] polarity: 1 (brighter, ON) or 0 (darker, OFF); -1 counts as 0.
        tick: seconds in one unit of t; 1e-6 for microseconds.
        size: (H, W) of the sensor in pixels.
        source: what to call the recording in a message.

    Raises:
        InputError: `tick` or `size` is not positive.
        DataError: there are no events, a pixel lies off the sensor, a time goes back, a polarity is unknown.

    Example:
        >>> stream = EventStream(x=[0, 2, 2], y=[1, 0, 0], t=[5, 6, 25], p=[1, 0, 0], tick=0.001, size=(2, 3))
        >>> frames = stream.frames(dt=0.010)
        >>> frames.shape, int(frames[0, 1, 1, 0]), int(frames[2, 0, 0, 2]), int(frames.sum())
        ((3, 2, 2, 3), 1, 1, 3)
    """

    x: Int[np.ndarray, "E"]
    y: Int[np.ndarray, "E"]
    t: Shaped[np.ndarray, "E"]
    p: Int[np.ndarray, "E"]
    tick: float
    size: Size
    source: str = "events"

    def __post_init__(self) -> None:
        if not 0 < self.tick < np.inf:
            raise InputError("tick", found=self.tick, expected="seconds above 0", remedy="1e-6 means microseconds")
        if len(self.size) != 2 or min(self.size) < 1:
            raise InputError("size", found=self.size, expected="(height, width) in pixels", remedy="pass both, above 0")
        columns = {name: np.asarray(getattr(self, name)) for name in EVENT}
        lengths = {name: column.shape for name, column in columns.items()}
        if len(set(lengths.values())) > 1 or columns["t"].ndim != 1 or not len(columns["t"]):
            raise DataError(
                self.source, found=f"shapes {', '.join(f'{name} {list(shape)}' for name, shape in lengths.items())}",
                expected="one number for each event, and at least one event", remedy="check how it was recorded",
            )  # fmt: skip
        H, W = self.size
        t = columns["t"]
        with np.errstate(invalid="ignore"):
            late = np.concatenate([[False], t[1:] < t[:-1]])
        self._refuse(~((columns["x"] >= 0) & (columns["x"] < W)), "x", columns, f"a column from 0 to {W - 1}")
        self._refuse(~((columns["y"] >= 0) & (columns["y"] < H)), "y", columns, f"a row from 0 to {H - 1}")
        self._refuse(~np.isfinite(t.astype(np.float64)), "t", columns, "a time")
        self._refuse(late, "t", columns, "a time not before the event before it: sort the events")
        self._refuse(~np.isin(columns["p"], (-1, 0, 1)), "p", columns, "1 (ON), or 0 or -1 (OFF)")
        for name in ("x", "y"):
            object.__setattr__(self, name, columns[name].astype(np.int64))
        object.__setattr__(self, "t", t)
        object.__setattr__(self, "p", (columns["p"] > 0).astype(np.int64))

    def _refuse(self, bad: Shaped[np.ndarray, "E"], name: str, columns: dict[str, np.ndarray], expected: str) -> None:
        if bad.any():
            i = int(np.argmax(bad))
            raise DataError(
                f"{self.source}, event {i}, {name}", found=columns[name][i], expected=expected,
                remedy="check the size of the sensor, the unit of time, and whether the file is whole",
            )  # fmt: skip

    def __len__(self) -> int:
        return len(self.t)

    def pooled(self, factor: int) -> EventStream:
        """The same events on a sensor whose pixels are `factor` times as wide and high.

        Example:
            >>> stream = EventStream(x=[5], y=[3], t=[0], p=[1], tick=1e-6, size=(4, 6)).pooled(2)
            >>> int(stream.x[0]), int(stream.y[0]), stream.size
            (2, 1, (2, 3))
        """
        if factor < 1:
            raise InputError(
                "pool", found=factor, expected="a whole number from 1", remedy="pass pixels to put together"
            )
        H, W = self.size
        return replace(self, x=self.x // factor, y=self.y // factor, size=(-(-H // factor), -(-W // factor)))

    def frames(self, dt: float) -> UInt[np.ndarray, "T 2 H W"]:
        """Counts of OFF (0) and ON (1) events in bins of dt seconds from the first event on.

        Raises:
            InputError: dt is not positive.
            DataError: the times reach so far that hardly a bin would hold an event; see `bin_spikes`.
        """
        H, W = self.size
        seconds = (self.t - self.t[0]).astype(np.float64) * self.tick
        pixel = (self.p * H + self.y) * W + self.x
        counts, _ = bin_spikes(seconds, pixel, np.array([0, len(self)]), dt, 2 * H * W, self.source)
        return counts.reshape(-1, 2, H, W)


def sequences(stream: EventStream, *, dt: float = 0.010, pool: int = 1) -> Sequences:
    """One sample without a label: frames whose channels are polarity, row and column in this order, laid flat.

    Example:
        >>> stream = EventStream(x=[0, 2], y=[1, 0], t=[0, 9], p=[1, 0], tick=0.001, size=(2, 3))
        >>> data = sequences(stream, dt=0.005)
        >>> data.values.shape, data.schema.channels[2], data.schema.rate
        ((2, 12), 'off 0,2', 200.0)
    """
    frames = stream.pooled(pool).frames(dt)
    T, _, H, W = frames.shape
    names = tuple(f"{side} {y},{x}" for side in ("off", "on") for y in range(H) for x in range(W))
    schema = Schema("sequences", names, rate=1 / dt, lengths=(T, T), spikes=True)
    return Sequences(frames.reshape(T, -1), np.array([0, T]), None, schema)
