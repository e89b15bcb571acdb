"""The baselines of `LinkPrediction`: what is known of a pair, of a node, and of common neighbours, without learning.

Each turns the past into a number for a pair (u, v) at time t; only edges strictly before t count.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int

from timecell.data.containers import Data, Schema
from timecell.data.temporal_edges import TemporalEdges, occurrences
from timecell.system import Card, Run, Task
from timecell.tasks.candidates import LinkScores, candidates, temporal
from timecell.tasks.fitted import FittedArrays

CHUNK = 2**22
"""Comparisons of two neighbours at a time, so that memory does not grow with the stream."""


@dataclass(frozen=True)
class LinkRule(FittedArrays):
    """A rule that is ready to score.

    Attributes:
        negatives, seed: of the candidates that are scored, as in the task.
    """

    negatives: int
    seed: int

    def predict(self, data: Data) -> LinkScores:
        """Scores of the task's candidates; higher is likelier.

        Raises:
            InputError: the data are no edges.
        """
        edges = temporal(data)
        targets = candidates(edges, self.negatives, self.seed)
        known = edges.count_before(edges.time[edges.begin :])[:, None]
        return LinkScores(np.where(targets < 0, np.nan, self.evidence(edges, targets, known)))

    def evidence(
        self, edges: TemporalEdges, targets: Int[np.ndarray, "N K"], known: Int[np.ndarray, "N 1"]
    ) -> Float[np.ndarray, "N K"]:
        """A number for each candidate, from the first `known` edges."""
        raise NotImplementedError(f"{type(self).__name__}.evidence")


class SeenPairs(LinkRule):
    """1 if the pair was in contact before, in this direction, else 0."""

    def evidence(self, edges: TemporalEdges, targets: Any, known: Any) -> Any:
        """From the last contact of the pair."""
        return (_last_contact(edges, targets, known) >= 0).astype(float)


class PairAge(LinkRule):
    """1 / (1 + edges since the pair's last contact), 0 without one."""

    def evidence(self, edges: TemporalEdges, targets: Any, known: Any) -> Any:
        """From the last contact of the pair."""
        return _freshness(_last_contact(edges, targets, known), known)


class TargetAge(LinkRule):
    """1 / (1 + edges since the node was last a target), 0 if it never was."""

    def evidence(self, edges: TemporalEdges, targets: Any, known: Any) -> Any:
        """From the last contact of the target."""
        return _freshness(occurrences(edges.target, targets, known).last, known)


@dataclass(frozen=True)
class SharedNeighbours(LinkRule):
    """How many of the last contacts of one node are among the last contacts of the other.

    Attributes:
        last: how many contacts of each.
    """

    last: int

    def evidence(self, edges: TemporalEdges, targets: Any, known: Any) -> Any:
        """Common neighbours, counted in chunks of rows."""
        rows = np.arange(edges.begin, len(edges.time))
        size = max(1, CHUNK // (targets.shape[1] * self.last**2))
        parts = [rows[i : i + size] for i in range(0, len(rows), size)]
        return np.concatenate([self._shared(edges, part, targets[part - edges.begin]) for part in parts])

    def _shared(self, edges: TemporalEdges, rows: Any, targets: Any) -> Float[np.ndarray, "n K"]:
        own = edges.recent(edges.source[rows], edges.time[rows], self.last).neighbour
        t = np.repeat(edges.time[rows], targets.shape[1])
        others = edges.recent(targets.ravel().clip(0), t, self.last).neighbour.reshape(*targets.shape, self.last)
        same = (own[:, None, :, None] == others[:, :, None, :]) & (own >= 0)[:, None, :, None]
        return same.any(axis=3).sum(axis=2).astype(float)


# --- as systems -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Baseline:
    card: ClassVar[Card]
    rule: ClassVar[type[LinkRule]]

    def accepts(self, schema: Schema, task: Task) -> str | None:
        """Edges whose links are to be predicted."""
        return None if task.name == "link" else f"it predicts links, and the task is {task.name}"

    def space(self) -> Mapping[str, Sequence[Any]]:
        """Nothing to tune."""
        return {}

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> LinkRule:
        """There is nothing to learn: what counts are the edges before the one to predict."""
        start = time.perf_counter()
        temporal(train)
        settings: dict[str, Any] = vars(self) | {"negatives": task.negatives, "seed": task.seed}  # type: ignore[attr-defined]
        return self.rule(self.card, time.perf_counter() - start, **settings)


@dataclass(frozen=True)
class EdgeBank(_Baseline):
    """A pair that was in contact will be again (Poursafaei et al. 2022, arXiv:2207.10128; unlimited memory)."""

    card = Card("edgebank", "EdgeBank", "A pair that was in contact before is a link.", "baseline")
    rule = SeenPairs


@dataclass(frozen=True)
class PairRecency(_Baseline):
    """The pair whose last contact is freshest."""

    card = Card("pair-recency", "Pair recency", "The fresher a pair's last contact, the likelier the next.", "baseline")
    rule = PairAge


@dataclass(frozen=True)
class TargetRecency(_Baseline):
    """The target that was active last."""

    card = Card("target-recency", "Target recency", "Whoever was contacted last is contacted next.", "baseline")
    rule = TargetAge


@dataclass(frozen=True)
class CommonNeighbours(_Baseline):
    """The node that shares most contacts with the source (Liben-Nowell & Kleinberg 2007), among the last few of each.

    Attributes:
        last: contacts of each node that count.
    """

    card = Card("common-neighbours", "Common neighbours", "Counts what two nodes' last contacts share.", "baseline")
    rule = SharedNeighbours
    last: int = 10

    def space(self) -> Mapping[str, Sequence[Any]]:
        """How far back to look."""
        return {"last": (3, 10, 30)}


def _last_contact(edges: TemporalEdges, targets: Any, known: Any) -> Int[np.ndarray, "N K"]:
    """Number of the last edge from each row's source to each candidate, -1 if there is none."""
    V = len(edges.nodes)
    source = edges.source[edges.begin :, None]
    return occurrences(edges.source * V + edges.target, source * V + targets, known).last


def _freshness(last: Any, known: Any) -> Float[np.ndarray, "N K"]:
    """1 / (1 + edges since) for a last edge, 0 for none."""
    return np.where(last < 0, 0.0, 1.0 / (1.0 + known - last))
