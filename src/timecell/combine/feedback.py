"""What comes out comes back in: Loop around any block, Recurrent around one neuron.

This is the one place that walks through time in Python, instant after instant, because here an instant needs the
output of the one before; a neuron with a linear synapse has a fused way.
"""

from __future__ import annotations

import sys
from contextvars import Context
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell import fuse
from timecell.cell import Cell, Neuron, check_sequence
from timecell.combine.containers import Sequential, _Container
from timecell.combine.example import _Leak
from timecell.combine.instant import kind_of, running_statistics
from timecell.errors import InputError
from timecell.fuse.loop import silence
from timecell.state import StateTree


class Loop(_Container):
    """A block whose output at t comes back through a synapse as input at t + 1.

        y_t = block(x_t + feedback(y_{t-1})),   y_0 = 0 before the first instant

    Args:
        block: a cell or plain module from I to O, e.g. a `Sequential` of several layers.
        feedback: a cell or plain module from O back to I; a `Delayed` one brings the output back later still.

    Shapes: x [B, T, I...] -> y [B, T, O...]; state {"block": its state, "feedback": its state, "y": the last output
    [B, O...]}.

    This runs as a Python loop over time and says so once.

    Example:
        >>> from timecell import LIF
        >>> block = Sequential(nn.Linear(3, 8), LIF(8), nn.Linear(8, 2))
        >>> y, state = Loop(block, feedback=nn.Linear(2, 3))(torch.ones(2, 5, 3))
        >>> tuple(y.shape), list(state)
        ((2, 5, 2), ['block', 'feedback', 'y'])
    """

    keeps = ("y",)

    @classmethod
    def example(cls) -> Loop:
        """For the checks."""
        return cls(Sequential(nn.Linear(4, 3), _Leak(3)), feedback=nn.Linear(3, 4))

    def __init__(self, block: nn.Module, feedback: nn.Module) -> None:
        super().__init__()
        self._close({"block": block, "feedback": feedback})

    def _close(self, modules: dict[str, nn.Module]) -> None:
        """Take in two modules: what stands in the loop, and the way back."""
        self._adopt(modules)
        for place, cell in self.cells().items():
            if not cell.streams or cell.lookahead or not cell.causal:
                raise InputError(
                    f"{type(self).__name__}({place})", found=f"{type(modules[place]).__name__}, which needs the future",
                    expected="a cell that streams, because its next input is made of its last output",
                    remedy="put the cell before or after the loop",
                )  # fmt: skip

    def initial_state(self, batch: int, like: Tensor) -> StateTree:
        """Silence: the last output is zero."""
        (_, block), _ = self.cells().items()
        # What the block makes of no sample at all tells the shape of its outputs. In a context of its own, so that
        # nothing is recorded, and batch norms learn nothing of it.
        with torch.no_grad(), running_statistics(block):
            y, _ = Context().run(_plainly, block, like.new_zeros(0, 1, *like.shape[2:]))
        return {**super().initial_state(batch, like), "y": like.new_zeros(batch, *y.shape[2:])}

    def forward(
        self, x: Float[Tensor, "B T ..."], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T ..."], StateTree]:
        """One instant after the other."""
        check_sequence(f"{type(self).__name__}(x)", x, lengths)
        looked_at = any(m._forward_hooks or m._forward_pre_hooks for m in self.cells().values())
        announce_loop(type(self).__name__, x.shape[1], "while its instants are looked at" if looked_at else "")
        (here, block), (back, feedback) = self.cells().items()
        parts = self._parts(self.initial_state(x.shape[0], x) if state is None else state)
        s, f, last = parts[here], parts[back], parts["y"].unsqueeze(1)
        outputs = [last[:, :0]]
        with fuse.backend("plain"):  # for a single instant the plain step is faster than a call of the fused loop
            for t, x_t in enumerate(silence(x, lengths).unbind(1)):
                heard = last.detach() if fuse.carrying() == "none" else last  # it happened before: no blame for it
                now = None if lengths is None else (lengths > t).long()
                returned, f = feedback(heard, f, lengths=now)
                y, s = block(self._sum(x_t.unsqueeze(1), returned), s, lengths=now)
                last = y if now is None else torch.where(now.view(-1, *[1] * (y.ndim - 1)) > 0, y, last)
                outputs.append(y)
        return torch.cat(outputs, 1), {here: s, back: f, "y": last.squeeze(1)}

    def _sum(self, x: Tensor, returned: Tensor) -> Tensor:
        if x.shape != returned.shape:
            raise InputError(
                f"{type(self).__name__}(x)", found=f"an instant of shape {list(x.shape[2:])}",
                expected=f"the shape that comes back, {list(returned.shape[2:])}",
                remedy="let the feedback have as many outputs as the block has inputs",
            )  # fmt: skip
        return x + returned


class Recurrent(Loop):
    """A neuron whose output at t comes back through a synapse as input at t + 1.

        y_t, s_t = neuron(x_t + synapse(y_{t-1}), s_{t-1})

    Args:
        neuron: the units.
        synapse: a plain module from N to N, e.g. ``nn.Linear(n, n, bias=False)``.

    Shapes: x [B, T, ..., N] -> y [B, T, ..., N]; state {"neuron": its state, "synapse": None, "y": the last output
    [B, ..., N]}.

    Where the synapse is linear and the neuron's units are independent, one matrix product a step alternates with the
    fused instant, forward and backward. Anything else is a Python loop over time, and says so once.

    Example:
        >>> from timecell import LIF
        >>> y, state = Recurrent(LIF(4), nn.Linear(4, 4, bias=False))(torch.ones(2, 5, 4))
        >>> tuple(y.shape), list(state)
        ((2, 5, 4), ['neuron', 'synapse', 'y'])
    """

    neuron: Neuron
    synapse: nn.Module

    @classmethod
    def example(cls) -> Recurrent:
        """For the checks."""
        return cls(_Leak(4), nn.Linear(4, 4, bias=False))

    def __init__(self, neuron: Neuron, synapse: nn.Module) -> None:
        _Container.__init__(self)
        if isinstance(synapse, Cell) or not isinstance(neuron, Neuron):
            raise InputError(
                "Recurrent", found=f"({type(neuron).__name__}, {type(synapse).__name__})",
                expected="a Neuron and a plain module",
                remedy="e.g. Recurrent(LIF(n), nn.Linear(n, n, bias=False)); for other blocks use Loop",
            )  # fmt: skip
        self._close({"neuron": neuron, "synapse": synapse})

    def forward(
        self, x: Float[Tensor, "B T ... N"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T ... N"], StateTree]:
        """All of time: a product and a fused instant a step, or one instant after the other."""
        check_sequence("Recurrent(x)", x, lengths)
        if not self._fuses(x):
            return super().forward(x, state, lengths=lengths)
        parts = self._parts(state)
        before = x.new_zeros(x.shape[0], x.shape[2]) if parts["y"] is None else parts["y"]
        synapse: Any = self.synapse
        run = partial(fuse.run_recurrent, weight=synapse.weight, bias=synapse.bias, before=before)
        y, after = self.neuron.over_time(x, parts["neuron"], lengths, run)
        return y, {"neuron": after, "synapse": None, "y": _last(y, before, lengths)}

    def _fuses(self, x: Tensor) -> bool:
        """Whether there is a fused way for this net, this input, and what is being done with them."""
        return (
            kind_of(self.synapse) is nn.Linear
            and (self.synapse.in_features, self.synapse.out_features) == (x.shape[-1], x.shape[-1])
            and x.ndim == 3
            and x.dtype == self.synapse.weight.dtype
            and fuse.can_run_recurrent(self.neuron.instant, x)
            and not any(
                m._forward_hooks or m._forward_pre_hooks for m in (self.neuron, self.synapse)
            )  # they see instants
        )


def _last(y: Tensor, before: Tensor, lengths: Tensor | None) -> Tensor:
    """The output [B, N] at each sample's end."""
    if lengths is None:
        return y[:, -1].clone() if y.shape[1] else before  # who writes into y does not change the state
    course = torch.cat([before[:, None], y], 1)
    return course[torch.arange(len(y), device=y.device), lengths]


def _plainly(cell: Cell, x: Tensor) -> tuple[Tensor, StateTree]:
    with fuse.backend("plain"):
        return cell(x)


_announced: set[str] = set()


def announce_loop(name: str, steps: int, when: str = "") -> None:
    """Say on stderr, once for each kind of cell, that it walks through time in Python, and when if not always."""
    said = f"{name} runs as a Python loop over time (slow) {when}".strip()
    if steps > 1 and said not in _announced:
        _announced.add(said)
        print(f"timecell: {said}", file=sys.stderr)
