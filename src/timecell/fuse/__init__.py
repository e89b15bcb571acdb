"""The engine: trace one instant, derive its adjoint, emit one fused loop over time.

`run` is what cells call. `explain` and `source` show what the engine made of a cell; `backend` and `carry` are
contexts that say how loops run and how far blame travels.
"""

from timecell.fuse.jacobian import Jacobian, jacobian
from timecell.fuse.loop import backend, carry, carrying, explain, run, source, why_plain
from timecell.fuse.trace import Step

__all__ = [
    "Jacobian", "Step", "backend", "carry", "carrying", "explain", "jacobian", "run", "source", "why_plain",
]  # fmt: skip
