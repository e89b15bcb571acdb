"""The fused loop as torch sees it: two raw operators, and an autograd function around each.

The raw operators ``timecell::loop`` and ``timecell::loop_adjoint`` have no autograd of their own; `Run` gives the first
its gradient by calling the second through `Back`, and `Back` refuses to be differentiated again. Simpler
registrations give silently wrong second derivatives. Both functions carry a ``vmap`` rule that folds the mapped axis
into the batch, so `torch.func.grad`, `vmap`, per-sample gradients and `jacrev` work.

Everything here is in kernel layout: inputs [B, T, N], states [B, N], parameters [1 or B, N].
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from timecell.errors import InputError
from timecell.fuse import allocator, cache, pool
from timecell.fuse.emit import Program, emit_adjoint, emit_forward
from timecell.fuse.trace import Step, trace, trace_adjoint

Flags = tuple[bool, ...]
FAR = 16 << 20  # bytes the adjoint walks over beyond which they no longer lie in the caches


class Plan:
    """A step ready to run at one precision: its graphs, its emitted programs, its compiled kernels."""

    def __init__(self, step: Step, dtype: torch.dtype, key: str) -> None:
        allocator.keep_freed_pages()
        self.step, self.dtype, self.key = step, dtype, key
        self.forward_program: Program = emit_forward(step, trace(step, dtype), dtype)
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
            self._adjoint_programs[key] = emit_adjoint(self.step, self.adjoint_graph, self.dtype, learn, recorded)
        return self._adjoint_programs[key]

    def saved(self, learn: Flags, recorded: Flags) -> set[str]:
        """Which inputs and state trajectories the adjoint reads."""
        return set(self.adjoint_program(learn, recorded).arguments)

    def constants(self, program: Program) -> np.ndarray:
        """The program's constants as the array ``c``."""
        if id(program) not in self._constants:
            self._constants[id(program)] = np.array(program.constants or (0.0,), dtype=str(self.dtype)[6:])
        return self._constants[id(program)]


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
            _plans[known] = Plan(step, dtype, known)
            _keys[step.key, dtype] = known
    return known


def plan(key: str) -> Plan:
    """The plan of a key."""
    return _plans[key]


# --- the raw operators -------------------------------------------------------------------------------------------

_library = torch.library.Library("timecell", "DEF")
_library.define("loop(str key, Tensor[] x, Tensor[] s, Tensor[] p, Tensor? lengths, bool[] keep) -> Tensor[]")
_library.define(
    "loop_adjoint(str key, Tensor[] x, Tensor[] s, Tensor[] p, Tensor? lengths, Tensor g_y, Tensor[] g_s, Tensor[] traces,"
    " bool[] learn, bool[] recorded, bool carry) -> Tensor[]"
)


def _lengths(lengths: Tensor | None, rows: int, steps: int) -> np.ndarray:
    if lengths is None:
        return np.full(rows, steps, dtype=np.int64)
    return np.ascontiguousarray(lengths.detach().numpy(), dtype=np.int64)


def _array(t: Tensor) -> np.ndarray:
    return t.detach().contiguous().numpy()


def _loop(
    key: str, x: list[Tensor], s: list[Tensor], p: list[Tensor], lengths: Tensor | None, keep: list[bool]
) -> list[Tensor]:
    this = plan(key)
    step, program = this.step, this.forward_program
    kernel = cache.load(program.source).forward
    rows, steps, units = x[0].shape
    y = torch.empty_like(x[0], memory_format=torch.contiguous_format)
    states = []
    for initial, all_steps in zip(s, keep):  # two rows are enough where the past is not needed again
        buffer = initial.new_empty(rows, steps + 1 if all_steps else 2, units)
        buffer[:, 0] = initial
        states.append(buffer)
    inputs = dict(zip(step.inputs, x))
    with torch.no_grad():
        given = program.hoist(dict(zip(step.params, p)))
    arguments = [_array(inputs[n]) for n in program.arguments if n in inputs]
    arguments += [b.detach().numpy() for b in states] + [_array(g) for g in given]
    arguments += [this.constants(program), y.detach().numpy(), _lengths(lengths, rows, steps)]
    arguments += [np.array([-1 if k else 1 for k in keep], dtype=np.int64)]
    pool.run(kernel, arguments, rows, steps, units)
    finals = [b[:, steps if k else steps & 1].clone() for b, k in zip(states, keep)]
    return [y, *finals, *(b for b, k in zip(states, keep) if k)]


def _loop_fake(
    key: str, x: list[Tensor], s: list[Tensor], p: list[Tensor], lengths: Tensor | None, keep: list[bool]
) -> list[Tensor]:
    rows, steps, units = x[0].shape
    trajectories = [x[0].new_empty(rows, steps + 1, units) for k in keep if k]
    return [torch.empty_like(x[0]), *(x[0].new_empty(rows, units) for _ in s), *trajectories]


def _loop_adjoint(
    key: str, x: list[Tensor], s: list[Tensor], p: list[Tensor], lengths: Tensor | None, g_y: Tensor, g_s: list[Tensor],
    traces: list[Tensor], learn: list[bool], recorded: list[bool], carry: bool,
) -> list[Tensor]:  # fmt: skip
    """x and s hold what `Plan.saved` names, in order; returns blame of inputs, first states, learnt parameters."""
    this = plan(key)
    step, program = this.step, this.adjoint_program(tuple(learn), tuple(recorded))
    kernel = cache.load(program.source).adjoint
    rows, steps, units = g_y.shape
    saved = dict(zip(program.arguments, [*x, *s]))
    with torch.no_grad():
        given = program.hoist(dict(zip(step.params, p)))
    arguments: list[Any] = [*(_array(saved[n]) for n in program.arguments), _array(g_y)]
    arguments += [_array(t) for t in traces] + [_array(g) for g in given] + [this.constants(program)]
    blame_x = [torch.empty_like(g_y, memory_format=torch.contiguous_format) for _ in step.inputs]
    blame_s = [g.clone(memory_format=torch.contiguous_format) for g in g_s]
    blame_p = [g_y.new_zeros(rows, units) for need in learn if need]
    out = [*blame_x, *blame_s, *blame_p]
    far = g_y.nbytes * (len(saved) + 2) > FAR
    arguments += [b.detach().numpy() for b in out] + [_lengths(lengths, rows, steps), carry, far]
    pool.run(kernel, arguments, rows, steps, units)
    return out


def _loop_adjoint_fake(
    key: str, x: list[Tensor], s: list[Tensor], p: list[Tensor], lengths: Tensor | None, g_y: Tensor, g_s: list[Tensor],
    traces: list[Tensor], learn: list[bool], recorded: list[bool], carry: bool,
) -> list[Tensor]:  # fmt: skip
    rows, _, units = g_y.shape
    inputs = len(plan(key).step.inputs)
    small = [g_y.new_empty(rows, units) for _ in range(len(g_s) + sum(learn))]
    return [*(torch.empty_like(g_y) for _ in range(inputs)), *small]


_library.impl("loop", _loop, "CPU")
_library.impl("loop_adjoint", _loop_adjoint, "CPU")
torch.library.register_fake("timecell::loop", _loop_fake, lib=_library)
torch.library.register_fake("timecell::loop_adjoint", _loop_adjoint_fake, lib=_library)


# --- autograd ----------------------------------------------------------------------------------------------------

SECOND = InputError(
    "second derivatives", found="a gradient of a gradient through a fused loop",
    expected="first derivatives only (the fused adjoint has no adjoint)",
    remedy='run the net under timecell.fuse.backend("plain")',
)  # fmt: skip


class Run(torch.autograd.Function):
    """(y, last states, recorded or needed trajectories) of a loop, with its gradient."""

    @staticmethod
    def forward(
        key: str, learn: Flags, recorded: Flags, keep: Flags, carry: bool, lengths: Tensor | None, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        """The raw operator."""
        n, m = len(plan(key).step.inputs), len(plan(key).step.states)
        x, s, p = list(tensors[:n]), list(tensors[n : n + m]), list(tensors[n + m :])
        return tuple(torch.ops.timecell.loop(key, x, s, p, lengths, list(keep)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep what the adjoint reads."""
        key, learn, recorded, keep, carry, lengths, *tensors = inputs
        step, saved = plan(key).step, plan(key).saved(learn, recorded)
        n, m = len(step.inputs), len(step.states)
        kept = [s for s, k in zip(step.states, keep) if k]
        trajectories = dict(zip(kept, output[1 + m :]))
        recorded_names = [s for s, r in zip(step.states, recorded) if r]
        ctx.mark_non_differentiable(*(t for s, t in trajectories.items() if s not in recorded_names))
        ctx.set_materialize_grads(False)
        ctx.config = (key, learn, recorded, keep, carry)
        ctx.shape = tensors[0].shape
        x = [t for name, t in zip(step.inputs, tensors) if name in saved]
        s = [trajectories[name] for name in step.states if name in saved]
        ctx.save_for_backward(lengths, *x, *s, *tensors[n + m :])
        ctx.counts = (len(x), len(s))
        ctx.like = tensors[0].detach().new_empty(0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        """The adjoint loop, through `Back`; parameters shared by all rows get the sum over rows."""
        key, learn, recorded, keep, carry = ctx.config
        step = plan(key).step
        m, (n_x, n_s) = len(step.states), ctx.counts
        lengths, *saved = ctx.saved_tensors
        x, s, p = saved[:n_x], saved[n_x : n_x + n_s], saved[n_x + n_s :]
        rows, steps, units = ctx.shape
        g_y = grads[0] if grads[0] is not None else ctx.like.new_zeros(rows, steps, units)
        g_s = [g if g is not None else ctx.like.new_zeros(rows, units) for g in grads[1 : 1 + m]]
        kept = [name for name, k in zip(step.states, keep) if k]
        blame_of = dict(zip(kept, grads[1 + m :]))
        traces = []
        for name, r in zip(step.states, recorded):
            if r:  # row t + 1 of a trajectory is the state after step t; row 0, the given state, was never handed out
                g = blame_of[name]
                traces.append(g[:, 1:] if g is not None else ctx.like.new_zeros(rows, steps, units))
        # torch.compile refuses second derivatives by itself, and cannot look into a function inside a backward
        adjoint = Back.forward if torch.compiler.is_compiling() else Back.apply
        blame = adjoint(key, learn, recorded, carry, lengths, n_x, n_s, len(p), m, *x, *s, *p, g_y, *g_s, *traces)
        n = len(step.inputs)
        learnt = iter(blame[n + m :])
        g_p = [None if not need else _sum_rows(next(learnt), q) for need, q in zip(learn, p)]
        return (None,) * 6 + (*blame[: n + m], *g_p)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        """A mapped axis becomes rows."""
        settings, lengths, tensors = args[:5], args[5], args[6:]
        lengths, folded = _fold(info.batch_size, lengths, in_dims[5], tensors, in_dims[6:])
        out = Run.apply(*settings, lengths, *folded)
        return _unfold(info.batch_size, out)


class Back(torch.autograd.Function):
    """The adjoint loop; differentiating it once more is an error, not a wrong answer."""

    @staticmethod
    def forward(
        key: str, learn: Flags, recorded: Flags, carry: bool, lengths: Tensor | None, n_x: int, n_s: int, n_p: int, m: int,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """The raw operator."""
        x, s, p, g_y, g_s, traces = _cut(tensors, n_x, n_s, n_p, 1, m)
        return tuple(
            torch.ops.timecell.loop_adjoint(
                key, x, s, p, lengths, g_y[0], g_s, traces, list(learn), list(recorded), carry
            )
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Nothing is kept: there is no second adjoint."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        """Always an error."""
        raise SECOND

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        """A mapped axis becomes rows."""
        settings, lengths, counts, tensors = args[:4], args[4], args[5:9], args[9:]
        lengths, folded = _fold(info.batch_size, lengths, in_dims[4], tensors, in_dims[9:])
        out = Back.apply(*settings, lengths, *counts, *folded)
        return _unfold(info.batch_size, out)


def _cut(tensors: Sequence[Tensor], *sizes: int) -> list[list[Tensor]]:
    """Consecutive pieces of these sizes, and the rest."""
    pieces, start = [], 0
    for size in (*sizes, len(tensors) - sum(sizes)):
        pieces.append(list(tensors[start : start + size]))
        start += size
    return pieces


def _sum_rows(blame: Tensor, param: Tensor) -> Tensor:
    """A parameter shared by all rows gets the sum over rows."""
    return blame.sum(0, keepdim=True) if param.shape[0] == 1 else blame


def _fold(
    size: int, lengths: Tensor | None, lengths_dim: int | None, tensors: Sequence[Tensor], dims: Sequence[int | None]
) -> tuple[Tensor | None, list[Tensor]]:
    """Put a mapped axis of `size` into the rows: [V, B, ...] becomes [V * B, ...]."""
    parts = [t.movedim(d, 0) if d is not None else t.expand(size, *t.shape) for t, d in zip(tensors, dims)]
    rows = max(t.shape[1] for t in parts)
    folded = []
    for t, d in zip(parts, dims):
        if t.shape[1] == 1 and rows > 1 and d is None:
            folded.append(t[0])  # a shared parameter that is not mapped stays shared
        else:
            folded.append(t.expand(size, rows, *t.shape[2:]).flatten(0, 1) if t.shape[1] == 1 else t.flatten(0, 1))
    if lengths is not None:
        lengths = (lengths.movedim(lengths_dim, 0) if lengths_dim is not None else lengths.expand(size, -1)).flatten()
    return lengths, folded


def _unfold(size: int, out: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    return tuple(t.unflatten(0, (size, -1)) for t in out), (0,) * len(out)
