"""From a NIR graph to a net: each node becomes a cell or a plain module, and `wiring` puts them together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from timecell.cell import Cell
from timecell.combine import Sequential
from timecell.errors import DataError, InputError
from timecell.exchange.nir_common import Scale, package, refused
from timecell.exchange.wiring import wire
from timecell.neurons import IF, LIF, LeakyIntegrator, SynapticLIF
from timecell.synapses import Delayed


def from_nir(graph: Any, *, dt: float = 1e-4, reset: str | None = None, reset_delay: bool | None = None) -> Sequential:
    """The net of a NIR graph.

    Args:
        graph: a `nir.NIRGraph`, or the path of a file with one.
        dt: length of a step in seconds, as the exporting tool meant it.
        reset: "hard", NIR's own, or "soft" or "none" for a graph whose exporter could not say so; None = as the nodes'
            metadata say, else "hard".
        reset_delay: whether a spike resets one step later; None = as the metadata say, else at once.

    Returns:
        x [B, T, *input] -> y [B, T, *output]. Nodes become cells and modules under their names (with "_" for ".").

    Raises:
        MissingExtra: the package nir is not installed.
        DataError: the file is missing or no NIR graph.
        InputError: a node, or a graph, that cannot be represented; it names the nodes.

    Example:
        >>> import nir
        >>> one = np.ones(2)
        >>> lif = nir.LIF(tau=one * 2e-4, r=one, v_leak=one * 0, v_threshold=one)
        >>> from_nir(nir.NIRGraph.from_list(nir.Linear(np.eye(2)), lif))[1].tau.tolist()
        [2.0, 2.0]
    """
    nir = package()
    if not dt > 0:
        raise InputError("from_nir(dt)", found=dt, expected="seconds > 0", remedy="give the exporter's step, e.g. 1e-4")
    if not isinstance(graph, nir.NIRGraph):
        graph = _read(nir, Path(graph))
    return _Reader(dt, reset, reset_delay).net(graph, "graph")


def _read(nir: Any, path: Path) -> Any:
    try:
        found = nir.read(path)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, AssertionError) as e:
        raise DataError(
            str(path), found=f"{type(e).__name__}: {e}", expected="a NIR graph", remedy="write it again with nir.write"
        ) from e
    if not isinstance(found, nir.NIRGraph):
        raise DataError(
            str(path), found=f"a {type(found).__name__}", expected="a NIRGraph",
            remedy="write a graph with an input and an output",
        )  # fmt: skip
    return found


@dataclass(frozen=True)
class _Reader:
    """What the graph does not say, and the making of each node."""

    dt: float
    reset: str | None
    reset_delay: bool | None

    def net(self, graph: Any, place: str) -> Sequential:
        """A graph, or a graph within a graph."""
        ends = {
            kind: [n for n, node in graph.nodes.items() if type(node).__name__ == kind] for kind in ("Input", "Output")
        }
        for kind, names in ends.items():
            if len(names) != 1:
                raise InputError(
                    f"{place}, nodes {names}", found=f"{len(names)} nodes of type {kind}", expected="one",
                    remedy="split the graph, or join its ends",
                )  # fmt: skip
        (source,), (sink,) = ends.values()
        nodes = {
            n: self.module(node, f"{place}, node {n}") for n, node in graph.nodes.items() if n not in (source, sink)
        }
        return wire(nodes, ((str(a), str(b)) for a, b in graph.edges), source, sink)

    def module(self, node: Any, place: str) -> nn.Module:
        """The cell or plain module of a node."""
        kind = type(node).__name__
        make: dict[str, Callable[[Any, str], nn.Module]] = {
            "NIRGraph": self.net, "Affine": _linear, "Linear": _linear, "Scale": _scale, "Conv1d": _convolution,
            "Conv2d": _convolution, "AvgPool2d": _pool, "SumPool2d": _pool, "Flatten": _flatten, "Threshold": _threshold,
            "Delay": self.delay, "I": self.integrator, "IF": self.integrate_and_fire, "LI": self.leaky, "LIF": self.leaky,
            "CubaLI": self.current_based, "CubaLIF": self.current_based,
        }  # fmt: skip
        if kind not in make:
            raise refused(place, f"type {kind}", f"one of {', '.join(make)}", "replace the node")
        return make[kind](node, place)

    def tau(self, seconds: Any, place: str) -> np.ndarray:
        """A time constant in steps."""
        steps = _array(seconds, place) / self.dt
        if not (steps >= 1 - 1e-6).all():
            raise refused(
                place, f"a time constant of {steps.min() * self.dt:g} s", f"at least one step, dt = {self.dt:g} s",
                "pass the dt that the exporter meant, or a smaller one",
            )  # fmt: skip
        return np.maximum(steps, 1.0)

    def spiking(self, node: Any, place: str, v_leak: Any = 0.0) -> dict[str, Any]:
        """Threshold and reset."""
        notes = {k: v.decode() if isinstance(v, bytes) else v for k, v in node.metadata.items()}
        reset = self.reset or str(notes.get("reset", "hard"))
        delay = bool(notes.get("reset_delay", False)) if self.reset_delay is None else self.reset_delay
        leak, v_reset = (_array(v, place) for v in (v_leak, node.v_reset))
        if (reset == "hard" and not np.allclose(v_reset, leak)) or (reset == "soft" and leak.any()):
            raise refused(
                place, f"v_reset {_short(v_reset)} with v_leak {_short(leak)}",
                "a reset to v_leak" if reset == "hard" else "v_leak = 0 for a soft reset", "let both be the same",
            )  # fmt: skip
        threshold = _tensor(_array(node.v_threshold, place) - leak)
        if reset == "hard":  # NIR fires above the threshold, we at it
            threshold = torch.nextafter(threshold, torch.tensor(torch.inf, dtype=threshold.dtype))
        return {"threshold": threshold, "reset": reset, "reset_delay": delay}

    def leaky(self, node: Any, place: str) -> nn.Module:
        """LI and LIF."""
        tau, r = self.tau(node.tau, place), _array(node.r, place)
        convention, gain = _input(tau, r)
        if type(node).__name__ == "LIF":
            return _scaled(
                gain, LIF(_units(tau), tau=_tensor(tau), input=convention, **self.spiking(node, place, node.v_leak))
            )
        _at_zero(node, place)
        return _scaled(gain, LeakyIntegrator(_units(tau), tau=_tensor(tau), input=convention))

    def current_based(self, node: Any, place: str) -> nn.Module:
        """CubaLI and CubaLIF; the gain of the current is that of its input, for the current is linear in it."""
        tau_syn, tau = self.tau(node.tau_syn, place), self.tau(node.tau_mem, place)
        convention, gain = _input(tau, _array(node.r, place))
        gain = _array(node.w_in, place) / tau_syn * (1.0 if gain is None else gain)
        front = None if np.allclose(gain, 1, rtol=1e-5) else gain
        if type(node).__name__ == "CubaLIF":
            spiking = self.spiking(node, place, node.v_leak)
            return _scaled(
                front, SynapticLIF(_units(tau), tau_syn=_tensor(tau_syn), tau=_tensor(tau), input=convention, **spiking)
            )
        _at_zero(node, place)
        current = LeakyIntegrator(_units(tau), tau=_tensor(tau_syn))
        return _scaled(front, current, LeakyIntegrator(_units(tau), tau=_tensor(tau), input=convention))

    def integrator(self, node: Any, place: str) -> nn.Module:
        """I: a leaky integrator that never forgets."""
        gain = _array(node.r, place) * self.dt
        return _scaled(None if np.allclose(gain, 1, rtol=1e-5) else gain, LeakyIntegrator(_units(gain), tau=torch.inf))

    def integrate_and_fire(self, node: Any, place: str) -> nn.Module:
        """IF."""
        gain = _array(node.r, place) * self.dt
        return _scaled(None if np.allclose(gain, 1, rtol=1e-5) else gain, IF(_units(gain), **self.spiking(node, place)))

    def delay(self, node: Any, place: str) -> nn.Module:
        """Delay: one delay a unit, in whole steps."""
        steps = _array(node.delay, place) / self.dt
        whole = np.round(steps)
        if steps.ndim != 1 or not np.allclose(steps, whole, atol=1e-3) or (whole < 0).any():
            raise refused(
                place, f"delays of {_short(steps)} steps, shape {list(steps.shape)}", f"whole steps of dt = {self.dt:g} s, one a unit",
                "choose a dt that divides the delays",
            )  # fmt: skip
        cell = Delayed(len(whole), len(whole), max_delay=int(whole.max()), learn=False, init=0.0)
        cell.weight = nn.Parameter(torch.eye(len(whole)))
        cell.delay.data = _tensor(whole).expand(len(whole), -1).clone()
        cell.harden()
        return cell


def _array(value: Any, place: str) -> np.ndarray:
    array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value, dtype=np.float64)
    if not np.isfinite(array).all():
        raise refused(place, "NaN or infinite values", "numbers", "mend the node")
    return array


def _tensor(array: np.ndarray) -> Tensor:
    return torch.as_tensor(array, dtype=torch.get_default_dtype())


def _units(array: np.ndarray) -> tuple[int, ...]:
    return array.shape or (1,)


def _short(array: np.ndarray) -> str:
    return ", ".join(f"{v:g}" for v in np.unique(array)[:3])


def _input(tau: np.ndarray, r: np.ndarray) -> tuple[str, np.ndarray | None]:
    """Which of our inputs a resistance is, and the factor that is left."""
    if np.allclose(r, tau, rtol=1e-5):
        return "raw", None
    return "scaled", None if np.allclose(r, 1, rtol=1e-5) else r


def _scaled(gain: np.ndarray | None, *cells: Cell) -> nn.Module:
    parts: list[Cell] = [*([] if gain is None else [Scale(_tensor(gain))]), *cells]
    return parts[0] if len(parts) == 1 else Sequential(*parts)


def _at_zero(node: Any, place: str) -> None:
    if np.any(_array(node.v_leak, place)):
        raise refused(place, f"v_leak {_short(_array(node.v_leak, place))}", "0 for an integrator", "add it afterwards")


def _linear(node: Any, place: str) -> nn.Module:
    weight, bias = _array(node.weight, place), getattr(node, "bias", None)
    if weight.ndim != 2:
        raise refused(place, f"weights of shape {list(weight.shape)}", "[outputs, inputs]", "flatten the signal before")
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    return _filled(linear, weight, bias, place)


def _convolution(node: Any, place: str) -> nn.Module:
    weight = _array(node.weight, place)
    kind = nn.Conv1d if weight.ndim == 3 else nn.Conv2d
    stride, padding, dilation = (_whole(v) for v in (node.stride, node.padding, node.dilation))
    convolution = kind(
        weight.shape[1] * int(node.groups), weight.shape[0], weight.shape[2:], stride=stride, padding=padding,  # type: ignore[arg-type]
        dilation=dilation, groups=int(node.groups), device="meta",  # type: ignore[arg-type]
    )  # fmt: skip
    return _filled(convolution, weight, node.bias, place)


def _filled(module: Any, weight: np.ndarray, bias: Any, place: str) -> nn.Module:
    module.weight = nn.Parameter(_tensor(weight))
    if bias is not None:
        module.bias = nn.Parameter(_tensor(_array(bias, place)))
    return module


def _whole(value: Any) -> Any:
    """Whole numbers as torch takes them; "same" and "valid" as they are."""
    if isinstance(value, str | bytes):
        return value.decode() if isinstance(value, bytes) else value
    array = np.asarray(value)
    return int(array) if array.ndim == 0 else tuple(int(v) for v in array)


def _scale(node: Any, place: str) -> nn.Module:
    return Scale(_tensor(_array(node.scale, place)))


def _pool(node: Any, place: str) -> nn.Module:
    whole = 1 if type(node).__name__ == "SumPool2d" else None
    return nn.AvgPool2d(_whole(node.kernel_size), _whole(node.stride), _whole(node.padding), divisor_override=whole)


def _flatten(node: Any, place: str) -> nn.Module:
    start, end = int(node.start_dim), int(node.end_dim)  # counted without the batch
    return nn.Flatten(start + 1 if start >= 0 else start, end + 1 if end >= 0 else end)


def _threshold(node: Any, place: str) -> nn.Module:
    theta = _tensor(_array(node.threshold, place))  # a membrane that forgets everything at once
    return LIF(
        theta.shape or 1, tau=1.0, threshold=torch.nextafter(theta, torch.full_like(theta, torch.inf)), reset="none"
    )
