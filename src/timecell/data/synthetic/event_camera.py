"""`render_events`: what an event camera would send of a film, and the brightness that its events stand for."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from timecell.data.events import EventStream
from timecell.errors import InputError

TICK = 1e-6
DARK = 1e-3
"""Added to the intensities before the logarithm, so that black is finite."""


class Rendered(NamedTuple):
    """Events and what they were made from.

    Attributes:
        stream: the events, in microseconds.
        level: [T, H, W] log intensity that the events up to each frame stand for: that of the first frame, plus a
            threshold for each ON event and minus one for each OFF event, before any is lost or added by refractory time
            or noise. It stays within one threshold of the film's.
    """

    stream: EventStream
    level: Float[np.ndarray, "T H W"]


def render_events(
    frames: Float[np.ndarray, "T H W"],
    rate: float,
    *,
    threshold: float = 0.2,
    refractory: float = 0.0,
    noise: float = 0.0,
    seed: int = 0,
) -> Rendered:
    """Events of each pixel whose log intensity has moved by a threshold since its last event.

    Between two frames the log intensity moves evenly, so an event lies at the moment at which its level is crossed
    (Lichtsteiner, Posch & Delbruck 2008; Rebecq, Gehrig & Scaramuzza 2018). A pixel is silent for the refractory time
    after an event: levels that are crossed meanwhile are lost. Noise events come at random times and polarities.

    Args:
        frames: film of intensities from 0 on.
        rate: frames per second.
        threshold: contrast of an event, in log intensity; 0.2 is a change by a fifth.
        refractory: seconds.
        noise: events per pixel and second.
        seed: of the noise.

    Raises:
        InputError: there are fewer than two frames, an intensity is negative or not finite, an argument is out of range.

    Example:
        >>> film = np.zeros((2, 3, 3)); film[1, 1, 1] = 1.0
        >>> stream, level = render_events(film, rate=10.0, threshold=1.0)
        >>> len(stream), set(stream.p.tolist()), set(stream.x.tolist()), bool(stream.t[-1] < 100_000)
        (6, {1}, {1}, True)
    """
    frames = np.asarray(frames, dtype=np.float64)
    if frames.ndim != 3 or len(frames) < 2 or not np.isfinite(frames).all() or frames.min(initial=0) < 0:
        raise InputError(
            "frames", found=f"shape {frames.shape}", expected="[T, H, W], two frames or more, finite from 0 on",
            remedy="pass intensities of one channel",
        )  # fmt: skip
    for name, value, fits in (
        ("rate", rate, rate > 0), ("threshold", threshold, threshold > 0), ("refractory", refractory, refractory >= 0),
        ("noise", noise, noise >= 0),
    ):  # fmt: skip
        if not (fits and np.isfinite(value)):
            raise InputError(name, found=value, expected="a number above 0 (0 is no noise)", remedy="correct it")
    log = np.log(frames + DARK)
    level, events = [log[0]], []
    for k, (before, now) in enumerate(pairwise(log)):
        sent = level[-1]
        crossed = np.floor(np.abs(now - sent) / threshold).astype(int)
        up = np.sign(now - sent)
        level.append(sent + up * threshold * crossed)
        pixel = np.repeat(np.arange(crossed.size), crossed.ravel())
        nth = np.arange(len(pixel)) - np.repeat(np.cumsum(crossed) - crossed.ravel(), crossed.ravel()) + 1
        risen = (sent - before).flat[pixel] + up.flat[pixel] * threshold * nth
        share = risen / (now - before).flat[pixel]  # of the way from one frame to the next
        y, x = np.divmod(pixel, crossed.shape[1])
        events.append(np.stack([x, y, (k + share) / rate, up.flat[pixel] > 0], axis=1))
    rows = np.concatenate([*events, _noise(frames.shape, rate, noise, seed)])
    rows = _rested(rows[np.argsort(rows[:, 2], kind="stable")], refractory)
    if not len(rows):
        raise InputError(
            "threshold", found=f"{threshold:g}, which no pixel ever crosses", expected="some event",
            remedy=f"choose it below the largest change, {np.ptp(log, axis=0).max():.3g}",
        )  # fmt: skip
    x, y, p = rows[:, [0, 1, 3]].T.astype(np.int64)
    t = np.floor(rows[:, 2] / TICK).astype(np.int64)
    return Rendered(EventStream(x, y, t, p, TICK, frames.shape[1:], source="rendered events"), np.stack(level))


def _noise(shape: tuple[int, ...], rate: float, noise: float, seed: int) -> Float[np.ndarray, "E 4"]:
    """x, y, seconds and polarity of events that come from nowhere."""
    T, H, W = shape
    rng = np.random.default_rng(seed)
    seconds = (T - 1) / rate
    n = rng.poisson(noise * seconds * H * W)
    return np.stack(
        [rng.integers(0, W, n), rng.integers(0, H, n), rng.uniform(0, seconds, n), rng.integers(0, 2, n)], axis=1
    )


def _rested(rows: Float[np.ndarray, "E 4"], refractory: float) -> Float[np.ndarray, "E 4"]:
    """The events that find their pixel rested, of events in the order of time."""
    if not refractory:
        return rows
    ready: dict[tuple[float, float], float] = {}
    kept = np.zeros(len(rows), dtype=bool)
    for i, (x, y, t, _) in enumerate(rows.tolist()):
        kept[i] = t >= ready.get((x, y), -np.inf)
        if kept[i]:
            ready[x, y] = t + refractory
    return rows[kept]
