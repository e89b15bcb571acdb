"""The arctan spike by hand: 1 where u >= 0; backward, alpha/2 / (1 + (pi/2 alpha u)^2)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any


def torch_spike(alpha: float) -> Callable[[Any], Any]:
    """For torch."""
    import torch

    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, u: Any) -> Any:
            ctx.save_for_backward(u)
            return (u >= 0).to(u.dtype)

        @staticmethod
        def backward(ctx: Any, blame: Any) -> Any:
            (u,) = ctx.saved_tensors
            return blame * (alpha / 2) / (1 + (math.pi / 2 * alpha * u) ** 2)

    return Spike.apply


def jax_spike(alpha: float) -> Callable[[Any], Any]:
    """For JAX."""
    import jax

    @jax.custom_vjp
    def spike(u: Any) -> Any:
        return (u >= 0).astype(u.dtype)

    def backward(u: Any, blame: Any) -> tuple[Any]:
        return (blame * (alpha / 2) / (1 + (math.pi / 2 * alpha * u) ** 2),)

    spike.defvjp(lambda u: (spike(u), u), backward)
    return spike
