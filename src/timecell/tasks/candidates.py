"""Which nodes a link predictor has to choose between, and its answer: `candidates`, `LinkScores`.

An edge (u, v, t) asks: with whom is u in contact at t? Beside v stand nodes with which it was not, of three kinds:

    random        a node that was some edge's target before t: told apart by activity alone
    historical    a node that u itself was in contact with before t: a pair that is known, but not due now
    recent        the target of one of the last `WINDOW` edges before t: a node that is active now, but not with u

Random ones are easy and prove little (Poursafaei et al. 2022, arXiv:2207.10128). The draws depend on the seed and the
past alone, so everybody who predicts the same edges gets the same candidates, and no later edge changes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from timecell.data.temporal_edges import TemporalEdges, occurrences
from timecell.errors import InputError
from timecell.tasks.truth import of_kind

KINDS = ("random", "historical", "recent")
WINDOW = 500
"""Edges back that the recent candidates are drawn from."""
TRIES = 5
"""Draws until one is found that is not itself true at t; then there is no candidate."""


@dataclass(frozen=True)
class LinkScores:
    """How likely each candidate is.

    Attributes:
        scores: [N, 1 + 3 n] of the edge that happened, then of n random, n historical and n recent candidates; NaN
            where there is no such candidate. Only their order counts.

    Raises:
        InputError: the shape is wrong, or the edge that happened has no finite score.
    """

    scores: Float[np.ndarray, "N K"]

    def __post_init__(self) -> None:
        s = self.scores
        if s.ndim != 2 or s.shape[1] < 4 or s.shape[1] % len(KINDS) != 1:
            raise InputError(
                "scores", found=f"shape {s.shape}", expected="[N, 1 + 3 n]", remedy="score what `candidates` returns"
            )
        wrong = ~np.isfinite(s[:, 0]) | np.isinf(s).any(axis=1)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(
                f"scores[{row}]", found=s[row].tolist(), expected="finite scores",
                remedy="a NaN for the true edge means that the fit has diverged: lower the learning rate",
            )  # fmt: skip

    def arrays(self) -> dict[str, Any]:
        """`scores`."""
        return {"scores": self.scores}


def candidates(data: TemporalEdges, negatives: int, seed: int) -> Int[np.ndarray, "N K"]:
    """The true target of each edge that is not history, then `negatives` nodes of each kind, drawn from its past.

    Args:
        data: the stream.
        negatives: nodes of each kind.
        seed: of the draws.

    Returns:
        [N, 1 + 3 negatives] numbers of nodes; -1 where the past holds none.

    Example:
        >>> edges = TemporalEdges.of([0, 0, 0], [1, 2, 1], [1.0, 2.0, 3.0])
        >>> candidates(edges, 1, seed=0).tolist()
        [[1, -1, -1, -1], [2, 1, 1, 1], [1, 2, 2, 2]]
    """
    rows = np.arange(data.begin, len(data.time))
    known = data.count_before(data.time[rows])[:, None, None]
    first_contact = np.sort(np.unique(data.target, return_index=True)[1])
    own = occurrences(data.source, data.source[rows][:, None, None], known)
    sizes = (np.searchsorted(first_contact, known), own.stop - own.start, np.minimum(known, WINDOW))

    share = np.random.default_rng(seed).random((len(rows), len(KINDS), negatives, TRIES))
    place = [(part * size).astype(np.int64) for part, size in zip(np.moveaxis(share, 1, 0), sizes)]
    edges = (
        first_contact[place[0]],
        own.order[np.minimum(own.start + place[1], len(data.time) - 1)],
        known - sizes[2] + place[2],
    )
    drawn = np.stack([data.target[edge] for edge in edges], axis=1)
    usable = np.stack(np.broadcast_arrays(*(size > 0 for size in sizes)), axis=1) & ~_happened(data, rows, drawn)
    chosen = np.take_along_axis(drawn, usable.argmax(axis=-1)[..., None], axis=-1)[..., 0]
    negative = np.where(usable.any(axis=-1), chosen, -1).reshape(len(rows), -1)
    return np.concatenate([data.target[rows, None], negative], axis=1)


def temporal(data: Any) -> TemporalEdges:
    """The data, if they are temporal edges.

    Raises:
        InputError: they are something else.
    """
    remedy = "load a table with columns source, target and time, or choose a task that fits the data"
    return of_kind(data, TemporalEdges, "TemporalEdges", remedy)


def _happened(data: TemporalEdges, rows: Int[np.ndarray, "N"], target: Int[np.ndarray, "N ..."]) -> np.ndarray:
    """Whether the source of a row was in contact with these targets at the very time of the row."""
    _, instant = np.unique(data.time, return_inverse=True)
    pair = (instant * len(data.nodes) + data.source) * len(data.nodes)
    return np.isin(pair[rows].reshape(-1, *[1] * (target.ndim - 1)) + target, pair + data.target)
