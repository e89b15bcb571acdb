"""`edge_stream`: contacts between people who meet through people, with the cause of every edge.

Each new edge is one of three things: it *closes* a path of two recent edges (a friend of a friend becomes a friend), it
*repeats* a recent edge, or it joins two nodes at random. Closing edges join pairs that are not in contact, so what is
known of a pair itself says nothing about them; whoever predicts them must look at common neighbours. With neither
closing nor repeating edges nothing can be predicted, which is the null stream for controls.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from timecell.data.temporal_edges import TemporalEdges
from timecell.errors import InputError

CAUSES = ("random", "closing", "repeat")
TRIES = 50
"""Draws of a path of two edges before an edge that was to close one is random after all."""


class EdgeStream(NamedTuple):
    """A generated stream and what made each edge.

    Attributes:
        data: the edges, one a unit of time.
        cause: [E] index into `CAUSES`.
        via: [E] the node in the middle of the path that a closing edge closes, else -1.
    """

    data: TemporalEdges
    cause: Int[np.ndarray, "E"]
    via: Int[np.ndarray, "E"]


def edge_stream(
    nodes: int = 300,
    edges: int = 15_000,
    *,
    closing: float = 0.7,
    repeat: float = 0.0,
    window: int = 500,
    seed: int = 0,
) -> EdgeStream:
    """A stream that begins as a ring: every node is joined to the next, in random order.

    Args:
        nodes: number of nodes V.
        edges: number of edges E, the ring's included.
        closing: probability that an edge after the ring closes a path among the last `window` edges.
        repeat: probability that it repeats one of them.
        window: how many edges back a path or a repetition may lie.
        seed: of all draws.

    Raises:
        InputError: there are too few nodes or edges, or the probabilities are none.

    Example:
        >>> data, cause, via = edge_stream(nodes=10, edges=50, window=20)
        >>> pairs = [frozenset(pair) for pair in np.stack([data.source, data.target], 1).tolist()]
        >>> at = int(np.flatnonzero(cause == 1)[-1])
        >>> frozenset([data.source[at], via[at]]) in pairs[at - 20 : at], pairs[at] in pairs[at - 20 : at]
        (True, False)
    """
    for name, value, fits, expected in (
        ("nodes", nodes, nodes >= 4, "at least 4"),
        ("edges", edges, edges >= nodes, "at least one a node"),
        ("window", window, window >= 2, "at least 2"),
        ("closing, repeat", (closing, repeat), min(closing, repeat) >= 0 and closing + repeat <= 1, "two shares of 1"),
    ):
        if not fits:
            raise InputError(name, found=value, expected=expected, remedy="pass such a number")
    rng = np.random.default_rng(seed)
    pairs = np.empty((edges, 2), np.int64)
    pairs[:nodes, 0] = rng.permutation(nodes)
    pairs[:nodes, 1] = (pairs[:nodes, 0] + 1) % nodes
    cause, via = np.zeros(edges, np.int64), np.full(edges, -1)
    wanted = rng.choice(len(CAUSES), size=edges, p=[1 - closing - repeat, closing, repeat])
    for e in range(nodes, edges):
        recent = pairs[max(0, e - window) : e]
        path = _open_path(recent, rng) if wanted[e] == 1 else None
        if path:
            cause[e], (pairs[e], via[e]) = 1, path
        elif wanted[e] == 2:
            cause[e], pairs[e] = 2, recent[rng.integers(len(recent))]
        else:
            u = rng.integers(nodes)
            pairs[e] = u, (u + rng.integers(1, nodes)) % nodes
    return EdgeStream(TemporalEdges.of(pairs[:, 0], pairs[:, 1], np.arange(float(edges))), cause, via)


def _open_path(recent: Int[np.ndarray, "W 2"], rng: np.random.Generator) -> tuple[tuple[int, int], int] | None:
    """The ends of a path of two of these edges that no third one joins, and its middle; None if none is found."""
    for _ in range(TRIES):
        u, middle = recent[rng.integers(len(recent))][:: 1 - 2 * rng.integers(2)].tolist()
        through = recent[(recent == middle).any(axis=1)]
        v = int(through[rng.integers(len(through))].sum()) - middle
        joined = ((recent == u).any(axis=1) & (recent == v).any(axis=1)).any()
        if v != u and not joined:
            return (u, v), middle
    return None
