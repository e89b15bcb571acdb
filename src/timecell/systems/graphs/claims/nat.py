"""The checks of NAT: what the codes of common neighbours add, and what a pair costs.

Generated edges of which most close a path of two, the last 8,000 mails of Enron, and random edges to take the time on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from timecell.checkpoint import seeded
from timecell.claims import Absent, Flat, Measured, Ordering, Trial, claim
from timecell.claims.arms import budget
from timecell.data.edge_files import enron
from timecell.data.splits import Splits
from timecell.data.synthetic.edge_stream import edge_stream
from timecell.data.temporal_edges import TemporalEdges
from timecell.system import Fitted
from timecell.systems.graphs.nat import NeighbourhoodAware
from timecell.tasks.link import LinkPrediction
from timecell.tasks.linkers import CommonNeighbours, PairRecency

SMALL = NeighbourhoodAware(size=32, slots=(16, 16), hidden=32)
ARMS = {
    "codes": SMALL,
    "no codes": replace(SMALL, neighbourhood="uncoded"),
    "a vector a node": replace(SMALL, neighbourhood="none"),
}
RATES = (5e-3, 1e-2)  # every arm chooses on validation data


@claim(
    "links that close a path of two are found by the codes of what a pair shares, and not without, be it by the same "
    "neighbours uncoded or by a vector a node",
    source="the paper's joint neighbourhood features and their ablation; generated here, against equally active nodes",
    control="edges between random nodes: the codes do not help",
    shows=Ordering("codes", "without"),
    control_shows=Absent(),
)
def codes_find_what_pairs_share(trial: Trial) -> Mapping[str, Measured]:
    """Share of recently active nodes that score lower than the true one, of 300; counted common neighbours beside."""
    closing = 0.0 if trial.control else 0.8
    edges = 500 if trial.quick else 6000
    data = edge_stream(
        nodes=100 if trial.quick else 300, edges=edges, closing=closing, window=450, seed=trial.seed
    ).data
    found = compared(data, LinkPrediction(negatives=2, seed=trial.seed, hard=("recent",)), ARMS, trial, updates=240)
    rivals = (found["no codes"], found["a vector a node"])
    return found | {"without": max(rivals, key=lambda one: one.value)}  # the better of the two, on the test edges


@claim(
    "who mails whom next is told better with the codes than without",
    source="the paper's ablation, there on seven networks with random candidates; here against historical and recent ones",
    control="recipients permuted, so that pairs mean nothing: the codes do not help",
    shows=Ordering("codes", "no codes"),
    control_shows=Absent(),
)
def codes_help_on_mails(trial: Trial) -> Mapping[str, Measured]:
    """The last 8,000 mails of Enron; the freshness of pairs, which needs no learning, beside."""
    mails, last = enron(), slice(-300 if trial.quick else -8000, None)
    to = mails.target[last]
    if trial.control:
        to = np.random.default_rng(trial.seed).permutation(to)
    data = TemporalEdges.of(mails.source[last], to, mails.time[last], nodes=mails.nodes)
    arms = {name: replace(ARMS[name], batch=50) for name in ("codes", "no codes")}
    return compared(data, LinkPrediction(negatives=2, seed=trial.seed), arms, trial, updates=312)


def compared(
    data: TemporalEdges, task: Any, arms: Mapping[str, NeighbourhoodAware], trial: Trial, updates: int
) -> dict[str, Measured]:
    """Test scores of these arms at equal updates, each at its best rate, and of two rules that need no learning."""
    splits = task.split(data)
    run, found = budget(trial, updates, control=3), {}
    for name, system in arms.items():
        rates = RATES[-1:] if trial.quick or trial.control else RATES
        fits = {lr: replace(system, lr=lr).fit(splits.train, splits.valid, task, run) for lr in rates}
        lr, best = max(fits.items(), key=lambda fit: fit[1].report["best"]["valid_score"])
        found[name] = measured(best, splits, task, lr=lr, parameters=best.report["parameters"])
    for rule in (CommonNeighbours(last=3), PairRecency()):
        found[rule.card.title.lower()] = measured(rule.fit(splits.train, splits.valid, task, run), splits, task)
    return found


def measured(fitted: Fitted, splits: Splits, task: Any, **extra: float) -> Measured:
    """The score on the test edges; all metrics beside."""
    scores = task.score(fitted.predict(splits.test), splits.test)
    return Measured(scores.value, scores.items, splits.test.fingerprint, {**extra, **scores.metrics})


@claim(
    "the time that a pair takes does not grow with the number of contacts of its nodes",
    source="the paper's N-caches of constant size",
    control="tables that grow with the contacts: so does the time",
    shows=Flat("40 contacts", "320 contacts"),
    control_shows=Absent(),
)
def cost_is_flat(trial: Trial) -> Mapping[str, Measured]:
    """Processor time to read and score 1,000 pairs after a stream of random edges, as a multiple of that at 40 contacts."""
    nodes = 20 if trial.quick else 100
    asked: dict[int, list[float]] = {40: [], 320: []}
    ready = {}
    with seeded(trial.seed), torch.no_grad():
        pairs = torch.randint(nodes, (2000,))
        for contacts in asked:
            data = edge_stream(nodes, edges=nodes * contacts // 2, closing=0.0, seed=trial.seed).data
            net = replace(SMALL, slots=(contacts if trial.control else 16, 16)).build(0).eval()
            state = net.initial_state(nodes)
            for part in data.batches(500):
                state = net.observe(data.events(part), state)
            ready[contacts] = net, state, torch.full((2000,), float(len(data.time)), dtype=torch.float64)
        for _ in range(2 if trial.quick else 12):
            for contacts, (net, state, now) in ready.items():  # in turn, so that whatever else runs slows both
                begin = time.process_time()
                known = net.read(state, pairs, now)
                net.score(known.take(torch.arange(1000)), known.take(torch.arange(1000, 2000)))
                asked[contacts].append(time.process_time() - begin)
    seconds = {contacts: min(spent) for contacts, spent in asked.items()}
    return {f"{n} contacts": Measured(s / seconds[40], extra={"seconds": s}) for n, s in seconds.items()}
