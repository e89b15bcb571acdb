"""The row grain against the plain loop: an expressive leaky memory, forward and backward, one thread, one process.

python benchmarks/row_grain.py
"""

from __future__ import annotations

import statistics
import time

import torch

from timecell import ELM, fuse

SIZES = ((16, 500, 8, 20, 10), (32, 200, 8, 200, 100))  # batch, steps, branches, hidden, memories


def seconds(cell: ELM, x: torch.Tensor, backend: str) -> float:
    """One forward and backward pass."""
    with fuse.backend(backend):
        start = time.perf_counter()
        cell(x)[0].sum().backward()
        return time.perf_counter() - start


def main() -> None:
    """Interleaved runs; medians and their ratio."""
    torch.set_num_threads(1)
    for batch, steps, *sizes in SIZES:
        cell, x = ELM(*sizes), torch.randn(batch, steps, sizes[0])
        for backend in ("fused", "plain"):
            seconds(cell, x, backend)
        pairs = [(seconds(cell, x, "plain"), seconds(cell, x, "fused")) for _ in range(5)]
        plain, fused = (1e3 * statistics.median(column) for column in zip(*pairs))
        print(
            f"[{batch}, {steps}] ELM{tuple(sizes)}: plain {plain:.0f} ms, fused {fused:.1f} ms, ratio {plain / fused:.1f}"
        )


if __name__ == "__main__":
    main()
