"""Counter-current learning: a net that carries the input up and one that carries the target down teach each other.

The idea. Backpropagation needs errors that come down through the very weights that brought the input up, and a net that
waits for them. Here a second net of its own weights carries the *target* down, level by level, while the first carries
the input up. At each level the two meet and each is trained, there and for itself, to agree with the other. No error
crosses a layer; in use the second net is left out.

    up      x -> (Linear -> ELU) x layers -> Linear -> logits                        a_l at level l
    down    one-hot class -> (Linear -> ELU) x layers                                c_l(k) for class k
    level   mean (a_l . c_l(k) - [class is k])^2 * 128 / n_l       the top: cross-entropy of the logits

The rule is the space path `credit.CounterCurrent`, so it goes with spiking units too (``units="lif"``); what it needs
beside the net are the synapses that lead down (`credit.with_counter_current`).

Where we differ from the paper: its level loss compares all pairs of samples of a batch; here each sample is compared with
each class, which is the same for one-hot targets up to how often classes occur. The lowest level, where the target would
become a picture, teaches the forward net nothing and is left out, and so are autoencoders and the pipelined mode.
The optimiser is AdamW, the paper's SGD with a rate near 1.

Source: Hsu, Wu & Tsai, "Counter-current learning: a biologically plausible dual network approach for deep learning"
(2024), arXiv:2409.19841.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Literal

from torch import nn

from timecell.card import Card
from timecell.claims import Absent, AtChance, Measured, NonInferior, Ordering, Trial, claim
from timecell.claims.arms import budget, prepared, settings, tuned
from timecell.combine import Sequential
from timecell.credit import BPTT, Credit, Instantaneous, Rule
from timecell.credit.counter_current import CounterCurrent, alignment, with_counter_current
from timecell.data.containers import Schema
from timecell.data.encoders import direct
from timecell.data.images import load_mnist
from timecell.data.splits import Splits, by_sample
from timecell.network_system import NetworkSystem
from timecell.neurons import LIF
from timecell.recipe import OneStage
from timecell.system import Task
from timecell.tasks import Classify
from timecell.tasks.classify import stepwise

CARD = Card(
    slug="counter-current",
    title="Counter-current learning: a biologically plausible dual network approach for deep learning",
    summary="One net carries the input up, another the target down; they learn to agree at every level, without backpropagation.",
    family="learning",
    paper="arXiv:2409.19841",
    n=167,
)

Rules = Literal["counter-current", "backprop", "readout"]


@dataclass(frozen=True)
class CounterCurrentLearning(OneStage, NetworkSystem):
    """A feed-forward net, function of one instant unless its units spike; the answer is the mean over steps.

    Attributes:
        hidden: units of each hidden layer.
        layers: hidden layers.
        units: "elu", or "lif" for spiking units with a memory of `tau` steps.
        tau: membrane time constant of spiking units.
        rule: "counter-current"; or for the same net "backprop", or "readout" (hidden layers stay as they are).
        lr: highest learning rate.
        batch: samples an update.
    """

    card: ClassVar[Card] = CARD
    made_for: ClassVar[tuple[str, ...]] = ("classify",)
    hidden: int = 128
    layers: int = 4
    units: Literal["elu", "lif"] = "elu"
    tau: float = 2.0
    rule: Rules = "counter-current"
    lr: float = 1e-2
    batch: int = 64

    def build(self, schema: Schema, outputs: int) -> nn.Module:
        """Widths [C, hidden, ..., K], and the synapses that lead down."""
        widths = [len(schema.channels), *[self.hidden] * self.layers]
        parts: list[nn.Module] = []
        for before, after in pairwise(widths):
            unit = LIF(after, tau=self.tau, threshold=0.5, detach=True) if self.units == "lif" else nn.ELU()
            parts += [nn.Linear(before, after).requires_grad_(self.rule != "readout"), unit]
        return with_counter_current(Sequential(*parts, nn.Linear(widths[-1], outputs)))

    def credit(self) -> Credit:
        """Counter-current, unless told otherwise."""
        return Rule(Instantaneous(), CounterCurrent()) if self.rule == "counter-current" else BPTT()

    def space(self) -> Mapping[str, Sequence[Any]]:
        """What comparisons tune."""
        return {"lr": (1e-3, 3e-3, 1e-2), "layers": (2, 4), "units": ("elu", "lif")}

    def asked(self, task: Task) -> Task:
        """With a loss of each step, which the top level learns from."""
        return stepwise(task)


# --- the checks -------------------------------------------------------------------------------------------------------

TASK = Classify("every")
RATES = {"lr": (3e-3, 1e-2)}  # every arm chooses on validation data
UPDATES = 600


@claim(
    "counter-current learning is nearly as accurate as backpropagation in a net of five layers",
    source="abstract: comparable to other biologically plausible rules; table of MNIST, within 2 points of backpropagation",
    control="labels of training and validation shuffled: both at chance",
    shows=NonInferior("counter-current", "backprop"),
    control_shows=AtChance(0.1),
)
def accuracy_of_counter_current(trial: Trial) -> Mapping[str, Measured]:
    """Test accuracy on digits, at an equal number of updates."""
    return on_digits(trial, "counter-current", "backprop")


@claim(
    "the level losses teach the hidden layers: far better than the last layer alone",
    source="the paper's comparison with shallow training",
    control="labels of training and validation shuffled: both at chance",
    shows=Ordering("counter-current", "readout"),
    control_shows=AtChance(0.1),
)
def hidden_layers_learn(trial: Trial) -> Mapping[str, Measured]:
    """Test accuracy with four hidden layers that learn and with four that stay as they are."""
    return on_digits(trial, "counter-current", "readout")


def on_digits(trial: Trial, *rules: Rules) -> dict[str, Measured]:
    """Digits of 14 x 14 pixels; 70 % train, a tenth validates, the rest tests."""
    splits = prepared(digits(trial.seed), trial)
    space, run = settings(trial, RATES), budget(trial, UPDATES)
    return {rule: tuned(CounterCurrentLearning(rule=rule), space, splits, TASK, run).measured for rule in rules}


def digits(seed: int) -> Splits:
    """One step of 196 pixels each."""
    data = load_mnist().pooled(2).encoded(lambda x: direct(x, 1))
    return by_sample(data, seed=seed, valid=0.1, test=0.2)


@claim(
    "the two nets align: what leads down comes to resemble what leads up",
    source="the paper's analysis of the angle between forward and feedback weights",
    control="the forward net learns by backpropagation and the other not at all: they do not align",
    shows=Ordering("learnt", "at first"),
    control_shows=Absent(),
)
def the_nets_align(trial: Trial) -> Mapping[str, Measured]:
    """Mean cosine, over the layers, of the synapses that lead down and the transpose of those that lead up."""
    splits = prepared(digits(trial.seed), replace(trial, control=False))
    system = CounterCurrentLearning(rule="backprop" if trial.control else "counter-current")
    found = {}
    learnt = budget(trial, UPDATES, control=1)
    for name, run in (("learnt", learnt), ("at first", replace(learnt, updates=0))):
        cosines = alignment(system.fit(splits.train, splits.valid, TASK, run).network)
        found[name] = Measured(sum(cosines.values()) / len(cosines), extra=cosines)
    return found
