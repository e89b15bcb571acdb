"""A step made ready to run: traced, emitted, compiled; one kind of plan for each fused grain.

A `Plan` calls its kernels on plain arrays and knows nothing of autograd (that is `operator.py`). Tensors come in kernel
layout: inputs [B, T, N], states [B, N], parameters [1 or B, N], where N counts the values of that argument in one
sample. In the unit grain every N is the same; in the row grain each argument has its own.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx

from timecell.fuse import allocator, cache, emit, pool, row
from timecell.fuse.emit import Program
from timecell.fuse.graphs import copied, multiply_by_reciprocals
from timecell.fuse.partition import Kept, cheapest, joined, without
from timecell.fuse.row import LANES
from timecell.fuse.trace import Step, results, trace, trace_adjoint

Flags = tuple[bool, ...]
FAR = 16 << 20  # bytes the adjoint walks over beyond which they no longer lie in the caches


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
        y = torch.empty_like(x[0], memory_format=torch.contiguous_format)
        states = []
        for initial, all_steps in zip(s, keep):  # two rows are enough where the past is not needed again
            buffer = initial.new_empty(rows, steps + 1 if all_steps else 2, units)
            buffer[:, 0] = initial
            states.append(buffer)
        values = [y.new_empty(rows, steps, units, dtype=t) for t in (pair.types if pair else ())]
        inputs = dict(zip(step.inputs, x))
        arguments = [_array(inputs[n]) for n in program.arguments if n in inputs]
        arguments += [b.detach().numpy() for b in states] + [_array(g) for g in self.given(program, p)]
        arguments += [self.constants(program), y.detach().numpy(), *(v.numpy() for v in values)]
        arguments += [_lengths(lengths, rows, steps)]
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
        arguments: list[Any] = [_array(t) for t in (*x, *s, *values, g_y, *traces, *self.given(program, p))]
        arguments += [self.constants(program)]
        blame_x = [torch.empty_like(g_y, memory_format=torch.contiguous_format) for _ in step.inputs]
        blame_s = [g.clone(memory_format=torch.contiguous_format) for g in g_s]
        blame_p = [g_y.new_zeros(rows, units) for need in learn if need]
        far = g_y.nbytes * (len(x) + len(s) + len(values) + 2) > FAR
        arguments += [b.detach().numpy() for b in (*blame_x, *blame_s, *blame_p)]
        arguments += [_lengths(lengths, rows, steps), carry, far]
        pool.run(kernel, arguments, rows, steps, units)
        return Blame(blame_x, blame_s, blame_p)


class RowPlan(Plan):
    """A step whose units mix inside a sample. Its kernels walk groups of `LANES` samples; arrays are [group, ..., lane]."""

    def emit_inference(self) -> Program:
        """See `Plan.emit_inference`."""
        return row.emit_forward(self.step, copied(self.graph), self.dtype)

    def emit_pair(self, learn: Flags, recorded: Flags) -> Pair:
        """See `Plan.pair`. The adjoint reads inputs and states, and computes again what else it needs."""
        step = self.step
        adjoint = row.emit_adjoint(step, copied(self.adjoint_graph), self.dtype, learn, recorded)
        reads = adjoint.arguments
        kept = Kept(tuple(n for n in step.inputs if n in reads), tuple(n for n in step.states if n in reads))
        return Pair(self.inference, adjoint, kept)

    def width(self, units: int) -> int:
        """Values of y in one sample."""
        return prod(self.output_shape)

    def given(self, program: Program, p: Sequence[Tensor]) -> list[Tensor]:
        """As in `Plan`; parameters come as [1, N] and are wanted in their own shapes."""
        shapes = (self.step.shapes or ())[-len(self.step.params) :] if self.step.params else ()
        return super().given(program, [q.reshape(shape) for q, shape in zip(p, shapes)])

    def forward(
        self, x: Sequence[Tensor], s: Sequence[Tensor], p: Sequence[Tensor], lengths: Tensor | None, keep: Flags,
        pair: Pair | None = None,
    ) -> Outcome:  # fmt: skip
        """See `Plan.forward`."""
        if any(q.shape[0] > 1 for q in p):  # parameters of their own for each sample (under vmap)
            each = [
                self.forward(_row(x, b), _row(s, b), _row(p, b), _row([lengths], b)[0], keep)
                for b in range(x[0].shape[0])
            ]
            return Outcome(torch.cat([o.y for o in each]), *(_stacked(o[i] for o in each) for i in (1, 2, 3)))
        program, step = self.inference, self.step
        kernel = cache.load(program.source).forward
        rows, steps = x[0].shape[:2]
        groups = -(-rows // LANES)
        y = x[0].new_empty(groups, steps, self.width(0), LANES)
        states = [_pack(t[:, None]) for t in s]
        courses = [t.new_empty(groups, steps + 1 if k else 0, t.shape[2], LANES) for t, k in zip(states, keep)]
        for course, state in zip(courses, states):
            course[:, :1] = state
        inputs = dict(zip(step.inputs, x))
        arguments: list[Any] = [_flat(_pack(inputs[n])) for n in program.arguments if n in inputs]
        arguments += [_flat(g) for g in self.given(program, p)] + [self.constants(program), _flat(y)]
        arguments += [_flat(t) for t in states] + [_flat(c) for c in courses]
        arguments += [_group_lengths(lengths, rows, steps), np.array(keep, dtype=np.int64), steps]
        pool.run_groups(kernel, arguments, groups, y.numel() * steps)
        finals = [_unpack(t, rows)[:, 0] for t in states]
        return Outcome(_unpack(y, rows), finals, [_unpack(c, rows) for c, k in zip(courses, keep) if k], [])

    def adjoint(
        self, pair: Pair, x: Sequence[Tensor], s: Sequence[Tensor], values: Sequence[Tensor], p: Sequence[Tensor],
        lengths: Tensor | None, g_y: Tensor, g_s: Sequence[Tensor], traces: Sequence[Tensor], learn: Flags, carry: bool,
    ) -> Blame:  # fmt: skip
        """See `Plan.adjoint`."""
        if any(q.shape[0] > 1 for q in p):
            each = [
                self.adjoint(
                    pair, _row(x, b), _row(s, b), (), _row(p, b), _row([lengths], b)[0], g_y[b : b + 1], _row(g_s, b),
                    _row(traces, b), learn, carry,
                )
                for b in range(g_y.shape[0])
            ]  # fmt: skip
            return Blame(*(_stacked(column) for column in zip(*each)))
        program, step = pair.adjoint, self.step
        kernel = cache.load(program.source).adjoint
        rows, steps, _ = g_y.shape
        groups = -(-rows // LANES)
        shapes = step.shapes or ()
        sizes = [prod(shape) for shape in shapes]
        n, m = len(step.inputs), len(step.states)
        blame_x = [g_y.new_empty(groups, steps, size, LANES) for size in sizes[:n]]
        blame_s = [_pack(g[:, None]) for g in g_s]
        params = dict(zip(step.params, shapes[n + m :]))
        blame_p = {}  # what the kernel adds up, or the two factors of it
        for output in program.outputs[n + m :]:
            side, _, name = output.partition("_")
            if side == "b":
                blame_p[output] = g_y.new_zeros(groups, 1, prod(params[name]), LANES)
            else:
                blame_p[output] = g_y.new_zeros(groups, steps, params[name][side == "right"], LANES)
        out = [*blame_x, *blame_s, *blame_p.values()]
        arguments: list[Any] = [_flat(_pack(t)) for t in (*x, *s, g_y, *traces)]
        arguments += [_flat(g) for g in self.given(program, p)] + [self.constants(program), *map(_flat, out)]
        arguments += [_group_lengths(lengths, rows, steps), carry, steps]
        pool.run_groups(kernel, arguments, groups, g_y.numel() * steps)
        whole = [_unpack(b, rows) for b in (*blame_x, *blame_s)]
        learnt = [_weight(name, blame_p, rows) for name, need in zip(step.params, learn) if need]
        return Blame(whole[:n], [b[:, 0] for b in whole[n:]], learnt)


def _weight(name: str, blame: Mapping[str, Tensor], rows: int) -> Tensor:
    """Blame [B, N] of a parameter from what the kernel left."""
    if f"b_{name}" in blame:
        return _unpack(blame[f"b_{name}"], rows)[:, 0]
    left, right = (_unpack(blame[f"{side}_{name}"], rows) for side in ("left", "right"))
    return torch.bmm(left.transpose(1, 2), right).flatten(1)


def _pack(t: Tensor) -> Tensor:
    """[B, T, N] to [group, T, N, lane]; lanes without a sample are zero."""
    rows = t.shape[0]
    missing = -rows % LANES
    t = torch.cat([t, t.new_zeros(missing, *t.shape[1:])]) if missing else t
    return t.unflatten(0, (-1, LANES)).permute(0, 2, 3, 1).contiguous()


def _unpack(t: Tensor, rows: int) -> Tensor:
    """The inverse of `_pack`."""
    return t.permute(0, 3, 1, 2).flatten(0, 1)[:rows].contiguous()


def _flat(t: Tensor) -> np.ndarray:
    return t.detach().contiguous().view(-1).numpy()


def _group_lengths(lengths: Tensor | None, rows: int, steps: int) -> np.ndarray:
    out = np.zeros(-(-rows // LANES) * LANES, dtype=np.int64)
    out[:rows] = _lengths(lengths, rows, steps)
    return out


def _row(tensors: Sequence[Any], b: int) -> list[Any]:
    return [None if t is None else t[b : b + 1] if t.shape[0] > 1 else t for t in tensors]


def _stacked(parts: Any) -> list[Tensor]:
    return [torch.cat(column) for column in zip(*parts)]


def _lengths(lengths: Tensor | None, rows: int, steps: int) -> np.ndarray:
    if lengths is None:
        return np.full(rows, steps, dtype=np.int64)
    return np.ascontiguousarray(lengths.detach().numpy(), dtype=np.int64)


def _array(t: Tensor) -> np.ndarray:
    return t.detach().contiguous().numpy()


_lock = threading.RLock()
_plans: dict[str, Plan] = {}
_keys: dict[tuple[Any, torch.dtype, str], str] = {}


@torch.compiler.assume_constant_result
def plan_key(step: Step, dtype: torch.dtype, device: str = "cpu") -> str:
    """The name under which the raw operators find this step's plan; traces and emits at the first call.

    Args:
        step: the instant.
        dtype: float32 or float64.
        device: "cpu" or "cuda".
    """
    with _lock:
        known = _keys.get((step.key, dtype, device))
        if known is None:
            known = f"{step.name}-{str(dtype)[6:]}-{device}-{len(_plans)}"
            _plans[known] = _kind(step, device)(step, dtype, known)
            _keys[step.key, dtype, device] = known
    return known


def _kind(step: Step, device: str) -> type[Plan]:
    if device != "cpu":
        from timecell.fuse.gpu import GPUPlan  # which is written on this file

        return GPUPlan
    return Plan if step.shapes is None else RowPlan


def plan(key: str) -> Plan:
    """The plan of a key."""
    return _plans[key]
