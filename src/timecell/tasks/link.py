"""`LinkPrediction`: with whom is a node in contact next?

Every edge of the scored part is asked about at its own time t, from the edges strictly before t: is it likelier than
contacts that did not take place? What did not take place comes in three kinds (see `candidates`), each scored apart, on
all edges and on those between two nodes seen before the part began (transductive) and with a new one (inductive).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from timecell.data.containers import AnyData, Kind
from timecell.data.splits import Splits
from timecell.data.temporal_edges import TemporalEdges
from timecell.errors import InputError, unknown_name
from timecell.system import Scores, System
from timecell.tasks.candidates import KINDS, LinkScores, candidates, temporal
from timecell.tasks.linkers import CommonNeighbours, EdgeBank, PairRecency, TargetRecency


@dataclass(frozen=True)
class LinkPrediction:
    """The edges of a stream against candidates that are no edges.

    Attributes:
        negatives: candidates of each kind for each edge.
        seed: of their draw, so that every system scores the same ones.
        hard: kinds that the primary metric is about. Random ones are mostly told apart by how active a node is.

    Raises:
        InputError: there are no negatives, or a kind is unknown.

    Example:
        >>> from timecell.data.synthetic.edge_stream import edge_stream
        >>> task = LinkPrediction()
        >>> parts = task.split(edge_stream(nodes=50, edges=1000, closing=0.0, repeat=0.8, window=50).data)
        >>> rule = PairRecency().fit(parts.train, parts.valid, task, run=None)
        >>> task.score(rule.predict(parts.test), parts.test).metrics["auc_random"] > 0.8
        True
    """

    negatives: int = 5
    seed: int = 0
    hard: tuple[str, ...] = ("historical", "recent")

    name: ClassVar[str] = "link"
    kind: ClassVar[Kind] = "edges"

    def __post_init__(self) -> None:
        if self.negatives < 1:
            raise InputError("negatives", found=self.negatives, expected="at least 1", remedy="try 5")
        for kind in self.hard or ("none",):
            if kind not in KINDS:
                raise unknown_name("hard", kind, KINDS)

    def split(self, data: AnyData, seed: int = 0) -> Splits:
        """The first 65 % of the edges, the next 15 %, the last 20 %; nothing is drawn, no instant is cut.

        Raises:
            InputError: the data are no edges, or too few.
        """
        return Splits(*temporal(data).chronological())  # type: ignore[arg-type]

    def candidates(self, data: AnyData) -> Int[np.ndarray, "N K"]:
        """The nodes to score for each edge: the true one, then the negatives of each kind; -1 for none."""
        return candidates(temporal(data), self.negatives, self.seed)

    def score(self, prediction: LinkScores, data: AnyData) -> Scores:
        """`hard_wins` ranks: the share of an edge's own hard candidates that score lower, ties half; chance is one half.

        Its items are these shares, NaN for an edge without hard candidates. Each depends on the scores of one question
        alone. So a bootstrap over edges says how sure the mean is, which it could not do with parts of an average
        precision; and nobody is asked to make scores comparable between one time and another. The customary average
        precision (ap) and area under the ROC curve (auc) do compare across times. They are taken with candidates that
        weigh as much as edges, however many are drawn. The reciprocal rank (mrr) is among an edge's own candidates.

        Raises:
            InputError: the prediction is of other edges or other candidates, or no edge has a hard candidate.
        """
        edges = temporal(data)
        shape = (len(edges), 1 + len(KINDS) * self.negatives)
        if prediction.scores.shape != shape:
            raise InputError(
                "prediction", found=f"shape {prediction.scores.shape}", expected=f"{shape}",
                remedy="predict the edges and the candidates that are scored",
            )  # fmt: skip
        new = touches_new(edges)
        metrics: dict[str, float] = {}
        for suffix, rows in (("", np.ones_like(new)), ("_transductive", ~new), ("_inductive", new)):
            for kind in KINDS:
                found = self._against(kind, prediction, rows)
                if np.isfinite(found.precision).any():
                    named = {
                        "wins": found.wins, "ap": found.precision, "auc": found.won, "mrr": found.reciprocal_rank,
                    }  # fmt: skip
                    metrics |= {f"{name}_{kind}{suffix}": float(np.nanmean(each)) for name, each in named.items()}
        hard = np.stack([self._against(kind, prediction, np.ones_like(new)).wins for kind in self.hard])
        known = np.isfinite(hard).sum(axis=0)
        if not known.any():
            raise InputError(
                "data", found="no edge with a past to draw candidates from", expected="at least one",
                remedy="score a part that has history: task.split(data).test",
            )  # fmt: skip
        items = np.where(known > 0, np.nansum(hard, axis=0) / np.maximum(known, 1), np.nan)
        return Scores({"hard_wins": float(np.nanmean(items)), **metrics}, "hard_wins", True, items)

    def baselines(self) -> list[System]:
        """EdgeBank, recency of the pair and of the target, common neighbours."""
        return [EdgeBank(), PairRecency(), TargetRecency(), CommonNeighbours()]

    def _against(self, kind: str, prediction: LinkScores, rows: Bool[np.ndarray, "N"]) -> Ranked:
        first = 1 + KINDS.index(kind) * self.negatives
        return ranked(prediction.scores[:, 0], prediction.scores[:, first : first + self.negatives], rows)


class Ranked(NamedTuple):
    """Where each edge stands among negatives; NaN for one that has none, or is left out.

    Attributes:
        wins: [N] share of its own negatives that score lower, ties half.
        precision: [N] among all that score as high as this edge or higher; the mean is the average precision.
        won: [N] share of everybody's negatives that score lower, ties half; the mean is the area under the ROC curve.
        reciprocal_rank: [N] 1 / rank among its own negatives, ties half.
    """

    wins: Float[np.ndarray, "N"]
    precision: Float[np.ndarray, "N"]
    won: Float[np.ndarray, "N"]
    reciprocal_rank: Float[np.ndarray, "N"]


def ranked(positive: Float[np.ndarray, "N"], negative: Float[np.ndarray, "N n"], rows: Bool[np.ndarray, "N"]) -> Ranked:
    """Compare edges with negatives; the negatives of an edge weigh as much as the edge.

    Args:
        positive: score of each edge.
        negative: scores of its negatives, NaN for none.
        rows: which edges take part.

    Example:
        >>> found = ranked(np.array([3.0, 1.0]), np.array([[2.0], [0.0]]), np.ones(2, bool))
        >>> found.precision.tolist(), found.won.tolist()
        ([1.0, 0.6666666666666666], [1.0, 0.5])
    """
    there = ~np.isnan(negative)
    rows = rows & there.any(axis=1)
    out = Ranked(*(np.full(len(positive), np.nan) for _ in Ranked._fields))
    own, others, there = positive[rows], negative[rows], there[rows]
    weight = (there / there.sum(axis=1, keepdims=True))[there]
    order = np.argsort(others[there])
    sorted_others = others[there][order]
    below = np.concatenate([[0.0], np.cumsum(weight[order])])
    under, not_over = (below[np.searchsorted(sorted_others, own, side)] for side in ("left", "right"))
    true = len(own) - np.searchsorted(np.sort(own), own)
    out.precision[rows] = true / (true + below[-1] - under)
    out.won[rows] = (under + not_over) / 2 / below[-1]
    ahead = np.where(there, (others > own[:, None]) + 0.5 * (others == own[:, None]), 0.0).sum(axis=1)
    out.wins[rows] = 1 - ahead / there.sum(axis=1)
    out.reciprocal_rank[rows] = 1 / (1 + ahead)
    return out


def touches_new(edges: TemporalEdges) -> Bool[np.ndarray, "N"]:
    """Whether a scored edge has an end that no edge before the part had.

    Example:
        >>> touches_new(TemporalEdges.of([0, 0, 1, 0], [1, 2, 0, 3], [1.0, 2.0, 3.0, 4.0]).chronological(0.25, 0.25)[1])
        array([False])
    """
    seen = np.zeros(len(edges.nodes), bool)
    seen[edges.source[: edges.begin]] = seen[edges.target[: edges.begin]] = True
    return ~(seen[edges.source[edges.begin :]] & seen[edges.target[edges.begin :]])
