"""From a net to a NIR graph: an example runs through the net, and each part leaves its nodes behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from timecell.cell import Cell
from timecell.combine import Loop, Parallel, Recurrent, Residual, Sequential, as_cell, kind_of
from timecell.exchange.nir_common import Scale, package, refused
from timecell.neurons import IF, LIF, LeakyIntegrator, SynapticLIF
from timecell.synapses import Delayed


def to_nir(net: Cell, x: Float[Tensor, "B T ..."], *, dt: float = 1e-4, notes: bool = False) -> Any:
    """The NIR graph of a net.

    Time constants are written so that Euler's step of `dt` gives our numbers, whatever our `decay` is.

    Args:
        net: made of linear layers, convolutions, pooling, integrate-and-fire units and containers that add.
        x: an example input, for the shapes.
        dt: length of a step in seconds.
        notes: write resets that NIR cannot say into the nodes' metadata, where `from_nir` finds them and other tools do
            not look; without it they are refused.

    Raises:
        MissingExtra: the package nir is not installed.
        InputError: a part cannot be said in NIR; it names the part.

    Example:
        >>> import nir
        >>> graph = to_nir(Sequential(nn.Linear(3, 2), LIF(2, reset="hard")), torch.rand(1, 1, 3))
        >>> list(graph.nodes), graph.edges
        (['input', '0', '1', 'output'], [('input', '0'), ('0', '1'), ('1', 'output')])
    """
    nir = package()
    writer = _Writer(nir, dt, notes)
    writer.nodes["input"] = nir.Input({"input": np.array(x.shape[2:])})
    with torch.no_grad():
        y, sources = writer.put(net, "", x, ("input",))
    writer.node("output", nir.Output({"output": np.array(y.shape[2:])}), sources)
    return nir.NIRGraph(writer.nodes, writer.edges)


Signal = tuple[Tensor, tuple[str, ...]]
"""An example of a signal, and the nodes whose outputs add up to it."""


@dataclass(frozen=True)
class _Writer:
    """A graph that grows."""

    nir: Any
    dt: float
    notes: bool
    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)

    def node(self, name: str, node: Any, sources: Iterable[str]) -> tuple[str, ...]:
        """A new node that takes the sum of its sources."""
        sources = tuple(sources)
        if len(set(sources)) < len(sources):
            raise refused(
                f"net.{name}", "the same signal twice in a sum", "different ones", "scale the weights instead"
            )
        while name in self.nodes:
            name += "_"
        self.nodes[name] = node
        self.edges.extend((source, name) for source in sources)
        return (name,)

    def put(self, module: nn.Module, path: str, x: Tensor, sources: tuple[str, ...]) -> Signal:
        """A module behind these sources."""
        kind = kind_of(module)
        if kind in (Sequential, nn.Sequential):
            return self.chain(module, path, x, sources)
        if kind is Residual:
            y, inner = self.chain(module, path, x, sources)
            return x + y, (*sources, *inner)
        if isinstance(module, Parallel) and module.merge == "add":
            signals = [self.put(m, _join(path, n), x, sources) for n, m in module.named_children()]
            return torch.stack([y for y, _ in signals]).sum(0), tuple(s for _, names in signals for s in names)
        if kind in (Loop, Recurrent):
            return self.loop(module, path, x, sources)
        y, _ = as_cell(module)(x)
        if kind in (nn.Identity, nn.Dropout, nn.Dropout2d):
            return x, sources
        write = {
            nn.Linear: self.linear, nn.Conv1d: self.convolution, nn.Conv2d: self.convolution, nn.AvgPool2d: self.pool,
            nn.Flatten: self.flatten, Scale: self.scale, LIF: self.leaky, IF: self.integrate_and_fire,
            SynapticLIF: self.current_based, LeakyIntegrator: self.leaky, Delayed: self.delayed,
        }.get(kind)  # fmt: skip
        place = f"net.{path}" if path else "net"
        if write is None:
            raise refused(place, f"a {kind.__name__}", "what NIR knows", "leave it out of what you export, or fold it")
        for name, node in write(module, place, x).items():
            sources = self.node(_join(path, name) or kind.__name__, node, sources)
        return y, sources

    def chain(self, module: nn.Module, path: str, x: Tensor, sources: tuple[str, ...]) -> Signal:
        """Children one after the other."""
        for name, child in module.named_children():
            x, sources = self.put(child, _join(path, name), x, sources)
        return x, sources

    def loop(self, module: nn.Module, path: str, x: Tensor, sources: tuple[str, ...]) -> Signal:
        """A block behind its sources and the way back, which is known only after the block."""
        (here, block), (back, feedback) = module.named_children()
        if any(isinstance(m, Loop) for m in (*block.modules(), *feedback.modules())):
            raise refused(f"net.{path}", "a loop within a loop", "one way back", "a graph does not tell them apart")
        later = f"{_join(path, back)}(later)"
        begin: tuple[str, ...] = (*sources, later)
        if type(module) is Loop:  # a block may pass its input on, so that the sum needs a node of its own
            begin = self.node(_join(path, "begin"), self.nir.Scale(np.ones(x.shape[2:], np.float32)), begin)
        y, out = self.put(block, _join(path, here), x, begin)
        _, home = self.put(feedback, _join(path, back), y, out)
        fed = [b for a, b in self.edges if a == later]
        self.edges[:] = [e for e in self.edges if e[0] != later] + [(a, b) for b in fed for a in home]
        return y, out

    # --- one node each: name below the path -> node ---------------------------------------------------------------

    def linear(self, module: Any, place: str, x: Tensor) -> dict[str, Any]:
        weight = _numbers(module.weight)
        return {"": self.nir.Linear(weight) if module.bias is None else self.nir.Affine(weight, _numbers(module.bias))}

    def convolution(self, module: Any, place: str, x: Tensor) -> dict[str, Any]:
        if module.padding_mode != "zeros":
            raise refused(place, f"padding_mode={module.padding_mode!r}", "zeros", "pad with zeros")
        one = isinstance(module, nn.Conv1d)
        stride, padding, dilation = (
            v[0] if one and not isinstance(v, str) else v for v in (module.stride, module.padding, module.dilation)
        )
        bias = np.zeros(module.out_channels, np.float32) if module.bias is None else _numbers(module.bias)
        kind = self.nir.Conv1d if one else self.nir.Conv2d
        shape = x.shape[-1] if one else tuple(x.shape[-2:])
        return {"": kind(shape, _numbers(module.weight), stride, padding, dilation, module.groups, bias)}

    def pool(self, module: Any, place: str, x: Tensor) -> dict[str, Any]:
        size, stride, padding = (np.broadcast_to(v, 2) for v in (module.kernel_size, module.stride, module.padding))
        if module.ceil_mode or (padding.any() and not module.count_include_pad):
            raise refused(place, "ceil_mode, or padding that is not counted", "plain pooling", "leave it out")
        if module.divisor_override in (None, int(size.prod())):
            return {"": self.nir.AvgPool2d(size, stride, padding)}
        if module.divisor_override == 1:
            return {"": self.nir.SumPool2d(size, stride, padding)}
        raise refused(
            place, f"divisor_override={module.divisor_override}", "a mean or a sum", "scale the weights instead"
        )

    def flatten(self, module: Any, place: str, x: Tensor) -> dict[str, Any]:
        start, end = (d - 1 if d > 0 else d for d in (module.start_dim, module.end_dim))
        return {"": self.nir.Flatten({"input": np.array(x.shape[2:])}, start, end)}

    def scale(self, module: Any, place: str, x: Tensor) -> dict[str, Any]:
        return {"": self.nir.Scale(_full(module.scale, x))}

    def leaky(self, module: Any, place: str, x: Tensor) -> dict[str, Any]:
        tau = _full(_euler(module.tau, module.decay, place), x)
        r = tau if module.input == "raw" else np.ones_like(tau)
        rest = {"tau": tau * self.dt, "r": r, "v_leak": np.zeros_like(tau)}
        return {
            "": self.nir.LIF(**rest, **self.spiking(module, place, x))
            if isinstance(module, LIF)
            else self.nir.LI(**rest)
        }

    def current_based(self, module: Any, place: str, x: Tensor) -> dict[str, Any]:
        tau_syn, tau = (_full(_euler(t, module.decay, place), x) for t in (module.tau_syn, module.tau))
        r = tau if module.input == "raw" else np.ones_like(tau)
        return {
            "": self.nir.CubaLIF(
                tau_syn=tau_syn * self.dt, tau_mem=tau * self.dt, r=r, v_leak=np.zeros_like(tau), w_in=tau_syn,
                **self.spiking(module, place, x),
            )
        }  # fmt: skip

    def integrate_and_fire(self, module: Any, place: str, x: Tensor) -> dict[str, Any]:
        return {"": self.nir.IF(r=_full(torch.tensor(1 / self.dt), x), **self.spiking(module, place, x))}

    def spiking(self, module: Any, place: str, x: Tensor) -> Mapping[str, Any]:
        sayable = module.reset == "hard" and not module.reset_delay
        if not sayable and not self.notes:
            raise refused(
                place, f"reset={module.reset!r}, reset_delay={module.reset_delay}", "a hard reset at once, the only one in NIR",
                "make the unit with reset='hard', or pass notes=True to keep it for from_nir alone",
            )  # fmt: skip
        threshold = module.threshold.detach()
        if module.reset == "hard":  # we fire at the threshold, NIR above it
            threshold = torch.nextafter(threshold, torch.full_like(threshold, -torch.inf))
        full = _full(threshold, x)
        said = {} if sayable else {"reset": module.reset, "reset_delay": int(module.reset_delay)}
        return {"v_threshold": full, "v_reset": np.zeros_like(full), "metadata": said}

    def delayed(self, module: Any, place: str, x: Tensor) -> dict[str, Any]:
        used, steps = module.weight != 0, module.steps
        latest, first = steps.where(used, -1).amax(0), steps.where(used, module.max_delay + 1).amin(0)
        if bool((latest > first).any()):
            raise refused(place, "one delay a synapse", "one delay an input, all that NIR can say", "share the delays")
        delay = latest.clamp(min=0).double() * self.dt
        return {"delay": self.nir.Delay(_numbers(delay)), "": self.nir.Linear(_numbers(module.weight))}


def _join(path: str, name: str) -> str:
    return f"{path}.{name}".strip(".")


def _numbers(value: Tensor) -> np.ndarray:
    return value.detach().cpu().numpy().copy()


def _full(value: Tensor, x: Tensor) -> np.ndarray:
    """One value a unit, as NIR has it."""
    return _numbers(value.detach().expand(x.shape[2:]))


def _euler(tau: Tensor, decay: str, place: str) -> Tensor:
    """The time constant with which Euler's step leaves the same share."""
    steps = tau.detach().double()
    if decay == "exp":
        steps = 1 / -torch.expm1(-1 / steps)
    if not bool(torch.isfinite(steps).all()):
        raise refused(place, "an endless time constant", "a finite one", "use IF for units without a leak")
    return steps
