"""The engine: trace one instant, derive its adjoint, emit one fused loop over time.

`run` is what cells call. `explain` and `source` show what the engine made of a cell; `backend`, `carry` and
`memory` are contexts that say how loops run, how far blame travels, and what is kept for it.
"""

from timecell.fuse.jacobian import Jacobian, jacobian
from timecell.fuse.loop import backend, carry, carrying, explain, run, source, why_plain
from timecell.fuse.memory import Memory, checked_memory, memory, stretch, stretches
from timecell.fuse.recurrent import can_run_recurrent, run_recurrent
from timecell.fuse.scan import linear_scan
from timecell.fuse.selective import selective_ssm
from timecell.fuse.sparse_rows import products, sparse_rows
from timecell.fuse.state_space import diagonal_ssm, fft_convolution
from timecell.fuse.trace import Step

__all__ = [
    "Jacobian", "Memory", "Step", "backend", "can_run_recurrent", "carry", "carrying", "checked_memory",
    "diagonal_ssm", "explain", "fft_convolution", "jacobian", "linear_scan", "memory",
    "products", "run", "run_recurrent", "selective_ssm", "source", "sparse_rows", "stretch", "stretches", "why_plain",
]  # fmt: skip
