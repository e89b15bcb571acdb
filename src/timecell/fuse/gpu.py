"""The fused loop on a GPU: a plan whose programs are Triton's, launched where the tensors are.

The unit grain only. A step whose units mix within a sample (the row grain) runs as the plain loop on a GPU, and says so.
Triton compiles a program at its first launch and keeps the machine code on disk (``TRITON_CACHE_DIR``); sizes are
arguments, so that there is one kernel for all batches, lengths and widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from timecell.errors import MissingExtra
from timecell.fuse import cache, triton_emit
from timecell.fuse.emit import Program
from timecell.fuse.plan import Blame, Flags, Outcome, Pair, Plan
from timecell.fuse.trace import Step

BLOCK = 128  # lanes in a program, one a thread: small, so that narrow layers spread over many multiprocessors


class GPUPlan(Plan):
    """A step of independent units on a GPU; methods, arrays and results as in `Plan`.

    Raises:
        MissingExtra: Triton is not installed.
    """

    emitter = triton_emit

    def __init__(self, step: Step, dtype: torch.dtype, key: str) -> None:
        if find_spec("triton") is None:
            raise MissingExtra("triton", "gpu", "the fused loop on a GPU")
        super().__init__(step, dtype, key)
        self._on_device: dict[tuple[int, torch.device], Tensor] = {}

    def forward(
        self, x: Sequence[Tensor], s: Sequence[Tensor], p: Sequence[Tensor], lengths: Tensor | None, keep: Flags,
        pair: Pair | None = None,
    ) -> Outcome:  # fmt: skip
        """See `Plan.forward`."""
        program = pair.forward if pair else self.inference
        rows, steps, units = x[0].shape
        y = x[0].new_empty(rows, steps, units)
        finals = [t.new_empty(rows, units) for t in s]
        courses = [t.new_empty(rows, steps + 1, units) if k else t.new_empty(0) for t, k in zip(s, keep)]
        values = [y.new_empty(rows, steps, units, dtype=t) for t in (pair.types if pair else ())]
        inputs = dict(zip(self.step.inputs, x))
        reads = [inputs[n] for n in program.arguments if n in inputs]
        flags = (*keep, *(True for _ in values))
        self._launch("forward", program, y.shape, [*reads, *s], p, [y, *finals, *courses, *values], lengths, flags)
        return Outcome(y, finals, [c for c, k in zip(courses, keep) if k], values)

    def adjoint(
        self, pair: Pair, x: Sequence[Tensor], s: Sequence[Tensor], values: Sequence[Tensor], p: Sequence[Tensor],
        lengths: Tensor | None, g_y: Tensor, g_s: Sequence[Tensor], traces: Sequence[Tensor], learn: Flags, carry: bool,
    ) -> Blame:  # fmt: skip
        """See `Plan.adjoint`."""
        rows, steps, units = g_y.shape
        blame_x = [g_y.new_empty(rows, steps, units) for _ in self.step.inputs]
        blame_s = [g.clone(memory_format=torch.contiguous_format) for g in g_s]
        blame_p = [g_y.new_zeros(rows, units) for need in learn if need]
        reads, writes = [*x, *s, *values, g_y, *traces], [*blame_x, *blame_s, *blame_p]
        self._launch("adjoint", pair.adjoint, g_y.shape, reads, p, writes, lengths, (carry,))
        return Blame(blame_x, blame_s, blame_p)

    def _launch(
        self, name: str, program: Program, shape: Sequence[int], reads: Sequence[Tensor], p: Sequence[Tensor],
        writes: Sequence[Tensor], lengths: Tensor | None, flags: Flags,
    ) -> None:  # fmt: skip
        """One lane for each unit of each row."""
        rows, steps, units = shape
        if rows * units == 0:
            return
        here, given = writes[0].device, self.given(program, p)
        own = any(g.shape[0] > 1 for g in given)  # parameters of its own for each row (under vmap)
        given = [g.expand(rows, units) for g in given] if own else given
        ends = torch.full((rows,), steps, device=here) if lengths is None else lengths.to(here, torch.int64)
        kernel: Any = getattr(cache.load(program.source), name)
        arrays = [t.detach().contiguous() for t in (*reads, *given)] + [self._constants_on(program, here), *writes]
        with torch.cuda.device_of(arrays[0]):
            kernel[-(-rows * units // BLOCK),](
                *arrays, ends.contiguous(), rows * units, steps, units, units if own else 0, *flags, BLOCK
            )

    def _constants_on(self, program: Program, device: torch.device) -> Tensor:
        if (id(program), device) not in self._on_device:
            self._on_device[id(program), device] = torch.from_numpy(self.constants(program)).to(device)
        return self._on_device[id(program), device]
