"""The expressive leaky memory neuron: one rich cell whose memories forget at many speeds.

The idea. A cortical neuron is no sum with a threshold. Its dendrites are branches that answer locally, and it remembers
at many speeds at once. The cell here keeps just that: synapses of one sign onto leaky branches, a small network that
mixes the branches with what the cell remembers, and memories whose time constants are spread evenly in logarithm, from
one step to as long as the task asks for. Few parameters, all of them in the mixing.

    x [B, T, C] -> BranchSynapses -> ELM (branches, mixing network, memories) -> Linear -> y [B, T, K]

When to use it. Sequences in which what counts lies far apart, on a small budget of parameters. `tau_max` should reach
over the span that an answer needs: the claim `long_memories_add` shows what happens if it does not. Inputs are best
signed events or values around zero, because the synapses cannot change sign (the mixing network can).

The recipe is AdamW along a cosine; the paper takes Adam or Adamax.

Source: Spieler, Rahaman, Martius, Schoelkopf & Levina, "The Expressive Leaky Memory Neuron: an efficient and expressive
phenomenological neuron model can solve long-horizon tasks" (2023), arXiv:2306.16922, second version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from timecell.card import Card
from timecell.combine import Sequential
from timecell.data.containers import Schema
from timecell.network_system import NetworkSystem
from timecell.neurons.elm import ELM, log_spaced
from timecell.recipe import OneStage
from timecell.synapses.branched import BranchSynapses

CARD = Card(
    slug="elm-neuron",
    title="The Expressive Leaky Memory Neuron",
    summary="Leaky branches, a small mixing network and many slow leaky memories: one cell of few parameters.",
    family="spiking",
    paper="arXiv:2306.16922",
    n=17,
)


@dataclass(frozen=True)
class ElmNeuron(OneStage, NetworkSystem):
    """One expressive leaky memory neuron with a linear readout.

    Attributes:
        memories: memory units.
        branches: dendritic branches; each reads a window of neighbouring inputs, and windows overlap by half.
        tau_max: longest time constant of the memories in steps; they are log-spaced from 1.
        tau_b: time constant of the branches in steps.
        lr: highest learning rate.
        batch: samples an update.
    """

    card: ClassVar[Card] = CARD
    memories: int = 20
    branches: int = 10
    tau_max: float = 150.0
    tau_b: float = 5.0
    lr: float = 1e-2
    batch: int = 64

    def build(self, schema: Schema, outputs: int) -> Sequential:
        """Two hidden units a memory, as in the paper."""
        inputs = len(schema.channels)
        cell = ELM(
            self.branches, 2 * self.memories, self.memories,
            tau_m=log_spaced(1.0, self.tau_max, self.memories), tau_b=self.tau_b,
        )  # fmt: skip
        return Sequential(BranchSynapses(inputs, self.branches), cell, nn.Linear(self.memories, outputs))

    def space(self) -> Mapping[str, Sequence[Any]]:
        """What comparisons tune."""
        return {"tau_max": (15.0, 150.0, 1000.0), "lr": (3e-3, 1e-2, 3e-2), "memories": (10, 20, 40)}
