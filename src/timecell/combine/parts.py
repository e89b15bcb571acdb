"""A net laid out for one instant after the other. `timecell.Stream` runs what is made here.

A step of a small net costs a hundred microseconds of checks and bookkeeping for one of arithmetic. A `Layout` leaves them
out: it is made of *parts*, callables that hold their own state. A neuron is its compiled kernel with the arguments ready
(`timecell.fuse.online`), a product is a product, a container calls its parts. A plain module is called as it is, and a cell
that is none of these by its `step`.

A layout is made of a net and of its state after an instant of `Cell.step`, which has checked what there is to check about
shapes. What can change afterwards is looked for at every instant: `Layout.holds` says whether there is a new hook, layer or
weight, and a neuron reads its parameters again where they have changed. An instant happens in two moves, all parts' calls
and then all parts' `keep`, so one that fails anywhere in the net leaves all states as they were.
"""

from __future__ import annotations

from operator import is_
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks

from timecell import fuse
from timecell.cell import Cell, Stepped
from timecell.combine.containers import Parallel, Residual, Sequential, merged
from timecell.combine.feedback import Loop, Recurrent
from timecell.fuse.online import online
from timecell.state import StateTree


class Layout:
    """A net, with its state after an instant, ready for the next ones.

    Example:
        >>> from timecell import LeakyIntegrator
        >>> net = LeakyIntegrator(1, tau=2.0)
        >>> _, state = net.step(torch.ones(1, 1))
        >>> layout = Layout(net, state)
        >>> with torch.no_grad():
        ...     layout(torch.ones(1, 1)).item()
        1.5
    """

    def __init__(self, net: Cell, state: StateTree) -> None:
        self.hooks: list[dict[int, Any]] = [_global_forward_hooks, _global_forward_pre_hooks]
        self.owned: list[tuple[dict[str, Any], tuple[Any, ...]]] = []
        self.keeping: list[_Whole | _Fused | _Closed] = []
        with torch.inference_mode(False), torch.no_grad():  # what is made here may be used outside of it too
            self.net = self.part(net, state)

    def part(self, module: nn.Module, state: StateTree) -> _Part:
        """A module, with its state, as a part."""
        parts: dict[type[nn.Module], type[_Part]] = {
            nn.Linear: _Product, Stepped: _Fused, Sequential: _Chain, Residual: _Shortcut, Parallel: _Side,
            Loop: _Closed, Recurrent: _Closed,
        }  # fmt: skip
        whole = _Whole if isinstance(module, Cell) else _Part
        kind = next((part for kind, part in parts.items() if _written_in(kind, module)), whole)
        hooks = [module._forward_hooks, module._forward_pre_hooks]
        if any(hooks) or (kind is _Fused and not _has_kernel(module, state)):
            kind = whole
        if kind is not whole:
            self.hooks += hooks
        return kind(module, state, self)

    def watch(self, owned: dict[str, Any]) -> None:
        """The layout holds as long as these are the same modules or parameters."""
        self.owned.append((owned, tuple(owned.values())))

    def holds(self) -> bool:
        """Whether the net still is what was laid out."""
        if any(self.hooks):
            return False
        return all(len(now) == len(then) and all(map(is_, now.values(), then)) for now, then in self.owned)

    def __call__(self, x: Tensor) -> Tensor:
        """The output [B, ...] at the next instant; call it without grad mode."""
        y = self.net(x)
        for part in self.keeping:
            part.keep()
        return y

    @property
    def state(self) -> StateTree:
        """After the last instant, as `Cell.step` returns it; new tensors."""
        return self.net.state


def _written_in(kind: type[nn.Module], module: nn.Module) -> bool:
    """Whether this class says what a module does at an instant."""
    if not isinstance(module, kind):
        return False
    methods = ("forward", "step") if isinstance(module, Cell) else ("forward",)
    return all(getattr(getattr(module, m), "__func__", None) is getattr(kind, m) for m in methods)


def _has_kernel(cell: Any, state: tuple[Tensor, ...]) -> bool:
    return len(state) > 0 and state[0].is_cpu and fuse.why_plain(cell.instant, state[0].dtype) is None


class _Part:
    """A module that runs at an instant: the base of them all, and a plain module, which has nothing to remember."""

    state: StateTree = None
    """As the module's own `step` returns it."""

    def __init__(self, module: Any, state: StateTree, layout: Layout) -> None:
        self.module = module

    def __call__(self, x: Tensor) -> Tensor:
        """The output [B, ...] at the next instant."""
        return self.module(x)


class _Product(_Part):
    """`nn.Linear`, without the way through `nn.Module`, which takes half as long as a small product."""

    def __init__(self, module: nn.Linear, state: StateTree, layout: Layout) -> None:
        layout.watch(module._parameters)
        self.weight, self.bias = module.weight, module.bias

    def __call__(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class _Whole(_Part):
    """A cell that is not taken apart: its `step`."""

    def __init__(self, module: Cell, state: StateTree, layout: Layout) -> None:
        self.cell, self.state, self.after = module, state, state
        layout.keeping.append(self)

    def __call__(self, x: Tensor) -> Tensor:
        y, self.after = self.cell.step(x, self.state)
        return y

    def keep(self) -> None:
        self.state = self.after


class _Fused(_Part):
    """A neuron or a circuit: its kernel."""

    def __init__(self, module: Stepped, state: StateTree, layout: Layout) -> None:
        self.cell, self.dtype = module, state[0].dtype
        self.instant = online(module.instant, state, self.values())
        self.keep = self.instant.keep
        self.look()
        layout.keeping.append(self)

    def values(self) -> list[Tensor]:
        """The parameters."""
        return [q.value(self.cell).to(self.dtype) for q in self.cell.params.values()]

    def tensors(self) -> list[Any]:
        """What the parameters are made of."""
        return [*self.cell._parameters.values(), *self.cell._buffers.values()]

    def look(self) -> None:
        """Remember every byte that the parameters are made of, and where it is. (Versions do not count ``p.data``.)"""
        self.places = [t.data_ptr() for t in self.tensors()]
        self.arrays = [t.detach().numpy() for t in self.tensors()]
        self.bytes = [a.tobytes() for a in self.arrays]

    def changed(self) -> bool:
        """Whether a parameter has another place or another value since the last look."""
        return [t.data_ptr() for t in self.tensors()] != self.places or [a.tobytes() for a in self.arrays] != self.bytes

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape != self.instant.shape:
            self.cell.step(x, self.state)  # says what is wrong
        if self.changed():
            self.instant.read(self.values())
            self.look()
        return self.instant(x)

    @property
    def state(self) -> StateTree:  # type: ignore[override]
        return self.cell.StateType(*self.instant.states())


class _Chain(_Part):
    """`Sequential`; and of every container: parts by name, the state as in `timecell.combine`."""

    def __init__(self, module: Any, state: StateTree, layout: Layout) -> None:
        layout.watch(module._modules)
        self.cell, self.names = module, tuple(module._modules)
        self.parts = [layout.part(child, state[name]) for name, child in module._modules.items()]

    def __call__(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x

    @property
    def state(self) -> StateTree:  # type: ignore[override]
        return {name: part.state for name, part in zip(self.names, self.parts)}


class _Shortcut(_Chain):
    """`Residual`."""

    def __call__(self, x: Tensor) -> Tensor:
        return x + super().__call__(x)


class _Side(_Chain):
    """`Parallel`; its way to merge is written for [B, T, ...]."""

    def __call__(self, x: Tensor) -> Tensor:
        return merged([part(x).unsqueeze(1) for part in self.parts], self.cell.merge).squeeze(1)


class _Closed(_Chain):
    """`Loop` and `Recurrent`."""

    def __init__(self, module: Loop, state: StateTree, layout: Layout) -> None:
        super().__init__(module, state, layout)
        self.last = self.after = state["y"].clone()
        layout.keeping.append(self)

    def __call__(self, x: Tensor) -> Tensor:
        block, feedback = self.parts
        y = block(x + feedback(self.last))
        self.after = y.clone()  # whoever gets y may write into it
        return y

    def keep(self) -> None:
        self.last = self.after

    @property
    def state(self) -> StateTree:
        return {**super().state, "y": self.last}
