"""The weighted stochastic block model: which nodes of a weighted graph have the same ties?

A partition of the nodes into blocks is a way to describe the graph: say which node is in which block, how many edges run
between each two blocks, where these lie, and how heavy they are. The best partition makes the description shortest, so
the number of blocks needs no choice and a graph without structure stays in one piece. In nats (Peixoto 2017, 2018):

    partition   log N + log C(N-1, B-1) + log N! - sum_r log n_r!
    counts      log C(B(B+1)/2 + E - 1, E)
    edges       - sum_{r<s} log m_rs! - sum_r log (2^m_rr m_rr!)            m_rs edges between blocks r and s
                + sum_r e_r log n_r                                         every node of a block alike, or
                + sum_r (log e_r! + log C(n_r+e_r-1, e_r)) - sum_i log k_i! degree-corrected: each has its own degree
    weights     sum_{r<=s} (m_rs + 1) log(1 + x_rs) - log m_rs!             x_rs their sum, in units of the mean weight

Weights between two blocks are exponential with a rate of their own, integrated out over a unit exponential. The graph is
described with and without degree correction, and the shorter description kept. The search is greedy (zero temperature):
all nodes apart; blocks merge, a third of them at a time, and nodes move between sweeps; then splits and merges of the
best partition until none helps. The paper's model is nested, which pays off above a few hundred nodes; ours is flat.

Sources: Peixoto, arXiv:1610.02703 (the microcanonical model), arXiv:1708.01432 (weights), arXiv:1310.4378 (the search).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import gammaln

from timecell.errors import InputError

GAIN = 1e-9  # nats that a step must save
SHRINK = 1.5  # fewer blocks from one round of merging to the next
LOG2 = np.log(2)


@dataclass(frozen=True)
class Blocks:
    """A partition and how well it describes the graph.

    Attributes:
        labels: [N] block of each node, 0 to B - 1, the largest block first.
        description_length: of graph and partition [nats].
        degree_corrected: whether each node has a degree of its own in the description.
        lengths: description length that each restart came to.
    """

    labels: Int[np.ndarray, "N"]
    description_length: float
    degree_corrected: bool
    lengths: tuple[float, ...] = ()


def fit_blocks(weights: Float[np.ndarray, "N N"], *, restarts: int = 2, seed: int = 0) -> Blocks:
    """The partition with the shortest description found, of both models and all restarts.

    Args:
        weights: symmetric, 0 = no edge; the diagonal is not looked at.
        restarts: searches for each model, each with another order of the nodes.
        seed: of these orders.

    Raises:
        InputError: the weights are not square, symmetric, finite and non-negative, or there is no edge.

    Example:
        >>> two = np.kron(np.eye(2), np.ones((8, 8)))
        >>> fit_blocks(two).labels.tolist()
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]
    """
    rng = np.random.default_rng(seed)
    w = _checked(weights)
    found = [_search(w, corrected, rng) for corrected in (False, True) for _ in range(restarts)]
    best = min(found, key=_Partition.length)
    size = np.bincount(best.labels)
    labels = np.argsort(np.argsort(-size, kind="stable"))[best.labels]
    return Blocks(labels, best.length(), best.corrected, tuple(partition.length() for partition in found))


def description_length(
    weights: Float[np.ndarray, "N N"], labels: Int[np.ndarray, "N"], degree_corrected: bool = False
) -> float:
    """Of a graph by a partition [nats]; names of blocks do not matter.

    Raises:
        InputError: as `fit_blocks`, or the labels are not one a node.

    Example:
        >>> two = np.kron(np.eye(2), np.ones((8, 8)))
        >>> description_length(two, np.repeat([0, 1], 8)) < description_length(two, np.tile([0, 1], 8))
        True
    """
    w, labels = _checked(weights), np.asarray(labels)
    if labels.shape != (len(w),):
        raise InputError(
            "labels", found=f"shape {labels.shape}", expected=f"[{len(w)}], one a node", remedy="match the two"
        )
    return _Partition(w, labels, degree_corrected).length()


# --- the search -------------------------------------------------------------------------------------------------------


def _search(w: Float[np.ndarray, "N N"], corrected: bool, rng: np.random.Generator) -> _Partition:
    """From all nodes apart to one block; then from the best of these by splits and merges."""
    now = best = _Partition(w, np.arange(len(w)), corrected)
    while now.blocks > 1:
        now = _settled(_merged(now), rng, new=False)
        if now.length() < best.length():
            best = now
    while True:
        tries = [_settled(split, rng) for split in _halves(best, rng)]
        if best.blocks > 1:
            tries.append(_settled(_merged(best, best.blocks - 1), rng))
        shortest = min(tries, key=_Partition.length, default=best)
        if shortest.length() > best.length() - GAIN:
            return best
        best = shortest


def _settled(partition: _Partition, rng: np.random.Generator, new: bool = True) -> _Partition:
    """Nodes move to the block where they cost least, one after the other, until none wants to; `new` blocks may open."""
    p = partition.copy()
    moved = True
    while moved:
        moved = False
        for node in rng.permutation(len(p.w)):
            home = p.labels[node]
            p.take(node)
            cost = p.insertion(node)
            if not new:
                cost[(p.n == 0) & (np.arange(len(cost)) != home)] = np.inf
            to = int(cost.argmin())
            to = to if cost[to] < cost[home] - GAIN else home
            p.put(node, to)
            moved |= to != home
            if p.n[-1]:
                p = p.copy()  # with a new empty block
    return p.copy()


def _merged(p: _Partition, to: int | None = None) -> _Partition:
    """Pairs of blocks merged, the cheapest first, each block once, until `to` are left (or the share 1 / SHRINK)."""
    to = int(p.blocks / SHRINK) if to is None else to
    cost, into = p.merging(), np.arange(p.blocks)
    free = np.ones(p.blocks, dtype=bool)
    for r, s in zip(*np.unravel_index(np.argsort(cost, axis=None, kind="stable"), cost.shape)):
        if len(set(into.tolist())) <= to or not np.isfinite(cost[r, s]):
            break
        if free[r] and free[s]:
            into[s], free[r], free[s] = r, False, False
    return _Partition(p.w, into[p.labels], p.corrected)


def _halves(p: _Partition, rng: np.random.Generator) -> list[_Partition]:
    """For each block, the partition in which a random half of it is a block of its own."""
    splits = []
    for r in range(p.blocks):
        own = rng.permutation(np.flatnonzero(p.labels == r))
        if len(own) > 1:
            labels = p.labels.copy()
            labels[own[: len(own) // 2]] = p.blocks
            splits.append(_Partition(p.w, labels, p.corrected))
    return splits


class _Partition:
    """A graph and a partition of it, with the counts that moves change: one block more than used, the last one empty.

    m [B, B] edges and x [B, B] weights between blocks (inside a block each edge counts once), n [B] nodes and e [B] edge
    ends of each.
    """

    def __init__(self, w: Float[np.ndarray, "N N"], labels: Int[np.ndarray, "N"], corrected: bool) -> None:
        self.w, self.corrected = w, corrected
        self.edges = (w > 0).astype(float)
        self.degree = self.edges.sum(1)
        self.labels = np.unique(labels, return_inverse=True)[1]
        self.blocks = int(self.labels.max()) + 1
        self.member = np.eye(self.blocks + 1)[self.labels]
        self.m, self.x = (self.member.T @ each @ self.member for each in (self.edges, w))
        for each in (self.m, self.x):
            np.fill_diagonal(each, each.diagonal() / 2)
        self.n, self.e = self.member.sum(0), self.degree @ self.member

    def copy(self) -> _Partition:
        """The same without blocks that have become empty."""
        return _Partition(self.w, self.labels, self.corrected)

    def length(self) -> float:
        """Description length [nats]."""
        upper = np.triu_indices(len(self.n))
        pairs = _pair(self.m[upper], self.x[upper]).sum() - LOG2 * np.trace(self.m)
        own = -gammaln(self.degree + 1).sum() if self.corrected else 0.0
        N = len(self.w)
        return float(pairs + self._block(self.e, self.n).sum() + own + self._prior(self.n) + np.log(N) + gammaln(N + 1))

    def take(self, node: int) -> None:
        """Take a node out of its block."""
        self._shift(node, -1.0)

    def put(self, node: int, block: int) -> None:
        """Put a node that was taken out into a block."""
        self.labels[node] = block
        self._shift(node, 1.0)

    def insertion(self, node: int) -> Float[np.ndarray, "B"]:
        """What the description grows by for each block that a node that was taken out can be put into."""
        edges, weights = self.edges[node] @ self.member, self.w[node] @ self.member
        pairs = (_pair(self.m + edges, self.x + weights) - _pair(self.m, self.x)).sum(1) - LOG2 * edges
        block = self._block(self.e + self.degree[node], self.n + 1) - self._block(self.e, self.n)
        used = (self.n > 0).sum()
        return pairs + block + np.where(self.n > 0, self._counted(used), self._counted(used + 1))

    def merging(self) -> Float[np.ndarray, "B B"]:
        """What the description grows by if two blocks become one; infinite on and below the diagonal."""
        B = self.blocks
        m, x, each = self.m[:B, :B], self.x[:B, :B], np.arange(B)
        rows = _pair(m[:, None] + m, x[:, None] + x)  # of r and s together, to every other block
        rows[each[:, None], each, each[:, None]] = rows[each[:, None], each, each] = 0.0
        inside = [np.add.outer(v.diagonal(), v.diagonal()) + v for v in (m, x)]
        before = _pair(m, x)
        pairs = rows.sum(2) + _pair(*inside) - LOG2 * m - np.add.outer(before.sum(1), before.sum(1)) + before
        e, n = self.e[:B], self.n[:B]
        apart = self._block(e, n)
        block = self._block(np.add.outer(e, e), np.add.outer(n, n)) - np.add.outer(apart, apart)
        cost = pairs + block + self._counted(B - 1) - self._counted(B)
        cost[np.tril_indices(B)] = np.inf
        return cost

    def _shift(self, node: int, sign: float) -> None:
        block = self.labels[node]
        self.member[node, block] = 0.0
        for matrix, ties in ((self.m, self.edges[node] @ self.member), (self.x, self.w[node] @ self.member)):
            matrix[block] += sign * ties
            matrix[:, block] += sign * ties
            matrix[block, block] -= sign * ties[block]
        self.n[block] += sign
        self.e[block] += sign * self.degree[node]
        self.member[node, block] = float(sign > 0)

    def _block(self, e: Float[np.ndarray, "..."], n: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """What each block of n nodes and e edge ends costs for itself."""
        some = np.maximum(n, 1)
        ends = gammaln(e + 1) + _choices(some + e - 1, e) if self.corrected else e * np.log(some)
        return np.where(n > 0, ends - gammaln(n + 1), 0.0)

    def _prior(self, n: Float[np.ndarray, "B"]) -> float:
        return float(self._counted((n > 0).sum()))

    def _counted(self, B: int) -> float:
        """What B blocks cost: the counts of edges between them, and how many nodes each has."""
        E, pairs = self.degree.sum() / 2, B * (B + 1) / 2
        return float(_choices(pairs + E - 1, E) + _choices(len(self.w) - 1, B - 1)) if B else 0.0


def _pair(m: Float[np.ndarray, "..."], x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """What m edges of weight x between two blocks cost: where they lie, and how heavy they are."""
    return np.where(m > 0, (m + 1) * np.log1p(np.maximum(x, 0.0)) - 2 * gammaln(m + 1), 0.0)


def _choices(n: Float[np.ndarray, "..."] | float, k: Float[np.ndarray, "..."] | float) -> Float[np.ndarray, "..."]:
    """log C(n, k)."""
    return gammaln(np.add(n, 1)) - gammaln(np.add(k, 1)) - gammaln(np.subtract(n, k) + 1)


def _checked(weights: Float[np.ndarray, "N N"]) -> Float[np.ndarray, "N N"]:
    """The weights in units of their mean, without the diagonal."""
    w = np.array(weights, dtype=np.float64)
    if w.ndim != 2 or w.shape[0] != w.shape[1]:
        raise InputError(
            "weights", found=f"shape {w.shape}", expected="[N, N]", remedy="pass a matrix of nodes by nodes"
        )
    np.fill_diagonal(w, 0.0)
    wrong: Bool[np.ndarray, "N N"] = ~(np.isfinite(w) & (w >= 0) & np.isclose(w, w.T))
    if wrong.any():
        i, j = (int(k) for k in np.argwhere(wrong)[0])
        raise InputError(
            f"weights[{i}, {j}]", found=w[i, j], expected=f"a finite weight from 0 on, as weights[{j}, {i}] = {w[j, i]:g}",
            remedy="make it symmetric and non-negative",
        )  # fmt: skip
    if not w.any():
        raise InputError("weights", found="no edge", expected="at least one", remedy="lower the threshold of edges")
    return w / w[w > 0].mean()
