"""From SpikingJelly: its neurons, and nets of them.

    old = nn.Sequential(layer.Linear(34, 64), neuron.LIFNode(), layer.Linear(64, 2), neuron.LIFNode())
    net = from_spikingjelly(old)
    spikes, state = net(x.transpose(0, 1))          # step_mode="m" has time first, we have the batch first

Both use the time constant `tau` in steps with Euler's step, 1 - 1/tau, and both fire at `>=`. Its potentials start at
`v_reset`, decay to it and are reset to it; ours are measured from there, so the threshold is `v_threshold - v_reset`.
`v_reset=None` is its soft reset. States start anew with every call, as after `functional.reset_net`. Where a PLIF's
`w` is learnt, ours is learnt as `tau`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from timecell.cell import Cell
from timecell.exchange.migrate import Part, Row, convert, learnt
from timecell.neurons import IF, LIF, ATan, Exponential, LeakyIntegrator, Sigmoid, Surrogate, Triangle

TABLE = (
    Row("neuron.IFNode()", 'IF(n, reset="hard", surrogate=Sigmoid(4.0))'),
    Row("neuron.IFNode(v_reset=None)", 'IF(n, reset="soft", surrogate=Sigmoid(4.0))'),
    Row("neuron.LIFNode(tau)", 'LIF(n, tau=tau, input="scaled", reset="hard", surrogate=Sigmoid(4.0))', "The default divides the input by tau."),
    Row("neuron.LIFNode(tau, decay_input=False)", 'LIF(n, tau=tau, input="raw", reset="hard", surrogate=Sigmoid(4.0))'),
    Row("neuron.LIFNode(tau, v_reset=None, detach_reset=True)", 'LIF(n, tau=tau, input="scaled", reset="soft", detach=True, surrogate=Sigmoid(4.0))'),
    Row("neuron.LIFNode(tau, v_threshold=theta, v_reset=-0.2)", 'LIF(n, tau=tau, input="scaled", threshold=theta + 0.2, reset="hard", surrogate=Sigmoid(4.0))', "Potentials are measured from v_reset."),
    Row("neuron.LIFNode(tau, surrogate_function=surrogate.ATan(3.0))", 'LIF(n, tau=tau, input="scaled", reset="hard", surrogate=ATan(3.0))'),
    Row("neuron.LIFNode(tau, surrogate_function=surrogate.PiecewiseExp(3.0))", 'LIF(n, tau=tau, input="scaled", reset="hard", surrogate=Exponential(3.0))'),
    Row("neuron.LIFNode(tau, surrogate_function=surrogate.PiecewiseQuadratic(2.0))", 'LIF(n, tau=tau, input="scaled", reset="hard", surrogate=Triangle(height=2.0, width=0.5))', "Height alpha, width 1 / alpha."),
    Row("neuron.ParametricLIFNode(init_tau=tau)", 'LIF(n, tau=tau, learn=("tau",), input="scaled", reset="hard", surrogate=Sigmoid(4.0))', "One learnt time constant a layer."),
    Row("neuron.NonSpikingLIFNode(tau)", 'LeakyIntegrator(n, tau=tau, input="scaled")'),
    Row("neuron.LIFNode(tau, surrogate_function=surrogate.Erf())", None, "Its slope is none of ours; pass surrogate= to choose another."),
    Row("neuron.QIFNode()", None, "Nonlinear membranes."),
    Row("layer.Dropout(0.5)", None, "One mask for the whole sequence; nn.Dropout draws one each instant."),
)  # fmt: skip
"""SpikingJelly -> timecell, with their `tau`, `theta` and n units; every line is a test."""


def from_spikingjelly(module: nn.Module, *, size: int = 1, surrogate: Surrogate | None = None) -> Any:
    """A net or a neuron of SpikingJelly as a cell of ours; its linear, convolution, norm and pooling layers as torch's.

    Args:
        module: a neuron, an `nn.Sequential` with such, or a layer.
        size: units of a single neuron layer, which SpikingJelly does not say; 1 shares its parameters among any number.
        surrogate: takes the place of the peer's, e.g. where that is none of ours.

    Returns:
        x [B, T, ...] -> the spikes of the last layer [B, T, ...].

    Raises:
        InputError: a part or a convention that we cannot say; see `TABLE`.

    Example:
        >>> net = from_spikingjelly(nn.Sequential(nn.Linear(3, 4)))
        >>> net(torch.ones(2, 5, 3))[0].shape
        torch.Size([2, 5, 4])
    """
    return convert(Part(module, "from_spikingjelly(module)", (size,), surrogate), "spikingjelly", _KINDS)


def _if(part: Part) -> Cell:
    return IF(part.units, **_conventions(part))


def _lif(part: Part) -> Cell:
    module = part.module
    return LIF(part.units, tau=module.tau, learn=(), **_input(module), **_conventions(part))


def _parametric(part: Part) -> Cell:
    module = part.module
    tau = 1 / torch.sigmoid(module.w.detach())
    return LIF(part.units, tau=tau, learn=learnt(tau=module.w), **_input(module), **_conventions(part))


def _non_spiking(part: Part) -> Cell:
    if getattr(part.module, "decode", None) is not None:
        raise part.refuse(f"decode={part.module.decode!r}", "leave it out and read the whole course")
    return LeakyIntegrator(part.units, tau=part.module.tau, input="scaled")


def _dropout(part: Part) -> Cell:
    raise part.refuse(
        "one mask for the whole sequence", "use a dropout that draws its mask once a sequence, or nn.Dropout"
    )


def _input(module: Any) -> dict[str, str]:
    return {"input": "scaled" if module.decay_input else "raw"}


def _conventions(part: Part) -> dict[str, Any]:
    module = part.module
    rest = module.v_reset
    return {
        "threshold": module.v_threshold - (rest or 0.0),
        "reset": "soft" if rest is None else "hard",
        "detach": bool(module.detach_reset),
        "surrogate": part.surrogate or _surrogate(part),
    }


def _surrogate(part: Part) -> Surrogate:
    function = part.module.surrogate_function
    name, alpha = type(function).__name__, float(getattr(function, "alpha", 1.0))
    if name == "Sigmoid":
        return Sigmoid(alpha)
    if name == "ATan":
        return ATan(alpha)
    if name == "PiecewiseExp":
        return Exponential(alpha)
    if name == "PiecewiseQuadratic":
        return Triangle(height=alpha, width=1 / alpha)
    raise part.refuse(f"the surrogate {name}", "pass surrogate= with one of timecell.neurons.SURROGATES")


_KINDS = {
    "IFNode": _if,
    "LIFNode": _lif,
    "ParametricLIFNode": _parametric,
    "NonSpikingLIFNode": _non_spiking,
    "Dropout": _dropout,
    "Dropout2d": _dropout,
}
