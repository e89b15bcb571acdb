"""From a few numbers to when the next event comes and what it will be: the decoders of temporal point processes.

A decoder is asked at a time tau since the last event. It answers with two things that say all there is to say::

    log intensity   log lambda_k(tau)            of each mark k
    compensator     Lambda(tau) = integral of sum_k lambda_k from 0 to tau

    log density     log f(tau) = log sum_k lambda_k(tau) - Lambda(tau)
    log survival    log S(tau) = -Lambda(tau)
    mark            p(k | tau) = lambda_k(tau) / sum_j lambda_j(tau)

Each is a proper distribution, Lambda grows without bound, whatever the numbers it is given. Times are in units in which a
typical gap is about 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from timecell.errors import InputError

TINY = 1e-8  # shortest gap that is told from none
LONGEST = 1e6  # longest wait that is looked for
LOG_2PI = math.log(2 * math.pi)


class Decoder(Protocol):
    """How P numbers make a distribution of the next event. Implementations are frozen dataclasses."""

    def outputs(self, marks: int) -> int:
        """How many numbers P it needs for K marks."""

    def log_intensity(self, p: Float[Tensor, "... P"], tau: Float[Tensor, "..."]) -> Float[Tensor, "... K"]:
        """log lambda_k at tau after the last event."""

    def compensator(self, p: Float[Tensor, "... P"], tau: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Expected number of events until tau after the last event, if no other came."""


@dataclass(frozen=True)
class Exponential:
    """A constant rate for each mark until the next event: lambda_k = exp(p_k).

    Example:
        >>> decoder, p, tau = Exponential(), torch.zeros(3), torch.tensor(2.0)
        >>> decoder.log_intensity(p, tau).tolist(), decoder.compensator(p, tau).item()
        ([0.0, 0.0, 0.0], 6.0)
    """

    def outputs(self, marks: int) -> int:
        """One for each mark."""
        return marks

    def log_intensity(self, p: Float[Tensor, "... P"], tau: Float[Tensor, "..."]) -> Float[Tensor, "... K"]:
        """p, at all times."""
        return p + 0 * tau[..., None]

    def compensator(self, p: Float[Tensor, "... P"], tau: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """tau times the sum of the rates."""
        return tau * p.exp().sum(-1)


@dataclass(frozen=True)
class Gompertz:
    """A rate that grows exponentially: lambda(tau) = exp(a + w tau) (Du et al., 2016: RMTPP), and marks beside it.

    w is kept above zero. With w < 0, which the paper allows, some chance is left that no event ever comes, and the
    density does not integrate to one.
    """

    def outputs(self, marks: int) -> int:
        """a, w before its softplus, and the logits of the marks."""
        return 2 + marks

    def log_intensity(self, p: Float[Tensor, "... P"], tau: Float[Tensor, "..."]) -> Float[Tensor, "... K"]:
        """a + w tau + log p_k."""
        total = p[..., 0] + self._slope(p) * tau
        return total[..., None] + p[..., 2:].log_softmax(-1)

    def compensator(self, p: Float[Tensor, "... P"], tau: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """(exp(a + w tau) - exp(a)) / w."""
        w = self._slope(p)
        return p[..., 0].exp() * torch.expm1((w * tau).clamp(max=60.0)) / w

    def _slope(self, p: Tensor) -> Tensor:
        return F.softplus(p[..., 1] - 4) + 1e-3  # close to a constant rate at first


@dataclass(frozen=True)
class LogNormalMixture:
    """A mixture of log-normal waiting times (Shchur et al., 2020), and marks beside it, independent of the time.

    It can come close to any density of waiting times.

    Attributes:
        components: M.

    Example:
        >>> decoder = LogNormalMixture(components=4)
        >>> p = torch.randn(decoder.outputs(marks=3))
        >>> tau = torch.logspace(-6, 6, 20000, dtype=torch.float64)
        >>> log_density = decoder.log_intensity(p, tau).logsumexp(-1) - decoder.compensator(p, tau)
        >>> round(torch.trapezoid(log_density.exp(), tau).item(), 4)
        1.0
    """

    components: int = 8

    def __post_init__(self) -> None:
        if self.components < 1:
            raise InputError("components", found=self.components, expected="at least 1", remedy="try 8")

    def outputs(self, marks: int) -> int:
        """Weights, means and widths of the components, and the logits of the marks."""
        return 3 * self.components + marks

    def log_intensity(self, p: Float[Tensor, "... P"], tau: Float[Tensor, "..."]) -> Float[Tensor, "... K"]:
        """log f - log S + log p_k."""
        weight, z, sigma = self._parts(p, tau)
        log_f = (weight - sigma.log() - 0.5 * (z * z + LOG_2PI)).logsumexp(-1) - tau.clamp(min=TINY).log()
        total = log_f + self.compensator(p, tau)
        return total[..., None] + p[..., 3 * self.components :].log_softmax(-1)

    def compensator(self, p: Float[Tensor, "... P"], tau: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """-log S."""
        weight, z, _ = self._parts(p, tau)
        return -(weight + torch.special.log_ndtr(-z)).logsumexp(-1)

    def _parts(self, p: Tensor, tau: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log weight, standardised log time and width of each component [..., M]."""
        M = self.components
        centres = torch.linspace(-3.0, 1.5, M).to(p) if M > 1 else p.new_zeros(1)
        sigma = F.softplus(p[..., 2 * M : 3 * M]) + 0.02
        z = (tau.clamp(min=TINY).log()[..., None] - centres - p[..., M : 2 * M]) / sigma
        return p[..., :M].log_softmax(-1), z, sigma


def wait(
    compensator: Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]], mass: Float[Tensor, "..."], halvings: int = 48
) -> Float[Tensor, "..."]:
    """The time at which a compensator reaches a mass, by bisection of the logarithm of time.

    Of mass log 2 it is the median of the waiting time; of a mass drawn from the unit exponential distribution it is a
    draw of the waiting time (the time-rescaling theorem). At most `LONGEST`.

    Example:
        >>> round(wait(lambda tau: 2 * tau, torch.tensor(3.0)).item(), 4)
        1.5
    """
    low = torch.full_like(mass, math.log(TINY))
    high = torch.full_like(mass, math.log(LONGEST))
    for _ in range(halvings):
        middle = (low + high) / 2
        early = compensator(middle.exp()) < mass
        low, high = torch.where(early, middle, low), torch.where(early, high, middle)
    return ((low + high) / 2).exp()
