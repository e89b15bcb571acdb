"""What `Structure` is answered with, `Communities`, and its baselines: all together, or Louvain's communities."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int

from timecell.data.containers import Data, Schema, Sequences, Series
from timecell.errors import InputError
from timecell.rhythm.connectivity import functional_connectivity
from timecell.system import Card, Run, Task
from timecell.tasks.fitted import FittedArrays


@dataclass(frozen=True)
class Communities:
    """Groups of channels, which may overlap, and how active each is; there may be none.

    Attributes:
        members: [R, N] who belongs to which.
        activity: [T, R] of each community at each step of the data, from 0 on.

    Raises:
        InputError: the shapes do not fit, or an activity is negative or not finite.

    Example:
        >>> Communities(np.array([[True, True, False]]), np.ones((4, 1))).sizes.tolist()
        [2]
    """

    members: Bool[np.ndarray, "R N"]
    activity: Float[np.ndarray, "T R"]

    def __post_init__(self) -> None:
        members, activity = self.members, self.activity
        if members.ndim != 2 or members.dtype != bool or activity.shape[1:] != members.shape[:1]:
            raise InputError(
                "members, activity", found=f"{members.dtype} {members.shape} and {activity.shape}",
                expected="bool [R, N] and [T, R]", remedy="give every community a row of members and a column of activity",
            )  # fmt: skip
        wrong = ~(np.isfinite(activity) & (activity >= 0))
        if wrong.any():
            t, r = (int(i) for i in np.argwhere(wrong)[0])
            raise InputError(
                f"activity[{t}, {r}]", found=activity[t, r], expected="a finite number from 0 on",
                remedy="a NaN means that the fit has gone astray; check the recording for gaps",
            )  # fmt: skip

    @property
    def sizes(self) -> Int[np.ndarray, "R"]:
        """Number of members of each."""
        return self.members.sum(axis=1)

    def arrays(self) -> dict[str, Any]:
        """`members` and `activity`."""
        return {"members": self.members, "activity": self.activity}


def recordings(data: Data | Series) -> list[Float[np.ndarray, "T N"]]:
    """The recordings that data hold: one series, or a sequence for each animal or session, with the same channels.

    Raises:
        InputError: the data are neither.

    Example:
        >>> len(recordings(Sequences.of(np.zeros((3, 10, 2)))))
        3
    """
    if isinstance(data, Series):
        return [data.values.astype(float)]
    if isinstance(data, Sequences):
        return [data[i].astype(float) for i in range(len(data))]
    raise InputError("data", found=type(data).__name__, expected="a Series, or Sequences", remedy="pass a recording")


@dataclass(frozen=True)
class FittedCommunities(FittedArrays):
    """Communities that are what they are; how active one is, is the mean of its members above their lowest values.

    Attributes:
        members: [R, N] who belongs to which.
    """

    members: Bool[np.ndarray, "R N"]

    def predict(self, data: Data | Series) -> Communities:
        """The communities, and their activity in these data, one recording after the other.

        Raises:
            InputError: the data have another number of channels.
        """
        found = same_channels(data, self.members.shape[1])
        return Communities(self.members, np.concatenate([self.activity(x) for x in found]))

    def activity(self, x: Float[np.ndarray, "T N"]) -> Float[np.ndarray, "T R"]:
        """In one recording."""
        known = ~np.isnan(x)
        above = np.where(known, x - np.where(known, x, np.inf).min(axis=0), 0.0)
        return above @ self.members.T / np.maximum(known @ self.members.T.astype(float), 1)


def same_channels(data: Data | Series, channels: int) -> list[Float[np.ndarray, "T N"]]:
    """The recordings, known to have so many channels."""
    found = recordings(data)
    if found[0].shape[1] != channels:
        raise InputError(
            "data", found=f"{found[0].shape[1]} channels", expected=f"the {channels} of the training data",
            remedy="load the same channels as for training",
        )  # fmt: skip
    return found


@dataclass(frozen=True)
class _Baseline:
    card: ClassVar[Card]

    def accepts(self, schema: Schema, task: Task) -> str | None:
        """Recordings of two channels or more."""
        if task.name != "structure":
            return f"it finds communities, and the task is {task.name}"
        return None if len(schema.channels) > 1 else "there is one channel only"

    def space(self) -> Mapping[str, Sequence[Any]]:
        """Nothing to tune."""
        return {}

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> FittedCommunities:
        """Find communities in the training data."""
        start = time.perf_counter()
        members = self.members(recordings(train), run.seed)
        return FittedCommunities(self.card, time.perf_counter() - start, members)

    def members(self, found: list[Float[np.ndarray, "T N"]], seed: int) -> Bool[np.ndarray, "R N"]:
        """Communities of some recordings."""
        raise NotImplementedError


@dataclass(frozen=True)
class EveryChannel(_Baseline):
    """One community of all channels: what they all share.

    Example:
        >>> EveryChannel().members([np.zeros((10, 3))], seed=0).tolist()
        [[True, True, True]]
    """

    card = Card("every-channel", "Every channel", "One community that everybody belongs to.", "baseline")

    def members(self, found: list[Float[np.ndarray, "T N"]], seed: int) -> Bool[np.ndarray, "R N"]:
        """One row."""
        return np.ones((1, found[0].shape[1]), dtype=bool)


@dataclass(frozen=True)
class StaticLouvain(_Baseline):
    """Louvain's communities (Blondel et al. 2008) of the positive correlations over all time.

    Attributes:
        resolution: the higher, the smaller the communities.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = np.repeat(rng.standard_normal((200, 2)), 3, axis=1) + 0.5 * rng.standard_normal((200, 6))
        >>> StaticLouvain().members([x], seed=0).astype(int).tolist()
        [[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]
    """

    resolution: float = 1.0

    card = Card(
        "static-louvain", "Correlation and Louvain", "Communities of the correlation over all time.", "baseline",
        paper="arXiv:0803.0476",
    )  # fmt: skip

    def space(self) -> Mapping[str, Sequence[Any]]:
        """The resolution."""
        return {"resolution": (0.75, 1.0, 1.25, 1.5, 2.0)}

    def members(self, found: list[Float[np.ndarray, "T N"]], seed: int) -> Bool[np.ndarray, "R N"]:
        """Correlations are means over the recordings that have both channels, each counting by its length."""
        each = np.concatenate([functional_connectivity(x, len(x), len(x)) for x in found])
        return louvain(_mean(each, np.array([len(x) for x in found])), self.resolution, seed)


@dataclass(frozen=True)
class SlidingLouvain(_Baseline):
    """Louvain's communities in each of a few states of the correlation in sliding windows (after Allen et al. 2014).

    The windows' correlations are put into `states` clusters (k-means), and the mean correlation of each is cut into
    communities; so these may overlap between states.

    Attributes:
        window: steps of a window; the next begins half a window later.
        states: clusters of windows.
        resolution: the higher, the smaller the communities.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = np.repeat(rng.standard_normal((200, 2)), 3, axis=1) + 0.5 * rng.standard_normal((200, 6))
        >>> SlidingLouvain(states=1).members([x], seed=0).astype(int).tolist()
        [[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]
    """

    window: int = 16
    states: int = 4
    resolution: float = 1.0

    card = Card(
        "sliding-louvain", "Sliding correlation and Louvain", "Communities of the correlation in windows.", "baseline",
        paper="doi:10.1093/cercor/bhs352",
    )  # fmt: skip

    def space(self) -> Mapping[str, Sequence[Any]]:
        """States and resolution."""
        return {"states": (2, 4, 8), "resolution": (0.75, 1.0, 1.5, 2.0)}

    def members(self, found: list[Float[np.ndarray, "T N"]], seed: int) -> Bool[np.ndarray, "R N"]:
        """All states' communities; the same set of channels counts once."""
        from sklearn.cluster import KMeans

        each = np.concatenate([functional_connectivity(x, self.window, self.window // 2) for x in found])
        i, j = np.triu_indices(each.shape[1], 1)
        state = KMeans(min(self.states, len(each)), n_init=3, random_state=seed).fit_predict(
            np.nan_to_num(each[:, i, j])
        )
        sets = [louvain(_mean(each[state == k]), self.resolution, seed) for k in np.unique(state)]
        return np.unique(np.concatenate(sets), axis=0)[::-1]


def louvain(weights: Float[np.ndarray, "N N"], resolution: float = 1.0, seed: int = 0) -> Bool[np.ndarray, "R N"]:
    """Louvain's communities of the positive weights, those of one channel left out.

    Example:
        >>> louvain(np.kron(np.eye(2), np.ones((2, 2)))).astype(int).tolist()
        [[1, 1, 0, 0], [0, 0, 1, 1]]
    """
    import networkx as nx

    graph = nx.from_numpy_array(np.maximum(np.nan_to_num(weights), 0.0))
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    sets = nx.community.louvain_communities(graph, weight="weight", resolution=resolution, seed=seed)
    numbers: list[Int[np.ndarray, "n"]] = [np.array(sorted(one)) for one in sets if len(one) > 1]
    members = np.zeros((len(numbers), len(weights)), dtype=bool)
    for row, own in zip(members, sorted(numbers, key=lambda own: int(own[0]))):
        row[own] = True
    return members


def _mean(each: Float[np.ndarray, "W N N"], weight: Int[np.ndarray, "W"] | None = None) -> Float[np.ndarray, "N N"]:
    """Mean over what is known; 0 where nothing is."""
    size = np.ones(len(each)) if weight is None else weight
    known = ~np.isnan(each) * size[:, None, None]
    return np.nansum(each * size[:, None, None], axis=0) / np.maximum(known.sum(axis=0), 1)
