"""A recurrent layer of 256 units on 256 inputs: 64 samples of 100 steps, gradients of both weight matrices.

y_t = LIF(W x_t + R y_{t-1}), hard reset; a tenth of the inputs is active
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from benchmarks.figures.lif import ALPHA, BETA
from benchmarks.side_by_side import Case, Figure, Pass, Target

UNITS, BATCH, STEPS = 256, 64, 100


def arrays(time_first: bool) -> list[Any]:
    """Input spikes and blame."""
    import numpy as np

    draw = np.random.default_rng(0)
    shape = (BATCH, STEPS, UNITS)
    x, blame = draw.random(shape) < 0.1, draw.normal(0, 1, shape)
    return [np.ascontiguousarray(a.swapaxes(0, 1) if time_first else a, dtype=np.float32) for a in (x, blame)]


def weights() -> tuple[Any, Any]:
    """W and R, [outputs, inputs]."""
    import numpy as np

    draw = np.random.default_rng(1)
    return tuple(draw.normal(0, size, (UNITS, UNITS)).astype(np.float32) for size in (0.15, 0.05))  # type: ignore[return-value]


def linear(which: int, kind: Any = None) -> Any:
    """W (0) or R (1) as a layer without bias, torch's or of another kind."""
    import torch

    layer = (kind or torch.nn.Linear)(UNITS, UNITS, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights()[which]))
    return layer


def torch_pass(layer: Callable[[Any], Any], learnt: Iterable[Any], time_first: bool) -> Pass:
    """Forward and backward to the parameters; they come as W and R, or as the two side by side."""
    import torch

    x, blame = map(torch.from_numpy, arrays(time_first))
    parameters = list(learnt)

    def one_pass() -> dict[str, Any]:
        for parameter in parameters:
            parameter.grad = None
        y = layer(x)
        y.backward(blame)
        found = torch.cat([parameter.grad for parameter in parameters[:2]], 1)
        return {"output": y, "gradient of W": found[:, :UNITS], "of R": found[:, UNITS:]}

    return one_pass


def timecell() -> Pass:
    """Ours."""
    import timecell as tc

    into, back = linear(0, tc.Linear), linear(1, tc.Linear)
    net = tc.Sequential(into, tc.Recurrent(tc.LIF(UNITS, tau=1 / (1 - BETA), reset="hard"), back))
    return torch_pass(lambda x: net(x)[0], (into.weight, back.weight), time_first=False)


def products() -> Pass:
    """The matrix products alone, into arrays that exist: one for all steps and one a step, and so back."""
    import torch

    (x, blame), (into, back) = map(torch.from_numpy, arrays(True)), map(torch.from_numpy, weights())
    now, all_x, all_blame = torch.empty(BATCH, UNITS), x.flatten(0, 1), blame.flatten(0, 1)
    current, gradient = torch.empty_like(all_x), torch.empty_like(into)

    def one_pass() -> None:
        torch.mm(all_x, into.t(), out=current)
        for instant in x:
            torch.mm(instant, back.t(), out=now)
        for instant in blame:
            torch.mm(instant, back, out=now)
        torch.mm(all_blame.t(), all_x, out=gradient)
        torch.mm(all_blame.t(), all_x, out=gradient)

    return one_pass


def torch_loop() -> Pass:
    """What one writes by hand."""
    import torch

    from benchmarks.surrogates import torch_spike

    spike, into, back = torch_spike(ALPHA), linear(0), linear(1)

    def layer(x: Any) -> Any:
        currents = into(x)
        v = s = torch.zeros_like(currents[:, 0])
        spikes = []
        for current in currents.unbind(1):
            u = BETA * v + current + back(s)
            s = spike(u - 1.0)
            v = u * (1 - s)
            spikes.append(s)
        return torch.stack(spikes, 1)

    return torch_pass(layer, (into.weight, back.weight), time_first=False)


def torch_unit(name: str) -> Pass:
    """torch.nn.RNN (of tanh units), GRU or LSTM."""
    import torch

    layer = getattr(torch.nn, name)(UNITS, UNITS, batch_first=True)
    return torch_pass(lambda x: layer(x)[0], layer.parameters(), time_first=False)


def spikingjelly() -> Pass:
    """A LinearRecurrentContainer over all steps in one call; its one matrix holds W and R side by side."""
    import torch
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    node = neuron.LIFNode(
        tau=1 / (1 - BETA), decay_input=False, v_reset=0.0, surrogate_function=surrogate.ATan(alpha=ALPHA)
    )
    net = layer.LinearRecurrentContainer(node, in_features=UNITS, out_features=UNITS, bias=False, step_mode="m")
    with torch.no_grad():
        net.rc.weight.copy_(torch.cat([torch.from_numpy(weight) for weight in weights()], 1))

    def run(x: Any) -> Any:
        functional.reset_net(net)
        return net(x)

    return torch_pass(run, [net.rc.weight], time_first=True)


def snntorch() -> Pass:
    """RLeaky in a loop over `unbind`."""
    import snntorch as snn
    import torch

    into = linear(0)
    node = snn.RLeaky(
        beta=BETA, linear_features=UNITS, spike_grad=snn.surrogate.atan(alpha=ALPHA), reset_mechanism="zero"
    )
    node.recurrent = linear(1)

    def layer(x: Any) -> Any:
        (s, membrane), spikes = node.init_rleaky(), []
        for current in into(x).unbind(0):
            s, membrane = node(current, s, membrane)
            spikes.append(s)
        return torch.stack(spikes)

    return torch_pass(layer, (into.weight, node.recurrent.weight), time_first=True)


def norse() -> Pass:
    """LIFRecurrent: two states, membrane and synaptic current; its step size is set so that the membrane leaks a tenth."""
    import norse.torch as nt
    import torch

    parameters = nt.LIFParameters(tau_mem_inv=torch.tensor(100.0), alpha=torch.tensor(25.0))
    layer = nt.LIFRecurrent(UNITS, UNITS, p=parameters, dt=1e-3)
    return torch_pass(lambda x: layer(x)[0], (layer.input_weights, layer.recurrent_weights), time_first=True)


def spyx() -> Pass:
    """RLIF after a linear layer, under `spyx.nn.run`."""
    import jax
    import jax.numpy as jnp
    import spyx.axn
    import spyx.nn
    from flax import nnx

    x, blame = map(jnp.asarray, arrays(True))
    rngs = nnx.Rngs(0)
    into = nnx.Linear(UNITS, UNITS, use_bias=False, rngs=rngs)
    into.kernel.value = jnp.asarray(weights()[0].T)
    node = spyx.nn.RLIF((UNITS,), beta=BETA, threshold=1.0, activation=spyx.axn.arctan(), rngs=rngs)
    node.recurrent_w.value = jnp.asarray(weights()[1].T)
    graph, parameters, rest = nnx.split(spyx.nn.Sequential(into, node), nnx.Param, ...)

    @jax.jit
    def both(parameters: Any, x: Any, blame: Any) -> tuple[Any, Any]:
        spikes, back = jax.vjp(lambda p: spyx.nn.run(nnx.merge(graph, p, rest), x)[0], parameters)
        return spikes, back(blame)[0]

    def one_pass() -> dict[str, Any]:
        spikes, gradient = jax.block_until_ready(both(parameters, x, blame))
        into, back = (leaf for leaf in jax.tree.leaves(gradient) if leaf.ndim == 2)
        return {"output": spikes, "gradient of W": into, "of R": back}

    return one_pass


FIGURES = (
    Figure(
        "recurrent", f"recurrent layer of {UNITS} LIF units on {UNITS} inputs, B={BATCH}, T={STEPS}, forward and backward",
        cases=(
            Case("timecell", timecell, kind="ours"),
            Case("its products alone", products, kind="floor"),
            Case("torch.nn.RNN", partial(torch_unit, "RNN")),
            Case("torch.nn.GRU", partial(torch_unit, "GRU")),
            Case("torch.nn.LSTM", partial(torch_unit, "LSTM")),
            Case("torch loop", torch_loop, exact=True),
            Case("Spyx", spyx, needs=("spyx",)),
            Case("SpikingJelly", spikingjelly, needs=("spikingjelly",), exact=True),
            Case("snnTorch", snntorch, needs=("snntorch",)),
            Case("Norse", norse, needs=("norse",)),
        ),
        targets=(
            Target("its products alone", at_most=1.2),
            Target("torch.nn.RNN", at_least=1.0),
            Target("torch.nn.GRU", at_least=3.5),
            Target("snnTorch", at_least=4.5),
            Target("SpikingJelly", at_least=6.0),
            Target("Norse", at_least=2.5),
            Target("Spyx", at_least=1.4),
        ),
    ),
)  # fmt: skip
