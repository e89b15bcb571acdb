"""How blame goes back in time: through all of it, through stretches, or not at all.

A time path says in which slices a sequence is visited, which of its steps are blamed, and, layer by layer, how blame of
a layer's outputs in a slice becomes blame of its inputs and of its weights. The paths here leave that to autograd;
`timecell.credit.traces` has those whose weights remember what they did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from timecell import fuse
from timecell.combine import Recurrent
from timecell.credit.layers import Layer, Synapse, channels_last, ones, patches
from timecell.credit.rule import run_in_stretches, run_slice
from timecell.credit.updates import Factors
from timecell.data.containers import Batch
from timecell.errors import InputError
from timecell.state import StateTree, detach

Carry = Literal["full", "none"]


class Kept(NamedTuple):
    """What a layer hands on to the next slice.

    Attributes:
        state: of what comes behind the synapse; the time path's own affair.
        traces: of its weights.
        before: states of the modules in front of the synapse.
    """

    state: StateTree = None
    traces: StateTree = None
    before: StateTree = None


class Blame(NamedTuple):
    """What a layer makes of the blame of its outputs.

    Attributes:
        drive: of what the synapse sent, [B, t, ...].
        weights: (synapse, factors of its weight, factors of its bias) for each synapse of the layer.
    """

    drive: Tensor
    weights: list[tuple[Synapse, Factors, Factors]]


class Response(NamedTuple):
    """What a layer does in a slice: its outputs, what it keeps, and how blame of the outputs goes on."""

    y: Tensor
    kept: Kept
    pull: Callable[[Tensor], Blame]


class TimePath(Protocol):
    """How blame goes back in time. Implementations are frozen dataclasses.

    Attributes:
        carry: whether autograd crosses time within a slice.
        traced: weights are blamed for a trace of what they did, which autograd alone cannot do.

    Example:
        One's own, most easily by changing one of those below; here only the second half of a sequence is blamed:

        >>> @dataclass(frozen=True)
        ... class Late(Instantaneous):
        ...     def weights(self, steps):
        ...         return (torch.arange(steps) >= steps // 2).double()
    """

    carry: ClassVar[Carry]
    traced: ClassVar[bool]

    def whole(self, net: nn.Module, batch: Batch, steps: slice, state: StateTree) -> tuple[Tensor, StateTree]:
        """Outputs and state of a net after a slice, where autograd does everything in one go."""

    def slices(self, steps: int) -> Iterable[slice]:
        """The stretches in which a sequence is visited, in order."""

    def weights(self, steps: int) -> Float[Tensor, "T"] | None:
        """How much the blame of each step counts, drawn anew for each sequence; None: all of it."""

    def run(self, layer: Layer, drive: Tensor, pre: Tensor, kept: Kept, lengths: Tensor | None) -> Response:
        """One layer over one slice.

        Args:
            layer: which.
            drive: [B, t, ...] what its synapse sends; a leaf that wants its gradient.
            pre: [B, t, ...] what came in to the synapse.
            kept: from the slice before; ``Kept()`` at the start.
            lengths: steps of each sample in this slice.
        """


def at_least_one(owner: Any, *names: str) -> None:
    """Refuse counts below 1, naming the owner's class and the field."""
    for name in names:
        value = getattr(owner, name)
        if value is not None and value < 1:
            raise InputError(
                f"{type(owner).__name__}({name})", found=value, expected="at least 1", remedy="choose a longer slice"
            )


class _Autograd:
    """What the paths share that leave everything to autograd."""

    carry: ClassVar[Carry] = "full"
    traced: ClassVar[bool] = False

    def weights(self, steps: int) -> Float[Tensor, "T"] | None:
        """Every step counts."""
        return None

    def whole(self, net: nn.Module, batch: Batch, steps: slice, state: StateTree) -> tuple[Tensor, StateTree]:
        """See `TimePath.whole`."""
        with within(self.carry):
            return run_slice(net, batch, steps, state)

    def run(self, layer: Layer, drive: Tensor, pre: Tensor, kept: Kept, lengths: Tensor | None) -> Response:
        """See `TimePath.run`."""
        y, state, before, pull = by_autograd(layer, drive, kept.state, lengths, self.carry)
        sources = Sources(pre, before, ones(pre))
        return Response(y, Kept(state), lambda blame: blamed(layer, pull(blame), sources))


@dataclass(frozen=True)
class Full(_Autograd):
    """Through all of time (Werbos, 1990): exact; memory grows with the number of steps.

    Attributes:
        memory: "full", everything is kept; "sqrt" or a number of steps, the net's state every so many steps, and the rest
            is computed again: the same gradient in less memory.

    Example:
        >>> list(Full().slices(100))
        [slice(0, 100, None)]
    """

    memory: fuse.Memory = "full"

    def __post_init__(self) -> None:
        fuse.checked_memory("BPTT(memory)", self.memory)

    def whole(self, net: nn.Module, batch: Batch, steps: slice, state: StateTree) -> tuple[Tensor, StateTree]:
        """See `TimePath.whole`."""
        every = fuse.stretch(steps.stop - steps.start, self.memory)
        return run_in_stretches(net, batch, steps, state, every) if every else super().whole(net, batch, steps, state)

    def slices(self, steps: int) -> Iterable[slice]:
        """One slice that holds everything."""
        return (slice(0, steps),)


@dataclass(frozen=True)
class Truncated(_Autograd):
    """Through stretches of time; the state goes on, blame stops at their borders.

    Attributes:
        steps: length of a stretch; memory grows with this, not with the sequence.
    """

    steps: int = 50

    def __post_init__(self) -> None:
        at_least_one(self, "steps")

    def slices(self, steps: int) -> Iterable[slice]:
        """Stretches of equal length."""
        return fuse.stretches(steps, self.steps)


@dataclass(frozen=True)
class Instantaneous(Truncated):
    """Not at all: blame stays in its instant, and the past is a constant.

    Attributes:
        steps: length of a stretch: speed (long stretches are fused) against memory; the gradient is the same.
    """

    carry: ClassVar[Carry] = "none"
    steps: int = 4


@dataclass(frozen=True)
class RandomSteps(Instantaneous):
    """Not at all, and only at k steps drawn anew for each sequence; the others run without a graph.

    Blame counts T / k times, so that its mean over all draws is that of `Instantaneous`. The draw is
    ``torch.randperm(T)[:k]``, from torch's global generator, which training seeds and writes down; processes that train
    together use the draw of the first.

    Attributes:
        steps: length of a stretch.
        k: how many steps of a sequence are blamed.
    """

    k: int = 1

    def __post_init__(self) -> None:
        at_least_one(self, "steps", "k")

    def weights(self, steps: int) -> Float[Tensor, "T"] | None:
        """T / k at the drawn steps, 0 at the others."""
        drawn = torch.randperm(steps)[: self.k]
        if dist.is_available() and dist.is_initialized():
            dist.broadcast(drawn, 0)
        return torch.zeros(steps, dtype=torch.float64).index_fill(0, drawn, steps / len(drawn))


# --- a layer by autograd -----------------------------------------------------------------------------------------


def within(carry: Carry) -> AbstractContextManager[None]:
    """The context in which loops run whose blame stays in its instant ("none"), or goes as far as the caller lets it."""
    return fuse.carry("none") if carry == "none" else nullcontext()


class Sources(NamedTuple):
    """What comes in to the weights of a layer: to its synapse, to its recurrent synapse, to its biases (1)."""

    pre: Float[Tensor, "B t ..."]
    back: Float[Tensor, "B t ..."] | None
    one: Float[Tensor, "B t 1"]


def by_autograd(
    layer: Layer, drive: Tensor, state: StateTree, lengths: Tensor | None, carry: Carry
) -> tuple[Tensor, StateTree, Tensor | None, Callable[[Tensor], Tensor]]:
    """A layer's outputs, its state, the outputs one step earlier (if recurrent), and blame of y -> blame of drive.

    Pulling blame back also adds to the gradients of the layer's parameters that are not weights of synapses.
    """
    y, after = response(layer, drive, state, lengths, carry)
    own = layer.parameters((*layer.after, layer.cell))

    def pull(blame: Tensor) -> Tensor:
        torch.autograd.backward(y, blame, inputs=[drive, *own])
        return drive.grad  # type: ignore[return-value]

    return y.detach(), detach(after), fed_back(layer, y, state), pull


def response(
    layer: Layer, drive: Tensor, state: StateTree, lengths: Tensor | None, carry: Carry
) -> tuple[Tensor, StateTree]:
    """A layer's outputs with the graph that blame goes through, and its state."""
    with within(carry):
        if isinstance(layer.cell, Recurrent) and carry == "none":
            return _instant_by_instant(layer, drive, state, lengths)
        return layer.respond(drive, state, lengths)


def fed_back(layer: Layer, y: Tensor, state: StateTree) -> Tensor | None:
    """What came in to a layer's recurrent synapse, given the state before the slice: its outputs one step earlier."""
    if not isinstance(layer.cell, Recurrent):
        return None
    first = torch.zeros_like(y[:, :1]) if state is None else state[-1]["y"][:, None]
    return torch.cat([first, y[:, :-1]], 1).detach()


def _instant_by_instant(
    layer: Layer, drive: Tensor, state: StateTree, lengths: Tensor | None
) -> tuple[Tensor, StateTree]:
    """A recurrent cell whose outputs carry no blame to the next step."""
    outputs = []
    for t in range(drive.shape[1]):
        here = None if lengths is None else (lengths - t).clamp(0, 1)
        y, state = layer.respond(drive[:, t : t + 1], detach(state), here)
        outputs.append(y)
    return torch.cat(outputs, 1), state


def blamed(layer: Layer, delta: Tensor, sources: Sources) -> Blame:
    """Blame of the drive and of each weight, given what came in."""
    found = []
    for synapse, pre in ((layer.synapse, sources.pre), (layer.back, sources.back)):
        if synapse is not None and pre is not None:
            d = channels_last(synapse, delta)
            one = sources.one.view(*sources.one.shape[:2], *[1] * (d.ndim - 2)).expand(*d.shape[:-1], 1)
            found.append((synapse, Factors(d, patches(synapse, pre)), Factors(d, one)))
    return Blame(delta, found)
