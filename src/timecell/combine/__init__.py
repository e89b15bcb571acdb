"""Nets made of cells.

Only a `Cell` sees time. Inside a net a plain `nn.Module` is a function of one instant (`instant.py`), so BatchNorm
becomes batch norm over batch and time, a convolution sees one frame, and `step` agrees with `forward` by construction.

* side by side and one after the other: `Sequential`, `Residual`, `Parallel` (`containers.py`)
* both directions of time: `Bidirectional` (`bidirectional.py`)
* back to the input: `Loop`, `Recurrent` (`feedback.py`)
* faster and slower clocks: `Ticks`, `Every` (`clocks.py`)
"""

from timecell.combine.bidirectional import Bidirectional
from timecell.combine.clocks import Every, Ticks
from timecell.combine.containers import Parallel, Residual, Sequential
from timecell.combine.feedback import Loop, Recurrent, announce_loop
from timecell.combine.instant import MIXES_TIME, Instant, as_cell, kind_of
from timecell.fuse.loop import silence

__all__ = [
    "MIXES_TIME", "Bidirectional", "Every", "Instant", "Loop", "Parallel", "Recurrent", "Residual", "Sequential", "Ticks",
    "announce_loop", "as_cell", "kind_of", "silence",
]  # fmt: skip
