"""Linear recurrences over time, at the speed of memory.

    h_t = a_t h_{t-1} + u_t            each unit for itself; a, u, h real or complex

On a CPU one sequential pass, fused and vectorised over units, moves every number once; parallel scans do more work
there and write each of their levels to memory. Three forms give the same numbers:

* **fused** (`scan_kernels.py`), on a CPU: the adjoint is the same recurrence, backwards in time,
      r_t = g_t + conj(a_{t+1}) r_{t+1},   blame of u_t = r_t,   blame of a_t = r_t conj(h_{t-1});
* **chunked**, in plain torch operations, on other devices: chunks side by side, then from chunk to chunk, in about
  2 sqrt(T) steps instead of T;
* **plain**, a Python loop: the reference, under ``backend("plain")``.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from jaxtyping import Int, Num
from torch import Tensor

from timecell.errors import InputError
from timecell.fuse import pool
from timecell.fuse.allocator import fresh
from timecell.fuse.raw import (
    adjoint,
    array,
    carrying,
    check_time,
    differentiated,
    ends,
    kernels,
    new,
    one_by_one,
    plain,
)

TYPES = (torch.float32, torch.float64, torch.complex64, torch.complex128)


def linear_scan(
    a: Num[Tensor, "..."],
    u: Num[Tensor, "B T ..."],
    h0: Num[Tensor, "B ..."] | None = None,
    lengths: Int[Tensor, "B"] | None = None,
) -> tuple[Num[Tensor, "B T ..."], Num[Tensor, "B ..."]]:
    """h_t = a_t h_{t-1} + u_t.

    Args:
        a: factors. [B, T, ...] like u, with 1 for an axis over which they are the same; or without batch and time,
            broadcastable to the unit shape ``...``: the same at every step.
        u: inputs [B, T, ...], float32, float64 or complex.
        h0: the state before the first step; None for zeros.
        lengths: [B] steps of each sample; h after it is zero, and the last state is the one at it.

    Returns:
        (h [B, T, ...], the last state [B, ...]); given as `h0` of a next call, it continues the sequence.

    Raises:
        InputError: shapes or types that do not fit, named.

    Example:
        >>> h, last = linear_scan(torch.tensor([0.5]), torch.ones(1, 3, 1))
        >>> h.flatten().tolist(), last.tolist()
        ([1.0, 1.5, 1.75], [[1.75]])
    """
    dtype = _common_type(a=a, u=u, h0=h0)
    check_time("linear_scan(u)", u, lengths)
    rows, steps, *units = u.shape
    size = math.prod(units)
    if h0 is not None and h0.shape != (rows, *units):
        raise InputError(
            "linear_scan(h0)", found=f"shape {list(h0.shape)}", expected=f"{[rows, *units]}", remedy="match u [B, T, ...]"
        )  # fmt: skip
    state = u.new_zeros(rows, size, dtype=dtype) if h0 is None else h0.to(dtype).reshape(rows, size)
    factors, inputs = _factors(a, u).to(dtype), u.to(dtype).reshape(rows, steps, size)
    if plain():
        h, last = ragged(plain_scan, factors, inputs, state, lengths)
    elif u.device.type == "cpu":
        h, last = _fused(factors, inputs, state, lengths)
    else:
        h, last = ragged(chunked_scan, factors, inputs, state, lengths)
    return h.reshape(u.shape), last.reshape(rows, *units)


# --- in plain torch operations: a [1 or B, 1 or T, N], u [B, T, N], h0 [B, N] -> h [B, T, N] -----------------------


def plain_scan(a: Tensor, u: Tensor, h0: Tensor) -> Tensor:
    """One step after the other: the reference."""
    h, course, carry = h0, [], carrying()
    for a_t, u_t in zip(a.expand(-1, u.shape[1], -1).unbind(1), u.unbind(1)):
        h = a_t * (h if carry else h.detach()) + u_t
        course.append(h)
    return torch.stack(course, 1) if course else u


def chunked_scan(a: Tensor, u: Tensor, h0: Tensor) -> Tensor:
    """About sqrt(T) chunks: all of them at once from a state of zero, then what each hands to the next.

    Within a chunk, h = local + (product of a so far) * (state before the chunk).
    """
    steps = u.shape[1]
    if steps == 0 or not carrying():
        return plain_scan(a, u, h0)
    size = math.isqrt(steps - 1) + 1
    missing = -steps % size
    a = torch.nn.functional.pad(a.expand(-1, steps, -1), (0, 0, 0, missing), value=1.0)  # padding keeps the state
    u = torch.nn.functional.pad(u, (0, 0, 0, missing))
    local, power = [], []
    h, p = torch.zeros_like(u[:, ::size]), torch.ones_like(a[:, ::size])
    for a_j, u_j in zip(a.unflatten(1, (-1, size)).unbind(2), u.unflatten(1, (-1, size)).unbind(2)):
        h, p = a_j * h + u_j, a_j * p
        local.append(h)
        power.append(p)
    before = [h0]
    for p_m, h_m in zip(p.unbind(1), h.unbind(1)):
        before.append(p_m * before[-1] + h_m)
    course = torch.stack(local, 2) + torch.stack(power, 2) * torch.stack(before[:-1], 1)[:, :, None]
    return course.flatten(1, 2)[:, :steps]


def ragged(
    scan: Any, a: Tensor, u: Tensor, h0: Tensor, lengths: Tensor | None
) -> tuple[Num[Tensor, "B T N"], Num[Tensor, "B N"]]:
    """(h, the last state) of a scan over samples of these lengths; padding is not looked at."""
    if lengths is None:
        h = scan(a, u, h0)
        return h, h[:, -1] if u.shape[1] else h0
    alive = (torch.arange(u.shape[1], device=u.device) < lengths[:, None])[..., None]
    h = scan(torch.where(alive, a, 1), torch.where(alive, u, 0), h0)
    last = torch.cat([h0[:, None], h], 1)[torch.arange(len(h0), device=u.device), lengths]
    return torch.where(alive, h, 0), last


# --- fused -------------------------------------------------------------------------------------------------------

_library = torch.library.Library("timecell", "FRAGMENT")
_library.define("linear_scan(Tensor a, Tensor u, Tensor h0, Tensor? lengths) -> (Tensor, Tensor)")
_library.define(
    "linear_scan_adjoint(Tensor a, Tensor h, Tensor h0, Tensor? lengths, Tensor g_h, Tensor g_last, bool carry)"
    " -> (Tensor, Tensor, Tensor)"
)


def _forward(a: Tensor, u: Tensor, h0: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    h, last = fresh(u.shape, u.dtype), new(h0)
    arguments = [*map(array, (a, u, h0, h, last)), ends(lengths, u)]
    pool.run(kernels("scan_kernels").forward, arguments, *u.shape)
    return h, last


def _adjoint(
    a: Tensor, h: Tensor, h0: Tensor, lengths: Tensor | None, g_h: Tensor, g_last: Tensor, carry: bool
) -> tuple[Tensor, Tensor, Tensor]:
    rows, steps, units = h.shape
    g_u, blame = fresh(h.shape, h.dtype), g_last.clone(memory_format=torch.contiguous_format)
    g_a = fresh(h.shape, h.dtype) if a.shape[1] != 1 else h.new_zeros(rows, 1, units)
    arguments = [*map(array, (a, h, h0, g_h, g_a, g_u, blame)), ends(lengths, h), carry]
    pool.run(kernels("scan_kernels").adjoint, arguments, rows, steps, units)
    return g_a.sum_to_size(a.shape), g_u, blame


_library.impl("linear_scan", _forward, "CPU")
_library.impl("linear_scan_adjoint", _adjoint, "CPU")
torch.library.register_fake("timecell::linear_scan", lambda a, u, h0, lengths: (new(u), new(h0)), lib=_library)
torch.library.register_fake(
    "timecell::linear_scan_adjoint",
    lambda a, h, h0, lengths, g_h, g_last, carry: (new(a), new(h), new(h0)), lib=_library,
)  # fmt: skip


def _fused(a: Tensor, u: Tensor, h0: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    if differentiated(a, u, h0):
        return _Scan.apply(carrying(), lengths, a, u, h0)
    return torch.ops.timecell.linear_scan(a, u, h0, lengths)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(carry: bool, lengths: Tensor | None, a: Tensor, u: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ops.timecell.linear_scan(a, u, h0, lengths)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.carry, lengths, a, _, h0 = inputs
        ctx.save_for_backward(a, output[0], h0, lengths)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        a, h, h0, lengths = ctx.saved_tensors
        return None, None, *adjoint("linear_scan_adjoint", a, h, h0, lengths, *grads, ctx.carry)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        return one_by_one(_Scan.apply, info.batch_size, in_dims, args)


# --- what is refused -------------------------------------------------------------------------------------------------


def _common_type(**tensors: Tensor | None) -> torch.dtype:
    dtype = functools.reduce(torch.promote_types, (t.dtype for t in tensors.values() if t is not None))
    if dtype not in TYPES:
        found = ", ".join(f"{n} {t.dtype}" for n, t in tensors.items() if t is not None)
        raise InputError(
            "linear_scan(a, u)", found=found, expected="float32, float64 or complex numbers",
            remedy="convert them, e.g. with .float()",
        )  # fmt: skip
    return dtype


def _factors(a: Tensor, u: Tensor) -> Tensor:
    """a as [1 or B, 1 or T, N]."""
    rows, steps, *units = u.shape
    lead = a.shape[:2] if a.ndim == u.ndim else (1, 1)
    try:
        if not (lead[0] in (1, rows) and lead[1] in (1, steps)):
            raise RuntimeError
        return a.expand(*lead, *units).reshape(*lead, math.prod(units))
    except RuntimeError:
        raise InputError(
            "linear_scan(a)", found=f"shape {list(a.shape)}",
            expected=f"{list(u.shape)} (or 1 for batch or time), or what broadcasts to {units}",
            remedy="give factors for every step, or one for each unit",
        ) from None  # fmt: skip
