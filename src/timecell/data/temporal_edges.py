"""`TemporalEdges`: a stream of contacts (source, target, time, features), and what was known before each moment.

Everything here asks for the past in one way: *strictly before t*. Edges of the same instant never see each other, and
since they have no order of their own they are kept in a canonical one, so that shuffling them changes nothing.

A part of a split holds the stream from its very beginning up to the part's own end; `begin` says where the part
itself begins. The edges before it are history, known but neither trained on nor scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from timecell.data.containers import Schema, fingerprint
from timecell.data.splits import TEST, VALID
from timecell.errors import InputError


class Events(NamedTuple):
    """Some edges as tensors, in order of time.

    Attributes:
        source, target: [B] numbers of nodes.
        time: [B] float64, in the data's units.
        features: [B, F] float32.
    """

    source: Int[Tensor, "B"]
    target: Int[Tensor, "B"]
    time: Float[Tensor, "B"]
    features: Float[Tensor, "B F"]

    def to(self, device: torch.device | str) -> Events:
        """The same on another device."""
        return Events(*(t.to(device) for t in self))


class Recent(NamedTuple):
    """The last contacts of some nodes, latest first; -1 where there are fewer.

    Attributes:
        edge: [n, k] numbers of edges.
        neighbour: [n, k] the node at the other end of each.
    """

    edge: Int[np.ndarray, "n k"]
    neighbour: Int[np.ndarray, "n k"]


@dataclass(frozen=True)
class TemporalEdges:
    """Edges in order of time. `of` makes them from arrays in any order.

    Attributes:
        source, target: [E] numbers of nodes, indices into `nodes`. Both ends share one set of nodes.
        time: [E] float64, increasing; any unit.
        features: [E, F] float32.
        nodes: [V] names.
        schema: description; its channels are the features' names.
        begin: edges before this one are history; see the module.

    Example:
        >>> edges = TemporalEdges.of([0, 0, 1], [1, 2, 2], [1.0, 2.0, 2.0])
        >>> edges.recent([0, 2], [2.0, 3.0], k=2).neighbour.tolist()
        [[1, -1], [1, 0]]
    """

    source: Int[np.ndarray, "E"]
    target: Int[np.ndarray, "E"]
    time: Float[np.ndarray, "E"]
    features: Float[np.ndarray, "E F"]
    nodes: Shaped[np.ndarray, "V"]
    schema: Schema
    begin: int = 0

    @classmethod
    def of(
        cls,
        source: Sequence[int] | Int[np.ndarray, "E"],
        target: Sequence[int] | Int[np.ndarray, "E"],
        time: Sequence[float] | Float[np.ndarray, "E"],
        features: Float[np.ndarray, "E F"] | None = None,
        *,
        nodes: Sequence[str] | Shaped[np.ndarray, "V"] | None = None,
        channels: Sequence[str] | None = None,
    ) -> TemporalEdges:
        """Sort by time, and edges of one instant by source, target and features.

        Args:
            source: [E] node at one end of each edge, a number from 0 on.
            target: [E] node at the other end.
            time: [E] when; any unit.
            features: [E, F] numbers that belong to an edge; None = none.
            nodes: names of the nodes; None = their numbers.
            channels: names of the features; None = x0, x1, ...

        Raises:
            InputError: lengths differ, there is no edge, a node has no name or a negative number, a time or a feature
                is not finite.
        """
        u, v = (_ids(name, ids) for name, ids in (("source", source), ("target", target)))
        t = np.asarray(time, dtype=np.float64)
        x = np.zeros((len(u), 0), np.float32) if features is None else np.asarray(features, dtype=np.float32)
        for name, array, ndim in (("target", v, 1), ("time", t, 1), ("features", x, 2)):
            if array.ndim != ndim or len(array) != len(u):
                raise InputError(
                    name, found=f"shape {array.shape}", expected=f"{ndim} axes, {len(u)} edges as in source",
                    remedy="give every edge one entry",
                )  # fmt: skip
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                row = np.argwhere(~np.isfinite(array))[0].tolist()
                raise InputError(
                    f"{name}{row}", found=array[tuple(row)], expected="a finite number", remedy="correct or remove it"
                )
        highest = int(max(u.max(), v.max()))
        named = np.arange(highest + 1).astype(str) if nodes is None else np.asarray(nodes, dtype=str)
        if highest >= len(named):
            raise InputError(
                "nodes", found=f"{len(named)} names", expected=f"{highest + 1}, as there is a node {highest}",
                remedy="name every node",
            )  # fmt: skip
        names = tuple(channels or (f"x{i}" for i in range(x.shape[1])))
        if len(names) != x.shape[1]:
            raise InputError(
                "channels", found=f"{len(names)} names", expected=f"{x.shape[1]}, one a feature", remedy="match the two"
            )
        order = np.lexsort((*x.T[::-1], v, u, t))
        schema = Schema("edges", names, lengths=(len(u), len(u)))
        return cls(u[order], v[order], t[order], x[order], named, schema)

    @property
    def fingerprint(self) -> str:
        """Hash of edges and cut."""
        return fingerprint(self.source, self.target, self.time, self.features, np.array([self.begin]))

    def __len__(self) -> int:
        """Edges that are not history."""
        return len(self.time) - self.begin

    # --- the past ------------------------------------------------------------------------------------------------

    def count_before(self, t: Float[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """How many edges lie strictly before each time; they are the first so many."""
        return np.searchsorted(self.time, t, side="left")

    def before(self, t: float) -> TemporalEdges:
        """The stream strictly before a time.

        Example:
            >>> len(TemporalEdges.of([0, 0, 1], [1, 2, 2], [1.0, 2.0, 2.0]).before(2.0))
            1
        """
        return self._up_to(int(self.count_before(np.array(t))), self.begin)

    def after(self, history: TemporalEdges) -> TemporalEdges:
        """The same edges, and as their history a stream that came before them.

        Nodes are known by their names.

        Raises:
            InputError: the history has other features, or does not end before these edges begin.

        Example:
            >>> first, then = (TemporalEdges.of([0], [1], [t], nodes=("ann", end)) for t, end in ((1.0, "bob"), (2.0, "cy")))
            >>> joined = then.after(first)
            >>> len(joined), joined.nodes[joined.target].tolist()
            (1, ['bob', 'cy'])
        """
        if history.schema.channels != self.schema.channels:
            raise InputError(
                "history", found=f"features {', '.join(history.schema.channels) or 'none'}",
                expected=", ".join(self.schema.channels) or "none", remedy="give both streams the same features",
            )  # fmt: skip
        if not history.time[-1] < self.time[0]:
            raise InputError(
                "history", found=f"an edge at {history.time[-1]:.12g}", expected=f"all before {self.time[0]:.12g}",
                remedy="leave out what came at the same time or later",
            )  # fmt: skip
        streams = history, self
        names, number = np.unique(np.concatenate([s.nodes for s in streams]), return_inverse=True)
        own = number[: len(history.nodes)], number[len(history.nodes) :]
        u, v = (np.concatenate([n[getattr(s, end)] for s, n in zip(streams, own)]) for end in ("source", "target"))
        t, x = (np.concatenate([getattr(s, name) for s in streams]) for name in ("time", "features"))
        joined = TemporalEdges.of(u, v, t, x, nodes=names, channels=self.schema.channels)
        return replace(joined, begin=len(history.time) + self.begin)

    def recent(
        self, nodes: Sequence[int] | Int[np.ndarray, "n"], t: Sequence[float] | Float[np.ndarray, "n"], k: int
    ) -> Recent:
        """The last k contacts of each node strictly before its time, whichever end of the edge it was."""
        E = len(self.time)
        both = occurrences(
            np.stack([self.source, self.target], 1).ravel(), np.asarray(nodes), 2 * self.count_before(np.asarray(t))
        )
        at = both.stop[:, None] - 1 - np.arange(k)
        end = np.where(at >= both.start[:, None], both.order[at.clip(0, 2 * E - 1)], -1)  # 2 e: its source, + 1: target
        other = np.where(end % 2 == 0, self.target[end // 2], self.source[end // 2])
        return Recent(np.where(end < 0, -1, end // 2), np.where(end < 0, -1, other))

    # --- parts ---------------------------------------------------------------------------------------------------

    def chronological(
        self, valid: float = VALID, test: float = TEST
    ) -> tuple[TemporalEdges, TemporalEdges, TemporalEdges]:
        """The first, the middle and the last stretch; edges of one instant stay together.

        Args:
            valid: share of the edges in the middle.
            test: share at the end.

        Raises:
            InputError: the shares leave nothing to train on, or there are too few instants to cut between.

        Example:
            >>> parts = TemporalEdges.of(np.zeros(20, int), np.arange(20), np.arange(20.0)).chronological()
            >>> [(part.begin, len(part)) for part in parts]
            [(0, 13), (13, 3), (16, 4)]
        """
        if not (valid > 0 and test > 0 and valid + test < 1):
            raise InputError(
                "valid, test", found=f"{valid} and {test}", expected="shares above 0 that leave some to train on",
                remedy=f"try valid={VALID}, test={TEST}",
            )  # fmt: skip
        E = len(self)
        cuts = [self.begin + round(E * share) for share in (1 - valid - test, 1 - test)]
        a, b = (int(self.count_before(self.time[min(cut, len(self.time) - 1)])) for cut in cuts)
        if not self.begin < a < b:
            raise InputError(
                "edges", found=f"{E} edges at {len(np.unique(self.time[self.begin :]))} different times",
                expected="enough to cut them into three parts between two instants",
                remedy="bring a longer stream, or finer time stamps",
            )  # fmt: skip
        return self._up_to(a, self.begin), self._up_to(b, a), self._up_to(len(self.time), b)

    def batches(self, size: int) -> Iterator[slice]:
        """The whole stream, history too, in stretches that end with the first instant that makes `size` edges or more.

        Where a stretch begins depends on what came before it alone. One is never longer than its instants make it, and
        none crosses `begin`.

        Example:
            >>> edges = TemporalEdges.of([0] * 5, [1] * 5, [1.0, 2.0, 2.0, 2.0, 3.0])
            >>> [(part.start, part.stop) for part in edges.batches(2)]
            [(0, 4), (4, 5)]
        """
        ends = np.append(np.flatnonzero(np.diff(self.time)) + 1, len(self.time))
        start = 0
        while start < len(self.time):
            stop = int(ends[np.searchsorted(ends[:-1], start + size)])
            if start < self.begin < stop:
                stop = self.begin
            yield slice(start, stop)
            start = stop

    def events(self, part: slice) -> Events:
        """These edges as tensors."""
        arrays = self.source[part], self.target[part], self.time[part], self.features[part]
        return Events(*(torch.from_numpy(a) for a in arrays))

    def _up_to(self, stop: int, begin: int) -> TemporalEdges:
        cut = {name: getattr(self, name)[:stop] for name in ("source", "target", "time", "features")}
        return replace(self, **cut, schema=replace(self.schema, lengths=(stop, stop)), begin=min(begin, stop))


class Occurrences(NamedTuple):
    """Where keys occur: query i is met by `order[start[i]:stop[i]]`, in order of time.

    Attributes:
        order: [E] numbers of the keys, equal ones together.
        start, stop: of each query, in the queries' shape.
    """

    order: Int[np.ndarray, "E"]
    start: Int[np.ndarray, "..."]
    stop: Int[np.ndarray, "..."]

    @property
    def last(self) -> Int[np.ndarray, "..."]:
        """Number of the last key that meets each query, -1 where none does."""
        return np.where(self.stop > self.start, self.order[self.stop - 1], -1)


def occurrences(
    keys: Int[np.ndarray, "E"], query: Int[np.ndarray, "..."], before: Int[np.ndarray, "..."]
) -> Occurrences:
    """Which of the first `before` keys equal each query.

    Args:
        keys: [E] one a moment, in order of time.
        query: what to look for.
        before: how many keys are known to each query; broadcasts.

    Example:
        >>> found = occurrences(np.array([5, 7, 5, 5]), np.array([5, 7, 9]), np.array([3, 1, 4]))
        >>> found.order[found.start[0] : found.stop[0]].tolist(), found.last.tolist()
        ([0, 2], [2, -1, -1])
    """
    E = len(keys)
    order = np.argsort(keys, kind="stable")
    known, rank = np.unique(keys[order], return_inverse=True)
    place = np.searchsorted(known, query).clip(0, max(len(known) - 1, 0))
    found = known[place] == query
    joint = rank * (E + 1) + order  # increasing: by key, then by time
    start = np.searchsorted(joint, place * (E + 1))
    stop = np.where(found, np.searchsorted(joint, place * (E + 1) + before), start)
    return Occurrences(order, start, stop)


def _ids(name: str, ids: Sequence[int] | np.ndarray) -> Int[np.ndarray, "E"]:
    """Numbers of nodes, checked."""
    array = np.asarray(ids)
    if array.ndim != 1 or not len(array) or array.dtype.kind not in "iu":
        raise InputError(
            name, found=f"{array.dtype} of shape {array.shape}", expected="[E] whole numbers of nodes, at least one",
            remedy="number the nodes, and pass their names as nodes=",
        )  # fmt: skip
    if array.min() < 0:
        row = int(np.argmax(array < 0))
        raise InputError(f"{name}[{row}]", found=array[row], expected="0 or more", remedy="number the nodes from 0")
    return array.astype(np.int64)
