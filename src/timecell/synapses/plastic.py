"""Synapses that learn while they run: the weights are state, and a rule moves them at every instant.

    y_t = neuron(W_{t-1} x_t)
    W_t = W_{t-1} + rule(x_t, y_t, W_{t-1}, modulator_t), clipped to the rule's bounds

This is not credit assignment: nothing is trained, weights are what the net remembers. Every sample has weights of its
own, [B, O, I], which begin at the layer's `weight` and come back in its state; the state of one sample goes on into
the next by being passed on.

A rule that needs a modulator (`ThreeFactor`) takes it from the last channels of the input: one for all outputs, or
one for each.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell import fuse
from timecell.cell import Cell, check_sequence
from timecell.combine import announce_loop, as_cell, silence
from timecell.errors import InputError
from timecell.state import StateTree, map_state
from timecell.synapses.plasticity import STDP, Plasticity


class PlasticSynapse(Cell):
    """A linear layer and the neurons behind it, whose weights move by a rule of plasticity.

    Args:
        inputs: I.
        outputs: O.
        rule: how the weights move.
        neuron: what the weighted input drives, O units to O units: a `Neuron`, another cell that streams, or a plain
            module; the identity makes linear units.
        weight: [O, I] weights to begin with; None = random, within the rule's bounds if it has two, else
            between -1/sqrt(I) and 1/sqrt(I), clipped. They are a parameter: training may learn where learning begins.
        differentiable: whether gradients pass through the changes of the weights (differentiable plasticity: Miconi,
            Clune & Stanley, 2018). Without it a change counts as a constant.

    Shapes: x [B, T, I], with a modulator [B, T, I + 1] or [B, T, I + O] -> y [B, T, O]; state {"neuron": its state,
    "weight": [B, O, I], "rule": what the rule remembers}.

    This runs as a Python loop over time and says so once.

    Example:
        >>> from timecell import LIF
        >>> synapse = PlasticSynapse(3, 2, STDP(), LIF(2))
        >>> y, state = synapse((torch.rand(4, 50, 3) < 0.2).float())
        >>> tuple(y.shape), tuple(state["weight"].shape)
        ((4, 50, 2), (4, 2, 3))
    """

    @classmethod
    def example(cls) -> PlasticSynapse:
        """For the checks."""
        return cls(4, 3, STDP(a_plus=0.1, tau_minus=5.0, mu=1.0), nn.Sigmoid(), differentiable=True)

    def __init__(
        self,
        inputs: int,
        outputs: int,
        rule: Plasticity,
        neuron: nn.Module | None = None,
        *,
        weight: Float[Tensor, "O I"] | None = None,
        differentiable: bool = False,
    ) -> None:
        super().__init__()
        if min(inputs, outputs) < 1:
            raise InputError(
                "PlasticSynapse(inputs, outputs)", found=(inputs, outputs), expected="two positive widths",
                remedy="mend the argument",
            )  # fmt: skip
        self.inputs, self.outputs, self.rule, self.differentiable = inputs, outputs, rule, differentiable
        self.neuron = nn.Identity() if neuron is None else neuron
        if not as_cell(self.neuron).streams:
            raise InputError(
                "PlasticSynapse(neuron)", found=f"{type(neuron).__name__}, which needs the future",
                expected="a cell that streams", remedy="put that cell behind the synapse",
            )  # fmt: skip
        self.weight = nn.Parameter(self._start() if weight is None else weight.detach().clone())
        low, high = rule.bounds
        if self.weight.shape != (outputs, inputs) or not bool(((low <= self.weight) & (self.weight <= high)).all()):
            raise InputError(
                "PlasticSynapse(weight)", found=f"{list(self.weight.shape)} from {self.weight.min():g} to "
                f"{self.weight.max():g}", expected=f"[{outputs}, {inputs}] within the rule's bounds {rule.bounds}",
                remedy="mend the weights or the bounds",
            )  # fmt: skip

    def _start(self) -> Tensor:
        low, high = self.rule.bounds
        weight = torch.empty(self.outputs, self.inputs)
        if math.isfinite(high - low):
            return weight.uniform_(low, high)
        edge = 1 / math.sqrt(self.inputs)
        return weight.uniform_(-edge, edge).clamp(low, high)

    def initial_state(self, batch: int, like: Tensor) -> StateTree:
        """The layer's weights for every sample, neurons at rest, and a rule that has seen nothing."""
        like = like.new_zeros(batch, 1, self.outputs, dtype=torch.promote_types(like.dtype, torch.float32))
        weight = self.weight.to(like).repeat(batch, 1, 1)
        neuron = as_cell(self.neuron).initial_state(batch, like)
        return {"neuron": neuron, "weight": weight, "rule": self.rule.rest(weight.detach())}

    def forward(
        self, x: Float[Tensor, "B T C"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T O"], StateTree]:
        """One instant after the other; the weights of a sample stay as they are after its end."""
        check_sequence("PlasticSynapse(x)", x, lengths)
        self._check_channels(x)
        announce_loop("PlasticSynapse", x.shape[1])
        state = self.initial_state(x.shape[0], x) if state is None else state
        self._check_state(x, state)
        s, w, memory = state["neuron"], state["weight"], state["rule"]
        neuron, (low, high) = as_cell(self.neuron), self.rule.bounds
        pre, modulator = silence(x.to(w.dtype), lengths).split([self.inputs, x.shape[2] - self.inputs], -1)
        outputs = [w.new_zeros(x.shape[0], 0, self.outputs)]
        with fuse.backend("plain"):  # for a single instant the plain step is faster than a call of the fused loop
            for t in range(x.shape[1]):
                now = None if lengths is None else lengths > t
                current = (w @ pre[:, t, :, None]).transpose(1, 2)
                y, s = neuron(current, s, lengths=None if now is None else now.long())
                self._check_outputs(y)
                with torch.set_grad_enabled(self.differentiable and torch.is_grad_enabled()):
                    change, after = self.rule.step(pre[:, t], y[:, 0], w, memory, modulator[:, t])
                moved = (w + change).clamp(low, high)
                w, memory = (moved, after) if now is None else _where(now, (moved, after), (w, memory))
                outputs.append(y)
        return torch.cat(outputs, 1).to(x.dtype), {"neuron": s, "weight": w, "rule": memory}

    def _check_channels(self, x: Tensor) -> None:
        widths = sorted({self.inputs + n for n in ((1, self.outputs) if self.rule.modulated else (0,))})
        if x.ndim != 3 or x.shape[2] not in widths:
            modulator = f", {self.inputs} inputs and then the modulator" if self.rule.modulated else ""
            raise InputError(
                "PlasticSynapse(x)", found=f"shape {list(x.shape)}",
                expected=" or ".join(f"[B, T, {n}]" for n in widths) + modulator,
                remedy="append the modulator as last channel" if modulator else "match the layer's inputs",
            )  # fmt: skip

    def _check_state(self, x: Tensor, state: StateTree) -> None:
        wanted = [x.shape[0], self.outputs, self.inputs]
        weight = state.get("weight") if isinstance(state, dict) else None
        if weight is None or list(weight.shape) != wanted:
            raise InputError(
                "PlasticSynapse(state)", found=type(state).__name__ if weight is None else f"weights {list(weight.shape)}",
                expected=f"a dict of neuron, weight {wanted} and rule",
                remedy="pass the state this cell returned for a batch of this size, or None to start anew",
            )  # fmt: skip

    def _check_outputs(self, y: Tensor) -> None:
        if y.shape[1:] != (1, self.outputs):
            raise InputError(
                "PlasticSynapse(neuron)", found=f"an output of shape {list(y.shape[2:])}",
                expected=f"as many units as the synapse has outputs, {self.outputs}", remedy="match the two",
            )  # fmt: skip

    def extra_repr(self) -> str:
        """Widths and rule."""
        return f"{self.inputs}, {self.outputs}, rule={self.rule}"


def _where(now: Tensor, new: StateTree, old: StateTree) -> StateTree:
    """The new state of the samples that still go on, the old one of the others."""
    return map_state(lambda a, b: torch.where(now.view(-1, *[1] * (a.ndim - 1)), a, b), new, old)
