"""Fused loops against the plain Python loop over the same step: forward and backward, one thread, in one run.

    python benchmarks/fused_vs_plain.py            # a Markdown table; ratios are medians over interleaved rounds

"stream" is the time torch takes to move the bytes that forward and backward of an LIF layer must touch at the least
(read x, write y and the membrane; read x, the membrane and the blame, write the blame of x).
"""

from __future__ import annotations

import statistics
import time

import torch

import timecell as tc

ROUNDS = 9


class Resonator(tc.Neuron):
    """The README's neuron."""

    u: tc.State
    v: tc.State
    omega = tc.param(0.3, unit="rad/step", per="unit")
    decay = tc.param(0.95, unit="1/step", range=(0, 1))

    @staticmethod
    def dynamics(x, s, p):
        """One instant."""
        u = p.decay * (torch.cos(p.omega) * s.u - torch.sin(p.omega) * s.v) + x
        v = p.decay * (torch.sin(p.omega) * s.u + torch.cos(p.omega) * s.v)
        return tc.spike(v - 1.0), s._replace(u=u, v=v)


def seconds(cell: tc.Cell, x: torch.Tensor, blame: torch.Tensor, backend: str) -> float:
    """One forward and backward pass."""
    x.grad = None
    cell.zero_grad()
    with tc.fuse.backend(backend):
        start = time.perf_counter()
        y, _ = cell(x)
        y.backward(blame)
        return time.perf_counter() - start


def stream(x: torch.Tensor, blame: torch.Tensor, out: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Move the bytes of an LIF layer's forward and backward pass between arrays that exist already."""
    start = time.perf_counter()
    out[0].copy_(x)
    out[1].copy_(x)
    torch.add(x, out[1], out=out[0])
    torch.add(out[0], blame, out=out[1])
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print("| cell | shape | fused ms | plain / fused | fused / stream |\n|---|---|---|---|---|")
    for shape in ((64, 100, 512), (16, 1000, 256)):
        x = (torch.randn(shape) * 0.5 + 0.15).requires_grad_()
        blame, out = torch.randn(shape), (torch.empty(shape), torch.empty(shape))
        cells = {
            "LIF, hard reset": tc.LIF(shape[-1], tau=10.0, reset="hard"),
            "LIF, soft reset, learnt tau": tc.LIF(shape[-1], tau=10.0, learn=("tau",)),
            "adaptive LIF": tc.AdaptiveLIF(shape[-1], tau=10.0),
            "resonator (README)": Resonator(shape[-1]),
        }
        for name, cell in cells.items():
            seconds(cell, x, blame, "fused")
            rounds = []
            for _ in range(ROUNDS):
                bound = stream(x.detach(), blame, out)
                rounds.append((seconds(cell, x, blame, "fused"), seconds(cell, x, blame, "plain"), bound))
            fused = statistics.median(f for f, _, _ in rounds)
            plain = statistics.median(p / f for f, p, _ in rounds)
            bytes_ = statistics.median(f / b for f, _, b in rounds)
            print(f"| {name} | {list(shape)} | {1e3 * fused:.1f} | {plain:.1f} | {bytes_:.1f} |", flush=True)


if __name__ == "__main__":
    main()
