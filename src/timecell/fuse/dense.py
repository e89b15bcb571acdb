"""Dense products of float32 matrices, by whichever of torch's two libraries suits the processor.

    y = x W^T + b            g_x = g W            g_W = g^T x

torch multiplies by MKL, which uses AVX-512 on Intel's processors alone. torch also holds oneDNN, which uses it
everywhere. On one thread of an AMD EPYC 9005 (milliseconds, MKL and oneDNN):

    [6400, 700] x [700, 256]     24.6    11.0          [64, 256] x [256, 256]    0.090    0.057
    [6400, 256] x [256, 256]      9.1     4.3          [16, 256] x [256, 256]    0.027    0.030

The choice follows from the processor and the sizes, never from a timing: a run repeats bit for bit on its machine. What
is not finite comes through either way. oneDNN sums its terms in longer chains: its error (root mean square, against
float64) is 1.0 to 1.5 times MKL's for up to 700 terms, and 2.3 times for 2,048 summed at once; summed by `TERMS`, 1.6.

The operator is private to torch: it stands in this file alone, and where it is missing torch's public product serves.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from timecell.fuse.trace import transforms_active

WORTH_IT = 1 << 21  # multiplications: below, what oneDNN takes for any call (13 us) is not won back
TERMS = 1024  # of a sum, at once


@functools.cache
def onednn_is_faster() -> bool:
    """Whether this processor has AVX-512 that MKL leaves unused, and this torch has the operator."""
    try:
        intel = "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False  # no Linux
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return there and not intel and torch.backends.cpu.get_cpu_capability() == "AVX512"


def product(
    a: Float[Tensor, "... K"], b: Float[Tensor, "N K"], bias: Float[Tensor, "N"] | None = None
) -> Float[Tensor, "... N"]:
    """a b^T + bias, outside autograd.

    Transposed matrices are taken as they are: g_x = product(g, W.t()), g_W = product(g.t(), x.t()).

    Example:
        >>> product(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]))
        tensor([[11.]])
    """
    if not _suits(a, b, bias):
        return functional.linear(a, b, bias)
    total = _sum(a[..., :TERMS], b[:, :TERMS], bias)
    for first in range(TERMS, b.shape[1], TERMS):
        terms = slice(first, first + TERMS)
        total += _sum(a[..., terms], b[:, terms], None)
    return total


def add_product(total: Float[Tensor, "M N"], a: Float[Tensor, "M K"], b: Float[Tensor, "N K"]) -> None:
    """total += a b^T, outside autograd.

    Example:
        >>> total = torch.ones(1, 1)
        >>> add_product(total, torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]))
        >>> total
        tensor([[12.]])
    """
    if _suits(a, b):
        total += product(a, b)
    else:
        total.addmm_(a, b.t())


def linear(x: Float[Tensor, "... K"], weight: Float[Tensor, "N K"], bias: Float[Tensor, "N"] | None = None) -> Tensor:
    """`torch.nn.functional.linear`, differentiable as often as it is.

    Example:
        >>> linear(torch.ones(2, 3), torch.ones(4, 3)).shape
        torch.Size([2, 4])
    """
    return _Linear.apply(x, weight, bias) if _suits(x, weight, bias) else functional.linear(x, weight, bias)


def _suits(a: Tensor, b: Tensor, bias: Tensor | None = None) -> bool:
    """Whether oneDNN multiplies them, and sooner."""
    return (
        a.numel() * len(b) >= WORTH_IT
        and onednn_is_faster()
        and all(map(_is_plain, (a, b)))
        and (bias is None or (bias.dtype == torch.float32 and bias.shape == b.shape[:1]))
        and a.shape[-1] == b.shape[-1]
        and not transforms_active()
    )


def _is_plain(t: Tensor) -> bool:
    """Whether it is an ordinary matrix of float32 on a CPU; many gradients asked for at once are none."""
    ordinary = type(t) in (Tensor, torch.nn.Parameter) and t.layout == torch.strided
    return ordinary and t.is_cpu and t.dtype == torch.float32 and not torch._C._functorch.is_legacy_batchedtensor(t)


def _sum(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    """The product by oneDNN."""
    if not (b.is_contiguous() or b.t().is_contiguous()):
        b = b.contiguous()  # oneDNN takes other layouts, and a thousand times as long
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    """x W^T + b; its gradients are products of the same kind."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return product(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _ = inputs
        need_x, need_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if need_weight else None, weight if need_x else None)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad
        times = linear if torch.is_grad_enabled() else product  # a gradient may be differentiated in turn
        rows = g.reshape(-1, g.shape[-1])
        g_x = times(g, weight.t()) if need_x else None
        g_weight = times(rows.t(), x.reshape(-1, x.shape[-1]).t()) if need_weight else None
        return g_x, g_weight, rows.sum(0) if need_bias else None
