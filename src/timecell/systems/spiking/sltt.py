"""Spatial learning through time: gradients flow down through the layers and not back through time.

The idea. A membrane carries little from one step to the next when its time constant is near one step, and a gradient
that went back through time would be multiplied by (1 - 1/tau) (1 - surrogate') at every step. So leave that path out:
what a unit carries over from the step before is a constant to the gradient. Each step then has its own loss and its own
backward pass, its graph is freed at once, and memory does not grow with the number of steps T.

    x_t -> (Linear -> batch norm of step t -> LIF) x layers -> Linear -> logits o_t
    L = sum_t [(1 - pull) CE(o_t, class) + pull mean (o_t - 1)^2] / T        the answer: mean_t softmax(o_t)

SLTT-K goes further: only K steps, drawn at random for each update, have a backward pass at all.

When not to use it. What a net must *remember* in order to answer, it has to learn through the path that is left out.
Where the class lies in when spikes come, and membranes are slow to bridge the gaps, SLTT loses to backpropagation
through time, and the more the fewer units there are: with enough of them some happen to keep what is needed. The claim
`timing_needs_the_path_through_time` measures by how much. Pictures shown over and over, and anything that can nearly be
read step by step, are what it is for.

The recipe here is AdamW along a cosine, the paper's SGD with momentum; the optimiser is no part of the idea.

Source: Meng, Xiao, Yan, Wang, Lin & Luo, "Towards memory- and time-efficient backpropagation for training spiking
neural networks" (2023), arXiv:2302.14311.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Literal

from torch import nn

from timecell.card import Card
from timecell.combine import Sequential
from timecell.credit import BPTT, SLTT, Credit
from timecell.data.containers import Schema
from timecell.layers import PerStep
from timecell.network_system import NetworkSystem
from timecell.neurons import LIF, Triangle
from timecell.recipe import OneStage
from timecell.system import Task
from timecell.tasks import Classify

CARD = Card(
    slug="sltt",
    title="Towards memory- and time-efficient backpropagation for training spiking neural networks",
    summary="Gradients that skip the path through time: memory flat in T; not for classes that lie in the timing.",
    family="spiking",
    paper="arXiv:2302.14311",
    n=14,
)


@dataclass(frozen=True)
class SpatialLearning(OneStage, NetworkSystem):
    """A feed-forward spiking net trained without the path through time.

    Attributes:
        hidden: units of each hidden layer.
        layers: hidden layers.
        tau: membrane time constant in steps; the method is made for values near 1.
        rule: "sltt", or "bptt" for the same net with the path through time.
        k: steps with a backward pass in each update, drawn at random; None = all.
        stretch: steps that run at a time; no part of the result, longer ones are faster and take more memory.
        lr: highest learning rate.
        batch: samples an update.
    """

    card: ClassVar[Card] = CARD
    made_for: ClassVar[tuple[str, ...]] = ("classify",)
    hidden: int = 128
    layers: int = 2
    tau: float = 1.1
    rule: Literal["sltt", "bptt"] = "sltt"
    k: int | None = None
    stretch: int = 4
    lr: float = 5e-3
    batch: int = 64

    def build(self, schema: Schema, outputs: int) -> nn.Module:
        """Widths [C, hidden, ..., K]."""
        widths = [len(schema.channels), *[self.hidden] * self.layers]
        parts: list[nn.Module] = []
        for before, after in pairwise(widths):
            unit = LIF(after, tau=self.tau, reset="soft", detach=True, surrogate=Triangle())
            parts += [nn.Linear(before, after, bias=False), PerStep(nn.BatchNorm1d(after)), unit]
        return Sequential(*parts, nn.Linear(widths[-1], outputs))

    def credit(self) -> Credit:
        """Without the path through time, unless told otherwise."""
        return BPTT() if self.rule == "bptt" else SLTT(steps=self.stretch, k=self.k)

    def space(self) -> Mapping[str, Sequence[Any]]:
        """What comparisons tune."""
        return {"tau": (1.1, 2.0, 5.0), "lr": (2e-3, 5e-3, 1e-2), "hidden": (64, 128)}

    def asked(self, task: Task) -> Task:
        """With a loss of each step, the only kind that SLTT can take."""
        if isinstance(task, Classify):
            task = replace(task, readout="every", criterion="tet", label_smoothing=0.0)
        return task
