"""From snnTorch: its neurons, and nets of them.

    old = nn.Sequential(nn.Linear(34, 64), snn.Leaky(beta=0.9), nn.Linear(64, 2), snn.Leaky(beta=0.9))
    net = from_snntorch(old)

A net that is a class with a loop in its `forward` is converted part by part, in the order in which the loop calls them:

    net = tc.Sequential(old.fc1, from_snntorch(old.lif1), old.fc2, from_snntorch(old.lif2))
    spikes, state = net(x.transpose(0, 1))          # snnTorch has time first, we have the batch first
    with tc.record(net, "3.v") as r: net(x)         # the membranes that the old loop collected as mem2

snnTorch keeps the share `beta` of the membrane, we say the time constant `tau` that leaves it: tau = 1 / (1 - beta).
Its spike is `mem > threshold`, ours `>=`: they differ where a membrane meets the threshold exactly. Where `beta` is
learnt, ours is learnt as `tau`. States start at zero with every call, as with `init_hidden=False`.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from timecell.cell import Cell
from timecell.combine import Recurrent
from timecell.exchange.migrate import Part, Row, convert, learnt, tau_of
from timecell.neurons import LIF, ATan, FastSigmoid, Sigmoid, Surrogate, SynapticLIF

TABLE = (
    Row("snn.Leaky(beta)", 'LIF(n, tau=1 / (1 - beta), reset="soft", reset_delay=True, detach=True)', "The default: the threshold is taken away one step after the spike."),
    Row('snn.Leaky(beta, reset_mechanism="zero")', 'LIF(n, tau=1 / (1 - beta), reset="hard", detach=True)', "The same spikes; snnTorch shows the membrane before its reset, we after it."),
    Row('snn.Leaky(beta, reset_mechanism="zero", reset_delay=False)', 'LIF(n, tau=1 / (1 - beta), reset="hard")', "The reset has a gradient."),
    Row('snn.Leaky(beta, reset_mechanism="none")', 'LIF(n, tau=1 / (1 - beta), reset="none")'),
    Row("snn.Leaky(beta, threshold=theta)", 'LIF(n, tau=1 / (1 - beta), threshold=theta, reset="soft", reset_delay=True, detach=True)'),
    Row("snn.Leaky(beta, spike_grad=surrogate.fast_sigmoid(slope=10))", 'LIF(n, tau=1 / (1 - beta), reset="soft", reset_delay=True, detach=True, surrogate=FastSigmoid(10.0))'),
    Row("snn.Leaky(beta, spike_grad=surrogate.sigmoid(slope=5))", 'LIF(n, tau=1 / (1 - beta), reset="soft", reset_delay=True, detach=True, surrogate=Sigmoid(5.0))'),
    Row("snn.Leaky(beta, spike_grad=surrogate.atan(alpha=3.0))", 'LIF(n, tau=1 / (1 - beta), reset="soft", reset_delay=True, detach=True, surrogate=ATan(3.0))', "ATan(2.0) is the default of both."),
    Row("snn.Synaptic(alpha, beta)", 'SynapticLIF(n, tau_syn=1 / (1 - alpha), tau=1 / (1 - beta), reset="soft", reset_delay=True, detach=True)'),
    Row('snn.Synaptic(alpha, beta, reset_mechanism="zero")', 'SynapticLIF(n, tau_syn=1 / (1 - alpha), tau=1 / (1 - beta), reset="hard", reset_delay=True, detach=True)', "Unlike Leaky's, this delayed reset empties the step's input too."),
    Row('snn.Synaptic(alpha, beta, reset_mechanism="zero", reset_delay=False)', 'SynapticLIF(n, tau_syn=1 / (1 - alpha), tau=1 / (1 - beta), reset="hard")'),
    Row("snn.RLeaky(beta, linear_features=n)", 'Recurrent(LIF(n, tau=1 / (1 - beta), reset="soft", reset_delay=True, detach=True), nn.Linear(n, n))', "Copy `recurrent` for the same weights."),
    Row('snn.RLeaky(beta, linear_features=n, reset_mechanism="zero")', 'Recurrent(LIF(n, tau=1 / (1 - beta), reset="hard", reset_delay=True, detach=True), nn.Linear(n, n))', "Unlike Leaky's, this delayed reset empties the step's input too."),
    Row("snn.RSynaptic(alpha, beta, linear_features=n)", 'Recurrent(SynapticLIF(n, tau_syn=1 / (1 - alpha), tau=1 / (1 - beta), reset="soft", reset_delay=True, detach=True), nn.Linear(n, n))'),
    Row('snn.RSynaptic(alpha, beta, linear_features=n, reset_mechanism="zero")', 'Recurrent(SynapticLIF(n, tau_syn=1 / (1 - alpha), tau=1 / (1 - beta), reset="hard", reset_delay=True, detach=True), nn.Linear(n, n))'),
    Row("snn.Leaky(beta, reset_delay=False)", None, "A membrane still above threshold after its reset is reset again before its next spike; we have no such convention."),
    Row("snn.RLeaky(beta, V=0.5, all_to_all=False)", None, "One recurrent weight a unit; write the units with Recurrent and a module of your own."),
    Row("snn.Leaky(beta, inhibition=True)", None, "Only the largest membrane may fire."),
    Row("snn.Leaky(beta, graded_spikes_factor=2.0)", None, "Scale the weights after the layer instead."),
    Row("snn.Leaky(beta, state_quant=lambda mem: mem)", None, "Quantised states."),
    Row("snn.Leaky(beta, spike_grad=surrogate.triangular())", None, "A slope with a change of sign; pass surrogate= to choose another."),
    Row("snn.Lapicque(R=1.0, C=5.0)", None, "LIF(n, tau=R * C / time_step, input=\"scaled\") with weights times R."),
    Row("snn.Alpha(alpha=0.9, beta=0.8)", None, "Two synaptic traces of opposite sign."),
)  # fmt: skip
"""snnTorch -> timecell, with their `beta`, `alpha`, `theta` and n units; every line is a test."""


def from_snntorch(module: nn.Module, *, size: int = 1, surrogate: Surrogate | None = None) -> Any:
    """A net or a neuron of snnTorch as a cell of ours; a module of torch as it is, with the same parameters.

    Args:
        module: a neuron, an `nn.Sequential` with such, or a module of torch.
        size: units of a single neuron layer, which snnTorch does not say; 1 shares its parameters among any number.
        surrogate: takes the place of the peer's, e.g. where that is none of ours.

    Returns:
        x [B, T, ...] -> the spikes of the last layer [B, T, ...].

    Raises:
        InputError: a part or a convention that we cannot say; see `TABLE`.

    Example:
        >>> import torch
        >>> net = from_snntorch(nn.Sequential(nn.Linear(3, 4)))
        >>> net(torch.ones(2, 5, 3))[0].shape
        torch.Size([2, 5, 4])
    """
    return convert(Part(module, "from_snntorch(module)", (size,), surrogate), "snntorch", _KINDS)


def _leaky(part: Part, *, hard_delay: bool = False) -> Cell:
    beta, threshold = part.module.beta, part.module.threshold
    return LIF(
        part.of_units(beta, threshold), tau=tau_of(beta), threshold=threshold,
        learn=learnt(tau=beta, threshold=threshold), **_conventions(part, hard_delay=hard_delay),
    )  # fmt: skip


def _synaptic(part: Part) -> Cell:
    alpha, beta, threshold = part.module.alpha, part.module.beta, part.module.threshold
    return SynapticLIF(
        part.of_units(alpha, beta, threshold), tau_syn=tau_of(alpha), tau=tau_of(beta), threshold=threshold,
        learn=learnt(tau_syn=alpha, tau=beta, threshold=threshold), **_conventions(part, hard_delay=True),
    )  # fmt: skip


def _recurrent_leaky(part: Part) -> Cell:
    return Recurrent(_leaky(_looped(part), hard_delay=True), _all_to_all(part))  # type: ignore[arg-type]


def _recurrent_synaptic(part: Part) -> Cell:
    return Recurrent(_synaptic(_looped(part)), _all_to_all(part))  # type: ignore[arg-type]


def _all_to_all(part: Part) -> nn.Module:
    if not part.module.all_to_all:
        raise part.refuse("all_to_all=False", "write the units with Recurrent and a module of your own")
    return part.module.recurrent


def _looped(part: Part) -> Part:
    synapse = _all_to_all(part)
    units = (synapse.out_features,) if isinstance(synapse, nn.Linear) else (synapse.out_channels, 1, 1)
    return Part(part.module, part.place, units, part.surrogate)  # type: ignore[arg-type]


def _conventions(part: Part, *, hard_delay: bool) -> dict[str, Any]:
    """Reset and surrogate; `hard_delay` tells whether a delayed reset to zero empties the step's input too."""
    module = part.module
    if module.inhibition or module.state_quant or float(module.graded_spikes_factor) != 1:
        raise part.refuse("inhibition, state_quant or graded_spikes_factor", "leave it out; see TABLE")
    late, reset = module.reset_delay, module.reset_mechanism
    if reset == "subtract" and not late:
        raise part.refuse('reset_delay=False with reset_mechanism="subtract"', "use reset_delay=True; see TABLE")
    delayed = late and (reset == "subtract" or (reset == "zero" and hard_delay))
    names = {"subtract": "soft", "zero": "hard", "none": "none"}
    return {
        "reset": names[reset],
        "reset_delay": bool(delayed),
        "detach": bool(late and reset != "none"),
        "surrogate": part.surrogate or _surrogate(part),
    }


def _surrogate(part: Part) -> Surrogate:
    """snnTorch's surrogates are closures; what they close over is their argument."""
    function = part.module.spike_grad
    name = getattr(function, "__qualname__", repr(function)).split(".")[0]
    held = inspect.getclosurevars(function).nonlocals if inspect.isfunction(function) else {}
    if name == "atan":
        return ATan(float(held["alpha"]))
    if name in ("fast_sigmoid", "sigmoid"):
        return (FastSigmoid if name == "fast_sigmoid" else Sigmoid)(float(held["slope"]))
    raise part.refuse(f"the surrogate {name}", "pass surrogate= with one of timecell.neurons.SURROGATES")


_KINDS = {"Leaky": _leaky, "Synaptic": _synaptic, "RLeaky": _recurrent_leaky, "RSynaptic": _recurrent_synaptic}
