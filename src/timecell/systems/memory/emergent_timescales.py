"""Where long memory comes from: slow neurons or slow loops, and how the curriculum decides.

The idea. Give every unit of a recurrent net a time constant tau that is trained like a weight, and ask the net to keep
the last N bits of a stream. It can do so in two ways: by slow units, or by loops that keep fast units going. Which one
it finds depends on the curriculum. One head that moves on from N to N + 1 may slow its units and forgets what it could
do before; one head for each N, all trained at once, keeps units fast, builds the slowness into the recurrent weights,
and takes damage better.

    h_t = f((1 - 1/tau) h_{t-1} + (W h_{t-1} + U x_t + b) / tau)          f leaky ReLU, W without self-connections
    y_t = V h_t                                                           two outputs (a head) for each N

How slow a unit *looks* is another matter: how far back the autocorrelation of its activity reaches under random input, or,
where it decays exponentially, the time constant tau_net of the decay (`timecell.lens.timescales`). What the activity has
beyond tau is what the loops do.

Training a curriculum. What is trained next depends on what was measured last, which no `Recipe` says, since that is a
function of the update's number. So training is a row of short fits on fresh streams, with a look at the accuracy after
each (`learn`); AdamW begins anew with each fit.

Where we differ from the paper. AdamW where it has SGD with momentum, which needs some four times the updates. tau stays
above 1 by a softplus and not by a clamp, so it always has a gradient. The first state is zero, not random. 64 units and
up to 8 bits, where it has 500 and up to about 100: at this size both curricula make units faster than they were at
first, and the claims are about the difference. Nets this small keep N bits as a delay line: the autocorrelation is a
box of N steps and no exponential, so its reach is what grows here, and not tau_net.

Source: Khajehabdollahi, Zeraati, Giannakakis, Schäfer, Martius & Levina, "Emergent mechanisms for long timescales depend
on training curriculum and affect performance in memory tasks" (2024), arXiv:2309.12927.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.card import Card
from timecell.checkpoint import seeded
from timecell.claims import Absent, Measured, Ordering, Trend, Trial, claim
from timecell.combine import Recurrent, Sequential
from timecell.credit.schedule import Curriculum, Heads
from timecell.data.containers import Batch, Data, Kind, Schema, Sequences
from timecell.data.synthetic.memory_tasks import Rule, bits, label
from timecell.inference import evaluate
from timecell.lens.timescales import timescales
from timecell.network_system import NetworkSystem
from timecell.neurons import LeakyRate
from timecell.recipe import Recipe, Stage
from timecell.rhythm.autocorrelation import autocorrelation
from timecell.system import Run, Scores, Task
from timecell.tasks.readout import last
from timecell.train import fit

CARD = Card(
    slug="emergent-timescales",
    title="Emergent mechanisms for long timescales depend on training curriculum and affect performance in memory tasks",
    summary="Trained time constants: one moving head leans on units and forgets, many heads on loops.",
    family="memory",
    paper="arXiv:2309.12927",
    n=5,
)


class Others(nn.Linear):
    """Weights from each unit to all others; none to itself.

    Args:
        size: N units.
    """

    same_as: ClassVar[type] = nn.Linear

    def __init__(self, size: int) -> None:
        super().__init__(size, size, bias=False)
        self.constrain()

    def constrain(self) -> None:
        """Take self-connections out; training calls this after each update."""
        with torch.no_grad():
            self.weight.fill_diagonal_(0.0)


@dataclass(frozen=True)
class LeakyMemory(NetworkSystem):
    """A recurrent net of leaky rate units with trained time constants.

    Attributes:
        hidden: units.
        slowest: time constants start evenly drawn between 1 and this many steps.
        lr: highest learning rate.
        batch: samples an update.
    """

    card: ClassVar[Card] = CARD
    hidden: int = 64
    slowest: float = 2.0
    lr: float = 3e-3
    batch: int = 128

    def build(self, schema: Schema, outputs: int) -> Sequential:
        """Widths [C, hidden, K]."""
        tau = 1 + (self.slowest - 1) * torch.rand(self.hidden).clamp(min=1e-3)
        units = LeakyRate(self.hidden, tau=tau, activation="leaky_relu")
        drive, read = nn.Linear(len(schema.channels), self.hidden), nn.Linear(self.hidden, outputs)
        return Sequential(drive, Recurrent(units, Others(self.hidden)), read)

    def recipe(self) -> Recipe:
        """One stage, for data of one's own."""
        return Recipe((Stage(lr=self.lr),), batch=self.batch)

    def space(self) -> Mapping[str, Sequence[Any]]:
        """What comparisons tune."""
        return {"lr": (1e-3, 3e-3, 1e-2), "slowest": (2.0, 20.0), "hidden": (64, 128)}

    def accepts(self, schema: Schema, task: Task) -> str | None:
        """Sequences to classify."""
        return super().accepts(schema, task) if task.name == "classify" else f"it can classify; the task is {task.name}"


# --- many heads -------------------------------------------------------------------------------------------------------

FIRST = 2  # bits of the easiest head
UNSEEN = 2**31  # a draw of streams that no training reaches


@dataclass(frozen=True)
class LastBits:
    """What `fit` asks of a net with a head for each N: cross-entropies at the last step, added over these levels.

    The labels are functions of the stream (`timecell.data.synthetic.memory_tasks.label`), so the data need none.

    Attributes:
        rule: "parity" or "dms".
        levels: the N whose heads are asked.
    """

    rule: Rule
    levels: tuple[int, ...]

    name: ClassVar[str] = "last-bits"
    kind: ClassVar[Kind] = "sequences"
    needs_whole: ClassVar[None] = None

    def loss(self, y: Float[Tensor, "B t K"], batch: Batch, steps: slice) -> Float[Tensor, ""]:
        """Sum over levels of the mean cross-entropy [nats], from the streams that end within these steps."""
        ends, here = last(y, batch, range(*steps.indices(batch.x.shape[1])))
        heads, truth = ends.unflatten(1, (-1, 2)), self.truth(batch)[here]
        losses = nn.functional.cross_entropy(heads[:, self._columns].flatten(0, 1), truth.flatten(), reduction="sum")
        return losses / len(batch)

    def scores_from_outputs(self, y: Float[Tensor, "B T K"], batch: Batch) -> Int[Tensor, "B levels"]:
        """The class that each head chooses."""
        ends, _ = last(y, batch, range(y.shape[1]))
        return ends.unflatten(1, (-1, 2))[:, self._columns].argmax(-1)

    def prediction(self, answers: Int[Tensor, "N levels"], data: Data) -> Int[Tensor, "N levels"]:
        """As they are."""
        return answers

    def score(self, prediction: Int[Tensor, "N levels"], data: Data) -> Scores:
        """Accuracy of each head, under its N; that of the newest ranks."""
        right = prediction == self.truth(data.batch(np.arange(len(data))))
        accuracy = {str(n): right[:, i].float().mean().item() for i, n in enumerate(self.levels)}
        return Scores(accuracy, str(self.levels[-1]), True, right[:, -1].float().numpy())

    def truth(self, batch: Batch) -> Int[Tensor, "B levels"]:
        """The label of each stream at each level."""
        return torch.stack([label(self.rule, n, batch.x, batch.lengths) for n in self.levels], 1)

    @property
    def _columns(self) -> list[int]:
        return [n - FIRST for n in self.levels]


class Learned(NamedTuple):
    """What a curriculum made of a net.

    Attributes:
        curriculum: where it ended.
        solved: N -> the net as it was when it had solved N.
        updates: N -> updates until then.
    """

    curriculum: Curriculum
    solved: Mapping[int, Sequential]
    updates: Mapping[int, int]


@cache  # several claims look at the same nets; nobody changes them
def learn(
    rule: Rule, heads: Heads, hardest: int, looks: int, *, seed: int = 0, between: int = 50,
    system: LeakyMemory = LeakyMemory(),
) -> Learned:  # fmt: skip
    """Train a net through a curriculum, from 2 bits up, until it has solved the hardest level or had all its looks.

    Streams have between N + 2 and 4 N + 1 bits for the newest N, and none is seen twice.

    Args:
        rule: "parity" or "dms".
        heads: "single", "cumulative" or "sliding".
        hardest: bits of the hardest level.
        looks: at the accuracy, each on 1,000 new streams.
        seed: of the net and of all streams.
        between: updates from look to look.
        system: the net and its learning rate.

    Example:
        >>> learn("dms", "cumulative", 4, 1, between=2, system=LeakyMemory(hidden=4, batch=8)).curriculum.levels
        (2,)
    """
    now = Curriculum(heads, FIRST, first=FIRST, last=hardest)
    with seeded(seed):
        net = system.build(Schema("sequences", ("bit",)), 2 * (hardest - FIRST + 1))
    recipe = Recipe((Stage(lr=system.lr, schedule="constant"),), batch=system.batch)
    solved: dict[int, Sequential] = {}
    updates: dict[int, int] = {}
    for look in range(looks):
        task: Any = LastBits(rule, now.levels)  # it has what `fit` needs, and neither a split nor baselines
        held_out = streams(rule, now.newest, 1000, seed, 2 * look + 1)
        run = Run(seed=seed, updates=between, device="cpu")
        fit(net, streams(rule, now.newest, between * system.batch, seed, 2 * look), task, recipe=recipe, run=run)
        accuracy = {int(n): value for n, value in evaluate(net, held_out, task, 1000).metrics.items()}
        if now.passed(accuracy):
            solved[now.newest], updates[now.newest] = copy.deepcopy(net), between * (look + 1)
            if now.newest == hardest:
                break
        now = now.after(accuracy)
    return Learned(now, solved, updates)


def streams(rule: Rule, n: int, samples: int, seed: int, draw: int) -> Sequences:
    """Streams for n bits; each draw of a seed is another one."""
    number = int(np.random.SeedSequence([seed, draw]).generate_state(1)[0])
    return bits(rule, (n + 2, 4 * n + 1), samples=samples, seed=number)


def own_tau(net: Sequential) -> Float[np.ndarray, "N"]:
    """The time constants of the units themselves [steps]."""
    units: Any = net[1]
    return units.neuron.tau.detach().numpy()


# --- the checks -------------------------------------------------------------------------------------------------------

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
