"""From Norse: its neurons, and nets of them.

    old = norse.torch.SequentialState(nn.Linear(34, 64), norse.torch.LIFBoxCell(), nn.Linear(64, 2), norse.torch.LICell())
    net = from_norse(old)
    y, state = net(x)                               # [B, T, 34]; Norse's layers over time have time first

Norse says inverse time constants per second and a step `dt` in seconds; ours are steps: tau = 1 / (dt * tau_inv). Its
potentials decay to `v_leak`; ours are measured from there, so the threshold is `v_th - v_leak`, and `v_reset` must be
`v_leak`. Its spike is `v > v_th`, ours `>=`: they differ where a membrane meets the threshold exactly.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from timecell.cell import Cell, Neuron
from timecell.combine import Recurrent, Sequential
from timecell.exchange.migrate import Part, Row, convert, learnt
from timecell.neurons import IF, LIF, FastSigmoid, LeakyIntegrator, Surrogate, SynapticLIF, Triangle

TABLE = (
    Row("norse.LIFBoxCell(LIFBoxParameters(tau_mem_inv=inv))", 'LIF(n, tau=1 / (0.001 * inv), input="scaled", reset="hard", surrogate=FastSigmoid(1.0))', 'The slope of "super" does not use alpha.'),
    Row("norse.LIFBoxCell(LIFBoxParameters(tau_mem_inv=inv, reset_method=reset_subtract))", 'LIF(n, tau=1 / (0.001 * inv), input="scaled", reset="soft", surrogate=FastSigmoid(1.0))'),
    Row("norse.LIFBoxCell(LIFBoxParameters(tau_mem_inv=inv, v_th=theta, v_leak=minus, v_reset=minus))", 'LIF(n, tau=1 / (0.001 * inv), input="scaled", threshold=theta - minus, reset="hard", surrogate=FastSigmoid(1.0))', "Potentials are measured from v_leak."),
    Row('norse.LIFBoxCell(LIFBoxParameters(tau_mem_inv=inv, method="triangle", alpha=third), dt=0.002)', 'LIF(n, tau=1 / (0.002 * inv), input="scaled", reset="hard", surrogate=Triangle(height=third))'),
    Row("norse.LIFCell(LIFParameters(tau_syn_inv=syn, tau_mem_inv=inv))", 'SynapticLIF(n, tau_syn=1 / (0.001 * syn), tau=1 / (0.001 * inv), input="scaled", reset="hard", surrogate=FastSigmoid(1.0))'),
    Row("norse.LIF(LIFParameters(tau_syn_inv=syn, tau_mem_inv=inv))", 'SynapticLIF(n, tau_syn=1 / (0.001 * syn), tau=1 / (0.001 * inv), input="scaled", reset="hard", surrogate=FastSigmoid(1.0))', "Time first there, batch first here."),
    Row("norse.IAFCell()", 'IF(n, reset="hard", surrogate=FastSigmoid(1.0))'),
    Row("norse.LIBoxCell(LIBoxParameters(tau_mem_inv=inv))", 'LeakyIntegrator(n, tau=1 / (0.001 * inv), input="scaled")'),
    Row("norse.LICell(LIParameters(tau_syn_inv=syn, tau_mem_inv=inv))", 'Sequential(LeakyIntegrator(n, tau=1 / (0.001 * syn)), LeakyIntegrator(n, tau=1 / (0.001 * inv), input="scaled"))', "A current, then a membrane."),
    Row("norse.LIFRecurrentCell(n, n, LIFParameters(tau_syn_inv=syn, tau_mem_inv=inv))", 'Sequential(nn.Linear(n, n, bias=False), Recurrent(SynapticLIF(n, tau_syn=1 / (0.001 * syn), tau=1 / (0.001 * inv), input="scaled", reset="hard", detach=True, surrogate=FastSigmoid(1.0)), nn.Linear(n, n, bias=False)))', "Copy its two matrices for the same weights. Only this reset has no gradient."),
    Row("norse.LIFBoxCell(LIFBoxParameters(v_reset=minus))", None, "A reset to another potential than the one it decays to."),
    Row('norse.LIFBoxCell(LIFBoxParameters(method="tanh"))', None, "Its slope is none of ours; pass surrogate= to choose another."),
    Row('norse.LIFCell(LIFParameters(method="adjoint"))', None, "A backward pass of its own; pass surrogate= for backpropagation through time."),
    Row("norse.IzhikevichCell(spiking_method=norse.torch.functional.izhikevich.tonic_spiking)", None, "Units and steps of its own."),
)  # fmt: skip
"""Norse -> timecell, with their inverse time constants `inv` and `syn`, `theta` and n units; every line is a test."""


def from_norse(module: nn.Module, *, size: int = 1, surrogate: Surrogate | None = None) -> Any:
    """A net or a neuron of Norse as a cell of ours; a module of torch as it is, with the same parameters.

    Args:
        module: a neuron, an `nn.Sequential` or `SequentialState` with such, or a module of torch.
        size: units of a single neuron layer, which Norse does not say; 1 shares its parameters among any number.
        surrogate: takes the place of the peer's, e.g. where that is none of ours.

    Returns:
        x [B, T, ...] -> the output of the last layer [B, T, ...].

    Raises:
        InputError: a part or a convention that we cannot say; see `TABLE`.

    Example:
        >>> net = from_norse(nn.Sequential(nn.Linear(3, 4)))
        >>> net(torch.ones(2, 5, 3))[0].shape
        torch.Size([2, 5, 4])
    """
    return convert(Part(module, "from_norse(module)", (size,), surrogate), "norse", _KINDS)


def _lif_box(part: Part) -> Cell:
    p = part.module.p
    return LIF(part.of_units(p.v_th), tau=_tau(part, "tau_mem_inv"), **_conventions(part, p.v_leak))


def _lif(part: Part, units: tuple[int, ...] | None = None, detach: bool = False) -> Neuron:
    p = part.module.p
    if p.method == "adjoint" and part.surrogate is None:
        raise part.refuse('method="adjoint"', "pass surrogate= for backpropagation through time")
    return SynapticLIF(
        units or part.of_units(p.v_th), tau_syn=_tau(part, "tau_syn_inv"), tau=_tau(part, "tau_mem_inv"), detach=detach,
        **_conventions(part, p.v_leak),
    )  # fmt: skip


def _iaf(part: Part) -> Cell:
    conventions = _conventions(part, torch.zeros(()))
    del conventions["input"]
    return IF(part.of_units(part.module.p.v_th), **conventions)


def _li_box(part: Part) -> Cell:
    _at_rest(part)
    return LeakyIntegrator(part.units, tau=_tau(part, "tau_mem_inv"), input="scaled")


def _li(part: Part) -> Cell:
    return Sequential(LeakyIntegrator(part.units, tau=_tau(part, "tau_syn_inv")), _li_box(part))


def _lif_recurrent(part: Part) -> Cell:
    module = part.module
    n = int(module.hidden_size)
    return Sequential(
        _linear(module.input_weights), Recurrent(_lif(part, (n,), detach=True), _linear(module.recurrent_weights))
    )


def _linear(weight: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight)
    return linear


def _tau(part: Part, name: str) -> Tensor:
    inverse = torch.as_tensor(getattr(part.module.p, name))
    if learnt(tau=inverse):
        raise part.refuse(f"a learnt {name}", "detach it, and make ours learnt: LIF(..., learn=('tau',))")
    return (1 / (part.module.dt * inverse.detach().double())).to(torch.get_default_dtype())


def _at_rest(part: Part) -> None:
    if bool((torch.as_tensor(part.module.p.v_leak) != 0).any()):
        raise part.refuse("v_leak other than 0", "measure potentials from v_leak: add it to what comes out")


def _conventions(part: Part, v_leak: Any) -> dict[str, Any]:
    p = part.module.p
    rest, threshold, reset = (torch.as_tensor(v).detach() for v in (v_leak, p.v_th, p.v_reset))
    how = getattr(getattr(p, "reset_method", None), "__name__", "reset_value")
    if how == "reset_value" and bool((reset != rest).any()):
        raise part.refuse(f"v_reset={reset.tolist()} with v_leak={rest.tolist()}", "let both be the same")
    if how not in ("reset_value", "reset_subtract"):
        raise part.refuse(f"the reset {how}", "use reset_value or reset_subtract")
    return {
        "threshold": threshold - rest if how == "reset_value" else _soft(part, threshold, rest),
        "reset": "hard" if how == "reset_value" else "soft",
        "input": "scaled",
        "surrogate": part.surrogate or _surrogate(part),
    }


def _soft(part: Part, threshold: Tensor, rest: Tensor) -> Tensor:
    if bool((rest != 0).any()):
        raise part.refuse("reset_subtract with v_leak other than 0", "measure potentials from v_leak")
    return threshold


def _surrogate(part: Part) -> Surrogate:
    method, alpha = part.module.p.method, float(part.module.p.alpha)
    if method == "super":
        return FastSigmoid(1.0)
    if method == "triangle":
        return Triangle(height=alpha)
    raise part.refuse(f"the surrogate {method!r}", "pass surrogate= with one of timecell.neurons.SURROGATES")


_KINDS = {
    "LIFBoxCell": _lif_box,
    "LIFCell": _lif,
    "LIF": _lif,
    "IAFCell": _iaf,
    "IAF": _iaf,
    "LIBoxCell": _li_box,
    "LICell": _li,
    "LI": _li,
    "LIFRecurrentCell": _lif_recurrent,
    "LIFRecurrent": _lif_recurrent,
}
