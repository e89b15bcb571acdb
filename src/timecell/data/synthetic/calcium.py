"""Generated calcium recordings that know which neurons work together, and when.

`calcium`: several animals with the same named neurons. Groups of neurons, which share some of their members, each follow
a drive of their own, and only in a few episodes; all others are active too, but alone.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from timecell.data.containers import Sequences
from timecell.errors import InputError

RISE, DECAY = 0.2, 1.0
"""How fast fluorescence follows an event, and how long it stays [s]."""
EVENTS, ALONE = 0.4, 0.02
"""Events in an episode and outside of one [1/s]."""
FOLLOWS, GAIN = 0.9, (0.7, 1.3)
"""How often a member answers an event of its community's drive, and how strongly."""


class Calcium(NamedTuple):
    """Recordings and what they were made from.

    Attributes:
        data: a [T, neurons] recording for each animal; NaN for a neuron that was not identified in it.
        members: [communities, neurons] who belongs to which; a neuron may belong to several, or to none.
        activity: [animals, T, communities] the drive of each community, seen through fluorescence.
    """

    data: Sequences
    members: Bool[np.ndarray, "R N"]
    activity: Float[np.ndarray, "A T R"]


def calcium(
    neurons: int = 60,
    communities: int = 3,
    *,
    members: tuple[int, int] = (12, 18),
    shared: float = 0.25,
    episodes: tuple[int, int] = (2, 3),
    lasting: tuple[float, float] = (20.0, 40.0),
    animals: int = 3,
    missing: float = 0.1,
    seconds: float = 300.0,
    rate: float = 4.0,
    noise: float = 0.1,
    seed: int = 0,
) -> Calcium:
    """Fluorescence of neurons whose communities overlap and are active for a while only.

    A community has some episodes in each animal, at times of their own. In an episode its drive has random events, which
    most of its members answer, each with a gain of its own. A neuron of no community is as busy in episodes that nobody
    shares. All have a few more events alone. An event is a kernel with a rise and a decay (autoregressive of order 2),
    and noise is added.

    Args:
        neurons: N; the same in all animals, in the same order.
        communities: R.
        members: fewest and most neurons of a community.
        shared: share of a community's members that belong to the community before it as well.
        episodes: fewest and most of them for each community and animal.
        lasting: seconds of the shortest and the longest episode.
        animals: recordings A.
        missing: share of the neurons that are not identified, drawn anew for each animal.
        seconds: length of a recording.
        rate: steps per second.
        noise: standard deviation; the peak of an event is 1.
        seed: of everything.

    Raises:
        InputError: an argument is out of its range, or there are too few neurons for such communities.

    Example:
        >>> recordings, members, activity = calcium(seconds=60, lasting=(5, 10))
        >>> len(recordings), recordings[0].shape, members.shape, activity.shape
        (3, (240, 60), (3, 60), (3, 240, 3))
    """
    T = round(seconds * rate)
    for name, value, fits, expected in (
        ("communities", communities, communities >= 1, "at least 1"),
        ("members", members, 2 <= members[0] <= members[1], "(fewest, most), at least 2"),
        ("shared", shared, 0 <= shared < 1, "a share below 1"),
        ("episodes", episodes, 1 <= episodes[0] <= episodes[1], "(fewest, most), at least 1"),
        ("lasting", lasting, 0 < lasting[0] <= lasting[1] <= seconds / episodes[1], f"up to {seconds / episodes[1]:g} s"),
        ("animals", animals, animals >= 1, "at least 1"),
        ("missing", missing, 0 <= missing < 1, "a share below 1"),
        ("rate", rate, rate > 0, "above 0"),
        ("seconds", seconds, T >= 2, "two steps or more"),
        ("noise", noise, noise >= 0, "0 or more"),
    ):  # fmt: skip
        if not fits:
            raise InputError(name, found=value, expected=expected, remedy="pass such a value")
    rng = np.random.default_rng(seed)
    belongs = _draw_members(rng, neurons, communities, members, shared)

    traces = np.empty((animals, T, neurons))
    activity = np.empty((animals, T, communities))
    for animal in range(animals):
        drive = _events(rng, _episodes(rng, T, rate, communities, episodes, lasting), rate)
        own = _episodes(rng, T, rate, neurons, episodes, lasting) & ~belongs.any(axis=0)
        answered = rng.random((T, communities, neurons)) < FOLLOWS * belongs
        gain = rng.uniform(*GAIN, neurons)
        driven = np.einsum("tr,trn->tn", drive, answered) * gain
        alone = _events(rng, own, rate) + (rng.random((T, neurons)) < ALONE / rate)
        traces[animal] = _fluorescence(driven + alone, rate) + noise * rng.standard_normal((T, neurons))
        activity[animal] = _fluorescence(drive, rate)
        traces[animal][:, rng.permutation(neurons)[: round(missing * neurons)]] = np.nan
    names = tuple(f"n{i}" for i in range(neurons))
    return Calcium(Sequences.of(traces, channels=names, rate=rate, group=np.arange(animals)), belongs, activity)


def _draw_members(
    rng: np.random.Generator, neurons: int, communities: int, size: tuple[int, int], shared: float
) -> Bool[np.ndarray, "R N"]:
    """Each community takes some members of the one before and fills up with neurons that have none yet."""
    sizes = rng.integers(size[0], size[1] + 1, communities)
    old = np.rint(shared * sizes).astype(int)
    old[0] = 0
    needed = int((sizes - old).sum())
    if needed > neurons:
        raise InputError(
            "neurons",
            found=neurons,
            expected=f"at least {needed} for communities of {sizes.tolist()}",
            remedy="pass more",
        )
    free = rng.permutation(neurons).tolist()
    belongs = np.zeros((communities, neurons), dtype=bool)
    new: list[int] = []
    for r in range(communities):
        before, new = new, [free.pop() for _ in range(sizes[r] - old[r])]
        belongs[r, [*new, *before[: old[r]]]] = True
    return belongs


def _episodes(
    rng: np.random.Generator, T: int, rate: float, units: int, count: tuple[int, int], lasting: tuple[float, float]
) -> Bool[np.ndarray, "T units"]:
    """When each unit has an episode: one in each of as many equal stretches of the recording as it has episodes."""
    on = np.zeros((T, units), dtype=bool)
    for unit in range(units):
        stretches = np.linspace(0, T, rng.integers(count[0], count[1] + 1) + 1)
        for begin, end in pairwise(stretches):
            length = rng.uniform(*lasting) * rate
            start = rng.uniform(begin, end - length)
            on[round(start) : round(start + length), unit] = True
    return on


def _events(
    rng: np.random.Generator, episodes: Bool[np.ndarray, "T units"], rate: float
) -> Float[np.ndarray, "T units"]:
    """Random events within the episodes."""
    return (episodes & (rng.random(episodes.shape) < EVENTS / rate)).astype(float)


def _fluorescence(events: Float[np.ndarray, "T units"], rate: float) -> Float[np.ndarray, "T units"]:
    """c_t = (d + r) c_{t-1} - d r c_{t-2} + events_t, with the peak of an event at 1."""
    from scipy.signal import lfilter

    d, r = np.exp(-1 / (rate * DECAY)), np.exp(-1 / (rate * RISE))
    kernel = [1.0, -(d + r), d * r]
    peak = lfilter([1.0], kernel, np.eye(1, round(10 * rate * DECAY))[0]).max()
    return lfilter([1 / peak], kernel, events, axis=0)
