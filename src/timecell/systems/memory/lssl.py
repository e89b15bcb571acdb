"""Linear state-space layers: one linear differential equation that remembers, streams, convolves and changes its clock.

The idea. Let each channel of a signal drive a linear system

    dx/dt = A x + B u,   y = C x + D u

and put nothing nonlinear inside of time; nonlinearity stands between layers. Then the layer is a recurrence (it streams),
a convolution (it trains in parallel) and an equation (its sampling rate is a number that may be changed after training).
What such a layer remembers is decided by A. With the HiPPO matrix LegS the state is the past of u written in Legendre
polynomials, the finer the nearer; a random A forgets. A step of dt makes the horizon some 1 / dt steps, and every channel
has a step of its own.

    x [B, T, C] -> Linear -> (x + Linear(GELU(LayerNorm(LSSL(x))))) x layers -> Linear -> y [B, T, K]

The mechanism lives below: the matrices and the trainable family around them in `timecell.memory.hippo`, the cell in
`timecell.memory.linear_ssm`. A gate is a step, too: with A = -1, B = 1 and dt = e^z the backward Euler step is
x_t = (1 - sigmoid(z)) x_{t-1} + sigmoid(z) u_t.

Recipe. AdamW along a cosine. With `learn` A (within its family) and the steps are trained at a thousandth of the rate,
as in the paper; without it they stay as they are, which the paper calls LSSL-fixed. Time is computed in chunks and not
by a Fourier transform over all of it: the same numbers, and no future in the rounding. The norm stands behind the state
space, where the paper has it before: there it would blow a weak background up to the size of the signal, instant by
instant, and a state that sums over time would drown in it. The widths are small, to fit a laptop.

Source: Gu, Johnson, Goel, Saab, Dao, Rudra & Ré, "Combining recurrent, convolutional, and continuous-time models with
linear state-space layers" (2021), arXiv:2110.13985.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

from timecell.card import Card
from timecell.combine import Residual, Sequential
from timecell.data.containers import Schema
from timecell.memory.linear_ssm import LinearSSM
from timecell.network_system import NetworkSystem
from timecell.recipe import Recipe, Stage

CARD = Card(
    slug="lssl",
    title="Combining recurrent, convolutional, and continuous-time models with linear state-space layers",
    summary="One linear equation per channel: a recurrence, a convolution, any sampling rate; HiPPO makes it remember.",
    family="memory",
    paper="arXiv:2110.13985",
    n=43,
)


@dataclass(frozen=True)
class LinearStateSpace(NetworkSystem):
    """A deep net of linear state-space layers.

    Attributes:
        hidden: channels H of each layer.
        states: N for each channel.
        outputs: M of the state space for each channel.
        layers: blocks.
        memory: A: "legs", "legt" (a window of 1 / dt steps) or "gaussian", for comparison.
        dt: (shortest, longest) step; they should span one over the length of what is to be remembered.
        learn: whether A and the steps are trained.
        dropout: in each block.
        lr: highest learning rate.
        batch: samples an update.
    """

    card: ClassVar[Card] = CARD
    hidden: int = 32
    states: int = 32
    outputs: int = 1
    layers: int = 2
    memory: Literal["legs", "legt", "gaussian"] = "legs"
    dt: tuple[float, float] = (3e-3, 3e-2)
    learn: bool = False
    dropout: float = 0.0
    lr: float = 2e-2
    batch: int = 64

    def build(self, schema: Schema, outputs: int) -> nn.Module:
        """Widths [C, hidden, ..., K]."""
        blocks = (self._block() for _ in range(self.layers))
        return Sequential(nn.Linear(len(schema.channels), self.hidden), *blocks, nn.Linear(self.hidden, outputs))

    def _block(self) -> Residual:
        layer = LinearSSM(self.hidden, self.states, self.outputs, memory=self.memory, dt=self.dt, learn=self.learn)
        wide = self.hidden * self.outputs
        return Residual(
            layer, nn.LayerNorm(wide), nn.GELU(), nn.Dropout(self.dropout), nn.Linear(wide, self.hidden)
        )  # fmt: skip

    def recipe(self) -> Recipe:
        """One stage; A and the steps learn slowly, if at all."""
        return Recipe((Stage(lr=self.lr, rates={"neuron": 1e-3}),), batch=self.batch)

    def space(self) -> Mapping[str, Sequence[Any]]:
        """What comparisons tune."""
        return {"lr": (3e-3, 1e-2, 2e-2), "dt": ((3e-3, 3e-2), (1e-2, 1e-1), (1e-1, 1.0)), "hidden": (32, 64)}
