"""Diagonal state spaces: a layer of linear memories whose state is never stored.

    h_t = a h_{t-1} + x_t            N complex states for each of H channels
    y_t = Re(sum_n c_n h_t[n]) + d x_t

An input map b is part of c: y depends on their product alone, and h counts in units of b (Gu et al., "On the
parameterization and initialization of diagonal state space models", 2022). The layer has three faces: this recurrence;
the convolution of x with the kernel k_j = Re(sum_n c_n a_n^j) + d [j = 0]; and the recurrence over chunks, each chunk one
matrix product.

On a CPU the recurrence is fused (`state_space_kernels.py`): x is read, y is written, the state stays in registers. The
adjoint, with blame r of h,

    r_t = conj(a) r_{t+1} + conj(c) g_t,   x: Re(sum r_t) + d g_t,   a: sum_t r_t conj(h_{t-1}),   c: sum_t g_t conj(h_t),

starts from marks, the states before each segment of 64 steps, and runs the segment again. Other devices take chunks, in
plain torch operations; ``backend("plain")`` the Python loop.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor
from torch.nn.functional import pad

from timecell.fuse import pool, raw
from timecell.fuse.allocator import fresh
from timecell.fuse.row import LANES
from timecell.fuse.scan import chunked_scan, plain_scan, ragged

SEGMENT = 64  # steps between two marks
CHUNK = 64  # steps of one matrix product in the chunked form


def diagonal_ssm(
    x: Float[Tensor, "B T H"],
    a: Num[Tensor, "H N"],
    c: Num[Tensor, "H N"],
    d: Float[Tensor, "H"] | None = None,
    h0: Num[Tensor, "B H N"] | None = None,
    lengths: Int[Tensor, "B"] | None = None,
) -> tuple[Float[Tensor, "B T H"], Num[Tensor, "B H N"]]:
    """h_t = a h_{t-1} + x_t, y_t = Re(sum_n c h_t) + d x_t.

    Args:
        x: inputs [B, T, H], float32 or float64.
        a: factors of the states [H, N], complex or real; |a| < 1 forgets.
        c: how the states are read [H, N], complex or real (times the input map, if there is one).
        d: what passes directly [H]; None for nothing.
        h0: the state before the first step [B, H, N]; None for zeros.
        lengths: [B] steps of each sample; y after it is zero, and the last state is the one at it.

    Returns:
        (y [B, T, H], the last state [B, H, N], real if a is); given as `h0` of a next call, it continues the sequence.

    Raises:
        InputError: shapes or types that do not fit, named.

    Example:
        >>> y, last = diagonal_ssm(torch.ones(1, 3, 1), torch.tensor([[0.5, 0.0]]), torch.tensor([[1.0, 10.0]]))
        >>> y.flatten().tolist(), last.tolist()
        ([11.0, 11.5, 11.75], [[[1.75, 1.0]]])
    """
    raw.check_time("diagonal_ssm(x)", x, lengths)
    states, width = a.shape[1] if a.ndim == 2 else "N", x.shape[-1]
    shapes = {
        "a": (a, (width, states)),
        "c": (c, (width, states)),
        "d": (d, (width,)),
        "h0": (h0, (len(x), width, states)),
    }
    raw.check_layer("diagonal_ssm", x, shapes)
    wide = torch.promote_types(x.dtype, torch.complex64)
    state = x.new_zeros(len(x), *a.shape, dtype=wide) if h0 is None else h0.to(wide)
    direct = x.new_zeros(len(a)) if d is None else d.to(x.dtype)
    tensors = x, a.to(wide), c.to(wide), direct, state
    if raw.plain() or (x.device.type != "cpu" and not raw.carrying()):
        y, last = plain_ssm(*tensors, lengths)
    elif x.device.type == "cpu":
        y, last = run_marked("diagonal_ssm", lengths, *tensors)
    else:
        y, last = chunked_ssm(*tensors, lengths)
    return y, last if a.is_complex() else last.real


def ssm_kernel(a: Num[Tensor, "H N"], c: Num[Tensor, "H N"], steps: int) -> Float[Tensor, "T H"]:
    """The response to one impulse: k_j = Re(sum_n c_n a_n^j), for a != 0.

    Example:
        >>> ssm_kernel(torch.tensor([[0.5]]), torch.tensor([[2.0]]), 3).flatten().tolist()
        [2.0, 1.0, 0.5]
    """
    wide = torch.promote_types(a.dtype, torch.complex64)
    time = torch.arange(steps, device=a.device).view(-1, 1, 1)
    return (c * torch.exp(torch.log(a.to(wide)) * time)).sum(-1).real


def fft_convolution(kernel: Float[Tensor, "K ..."], x: Float[Tensor, "B T ..."]) -> Float[Tensor, "B T ..."]:
    """y_t = sum_k kernel_k x_{t-k}, causal, in O(T log T): products of spectra, zero-padded so that nothing wraps around.

    Args:
        kernel: [K, ...], lag first; the other axes broadcast to those of x.
        x: [B, T, ...], real.

    Example:
        >>> y = fft_convolution(torch.tensor([[1.0], [10.0]]), torch.tensor([[[1.0], [2.0], [0.0]]]))
        >>> y.flatten().round().tolist()
        [1.0, 12.0, 20.0]
    """
    steps = x.shape[1]
    if steps == 0:
        return x
    size = 1 << (steps + min(len(kernel), steps) - 2).bit_length()  # the next power of two
    spectrum = torch.fft.rfft(x, size, dim=1) * torch.fft.rfft(kernel[:steps], size, dim=0)
    return torch.fft.irfft(spectrum, size, dim=1)[:, :steps]


# --- in plain torch operations -----------------------------------------------------------------------------------


def plain_ssm(
    x: Tensor, a: Tensor, c: Tensor, d: Tensor, h0: Tensor, lengths: Tensor | None
) -> tuple[Float[Tensor, "B T H"], Num[Tensor, "B H N"]]:
    """The recurrence with every state written out: the reference."""
    inputs = x[..., None].expand(*x.shape, a.shape[1]).to(a.dtype)
    h, last = ragged(plain_scan, a.view(1, 1, -1), inputs.flatten(2), h0.flatten(1), lengths)
    y = (c * h.view(inputs.shape)).sum(-1).real + d * x
    return silent(y, lengths), last.view(h0.shape)


def chunked_ssm(
    x: Tensor, a: Tensor, c: Tensor, d: Tensor, h0: Tensor, lengths: Tensor | None
) -> tuple[Float[Tensor, "B T H"], Num[Tensor, "B H N"]]:
    """A recurrence over chunks. Within one, y is a product with the kernel's Toeplitz matrix, plus what the state before
    the chunk still gives; that state is a `linear_scan` over chunks.
    """
    rows, steps, _ = x.shape
    x = silent(x, lengths)
    powers = [torch.ones_like(a)]
    for _ in range(CHUNK):
        powers.append(powers[-1] * a)
    power = torch.stack(powers)  # [CHUNK + 1, H, N]
    j = torch.arange(CHUNK, device=x.device)
    lag = j[:, None] - j
    kernel = (c * power[:CHUNK]).sum(-1).real
    toeplitz = torch.where((lag >= 0)[..., None], kernel[lag.clamp(min=0)], 0)  # [to, from, H]
    chunks = pad(x, (0, 0, 0, -steps % CHUNK)).unflatten(1, (-1, CHUNK))  # [B, M, CHUNK, H]
    inflow = torch.einsum("jhn,bmjh->bmhn", power[:CHUNK].flip(0), chunks.to(a.dtype))
    after = chunked_scan(power[CHUNK].view(1, 1, -1), inflow.flatten(2), h0.flatten(1)).view(inflow.shape)
    course = torch.cat([h0[:, None], after], 1)  # the state before each chunk, and after the last
    y = torch.einsum("ijh,bmjh->bmih", toeplitz, chunks) + d * chunks
    y = y + torch.einsum("ihn,bmhn->bmih", c * power[1:], course[:, :-1]).real
    stops = torch.full((rows,), steps, device=x.device) if lengths is None else lengths
    sample, chunk, rest = torch.arange(rows, device=x.device), stops // CHUNK, stops % CHUNK
    begun = pad(chunks, (0, 0, 0, 0, 0, 1))[sample, chunk]  # the chunk that holds a sample's end, [B, CHUNK, H]
    still = torch.where((j < rest[:, None])[..., None, None], power[(rest[:, None] - 1 - j).clamp(min=0)], 0)
    last = power[rest] * course[sample, chunk] + (still * begun[..., None]).sum(1)
    return silent(y.flatten(1, 2)[:, :steps], lengths), last


def silent(y: Tensor, lengths: Tensor | None) -> Tensor:
    """Zero after each sample's end."""
    if lengths is None:
        return y
    return torch.where((torch.arange(y.shape[1], device=y.device) < lengths[:, None])[..., None], y, 0)


# --- fused -------------------------------------------------------------------------------------------------------

_library = torch.library.Library("timecell", "FRAGMENT")
_library.define(
    "diagonal_ssm(Tensor x, Tensor a, Tensor c, Tensor d, Tensor h0, Tensor? lengths, bool mark)"
    " -> (Tensor, Tensor, Tensor)"
)
_library.define(
    "diagonal_ssm_adjoint(Tensor x, Tensor a, Tensor c, Tensor d, Tensor marks, Tensor? lengths, Tensor g_y, Tensor g_last,"
    " bool carry) -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def _forward(
    x: Tensor, a: Tensor, c: Tensor, d: Tensor, h0: Tensor, lengths: Tensor | None, mark: bool
) -> tuple[Tensor, Tensor, Tensor]:
    inputs, state, marks = channels(x), _states(h0), _room(x, a, mark)
    y = fresh(inputs.shape, inputs.dtype)
    arrays = map(raw.array, (inputs, _factors(a, c), channels(d), y, state, marks))
    arguments = [*arrays, raw.ends(lengths, x), SEGMENT]
    pool.run(raw.kernels("state_space_kernels").forward, arguments, *_work(state, x))
    return flat(y, x), _complex(state, a), marks


def _adjoint(
    x: Tensor, a: Tensor, c: Tensor, d: Tensor, marks: Tensor, lengths: Tensor | None, g_y: Tensor, g_last: Tensor,
    carry: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    inputs, factors, direct, blame = channels(x), _factors(a, c), channels(d), _states(g_last)
    g_x, g_p, g_d = (
        fresh(inputs.shape, inputs.dtype),
        x.new_zeros(len(x), *factors.shape),
        x.new_zeros(len(x), *direct.shape),
    )
    arrays = map(raw.array, (inputs, factors, direct, marks, channels(g_y), blame, g_x, g_p, g_d))
    arguments = [*arrays, raw.ends(lengths, x), SEGMENT, carry]
    pool.run(raw.kernels("state_space_kernels").adjoint, arguments, *_work(blame, x))
    g_a, g_c = (_complex(g, a) for g in g_p.sum(0).split(2, dim=-2))
    return flat(g_x, x), g_a, g_c, flat(g_d.sum(0), d), _complex(blame, a)


def _room(x: Tensor, a: Tensor, mark: bool) -> Tensor:
    """Room for the states before each segment, or for none."""
    groups, states = -(-a.shape[0] // LANES), -(-a.shape[1] // 4) * 4
    return x.new_empty(len(x), -(-x.shape[1] // SEGMENT) if mark else 0, groups, states, 2, LANES)


def _work(states: Tensor, x: Tensor) -> tuple[int, int, int]:
    """Rows, steps and units as the pool splits them: a unit is a group of channels."""
    rows, groups, *rest = states.shape
    return rows, x.shape[1] * rest[0] * LANES, groups


def channels(x: Tensor) -> Tensor:
    """[..., H] to [..., group, lane]; missing lanes are zero."""
    missing = -x.shape[-1] % LANES
    return (pad(x, (0, missing)) if missing else x).unflatten(-1, (-1, LANES)).contiguous()


def flat(y: Tensor, like: Tensor) -> Tensor:
    """The inverse of `channels`."""
    return y.flatten(-2)[..., : like.shape[-1]].contiguous()


def _states(h: Tensor) -> Tensor:
    """[..., H, N] complex to [..., group, N, (Re, Im), lane]; missing lanes and states are zero."""
    parts = torch.view_as_real(h.detach().resolve_conj())
    parts = pad(parts, (0, 0, 0, -h.shape[-1] % 4, 0, -h.shape[-2] % LANES))
    return parts.unflatten(-3, (-1, LANES)).movedim(-3, -1).clone(memory_format=torch.contiguous_format)


def _complex(parts: Tensor, like: Tensor) -> Tensor:
    """The inverse of `_states`."""
    whole = parts.movedim(-1, -3).flatten(-4, -3)[..., : like.shape[0], : like.shape[1], :]
    return torch.view_as_complex(whole.contiguous())


def _factors(a: Tensor, c: Tensor) -> Tensor:
    """[group, N, (Re a, Im a, Re c, Im c), lane]."""
    return torch.cat([_states(a), _states(c)], -2)


_library.impl("diagonal_ssm", _forward, "CPU")
_library.impl("diagonal_ssm_adjoint", _adjoint, "CPU")
torch.library.register_fake(
    "timecell::diagonal_ssm",
    lambda x, a, c, d, h0, lengths, mark: (raw.new(x), raw.new(h0), _room(x, a, mark)), lib=_library,
)  # fmt: skip
torch.library.register_fake(
    "timecell::diagonal_ssm_adjoint",
    lambda x, a, c, d, marks, lengths, g_y, g_last, carry: (*map(raw.new, (x, a, c, d, g_last)),), lib=_library,
)  # fmt: skip


class _Marked(torch.autograd.Function):
    """(y, last state, marks) of an operator that takes tensors and h0; its adjoint reads the marks instead of h0."""

    @staticmethod
    def forward(name: str, carry: bool, lengths: Tensor | None, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return getattr(torch.ops.timecell, name)(*tensors, lengths, True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.name, ctx.carry, lengths, *tensors, _ = inputs
        ctx.mark_non_differentiable(output[2])
        ctx.save_for_backward(*tensors, output[2], lengths)

    @staticmethod
    def backward(ctx: Any, g_y: Tensor, g_last: Tensor, _: Tensor) -> tuple[Any, ...]:
        return None, None, None, *raw.adjoint(f"{ctx.name}_adjoint", *ctx.saved_tensors, g_y, g_last, ctx.carry)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        return raw.one_by_one(_Marked.apply, info.batch_size, in_dims, args)


def run_marked(name: str, lengths: Tensor | None, *tensors: Tensor) -> tuple[Tensor, Tensor]:
    """(y, last state) of ``timecell::name``, with marks where gradients are wanted."""
    if raw.differentiated(*tensors):
        return _Marked.apply(name, raw.carrying(), lengths, *tensors)[:2]
    return getattr(torch.ops.timecell, name)(*tensors, lengths, False)[:2]
