"""Learning that is local in time and in space: trace pairs, taught by a fixed head in each layer (TESS).

The idea. Backpropagation through time keeps every layer's past and waits for errors that come down through all layers
above. Here a synapse has what it needs at hand. In time: a trace of what came in and a trace of when its unit was ready
to fire, both of which only run forward. In space: each layer compares a fixed projection of its own spikes with the
label. The projections are square waves, another frequency for each class, so that every class has units of its own
to call upon in every layer, and the layers pull in the same direction without hearing of each other.

    psi_t = ds_t/dx_t                       readiness: the slope of the unit's own step, by its surrogate
    q_t = 0.5 q_{t-1} + x_t                 h_t = 0.2 h_{t-1} + psi_t
    z_t = B s_t / (n temperature)           m_t = dCE(softmax z_t, class) / ds_t        B_c,i = sign sin(f_c i)
    dL/dW = sum over t of m_t (causal psi_t q_t + acausal h_{t-1} x_t)

    x -> (Linear -> LIF) x layers -> Linear -> logits at every step; the last map has its own cross-entropy

So no error crosses a layer, nothing of the past is kept but traces, and memory does not grow with the number of steps;
with the depth it grows by what a layer's own step needs, not by a product of depth and steps. The rule is `credit.TESS`:
its traces come from the same step function that the net runs.

Where we differ from the paper: fully connected layers in place of a VGG, so that features are not pooled; no weight
standardisation, and one AdamW for all layers. The temperature is a setting of the authors' program: spikes are averaged
over a layer, so the answers z are small, and with a temperature of 1 a layer would be told its class at full strength
even when it is right.

Source: Apolinario, Roy & Frenkel, "TESS: a scalable temporally and spatially local learning rule for spiking neural
networks" (2025), arXiv:2502.01837.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from timecell.card import Card
from timecell.checkpoint import seeded
from timecell.claims import Absent, AtChance, Flat, Measured, NonInferior, Ordering, Trial, claim
from timecell.claims.arms import budget, prepared, settings, tuned
from timecell.combine import Sequential
from timecell.credit import BPTT, Credit, FixedFeedback, Lesson, LocalHead, Rule
from timecell.credit.checks import peak_bytes_of
from timecell.credit.online import TESS
from timecell.credit.traces import TracePair
from timecell.data.containers import Schema, Sequences
from timecell.data.encoders import direct, latency, rate
from timecell.data.images import load_mnist
from timecell.data.splits import by_sample
from timecell.network_system import NetworkSystem
from timecell.neurons import LIF, Triangle
from timecell.recipe import OneStage
from timecell.system import Task
from timecell.tasks import Classify
from timecell.tasks.classify import stepwise

CARD = Card(
    slug="tess",
    title="TESS: a scalable temporally and spatially local learning rule for spiking neural networks",
    summary="Each layer learns from its own traces and a fixed head of its own; memory flat in time, no error crosses a layer.",
    family="spiking",
    paper="arXiv:2502.01837",
    n=162,
)

Rules = Literal["tess", "bptt", "broadcast", "redrawn", "readout"]


@dataclass(frozen=True)
class LocalLearning(OneStage, NetworkSystem):
    """A feed-forward spiking net, each layer of which learns by itself.

    Attributes:
        hidden: units of each hidden layer.
        layers: hidden layers.
        tau: membrane time constant in steps.
        rule: "tess"; or for the same net "bptt", "broadcast" (the traces of TESS, taught by the output's error through
            fixed random weights), "redrawn" (TESS with random heads that change at every update) or "readout" (hidden
            layers stay as they are).
        causal, acausal: weights of the two parts of the trace pair; (1, 1) for pictures, (1, 0) for events.
        temperature: of the layers' own answers.
        lr: highest learning rate.
        batch: samples an update.
    """

    card: ClassVar[Card] = CARD
    made_for: ClassVar[tuple[str, ...]] = ("classify",)
    hidden: int = 200
    layers: int = 2
    tau: float = 2.0
    rule: Rules = "tess"
    causal: float = 1.0
    acausal: float = 1.0
    temperature: float = 0.01
    lr: float = 1e-2
    batch: int = 64

    def build(self, schema: Schema, outputs: int) -> nn.Module:
        """Widths [C, hidden, ..., K]."""
        widths = [len(schema.channels), *[self.hidden] * self.layers]
        parts: list[nn.Module] = []
        for before, after in pairwise(widths):
            synapse = nn.Linear(before, after)
            nn.init.kaiming_normal_(synapse.weight)  # with torch's own deeper layers would be silent
            unit = LIF(after, tau=self.tau, threshold=0.6, reset="soft", detach=True, surrogate=Triangle(0.3))
            parts += [synapse.requires_grad_(self.rule != "readout"), unit]
        return Sequential(*parts, nn.Linear(widths[-1], outputs))

    def credit(self) -> Credit:
        """TESS, unless told otherwise."""
        pair = TracePair(causal=self.causal, acausal=self.acausal)
        rules: dict[str, Credit] = {
            "tess": TESS(causal=self.causal, acausal=self.acausal, temperature=self.temperature),
            "redrawn": Rule(pair, RedrawnHead(temperature=self.temperature)),
            "broadcast": Rule(pair, FixedFeedback()),
        }
        return rules.get(self.rule, BPTT())

    def space(self) -> Mapping[str, Sequence[Any]]:
        """What comparisons tune."""
        return {"lr": (3e-3, 1e-2), "temperature": (0.01, 0.03, 0.1), "tau": (1.1, 2.0, 5.0)}

    def asked(self, task: Task) -> Task:
        """With a loss of each step, the only kind that an instant knows."""
        return stepwise(task)


@dataclass(frozen=True)
class RedrawnHead(LocalHead):
    """A head whose signs are drawn anew each time it teaches: classes have no units to call their own."""

    def teach(self, lesson: Lesson) -> Float[Tensor, "B t ..."]:
        """The gradient of the local loss."""
        as_large = self.temperature / math.sqrt(
            lesson.y[0, 0].numel()
        )  # signs are scaled by this, square waves are not
        return LocalHead("sign", int(torch.randint(2**31, ())), as_large).teach(lesson)


# --- the checks -------------------------------------------------------------------------------------------------------

TASK = Classify("every")
RATES = {"lr": (3e-3, 1e-2)}  # every arm chooses on validation data
STEPS, UPDATES = 6, 300


@claim(
    "at an equal budget TESS is at most two points less accurate than backpropagation through time",
    source="abstract: within about 1.4 points on four data sets of images and events",
    control="labels of training and validation shuffled: both at chance",
    shows=NonInferior("TESS", "BPTT"),
    control_shows=AtChance(0.1),
)
def accuracy_of_tess(trial: Trial) -> Mapping[str, Measured]:
    """Test accuracy on digits as spikes, the more often the darker a pixel."""
    draws = torch.Generator().manual_seed(trial.seed)
    data = load_mnist().pooled(2).encoded(lambda x: rate(x, STEPS, draws))
    return on_digits(data, trial, TESS=LocalLearning(), BPTT=LocalLearning(rule="bptt"))


@claim(
    "hidden layers learn if heads stay: fixed square waves > hidden layers left as they are > heads redrawn at every update",
    source="the paper's learning signal generation; the ablations are not the paper's",
    control="labels of training and validation shuffled: all at chance",
    shows=Ordering("square waves", "readout alone", "redrawn"),
    control_shows=AtChance(0.1),
)
def heads_must_stay(trial: Trial) -> Mapping[str, Measured]:
    """Test accuracy on digits shown at every step: fixed heads, random ones that change, hidden layers left as they are."""
    data = load_mnist().pooled(2).encoded(lambda x: direct(x, STEPS))
    arms = {"square waves": LocalLearning(), "redrawn": LocalLearning(rule="redrawn")}
    return on_digits(data, trial, **arms, **{"readout alone": LocalLearning(rule="readout")})


def on_digits(data: Sequences, trial: Trial, **arms: LocalLearning) -> dict[str, Measured]:
    """Test accuracy of each arm; 70 % of the digits train, a tenth validates, the rest tests."""
    splits = prepared(by_sample(data, seed=trial.seed, valid=0.1, test=0.2), trial)
    space, run = settings(trial, RATES), budget(trial, UPDATES)
    return {name: tuned(system, space, splits, TASK, run).measured for name, system in arms.items()}


@claim(
    "memory does not grow with the number of steps, and another layer costs the same however many steps there are",
    source="abstract: 3 to 10 times less memory; complexity O(Ln) against O(TLn) of BPTT, in the paper's table",
    control="BPTT in place of TESS: it grows with both",
    shows=Flat("8 steps", "32 steps", "another layer, 8 steps", "another layer, 32 steps"),
    control_shows=Absent(),
)
def memory_is_flat(trial: Trial) -> Mapping[str, Measured]:
    """Most bytes that exist at a time in one update, batch and net excluded: at 8 steps 1; and growth by a layer, likewise."""
    rule: Rules = "bptt" if trial.control else "tess"
    kept = {(steps, layers): allocated(rule, steps, layers, trial.seed) for steps in (8, 32) for layers in (2, 3)}
    grown = {steps: kept[steps, 3] - kept[steps, 2] for steps in (8, 32)}
    found = {
        f"{steps} steps": Measured(kept[steps, 2] / kept[8, 2], extra={"bytes": kept[steps, 2]}) for steps in (8, 32)
    }
    return found | {f"another layer, {steps} steps": Measured(grown[steps] / grown[8]) for steps in (8, 32)}


def allocated(rule: Rules, steps: int, layers: int, seed: int = 0) -> int:
    """Most bytes that tensors take at a time while a net learns from 64 digits; the digits and the net are not counted."""
    data = load_mnist().pooled(2).encoded(lambda x: direct(x, 1))
    batch = data.batch(np.random.default_rng(seed).permutation(len(data))[:64])
    batch = replace(batch, x=batch.x.expand(-1, steps, -1).contiguous())
    system = LocalLearning(rule=rule, layers=layers)
    with seeded(seed):
        net = system.build(data.schema, 10)
    return peak_bytes_of(system.credit(), net, batch, TASK.loss)


@claim(
    "where each pixel spikes once, it is the trace of what came in that teaches, not the one of readiness",
    source="the paper's setting for event data, causal 1 and acausal 0",
    control="labels of training and validation shuffled: both at chance",
    shows=Ordering("causal trace", "acausal trace"),
    control_shows=AtChance(0.1),
)
def sparse_input_needs_its_trace(trial: Trial) -> Mapping[str, Measured]:
    """Test accuracy on digits as single spikes, the earlier the darker, with either half of the trace pair."""
    data = load_mnist().pooled(2).encoded(lambda x: latency(x, 10))
    splits = prepared(by_sample(data, seed=trial.seed, valid=0.1, test=0.2), trial)
    run = budget(trial, 200)
    arms = {"causal trace": LocalLearning(acausal=0.0), "acausal trace": LocalLearning(causal=0.0)}
    return {name: tuned(arm, {}, splits, TASK, run).measured for name, arm in arms.items()}
