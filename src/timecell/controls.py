"""Plain time-native networks to compare the published systems with; `controls` are in every comparison.

They are the usual first choices, each a few lines on the shared cells: a feed-forward spiking net, a recurrent one with
adaptive thresholds, units with trainable time constants and no spikes, and gated recurrent nets. All read [B, T, C]
and answer [B, T, K]; the task says which steps of the answer count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from timecell.card import Card
from timecell.combine import Recurrent, Sequential
from timecell.data.containers import Schema
from timecell.memory import GRU, LSTM
from timecell.network_system import NetworkSystem
from timecell.neurons import LIF, AdaptiveLIF, LeakyIntegrator
from timecell.recipe import OneStage
from timecell.system import System


def spread(size: int, longest: float) -> torch.Tensor:
    """Time constants from 2 steps to the longest, evenly spaced on a logarithmic scale.

    Example:
        >>> [round(t, 1) for t in spread(3, 50.0).tolist()]
        [2.0, 10.0, 50.0]
    """
    return torch.logspace(0, 1, size) ** torch.log10(torch.tensor(longest / 2)) * 2


def leaky_readout(size: int, outputs: int) -> list[nn.Module]:
    """What reads spikes: weights, and sums that leak."""
    return [nn.Linear(size, outputs), LeakyIntegrator(outputs, tau=5.0, input="scaled", learn=("tau",))]


@dataclass(frozen=True)
class _Control(OneStage, NetworkSystem):
    hidden: int = 64
    lr: float = 5e-3
    batch: int = 64

    def space(self) -> Mapping[str, Sequence[Any]]:
        """Rate and width."""
        return {"lr": (2e-3, 5e-3, 1e-2), "hidden": (32, 64, 128)}


@dataclass(frozen=True)
class SpikingMLP(_Control):
    """Linear -> batch norm -> LIF with learnt time constants, twice, and a leaky readout."""

    card: ClassVar[Card] = Card(
        slug="spiking-mlp", title="Feed-forward spiking net", family="control",
        summary="Two layers of leaky integrate-and-fire units with learnt time constants.",
    )  # fmt: skip

    def build(self, schema: Schema, outputs: int) -> nn.Module:
        """Widths [C, hidden, hidden, K]."""
        n = self.hidden

        def layer(inputs: int) -> list[nn.Module]:
            return [nn.Linear(inputs, n, bias=False), nn.BatchNorm1d(n), LIF(n, tau=spread(n, 20.0), learn=("tau",))]

        return Sequential(*layer(len(schema.channels)), *layer(n), *leaky_readout(n, outputs))


@dataclass(frozen=True)
class AdaptiveRSNN(_Control):
    """Recurrent adaptive LIF units and a leaky readout (Bellec et al., 2018)."""

    card: ClassVar[Card] = Card(
        slug="adaptive-rsnn", title="Recurrent spiking net with adaptive thresholds", family="control",
        summary="Recurrent integrate-and-fire units that tire slowly: a long memory of their own firing.",
    )  # fmt: skip

    def build(self, schema: Schema, outputs: int) -> nn.Module:
        """Widths [C, hidden, K]."""
        n = self.hidden
        unit = AdaptiveLIF(n, tau=10.0, tau_a=spread(n, 100.0), learn=("tau", "tau_a"))
        feedback = nn.Linear(n, n, bias=False)
        nn.init.orthogonal_(feedback.weight, gain=0.5)
        drive = [nn.Linear(len(schema.channels), n, bias=False), nn.BatchNorm1d(n)]
        return Sequential(*drive, Recurrent(unit, feedback), *leaky_readout(n, outputs))


@dataclass(frozen=True)
class LeakyNet(_Control):
    """Leaky units with learnt time constants from 2 to 50 steps, rectified, two layers; no spikes, no recurrence."""

    card: ClassVar[Card] = Card(
        slug="leaky-net", title="Leaky integrators with learnt time constants", family="control",
        summary="Exponential memories of many lengths between rectified layers.",
    )  # fmt: skip

    def build(self, schema: Schema, outputs: int) -> nn.Module:
        """Widths [C, hidden, hidden, K]."""
        n = self.hidden

        def layer(inputs: int) -> list[nn.Module]:
            leak = LeakyIntegrator(n, tau=spread(n, 50.0), input="scaled", learn=("tau",))
            return [nn.Linear(inputs, n), leak, nn.BatchNorm1d(n), nn.ReLU()]

        return Sequential(*layer(len(schema.channels)), *layer(n), nn.Linear(n, outputs))


@dataclass(frozen=True)
class GatedNet(_Control):
    """A gated recurrent layer and a linear readout."""

    card: ClassVar[Card] = Card(
        slug="gru", title="Gated recurrent net", family="control",
        summary="One layer of gated recurrent units (Cho et al., 2014).",
    )  # fmt: skip

    def build(self, schema: Schema, outputs: int) -> nn.Module:
        """Widths [C, hidden, K]."""
        return Sequential(GRU(len(schema.channels), self.hidden), nn.Linear(self.hidden, outputs))


@dataclass(frozen=True)
class LongMemoryNet(_Control):
    """An LSTM that begins by remembering, and a linear readout; what published systems compare themselves with.

    No comparison needs two gated nets: `controls` has the GRU.
    """

    card: ClassVar[Card] = Card(
        slug="lstm", title="Long short-term memory", family="control",
        summary="One layer of LSTM (Hochreiter & Schmidhuber, 1997) whose forget gates begin open.",
    )  # fmt: skip

    def build(self, schema: Schema, outputs: int) -> nn.Module:
        """Widths [C, hidden, K]."""
        gated = LSTM(len(schema.channels), self.hidden, forget_bias=1.0)
        return Sequential(gated, nn.Linear(self.hidden, outputs))


def controls() -> list[System]:
    """Those that every comparison includes.

    Example:
        >>> [c.card.slug for c in controls()]
        ['spiking-mlp', 'adaptive-rsnn', 'leaky-net', 'gru']
    """
    return [SpikingMLP(), AdaptiveRSNN(), LeakyNet(), GatedNet()]
