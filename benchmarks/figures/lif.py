"""One LIF layer alone: forward and backward to the input."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.side_by_side import Case, Figure, Pass, Target

BETA, ALPHA = (
    0.9,
    2.0,
)  # share of the membrane that is left after a step; steepness of the arctan surrogate; threshold 1

Shape = tuple[int, int, int]


def arrays(shape: Shape, time_first: bool) -> list[Any]:
    """Input current and blame; peers that want time first get them so, no transpose is charged."""
    import numpy as np

    draw = np.random.default_rng(0)
    x, blame = draw.normal(0.15, 0.5, shape), draw.normal(0, 1, shape)
    return [np.ascontiguousarray(a.swapaxes(0, 1) if time_first else a, dtype=np.float32) for a in (x, blame)]


def torch_pass(layer: Callable[[Any], Any], shape: Shape, time_first: bool, scale: float = 1.0) -> Pass:
    """Forward and backward of a torch layer."""
    import torch

    x, blame = map(torch.from_numpy, arrays(shape, time_first))
    x = (x * scale).requires_grad_()

    def one_pass() -> dict[str, Any]:
        spikes = layer(x)
        spikes.backward(blame)
        gradient, x.grad = x.grad, None  # nothing of a pass stays behind, or memory would read low
        return {"spikes": spikes, "gradient": gradient}

    return one_pass


def timecell(shape: Shape, reset: str) -> Pass:
    """Ours."""
    import timecell as tc

    layer = tc.LIF(shape[-1], tau=1 / (1 - BETA), reset=reset)
    return torch_pass(lambda x: layer(x)[0], shape, time_first=False)


def stream(shape: Shape, reset: str) -> Pass:
    """The same bytes between arrays that exist: x to spikes; x and blame to the gradient."""
    import torch

    x, blame = map(torch.from_numpy, arrays(shape, time_first=False))
    spikes, gradient = torch.empty_like(x), torch.empty_like(x)

    def one_pass() -> None:
        spikes.copy_(x)
        torch.add(x, blame, out=gradient)

    return one_pass


def torch_loop(shape: Shape, reset: str) -> Pass:
    """What one writes by hand: a loop over `unbind`, with a spike of its own gradient."""
    import torch

    from benchmarks.surrogates import torch_spike

    spike = torch_spike(ALPHA)

    def layer(x: Any) -> Any:
        v, spikes = torch.zeros_like(x[:, 0]), []
        for current in x.unbind(1):
            u = BETA * v + current
            s = spike(u - 1.0)
            v = u * (1 - s) if reset == "hard" else u - s
            spikes.append(s)
        return torch.stack(spikes, 1)

    return torch_pass(layer, shape, time_first=False)


def spikingjelly(shape: Shape, reset: str) -> Pass:
    """LIFNode over all steps in one call."""
    from spikingjelly.activation_based import functional, neuron, surrogate

    node = neuron.LIFNode(
        tau=1 / (1 - BETA), decay_input=False, v_threshold=1.0, v_reset=0.0 if reset == "hard" else None,
        surrogate_function=surrogate.ATan(alpha=ALPHA), step_mode="m",
    )  # fmt: skip

    def layer(x: Any) -> Any:
        functional.reset_net(node)
        return node(x)

    return torch_pass(layer, shape, time_first=True)


def snntorch(shape: Shape, reset: str) -> Pass:
    """Leaky in a loop over `unbind`; `x[t]`, as in its tutorials, has a backward pass that is quadratic in time."""
    import snntorch as snn
    import torch

    node = snn.Leaky(
        beta=BETA, spike_grad=snn.surrogate.atan(alpha=ALPHA), reset_mechanism="zero" if reset == "hard" else "subtract"
    )

    def layer(x: Any) -> Any:
        membrane, spikes = node.reset_mem(), []
        for current in x.unbind(0):
            s, membrane = node(current, membrane)
            spikes.append(s)
        return torch.stack(spikes)

    return torch_pass(layer, shape, time_first=True)


def norse(shape: Shape, reset: str) -> Pass:
    """LIFBoxCell under Lift; its input is multiplied by dt / tau, which is undone here."""
    import norse.torch as nt
    import torch
    from norse.torch.functional.lif_box import LIFBoxParameters
    from norse.torch.functional.reset import reset_subtract, reset_value

    dt = 1e-3
    parameters = LIFBoxParameters(
        tau_mem_inv=torch.tensor((1 - BETA) / dt), v_th=torch.tensor(1.0), alpha=torch.tensor(25.0),
        reset_method=reset_value if reset == "hard" else reset_subtract,
    )  # fmt: skip
    lifted = nt.Lift(nt.LIFBoxCell(parameters, dt=dt))
    return torch_pass(lambda x: lifted(x)[0], shape, time_first=True, scale=1 / (1 - BETA))


def jax_pass(layer: Callable[[Any], Any], shape: Shape) -> Pass:
    """Forward and backward of a JAX layer [T, B, N], compiled as one."""
    import jax
    import jax.numpy as jnp

    x, blame = map(jnp.asarray, arrays(shape, time_first=True))

    @jax.jit
    def both(x: Any, blame: Any) -> tuple[Any, Any]:
        spikes, back = jax.vjp(layer, x)
        return spikes, back(blame)[0]

    return lambda: dict(zip(("spikes", "gradient"), jax.block_until_ready(both(x, blame))))


def jax_scan(shape: Shape, reset: str) -> Pass:
    """One jitted `jax.lax.scan`."""
    import jax
    import jax.numpy as jnp

    from benchmarks.surrogates import jax_spike

    spike = jax_spike(ALPHA)

    def step(v: Any, current: Any) -> tuple[Any, Any]:
        u = BETA * v + current
        s = spike(u - 1.0)
        return (u * (1 - s) if reset == "hard" else u - s), s

    return jax_pass(lambda x: jax.lax.scan(step, jnp.zeros_like(x[0]), x)[1], shape)


def spyx(shape: Shape, reset: str) -> Pass:
    """LIF under `spyx.nn.run`. It resets softly and one step later, and knows nothing else."""
    import spyx.axn
    import spyx.nn
    from flax import nnx

    node = spyx.nn.LIF(shape[2:], beta=BETA, threshold=1.0, activation=spyx.axn.arctan(), rngs=nnx.Rngs(0))
    graph, values = nnx.split(node)
    return jax_pass(lambda x: spyx.nn.run(nnx.merge(graph, values), x)[0], shape)


def figure(name: str, shape: Shape, reset: str, targets: tuple[Target, ...]) -> Figure:
    """All ways to run the layer on inputs of this shape."""
    case = (shape, reset)
    return Figure(
        name, f"LIF layer {list(shape)}, {reset} reset, forward and backward",
        cases=(
            Case("timecell", partial(timecell, *case), kind="ours"),
            Case("the bytes alone", partial(stream, *case), kind="floor"),
            Case("JAX scan", partial(jax_scan, *case), needs=("jax",), exact=True),
            Case("Spyx", partial(spyx, *case), needs=("spyx",)),
            Case("torch loop", partial(torch_loop, *case), exact=True),
            Case("SpikingJelly", partial(spikingjelly, *case), needs=("spikingjelly",), exact=True),
            Case("snnTorch", partial(snntorch, *case), needs=("snntorch",)),
            Case("Norse", partial(norse, *case), needs=("norse",)),
        ),
        targets=targets,
    )  # fmt: skip


SHORT = (
    Target("SpikingJelly", at_least=8), Target("snnTorch", at_least=10), Target("Norse", at_least=40),
    Target("Spyx", at_least=1.5), Target("JAX scan", at_least=1.5), Target("the bytes alone", at_most=1.6),
)  # fmt: skip
LONG = (
    Target("SpikingJelly", at_least=30), Target("snnTorch", at_least=40), Target("Norse", at_least=250),
    Target("Spyx", at_least=2.2), Target("the bytes alone", at_most=1.8),
)  # fmt: skip

FIGURES = (
    figure("lif-hard", (64, 100, 512), "hard", SHORT),
    figure("lif-soft", (64, 100, 512), "soft", SHORT),
    figure("lif-long", (16, 1000, 256), "hard", LONG),
)
