"""A step made ready to run: traced, emitted, compiled; one kind of plan for each fused grain.

A `Plan` calls its kernels on plain arrays and knows nothing of autograd (that is `operator.py`). Tensors come in kernel
layout: inputs [B, T, N], states [B, N], parameters [1 or B, N], where N counts the values of that argument in one
sample. In the unit grain every N is the same; in the row grain each argument has its own.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from timecell.fuse import allocator, cache, emit, pool, row
from timecell.fuse.emit import Program
from timecell.fuse.row import LANES
from timecell.fuse.trace import Step, results, trace, trace_adjoint

Flags = tuple[bool, ...]
FAR = 16 << 20  # bytes the adjoint walks over beyond which they no longer lie in the caches


class Plan:
    """A step of independent units, ready to run at one precision: its graphs, its programs, its compiled kernels."""

    emitter: Any = emit

    def __init__(self, step: Step, dtype: torch.dtype, key: str) -> None:
        allocator.keep_freed_pages()
        self.step, self.dtype, self.key = step, dtype, key
        graph = trace(step, dtype)
        self.output_shape = tuple(results(graph)[0].meta["val"].shape)
        self.forward_program: Program = self.emitter.emit_forward(step, graph, dtype)
        self._adjoint_programs: dict[tuple[Flags, Flags], Program] = {}
        self._constants: dict[int, np.ndarray] = {}

    @cached_property
    def adjoint_graph(self) -> fx.Graph:
        """The traced vector-Jacobian product."""
        return trace_adjoint(self.step, self.dtype)

    def adjoint_program(self, learn: Flags, recorded: Flags) -> Program:
        """The adjoint for these learnt parameters and these recorded states."""
        key = (learn, recorded)
        if key not in self._adjoint_programs:
            graph = fx.Graph()
            graph.output(graph.graph_copy(self.adjoint_graph, {}))
            program = self.emitter.emit_adjoint(self.step, graph, self.dtype, learn, recorded)
            self._adjoint_programs[key] = program
        return self._adjoint_programs[key]

    def saved(self, learn: Flags, recorded: Flags) -> set[str]:
        """Which inputs and state trajectories the adjoint reads."""
        return set(self.adjoint_program(learn, recorded).arguments)

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
        self, x: list[Tensor], s: list[Tensor], p: list[Tensor], lengths: Tensor | None, keep: list[bool]
    ) -> list[Tensor]:
        """y [B, T, N], the last states [B, N], the trajectories [B, T + 1, N] of the states to keep."""
        step, program = self.step, self.forward_program
        kernel = cache.load(program.source).forward
        rows, steps, units = x[0].shape
        y = torch.empty_like(x[0], memory_format=torch.contiguous_format)
        states = []
        for initial, all_steps in zip(s, keep):  # two rows are enough where the past is not needed again
            buffer = initial.new_empty(rows, steps + 1 if all_steps else 2, units)
            buffer[:, 0] = initial
            states.append(buffer)
        inputs = dict(zip(step.inputs, x))
        arguments = [_array(inputs[n]) for n in program.arguments if n in inputs]
        arguments += [b.detach().numpy() for b in states] + [_array(g) for g in self.given(program, p)]
        arguments += [self.constants(program), y.detach().numpy(), _lengths(lengths, rows, steps)]
        arguments += [np.array([-1 if k else 1 for k in keep], dtype=np.int64)]
        pool.run(kernel, arguments, rows, steps, units)
        finals = [b[:, steps if k else steps & 1].clone() for b, k in zip(states, keep)]
        return [y, *finals, *(b for b, k in zip(states, keep) if k)]

    def adjoint(
        self, x: list[Tensor], s: list[Tensor], p: list[Tensor], lengths: Tensor | None, g_y: Tensor, g_s: list[Tensor],
        traces: list[Tensor], learn: Flags, recorded: Flags, carry: bool,
    ) -> list[Tensor]:  # fmt: skip
        """Blame of inputs, first states and learnt parameters; x and s hold what `saved` names, in order."""
        step, program = self.step, self.adjoint_program(learn, recorded)
        kernel = cache.load(program.source).adjoint
        rows, steps, units = g_y.shape
        saved = dict(zip(program.arguments, [*x, *s]))
        arguments: list[Any] = [*(_array(saved[n]) for n in program.arguments), _array(g_y)]
        arguments += [_array(t) for t in traces] + [_array(g) for g in self.given(program, p)]
        arguments += [self.constants(program)]
        blame_x = [torch.empty_like(g_y, memory_format=torch.contiguous_format) for _ in step.inputs]
        blame_s = [g.clone(memory_format=torch.contiguous_format) for g in g_s]
        blame_p = [g_y.new_zeros(rows, units) for need in learn if need]
        out = [*blame_x, *blame_s, *blame_p]
        far = g_y.nbytes * (len(saved) + 2) > FAR
        arguments += [b.detach().numpy() for b in out] + [_lengths(lengths, rows, steps), carry, far]
        pool.run(kernel, arguments, rows, steps, units)
        return out


class RowPlan(Plan):
    """A step whose units mix inside a sample. Its kernels walk groups of `LANES` samples; arrays are [group, ..., lane]."""

    emitter = row

    def __init__(self, step: Step, dtype: torch.dtype, key: str) -> None:
        super().__init__(step, dtype, key)
        everything = (True,) * len(step.params), (False,) * len(step.states)
        self.adjoint_program(
            *everything
        )  # what the row grain lacks may show in the adjoint only: better now than later

    def width(self, units: int) -> int:
        """Values of y in one sample."""
        return prod(self.output_shape)

    def given(self, program: Program, p: Sequence[Tensor]) -> list[Tensor]:
        """As in `Plan`; parameters come as [1, N] and are wanted in their own shapes."""
        shapes = (self.step.shapes or ())[-len(self.step.params) :] if self.step.params else ()
        return super().given(program, [q.reshape(shape) for q, shape in zip(p, shapes)])

    def forward(
        self, x: list[Tensor], s: list[Tensor], p: list[Tensor], lengths: Tensor | None, keep: list[bool]
    ) -> list[Tensor]:
        """See `Plan.forward`."""
        if any(q.shape[0] > 1 for q in p):  # parameters of their own for each sample (under vmap)
            return _stacked(
                self.forward(_row(x, b), _row(s, b), _row(p, b), _row([lengths], b)[0], keep)
                for b in range(x[0].shape[0])
            )
        program, step = self.forward_program, self.step
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
        return [_unpack(y, rows), *finals, *(_unpack(c, rows) for c, k in zip(courses, keep) if k)]

    def adjoint(
        self, x: list[Tensor], s: list[Tensor], p: list[Tensor], lengths: Tensor | None, g_y: Tensor, g_s: list[Tensor],
        traces: list[Tensor], learn: Flags, recorded: Flags, carry: bool,
    ) -> list[Tensor]:  # fmt: skip
        """See `Plan.adjoint`."""
        if any(q.shape[0] > 1 for q in p):
            return _stacked(
                self.adjoint(
                    _row(x, b), _row(s, b), _row(p, b), _row([lengths], b)[0], g_y[b : b + 1], _row(g_s, b),
                    _row(traces, b), learn, recorded, carry,
                )
                for b in range(g_y.shape[0])
            )  # fmt: skip
        program, step = self.adjoint_program(learn, recorded), self.step
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
        return [*whole[:n], *(b[:, 0] for b in whole[n:]), *learnt]


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
_keys: dict[tuple[Any, torch.dtype], str] = {}


@torch.compiler.assume_constant_result
def plan_key(step: Step, dtype: torch.dtype) -> str:
    """The name under which the raw operators find this step's plan; traces and emits at the first call."""
    with _lock:
        known = _keys.get((step.key, dtype))
        if known is None:
            known = f"{step.name}-{str(dtype)[6:]}-{len(_plans)}"
            _plans[known] = (Plan if step.shapes is None else RowPlan)(step, dtype, known)
            _keys[step.key, dtype] = known
    return known


def plan(key: str) -> Plan:
    """The plan of a key."""
    return _plans[key]
