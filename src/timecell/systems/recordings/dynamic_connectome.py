"""The dynamic connectome: which neurons work together, and when, in a recording that nobody labelled.

The idea. Neurons work in communities that overlap, and that are there for a while only. Correlation over the whole
recording mixes them all up. So ask, at every moment and of every pair, whether the two are active in the same way; stack
the answers into a tensor of pairs by time; and take it apart into few non-negative parts. Nothing can cancel, so each
part is a *motif*: who goes with whom, and when. The graph of a motif, at last, is cut into communities by a model of
graphs that finds out itself how many there are.

    affinity       A[i, j, t] >= 0       functional_connectivity(..., "affinity"), animals one after the other in t
    noise          the same of recordings whose neurons are shifted in time against each other; its 95 % quantile is
                   taken off A
    motifs         A ~ sum_r a_r o b_r o c_r       the best of several starts; missing neurons are missing entries
    motif graph    W_r[i, j] = sum_t min(1, A / model)[i, j, t] a_r[i] b_r[j] c_r[t] / sum_t c_r[t], what it explains;
                   what the shifted recordings would reach in one pair of a hundred is no edge
    communities    blocks of W_r (weighted stochastic block model), joined where they are tied

How many motifs? One more as long as it explains at least `evident` times what the first explains of the shifted
recordings; of these numbers, the largest on which the better half of the starts agree (a median similarity of 0.9).
Shuffled data have none then, and that is an answer.

We differ from the paper where it leaves things open or to the eye: the kernel of the affinity, the number of motifs, the
weights of the motif graph; and our block model is not nested. Motifs are not tested against behaviour here.

Source: Dyballa, Lang, Haslund-Gourley, Yemini & Zucker, "Learning dynamic representations of the functional connectome in
neurobiological networks" (2024), arXiv:2402.14102.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int

from timecell.card import Card
from timecell.data.containers import Data, Schema, Series
from timecell.errors import InputError
from timecell.rhythm.connectivity import functional_connectivity
from timecell.rhythm.factorisation import Factors, factorise
from timecell.system import Run, Task
from timecell.systems.recordings.weighted_blocks import fit_blocks
from timecell.tasks.communities import Communities, recordings, same_channels
from timecell.tasks.fitted import FittedArrays
from timecell.tasks.structure import Structure

CARD = Card(
    slug="dynamic-connectome",
    title="Learning dynamic representations of the functional connectome in neurobiological networks",
    summary="Communities of neurons that overlap and come and go, out of a tensor of affinities over time.",
    family="recordings",
    paper="arXiv:2402.14102",
    n=6,
)

NOISE, SPURIOUS = 0.95, 0.99  # quantiles of shifted recordings: of an affinity, and of an edge of a motif graph
AGREED = 0.9  # median similarity of the better half of the starts to the best
TIED = 0.05  # blocks whose mean tie is this share of the strongest in their motif are one community


@dataclass(frozen=True)
class DynamicConnectome:
    """Communities of the channels of a recording, and their activity.

    Attributes:
        window: steps in which two channels are compared; some seconds of calcium.
        neighbours: how many channels are near to each; a community has more members than that.
        evident: a motif must explain so many times what one explains of recordings without any.
        most: motifs at most.
        starts: of each factorisation; all of them count, for the best one and for how far they agree.

    Example:
        >>> from timecell.data.synthetic.calcium import calcium
        >>> from timecell.tasks.structure import member_f1
        >>> recordings, truth, _ = calcium(communities=2, animals=1, seed=0)
        >>> fitted = DynamicConnectome(starts=3).fit(recordings, recordings, Structure(), Run())
        >>> round(member_f1(fitted.predict(recordings).members, truth), 1)
        1.0
    """

    card: ClassVar[Card] = CARD
    window: int = 16
    neighbours: int = 5
    evident: float = 3.0
    most: int = 8
    starts: int = 10

    def __post_init__(self) -> None:
        for name, low in (("window", 2), ("neighbours", 1), ("most", 1), ("starts", 2), ("evident", 0)):
            if getattr(self, name) < low:
                raise InputError(name, found=getattr(self, name), expected=f"at least {low}", remedy="pass more")

    def accepts(self, schema: Schema, task: Task) -> str | None:
        """Recordings of more channels than a channel has neighbours."""
        if task.name != "structure":
            return f"it finds communities, and the task is {task.name}"
        few = len(schema.channels) <= self.neighbours
        return f"there are no more than {self.neighbours} channels, the smallest community" if few else None

    def space(self) -> Mapping[str, Sequence[Any]]:
        """What comparisons tune."""
        return {"window": (8, 16, 32), "neighbours": (3, 5, 8)}

    def fit(self, train: Data | Series, valid: Data | Series, task: Task | Structure, run: Run) -> FittedConnectome:
        """Find motifs and their communities in the training data, which are all that it looks at.

        Raises:
            InputError: the data are no recordings, shorter than a window, or have too few channels without a gap.
        """
        start = time.perf_counter()
        rng = np.random.default_rng(run.seed)
        found = recordings(train)
        for number, x in enumerate(found):
            whole = int((~np.isnan(x)).all(axis=0).sum())
            if whole <= self.neighbours:
                raise InputError(
                    f"train, recording {number}", found=f"{whole} channels without a gap",
                    expected=f"more than the {self.neighbours} neighbours that each should have",
                    remedy="fill gaps, or leave out channels or stretches of time that have many",
                )  # fmt: skip
        affinity, noise = self.affinity(found), self.affinity([shifted(x, rng) for x in found])
        level = float(np.nanquantile(noise, NOISE))
        affinity, noise = np.maximum(affinity - level, 0.0), np.maximum(noise - level, 0.0)
        factors, trials = self.motifs(affinity, noise, run.seed)
        graphs = [motif_graph(affinity, noise, factors, r) for r in range(factors.c.shape[1])]
        sets = [communities(graph, self.neighbours + 1, run.seed) for graph in graphs]
        N = affinity.shape[0]
        return FittedConnectome(
            card=CARD,
            seconds=time.perf_counter() - start,
            window=self.window,
            neighbours=self.neighbours,
            level=level,
            trials=trials,
            a=factors.a,
            b=factors.b,
            members=np.concatenate([np.zeros((0, N), dtype=bool), *sets]),
            motif=np.repeat(np.arange(len(sets)), [len(own) for own in sets]),
        )

    def affinity(self, found: list[Float[np.ndarray, "T N"]]) -> Float[np.ndarray, "N N W"]:
        """Of windows side by side, one recording after the other."""
        each = [
            functional_connectivity(x, self.window, self.window, "affinity", neighbours=self.neighbours) for x in found
        ]
        return np.concatenate(each).transpose(1, 2, 0)

    def motifs(
        self, affinity: Float[np.ndarray, "N N W"], noise: Float[np.ndarray, "N N W"], seed: int
    ) -> tuple[Factors, tuple[dict[str, float], ...]]:
        """The largest number of motifs that are evident and agreed upon, and what was seen on the way."""
        N, _, W = affinity.shape
        chosen = Factors(np.zeros((N, 0)), np.zeros((N, 0)), np.zeros((W, 0)))
        trials: list[dict[str, float]] = []
        energy, by_chance = np.nansum(affinity**2), np.nansum(noise**2)
        if energy == 0:
            return chosen, ()
        if by_chance:
            by_chance *= 1 - factorise(noise, 1, seed=seed).error ** 2
        before = 1.0
        for rank in range(1, min(self.most, N, W) + 1):
            fits = [factorise(affinity, rank, seed=self.starts * seed + start) for start in range(self.starts)]
            best, *others = sorted(fits, key=lambda fit: fit.error)[: 1 + self.starts // 2]
            similarity = float(np.median([best.similarity(fit) for fit in others]))
            explains = float((before - best.error**2) * energy)
            sweeps = sum(fit.sweeps for fit in fits)
            trials.append(
                {"motifs": rank, "error": best.error, "explains": explains, "by_chance": float(by_chance),
                 "similarity": similarity, "sweeps": sweeps}
            )  # fmt: skip
            if explains < self.evident * by_chance:
                break
            if similarity >= AGREED:
                chosen = best
            before = best.error**2
        return chosen, tuple(trials)


@dataclass(frozen=True)
class FittedConnectome(FittedArrays):
    """Motifs and communities, for any later recording of the same channels.

    Attributes:
        window: steps of a window.
        neighbours: of the affinity.
        level: of noise, which is taken off every affinity.
        trials: for each number of motifs that was tried: error, what the last one explains, similarity of the starts.
        a: [N, R] who is in each motif ...
        b: [N, R] ... and with whom.
        members: [K, N] who belongs to each community.
        motif: [K] motif of each community.
    """

    window: int
    neighbours: int
    level: float
    trials: tuple[dict[str, float], ...]
    a: Float[np.ndarray, "N R"]
    b: Float[np.ndarray, "N R"]
    members: Bool[np.ndarray, "K N"]
    motif: Int[np.ndarray, "K"]

    @property
    def report(self) -> Mapping[str, Any]:
        """Learned numbers, sweeps over all starts, seconds, and how the number of motifs was found."""
        updates = int(sum(trial["sweeps"] for trial in self.trials))
        found = {"motifs": self.a.shape[1], "communities": len(self.members), "trials": list(self.trials)}
        return {**super().report, "updates": updates, **found}

    def predict(self, data: Data | Series) -> Communities:
        """The communities, and how active the motif of each is at every step, one recording after the other.

        Raises:
            InputError: the data have another number of channels, or are shorter than a window.
        """
        found = same_channels(data, len(self.a))
        return Communities(self.members, np.concatenate([self.activity(x) for x in found])[:, self.motif])

    def activity(self, x: Float[np.ndarray, "T N"]) -> Float[np.ndarray, "T R"]:
        """Of each motif in one recording: least squares, non-negative, in windows; straight lines between them."""
        from scipy.optimize import nnls

        stride = max(self.window // 2, 1)
        affinity = functional_connectivity(x, self.window, stride, "affinity", neighbours=self.neighbours)
        pairs = np.einsum("ir,jr->ijr", self.a, self.b).reshape(len(self.a) ** 2, self.a.shape[1])
        flat = np.maximum(affinity - self.level, 0.0).reshape(len(affinity), -1)
        c = np.zeros((len(flat), pairs.shape[1]))
        known = ~np.isnan(flat[0])  # the same in all windows of a recording
        if pairs.shape[1] and known.any():
            for w, row in enumerate(flat[:, known]):
                c[w], _ = nnls(pairs[known], row)
        centre, activity = np.arange(len(c)) * stride + (self.window - 1) / 2, np.zeros((len(x), c.shape[1]))
        for r in range(c.shape[1]):
            activity[:, r] = np.interp(np.arange(len(x)), centre, c[:, r])
        return activity


def shifted(x: Float[np.ndarray, "T N"], rng: np.random.Generator) -> Float[np.ndarray, "T N"]:
    """Each channel shifted in time by a random number of steps, round the end: as busy as before, and alone.

    Example:
        >>> sorted(shifted(np.arange(4.0)[:, None], np.random.default_rng(0))[:, 0].tolist())
        [0.0, 1.0, 2.0, 3.0]
    """
    return np.stack([np.roll(channel, rng.integers(len(x))) for channel in x.T], axis=1)


def motif_graph(
    affinity: Float[np.ndarray, "N N W"], noise: Float[np.ndarray, "N N W"], factors: Factors, r: int
) -> Float[np.ndarray, "N N"]:
    """The affinity that one motif explains, pair by pair; what noise reaches as well is no edge.

    Where there is more affinity than in the model, the rest is nobody's; where there is less, the motifs share it.
    """
    terms = np.einsum("ir,jr->ijr", factors.a, factors.b)
    motif, model = terms[:, :, r, None] * factors.c[:, r], terms @ factors.c.T

    def explained(each: Float[np.ndarray, "N N W"]) -> Float[np.ndarray, "N N"]:
        observed = np.nansum(each * motif / np.maximum(np.maximum(model, each), 1e-12), axis=2)
        return observed / np.maximum(~np.isnan(each) @ factors.c[:, r], 1e-12)

    ascribed, by_chance = explained(affinity), explained(noise)
    graph = (ascribed + ascribed.T) / 2
    pairs = ~np.eye(len(graph), dtype=bool)
    return np.where(pairs & (graph > np.quantile(by_chance[pairs], SPURIOUS)), graph, 0.0)


def communities(graph: Float[np.ndarray, "N N"], smallest: int, seed: int = 0) -> Bool[np.ndarray, "K N"]:
    """Blocks of a motif graph together with those that they are tied to, if they have enough members.

    A tie is a mean weight, and counts from the share `TIED` of the strongest on. (A community may be several blocks: who
    also belongs to another one follows it less closely.)
    """
    from scipy.sparse.csgraph import connected_components

    some = np.flatnonzero(graph.any(axis=0))
    if not len(some):
        return np.zeros((0, len(graph)), dtype=bool)
    labels = fit_blocks(graph[np.ix_(some, some)], seed=seed).labels
    block = np.zeros((labels.max() + 1, len(graph)))
    block[labels, some] = 1.0
    size = block.sum(axis=1)
    pairs = np.outer(size, size) - np.diag(size)
    ties = block @ graph @ block.T / np.maximum(pairs, 1)
    tied = ties >= TIED * ties.max()
    belongs = connected_components(tied, directed=False)[1]
    joined = (belongs == np.unique(belongs[tied.any(axis=1)])[:, None]) @ block > 0
    return joined[joined.sum(axis=1) >= smallest]
