"""Neural models of event sequences that every comparison includes beside the published systems.

They differ in how they read the history and in what they can say of the next event: a gated recurrent net with an
intensity that grows exponentially (RMTPP), one with a mixture of log-normal waiting times, and attention to all events
with an intensity of each mark, which moves between two events along a fixed course (the transformer Hawkes process) or
from a level to another at a speed, all three as the history says (the self-attentive one).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from timecell.card import Card
from timecell.data.containers import Schema
from timecell.generate.point_process import DecodedProcess, IntensityProcess, PointProcess, at_rows
from timecell.layers.event_decoders import Decoder, Gompertz, LogNormalMixture
from timecell.networks.event_encoders import AttentiveEncoder, gated_encoder
from timecell.point_process_system import PointProcessSystem
from timecell.recipe import OneStage
from timecell.system import System

TINY = 1e-8  # smallest intensity that has a logarithm


@dataclass(frozen=True)
class _EventModel(OneStage, PointProcessSystem):
    hidden: int = 32
    lr: float = 5e-3
    batch: int = 16

    def space(self) -> Mapping[str, Sequence[Any]]:
        """Rate and width."""
        return {"lr": (1e-3, 2e-3, 5e-3, 1e-2), "hidden": (16, 32, 64)}


@dataclass(frozen=True)
class RMTPP(_EventModel):
    """A gated recurrent net whose next event comes at a rate exp(a + w tau) (Du et al., 2016).

    With w > 0, so that the next event is certain to come; see `Gompertz`. The paper's Elman net is a gated one here.
    """

    card: ClassVar[Card] = Card(
        slug="rmtpp", title="Recurrent marked temporal point process", family="control",
        summary="A gated recurrent history; the rate of the next event grows exponentially.",
    )  # fmt: skip

    def build(self, schema: Schema) -> PointProcess:
        """Widths [1 + K, hidden, hidden, 2 + K]."""
        return _gated(schema, self.hidden, Gompertz())


@dataclass(frozen=True)
class GatedMixture(_EventModel):
    """A gated recurrent net with a mixture of log-normal waiting times (Shchur et al., 2020).

    Attributes:
        components: of the mixture.
    """

    components: int = 8

    card: ClassVar[Card] = Card(
        slug="gru-mixture", title="Recurrent log-normal mixture", family="control",
        summary="A gated recurrent history; waiting times from a mixture of log-normal distributions.",
    )  # fmt: skip

    def build(self, schema: Schema) -> PointProcess:
        """Widths [1 + K, hidden, hidden, 3 components + K]."""
        return _gated(schema, self.hidden, LogNormalMixture(self.components))


class TransformerIntensity(IntensityProcess):
    """lambda_k(tau) = r_k + s_k softplus((w_k . h + a_k tau) / s_k), with h from attention to the events.

    Source: Zuo et al. (2020), "Transformer Hawkes process". The paper has a_k tau / t_i, without meaning for an event at
    t_i = 0, and no rate r_k > 0, without which no further event need ever come where a_k < 0.

    Args:
        marks: K.
        size: D of the attention.
    """

    def __init__(self, marks: int, size: int) -> None:
        super().__init__()
        self.encoder = AttentiveEncoder(marks, size)
        self.level = nn.Linear(size, marks)
        nn.init.constant_(self.level.bias, _inverse_softplus(1 / marks))  # one event in a mean gap
        self.course = nn.Parameter(torch.full((marks,), -0.1))
        self.log_softness = nn.Parameter(torch.zeros(marks))
        self.log_rate = nn.Parameter(torch.full((marks,), 0.1 / marks).log())

    def remember(self, x: Float[Tensor, "B T C"], lengths: Int[Tensor, "B"] | None = None) -> Float[Tensor, "B T K"]:
        """w_k . h of each row."""
        return self.level(self.encoder(x, lengths))

    def log_intensity(
        self, memory: Float[Tensor, "B T K"], row: Int[Tensor, "B Q"], tau: Float[Tensor, "B Q"]
    ) -> Float[Tensor, "B Q K"]:
        """From the level after the event along the same course for all histories."""
        softness = self.log_softness.exp()
        level = at_rows(memory, row) + self.course * tau[..., None]
        return (softness * F.softplus(level / softness) + self.log_rate.exp()).log()


class SelfAttentiveIntensity(IntensityProcess):
    """lambda_k(tau) = softplus(m_k + (e_k - m_k) exp(-g_k tau)), with m, e, g from attention to the events.

    Source: Zhang et al. (2020), "Self-attentive Hawkes process". Its limit softplus(m_k) is above zero, so the next
    event is certain to come.

    Args:
        marks: K.
        size: D of the attention.
    """

    def __init__(self, marks: int, size: int) -> None:
        super().__init__()
        self.encoder = AttentiveEncoder(marks, size)
        self.readout = nn.Linear(size, 3 * marks)
        nn.init.constant_(self.readout.bias[: 2 * marks], _inverse_softplus(1 / marks))  # one event in a mean gap

    def remember(self, x: Float[Tensor, "B T C"], lengths: Int[Tensor, "B"] | None = None) -> Float[Tensor, "B T 3K"]:
        """m, e and g before its softplus, of each row."""
        return self.readout(self.encoder(x, lengths))

    def log_intensity(
        self, memory: Float[Tensor, "B T 3K"], row: Int[Tensor, "B Q"], tau: Float[Tensor, "B Q"]
    ) -> Float[Tensor, "B Q K"]:
        """From the level after the event towards its limit."""
        limit, first, speed = at_rows(memory, row).chunk(3, -1)
        fade = (-F.softplus(speed) * tau[..., None]).exp()
        return (F.softplus(limit + (first - limit) * fade) + TINY).log()


@dataclass(frozen=True)
class TransformerHawkes(_EventModel):
    """The transformer Hawkes process (Zuo et al., 2020)."""

    card: ClassVar[Card] = Card(
        slug="thp", title="Transformer Hawkes process", family="control",
        summary="Attention to all events so far; the intensity of a mark moves along a course of its own.",
    )  # fmt: skip

    def build(self, schema: Schema) -> PointProcess:
        """Width hidden, two layers, two heads."""
        return TransformerIntensity(len(schema.classes or ()), self.hidden)


@dataclass(frozen=True)
class SelfAttentiveHawkes(_EventModel):
    """The self-attentive Hawkes process (Zhang et al., 2020)."""

    card: ClassVar[Card] = Card(
        slug="sahp", title="Self-attentive Hawkes process", family="control",
        summary="Attention to all events so far; intensities that fade from one level to another.",
    )  # fmt: skip

    def build(self, schema: Schema) -> PointProcess:
        """Width hidden, two layers, two heads."""
        return SelfAttentiveIntensity(len(schema.classes or ()), self.hidden)


def _gated(schema: Schema, hidden: int, decoder: Decoder) -> PointProcess:
    """A gated recurrent history, and a decoder that says what it means."""
    marks = len(schema.classes or ())
    return DecodedProcess(gated_encoder(marks, hidden, decoder.outputs(marks)), decoder)


def _inverse_softplus(y: float) -> float:
    return math.log(math.expm1(y))


def event_models() -> list[System]:
    """All of them.

    Example:
        >>> [model.card.slug for model in event_models()]
        ['rmtpp', 'gru-mixture', 'thp', 'sahp']
    """
    return [RMTPP(), GatedMixture(), TransformerHawkes(), SelfAttentiveHawkes()]
