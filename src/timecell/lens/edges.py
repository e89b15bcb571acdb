"""Wiring: the classical way to infer it from spikes (`cross_correlations`), and any way against the truth (`edge_recovery`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from timecell.data.spikes import SpikeTrains
from timecell.errors import InputError


class EdgeRecovery(NamedTuple):
    """How well the scores of pairs find the edges.

    Attributes:
        auc: probability that an edge has a higher score than a pair without one (ties count half); 0.5 = chance.
        precision: share of edges among the k pairs with the highest scores, k being the number of edges.
        chance: share of edges among all pairs, what precision is by chance.
        direction: share of the edges with a one-way truth whose score is higher than that of the way back; ties half.
    """

    auc: float
    precision: float
    chance: float
    direction: float


def edge_recovery(scores: Float[np.ndarray, "C C"], edges: Bool[np.ndarray, "C C"]) -> EdgeRecovery:
    """Hold scores of directed pairs against the truth; the diagonal is left out.

    Args:
        scores: how much the method believes in an edge from j (column) to i (row); NaN = it does not know, which
            counts as the lowest score of all.
        edges: the true ones.

    Raises:
        InputError: shapes that do not match, or no edge, or nothing but edges.

    Example:
        >>> truth = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0]], bool)
        >>> edge_recovery(truth + 0.0, truth)
        EdgeRecovery(auc=1.0, precision=1.0, chance=0.5, direction=1.0)
        >>> edge_recovery(truth.T + 0.0, truth).direction
        0.0
    """
    from sklearn.metrics import roc_auc_score

    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or edges.shape != scores.shape:
        raise InputError(
            "scores", found=f"shape {scores.shape} for edges of shape {edges.shape}", expected="[C, C] both",
            remedy="score every ordered pair once",
        )  # fmt: skip
    edges = edges.astype(bool)
    pairs = ~np.eye(len(edges), dtype=bool)
    k = int(edges[pairs].sum())
    if not 0 < k < pairs.sum():
        raise InputError(
            "edges", found=f"{k} edges among {pairs.sum()} pairs", expected="some, and not all",
            remedy="recovery has no meaning here",
        )  # fmt: skip
    lowest = np.nanmin(scores) - 1 if np.isfinite(scores).any() else 0.0
    known = np.where(np.isnan(scores), lowest, scores)
    best = np.argsort(-known[pairs], kind="stable")[:k]
    one_way = edges & ~edges.T & pairs
    right = (known > known.T) + 0.5 * (known == known.T)
    return EdgeRecovery(
        float(roc_auc_score(edges[pairs], known[pairs])),
        float(edges[pairs][best].mean()),
        float(k / pairs.sum()),
        float(right[one_way].mean()) if one_way.any() else float("nan"),
    )


def cross_correlations(trains: SpikeTrains, dt: float, lags: int) -> Float[np.ndarray, "lags C C"]:
    """Correlation of the count of unit i (row) with that of unit j (column) 1, 2, ... bins before; 0 for i = j.

    Its maximum over lags is the height of the peak of a cross-correlogram, the classical score of a wire from j to i.

    Args:
        trains: trials of at least two bins more than there are lags.
        dt: seconds of a bin.
        lags: how many.

    Raises:
        InputError: a trial is too short.

    Example:
        >>> trains = SpikeTrains.from_counts([np.array([[1, 0], [0, 1], [0, 0], [1, 0], [0, 1], [0, 0]])], dt=0.01)
        >>> (cross_correlations(trains, 0.01, 1)[0] > 0.5).tolist()       # unit 1 fires one bin after unit 0
        [[False, False], [True, False]]
    """
    counts = [c.astype(float) for c in trains.counts(dt)]
    shortest = min(map(len, counts))
    if lags < 1 or shortest < lags + 2:
        raise InputError(
            "lags", found=f"{lags} for a trial of {shortest} bins", expected=f"1 to {shortest - 2}",
            remedy="ask for fewer, or leave out short trials",
        )  # fmt: skip
    whole = np.concatenate(counts)
    mean, spread = whole.mean(0), np.maximum(whole.std(0), 1e-12)
    counts = [(c - mean) / spread for c in counts]
    made = [sum(c[lag:].T @ c[:-lag] for c in counts) / sum(len(c) - lag for c in counts) for lag in range(1, lags + 1)]
    return np.stack(made) * (1 - np.eye(len(trains.names)))
