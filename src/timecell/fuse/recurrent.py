"""Units that hear each other a step later: one matrix product a step, alternating with the fused instant.

    y_t, s_t = step(x_t + W y_{t-1} + b, s_{t-1})

Forward and backward walk through time with arrays [T, B, N], in which the instant of all samples lies together: torch's
product is added in place, then the compiled instant runs on B N units. No graph grows along the way, and the gradient
of W is one product over all of time at the end:

    dL/dW = sum_t blame(x_t) y_{t-1}^T
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from timecell.fuse import cache, dense, pool
from timecell.fuse.allocator import fresh
from timecell.fuse.loop import carrying, chosen_backend, silence, why_plain
from timecell.fuse.operator import SECOND
from timecell.fuse.plan import Flags, Pair, Plan
from timecell.fuse.plans import plan, plan_key
from timecell.fuse.raw import array, kernels
from timecell.fuse.sparse_rows import Active, find_active, pays, worth_counting
from timecell.fuse.trace import Step, transforms_active

ONE_STEP = np.ones(1, dtype=np.int64)
LOOK = 8  # steps between two counts of the active units


def run_recurrent(
    step: Step,
    inputs: Sequence[Tensor],
    states: Sequence[Tensor],
    params: Sequence[Tensor],
    lengths: Tensor | None = None,
    record: Sequence[str] = (),
    *,
    weight: Tensor,
    bias: Tensor | None,
    before: Tensor,
) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
    """As `run`, for one input whose step t also has what came out at t - 1.

    Args:
        step: the instant, of independent units.
        inputs: one, [B, T, N].
        states: each [B, N], before the first step.
        params: each broadcastable to [N].
        lengths: [B] steps of each sample.
        record: names of states whose whole course is wanted.
        weight: W, [N, N].
        bias: b, [N], or None.
        before: [B, N], what came out before the first step.
    """
    (x,) = inputs
    key = plan_key(step, x.dtype)
    p = [q.expand(x.shape[2]).reshape(1, -1) for q in params]
    learn = tuple(q.requires_grad for q in p)
    recorded = tuple(name in record for name in step.states)
    if lengths is not None:
        x = silence(x, lengths)  # what stands in the padding must not come into the products
    tensors = [t for t in (x, weight, bias, before, *states, *p) if t is not None]
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    out = Walk.apply(
        key, learn, recorded, carrying() == "full", wanted, lengths, x, weight, bias, before, *states, *p
    )  # fmt: skip
    m = len(step.states)
    courses = {
        name: silence(c, lengths) for name, c in zip([s for s, r in zip(step.states, recorded) if r], out[1 + m :])
    }
    return silence(out[0], lengths), list(out[1 : 1 + m]), courses


def can_run_recurrent(step: Step, x: Tensor) -> bool:
    """Whether `run_recurrent` serves here: independent units on the CPU, in plain reverse-mode autograd."""
    return (
        not torch.compiler.is_compiling()
        and not transforms_active()
        and chosen_backend() != "plain"
        and x.device.type == "cpu"
        and step.shapes is None
        and why_plain(step, x.dtype) is None
    )


class Walk(torch.autograd.Function):
    """(y, last states, courses of the recorded states) of a recurrent loop, with its gradient."""

    @staticmethod
    def forward(
        ctx: Any, key: str, learn: Flags, recorded: Flags, carry: bool, wanted: bool, lengths: Tensor | None, x: Tensor,
        weight: Tensor, bias: Tensor | None, before: Tensor, *tensors: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """Forward in time."""
        this = plan(key)
        m = len(this.step.states)
        s, p = tensors[:m], tensors[m:]
        pair = this.pair(learn, recorded)
        B, T, N = x.shape
        drive = fresh((T, B, N), x.dtype).copy_(x.transpose(0, 1))
        if bias is not None:
            drive += bias
        y = fresh((T + 1, B, N), x.dtype)
        y[0] = before
        values = [fresh((T if wanted else 1, B, N), t) for t in pair.types]
        keep = [
            r or lengths is not None or (wanted and n in pair.kept.states) for n, r in zip(this.step.states, recorded)
        ]
        courses = [fresh((T + 1 if k else 2, B, N), t.dtype) for t, k in zip(s, keep)]
        for course, first in zip(courses, s):
            course[0] = first
        echo = Echo(weight, y)
        _forward(this, pair, drive, y, courses, keep, values, _tiled(this, pair.forward, p, B), echo)
        if lengths is None:
            finals = [c[T if k else 0].clone() for c, k in zip(courses, keep)]
        else:
            finals = [c[lengths, torch.arange(B)] for c in courses]
        ctx.config = (this, pair, learn, carry, x.shape)
        if wanted:
            kept = dict(zip(this.step.states, courses))
            inputs = [drive] * len(pair.kept.inputs)
            saved = [kept[n] for n in pair.kept.states]
            heard, ctx.active = echo.kept()
            ctx.save_for_backward(lengths, weight, bias, heard, *inputs, *saved, *values, *p)
            ctx.counts = (len(inputs), len(saved), len(values))
        ctx.set_materialize_grads(False)
        shown = [c[1:].transpose(0, 1) for c, r in zip(courses, recorded) if r]
        return (y[1:].transpose(0, 1).contiguous(), *finals, *(c.contiguous() for c in shown))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        """Backward in time."""
        if torch.is_grad_enabled():
            raise SECOND
        this, pair, learn, carry, (B, T, N) = ctx.config
        m = len(this.step.states)
        lengths, weight, bias, heard, *rest = ctx.saved_tensors
        n_x, n_s, n_v = ctx.counts
        reads, p = rest[: n_x + n_s + n_v], rest[n_x + n_s + n_v :]
        g_y = weight.new_zeros(T + 1, B, N)  # row t is blame of what came out before step t
        if grads[0] is not None:
            g_y[1:] = grads[0].transpose(0, 1)
        ends = [weight.new_zeros(B, N) if g is None else g.contiguous() for g in grads[1 : 1 + m]]
        traces = [weight.new_zeros(T, B, N) if g is None else g.transpose(0, 1).contiguous() for g in grads[1 + m :]]
        blame = fresh((T, B, N), weight.dtype)
        g_s = [g.clone() if lengths is None else torch.zeros_like(g) for g in ends]
        g_p = [weight.new_zeros(B, N) for need in learn if need]
        steps = _adjoint(
            this, pair, reads, g_y, traces, blame, g_s, g_p, _tiled(this, pair.adjoint, p, B), weight, carry
        )
        for t in steps:
            if lengths is not None:  # blame of a last state begins where its sample ends
                for g, end in zip(g_s, ends):
                    g += end * (lengths == t + 1)[:, None]
        if lengths is not None:
            g_s = [g + end * (lengths == 0)[:, None] for g, end in zip(g_s, ends)]
        flat = blame.flatten(0, 1)
        g_w = None
        if ctx.needs_input_grad[7]:
            active = ctx.active and ctx.active._replace(bits=heard)
            g_w = active.gradient(flat) if active else dense.product(flat.T, heard.T)
        g_b = flat.sum(0) if bias is not None else None
        learnt = iter(g_p)
        each = [next(learnt).sum(0, keepdim=True) if need else None for need in learn]
        return (*[None] * 6, blame.transpose(0, 1), g_w, g_b, g_y[0] if carry else None, *g_s, *each)


class Echo:
    """What the units hear of each other, W y_{t-1}: a product, or where few are active the sum of their columns of W.

    Every few steps the active units are counted, and decide for the next ones.

    Args:
        weight: W, [N, N].
        y: [T + 1, B, N]; row t, what came out before step t, is read at step t.
    """

    def __init__(self, weight: Tensor, y: Tensor) -> None:
        self.weight, self.y, self.sparse = weight.detach().T, y, False
        self.size = (len(y) - 1) * y.shape[1]  # products of a vector with W
        self.choice = worth_counting(self.size, *weight.shape)
        self.rows = array(self.weight) if self.choice else None

    def add(self, t: int, now: Tensor) -> None:
        """Add it to the drive [B, N] of step t."""
        before = self.y[t]
        if self.choice and t % LOOK == 0:
            self.sparse = pays(before.count_nonzero().item() / before.numel(), self.size, len(self.weight))
        if self.sparse:
            arguments = [before.numpy(), self.rows, now.numpy()]
            pool.run_groups(kernels("sparse_rows_kernels").accumulate, arguments, len(now), before.numel() * LOOK)
        else:
            dense.add_product(now, before, self.weight.t())

    def kept(self) -> tuple[Tensor, Active | None]:
        """What the gradient of W reads: all that was heard [T B, N], or where it is spikes their bits."""
        heard = self.y[:-1].flatten(0, 1)
        if self.choice:
            found, spikes = find_active(heard)
            if spikes:
                return found.bits, found
        return heard, None


def _tiled(this: Plan, program: Any, p: Sequence[Tensor], rows: int) -> list[np.ndarray]:
    """What depends on parameters alone, for all units of all samples: [1, B N]."""
    return [g.expand(1, -1).repeat(1, rows).numpy() for g in this.given(program, p)]


def _instants(t: Tensor) -> list[np.ndarray]:
    """[T, B, N] as T arrays [1, 1, B N]."""
    return list(t.detach().view(len(t), 1, 1, -1).numpy())


def _forward(
    this: Plan, pair: Pair, drive: Tensor, y: Tensor, courses: Sequence[Tensor], keep: Sequence[bool],
    values: Sequence[Tensor], given: Sequence[np.ndarray], echo: Echo,
) -> None:  # fmt: skip
    """Fill y, the courses and the values."""
    program = pair.forward
    kernel = cache.load(program.source).forward
    units = drive[:1].numel()
    states = [c.view(1, len(c), units).numpy() for c in courses]
    inputs = [_instants(drive)] if this.step.inputs[0] in program.arguments else []
    outputs, kept = _instants(y), [_instants(v) for v in values]
    rows = np.array([-1] * (len(states) + len(kept)), dtype=np.int64)
    constants = this.constants(program)
    for t, now in enumerate(drive.unbind(0)):
        echo.add(t, now)
        arguments = [each[t] for each in inputs]
        arguments += [s[:, t : t + 2] if k else s for s, k in zip(states, keep)]
        arguments += [*given, constants, outputs[t + 1], *(v[t if len(v) > 1 else 0] for v in kept), ONE_STEP, rows]
        pool.run(kernel, arguments, 1, 1, units)
        for s, k in zip(states, keep):
            if not k:
                s[0, 0] = s[0, 1]


def _adjoint(
    this: Plan, pair: Pair, reads: Sequence[Tensor], g_y: Tensor, traces: Sequence[Tensor], blame: Tensor,
    g_s: Sequence[Tensor], g_p: Sequence[Tensor], given: Sequence[np.ndarray], weight: Tensor, carry: bool,
) -> Any:  # fmt: skip
    """Fill the blame of all inputs, first states and parameters; yields before every step, for who has to add to g_s."""
    program = pair.adjoint
    kernel = cache.load(program.source).adjoint
    T, B, N = blame.shape
    moving = [_instants(t) for t in (*reads, g_y[1:], *traces)]
    given = [*given, this.constants(program)]
    gives = _instants(blame)
    fixed = [g.view(1, -1).numpy() for g in (*g_s, *g_p)]
    for t in reversed(range(T)):
        yield t
        arguments = [*(a[t] for a in moving), *given, gives[t], *fixed, ONE_STEP, carry]
        pool.run(kernel, arguments, 1, 1, B * N)
        if carry:
            dense.add_product(g_y[t], blame[t], weight.t())
