"""Continual learning by orthogonal projection, the directions being learnt by Hebbian lateral units (HLOP).

The idea. A net that learns one task after the other forgets, because new updates change what its layers answer to the
inputs of old tasks. A layer's answer to x changes by dW x, and dW is made of inputs: dW = -lr delta x'^T. So if updates
of later tasks leave out the part of x' that lies in the subspace of old inputs, old answers stay as they are. HLOP learns
this subspace in the net itself: each synapse has lateral units whose weights find the principal directions of what
comes in, by a Hebbian and an anti-Hebbian term; after a task they are kept, and new ones begin.

    y = H x        dH = rate <y (x - H^T y)^T>         while a task is learnt: H finds what comes in (Oja)
    dW = -lr delta (x - H_old^T H_old x)^T             later tasks learn along the rest (`timecell.credit.project`)

    x -> (Linear -> LIF) x layers -> Linear -> logits at every step, classes by mean_t softmax

It is a layer over a credit rule, whatever the rule is: here backpropagation through time, presynaptic traces online
(OTTT), and errors that are broadcast by fixed random weights (direct feedback alignment). Only weights are protected:
the net has no biases and no norms. And only the plain gradient keeps its direction on the way into the weights (Adam
scales each weight by itself), so training is stochastic gradient descent.

Where we differ from the paper: the digits are 5,000 of MNIST's, each seen once a task, and the net is 784-200-200-10; lateral units learn at a rate
relative to the power of their inputs, without momentum and clipping; every task adds the same share of units; feedback
alignment goes to every layer directly. Lateral units are not quantised.

Source: Xiao, Meng, Zhang, He & Lin, "Hebbian learning based orthogonal projection for continual learning of spiking
neural networks" (2024), arXiv:2402.11984.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from torch import nn

from timecell.card import Card
from timecell.checkpoint import seeded
from timecell.combine import Sequential
from timecell.credit import Backprop, Credit, FixedFeedback, Full, Gradient, PresynapticTrace, Rule
from timecell.credit.project import HebbianProjection, finish_task, with_lateral_units
from timecell.data.containers import Data, Schema
from timecell.data.scaling import Standardise
from timecell.data.splits import Splits
from timecell.inference import evaluate
from timecell.network_system import FittedNetwork, NetworkSystem
from timecell.neurons import LIF
from timecell.recipe import Recipe, Stage
from timecell.system import Run, Task
from timecell.tasks.classify import stepwise
from timecell.tasks.stream import ScoreMatrix, TaskStream, learn_in_turn
from timecell.train import fit

CARD = Card(
    slug="hlop",
    title="Hebbian learning based orthogonal projection for continual learning of spiking neural networks",
    summary="Lateral Hebbian units find what a layer was used for; later tasks learn along the rest and forget nothing.",
    family="spiking",
    paper="arXiv:2402.11984",
    n=45,
)

Rules = Literal["bptt", "ottt", "feedback"]


@dataclass(frozen=True)
class OrthogonalLearning(NetworkSystem):
    """A feed-forward spiking net that learns tasks one after the other.

    `fit` learns a single task, as every system does; `learn_stream` learns a stream.

    Attributes:
        hidden: units of each hidden layer.
        layers: hidden layers.
        tau: membrane time constant in steps.
        rule: "bptt", "ottt" (presynaptic traces, online) or "feedback" (errors broadcast by fixed random weights).
        protect: lateral units watch, and later tasks spare what they found.
        share: lateral units that each task adds, as a share of a layer's inputs.
        tasks: how many tasks there are lateral units for.
        repeats: Hebbian steps of the lateral units in each update.
        lr: learning rate.
        batch: samples an update.
    """

    card: ClassVar[Card] = CARD
    made_for: ClassVar[tuple[str, ...]] = ("classify",)
    hidden: int = 200
    layers: int = 2
    tau: float = 2.0
    rule: Rules = "bptt"
    protect: bool = True
    share: float = 0.1
    tasks: int = 5
    repeats: int = 5
    lr: float = 0.5
    batch: int = 64

    def build(self, schema: Schema, outputs: int) -> nn.Module:
        """Widths [C, hidden, ..., K], no biases; every synapse has lateral units."""
        widths = [len(schema.channels), *[self.hidden] * self.layers, outputs]
        synapses = [nn.Linear(before, after, bias=False) for before, after in pairwise(widths)]
        for synapse in synapses[:-1]:
            nn.init.kaiming_normal_(synapse.weight)  # with torch's own the units would be silent
        units = [LIF(n, tau=self.tau, reset="soft", detach=True) for n in widths[1:-1]]
        parts = [part for pair in zip(synapses, units) for part in pair]
        return with_lateral_units(Sequential(*parts, synapses[-1]), self.share, self.tasks)

    def credit(self) -> Credit:
        """The rule, with projected updates if old tasks are protected."""
        time = PresynapticTrace() if self.rule == "ottt" else Full()
        space = FixedFeedback() if self.rule == "feedback" else Backprop()
        return Rule(time, space, HebbianProjection(self.repeats) if self.protect else Gradient())

    def recipe(self) -> Recipe:
        """Plain gradient descent at a constant rate: other optimisers turn a gradient away from where it points."""
        return Recipe((Stage(lr=self.lr, optimizer="sgd", schedule="constant", clip=None),), batch=self.batch)

    def space(self) -> Mapping[str, Sequence[Any]]:
        """What comparisons tune."""
        return {"lr": (0.1, 0.3, 1.0), "tau": (1.1, 2.0, 5.0), "hidden": (100, 200)}

    def asked(self, task: Task) -> Task:
        """With a loss of each step, which every rule here can take."""
        return stepwise(task)

    def learn_stream(self, stream: TaskStream, task: Task, run: Run) -> Continual:
        """Learn the tasks of a stream in their order, each with the budget of the run.

        Data go in as they are: a scale that is measured on one task need not suit the next.

        Args:
            stream: tasks with the same channels and classes.
            task: what is asked of each.
            run: seed, and budget of each task.
        """
        first, task = stream.parts[0].train, self.asked(task)
        outputs, channels = task.outputs(first), len(first.schema.channels)
        with seeded(run.seed):
            net = self.build(first.schema, outputs)

        def learn(number: int, parts: Splits) -> None:
            fit(net, parts.train, task, credit=self.credit(), recipe=self.recipe(), run=run)
            self.settle(net, parts.train)

        scores = learn_in_turn(stream, learn, lambda number, data: evaluate(net, data, task).value)
        as_it_is = Standardise(np.zeros(channels), np.ones(channels))
        report = {"scores": scores.values.tolist(), "parameters": sum(p.numel() for p in net.parameters())}
        return Continual(FittedNetwork(self, first.schema, task, as_it_is, outputs, net, report), scores)

    def settle(self, net: nn.Module, train: Data) -> None:
        """What happens between two tasks: lateral units are kept as they are now."""
        finish_task(net)


class Continual(NamedTuple):
    """What is left after a stream: the network, and how well it did every task after each."""

    fitted: FittedNetwork
    scores: ScoreMatrix
