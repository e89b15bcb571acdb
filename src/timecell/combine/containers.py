"""One after the other, with a shortcut, side by side: Sequential, Residual, Parallel."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.cell import Cell, check_sequence
from timecell.combine.example import _Leak
from timecell.combine.instant import Instant, as_cell
from timecell.errors import InputError
from timecell.fuse.loop import silence
from timecell.state import StateTree

Merge = Literal["add", "cat"] | Callable[[list[Tensor]], Tensor]


class _Container(Cell):
    """Children by name; plain modules stay plain modules (their parameters keep their usual names).

    The state is a dict: the state of each child under its name, and the tensors named in `keeps`.
    """

    keeps: ClassVar[tuple[str, ...]] = ()

    def _adopt(self, modules: Mapping[str, nn.Module]) -> None:
        """Take the children in and derive what this container promises."""
        for name, module in modules.items():
            if not isinstance(module, nn.Module):
                raise InputError(
                    f"{type(self).__name__}({name})", found=type(module).__name__, expected="an nn.Module",
                    remedy="pass modules and cells",
                )  # fmt: skip
            as_cell(module)  # refuses what no container can hold
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
        return {n: m if isinstance(m, Cell) else Instant(m) for n, m in self._modules.items() if m is not None}

    def initial_state(self, batch: int, like: Tensor) -> StateTree:
        """None for each part: cells make their own at first use."""
        return dict.fromkeys((*self._modules, *self.keeps))

    def _parts(self, state: StateTree) -> dict[str, StateTree]:
        names = (*self._modules, *self.keeps)
        if state is None:
            return dict.fromkeys(names)
        if not isinstance(state, dict) or state.keys() != set(names):
            found = sorted(state) if isinstance(state, dict) else type(state).__name__
            raise InputError(
                f"{type(self).__name__}(state)", found=found, expected=f"a dict with the keys {list(names)}",
                remedy="pass the state this net returned, or None to start anew",
            )  # fmt: skip
        return state

    def __getitem__(self, name: int | str) -> nn.Module:
        return list(self._modules.values())[name] if isinstance(name, int) else self._modules[name]  # type: ignore[return-value]

    def __len__(self) -> int:
        return len(self._modules)


def _named(modules: tuple[nn.Module | OrderedDict[str, nn.Module], ...]) -> Mapping[str, nn.Module]:
    if len(modules) == 1 and isinstance(modules[0], OrderedDict):
        return modules[0]
    return {str(i): m for i, m in enumerate(modules)}  # type: ignore[misc]


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

        Feature maps are [B, T, channels, height, width], and units may share their parameters over space:

        >>> net = Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), LIF((8, 1, 1)), nn.MaxPool2d(2), nn.Flatten())
        >>> tuple(net(torch.ones(2, 5, 1, 8, 8))[0].shape)
        (2, 5, 72)
    """

    @classmethod
    def example(cls) -> Sequential:
        """For the checks."""
        return cls(nn.Linear(4, 4), _Leak(4), nn.BatchNorm1d(4))

    def __init__(self, *modules: nn.Module | OrderedDict[str, nn.Module]) -> None:
        super().__init__()
        self._adopt(_named(modules))

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
    """Children side by side on the same input.

    Args:
        *modules: cells and plain modules, or one OrderedDict of them.
        merge: "add", "cat" (over the last axis) or a function of the list of outputs; feature maps [B, T, C, H, W]
            are joined by channel with ``merge=lambda ys: torch.cat(ys, 2)``.

    Shapes: x [B, T, ...] -> y [B, T, ...]; "cat" adds up the last axes.

    Example:
        >>> y, _ = Parallel(nn.Identity(), nn.Identity(), merge="cat")(torch.ones(1, 2, 3))
        >>> tuple(y.shape)
        (1, 2, 6)
    """

    @classmethod
    def example(cls) -> Parallel:
        """For the checks."""
        return cls(nn.Linear(4, 4), _Leak(4), merge="cat")

    def __init__(self, *modules: nn.Module | OrderedDict[str, nn.Module], merge: Merge = "add") -> None:
        super().__init__()
        self.merge = checked_merge("Parallel", merge)
        self._adopt(_named(modules))

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
        return merged(outputs, self.merge), after


def checked_merge(name: str, merge: Merge) -> Merge:
    """The way to merge, if it is one."""
    if not callable(merge) and merge not in ("add", "cat"):
        raise InputError(f"{name}(merge)", found=repr(merge), expected="add, cat or a function", remedy="choose one")
    return merge


def merged(outputs: list[Tensor], merge: Merge) -> Tensor:
    """Several outputs as one.

    Example:
        >>> merged([torch.ones(1, 1, 2), torch.ones(1, 1, 2)], "add").tolist()
        [[[2.0, 2.0]]]
    """
    if callable(merge):
        return merge(outputs)
    return torch.cat(outputs, -1) if merge == "cat" else torch.stack(outputs).sum(0)
