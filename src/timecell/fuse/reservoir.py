"""A sparse recurrent net of leaky tanh units with fixed weights, over all of time: the loop behind reservoirs.

With a drive u [B, T, N], N units that each listen to K others (unit i to source[i, k] with weight[i, k]) and a leak a,

    z_t = u_t + W h_{t-1}                    W [N, N] with K entries a row
    h_t = h_{t-1} + a (tanh z_t - h_{t-1})

and the adjoint, with g_t the blame of the output h_t and r_t that of the state after step t,

    q_t = a (g_t + r_t) (1 - tanh² z_t)      the blame of u_t; tanh z_t = (h_t - (1 - a) h_{t-1}) / a
    r_{t-1} = (1 - a) (g_t + r_t) + W' q_t

so that nothing but the output is kept for it. The weights are fixed: blame for them is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from timecell.errors import InputError
from timecell.fuse import pool
from timecell.fuse.raw import adjoint, array, carrying, differentiated, ends, kernels, new, one_by_one, plain


def reservoir(
    drive: Float[Tensor, "B T N"], first: Float[Tensor, "B N"], weight: Float[Tensor, "N K"], source: Int[Tensor, "N K"],
    leak: float, lengths: Int[Tensor, "B"] | None = None,
) -> tuple[Float[Tensor, "B T N"], Float[Tensor, "B N"]]:  # fmt: skip
    """The course of all units and their last states: fused on a CPU, a plain loop elsewhere.

    Args:
        drive: what comes into each unit from outside, float32 or float64 (as are `first` and `weight`).
        first: the states before the first step.
        weight: of each connection.
        source: the unit where it comes from, in 0..N-1.
        leak: a in (0, 1].
        lengths: steps of each sample; outputs after it are zero and the state stays.

    Raises:
        InputError: a second derivative, or one for the weights, is asked of the fused loop.

    Example:
        >>> y, last = reservoir(torch.ones(1, 2, 1), torch.zeros(1, 1), torch.zeros(1, 1), torch.tensor([[0]]), leak=0.5)
        >>> [round(v, 3) for v in y[0, :, 0].tolist()]
        [0.381, 0.571]
    """
    if plain() or drive.device.type != "cpu":
        return _plain(drive, first, weight, source, leak, lengths)
    if differentiated(drive, first, weight):
        return _Reservoir.apply(carrying(), leak, lengths, source, weight, drive, first)
    return torch.ops.timecell.reservoir(leak, lengths, source, weight, drive, first)


def _plain(
    drive: Tensor, first: Tensor, weight: Tensor, source: Tensor, leak: float, lengths: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The same equations, step by step: the reference."""
    dense = weight.new_zeros(len(weight), len(weight)).scatter_add(1, source, weight)
    h, course, carry = first, [], carrying()
    for t, u in enumerate(drive.unbind(1)):
        before = h if carry else h.detach()
        after = before + leak * (torch.tanh(u + before @ dense.T) - before)
        alive = torch.ones_like(after, dtype=torch.bool) if lengths is None else (t < lengths)[:, None]
        h = torch.where(alive, after, h)
        course.append(torch.where(alive, after, 0))
    return (torch.stack(course, 1) if course else torch.zeros_like(drive)), h


# --- fused -------------------------------------------------------------------------------------------------------

_library = torch.library.Library("timecell", "FRAGMENT")
_library.define(
    "reservoir(float leak, Tensor? lengths, Tensor source, Tensor weight, Tensor drive, Tensor first) -> (Tensor, Tensor)"
)
_library.define(
    "reservoir_adjoint(bool carry, float leak, Tensor? lengths, Tensor source, Tensor weight, Tensor y, Tensor first,"
    " Tensor g_y, Tensor g_last) -> (Tensor, Tensor)"
)


def _forward(
    leak: float, lengths: Tensor | None, source: Tensor, weight: Tensor, drive: Tensor, first: Tensor
) -> tuple[Tensor, Tensor]:
    y, last = new(drive), new(first)
    arguments = [*_net(source, weight, leak), ends(lengths, drive), *map(array, (drive, first, y, last))]
    pool.run_groups(kernels("reservoir_kernels").forward, arguments, len(drive), drive.shape[1] * weight.numel())
    return y, last


def _adjoint(
    carry: bool, leak: float, lengths: Tensor | None, source: Tensor, weight: Tensor, y: Tensor, first: Tensor,
    g_y: Tensor, g_last: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    g_drive, g_first = new(y), new(first)
    arguments = [carry, *_net(source, weight, leak), ends(lengths, y)]
    arguments += map(array, (y, first, g_y, g_last, g_drive, g_first))
    pool.run_groups(kernels("reservoir_kernels").adjoint, arguments, len(y), y.shape[1] * weight.numel())
    return g_drive, g_first


def _net(source: Tensor, weight: Tensor, leak: float) -> tuple[Any, Any, Any]:
    """Sources without a sign, because numba would ask of each whether it counts from the end; the leak in their type."""
    w = array(weight)
    return array(source).view(np.uint64), w, w.dtype.type(leak)


_library.impl("reservoir", _forward, "CPU")
_library.impl("reservoir_adjoint", _adjoint, "CPU")
torch.library.register_fake("timecell::reservoir", lambda *args: (new(args[-2]), new(args[-1])), lib=_library)
torch.library.register_fake("timecell::reservoir_adjoint", lambda *args: (new(args[5]), new(args[6])), lib=_library)

LEARNT = InputError(
    "weights of a reservoir", found="a derivative with respect to them", expected="weights that are fixed",
    remedy='run the net under timecell.fuse.backend("plain")',
)  # fmt: skip


class _Reservoir(torch.autograd.Function):
    @staticmethod
    def forward(
        carry: bool, leak: float, lengths: Tensor | None, source: Tensor, weight: Tensor, drive: Tensor, first: Tensor
    ) -> tuple[Tensor, Tensor]:
        return torch.ops.timecell.reservoir(leak, lengths, source, weight, drive, first)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.carry, ctx.leak, lengths, source, weight, _, first = inputs
        ctx.save_for_backward(lengths, source, weight, output[0], first)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        if ctx.needs_input_grad[4]:
            raise LEARNT
        return (None,) * 5 + adjoint("reservoir_adjoint", ctx.carry, ctx.leak, *ctx.saved_tensors, *grads)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        return one_by_one(_Reservoir.apply, info.batch_size, in_dims, args)
