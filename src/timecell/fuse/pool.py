"""One small pool of threads for emitted kernels.

Kernels are serial and release the interpreter lock; this pool gives each thread a block of rows or units. It follows
`torch.get_num_threads()`, is made at first use and again after a fork, and starts no threading layer of numba's (which
would not survive forked data loaders or several calling threads).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch

WORTH_SPLITTING = 1 << 17  # values; below about 100 us of work a second thread costs more than it gives

_pool: ThreadPoolExecutor | None = None
_size = 0


def _forget() -> None:
    global _pool, _size
    _pool, _size = None, 0


os.register_at_fork(after_in_child=_forget)


def run_groups(kernel: Callable[..., None], arguments: Sequence[Any], groups: int, work: int) -> None:
    """Call ``kernel(*arguments, first, last)`` over all groups, on as many threads as torch uses."""
    threads = min(torch.get_num_threads(), groups)
    if threads <= 1 or work < WORTH_SPLITTING:
        kernel(*arguments, 0, groups)
        return
    cuts = [groups * i // threads for i in range(threads + 1)]
    _share(kernel, arguments, list(pairwise(cuts)))


def run(kernel: Callable[..., None], arguments: Sequence[Any], rows: int, steps: int, units: int) -> None:
    """Call ``kernel(*arguments, row0, row1, unit0, unit1)`` over all rows and units, on as many threads as torch uses."""
    threads = torch.get_num_threads()
    if threads == 1 or rows * steps * units < WORTH_SPLITTING:
        kernel(*arguments, 0, rows, 0, units)
        return
    if rows >= threads:
        cuts = [rows * i // threads for i in range(threads + 1)]
        blocks = [(a, b, 0, units) for a, b in pairwise(cuts)]
    else:
        cuts = [units * i // threads for i in range(threads + 1)]
        blocks = [(0, rows, a, b) for a, b in pairwise(cuts) if a < b]
    _share(kernel, arguments, blocks)


def _share(kernel: Callable[..., None], arguments: Sequence[Any], blocks: Sequence[tuple[int, ...]]) -> None:
    """One block a thread; this thread takes the first."""
    futures = [_threads(len(blocks)).submit(kernel, *arguments, *block) for block in blocks[1:]]
    kernel(*arguments, *blocks[0])
    for f in futures:
        f.result()


def _threads(n: int) -> ThreadPoolExecutor:
    global _pool, _size
    if _pool is None or _size < n:
        _pool, _size = ThreadPoolExecutor(n, thread_name_prefix="timecell"), n
    return _pool


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch and our kernels on one thread, so that the same work gives the same numbers however much runs beside it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
