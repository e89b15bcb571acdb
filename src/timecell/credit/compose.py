"""`Rule`: a credit rule made of a time path, a space path and an update.

    time    how blame goes back in time     Full, Truncated, Instantaneous, RandomSteps, PresynapticTrace, TracePair, Eligibility
    space   how it reaches a layer          Backprop, FixedFeedback, ReadoutFeedback, LocalHead, CounterCurrent
    update  what becomes of it              Gradient, OrthogonalProjection, HebbianProjection

The three are independent, so published rules are points of a grid (``OTTT().rule``) and the points between them work
too. A rule goes through the layers of a slice and back, and adds to ``p.grad``:

1. up: each layer runs by itself, cut off from the one below; its time path says how;
2. at the top: the loss blames the net's outputs;
3. down: the space path says what each layer's outputs are blamed for, the time path what its weights did about it, and
   the update makes a gradient of the two.

Where autograd does all of this in one go (it crosses layers, and weights are blamed for what came in), it does, and the
rule takes any net; else a net must be a `Sequential` (see `timecell.credit.layers`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from timecell.combine import as_cell, silence
from timecell.credit.layers import Layer, layers_of, through
from timecell.credit.rule import Loss, slice_lengths
from timecell.credit.space_paths import Backprop, Lesson, SpacePath
from timecell.credit.time_paths import Full, Kept, TimePath
from timecell.credit.updates import Gradient, Update
from timecell.data.containers import Batch
from timecell.errors import InputError
from timecell.state import StateTree, detach

Autograd = Callable[[Tensor], Any]


class Carried(NamedTuple):
    """What a rule hands on from slice to slice beyond the state of the net.

    Attributes:
        state: of the net; or what each layer keeps, by its name.
        weights: [T] how much the blame of each step counts in this sequence; None: all of it.
    """

    state: StateTree = None
    weights: Float[Tensor, "T"] | None = None


@dataclass(frozen=True)
class Rule:
    """A credit rule made of parts.

    Attributes:
        time: how blame goes back in time.
        space: how it reaches a layer.
        update: what becomes of it.

    Example:
        A rule that nobody published: eligibilities of one's own, taught by a head of one's own, with an update that is
        written here in two lines.

        >>> from timecell import LIF, LeakyIntegrator, Sequential
        >>> from timecell.credit import Eligibility, LocalHead
        >>> from timecell.tasks import Classify
        >>> def signs(factors, synapse):
        ...     return Gradient()(factors, synapse).sign()
        >>> rule = Rule(Eligibility(), LocalHead(), signs)
        >>> net = Sequential(nn.Linear(3, 8), LIF(8), nn.Linear(8, 2), LeakyIntegrator(2))
        >>> batch, state = Batch(torch.rand(4, 5, 3), torch.tensor([0, 1, 0, 1])), None
        >>> for steps in rule.slices(5):
        ...     loss, state = rule.backward(net, batch, steps, state, Classify("every").loss)
        >>> net[0].weight.grad.abs().max().item() <= 5  # five slices, a sign each
        True
    """

    time: TimePath
    space: SpacePath = Backprop()  # noqa: RUF009 - frozen
    update: Update = Gradient()  # noqa: RUF009

    @property
    def whole(self) -> bool:
        """Autograd alone follows this rule, through any net."""
        plain = isinstance(self.space, Backprop) and isinstance(self.update, Gradient)
        return plain and not self.time.traced

    @property
    def exact(self) -> bool:
        """The gradient of the loss, with nothing left out."""
        return self.whole and isinstance(self.time, Full)

    @property
    def local(self) -> bool:
        """No blame comes down through a layer above."""
        return not self.space.crosses

    def slices(self, steps: int) -> Iterable[slice]:
        """The time path's."""
        return self.time.slices(steps)

    def backward(
        self, net: nn.Module, batch: Batch, steps: slice, state: StateTree, loss: Loss,
        autograd: Autograd = torch.autograd.backward,
    ) -> tuple[Tensor, StateTree]:  # fmt: skip
        """See `Credit.backward`; the state may be a `Carried`."""
        start = state if isinstance(state, Carried) else Carried(state, self.time.weights(batch.x.shape[1]))
        before, weights = start
        visit = self._whole if self.whole else self._layers
        total = batch.x.new_zeros(())
        for part, weight in _parts(steps, weights):
            with nullcontext() if weight else torch.no_grad():
                value, after = visit(net, batch, part, before, loss, autograd, weight)
            total, before = total + value.detach(), detach(after)
        return total, before if self.whole and weights is None else Carried(before, weights)

    def _whole(
        self, net: nn.Module, batch: Batch, steps: slice, state: StateTree, loss: Loss, autograd: Autograd, weight: float
    ) -> tuple[Tensor, StateTree]:  # fmt: skip
        y, state = self.time.whole(net, batch, steps, state)
        value = loss(y, batch, steps)
        if weight:
            autograd(value * weight)
        return value, state

    def _layers(
        self, net: nn.Module, batch: Batch, steps: slice, kept: StateTree, loss: Loss, autograd: Autograd, weight: float
    ) -> tuple[Tensor, StateTree]:  # fmt: skip
        layers = layers_of(net)
        if kept is None:
            kept = {layer.name: Kept() for layer in layers}
        elif not (isinstance(kept, dict) and all(isinstance(k, Kept) for k in kept.values())):
            raise InputError(
                "state", found=type(kept).__name__, expected=f"None, or what {self} returned for the slice before",
                remedy="start a sequence with None",
            )  # fmt: skip
        lengths = slice_lengths(batch.lengths, steps)
        x = silence(batch.x[:, steps], lengths)
        passes = []
        for layer in layers:
            passes.append(_Pass(self, layer, x, kept[layer.name], lengths))
            x = passes[-1].y
        y = x.detach().requires_grad_(bool(weight))
        value = loss(y, batch, steps)
        if weight:
            autograd(value * weight)
            error = torch.zeros_like(y) if y.grad is None else y.grad
            above: Tensor | None = error
            for number in reversed(range(len(layers))):
                done = passes[number]
                lesson = Lesson(layers, number, done.y, above, error, loss, batch, steps)
                above = done.back(error if done is passes[-1] else self.space.teach(lesson))
        return value, {p.layer.name: p.kept for p in passes}


def _parts(steps: slice, weights: Float[Tensor, "T"] | None) -> list[tuple[slice, float]]:
    """A slice cut where the weight of its steps changes."""
    if weights is None:
        return [(steps, 1.0)]
    runs = [list(run) for _, run in groupby(range(steps.start, steps.stop), key=lambda t: float(weights[t]))]
    return [(slice(run[0], run[-1] + 1), float(weights[run[0]])) for run in runs]


class _Pass:
    """One layer in one slice: up when it is made, down by `back`. It is cut off below the layer and below its cell."""

    def __init__(self, rule: Rule, layer: Layer, x: Tensor, kept: Kept, lengths: Tensor | None) -> None:
        self.rule, self.layer = rule, layer
        self.x = x.detach().requires_grad_(torch.is_grad_enabled())
        pre, before = through(layer.before, self.x, kept.before, lengths)
        self.sent = pre if layer.synapse is None else as_cell(layer.synapse)(pre, lengths=lengths)[0]
        drive = self.sent.detach().requires_grad_(torch.is_grad_enabled())
        response = rule.time.run(layer, drive, pre.detach(), kept, lengths)
        self.y, self.pull, self.kept = response.y, response.pull, response.kept._replace(before=before)

    def back(self, blame: Tensor) -> Tensor | None:
        """Blame of the outputs to gradients of the layer's parameters; returns what the inputs are blamed for."""
        pulled = self.pull(blame)
        for synapse, weight, bias in pulled.weights:
            if synapse.weight.requires_grad:
                _add(synapse.weight, self.rule.update(weight, synapse))
            if synapse.bias is not None and synapse.bias.requires_grad:
                _add(synapse.bias, Gradient()(bias, synapse))
        crosses = self.rule.space.crosses
        inputs = [*([self.x] if crosses else []), *self.layer.parameters(self.layer.before)]
        if inputs:
            torch.autograd.backward(self.sent, pulled.drive, inputs=inputs)
        return self.x.grad if crosses else None


def _add(parameter: Tensor, gradient: Tensor) -> None:
    found = gradient.view_as(parameter)
    parameter.grad = found if parameter.grad is None else parameter.grad + found


class Named:
    """A point of the grid with a name of its own: what it does is what its `rule` does."""

    @property
    def rule(self) -> Rule:
        """The parts it is made of."""
        raise NotImplementedError

    @property
    def exact(self) -> bool:
        """See `Rule.exact`."""
        return self.rule.exact

    @property
    def local(self) -> bool:
        """See `Rule.local`."""
        return self.rule.local

    def slices(self, steps: int) -> Iterable[slice]:
        """See `Credit.slices`."""
        return self.rule.slices(steps)

    def backward(
        self, net: nn.Module, batch: Batch, steps: slice, state: StateTree, loss: Loss,
        autograd: Autograd = torch.autograd.backward,
    ) -> tuple[Tensor, StateTree]:  # fmt: skip
        """See `Credit.backward`."""
        return self.rule.backward(net, batch, steps, state, loss, autograd)
