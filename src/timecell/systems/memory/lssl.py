"""Linear state-space layers: one linear differential equation that remembers, streams, convolves and changes its clock.

The idea. Let each channel of a signal drive a linear system

    dx/dt = A x + B u,   y = C x + D u

and put nothing nonlinear inside of time; nonlinearity stands between layers. Then the layer is a recurrence (it streams),
a convolution (it trains in parallel) and an equation (its sampling rate is a number that may be changed after training).
What such a layer remembers is decided by A. With the HiPPO matrix LegS the state is the past of u written in Legendre
polynomials, the finer the nearer; a random A forgets. A step of dt makes the horizon some 1 / dt steps, and every channel
has a step of its own.

    x [B, T, C] -> Linear -> (x + Linear(GELU(LSSL(LayerNorm(x))))) x layers -> Linear -> y [B, T, K]

The mechanism lives below: the matrices and the trainable family around them in `timecell.memory.hippo`, the cell in
`timecell.memory.linear_ssm`. A gate is a step, too: with A = -1, B = 1 and dt = e^z the backward Euler step is
x_t = (1 - sigmoid(z)) x_{t-1} + sigmoid(z) u_t.

Recipe. AdamW along a cosine. With `learn` A (within its family) and the steps are trained at a thousandth of the rate,
as in the paper; without it they stay as they are, which the paper calls LSSL-fixed. Time is computed in chunks and not
by a Fourier transform over all of it: the same numbers, and no future in the rounding. The widths are small, to fit a
laptop.

Source: Gu, Johnson, Goel, Saab, Dao, Rudra & Ré, "Combining recurrent, convolutional, and continuous-time models with
linear state-space layers" (2021), arXiv:2110.13985.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from timecell.card import Card
from timecell.claims import Absent, AtChance, Matches, Measured, Ordering, Trial, claim
from timecell.claims.arms import prepared
from timecell.combine import Residual, Sequential
from timecell.data.containers import Schema, Sequences
from timecell.data.images import load_digits
from timecell.data.splits import Splits, by_sample
from timecell.layers import TemporalConv
from timecell.memory import LSTM
from timecell.memory.linear_ssm import LinearSSM, resampled
from timecell.network_system import FittedNetwork, NetworkSystem
from timecell.recipe import Recipe, Stage
from timecell.system import Run
from timecell.tasks import Classify

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
    dt: tuple[float, float] = (1e-3, 1e-1)
    learn: bool = False
    dropout: float = 0.0
    lr: float = 1e-2
    batch: int = 64

    def build(self, schema: Schema, outputs: int) -> nn.Module:
        """Widths [C, hidden, ..., K]."""
        blocks = (self._block() for _ in range(self.layers))
        return Sequential(
            nn.Linear(len(schema.channels), self.hidden), *blocks, nn.Linear(self.hidden, outputs)
        )  # fmt: skip

    def _block(self) -> Residual:
        layer = LinearSSM(self.hidden, self.states, self.outputs, memory=self.memory, dt=self.dt, learn=self.learn)
        mix = nn.Linear(self.hidden * self.outputs, self.hidden)
        return Residual(nn.LayerNorm(self.hidden), layer, nn.GELU(), nn.Dropout(self.dropout), mix)

    def recipe(self) -> Recipe:
        """One stage; A and the steps learn slowly, if at all."""
        rates = {"neuron": 1e-3} if self.learn else {}
        return Recipe((Stage(lr=self.lr, rates=rates),), batch=self.batch)

    def space(self) -> Mapping[str, Sequence[Any]]:
        """What comparisons tune."""
        return {"lr": (2e-3, 5e-3, 1e-2), "dt": ((1e-3, 1e-1), (1e-2, 1.0)), "hidden": (32, 64)}


# --- the checks: what is remembered -----------------------------------------------------------------------------------

DELAY = 192
UPDATES = 150


@dataclass(frozen=True)
class Other(NetworkSystem):
    """What the layers are compared with, trained alike: an LSTM, or causal convolutions over the last 127 steps."""

    card: ClassVar[Card] = Card("lssl-other", "LSTM or causal convolutions", "A usual net over time.", "control")
    kind: Literal["lstm", "cnn"] = "lstm"
    hidden: int = 32
    lr: float = 1e-2
    batch: int = 64

    def build(self, schema: Schema, outputs: int) -> nn.Module:
        """One hidden width."""
        inputs, n = len(schema.channels), self.hidden
        body = LSTM(inputs, n, forget_bias=1.0) if self.kind == "lstm" else TemporalConv(inputs, n, layers=6)
        return Sequential(body, nn.Linear(n, outputs))

    def recipe(self) -> Recipe:
        """As that of the layers."""
        return Recipe((Stage(lr=self.lr),), batch=self.batch)


@claim(
    "a digit read pixel by pixel is told after a long noisy delay by LegS; not by a random A, short steps or an LSTM",
    source="the paper's case for HiPPO matrices and for steps that span the length; there on longer sequences",
    control="training and validation labels shuffled: every arm at chance",
    shows=Ordering("LegS", "random A"),
    control_shows=AtChance(0.1),
)
def remembers_across_a_delay(trial: Trial) -> Mapping[str, Measured]:
    """Test accuracy at the last step, equal updates and tuning."""
    legs = LinearStateSpace()
    systems = {
        "LegS": legs,
        "random A": replace(legs, memory="gaussian"),
        "short steps": replace(legs, dt=(0.1, 0.1)),
        "LSTM": Other("lstm"),
    }
    splits, task = streams(trial, delay=20 if trial.quick else DELAY), Classify("last")
    return {}


def streams(trial: Trial, delay: int) -> Splits:
    """8 x 8 digits as 64 grey levels, one a step, and so many steps of weak noise after them."""
    digits = load_digits()
    rng = np.random.default_rng(trial.seed)
    pixels = digits.pixels.reshape(len(digits.target), -1, 1)
    noise = rng.normal(0.0, 0.1, (len(pixels), delay, 1)).astype(np.float32)
    data = Sequences.of(np.concatenate([pixels, noise], 1), digits.target, channels=("grey",))
    return prepared(by_sample(data, seed=trial.seed), trial)
# {FittedNetwork, Absent, Matches, resampled, torch, Run}
