"""Spikes, and the slopes we pretend they have.

`spike(x)` is the Heaviside step: 1 where x >= 0, else 0. Its true derivative is zero almost everywhere, so learning
uses that of a smooth *primitive* instead (surrogate gradients: Neftci, Mostafa & Zenke, 2019). Each surrogate is a
small frozen dataclass with both, and a test holds the derivative against the primitive's numerical one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from timecell.fuse.setting import setting


class Surrogate(Protocol):
    """A pretended slope for the spike at x = 0."""

    def primitive(self, x: Tensor) -> Tensor:
        """A smooth stand-in for the step."""

    def derivative(self, x: Tensor) -> Tensor:
        """The primitive's derivative, used in the backward pass."""


@dataclass(frozen=True)
class ATan:
    """arctan(pi/2 alpha x) / pi + 1/2, derivative alpha/2 / (1 + (pi/2 alpha x)^2) (Fang et al., 2021)."""

    alpha: float = 2.0

    def primitive(self, x: Tensor) -> Tensor:
        """A smooth step of height 1."""
        return torch.atan(math.pi / 2 * self.alpha * x) / math.pi + 0.5

    def derivative(self, x: Tensor) -> Tensor:
        """alpha/2 at x = 0, tails like 1/x^2."""
        z = math.pi / 2 * self.alpha * x
        return (self.alpha / 2) / (1 + z * z)


@dataclass(frozen=True)
class FastSigmoid:
    """x / (1 + slope |x|), derivative 1 / (1 + slope |x|)^2 (Zenke & Ganguli, 2018)."""

    slope: float = 25.0

    def primitive(self, x: Tensor) -> Tensor:
        """A smooth step between -1/slope and 1/slope."""
        return x / (1 + self.slope * x.abs())

    def derivative(self, x: Tensor) -> Tensor:
        """1 at x = 0."""
        z = 1 + self.slope * x.abs()
        return 1 / (z * z)


@dataclass(frozen=True)
class Triangle:
    """height * max(0, 1 - |x| / width): a piecewise linear slope (Bellec et al., 2018)."""

    height: float = 1.0
    width: float = 1.0

    def primitive(self, x: Tensor) -> Tensor:
        """A piecewise quadratic step of height `height * width`."""
        z = torch.clamp(x / self.width, -1, 1)
        return self.height * self.width * (z - z * z.abs() / 2 + 0.5)

    def derivative(self, x: Tensor) -> Tensor:
        """`height` at x = 0, nothing beyond `width`."""
        return self.height * torch.relu(1 - x.abs() / self.width)


@dataclass(frozen=True)
class Exponential:
    """Slope alpha/2 exp(-alpha |x|): the derivative of a two-sided exponential step (Shrestha & Orchard, 2018)."""

    alpha: float = 5.0

    def primitive(self, x: Tensor) -> Tensor:
        """A step of height 1 with exponential approach on both sides."""
        tail = torch.exp(-self.alpha * x.abs()) / 2
        return torch.where(x < 0, tail, 1 - tail)

    def derivative(self, x: Tensor) -> Tensor:
        """alpha/2 at x = 0."""
        return self.alpha / 2 * torch.exp(-self.alpha * x.abs())


@dataclass(frozen=True)
class Sigmoid:
    """sigmoid(alpha x), derivative alpha s (1 - s)."""

    alpha: float = 4.0

    def primitive(self, x: Tensor) -> Tensor:
        """The logistic step."""
        return torch.sigmoid(self.alpha * x)

    def derivative(self, x: Tensor) -> Tensor:
        """alpha/4 at x = 0."""
        s = torch.sigmoid(self.alpha * x)
        return self.alpha * s * (1 - s)


@dataclass(frozen=True)
class Rectangle:
    """1/width where |x| < width/2, else nothing: a straight-through window."""

    width: float = 1.0

    def primitive(self, x: Tensor) -> Tensor:
        """A ramp of height 1."""
        return torch.clamp(x / self.width + 0.5, 0, 1)

    def derivative(self, x: Tensor) -> Tensor:
        """1/width within the window."""
        return (x.abs() < self.width / 2).to(x.dtype) / self.width


@dataclass(frozen=True)
class Gate:
    """max(0, alpha - alpha^2 |x|): the triangle of height alpha and area 1."""

    alpha: float = 1.0

    def primitive(self, x: Tensor) -> Tensor:
        """A piecewise quadratic step of height 1."""
        return Triangle(self.alpha, 1 / self.alpha).primitive(x)

    def derivative(self, x: Tensor) -> Tensor:
        """alpha at x = 0, nothing beyond 1/alpha."""
        return Triangle(self.alpha, 1 / self.alpha).derivative(x)


@dataclass(frozen=True)
class Gaussian:
    """The normal density with mean mu and standard deviation sigma (Yin, Corradi & Bohte, 2021, use such slopes)."""

    sigma: float = 0.5
    mu: float = 0.0

    def primitive(self, x: Tensor) -> Tensor:
        """The normal distribution function: a step of height 1."""
        return torch.special.ndtr((x - self.mu) / self.sigma)

    def derivative(self, x: Tensor) -> Tensor:
        """0.4 / sigma at x = mu."""
        z = (x - self.mu) / self.sigma
        return torch.exp(-0.5 * z * z) / (self.sigma * math.sqrt(2 * math.pi))


SURROGATES: tuple[type, ...] = (ATan, FastSigmoid, Triangle, Exponential, Sigmoid, Rectangle, Gate, Gaussian)


class _Spike(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, surrogate: Surrogate) -> Tensor:
        return (x >= 0).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.surrogate = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad * ctx.surrogate.derivative(x), None


def spike(x: Float[Tensor, "..."], surrogate: Surrogate = ATan()) -> Float[Tensor, "..."]:
    """1 where x >= 0, else 0; backward, the surrogate's derivative.

    Args:
        x: distance to threshold, any shape.
        surrogate: the pretended slope.

    Example:
        >>> x = torch.tensor([-1.0, 0.0, 1.0], requires_grad=True)
        >>> spike(x).tolist()
        [0.0, 1.0, 1.0]
        >>> spike(x, Triangle()).sum().backward(); x.grad.tolist()
        [0.0, 1.0, 0.0]
    """
    return surrogate.primitive(x) if _smooth.get() else _Spike.apply(x, surrogate)


_smooth: ContextVar[bool] = ContextVar("smooth", default=False)


@contextmanager
def smooth() -> Iterator[None]:
    """Within this context `spike` is its surrogate's primitive: the whole net becomes smooth, for gradient checks.

    It reaches the plain loop only; fused loops have the true spike compiled in.
    """
    with setting(_smooth, True):
        yield
