"""Activity-driven products: where an input is mostly zero, sum the rows of active units instead of multiplying zeros.

    y[r]      =  b + sum over active i of  x[r, i] W[:, i]              y = x W^T + b
    dW[:, i]  =  sum over rows r in which i was active of  x[r, i] g[r]

What this costs grows with the number of spikes. So each call counts the active entries of its input, one fast pass
over it, and takes the cheaper way by the rule `pays`; `products` forces one. The numbers are the same but for the order
of summation, with one difference of definition: where x is zero, 0 * inf and 0 * NaN are not formed.

For the backward pass spikes (0 and 1) are kept as bits, whichever way was taken; of a sparse input of other values
the bits and the values are kept; a dense input of other values is kept as it is. The gradient of x is the dense g W.

Torch's own product serves other devices and number types, and whatever transforms or traces the call (`torch.compile`,
`torch.func`, `make_fx`, export): a count is nothing that can be traced.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import _get_current_dispatch_mode

from timecell.errors import InputError
from timecell.fuse import dense, pool
from timecell.fuse.operator import SECOND
from timecell.fuse.raw import array, kernels, plain
from timecell.fuse.setting import one_of, setting
from timecell.fuse.trace import transforms_active

KERNELS = "sparse_rows_kernels"
WORD = 64  # entries to a word of bits
CHUNK = 64 * WORD  # rows whose bits are made numbers again at a time; they fill whole words

_products: ContextVar[str] = ContextVar("products", default="auto")


@contextmanager
def products(way: Literal["auto", "dense", "sparse"]) -> Iterator[None]:
    """Within this context, linear synapses multiply densely, sum active rows, or (the default) do what costs less.

    Raises:
        InputError: another word.

    Example:
        >>> with products("dense"):
        ...     y = sparse_rows(torch.ones(2, 3), torch.ones(4, 3))
    """
    with setting(_products, one_of("products", way, "auto", "dense", "sparse")):
        yield


class Choice(NamedTuple):
    """How a product was made.

    Attributes:
        path: "dense" or "sparse".
        density: share of the entries of x that are not zero; None where nobody counted.
        reason: why this path.
    """

    path: str
    density: float | None
    reason: str


def sparse_rows(
    x: Float[Tensor, "... I"], weight: Float[Tensor, "O I"], bias: Float[Tensor, "O"] | None = None
) -> Float[Tensor, "... O"]:
    """x W^T + b, at the cost of the active entries of x where they are few.

    Raises:
        InputError: a second derivative, or ``products("sparse")`` where only torch's product can serve.

    Example:
        >>> spikes = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
        >>> with products("sparse"):
        ...     sparse_rows(spikes, torch.tensor([[1.0, 2.0, 3.0]])).tolist()
        [[2.0], [4.0]]
    """
    return product(x, weight, bias)[0]


# --- the choice --------------------------------------------------------------------------------------------------

SHARE = 0.4, 0.23  # density at which both ways take as long, for many rows and many outputs: beside MKL, beside oneDNN
FINDING = 30  # outputs: finding an active entry takes as long as adding so many numbers
TURNING = 34  # rows: turning the weights over, and their gradient back, takes as long as a dense product of so many
WORTH_COUNTING = 1 << 22  # multiplications: in less time than they take nothing can be saved


def pays(density: float, rows: int, outputs: int) -> bool:
    """Whether summing rows takes less time than multiplying, forward and weight gradient together.

        density  <  SHARE  outputs / (outputs + FINDING)  (1 - TURNING / rows)

    The constants were measured on one thread of an AMD EPYC 9005 (AVX-512) beside either library of dense products
    (oneMKL, 93 GFLOP/s, and oneDNN, 209; see `timecell.fuse.dense`), float32, 16 to 6,400 rows, 64 to 2,048 inputs,
    densities 0.01 to 0.7. Crossings found there beside MKL: O = 8: 0.08, 20: 0.17, 64: 0.27, 256: 0.47, 512: 0.48,
    1,024: 0.38, 2,048: 0.43; 64 rows at O = 256: 0.17; 16 rows: never. Beside oneDNN, at 512 inputs: O = 20: 0.11,
    64: 0.21, 128: 0.23, 256: 0.22, 1,024: 0.23; at O = 256: 640 rows: 0.18, 128: 0.18, 64: 0.07.

    Example:
        >>> pays(0.1, 6400, 256), pays(0.5, 6400, 256), pays(0.1, 6400, 8), pays(0.1, 20, 256)
        (True, False, False, False)
    """
    share = SHARE[dense.onednn_is_faster()]
    return density < share * outputs / (outputs + FINDING) * (1 - TURNING / rows)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Choice]:
    """`sparse_rows`, and how it was made."""
    if torch.compiler.is_compiling():
        return functional.linear(x, weight, bias), Choice("dense", None, "compiled")
    way, reason = _products.get(), _why_dense(x, weight)
    multiply = dense.linear if reason is None else functional.linear
    if way == "sparse" and reason is not None:
        raise InputError(
            "products", found=f'"sparse" for {reason}', expected="float32 or float64 on a CPU, untransformed, not empty",
            remedy='use "auto"',
        )  # fmt: skip
    if way == "dense":
        reason = 'products("dense")'
    elif way == "auto" and reason is None and not worth_counting(x.numel() // x.shape[-1], *weight.shape):
        reason = "a small product"
    if reason is not None:
        return multiply(x, weight, bias), Choice("dense", None, reason)
    found, spikes = find_active(x)
    density = found.number / x.numel()
    sparse = way == "sparse" or pays(density, x.numel() // x.shape[-1], len(weight))
    choice = Choice("sparse" if sparse else "dense", density, f"{density:.1%} of the entries are active")
    if not sparse and not spikes:
        return multiply(x, weight, bias), choice
    values = x.new_empty(0) if spikes else found.collected(x)
    return _Product.apply(x, weight, bias, found.bits, values, found.number, sparse), choice


def worth_counting(rows: int, outputs: int, inputs: int) -> bool:
    """Whether something can be saved in x W^T, x [rows, inputs], W [outputs, inputs], and the choice is free."""
    return _products.get() == "auto" and rows * inputs * outputs >= WORTH_COUNTING and pays(0.0, rows, outputs)


def _why_dense(x: Tensor, weight: Tensor) -> str | None:
    """What makes torch's product the only one; None if there is a choice."""
    if plain():
        return 'backend("plain")'
    if transforms_active() or torch.jit.is_tracing() or _get_current_dispatch_mode() is not None:
        return "a call that is transformed or traced"
    if any(type(t) not in (Tensor, nn.Parameter) or t.layout != torch.strided for t in (x, weight)):
        return f"{type(x).__name__} ({x.layout}) times {type(weight).__name__}"
    if not (x.is_cpu and weight.is_cpu):
        return f"tensors on {x.device} and {weight.device}"
    if torch.is_autocast_enabled("cpu"):
        return "autocast"
    if x.dtype != weight.dtype or x.dtype not in (torch.float32, torch.float64):
        return f"{x.dtype} times {weight.dtype}"
    if x.numel() == 0 or weight.numel() == 0 or x.shape[-1] != weight.shape[-1]:
        return f"shapes {list(x.shape)} and {list(weight.shape)}"
    return None


# --- autograd ----------------------------------------------------------------------------------------------------


class _Product(torch.autograd.Function):
    """x W^T + b, keeping the bits (and values) of x and not x."""

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, bias: Tensor | None, bits: Tensor, values: Tensor, count: int, sparse: bool
    ) -> Tensor:
        if not sparse:
            return dense.product(x, weight, bias)
        y = x.new_empty(*x.shape[:-1], len(weight))
        out = y.numpy().reshape(-1, len(weight))
        offset = weight.new_zeros(len(weight)) if bias is None else bias
        arguments = [_words(bits), *map(array, (values, weight.t(), offset)), out]
        pool.run_groups(kernels(KERNELS).gather, arguments, len(out), count * len(weight))
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, bits, values, ctx.count, ctx.sparse = inputs
        ctx.inputs = x.shape[-1]
        kept = (bits, values) if ctx.needs_input_grad[1] else (None, None)
        ctx.save_for_backward(weight if ctx.needs_input_grad[0] else None, *kept)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        if torch.is_grad_enabled():
            raise SECOND
        weight, bits, values = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad[:3]
        g_x = dense.product(g, weight.t()) if need_x else None
        g = g.reshape(-1, g.shape[-1])
        g_weight = None
        if need_weight:
            g_weight = Active(bits, values, ctx.count, ctx.inputs).gradient(g, ctx.sparse and not transforms_active())
        return g_x, g_weight, g.sum(0) if need_bias else None, None, None, None, None


# --- active entries ----------------------------------------------------------------------------------------------


class Active(NamedTuple):
    """The active entries of an x [..., I].

    Attributes:
        bits: one an entry, in the order of memory, 64 to a word.
        values: of the active entries, in order; none where all of them are 1, or before they are collected.
        number: how many are active.
        inputs: I.
    """

    bits: Tensor
    values: Tensor
    number: int
    inputs: int

    def collected(self, x: Tensor) -> Tensor:
        """The values of the active entries of x, in order."""
        values = x.new_empty(self.number)
        kernels(KERNELS).collect(array(x).reshape(-1), _words(self.bits), array(values))
        return values

    def gradient(self, g: Float[Tensor, "R O"], sparse: bool | None = None) -> Float[Tensor, "O I"]:
        """g^T x: what a weight is blamed for, where g is the blame of x W^T; `sparse` None: by the rule."""
        if sparse is None:
            sparse = pays(self.number / (len(g) * self.inputs), *g.shape)
        return self._sums(g) if sparse else self._products(g)

    def _sums(self, g: Tensor) -> Tensor:
        """Row by row, where there is an active entry."""
        out = np.zeros((self.inputs, g.shape[1]), str(g.dtype)[6:])
        arguments = [_words(self.bits), array(self.values), array(g), out]
        pool.run_groups(kernels(KERNELS).scatter, arguments, g.shape[1], self.number * g.shape[1])
        return torch.from_numpy(out).t().contiguous()

    def _products(self, g: Tensor) -> Tensor:
        """Densely; x is made from its bits and values by chunks of rows that stay in the caches."""
        total, used, bits, values = g.new_zeros(g.shape[1], self.inputs), 0, _words(self.bits), array(self.values)
        for first in range(0, len(g), CHUNK):
            part = g[first : first + CHUNK]
            x = torch.empty(len(part), self.inputs, dtype=g.dtype)
            used += kernels(KERNELS).unpack(bits[first * self.inputs // WORD :], values[used:], x.numpy().reshape(-1))
            total = total + dense.product(part.t(), x.t())
        return total


def find_active(x: Float[Tensor, "... I"]) -> tuple[Active, bool]:
    """The active entries of x, their values not collected yet, and whether these are all 1.

    Example:
        >>> found, spikes = find_active(torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]))
        >>> found.number, spikes
        (3, True)
    """
    numbers, other = array(x).reshape(-1), np.zeros(1, np.int64)
    bits = np.empty(-(-numbers.size // WORD), np.uint64)
    pool.run_groups(kernels(KERNELS).pack, [numbers, bits, other], len(bits), numbers.size)
    found = Active(
        torch.from_numpy(bits.view(np.int64)), x.new_empty(0), int(np.bitwise_count(bits).sum()), x.shape[-1]
    )
    return found, not other[0]


def _words(bits: Tensor) -> np.ndarray:
    return bits.numpy().view(np.uint64)
