"""The fused loop as torch sees it: two raw operators, and an autograd function around each.

The raw operators ``timecell::loop`` and ``timecell::loop_adjoint`` have no autograd of their own; `Run` gives the first
its gradient by calling the second through `Back`, and `Back` refuses to be differentiated again. Simpler
registrations give silently wrong second derivatives. Both functions carry a ``vmap`` rule that folds the mapped axis
into the batch, so `torch.func.grad`, `vmap`, per-sample gradients and `jacrev` work.

Everything here is in kernel layout (see `plan.py`): inputs [B, T, N], states [B, N], parameters [1 or B, N].
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from timecell.errors import InputError
from timecell.fuse import memory
from timecell.fuse.plan import Flags
from timecell.fuse.plans import plan

# --- the raw operators -------------------------------------------------------------------------------------------

_library = torch.library.Library("timecell", "DEF")
_library.define(
    "loop(str key, Tensor[] x, Tensor[] s, Tensor[] p, Tensor? lengths, bool[] learn, bool[] recorded, int kept)"
    " -> Tensor[]"
)
_library.define(
    "loop_adjoint(str key, Tensor[] x, Tensor[] s, Tensor[] p, Tensor[] values, Tensor? lengths, Tensor g_y, Tensor[] g_s,"
    " Tensor[] traces, bool[] learn, bool[] recorded, bool carry, int kept) -> Tensor[]"
)
NOTHING, EVERYTHING = -1, 0  # what a loop keeps for its adjoint; k > 0 means the states every k steps


def _keep(key: str, learn: Flags, recorded: Flags, kept: int) -> Flags:
    """The states whose trajectories a loop returns: those recorded, and those that the adjoint wants."""
    if kept != EVERYTHING:
        return recorded
    wanted = plan(key).pair(learn, recorded).kept.states
    return tuple(r or name in wanted for name, r in zip(plan(key).step.states, recorded))


def _loop(
    key: str, x: list[Tensor], s: list[Tensor], p: list[Tensor], lengths: Tensor | None, learn: list[bool],
    recorded: list[bool], kept: int,
) -> list[Tensor]:  # fmt: skip
    keep = _keep(key, tuple(learn), tuple(recorded), kept)
    if kept > 0:
        (y, finals, courses, _), values = memory.forward(plan(key), x, s, p, lengths, keep, kept)
    else:
        pair = plan(key).pair(tuple(learn), tuple(recorded)) if kept == EVERYTHING else None
        y, finals, courses, values = plan(key).forward(x, s, p, lengths, keep, pair)
    return [y, *finals, *courses, *values]


def _loop_fake(
    key: str, x: list[Tensor], s: list[Tensor], p: list[Tensor], lengths: Tensor | None, learn: list[bool],
    recorded: list[bool], kept: int,
) -> list[Tensor]:  # fmt: skip
    rows, steps, units = x[0].shape
    keep = _keep(key, tuple(learn), tuple(recorded), kept)
    courses = [t.new_empty(rows, steps + 1, t.shape[1]) for t, k in zip(s, keep) if k]
    values: list[Tensor] = []
    if kept > 0:
        values = [t.new_empty(rows, len(memory.stretches(steps, kept)), t.shape[1]) for t in s]
    elif kept == EVERYTHING:
        types = plan(key).pair(tuple(learn), tuple(recorded)).types
        values = [x[0].new_empty(rows, steps, units, dtype=t) for t in types]
    y = x[0].new_empty(rows, steps, plan(key).width(units))
    return [y, *(torch.empty_like(t) for t in s), *courses, *values]


def _loop_adjoint(
    key: str, x: list[Tensor], s: list[Tensor], p: list[Tensor], values: list[Tensor], lengths: Tensor | None, g_y: Tensor,
    g_s: list[Tensor], traces: list[Tensor], learn: list[bool], recorded: list[bool], carry: bool, kept: int,
) -> list[Tensor]:  # fmt: skip
    this, flags = plan(key), tuple(learn)
    pair = this.pair(flags, tuple(recorded))
    if kept > 0:
        blame = memory.adjoint(this, pair, x, values, p, lengths, g_y, g_s, traces, flags, carry, kept)
    else:
        blame = this.adjoint(pair, x, s, values, p, lengths, g_y, g_s, traces, flags, carry)
    return [*blame.x, *blame.s, *blame.p]


def _loop_adjoint_fake(
    key: str, x: list[Tensor], s: list[Tensor], p: list[Tensor], values: list[Tensor], lengths: Tensor | None, g_y: Tensor,
    g_s: list[Tensor], traces: list[Tensor], learn: list[bool], recorded: list[bool], carry: bool, kept: int,
) -> list[Tensor]:  # fmt: skip
    rows, steps, units = g_y.shape
    step = plan(key).step
    sizes = [units] * len(step.inputs) if step.shapes is None else [prod(shape) for shape in step.shapes]
    blame_x = [g_y.new_empty(rows, steps, size) for size in sizes[: len(step.inputs)]]
    blame_p = [g_y.new_empty(rows, q.shape[1]) for q, need in zip(p, learn) if need]
    return [*blame_x, *(torch.empty_like(g) for g in g_s), *blame_p]


for _device in ("CPU", "CUDA"):
    _library.impl("loop", _loop, _device)
    _library.impl("loop_adjoint", _loop_adjoint, _device)
torch.library.register_fake("timecell::loop", _loop_fake, lib=_library)
torch.library.register_fake("timecell::loop_adjoint", _loop_adjoint_fake, lib=_library)


# --- autograd ----------------------------------------------------------------------------------------------------

SECOND = InputError(
    "second derivatives", found="a gradient of a gradient through a fused loop",
    expected="first derivatives only (the fused adjoint has no adjoint)",
    remedy='run the net under timecell.fuse.backend("plain")',
)  # fmt: skip


class Last(torch.autograd.Function):
    """Base of the adjoints; differentiating one once more is an error, not a wrong answer."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Nothing is kept: there is no second adjoint."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        """Always an error."""
        raise SECOND


class Run(torch.autograd.Function):
    """(y, last states, trajectories, kept values) of a loop, with its gradient."""

    @staticmethod
    def forward(
        key: str, learn: Flags, recorded: Flags, kept: int, carry: bool, lengths: Tensor | None, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        """The raw operator."""
        step = plan(key).step
        x, s, p = _cut(tensors, len(step.inputs), len(step.states))
        return tuple(torch.ops.timecell.loop(key, x, s, p, lengths, list(learn), list(recorded), kept))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep what the adjoint reads."""
        key, learn, recorded, kept, carry, lengths, *tensors = inputs
        step, wanted = plan(key).step, plan(key).pair(learn, recorded).kept
        keep = _keep(key, learn, recorded, kept)
        x, s, p = _cut(tensors, len(step.inputs), len(step.states))
        _, courses, values = _cut(output, 1 + len(s), sum(keep))
        trajectories = dict(zip([s for s, k in zip(step.states, keep) if k], courses))
        recorded_names = [s for s, r in zip(step.states, recorded) if r]
        hidden = [t for s, t in trajectories.items() if s not in recorded_names] + values
        ctx.mark_non_differentiable(*hidden)
        ctx.set_materialize_grads(False)
        ctx.config = (key, learn, recorded, kept, carry)
        ctx.shapes = [t.shape for t in output[: 1 + len(s)]]
        if kept == EVERYTHING:
            x = [t for name, t in zip(step.inputs, x) if name in wanted.inputs]
        s = [trajectories[name] for name in step.states if name in wanted.states and kept == EVERYTHING]
        ctx.save_for_backward(lengths, *x, *s, *p, *values)
        ctx.counts = (len(x), len(s), len(p), len(values))
        ctx.like = tensors[0].detach().new_empty(0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        """The adjoint loop, through `Back`; parameters shared by all rows get the sum over rows."""
        key, learn, recorded, kept, carry = ctx.config
        step = plan(key).step
        n, m = len(step.inputs), len(step.states)
        lengths, *saved = ctx.saved_tensors
        given = [g if g is not None else ctx.like.new_zeros(shape) for g, shape in zip(grads, ctx.shapes)]
        steps, g_y, g_s = ctx.shapes[0][1], given[0], given[1:]
        names = [name for name, k in zip(step.states, _keep(key, learn, recorded, kept)) if k]
        blame_of = dict(zip(names, grads[1 + m :]))
        traces = []
        for name, r in zip(step.states, recorded):
            if r:  # row t + 1 of a trajectory is the state after step t; row 0, the given state, was never handed out
                g = blame_of[name]
                rows, units = ctx.shapes[1 + step.states.index(name)]
                traces.append(g[:, 1:] if g is not None else ctx.like.new_zeros(rows, steps, units))
        # torch.compile refuses second derivatives by itself, and cannot look into a function inside a backward
        adjoint = Back.forward if torch.compiler.is_compiling() else Back.apply
        blame = adjoint(key, learn, recorded, kept, carry, lengths, (*ctx.counts, m), *saved, g_y, *g_s, *traces)
        learnt, p = iter(blame[n + m :]), _cut(saved, *ctx.counts)[2]
        g_p = [None if not need else _sum_rows(next(learnt), q) for need, q in zip(learn, p)]
        return (None,) * 6 + (*blame[: n + m], *g_p)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        """A mapped axis becomes rows."""
        settings, lengths, tensors = args[:5], args[5], args[6:]
        lengths, folded = _fold(info.batch_size, lengths, in_dims[5], tensors, in_dims[6:])
        out = Run.apply(*settings, lengths, *folded)
        return _unfold(info.batch_size, out)


class Back(Last):
    """The adjoint loop."""

    @staticmethod
    def forward(
        key: str, learn: Flags, recorded: Flags, kept: int, carry: bool, lengths: Tensor | None, counts: tuple[int, ...],
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """The raw operator; counts are those of the lists x, s, p, values and g_s."""
        n_x, n_s, n_p, n_v, m = counts
        x, s, p, values, g_y, g_s, traces = _cut(tensors, n_x, n_s, n_p, n_v, 1, m)
        return tuple(
            torch.ops.timecell.loop_adjoint(
                key, x, s, p, values, lengths, g_y[0], g_s, traces, list(learn), list(recorded), carry, kept
            )
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        """A mapped axis becomes rows."""
        settings, lengths, counts, tensors = args[:5], args[5], args[6], args[7:]
        lengths, folded = _fold(info.batch_size, lengths, in_dims[5], tensors, in_dims[7:])
        out = Back.apply(*settings, lengths, counts, *folded)
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
