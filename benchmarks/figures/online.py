"""One instant at a time: what a step costs while data comes in, and what the very first call costs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.side_by_side import ROOT, Case, Figure, Pass, Target

BETA = 0.9  # share of the membrane that is left after a step; threshold 1, hard reset
BEFORE = 40  # instants before the one that is compared

Sizes = tuple[int, ...]  # of the layers, inputs first: a matrix product and LIF units each


def arrays(sizes: Sizes) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """Weight and bias of each layer, and the inputs [1, N] of some instants, the same for every case."""
    import numpy as np

    draw = np.random.default_rng(0)
    layers = [
        (draw.normal(0, 2 * n**-0.5, (m, n)).astype("float32"), np.full(m, 0.1, "float32")) for n, m in pairwise(sizes)
    ]
    return layers, [draw.random((1, sizes[0]), dtype="float32") for _ in range(BEFORE + 1)]


def linear(weight: Any, bias: Any) -> Any:
    """A product of torch's with these numbers."""
    import torch
    from torch import nn

    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    return layer.eval()


def torch_pass(sizes: Sizes, unit: Callable[[int], Callable[[Any], Any]] | None) -> Pass:
    """One instant of products with units between them, which remember on their own; without units, products alone."""
    import torch

    layers, inputs = arrays(sizes)
    products, xs = [linear(*layer) for layer in layers], [torch.from_numpy(x) for x in inputs]
    units = [unit(p.out_features) for p in products] if unit else [torch.nn.Identity() for _ in products]
    pairs = list(zip(products, units))

    def step(x: Any) -> Any:
        with torch.no_grad():
            for product, remember in pairs:
                x = remember(product(x))
        return x

    for x in xs[:-1]:
        step(x)
    return lambda: {"spikes": step(xs[-1])} if unit else {"current": step(xs[-1])}


def products(sizes: Sizes) -> Pass:
    """The matrix products alone, by the function that `nn.Linear` calls."""
    import torch
    from torch.nn.functional import linear as product

    layers, inputs = arrays(sizes)
    weights, x = [tuple(map(torch.from_numpy, layer)) for layer in layers], torch.from_numpy(inputs[-1])
    if len(weights) == 1:
        return lambda: {"current": product(x, *weights[0])}

    def one_pass() -> dict[str, Any]:
        y = x
        for weight, bias in weights:
            y = product(y, weight, bias)
        return {"current": y}

    return one_pass


def net(sizes: Sizes) -> tuple[Any, list[Any]]:
    """Ours, and the inputs."""
    import torch

    import timecell as tc

    layers, inputs = arrays(sizes)
    modules = [m for layer in layers for m in (linear(*layer), tc.LIF(len(layer[1]), tau=1 / (1 - BETA), reset="hard"))]
    return tc.Sequential(*modules).eval(), [torch.from_numpy(x) for x in inputs]


def stream(sizes: Sizes) -> Pass:
    """`tc.Stream`."""
    import timecell as tc

    ours, xs = net(sizes)
    run = tc.Stream(ours)
    for x in xs[:-1]:
        run(x)
    return lambda: {"spikes": run(xs[-1])}


def step(sizes: Sizes) -> Pass:
    """`Cell.step`: `forward` at T = 1."""
    import torch

    ours, xs = net(sizes)
    state = None
    with torch.no_grad():
        for x in xs[:-1]:
            _, state = ours.step(x, state)

    def one_pass() -> dict[str, Any]:
        with torch.no_grad():
            y, _ = ours.step(xs[-1], state)
        return {"spikes": y}

    return one_pass


def torch_step(sizes: Sizes) -> Pass:
    """What one writes by hand in torch."""

    def unit(n: int) -> Callable[[Any], Any]:
        import torch

        v = torch.zeros(1, n)

        def remember(x: Any) -> Any:
            nonlocal v
            u = BETA * v + x
            s = (u >= 1.0).float()
            v = u * (1 - s)
            return s

        return remember

    return torch_pass(sizes, unit)


def jax_step(sizes: Sizes) -> Pass:
    """All of the net's step compiled as one."""
    import jax
    import jax.numpy as jnp

    layers, inputs = arrays(sizes)
    weights, xs = jax.tree.map(jnp.asarray, layers), [jnp.asarray(x) for x in inputs]

    @jax.jit
    def instant(x: Any, state: list[Any]) -> tuple[Any, list[Any]]:
        after = []
        for (weight, bias), v in zip(weights, state):
            u = BETA * v + x @ weight.T + bias
            x = (u >= 1.0).astype(jnp.float32)
            after.append(u * (1 - x))
        return x, after

    state = [jnp.zeros((1, n)) for n in sizes[1:]]
    for x in xs[:-1]:
        _, state = instant(x, state)

    def one_pass() -> dict[str, Any]:
        nonlocal state
        y, state = instant(xs[-1], state)
        return {"spikes": jax.block_until_ready(y)}

    return one_pass


def snntorch(sizes: Sizes) -> Pass:
    """Leaky; it resets one step later."""

    def unit(n: int) -> Callable[[Any], Any]:
        import snntorch as snn

        node = snn.Leaky(beta=BETA, reset_mechanism="zero").eval()
        membrane = node.reset_mem()

        def remember(x: Any) -> Any:
            nonlocal membrane
            s, membrane = node(x, membrane)
            return s

        return remember

    return torch_pass(sizes, unit)


def spikingjelly(sizes: Sizes) -> Pass:
    """LIFNode in single-step mode."""

    def unit(n: int) -> Callable[[Any], Any]:
        from spikingjelly.activation_based import neuron

        return neuron.LIFNode(tau=1 / (1 - BETA), decay_input=False, v_threshold=1.0, v_reset=0.0, step_mode="s").eval()

    return torch_pass(sizes, unit)


def norse(sizes: Sizes) -> Pass:
    """LIFBoxCell; its input is multiplied by dt / tau, which is undone here."""

    def unit(n: int) -> Callable[[Any], Any]:
        import norse.torch as nt
        import torch
        from norse.torch.functional.lif_box import LIFBoxParameters
        from norse.torch.functional.reset import reset_value

        dt, state = 1e-3, None
        parameters = LIFBoxParameters(
            tau_mem_inv=torch.tensor((1 - BETA) / dt), v_th=torch.tensor(1.0), reset_method=reset_value
        )
        cell = nt.LIFBoxCell(parameters, dt=dt).eval()
        scale = 1 / (1 - BETA)

        def remember(x: Any) -> Any:
            nonlocal state
            s, state = cell(x * scale, state)
            return s

        return remember

    return torch_pass(sizes, unit)


# --- the first call ----------------------------------------------------------------------------------------------

IMPORTS = "import numba, torch, torch._dynamo, timecell as tc; layer = tc.LIF(256); x = torch.rand(1, 1, 256); "


def process(program: str, cache: Path | None = None) -> None:
    """A Python of its own that runs a program; kernels are kept in `cache`."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "src"), **({"TIMECELL_CACHE": str(cache)} if cache else {}))
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def first_call(keep: bool) -> Pass:
    """Import, make a layer, and run it once: with the kernel in the cache, or with an empty cache."""
    cache = Path(tempfile.mkdtemp(prefix="timecell-benchmark-"))

    def one_pass() -> None:
        if not keep:
            shutil.rmtree(cache)
        process(IMPORTS + "layer(x)", cache)

    return one_pass


def imports() -> Pass:
    """The same without the call."""
    return lambda: process(IMPORTS)


def figure(name: str, title: str, sizes: Sizes, targets: tuple[Target, ...]) -> Figure:
    """All ways to run a net one instant after the other."""

    def case(shown: str, way: Callable[[Sizes], Pass], **more: Any) -> Case:
        return Case(shown, partial(way, sizes), **more)

    return Figure(
        name, title,
        cases=(
            case("timecell, Stream", stream, kind="ours"),
            case("timecell, step", step, kind="ours", exact=True),
            case("the products alone", products, kind="floor"),
            case("torch by hand", torch_step, exact=True),
            case("JAX, jitted", jax_step, needs=("jax",), exact=True),
            case("SpikingJelly", spikingjelly, needs=("spikingjelly",), exact=True),
            case("snnTorch", snntorch, needs=("snntorch",)),
            case("Norse", norse, needs=("norse",), exact=True),
        ),
        targets=targets,
    )  # fmt: skip


FIGURES = (
    figure(
        "online", "one instant of a 256-unit LIF layer with its product, batch 1", (256, 256),
        (Target("the products alone", above=20e-6),),
    ),
    figure("online-net", "one instant of a 700-256-20 LIF net, batch 1", (700, 256, 20), ()),
    Figure(
        "first-call", "a process that imports timecell, makes an LIF layer and runs it once",
        cases=(
            Case("from the cache", partial(first_call, keep=True), kind="ours"),
            Case("with an empty cache", partial(first_call, keep=False), kind="ours"),
            Case("imports alone", imports, kind="floor"),
        ),
        targets=(
            Target("imports alone", above=0.3),
            Target("imports alone", above=5.0, subject="with an empty cache"),
        ),
    ),
)  # fmt: skip
