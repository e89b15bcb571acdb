"""Let the C library keep freed memory instead of returning it to the system.

A result of some megabytes is otherwise unmapped when it is freed and faulted in page by page when the next one is made,
which takes as long as a fused loop itself. glibc's thresholds are raised once per process, at the first fused call;
``TIMECELL_MALLOC=0`` in the environment leaves them alone. The price: freed memory stays with the process.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
KEEP = 1 << 30  # bytes


def fresh(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """New memory for what a loop on the CPU hands out, not set to anything.

    It comes from numpy: torch asks for aligned memory, and glibc (before 2.38) fits such a request into no hole of
    exactly its size, so that results that come and go need twice the memory, and often new pages. numpy asks plainly,
    and lets the system use huge pages, so that a first touch costs a quarter.
    """
    return torch.from_numpy(np.empty(tuple(shape), dtype=str(dtype).removeprefix("torch.")))


@cache
def keep_freed_pages() -> bool:
    """Raise glibc's thresholds; False where that is switched off or there is no glibc."""
    if os.environ.get("TIMECELL_MALLOC") == "0" or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, KEEP) and mallopt(M_TRIM_THRESHOLD, KEEP))
