"""Nets made of cells: Sequential, Residual, Parallel, Recurrent.

Only a `Cell` sees time. Inside a container a plain `nn.Module` is a function of one instant: `forward` applies it to
[B*T, ...] and `step` to [B, ...], so the two agree by construction and BatchNorm becomes batch norm over batch and
time. With `lengths` it sees only the instants that exist, so padding enters no statistic and gets no gradient.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell import fuse
from timecell.cell import Cell, Neuron, check_sequence
from timecell.errors import InputError
from timecell.state import State, StateTree, map_state

MIXES_TIME: dict[type[nn.Module], str] = {
    nn.RNNBase: "a Cell with the same equations, e.g. timecell.GRU",
    nn.RNNCellBase: "a Cell with the same equations, e.g. timecell.GRU",
    nn.MultiheadAttention: "a Cell that mixes time explicitly",
    nn.Transformer: "a Cell that mixes time explicitly",
    nn.TransformerEncoder: "a Cell that mixes time explicitly",
    nn.TransformerEncoderLayer: "a Cell that mixes time explicitly",
}
OVER_CHANNELS = (nn.Conv1d, nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d, nn.InstanceNorm1d)


def as_cell(module: nn.Module) -> Cell:
    """A cell as it is; a plain module as the cell that applies it to every instant."""
    if isinstance(module, Cell):
        return module
    for kind, ours in MIXES_TIME.items():
        if isinstance(module, kind):
            raise InputError(
                "module", found=f"{type(module).__name__}, which mixes time on its own axes",
                expected="a Cell, or a module that is a function of one instant", remedy=f"use {ours}",
            )  # fmt: skip
    return Instant(module)


class Instant(Cell):
    """A plain module applied to every instant on its own; containers make these, users rarely do.

    Shapes: x [B, T, ...] -> [B, T, ...]; no state.

    Example:
        >>> y, state = Instant(nn.Linear(3, 4))(torch.ones(2, 5, 3))
        >>> tuple(y.shape), state
        ((2, 5, 4), None)
    """

    @classmethod
    def example(cls) -> Instant:
        """For the checks."""
        return cls(nn.Linear(4, 3))

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(
        self, x: Float[Tensor, "B T ..."], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T ..."], StateTree]:
        """The module on [B*T, ...]; with lengths, on the instants that exist."""
        check_sequence(type(self.module).__name__, x, lengths)
        if isinstance(self.module, OVER_CHANNELS) and x.ndim == 3:
            raise InputError(
                type(self.module).__name__, found="an instant of shape [channels]",
                expected="instants with a length of their own, [channels, length]",
                remedy="to convolve over time use timecell.Delayed; to mix channels use nn.Linear",
            )  # fmt: skip
        if lengths is None:
            return self._instants(x.flatten(0, 1)).unflatten(0, x.shape[:2]), None
        alive = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        here = self._instants(x[alive])
        y = here.new_zeros(*x.shape[:2], *here.shape[1:])
        y[alive] = here
        return y, None

    def _instants(self, x: Tensor) -> Tensor:
        y = self.module(x)
        if not isinstance(y, Tensor) or y.shape[:1] != x.shape[:1]:
            found = type(y).__name__ if not isinstance(y, Tensor) else f"shape {list(y.shape)} from {list(x.shape)}"
            raise InputError(
                type(self.module).__name__, found=found, expected="one output for each instant",
                remedy="only a Cell may mix instants; write this module as a Cell",
            )  # fmt: skip
        return y


class _Container(Cell):
    """Children by name; plain modules stay plain modules (their parameters keep their usual names)."""

    def _adopt(self, modules: tuple[nn.Module | OrderedDict[str, nn.Module], ...]) -> None:
        named = modules[0] if len(modules) == 1 and isinstance(modules[0], OrderedDict) else None
        items = named.items() if named is not None else ((str(i), m) for i, m in enumerate(modules))
        for name, module in items:
            if not isinstance(module, nn.Module):
                raise InputError(
                    f"{type(self).__name__}({name})", found=type(module).__name__, expected="an nn.Module",
                    remedy="pass modules and cells",
                )  # fmt: skip
            as_cell(module)
            self.add_module(name, module)
        if not self._modules:
            raise InputError(type(self).__name__, found="no module", expected="at least one", remedy="pass modules")
        cells = self.cells().values()
        self.causal = all(c.causal for c in cells)
        self.streams = all(c.streams for c in cells)
        self.lookahead = self._lookahead([c.lookahead for c in cells])

    def _lookahead(self, of_children: list[int]) -> int:
        return sum(of_children)

    def cells(self) -> dict[str, Cell]:
        """Children by name, each as a cell."""
        return {name: as_cell(m) for name, m in self._modules.items() if m is not None}

    def initial_state(self, batch: int, like: Tensor) -> StateTree:
        """None for each child: cells make their own at first use."""
        return dict.fromkeys(self._modules)

    def _parts(self, state: StateTree) -> dict[str, StateTree]:
        if state is None:
            return dict.fromkeys(self._modules)
        if not isinstance(state, dict) or state.keys() != self._modules.keys():
            found = sorted(state) if isinstance(state, dict) else type(state).__name__
            raise InputError(
                f"{type(self).__name__}(state)", found=found, expected=f"a dict with the keys {list(self._modules)}",
                remedy="pass the state this net returned, or None to start anew",
            )  # fmt: skip
        return state

    def __getitem__(self, name: int | str) -> nn.Module:
        return list(self._modules.values())[name] if isinstance(name, int) else self._modules[name]  # type: ignore[return-value]

    def __len__(self) -> int:
        return len(self._modules)


class Sequential(_Container):
    """One after the other.

    Args:
        *modules: cells and plain modules, or one OrderedDict of them. State: a dict keyed by child name.

    Shapes: x [B, T, ...] -> y [B, T, ...].

    Example:
        >>> from timecell import LIF
        >>> net = Sequential(nn.Linear(3, 4), LIF(4))
        >>> y, state = net(torch.ones(2, 5, 3))
        >>> tuple(y.shape), list(state)
        ((2, 5, 4), ['0', '1'])
    """

    @classmethod
    def example(cls) -> Sequential:
        """For the checks."""
        return cls(nn.Linear(4, 4), Recurrent.example(), nn.BatchNorm1d(4))

    def __init__(self, *modules: nn.Module | OrderedDict[str, nn.Module]) -> None:
        super().__init__()
        self._adopt(modules)

    def forward(
        self, x: Float[Tensor, "B T ..."], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T ..."], StateTree]:
        """Through every child in order."""
        check_sequence(f"{type(self).__name__}(x)", x, lengths)
        before, after = self._parts(state), {}
        for name, cell in self.cells().items():
            x, after[name] = cell(x, before[name], lengths=lengths)
        return x, after


class Residual(Sequential):
    """x plus what the children, one after the other, make of it.

    Shapes: x [B, T, ...] -> y of the same shape.

    Example:
        >>> y, _ = Residual(nn.Identity())(torch.ones(1, 2, 3))
        >>> y.unique().tolist()
        [2.0]
    """

    def forward(
        self, x: Float[Tensor, "B T ..."], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T ..."], StateTree]:
        """x + children(x)."""
        y, state = super().forward(x, state, lengths=lengths)
        if y.shape != x.shape:
            raise InputError(
                "Residual", found=f"an output of shape {list(y.shape)}", expected=f"the input's shape {list(x.shape)}",
                remedy="let the last layer inside have as many outputs as the first has inputs",
            )  # fmt: skip
        return silence(x, lengths) + y, state


class Parallel(_Container):
    """Children side by side on the same input, merged by "add", "cat" (channels) or a function of the list.

    Shapes: x [B, T, ...] -> y [B, T, ...]; "cat" adds up the channels.

    Example:
        >>> y, _ = Parallel(nn.Identity(), nn.Identity(), merge="cat")(torch.ones(1, 2, 3))
        >>> tuple(y.shape)
        (1, 2, 6)
    """

    @classmethod
    def example(cls) -> Parallel:
        """For the checks."""
        return cls(nn.Linear(4, 4), Recurrent.example(), merge="cat")

    def __init__(
        self, *modules: nn.Module | OrderedDict[str, nn.Module],
        merge: Literal["add", "cat"] | Callable[[list[Tensor]], Tensor] = "add",
    ) -> None:  # fmt: skip
        super().__init__()
        if not callable(merge) and merge not in ("add", "cat"):
            raise InputError(
                "Parallel(merge)", found=repr(merge), expected="add, cat or a function", remedy="choose one"
            )
        self.merge = merge
        self._adopt(modules)

    def _lookahead(self, of_children: list[int]) -> int:
        return max(of_children)

    def forward(
        self, x: Float[Tensor, "B T ..."], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T ..."], StateTree]:
        """Every child on x."""
        check_sequence("Parallel(x)", x, lengths)
        before, after, outputs = self._parts(state), {}, []
        for name, cell in self.cells().items():
            y, after[name] = cell(x, before[name], lengths=lengths)
            outputs.append(y)
        if callable(self.merge):
            return self.merge(outputs), after
        return (torch.cat(outputs, -1) if self.merge == "cat" else torch.stack(outputs).sum(0)), after


class Recurrent(Cell):
    """A neuron whose output at t comes back through a synapse as input at t + 1.

        y_t, s_t = neuron(x_t + synapse(y_{t-1}), s_{t-1})

    Args:
        neuron: the units.
        synapse: a plain module from N to N, e.g. ``nn.Linear(n, n, bias=False)``.

    Shapes: x [B, T, ..., N] -> y [B, T, ..., N]; state {"neuron": its state, "y": the last output [B, ..., N]}.

    This runs as a Python loop over time and says so once: the fused loop has no product inside an instant yet.

    Example:
        >>> from timecell import LIF
        >>> y, state = Recurrent(LIF(4), nn.Linear(4, 4, bias=False))(torch.ones(2, 5, 4))
        >>> tuple(y.shape), sorted(state)
        ((2, 5, 4), ['neuron', 'y'])
    """

    @classmethod
    def example(cls) -> Recurrent:
        """For the checks."""
        return cls(_Leak(4), nn.Linear(4, 4, bias=False))

    def __init__(self, neuron: Neuron, synapse: nn.Module) -> None:
        super().__init__()
        if isinstance(synapse, Cell) or not isinstance(neuron, Neuron):
            raise InputError(
                "Recurrent", found=f"({type(neuron).__name__}, {type(synapse).__name__})",
                expected="a Neuron and a plain module", remedy="e.g. Recurrent(LIF(n), nn.Linear(n, n, bias=False))",
            )  # fmt: skip
        self.neuron, self.synapse = neuron, synapse

    def forward(
        self, x: Float[Tensor, "B T ... N"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T ... N"], StateTree]:
        """One instant after the other."""
        check_sequence("Recurrent(x)", x, lengths)
        _announce(x.shape[1])
        y = x.new_zeros(x.shape[0], *x.shape[2:]) if state is None else state["y"]
        s = self.neuron.initial_state(x.shape[0], x) if state is None else state["neuron"]
        outputs = []
        with fuse.backend("plain"):  # for a single instant the plain step is faster than a call of the fused loop
            for t, x_t in enumerate(x.unbind(1)):
                y_t, s_t = self.neuron.step(x_t + self.synapse(y), s)
                y, s = (y_t, s_t) if lengths is None else map_state(_choose(t < lengths), (y_t, s_t), (y, s))
                outputs.append(y_t)
        return silence(torch.stack(outputs, 1), lengths) if outputs else x, {"neuron": s, "y": y}


def _choose(alive: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The new value for the samples that are still going on, the old one for the others."""
    return lambda new, old: torch.where(alive.view(-1, *([1] * (new.ndim - 1))), new, old)


class _Leak(Neuron):
    """The smallest neuron with a memory, for `Recurrent.example`."""

    v: State

    @staticmethod
    def dynamics(x: Tensor, s: Any, p: Any) -> tuple[Tensor, Any]:
        v = torch.tanh(0.5 * s.v + x)
        return v, s._replace(v=v)


_announced = False


def _announce(steps: int) -> None:
    global _announced
    if steps > 1 and not _announced:
        _announced = True
        print("timecell: Recurrent runs as a Python loop over time (slow)", file=sys.stderr)


def silence(x: Float[Tensor, "B T ..."], lengths: Int[Tensor, "B"] | None) -> Float[Tensor, "B T ..."]:
    """Zero after each sample's end, whatever stands there (NaN too).

    Example:
        >>> silence(torch.ones(1, 3, 1), torch.tensor([2]))[0, :, 0].tolist()
        [1.0, 1.0, 0.0]
    """
    if lengths is None:
        return x
    alive = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
    return torch.where(alive.view(*alive.shape, *([1] * (x.ndim - 2))), x, torch.zeros_like(x))
