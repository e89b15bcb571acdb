"""The plan of a step whose units mix inside a sample: its kernels walk groups of samples, so arrays are turned over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from timecell.fuse import cache, pool, row
from timecell.fuse.allocator import fresh
from timecell.fuse.emit import Program
from timecell.fuse.graphs import copied
from timecell.fuse.partition import Kept
from timecell.fuse.plan import Blame, Flags, Outcome, Pair, Plan, ends
from timecell.fuse.row import LANES


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
        y = fresh((groups, steps, self.width(0), LANES), self.dtype)
        states = [pack(t[:, None]) for t in s]
        courses = [fresh((groups, steps + 1 if k else 0, t.shape[2], LANES), self.dtype) for t, k in zip(states, keep)]
        for course, state in zip(courses, states):
            course[:, :1] = state
        inputs = dict(zip(step.inputs, x))
        arguments: list[Any] = [flat(pack(inputs[n])) for n in program.arguments if n in inputs]
        arguments += [flat(g) for g in self.given(program, p)] + [self.constants(program), flat(y)]
        arguments += [flat(t) for t in states] + [flat(c) for c in courses]
        arguments += [group_lengths(lengths, rows, steps), np.array(keep, dtype=np.int64), steps]
        pool.run_groups(kernel, arguments, groups, y.numel() * steps)
        finals = [unpack(t, rows)[:, 0] for t in states]
        return Outcome(unpack(y, rows), finals, [unpack(c, rows) for c, k in zip(courses, keep) if k], [])

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
        blame_x = [fresh((groups, steps, size, LANES), self.dtype) for size in sizes[:n]]
        blame_s = [pack(g[:, None]) for g in g_s]
        params = dict(zip(step.params, shapes[n + m :]))
        blame_p = {}  # what the kernel adds up, or the two factors of it
        for output in program.outputs[n + m :]:
            side, _, name = output.partition("_")
            if side == "b":
                blame_p[output] = g_y.new_zeros(groups, 1, prod(params[name]), LANES)
            else:
                blame_p[output] = g_y.new_zeros(groups, steps, params[name][side == "right"], LANES)
        out = [*blame_x, *blame_s, *blame_p.values()]
        arguments: list[Any] = [flat(pack(t)) for t in (*x, *s, g_y, *traces)]
        arguments += [flat(g) for g in self.given(program, p)] + [self.constants(program), *map(flat, out)]
        arguments += [group_lengths(lengths, rows, steps), carry, steps]
        pool.run_groups(kernel, arguments, groups, g_y.numel() * steps)
        whole = [unpack(b, rows) for b in (*blame_x, *blame_s)]
        learnt = [_weight(name, blame_p, rows) for name, need in zip(step.params, learn) if need]
        return Blame(whole[:n], [b[:, 0] for b in whole[n:]], learnt)


def _weight(name: str, blame: Mapping[str, Tensor], rows: int) -> Tensor:
    """Blame [B, N] of a parameter from what the kernel left."""
    if f"b_{name}" in blame:
        return unpack(blame[f"b_{name}"], rows)[:, 0]
    left, right = (unpack(blame[f"{side}_{name}"], rows) for side in ("left", "right"))
    return torch.bmm(left.transpose(1, 2), right).flatten(1)


def pack(t: Tensor) -> Tensor:
    """[B, T, N] to [group, T, N, lane]; lanes without a sample are zero."""
    rows = t.shape[0]
    missing = -rows % LANES
    t = torch.cat([t, t.new_zeros(missing, *t.shape[1:])]) if missing else t
    return t.unflatten(0, (-1, LANES)).permute(0, 2, 3, 1).contiguous()


def unpack(t: Tensor, rows: int) -> Tensor:
    """The inverse of `_pack`."""
    return t.permute(0, 3, 1, 2).flatten(0, 1)[:rows].contiguous()


def flat(t: Tensor) -> np.ndarray:
    """All values in one row."""
    return t.detach().contiguous().view(-1).numpy()


def group_lengths(lengths: Tensor | None, rows: int, steps: int) -> np.ndarray:
    """The lengths of all samples, and of none that fills the last group, as an array."""
    out = np.zeros(-(-rows // LANES) * LANES, dtype=np.int64)
    out[:rows] = ends(lengths, rows, steps)
    return out


def _row(tensors: Sequence[Any], b: int) -> list[Any]:
    return [None if t is None else t[b : b + 1] if t.shape[0] > 1 else t for t in tensors]


def _stacked(parts: Any) -> list[Tensor]:
    return [torch.cat(column) for column in zip(*parts)]
