"""Less memory for more time: keep the states every few steps, and walk each stretch between them again before its adjoint.

A loop that will be asked for its adjoint keeps some values of every instant (`partition.py`). With checkpoints every k
steps it keeps the states at T / k instants and the inputs, which are there anyway; the adjoint goes through the stretches
from the last to the first, runs the loop over a stretch once more, and has the values of k instants at a time
(Chen et al., 2016; with k near sqrt(T) both parts are small).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from math import isqrt
from typing import Any, Literal

import torch
from torch import Tensor

from timecell.errors import InputError
from timecell.fuse.setting import setting

Memory = Literal["full", "sqrt"] | int
_memory: ContextVar[Memory] = ContextVar("memory", default="full")


def checked_memory(place: str, mode: Any) -> Memory:
    """A way to keep memory, if it is one.

    Raises:
        InputError: naming the place.
    """
    if mode in ("full", "sqrt") or (isinstance(mode, int) and not isinstance(mode, bool) and mode >= 1):
        return mode
    raise InputError(
        place,
        found=repr(mode),
        expected='"full", "sqrt" or a whole number of steps from 1',
        remedy="choose one of them",
    )


@contextmanager
def memory(mode: Memory) -> Iterator[None]:
    """Within this context, fused loops keep every instant for their adjoint, or the states every so many steps.

    Args:
        mode: "full", everything (the default); "sqrt", the states every sqrt(T) steps; or a number of steps.

    Results and gradients are the same; a loop runs forward twice. It is read when a loop runs forward.

    Raises:
        InputError: the mode is none of these.

    Example:
        >>> with memory("sqrt"):
        ...     pass
    """
    with setting(_memory, checked_memory("memory", mode)):
        yield


def stretch(steps: int, mode: Memory | None = None) -> int:
    """Steps from checkpoint to checkpoint in a sequence of so many; 0 where everything is kept.

    Args:
        steps: T.
        mode: None, the one of this context.

    Example:
        >>> stretch(100, "sqrt"), stretch(100, 7), stretch(100, "full")
        (10, 7, 0)
    """
    mode = _memory.get() if mode is None else mode
    if mode == "full" or steps == 0:
        return 0
    return isqrt(steps - 1) + 1 if mode == "sqrt" else mode


def stretches(steps: int, every: int, start: int = 0) -> list[slice]:
    """The stretches of a sequence that begins at `start`; the last one may be shorter.

    Example:
        >>> stretches(5, 2)
        [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    end = start + steps
    return [slice(a, min(a + every, end)) for a in range(start, end, every)]


def left(lengths: Tensor | None, part: slice) -> Tensor | None:
    """How much of each sample lies in a stretch."""
    return None if lengths is None else (lengths - part.start).clamp(0, part.stop - part.start)


def forward(plan: Any, x: Sequence[Tensor], s: Sequence[Tensor], p: Sequence[Tensor], lengths: Tensor | None, keep: Any,
            every: int) -> tuple[Any, list[Tensor]]:  # fmt: skip
    """`plan.forward` in stretches: its outcome, and the states [B, parts, N] in which each stretch begins."""
    rows, steps = x[0].shape[:2]
    parts = stretches(steps, every)
    begins = [t.new_empty(rows, len(parts), t.shape[1]) for t in s]
    courses = [t.new_empty(rows, steps + 1, t.shape[1]) for t, k in zip(s, keep) if k]
    states, y, outcome = list(s), None, None
    for i, part in enumerate(parts):
        for begin, state in zip(begins, states):
            begin[:, i] = state
        outcome = plan.forward([t[:, part] for t in x], states, p, left(lengths, part), keep)
        y = outcome.y.new_empty(rows, steps, outcome.y.shape[2]) if y is None else y
        y[:, part], states = outcome.y, outcome.finals
        for course, piece in zip(courses, outcome.courses):
            course[:, part.start : part.stop + 1] = piece
    return outcome._replace(y=y, finals=states, courses=courses), begins  # type: ignore[union-attr]


def adjoint(
    plan: Any, pair: Any, x: Sequence[Tensor], begins: Sequence[Tensor], p: Sequence[Tensor], lengths: Tensor | None,
    g_y: Tensor, g_s: Sequence[Tensor], traces: Sequence[Tensor], learn: Any, carry: bool, every: int,
) -> Any:  # fmt: skip
    """`plan.adjoint`, each stretch run again just before."""
    step = plan.step
    keep = tuple(name in pair.kept.states for name in step.states)
    whole, learnt, blame = [torch.empty_like(t, memory_format=torch.contiguous_format) for t in x], None, None
    for i, part in reversed(list(enumerate(stretches(g_y.shape[1], every)))):
        here, ends = [t[:, part].contiguous() for t in x], left(lengths, part)
        again = plan.forward(here, [b[:, i] for b in begins], p, ends, keep, pair)
        reads = [t for name, t in zip(step.inputs, here) if name in pair.kept.inputs]
        blame = plan.adjoint(
            pair, reads, again.courses, again.values, p, ends, g_y[:, part], g_s, [t[:, part] for t in traces], learn, carry
        )  # fmt: skip
        g_s = blame.s
        for all_steps, piece in zip(whole, blame.x):
            all_steps[:, part] = piece
        learnt = blame.p if learnt is None else [a + b for a, b in zip(learnt, blame.p)]
    return blame._replace(x=whole, s=g_s, p=learnt)  # type: ignore[union-attr]
