"""The engine: trace one instant, derive its adjoint, emit one fused loop over time.

`run` is what cells call. `explain` and `source` show what the engine made of a cell; `backend`, `carry`, `memory` and
`products` are contexts that say how loops run, how far blame travels, what is kept for it, how products are made.

To read, in this order:

* the way of a step: `trace`, `graphs` (graphs of an instant), `partition` (what the adjoint reads), `emit` (source),
  `plan` and `plans` (made ready), `operator` (as torch sees it), `loop` (the choice);
* beneath: `cache` (compiled files), `pool` (threads), `allocator` (memory), `maths`;
* other ways to walk: `memory` (in stretches), `recurrent` (a product a step), `online` (one instant);
* units that mix: `row`, `nests`, `lanes`, `row_plan`; on a GPU: `triton_emit`, `gpu`;
* loops written by hand, on what `raw` shares: `scan`, `state_space`, `selective`, `sparse_rows` (with `dense`), `delays`
  (with `vectors`), `reservoir`.
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
