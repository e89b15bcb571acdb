"""The checks of emergent timescales: pairs of nets that two curricula made of the same first weights.

Streams of random bits: delayed match to sample up to 8 bits, and parity up to 5.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from timecell.checkpoint import seeded
from timecell.claims import Absent, Measured, Ordering, Trend, Trial, claim
from timecell.combine import Sequential
from timecell.credit.schedule import Heads
from timecell.data.containers import Schema
from timecell.data.synthetic.memory_tasks import Rule
from timecell.inference import evaluate
from timecell.lens.timescales import timescales
from timecell.rhythm.autocorrelation import autocorrelation
from timecell.systems.memory.emergent_timescales import (
    FIRST,
    UNSEEN,
    LastBits,
    LeakyMemory,
    Learned,
    learn,
    own_tau,
    streams,
)

BITS: Mapping[Rule, int] = {"dms": 8, "parity": 5}  # of the hardest level
LOOKS: Mapping[Rule, int] = {"dms": 30, "parity": 24}
BOTH: tuple[Heads, Heads] = ("cumulative", "single")
STAGES = ("2 bits", "4 bits", "6 bits", "8 bits")
NOISE = 0.4  # of the norm of W


def pair(trial: Trial, rule: Rule) -> dict[Heads, Learned]:
    """Both curricula from the same first weights."""
    hardest, looks = (3, 4) if trial.quick else (BITS[rule], LOOKS[rule])
    return {heads: learn(rule, heads, hardest, looks, seed=trial.seed) for heads in BOTH}


def stages(trial: Trial) -> dict[str, Sequential]:
    """The net with many heads as it was when it had learnt so many bits, or all that it learnt."""
    solved = pair(trial, "dms")["cumulative"].solved
    return {stage: solved[min(int(stage[0]), max(solved))] for stage in STAGES}


def common(learned: Mapping[Heads, Learned]) -> dict[Heads, Sequential]:
    """The nets at the largest N that both curricula have solved."""
    n = max(set.intersection(*(set(one.solved) for one in learned.values())))
    return {heads: one.solved[n] for heads, one in learned.items()}


@claim(
    "delayed match to sample: many heads leave units faster than one moving head, at the same number of bits",
    source="the paper's figures of tau against N for both curricula",
    control="nets before training: equal",
    shows=Ordering("cumulative", "single", better="lower"),
    control_shows=Absent(),
)
def many_heads_keep_units_fast(trial: Trial) -> Mapping[str, Measured]:
    """Mean time constant of the units [steps] at the largest N that both have solved."""
    return unit_taus(trial, "dms")


@claim(
    "parity: many heads leave units faster than one moving head, at the same number of bits",
    source="the paper's figures of tau against N for both curricula",
    control="nets before training: equal",
    shows=Ordering("cumulative", "single", better="lower"),
    control_shows=Absent(),
)
def many_heads_keep_units_fast_in_parity(trial: Trial) -> Mapping[str, Measured]:
    """The same on the other task."""
    return unit_taus(trial, "parity")


def unit_taus(trial: Trial, rule: Rule) -> dict[str, Measured]:
    """Mean time constant of the units in each of a pair; updates until then beside."""
    if trial.control:
        return {heads: Measured(own_tau(untrained(trial)).mean()) for heads in BOTH}
    learned = pair(trial, rule)
    return {
        heads: Measured(own_tau(net).mean(), extra={"updates": max(learned[heads].updates.values())})
        for heads, net in common(learned).items()
    }


def untrained(trial: Trial) -> Sequential:
    """The net that both curricula begin with."""
    with seeded(trial.seed):
        return LeakyMemory().build(Schema("sequences", ("bit",)), 2)


@claim(
    "with many heads activity is correlated over as many more steps as there are more bits to keep",
    source="the paper's main finding: the time scale of the net grows with N while that of the units does not",
    control="the loops cut, W = 0: it does not reach farther",
    shows=Trend(*STAGES, direction="rises"),
    control_shows=Absent(),
)
def loops_reach_back(trial: Trial) -> Mapping[str, Measured]:
    """The last lag at which the autocorrelation under random bits, its mean size over units, is above 0.05."""
    measured = {}
    for stage, net in stages(trial).items():
        if trial.control:
            net = disturbed(net, 0.0, 0)
            nn.init.zeros_(net[1].synapse.weight)  # type: ignore[union-attr, arg-type]
        size = autocorrelation(activity(net, trial)[None], 40)[0].abs().nanmean(1)
        measured[stage] = Measured(int((size > 0.05).nonzero().max()), extra={"size": size[:20].tolist()})
    return measured


@claim(
    "with many heads the activity decays the slower the more bits are kept",
    source="the paper's figures of tau_net, from fits of one or two exponentials, against N; there up to about 100 bits",
    control="the units' own time constants: they do not rise",
    shows=Trend(*STAGES, direction="rises"),
    control_shows=Absent(),
)
def activity_decays_slower(trial: Trial) -> Mapping[str, Measured]:
    """Mean tau_net [steps] of the units that exponentials describe (R² above 0.9). Falls short: see the terms."""
    if trial.control:
        return {stage: Measured(own_tau(net).mean()) for stage, net in stages(trial).items()}
    found = {stage: timescales(activity(net, trial)) for stage, net in stages(trial).items()}
    return {
        stage: Measured(times.tau[times.reliable()].mean(), extra={"described": float(times.reliable().mean())})
        for stage, times in found.items()
    }


def activity(net: Sequential, trial: Trial) -> Float[Tensor, "T N"]:
    """What the units do with a long stream of fair random bits."""
    steps = 2_000 if trial.quick else 20_000
    x = torch.randint(2, (1, steps, 1), generator=torch.Generator().manual_seed(trial.seed)).float()
    with torch.no_grad():
        h, _ = Sequential(net[0], net[1])(x)
    return h[0, 100:].double()


@claim(
    "one moving head forgets what it could do three bits ago; many heads do not",
    source="the paper's comparison of what the curricula retain",
    control="the newest head: both know it",
    shows=Ordering("cumulative", "single"),
    control_shows=Absent(),
)
def one_head_forgets(trial: Trial) -> Mapping[str, Measured]:
    """Accuracy on new streams of the head three bits below the newest."""
    back = 0 if trial.control else 3
    return {
        heads: accuracy(one.solved[max(one.solved)], max(max(one.solved) - back, FIRST), trial)
        for heads, one in pair(trial, "dms").items()
    }


@claim(
    "the loops that many heads build take noise in the weights better",
    source="the paper's perturbations of W",
    control="no noise: both as good",
    shows=Ordering("cumulative", "single"),
    control_shows=Absent(),
)
def many_heads_are_robust(trial: Trial) -> Mapping[str, Measured]:
    """Accuracy of the newest head when W has noise of four tenths of its norm, over ten draws of the noise."""
    measured: dict[str, Measured] = {}
    for heads, one in pair(trial, "dms").items():
        newest = max(one.solved)
        shaken = (disturbed(one.solved[newest], 0.0 if trial.control else NOISE, draw) for draw in range(10))
        items = np.concatenate([accuracy(net, newest, trial).items for net in shaken])
        measured[heads] = Measured(items.mean(), items)
    return measured


def disturbed(net: Sequential, share: float, seed: int) -> Sequential:
    """A copy with Gaussian noise in W whose norm is this share of W's."""
    other = copy.deepcopy(net)
    weight: Tensor = other[1].synapse.weight  # type: ignore[union-attr, assignment]
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)).fill_diagonal_(0.0)
    with torch.no_grad():
        weight += share * weight.norm() * noise / noise.norm()
    return other


def accuracy(net: Sequential, n: int, trial: Trial) -> Measured:
    """Share of 1,000 new streams that the head for n bits gets right."""
    data = streams("dms", n, 1000, trial.seed, UNSEEN)
    scores = evaluate(net, data, LastBits("dms", (n,)), 1000)  # type: ignore[arg-type]
    return Measured(scores.value, scores.items, data.fingerprint)
