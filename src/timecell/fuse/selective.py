"""Selective state spaces: a diagonal state space whose pace, input and reading depend on what comes in.

    h_t = exp(dt_t a) h_{t-1} + dt_t b_t x_t            N real states for each of H channels
    y_t = sum_n c_t[n] h_t[n] + d x_t                   dt_t [H]; b_t and c_t [N] are shared by the channels

Source: Gu & Dao, "Mamba: Linear-time sequence modeling with selective state spaces" (2023), arXiv:2312.00752, equation 2
and section 3.2. As in `state_space.py` the state is never stored on a CPU: the fused adjoint starts from marks and runs each
segment again. With r the blame of h and q_t = exp(dt_t a) r_t h_{t-1},

    r_t = exp(dt_{t+1} a) r_{t+1} + c_t g_t,   c: sum_h g_t h_t,   b: sum_h dt_t x_t r_t,   a: sum_t dt_t q_t,
    x: dt_t sum_n b_t r_t + d g_t,   dt: x_t sum_n b_t r_t + sum_n a q_t.

Other devices take the chunked scan over states that are written out; ``backend("plain")`` the Python loop.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from timecell.errors import InputError
from timecell.fuse import pool, raw
from timecell.fuse.allocator import fresh
from timecell.fuse.row import LANES
from timecell.fuse.scan import chunked_scan, plain_scan, ragged
from timecell.fuse.state_space import channels, flat, run_marked, silent

SEGMENT = 32  # steps between two marks


def selective_ssm(
    x: Float[Tensor, "B T H"],
    dt: Float[Tensor, "B T H"],
    a: Float[Tensor, "H N"],
    b: Float[Tensor, "B T N"],
    c: Float[Tensor, "B T N"],
    d: Float[Tensor, "H"] | None = None,
    h0: Float[Tensor, "B H N"] | None = None,
    lengths: Int[Tensor, "B"] | None = None,
) -> tuple[Float[Tensor, "B T H"], Float[Tensor, "B H N"]]:
    """h_t = exp(dt_t a) h_{t-1} + dt_t b_t x_t, y_t = sum_n c_t h_t + d x_t.

    Args:
        x: inputs [B, T, H], float32 or float64; everything else has its type.
        dt: the step that each input takes [B, T, H], >= 0.
        a: rates of the states [H, N], < 0.
        b: how the states are driven [B, T, N].
        c: how they are read [B, T, N].
        d: what passes directly [H]; None for nothing.
        h0: the state before the first step [B, H, N]; None for zeros.
        lengths: [B] steps of each sample; y after it is zero, and the last state is the one at it.

    Returns:
        (y [B, T, H], the last state [B, H, N]); given as `h0` of a next call, it continues the sequence.

    Raises:
        InputError: shapes or types that do not fit, named.

    Example:
        >>> one = torch.ones(1, 2, 1)
        >>> y, last = selective_ssm(one, one, torch.tensor([[-1.0]]), one, 2 * one)
        >>> [round(v, 3) for v in y.flatten().tolist()]      # 2, 2 (1 + 1 / e)
        [2.0, 2.736]
    """
    raw.check_time("selective_ssm(x)", x, lengths)
    rows, steps, width, states = *x.shape[:2], x.shape[-1], a.shape[1] if a.ndim == 2 else "N"
    shapes = {
        "dt": (dt, (rows, steps, width)), "a": (a, (width, states)), "b": (b, (rows, steps, states)),
        "c": (c, (rows, steps, states)), "d": (d, (width,)), "h0": (h0, (rows, width, states)),
    }  # fmt: skip
    raw.check_layer("selective_ssm", x, shapes)
    for name, (tensor, _) in shapes.items():
        if tensor is not None and tensor.dtype != x.dtype:
            raise InputError(
                f"selective_ssm({name})", found=f"type {tensor.dtype}", expected=f"{x.dtype}, as x", remedy="convert it"
            )
    state = x.new_zeros(len(x), *a.shape) if h0 is None else h0
    direct = x.new_zeros(len(a)) if d is None else d
    tensors = x, dt, a, b, c, direct, state
    if raw.plain() or (x.device.type != "cpu" and not raw.carrying()):
        return written_out(plain_scan, *tensors, lengths)
    if x.device.type != "cpu":
        return written_out(chunked_scan, *tensors, lengths)
    return run_marked("selective_ssm", lengths, *tensors)


def written_out(
    scan: Any, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, h0: Tensor, lengths: Tensor | None
) -> tuple[Float[Tensor, "B T H"], Float[Tensor, "B H N"]]:
    """The same with every state in memory, by a scan in plain torch operations."""
    factors = torch.exp(dt[..., None] * a)
    inputs = (dt * x)[..., None] * b[:, :, None]
    h, last = ragged(scan, factors.flatten(2), inputs.flatten(2), h0.flatten(1), lengths)
    y = (h.view(inputs.shape) * c[:, :, None]).sum(-1) + d * x
    return silent(y, lengths), last.view(h0.shape)


# --- fused -------------------------------------------------------------------------------------------------------

_library = torch.library.Library("timecell", "FRAGMENT")
_library.define(
    "selective_ssm(Tensor x, Tensor dt, Tensor a, Tensor b, Tensor c, Tensor d, Tensor h0, Tensor? lengths, bool mark)"
    " -> (Tensor, Tensor, Tensor)"
)
_library.define(
    "selective_ssm_adjoint(Tensor x, Tensor dt, Tensor a, Tensor b, Tensor c, Tensor d, Tensor marks, Tensor? lengths,"
    " Tensor g_y, Tensor g_last, bool carry) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def _forward(
    x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, h0: Tensor, lengths: Tensor | None, mark: bool
) -> tuple[Tensor, Tensor, Tensor]:
    inputs, state, marks = channels(x), _states(h0), _room(x, a, mark)
    y = fresh(inputs.shape, inputs.dtype)
    arrays = map(raw.array, (inputs, channels(dt), _states(a), b, c, channels(d), y, state, marks))
    _run("forward", x, h0, [*arrays, raw.ends(lengths, x), SEGMENT])
    return flat(y, x), _flat_states(state, a), marks


def _adjoint(
    x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, marks: Tensor, lengths: Tensor | None, g_y: Tensor,
    g_last: Tensor, carry: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    inputs, direct, blame = channels(x), channels(d), _states(g_last)
    g_x, g_dt = torch.zeros_like(inputs), torch.zeros_like(inputs)
    g_b, g_c = b.new_zeros(b.shape), c.new_zeros(c.shape)
    g_a, g_d = torch.zeros_like(blame), x.new_zeros(len(x), *direct.shape)
    given = inputs, channels(dt), _states(a), b, c, direct, marks, channels(g_y)
    arrays = map(raw.array, (*given, blame, g_x, g_dt, g_a, g_b, g_c, g_d))
    _run("adjoint", x, g_last, [*arrays, raw.ends(lengths, x), SEGMENT, carry])
    g_a, g_0 = _flat_states(g_a.sum(0), a), _flat_states(blame, a)
    return flat(g_x, x), flat(g_dt, x), g_a, g_b, g_c, flat(g_d.sum(0), d), g_0


def _run(kernel: str, x: Tensor, state: Tensor, arguments: list[Any]) -> None:
    """All groups of a sample by one thread: they add up the blame of b and c."""
    pool.run(getattr(raw.kernels("selective_kernels"), kernel), arguments, len(x), x.shape[1] * state[:1].numel(), 1)


def _room(x: Tensor, a: Tensor, mark: bool) -> Tensor:
    """Room for the states before each segment, or for none."""
    return x.new_empty(len(x), -(-x.shape[1] // SEGMENT) if mark else 0, -(-len(a) // LANES), a.shape[1], LANES)


def _states(h: Tensor) -> Tensor:
    """[..., H, N] to [..., group, N, lane], a copy; missing lanes are zero."""
    padded = pad(h.detach(), (0, 0, 0, -h.shape[-2] % LANES))
    return padded.unflatten(-2, (-1, LANES)).movedim(-2, -1).clone(memory_format=torch.contiguous_format)


def _flat_states(parts: Tensor, like: Tensor) -> Tensor:
    """The inverse of `_states`."""
    return parts.movedim(-1, -2).flatten(-3, -2)[..., : like.shape[0], :].contiguous()


_library.impl("selective_ssm", _forward, "CPU")
_library.impl("selective_ssm_adjoint", _adjoint, "CPU")
torch.library.register_fake(
    "timecell::selective_ssm",
    lambda x, dt, a, b, c, d, h0, lengths, mark: (raw.new(x), raw.new(h0), _room(x, a, mark)), lib=_library,
)  # fmt: skip
torch.library.register_fake(
    "timecell::selective_ssm_adjoint",
    lambda x, dt, a, b, c, d, marks, lengths, g_y, g_last, carry: (*map(raw.new, (x, dt, a, b, c, d, g_last)),), lib=_library,
)  # fmt: skip
