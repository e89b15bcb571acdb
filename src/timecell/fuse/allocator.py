"""Let the C library keep freed memory instead of returning it to the system.

A result of some megabytes is otherwise unmapped when it is freed and faulted in page by page when the next one is made,
which takes as long as a fused loop itself. glibc's thresholds are raised once per process, at the first fused call;
``TIMECELL_MALLOC=0`` in the environment leaves them alone. The price: freed memory stays with the process.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
KEEP = 1 << 30  # bytes


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
