"""Neural models of event sequences that every comparison includes beside the published systems.

They differ in how they read the history and in what they can say of the next event: a gated recurrent net with an
intensity that grows exponentially (RMTPP), one with a mixture of log-normal waiting times, and attention with an
intensity of each mark (the transformer Hawkes process).
"""

from __future__ import annotations

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
from timecell.layers.event_decoders import Gompertz, LogNormalMixture
from timecell.networks.event_encoders import AttentiveEncoder, gated_encoder
from timecell.point_process_system import PointProcessSystem
from timecell.recipe import Recipe, Stage
from timecell.system import System

TINY = 1e-8  # smallest intensity that has a logarithm


@dataclass(frozen=True)
class _EventModel(PointProcessSystem):
    hidden: int = 32
    lr: float = 5e-3
    batch: int = 16

    def recipe(self) -> Recipe:
        """One stage."""
        return Recipe((Stage(lr=self.lr),), batch=self.batch)

    def space(self) -> Mapping[str, Sequence[Any]]:
        """Rate and width."""
        return {"lr": (2e-3, 5e-3, 1e-2), "hidden": (16, 32, 64)}


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
        marks, decoder = len(schema.classes or ()), Gompertz()
        return DecodedProcess(gated_encoder(marks, self.hidden, decoder.outputs(marks)), decoder)


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
        marks, decoder = len(schema.classes or ()), LogNormalMixture(self.components)
        return DecodedProcess(gated_encoder(marks, self.hidden, decoder.outputs(marks)), decoder)


class TransformerIntensity(IntensityProcess):
    """lambda_k(tau) = s_k softplus((w_k . h + a_k tau / (1 + tau)) / s_k), h from attention to the events (Zuo et al., 2020).

    The paper has a_k tau / t_i: without meaning for an event at t_i = 0, and an intensity that dies out if a_k < 0, so
    that no further event need ever come. Here it saturates, in about a mean gap.

    Args:
        marks: K.
        size: D of the attention.
    """

    def __init__(self, marks: int, size: int) -> None:
        super().__init__()
        self.encoder = AttentiveEncoder(marks, size)
        self.level = nn.Linear(size, marks)
        self.course = nn.Parameter(torch.zeros(marks))
        self.log_softness = nn.Parameter(torch.zeros(marks))

    def remember(self, x: Float[Tensor, "B T C"], lengths: Int[Tensor, "B"] | None = None) -> Float[Tensor, "B T K"]:
        """w_k . h of each row."""
        return self.level(self.encoder(x, lengths))

    def log_intensity(
        self, memory: Float[Tensor, "B T K"], row: Int[Tensor, "B Q"], tau: Float[Tensor, "B Q"]
    ) -> Float[Tensor, "B Q K"]:
        """From the level after the event towards another one."""
        softness = self.log_softness.exp()
        level = at_rows(memory, row) + self.course * (tau / (1 + tau))[..., None]
        return (softness * F.softplus(level / softness) + TINY).log()


@dataclass(frozen=True)
class TransformerHawkes(_EventModel):
    """The transformer Hawkes process (Zuo et al., 2020)."""

    card: ClassVar[Card] = Card(
        slug="thp", title="Transformer Hawkes process", family="control",
        summary="Attention to all events so far; an intensity of each mark.",
    )  # fmt: skip

    def build(self, schema: Schema) -> PointProcess:
        """Width hidden, two layers, two heads."""
        return TransformerIntensity(len(schema.classes or ()), self.hidden)


def event_models() -> list[System]:
    """All of them.

    Example:
        >>> [model.card.slug for model in event_models()]
        ['rmtpp', 'gru-mixture', 'thp']
    """
    return [RMTPP(), GatedMixture(), TransformerHawkes()]
