"""The standard recipe for training spiking nets, as a matrix of options: codes x surrogates x losses.

The idea. A leaky integrate-and-fire unit is a recurrent cell with a hard threshold. Give the threshold a pretended slope
and such nets learn by backpropagation through time like any other. What is left to choose: how the input is made of
spikes (direct current, rate, latency), how the answer is read (number of spikes, first spike, membrane) and what is
asked of it, and how much firing may cost. This module is that choice; the parts are elsewhere (`timecell.data.encoders`,
`timecell.neurons`, `timecell.losses`).

    U_t = beta U_{t-1} + W x_t - theta S_{t-1},   S_t = H(U_t - theta)        beta = 0.9, theta = 1
    x -> Linear -> LIF -> Linear -> LIF (read by its spikes) or leaky integrator (read by its membrane)

A spike lowers the membrane one step later, and no gradient passes through that reset. The codes turn pictures into
sequences before the net sees them; sequences of one's own come in as they are, as currents or as spikes.

Which loss? `rate_mse` and `rate_ce` read spikes and need some; `membrane_ce` and the losses of every step learn from
units that do not fire at all; `first_spike_ce` answers soonest and learns hardest. See `timecell.losses`.

Which surrogate? For a readout of spikes one with tails, such as the arctangent, or a wide one: a triangle gives no gradient
to a unit further from threshold than its width, and an output unit that has fallen silent then stays so.

Source: Eshraghian, Ward, Neftci, Wang, Lenz, Dwivedi, Bennamoun, Jeong & Lu, "Training spiking neural networks using
lessons from deep learning" (2021), arXiv:2109.12894. There on MNIST with a net of 784-1000-10; here on 8 x 8 digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.card import Card
from timecell.cell import Cell, check_sequence
from timecell.combine import Sequential, silence
from timecell.data.containers import Schema
from timecell.losses import activity_l1
from timecell.network_system import NetworkSystem
from timecell.neurons import LIF, ATan, LeakyIntegrator, Surrogate
from timecell.recipe import OneStage
from timecell.state import StateTree
from timecell.system import Readout, Task
from timecell.tasks import Classify
from timecell.tasks.classify import Criterion

CARD = Card(
    slug="snn-tutorial",
    title="Training spiking neural networks using lessons from deep learning",
    summary="The standard two-layer spiking net with every choice of code, surrogate, loss and activity cost.",
    family="spiking",
    paper="arXiv:2109.12894",
    n=160,
)

SPIKES = ("count", "first_spike")
"""Readouts of spikes; the others read membranes."""


class SpikeCost(Cell):
    """Spikes as they are, and in training a cost on them: cost times the mean number of spikes a unit (`activity_l1`).

    The cost joins the loss by its gradient alone, wherever in the net it arises, and so no reported loss contains it.

    Args:
        cost: of one spike of every unit.

    Shapes: x [B, T, N] -> the same; no state.

    Example:
        >>> spikes = torch.ones(2, 3, 4, requires_grad=True)
        >>> SpikeCost(8.0)(spikes)[0].sum().backward()
        >>> spikes.grad.unique().tolist()                          # 1 + cost / (2 samples x 4 units)
        [2.0]
    """

    exempt = {"gradients": "its backward pass has a cost in it that its forward pass has not"}

    @classmethod
    def example(cls) -> SpikeCost:
        """For the checks."""
        return cls(0.1)

    def __init__(self, cost: float) -> None:
        super().__init__()
        self.cost = cost

    def forward(
        self, x: Float[Tensor, "B T N"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T N"], StateTree]:
        """The same spikes."""
        check_sequence("SpikeCost(x)", x, lengths)
        x = silence(x, lengths)
        if not (self.training and x.requires_grad):
            return x, None
        return _Charge.apply(x, self.cost * activity_l1(x).mean()), None


class _Charge(torch.autograd.Function):
    """x; backward, `cost` gets the gradient that it would have as a term of the loss."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cost: Tensor) -> Tensor:
        ctx.save_for_backward(torch.ones_like(cost))
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        return grad, ctx.saved_tensors[0]


@dataclass(frozen=True)
class SnnTutorial(OneStage, NetworkSystem):
    """A two-layer net of leaky integrate-and-fire units.

    Attributes:
        hidden: hidden units.
        beta: share of the membrane that is left after a step, in [0, 1).
        learn_beta: train it, one value a layer.
        surrogate: pretended slope of the spike.
        readout: how the answer is made: of spikes ("count", "first_spike") or of membranes (the others).
        criterion: "cross_entropy", "mse" or "tet"; see `Classify`.
        spike_cost: of the mean number of hidden spikes a unit.
        train_hidden: False leaves the hidden weights as they were drawn.
        lr: highest learning rate.
        batch: samples an update.
    """

    card: ClassVar[Card] = CARD
    made_for: ClassVar[tuple[str, ...]] = ("classify",)
    hidden: int = 128
    beta: float = 0.9
    learn_beta: bool = False
    surrogate: Surrogate = ATan()  # noqa: RUF009 - frozen, as every surrogate is
    readout: Readout = "count"
    criterion: Criterion = "cross_entropy"
    spike_cost: float = 0.0
    train_hidden: bool = True
    lr: float = 5e-3
    batch: int = 64

    def build(self, schema: Schema, outputs: int) -> nn.Module:
        """Widths [C, hidden, K]."""
        drive = nn.Linear(len(schema.channels), self.hidden)
        drive.requires_grad_(self.train_hidden)
        layers: list[nn.Module] = [drive, self.unit(self.hidden)]
        if self.spike_cost > 0:
            layers.append(SpikeCost(self.spike_cost))
        return Sequential(*layers, nn.Linear(self.hidden, outputs), self.output(outputs))

    def unit(self, size: int) -> LIF:
        """The tutorial's: a spike is subtracted one step later, without a gradient."""
        learn = ("tau",) if self.learn_beta else ()
        return LIF(size, tau=self.tau, reset_delay=True, detach=True, surrogate=self.surrogate, learn=learn)

    def output(self, size: int) -> nn.Module:
        """Units that fire, or membranes that only integrate."""
        if self.readout in SPIKES:
            return self.unit(size)
        return LeakyIntegrator(size, tau=self.tau, learn=("tau",) if self.learn_beta else ())

    @property
    def tau(self) -> float:
        """The time constant in steps: beta = 1 - 1 / tau."""
        return 1 / (1 - self.beta)

    def space(self) -> Mapping[str, Sequence[Any]]:
        """What comparisons tune."""
        return {"beta": (0.5, 0.9, 0.95), "lr": (2e-3, 5e-3, 1e-2), "hidden": (64, 128)}

    def asked(self, task: Task) -> Task:
        """With this system's readout and loss."""
        if isinstance(task, Classify):
            task = replace(task, readout=self.readout, criterion=self.criterion, label_smoothing=0.0)
        return task
