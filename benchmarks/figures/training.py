"""A training step of a 700-256-256-20 LIF net: 64 samples of 100 steps, Adam, cross-entropy of the summed output spikes.

Every net has the same equations, inputs and first weights, scaled so that each layer fires about once in ten steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import Any

from benchmarks.figures.lif import ALPHA, BETA
from benchmarks.side_by_side import Case, Figure, Pass, Target

SIZES, BATCH, STEPS, RATE = (700, 256, 256, 20), 64, 100, 1e-3
PAIRS = tuple(pairwise(SIZES))  # inputs and outputs of the layers


def data(active: float, time_first: bool) -> tuple[Any, Any]:
    """Input spikes, so many of them active, and labels."""
    import numpy as np

    draw = np.random.default_rng(0)
    x = (draw.random((BATCH, STEPS, SIZES[0])) < active).astype(np.float32)
    return np.ascontiguousarray(x.swapaxes(0, 1)) if time_first else x, draw.integers(0, SIZES[-1], BATCH)


def weights(active: float) -> list[Any]:
    """One matrix [outputs, inputs] a layer."""
    import numpy as np

    draw = np.random.default_rng(1)
    shares = (active, 0.1, 0.1)
    return [
        (draw.standard_normal((out, into)) * 0.5 / (into * share) ** 0.5).astype(np.float32)
        for (into, out), share in zip(PAIRS, shares)
    ]


def filled(linears: Iterable[Any], active: float) -> list[Any]:
    """Torch linear layers with these weights and no bias to begin with."""
    import torch

    layers = list(linears)
    with torch.no_grad():
        for layer, weight in zip(layers, weights(active)):
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.zero_()
    return layers


def torch_step(logits: Callable[[Any], Any], linears: list[Any], active: float, time_first: bool) -> Pass:
    """Forward, backward and Adam."""
    import torch

    x, labels = map(torch.from_numpy, data(active, time_first))
    adam = torch.optim.Adam([p for layer in linears for p in layer.parameters()], lr=RATE, fused=True)

    def one_pass() -> dict[str, Any]:
        adam.zero_grad()
        out = logits(x)
        loss = torch.nn.functional.cross_entropy(out, labels)
        loss.backward()
        adam.step()
        return {"loss": loss, "output spikes": out, "gradient": linears[0].weight.grad}

    return one_pass


def timecell(active: float) -> Pass:
    """Ours."""
    import timecell as tc
    from timecell.synapses.linear import Linear

    linears = filled((Linear(*pair) for pair in PAIRS), active)
    neurons = [tc.LIF(size, tau=1 / (1 - BETA), reset="hard") for size in SIZES[1:]]
    net = tc.Sequential(*(module for pair in zip(linears, neurons) for module in pair))
    return torch_step(lambda x: net(x)[0].sum(1), linears, active, time_first=False)


def relu(active: float) -> Pass:
    """No neurons: what the products and Adam cost alone."""
    import torch

    linears = filled((torch.nn.Linear(*pair) for pair in PAIRS), active)
    net = torch.nn.Sequential(*(module for linear in linears for module in (linear, torch.nn.ReLU())))
    return torch_step(lambda x: net(x).sum(1), linears, active, time_first=False)


def spikingjelly(active: float) -> Pass:
    """Layers that take all steps in one call."""
    import torch
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    linears = filled((layer.Linear(*pair, step_mode="m") for pair in PAIRS), active)
    neurons = [
        neuron.LIFNode(tau=1 / (1 - BETA), decay_input=False, v_reset=0.0, surrogate_function=surrogate.ATan(alpha=ALPHA),
                       step_mode="m")
        for _ in linears
    ]  # fmt: skip
    net = torch.nn.Sequential(*(module for pair in zip(linears, neurons) for module in pair))

    def logits(x: Any) -> Any:
        functional.reset_net(net)
        return net(x).sum(0)

    return torch_step(logits, linears, active, time_first=True)


def snntorch(active: float) -> Pass:
    """The loop of its tutorials, over `unbind`."""
    import snntorch as snn
    import torch

    linears = filled((torch.nn.Linear(*pair) for pair in PAIRS), active)
    neurons = [
        snn.Leaky(beta=BETA, spike_grad=snn.surrogate.atan(alpha=ALPHA), reset_mechanism="zero") for _ in linears
    ]

    def logits(x: Any) -> Any:
        membranes, total = [neuron.reset_mem() for neuron in neurons], 0
        for spikes in x.unbind(0):
            for i, (linear, neuron) in enumerate(zip(linears, neurons)):
                spikes, membranes[i] = neuron(linear(spikes), membranes[i])
            total = total + spikes
        return total

    return torch_step(logits, linears, active, time_first=True)


def norse(active: float) -> Pass:
    """LIFBoxCell in a SequentialState; its input is multiplied by dt / tau, so its threshold is too."""
    import norse.torch as nt
    import torch
    from norse.torch.functional.lif_box import LIFBoxParameters

    dt = 1e-3
    parameters = LIFBoxParameters(
        tau_mem_inv=torch.tensor((1 - BETA) / dt), v_th=torch.tensor(1 - BETA), alpha=torch.tensor(25.0)
    )
    linears = filled((torch.nn.Linear(*pair) for pair in PAIRS), active)
    net = nt.SequentialState(*(module for linear in linears for module in (linear, nt.LIFBoxCell(parameters, dt=dt))))

    def logits(x: Any) -> Any:
        state, total = None, 0
        for instant in x.unbind(0):
            spikes, state = net(instant, state)
            total = total + spikes
        return total

    return torch_step(logits, linears, active, time_first=True)


def jax_step(logits: Callable[[Any, Any], Any], parameters: Any, active: float) -> Pass:
    """Forward, backward and Adam, compiled as one; `logits` takes parameters and [T, B, N]."""
    import jax
    import jax.numpy as jnp
    import optax

    x, labels = map(jnp.asarray, data(active, time_first=True))
    adam = optax.adam(RATE)

    def loss(parameters: Any, x: Any, labels: Any) -> tuple[Any, Any]:
        out = logits(parameters, x)
        return optax.softmax_cross_entropy_with_integer_labels(out, labels).mean(), out

    @jax.jit
    def step(parameters: Any, moments: Any, x: Any, labels: Any) -> tuple[Any, ...]:
        (value, out), gradient = jax.value_and_grad(loss, has_aux=True)(parameters, x, labels)
        change, moments = adam.update(gradient, moments)
        first = next(leaf for leaf in jax.tree.leaves(gradient) if leaf.shape == SIZES[:2])
        return optax.apply_updates(parameters, change), moments, value, out, first

    kept = [parameters, adam.init(parameters)]

    def one_pass() -> dict[str, Any]:
        *kept[:], value, out, gradient = jax.block_until_ready(step(*kept, x, labels))
        return {"loss": value, "output spikes": out, "gradient": gradient}

    return one_pass


def jax_scan(active: float) -> Pass:
    """Products over all steps at once, a scan for each layer of neurons."""
    import jax
    import jax.numpy as jnp

    from benchmarks.surrogates import jax_spike

    spike = jax_spike(ALPHA)

    def step(v: Any, current: Any) -> tuple[Any, Any]:
        u = BETA * v + current
        s = spike(u - 1.0)
        return u * (1 - s), s

    def logits(parameters: Any, x: Any) -> Any:
        for weight, bias in parameters:
            current = x @ weight + bias
            x = jax.lax.scan(step, jnp.zeros_like(current[0]), current)[1]
        return x.sum(0)

    return jax_step(logits, [(jnp.asarray(w.T), jnp.zeros(len(w))) for w in weights(active)], active)


def spyx(active: float) -> Pass:
    """A Sequential under `spyx.nn.run`; its LIF resets softly and one step later."""
    import jax.numpy as jnp
    import spyx.axn
    import spyx.nn
    from flax import nnx

    rngs, modules = nnx.Rngs(0), []
    for (into, out), weight in zip(PAIRS, weights(active)):
        linear = nnx.Linear(into, out, rngs=rngs)
        linear.kernel.value = jnp.asarray(weight.T)
        modules += [linear, spyx.nn.LIF((out,), beta=BETA, threshold=1.0, activation=spyx.axn.arctan(), rngs=rngs)]
    graph, parameters, rest = nnx.split(spyx.nn.Sequential(*modules), nnx.Param, ...)

    def logits(parameters: Any, x: Any) -> Any:
        return spyx.nn.run(nnx.merge(graph, parameters, rest), x)[0].sum(0)

    return jax_step(logits, parameters, active)


def figure(name: str, active: float, targets: tuple[Target, ...]) -> Figure:
    """All nets at a share of active inputs."""
    return Figure(
        name, f"training step of a {'-'.join(map(str, SIZES))} LIF net, B={BATCH}, T={STEPS}, {active:.0%} of the input active",
        cases=(
            Case("timecell", partial(timecell, active), kind="ours"),
            Case("ReLU net", partial(relu, active), kind="floor"),
            Case("JAX scan", partial(jax_scan, active), needs=("jax", "optax"), exact=True),
            Case("Spyx", partial(spyx, active), needs=("spyx", "optax")),
            Case("SpikingJelly", partial(spikingjelly, active), needs=("spikingjelly",), exact=True),
            Case("snnTorch", partial(snntorch, active), needs=("snntorch",)),
            Case("Norse", partial(norse, active), needs=("norse",)),
        ),
        targets=targets,
    )  # fmt: skip


PEERS = (Target("SpikingJelly", at_least=3), Target("snnTorch", at_least=5), Target("Spyx", at_least=1.5))

FIGURES = (
    figure("training-dense", 0.3, (Target("ReLU net", at_most=1.2), *PEERS)),
    figure("training-sparse", 0.02, (Target("ReLU net", at_most=1.0), *PEERS)),
)
