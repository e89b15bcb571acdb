"""Linear recurrences: a scan of which every state is wanted, and a state-space layer of which only the output is.

scan    h_t = a_t h_{t-1} + u_t, real, 64 channels with 16 states each; gradients of a and u
layer   h_t = a h_{t-1} + x_t, y_t = Re(sum c h_t), 64 channels with 16 complex states each; gradients of x, a and c
selective   h_t = exp(dt_t a) h_{t-1} + dt_t b_t x_t, y_t = sum c_t h_t + d x_t, 64 channels with 16 real states; all gradients
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.side_by_side import Case, Figure, Pass, Target

BATCH, STEPS, CHANNELS, STATES = 16, 1024, 64, 16
ALL = (BATCH, STEPS, CHANNELS, STATES)


def scan_arrays(time_first: bool = False) -> list[Any]:
    """a, u and blame; who wants time first gets it so, no transpose is charged."""
    import numpy as np

    draw = np.random.default_rng(0)
    arrays = draw.uniform(0.9, 1.0, ALL), draw.standard_normal(ALL), draw.standard_normal(ALL)
    return [np.ascontiguousarray(v.swapaxes(0, 1) if time_first else v, dtype=np.float32) for v in arrays]


def layer_arrays(time_first: bool = False) -> list[Any]:
    """x, a, c and blame; decays and frequencies spread as S4D's."""
    import numpy as np

    draw = np.random.default_rng(0)
    x, blame = draw.standard_normal((2, BATCH, STEPS, CHANNELS)).astype(np.float32)
    dt = np.exp(draw.uniform(np.log(1e-3), np.log(1e-1), (CHANNELS, 1)))
    a = np.exp(dt * (-0.5 + 1j * np.pi * np.arange(STATES))).astype(np.complex64)
    c = (draw.standard_normal(a.shape) + 1j * draw.standard_normal(a.shape)).astype(np.complex64)
    x, blame = (np.ascontiguousarray(v.swapaxes(0, 1)) if time_first else v for v in (x, blame))
    return [x, a, c, blame]


def torch_pass(function: Callable[..., Any], arrays: list[Any]) -> Pass:
    """Forward and backward to everything but the blame."""
    import torch

    *leaves, blame = map(torch.from_numpy, arrays)
    for leaf in leaves:
        leaf.requires_grad_()

    def one_pass() -> dict[str, Any]:
        for leaf in leaves:
            leaf.grad = None
        y = function(*leaves)
        y.backward(blame)
        gradients = (torch.view_as_real(leaf.grad) if leaf.is_complex() else leaf.grad for leaf in leaves)
        return {"output": y, **{f"gradient {i}": g for i, g in enumerate(gradients)}}

    return one_pass


def jax_pass(function: Callable[..., Any], arrays: list[Any]) -> Pass:
    """The same, jitted as one program."""
    import jax

    *leaves, blame = map(jax.numpy.asarray, arrays)

    @jax.jit
    def both(blame: Any, *leaves: Any) -> Any:
        y, back = jax.vjp(function, *leaves)
        return y, back(blame)

    def one_pass() -> dict[str, Any]:
        y, gradients = jax.block_until_ready(both(blame, *leaves))
        parts = (jax.numpy.stack([g.real, g.imag]) if jax.numpy.iscomplexobj(g) else g for g in gradients)
        return {"output": y, **{f"gradient {i}": g for i, g in enumerate(parts)}}

    return one_pass


# --- the scan ----------------------------------------------------------------------------------------------------


def scan_timecell() -> Pass:
    """Ours."""
    from timecell.fuse.scan import linear_scan

    return torch_pass(lambda a, u: linear_scan(a, u)[0], scan_arrays())


def scan_bytes() -> Pass:
    """The same bytes between arrays that exist: a, u to h; h, a, blame to two gradients."""
    import torch

    a, u, blame = map(torch.from_numpy, scan_arrays())
    h, g_a, g_u = (torch.empty_like(a) for _ in range(3))

    def one_pass() -> None:
        torch.add(a, u, out=h)
        torch.add(blame, h, out=g_a)
        torch.add(blame, a, out=g_u)

    return one_pass


def scan_torch() -> Pass:
    """What one writes by hand: a loop over `unbind`."""
    import torch

    def loop(a: Any, u: Any) -> Any:
        h, course = torch.zeros_like(u[:, 0]), []
        for a_t, u_t in zip(a.unbind(1), u.unbind(1)):
            h = a_t * h + u_t
            course.append(h)
        return torch.stack(course, 1)

    return torch_pass(loop, scan_arrays())


def scan_mambapy() -> Pass:
    """Its parallel scan."""
    from mambapy.pscan import pscan

    return torch_pass(pscan, scan_arrays())


def scan_jax() -> Pass:
    """`jax.lax.scan`."""
    import jax

    def step(h: Any, now: Any) -> tuple[Any, Any]:
        h = now[0] * h + now[1]
        return h, h

    return jax_pass(lambda a, u: jax.lax.scan(step, jax.numpy.zeros_like(u[0]), (a, u))[1], scan_arrays(True))


def combine(left: Any, right: Any) -> Any:
    """Two stretches of a linear recurrence as one."""
    return left[0] * right[0], right[0] * left[1] + right[1]


def scan_jax_associative() -> Pass:
    """`jax.lax.associative_scan`."""
    import jax

    return jax_pass(lambda a, u: jax.lax.associative_scan(combine, (a, u))[1], scan_arrays(True))


# --- the layer ---------------------------------------------------------------------------------------------------


def layer_timecell() -> Pass:
    """Ours."""
    from timecell.fuse.state_space import diagonal_ssm

    return torch_pass(lambda x, a, c: diagonal_ssm(x, a, c)[0], layer_arrays())


def layer_bytes() -> Pass:
    """x to y, blame and x to the gradient: the state is never in memory."""
    import torch

    x, _, _, blame = map(torch.from_numpy, layer_arrays())
    y, g_x = torch.empty_like(x), torch.empty_like(x)

    def one_pass() -> None:
        y.copy_(x)
        torch.add(x, blame, out=g_x)

    return one_pass


def layer_fft() -> Pass:
    """The layer as a convolution: its kernel is made, then spectra are multiplied."""
    import torch

    def convolve(x: Any, a: Any, c: Any) -> Any:
        time = torch.arange(STEPS)[:, None, None]
        kernel = (c * torch.exp(torch.log(a) * time)).sum(-1).real
        spectrum = torch.fft.rfft(x, 2 * STEPS, dim=1) * torch.fft.rfft(kernel, 2 * STEPS, dim=0)
        return torch.fft.irfft(spectrum, 2 * STEPS, dim=1)[:, :STEPS]

    return torch_pass(convolve, layer_arrays())


def layer_torch() -> Pass:
    """What one writes by hand: a loop over `unbind`."""
    import torch

    def loop(x: Any, a: Any, c: Any) -> Any:
        h, course = torch.zeros(BATCH, CHANNELS, STATES, dtype=a.dtype), []
        for x_t in x.unbind(1):
            h = a * h + x_t[..., None]
            course.append((c * h).sum(-1).real)
        return torch.stack(course, 1)

    return torch_pass(loop, layer_arrays())


def layer_jax() -> Pass:
    """`jax.lax.scan`."""
    import jax

    def layer(x: Any, a: Any, c: Any) -> Any:
        def step(h: Any, x_t: Any) -> tuple[Any, Any]:
            h = a * h + x_t[..., None]
            return h, (c * h).sum(-1).real

        return jax.lax.scan(step, jax.numpy.zeros((BATCH, CHANNELS, STATES), a.dtype), x)[1]

    return jax_pass(layer, layer_arrays(True))


def layer_jax_associative() -> Pass:
    """`jax.lax.associative_scan`, which holds every state."""
    import jax

    def layer(x: Any, a: Any, c: Any) -> Any:
        shape = (STEPS, BATCH, CHANNELS, STATES)
        inputs = jax.numpy.broadcast_to(x[..., None].astype(a.dtype), shape)
        h = jax.lax.associative_scan(combine, (jax.numpy.broadcast_to(a, shape), inputs))[1]
        return (c * h).sum(-1).real

    return jax_pass(layer, layer_arrays(True))


# --- selective ---------------------------------------------------------------------------------------------------


def selective_arrays(time_first: bool = False) -> list[Any]:
    """x, dt, a, b, c, d and blame; rates as Mamba's."""
    import numpy as np

    draw = np.random.default_rng(0)
    x, blame = draw.standard_normal((2, BATCH, STEPS, CHANNELS))
    dt = np.exp(draw.uniform(np.log(1e-3), np.log(1e-1), x.shape))
    b, c = draw.standard_normal((2, BATCH, STEPS, STATES))
    a, d = -np.tile(np.arange(1.0, STATES + 1), (CHANNELS, 1)), np.ones(CHANNELS)
    arrays = (v.swapaxes(0, 1) if time_first and v.ndim == 3 else v for v in (x, dt, a, b, c, d, blame))
    return [np.ascontiguousarray(v, dtype=np.float32) for v in arrays]


def selective_timecell() -> Pass:
    """Ours."""
    from timecell.fuse.selective import selective_ssm

    return torch_pass(lambda *tensors: selective_ssm(*tensors)[0], selective_arrays())


def selective_mambapy() -> Pass:
    """Its selective scan, which is its parallel scan over states that are written out."""
    from mambapy.mamba import MambaBlock

    return torch_pass(lambda *tensors: MambaBlock.selective_scan(None, *tensors), selective_arrays())


def selective_jax() -> Pass:
    """`jax.lax.scan`, everything inside the step."""
    import jax

    def layer(x: Any, dt: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
        def step(h: Any, now: Any) -> tuple[Any, Any]:
            x_t, dt_t, b_t, c_t = now
            h = jax.numpy.exp(dt_t[..., None] * a) * h + (dt_t * x_t)[..., None] * b_t[:, None]
            return h, (h * c_t[:, None]).sum(-1) + d * x_t

        return jax.lax.scan(step, jax.numpy.zeros((BATCH, CHANNELS, STATES), x.dtype), (x, dt, b, c))[1]

    return jax_pass(layer, selective_arrays(True))


FIGURES = (
    Figure(
        "scan", f"Linear scan {list(ALL)}, real, time-varying, forward and backward",
        cases=(
            Case("timecell", scan_timecell, kind="ours"),
            Case("the bytes alone", scan_bytes, kind="floor"),
            Case("torch loop", scan_torch, exact=True),
            Case("mambapy", scan_mambapy, needs=("mambapy",), exact=True),
            Case("JAX scan", scan_jax, needs=("jax",), exact=True),
            Case("JAX associative scan", scan_jax_associative, needs=("jax",), exact=True),
        ),
        targets=(
            Target("the bytes alone", at_most=1.4), Target("mambapy", at_least=5), Target("JAX scan", at_least=3.5),
            Target("mambapy", at_least=2, of="memory"), Target("JAX scan", at_least=2, of="memory"),
        ),
    ),
    Figure(
        "state-space", f"State-space layer [{BATCH}, {STEPS}, {CHANNELS}], {STATES} complex states a channel, forward and backward",
        cases=(
            Case("timecell", layer_timecell, kind="ours"),
            Case("the bytes alone", layer_bytes, kind="floor"),
            Case("FFT convolution", layer_fft, exact=True),
            Case("torch loop", layer_torch, exact=True),
            Case("JAX scan", layer_jax, needs=("jax",), exact=True),
            Case("JAX associative scan", layer_jax_associative, needs=("jax",), exact=True),
        ),
        targets=(
            Target("FFT convolution", at_least=2.5), Target("JAX scan", at_least=8),
            Target("FFT convolution", at_least=10, of="memory"), Target("JAX scan", at_least=10, of="memory"),
        ),
    ),
    Figure(
        "selective", f"Selective state-space layer [{BATCH}, {STEPS}, {CHANNELS}], {STATES} states a channel, forward and backward",
        cases=(
            Case("timecell", selective_timecell, kind="ours"),
            Case("mambapy", selective_mambapy, needs=("mambapy",), exact=True),
            Case("JAX scan", selective_jax, needs=("jax",), exact=True),
        ),
    ),
)  # fmt: skip
