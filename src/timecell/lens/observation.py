"""What one run of a net shows: every layer's course in time, and the blame that comes back to it.

The net is run once on a batch, in the mode it is in, and left as it was. Where a loss is given, its gradient with
respect to what enters each layer is kept for every step, and with respect to each layer's parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from timecell.cell import Stepped, record
from timecell.credit.rule import Loss, run_slice
from timecell.data.containers import Batch
from timecell.watch import Signal, Signals, alive, over_time, own_state, undisturbed, watched


@dataclass(frozen=True, eq=False)
class Layer:
    """One module that has no modules inside, or has parameters or a state of its own.

    Attributes:
        path: in the net.
        module: the module.
        input: [B, T, ...] what entered it; None if its calls have no course in time.
        output: [B, T, ...] what left it.
        states: name -> [B, T, ...] the course of each state, of what is written as one instant.
        remembers: it has a state of its own.
        blame: [B, T] norm of the loss's gradient with respect to its input, of each sample at each step.
        gradients: name -> the loss's gradient with respect to its trainable parameters.
    """

    path: str
    module: nn.Module
    input: Float[Tensor, "B T ..."] | None
    output: Float[Tensor, "B T ..."] | None
    states: Mapping[str, Float[Tensor, "B T ..."]] = field(default_factory=dict)
    remembers: bool = False
    blame: Float[Tensor, "B T"] | None = None
    gradients: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Path and class."""
        return f"{self.path} ({self.kind})" if self.path else self.kind

    @property
    def kind(self) -> str:
        """Name of the class."""
        return type(self.module).__name__


@dataclass(frozen=True, eq=False)
class Observation:
    """A run.

    Attributes:
        layers: in the order in which they were done.
        alive: [B, T] True where a step belongs to its sample.
        loss: the loss; None where none was asked for.
    """

    layers: tuple[Layer, ...]
    alive: Bool[Tensor, "B T"]
    loss: float | None


def observe(net: nn.Module, batch: Batch, loss: Loss | None = None) -> Observation:
    """Run a net once and keep what every layer showed.

    Args:
        net: ``net(x, state, lengths=lengths) -> (y, state)``.
        batch: some samples, with targets if there is a loss.
        loss: ``loss(y, batch, steps)``, for example ``task.loss``.

    Example:
        >>> from timecell import LIF, Sequential
        >>> seen = observe(Sequential(nn.Linear(3, 4), LIF(4)), Batch(torch.ones(2, 5, 3)), lambda y, *_: y.sum())
        >>> [(layer.name, tuple(layer.blame.shape), list(layer.states)) for layer in seen.layers]
        [('0 (Linear)', (2, 5), []), ('1 (LIF)', (2, 5), ['v'])]
    """
    x, whole = batch.x.detach().clone().requires_grad_(loss is not None), slice(0, batch.x.shape[1])
    stepped = {path: m for path, m in net.named_modules() if isinstance(m, Stepped)}
    names = {f"{path}.{s}".lstrip("."): (path, s) for path, m in stepped.items() for s in m.states}
    signals = Signals()
    with (
        undisturbed(net), watched(net, signals.note), record(net, *names) as states,
        torch.set_grad_enabled(loss is not None),
    ):  # fmt: skip
        y, _ = run_slice(net, replace(batch, x=x), whole, None)
        value = None if loss is None else loss(y, batch, whole)
        blames, gradients = _backward(net, value, signals)

    def layer(path: str, signal: Signal) -> Layer:
        courses = {s: states[n].detach() for n, (p, s) in names.items() if p == path and n in states}
        back = _course(blames[path], signal, batch) if path in blames else None
        return Layer(
            path,
            signal.module,
            _course(signal.inputs, signal, batch),
            _course(signal.outputs, signal, batch),
            {s: course for s, course in courses.items() if course.shape[:2] == batch.x.shape[:2]},
            bool(own_state(signal.module, signal)),
            None if back is None else back.flatten(2).norm(dim=2) if back.ndim > 2 else back.abs(),
            gradients.get(path, {}),
        )

    layers = (layer(path, signal) for path, signal in signals.items() if _is_layer(signal))
    here = alive(len(x), whole.stop, batch.lengths).to(x.device)
    return Observation(tuple(layers), here, None if value is None else value.item())


def _is_layer(signal: Signal) -> bool:
    module = signal.module
    own = next(module.parameters(recurse=False), None)
    return own is not None or not any(module.children()) or bool(own_state(module, signal))


def _course(parts: list[Tensor], signal: Signal, batch: Batch) -> Tensor | None:
    """[B, T, ...] without history; None where there is no such course."""
    course = over_time([p.detach() for p in parts], signal.sees_time, len(batch), batch.x.shape[1], batch.lengths)
    return course if course is not None and course.shape[:2] == batch.x.shape[:2] else None


def _backward(
    net: nn.Module, value: Tensor | None, signals: Signals
) -> tuple[dict[str, list[Tensor]], dict[str, dict[str, Tensor]]]:
    """The loss's gradients with respect to every module's inputs, call by call, and to every module's parameters."""
    if value is None:
        return {}, {}
    inputs = [(path, x) for path, signal in signals.items() for x in signal.inputs]
    weights = [
        (path, name, p) for path, m in net.named_modules()
        for name, p in m.named_parameters(recurse=False) if p.requires_grad
    ]  # fmt: skip
    wanted = [*(x for _, x in inputs), *(p for *_, p in weights)]
    reached = [w for w in wanted if w.requires_grad]
    found = torch.autograd.grad(value, reached, allow_unused=True) if value.requires_grad else ()
    known = {id(w): g for w, g in zip(reached, found) if g is not None}
    back = [known[id(w)] if id(w) in known else torch.zeros_like(w) for w in wanted]
    blames: dict[str, list[Tensor]] = {}
    gradients: dict[str, dict[str, Tensor]] = {}
    for (path, _), gradient in zip(inputs, back):
        blames.setdefault(path, []).append(gradient)
    for (path, name, _), gradient in zip(weights, back[len(inputs) :]):
        gradients.setdefault(path, {})[name] = gradient
    return blames, gradients
