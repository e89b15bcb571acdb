"""A step made ready to run: traced, emitted, compiled; one kind of plan for each fused grain.

A `Plan` calls its kernels on plain arrays and knows nothing of autograd (that is `operator.py`). Tensors come in kernel
layout: inputs [B, T, N], states [B, N], parameters [1 or B, N], where N counts the values of that argument in one
sample. In the unit grain every N is the same; in the row grain each argument has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx

from timecell.fuse import allocator, cache, emit, pool
from timecell.fuse.allocator import fresh
from timecell.fuse.emit import Program
from timecell.fuse.graphs import copied, multiply_by_reciprocals
from timecell.fuse.partition import Kept, cheapest, joined, without
from timecell.fuse.trace import Step, results, trace, trace_adjoint

Flags = tuple[bool, ...]


class Outcome(NamedTuple):
    """What a loop returns: y [B, T, N], last states [B, N], trajectories of states [B, T + 1, N], values [B, T, N]."""

    y: Tensor
    finals: list[Tensor]
    courses: list[Tensor]
    values: list[Tensor]


class Blame(NamedTuple):
    """What an adjoint returns: blame of the inputs [B, T, N], the first states [B, N], the learnt parameters [B, N]."""

    x: list[Tensor]
    s: list[Tensor]
    p: list[Tensor]


@dataclass(frozen=True)
class Pair:
    """A loop and its adjoint, made for each other: what one keeps, the other reads.

    Attributes:
        forward: the program of the loop.
        adjoint: the program of its adjoint.
        kept: what the adjoint reads of the instants.
        types: of the kept values.
    """

    forward: Program
    adjoint: Program
    kept: Kept
    types: tuple[torch.dtype, ...] = ()


class Plan:
    """A step of independent units, ready to run at one precision: its graphs, its programs, its compiled kernels."""

    emitter: Any = emit

    def __init__(self, step: Step, dtype: torch.dtype, key: str) -> None:
        allocator.keep_freed_pages()
        self.step, self.dtype, self.key = step, dtype, key
        self.graph = trace(step, dtype)
        self.output_shape = tuple(results(self.graph)[0].meta["val"].shape)
        self._pairs: dict[tuple[Flags, Flags], Pair] = {}
        self._constants: dict[int, np.ndarray] = {}
        self.inference: Program = self.emit_inference()
        # what a grain lacks may show in the adjoint only: better now than later
        self.pair((True,) * len(step.params), (False,) * len(step.states))

    @cached_property
    def adjoint_graph(self) -> fx.Graph:
        """The traced vector-Jacobian product."""
        return trace_adjoint(self.step, self.dtype)

    def emit_inference(self) -> Program:
        """The loop where no gradient is wanted."""
        graph = copied(self.graph)
        multiply_by_reciprocals(graph, self.step.params)
        return self.emitter.emit_forward(self.step, graph, self.dtype)

    def pair(self, learn: Flags, recorded: Flags) -> Pair:
        """Loop and adjoint for these learnt parameters and these recorded states."""
        if (learn, recorded) not in self._pairs:
            self._pairs[learn, recorded] = self.emit_pair(learn, recorded)
        return self._pairs[learn, recorded]

    def emit_pair(self, learn: Flags, recorded: Flags) -> Pair:
        """See `pair`."""
        step, graph = self.step, copied(self.adjoint_graph)
        multiply_by_reciprocals(graph, step.params)
        traces = [s for s, r in zip(step.states, recorded) if r]
        kept = cheapest(step, graph, emit.wanted_results(step, graph, learn), traces)
        forward = copied(self.graph)
        multiply_by_reciprocals(forward, step.params)
        return Pair(
            self.emitter.emit_forward(step, joined(step, forward, graph, kept), self.dtype),
            self.emitter.emit_adjoint(step, without(graph, kept), self.dtype, learn, recorded),
            kept, tuple(n.meta["val"].dtype for n in kept.values),
        )  # fmt: skip

    def constants(self, program: Program) -> np.ndarray:
        """The program's constants as the array ``c``."""
        if id(program) not in self._constants:
            self._constants[id(program)] = np.array(program.constants or (0.0,), dtype=str(self.dtype)[6:])
        return self._constants[id(program)]

    def given(self, program: Program, p: Sequence[Tensor]) -> list[Tensor]:
        """What depends on parameters alone, computed by torch."""
        with torch.no_grad():
            return program.hoist(dict(zip(self.step.params, p)))

    def width(self, units: int) -> int:
        """Values of y in one sample, where the input has so many."""
        return units

    def forward(
        self, x: Sequence[Tensor], s: Sequence[Tensor], p: Sequence[Tensor], lengths: Tensor | None, keep: Flags,
        pair: Pair | None = None,
    ) -> Outcome:  # fmt: skip
        """All of time.

        Args:
            x, s, p: inputs, states and parameters.
            lengths: of the samples.
            keep: states whose trajectories are wanted.
            pair: where the adjoint will be asked for; its forward program then keeps what that needs.
        """
        step, program = self.step, pair.forward if pair else self.inference
        kernel = cache.load(program.source).forward
        rows, steps, units = x[0].shape
        y = fresh(x[0].shape, x[0].dtype)
        states = []
        for initial, all_steps in zip(s, keep):  # two rows are enough where the past is not needed again
            buffer = fresh((rows, steps + 1 if all_steps else 2, units), initial.dtype)
            buffer[:, 0] = initial
            states.append(buffer)
        values = [fresh(y.shape, t) for t in (pair.types if pair else ())]
        inputs = dict(zip(step.inputs, x))
        arguments = [array(inputs[n]) for n in program.arguments if n in inputs]
        arguments += [b.detach().numpy() for b in states] + [array(g) for g in self.given(program, p)]
        arguments += [self.constants(program), y.detach().numpy(), *(v.numpy() for v in values)]
        arguments += [ends(lengths, rows, steps)]
        arguments += [np.array([-1 if k else 1 for k in keep] + [-1] * len(values), dtype=np.int64)]
        pool.run(kernel, arguments, rows, steps, units)
        finals = [b[:, steps if k else steps & 1].clone() for b, k in zip(states, keep)]
        return Outcome(y, finals, [b for b, k in zip(states, keep) if k], values)

    def adjoint(
        self, pair: Pair, x: Sequence[Tensor], s: Sequence[Tensor], values: Sequence[Tensor], p: Sequence[Tensor],
        lengths: Tensor | None, g_y: Tensor, g_s: Sequence[Tensor], traces: Sequence[Tensor], learn: Flags, carry: bool,
    ) -> Blame:  # fmt: skip
        """All of time, backwards.

        Args:
            pair: the loop that ran, and its adjoint.
            x, s, values: what `pair.kept` names: inputs, trajectories of states, values.
            p: parameters.
            lengths: of the samples.
            g_y, g_s, traces: blame of y, of the last states, of the trajectories of the recorded states.
            learn: which parameters have blame.
            carry: whether blame crosses time.
        """
        step, program = self.step, pair.adjoint
        kernel = cache.load(program.source).adjoint
        rows, steps, units = g_y.shape
        arguments: list[Any] = [array(t) for t in (*x, *s, *values, g_y, *traces, *self.given(program, p))]
        arguments += [self.constants(program)]
        blame_x = [fresh(g_y.shape, g_y.dtype) for _ in step.inputs]
        blame_s = [g.clone(memory_format=torch.contiguous_format) for g in g_s]
        blame_p = [g_y.new_zeros(rows, units) for need in learn if need]
        arguments += [b.detach().numpy() for b in (*blame_x, *blame_s, *blame_p)]
        arguments += [ends(lengths, rows, steps), carry]
        pool.run(kernel, arguments, rows, steps, units)
        return Blame(blame_x, blame_s, blame_p)


def ends(lengths: Tensor | None, rows: int, steps: int) -> np.ndarray:
    """The lengths of all samples as an array."""
    if lengths is None:
        return np.full(rows, steps, dtype=np.int64)
    return np.ascontiguousarray(lengths.detach().numpy(), dtype=np.int64)


def array(t: Tensor) -> np.ndarray:
    """The numbers of a tensor, contiguous."""
    return t.detach().resolve_conj().resolve_neg().contiguous().numpy()
