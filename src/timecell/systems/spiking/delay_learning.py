"""Learning delays: every synapse has a weight and a transmission delay, and both are trained.

The idea. A spiking unit that hardly remembers fires when its inputs arrive *together*. Which spikes arrive together is
decided by the delays of its synapses; so a net that can move its delays can pick out patterns in time that no weight
can tell apart. A delay that takes whole steps has no gradient; a synapse is therefore blurred over its neighbouring
lags while it is trained, and the blur shrinks until the delay can be rounded.

    x [B, T, C] -> (Delayed -> batch norm over batch and time -> LIF -> dropout) x layers -> Delayed -> integrator
    logits = sum over steps of softmax(v_t); cross-entropy

Recipe. First stage: weights and delays learn together, the delays at a rate of their own (100 times the weights' in
the paper, which decays neither), while sigma falls from max_delay/2 to 0.5 steps during the first quarter. Second
stage: delays are rounded for good (`Delayed.harden`) and the weights alone learn on. The paper only rounds; on codes
with a single spike a channel the second stage is needed, because the net was tuned to blurred arrivals. Every score is
one with whole-step delays, as a chip would have them.

Source: Hammouamri, Khalfaoui-Hassani & Masquelier, "Learning delays in spiking neural networks using dilated
convolutions with learnable spacings" (2023), arXiv:2306.17670.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
from torch import nn

from timecell.card import Card
from timecell.claims import AtChance, Measured, Ordering, Trial, claim
from timecell.combine import Sequential
from timecell.data.containers import Schema, Sequences
from timecell.data.synthetic.spikes import motifs
from timecell.network_system import NetworkSystem
from timecell.neurons import LIF, ATan, LeakyIntegrator
from timecell.recipe import Anneal, Recipe, Stage
from timecell.synapses import Delayed
from timecell.system import Run
from timecell.tasks import Classify

Delays = Literal["learned", "frozen", "none"]

CARD = Card(
    slug="delay-learning",
    title="Learning delays in spiking neural networks using dilated convolutions with learnable spacings",
    summary="One learnable delay per synapse lets nearly memoryless spiking units read patterns in time.",
    family="spiking",
    paper="arXiv:2306.17670",
    n=8,
)


@dataclass(frozen=True)
class DelayLearning(NetworkSystem):
    """A feed-forward spiking net with delayed synapses.

    Attributes:
        hidden: units of each hidden layer.
        layers: hidden layers.
        max_delay: largest delay in steps.
        delays: "learned", "frozen" (at random whole steps) or "none" (plain weights).
        tau: membrane time constant in steps; near 1, units only detect coincidences.
        dropout: share of hidden spikes dropped in training.
        lr: highest learning rate of the weights.
        delay_rate: learning rate of the delays as a multiple of `lr`.
        blurred: share of the updates before the delays are rounded for good.
        batch: samples an update.
    """

    card: ClassVar[Card] = CARD
    hidden: int = 64
    layers: int = 1
    max_delay: int = 16
    delays: Delays = "learned"
    tau: float = 2.0
    dropout: float = 0.1
    lr: float = 5e-3
    delay_rate: float = 30.0
    blurred: float = 0.75
    batch: int = 64

    def build(self, schema: Schema, outputs: int) -> nn.Module:
        """Widths [C, hidden, ..., K]."""
        widths = [len(schema.channels), *[self.hidden] * self.layers]
        parts: list[nn.Module] = []
        for before, after in pairwise(widths):
            unit = LIF(after, tau=self.tau, reset="hard", detach=True, surrogate=ATan(5.0))
            parts += [self.synapse(before, after), nn.BatchNorm1d(after), unit, nn.Dropout(self.dropout)]
        return Sequential(*parts, self.synapse(widths[-1], outputs), LeakyIntegrator(outputs, tau=self.tau))

    def synapse(self, inputs: int, outputs: int) -> nn.Module:
        """The layer that the three variants differ in; all have the same number of weights."""
        if self.delays == "none":
            return nn.Linear(inputs, outputs, bias=False)
        layer = Delayed(inputs, outputs, self.max_delay, learn=self.delays == "learned", sigma=self.max_delay / 2)
        if self.delays == "frozen":
            layer.harden()
        return layer

    def recipe(self) -> Recipe:
        """Blurred, then whole steps; the variants without learnt delays have one stage of the same length."""
        if self.delays != "learned":
            return Recipe((Stage(lr=self.lr),), batch=self.batch)
        sigma = Anneal("sigma", start=max(self.max_delay / 2, 0.5), end=0.5, share=0.25)
        soft = Stage(share=self.blurred, lr=self.lr, rates={"delay": self.delay_rate}, anneal=(sigma,))
        hard = Stage(share=1 - self.blurred, lr=self.lr, prepare="harden")
        return Recipe((soft, hard), batch=self.batch)

    def space(self) -> Mapping[str, Sequence[Any]]:
        """What comparisons tune."""
        return {"tau": (1.005, 2.0, 5.0), "lr": (2e-3, 5e-3, 1e-2), "max_delay": (8, 16, 24)}


# The check: spike patterns whose counts carry no class information, so that only timing can tell them apart.
# 20 channels, 60 steps, 10 classes; 12 hidden units with next to no memory, delays of up to 20 steps.
SMALL = DelayLearning(
    hidden=12, max_delay=20, tau=1.005, dropout=0.0, lr=3e-3, delay_rate=0.1 / 3e-3, blurred=0.75, batch=200
)
UPDATES = 400  # 40 epochs of 2,000 samples in batches of 200
TAUS = (1.005, 10.0)  # every arm may choose its memory, on validation data: a long one stands in for delays, badly


@claim(
    "learned delays > fixed random delays > no delays, at an equal number of weights",
    source="the paper's comparison of learned, fixed and no delays; there on spoken digits, here on spike patterns",
    control="training and validation labels shuffled: every arm at chance",
    shows=Ordering("learned", "frozen", "none"),
    control_shows=AtChance(0.1),
)
def delays_help(trial: Trial) -> Mapping[str, Measured]:
    """Test accuracy with whole-step delays of four nets on the same data."""
    train, valid, test = (
        motifs(samples=n, seed=3 * trial.seed + part, template_seed=trial.seed).data
        for part, n in enumerate((200, 100, 100) if trial.quick else (2000, 500, 1000))
    )
    if trial.control:
        train, valid = shuffled(train, trial.seed), shuffled(valid, trial.seed)
    updates = 8 if trial.quick else UPDATES // 4 if trial.control else UPDATES  # shuffled labels have nothing to teach
    run = Run(seed=trial.seed, updates=updates, progress=trial.progress, device="cpu")
    task = Classify(readout="softmax_sum")

    def arm(delays: Delays, hidden: int = SMALL.hidden) -> Measured:
        tried = []
        for tau in TAUS[:1] if trial.quick or trial.control else TAUS:
            fitted = replace(SMALL, delays=delays, hidden=hidden, tau=tau).fit(train, valid, task, run)
            tried.append((task.score(fitted.predict(valid), valid).value, tau, fitted))
        _, tau, best = max(tried, key=lambda one: one[0])
        scores = task.score(best.predict(test), test)
        extra = {"parameters": best.report["parameters"], "tau": tau}
        return Measured(scores.value, scores.items, test.fingerprint, extra)

    arms = {"learned": arm("learned"), "frozen": arm("frozen"), "none": arm("none")}
    return arms if trial.control else arms | {"frozen, twice the width": arm("frozen", 2 * SMALL.hidden)}


def shuffled(data: Sequences, seed: int) -> Sequences:
    """The same samples with their labels permuted."""
    assert data.target is not None
    return replace(data, target=np.random.default_rng(seed).permutation(data.target))
