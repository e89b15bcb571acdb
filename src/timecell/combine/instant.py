"""A plain module as a function of one instant.

`forward` applies it to [B*T, ...] and `step` to [B, ...], so the two agree by construction. With `lengths` it sees only
the instants that exist: padding enters no statistic and gets no gradient.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from timecell.cell import Cell, check_sequence
from timecell.errors import InputError
from timecell.fuse.loop import alive
from timecell.state import StateTree

_GATED = "a Cell with the same equations: timecell.GRU, timecell.LSTM or timecell.Elman"
MIXES_TIME: dict[type[nn.Module], str] = {
    nn.RNNBase: _GATED,
    nn.RNNCellBase: _GATED,
    nn.MultiheadAttention: "a Cell that mixes time explicitly",
    nn.Transformer: "a Cell that mixes time explicitly",
    nn.TransformerEncoder: "a Cell that mixes time explicitly",
    nn.TransformerEncoderLayer: "a Cell that mixes time explicitly",
}
# What an instant is to torch's Conv1d, MaxPool2d, ..., by the number in the name.
AXES = {1: "channels, length", 2: "channels, height, width", 3: "channels, depth, height, width"}


def as_cell(module: nn.Module) -> Cell:
    """A cell as it is; a plain module as the cell that applies it to every instant.

    Raises:
        InputError: the module mixes time on axes of its own, or hides a cell, whose state would be lost.
    """
    if isinstance(module, Cell):
        return module
    for kind, ours in MIXES_TIME.items():
        if isinstance(module, kind):
            raise InputError(
                "module", found=f"{type(module).__name__}, which mixes time on its own axes",
                expected="a Cell, or a module that is a function of one instant", remedy=f"use {ours}",
            )  # fmt: skip
    hidden = next((m for m in module.modules() if isinstance(m, Cell)), None)
    if hidden is not None:
        raise InputError(
            "module", found=f"{type(module).__name__}, a plain module with the cell {type(hidden).__name__} inside",
            expected="a Cell, or a module without one", remedy="use timecell.Sequential, or derive it from timecell.Cell",
        )  # fmt: skip
    return Instant(module)


def kind_of(module: nn.Module) -> type:
    """A module's class; of one that computes the same as one of torch's, in another way, that one.

    Example:
        >>> kind_of(nn.Linear(2, 3)).__name__
        'Linear'
    """
    return getattr(module, "same_as", type(module))


class Instant(Cell):
    """A plain module applied to every instant on its own; containers make these, users rarely do.

    In training, batch norm takes its statistics over all instants of the call, of all samples: over batch and time
    (and space), padding left out. Where `lengths` leave fewer values a channel than a variance needs, its running
    statistics serve and stay as they are.

    Shapes: x [B, T, ...] -> [B, T, ...]; no state.

    Example:
        >>> import torch
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
        _check_axes(self.module, x)
        if lengths is None:
            return self._instants(x.flatten(0, 1)).unflatten(0, x.shape[:2]), None
        mask = alive(x, lengths)
        here = x[mask]
        too_few = len(here) < (2 if here.ndim == 2 else 1)
        with running_statistics(self.module) if too_few else nullcontext():
            made = self._instants(here)
        y = made.new_zeros(*x.shape[:2], *made.shape[1:])
        y[mask] = made
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


def _check_axes(module: nn.Module, x: Tensor) -> None:
    """Refuse what torch would take for one sample without a batch: it would mix the instants."""
    space = _space(module)
    axes = x.ndim - 2
    if space is None or axes == 1 + space or (axes == 1 and space == 1 and isinstance(module, _BatchNorm)):
        return
    over_time = "to convolve over time use timecell.Delayed; to mix channels use nn.Linear"
    raise InputError(
        type(module).__name__, found=f"an input of shape {list(x.shape)}, whose instants have {axes} axes",
        expected=f"[B, T, {AXES[space]}]", remedy=over_time if axes == 1 and space == 1 else "reshape x, or choose another layer",
    )  # fmt: skip


def _space(module: nn.Module) -> int | None:
    """How many axes of space a torch module works on, as its name says: Conv2d two. None where it says nothing."""
    for kind in type(module).__mro__:
        name = re.fullmatch(r"\w+([123])d", kind.__name__)
        if name and kind.__module__.startswith("torch.nn."):
            return int(name[1])
    return None


@contextmanager
def running_statistics(module: nn.Module) -> Iterator[None]:
    """Within this context the batch norms inside use their running statistics and leave them as they are."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training]
    for norm in norms:
        norm.training = False
    try:
        yield
    finally:
        for norm in norms:
            norm.training = True
