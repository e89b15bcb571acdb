"""Circuits, whose units mix within an instant: the fused loop of the row grain against the plain loop over the same step."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.side_by_side import Case, Figure, Pass

SIZES = {"small": (16, 500, 8, 20, 10), "large": (32, 200, 8, 200, 100)}  # batch, steps; branches, hidden, memories


def elm(size: str, backend: str) -> Pass:
    """Forward and backward of an expressive leaky memory, to its input and its weights."""
    import torch

    from timecell import ELM, fuse

    torch.manual_seed(0)
    batch, steps, *widths = SIZES[size]
    cell, x = ELM(*widths), torch.randn(batch, steps, widths[0], requires_grad=True)

    def one_pass() -> dict[str, Any]:
        x.grad = None
        cell.zero_grad()
        with fuse.backend(backend):
            memories, _ = cell(x)
            memories.square().sum().backward()
        return {"memories": memories, "gradient": x.grad, "of weights": cell.to_memories_raw.grad}

    return one_pass


def figure(size: str) -> Figure:
    """Both loops on a net of this size."""
    batch, steps, *widths = SIZES[size]
    return Figure(
        f"circuit-{size}",
        f"Expressive leaky memory {tuple(widths)} on [{batch}, {steps}], forward and backward",
        cases=(
            Case("timecell", partial(elm, size, "fused"), kind="ours"),
            Case("plain loop", partial(elm, size, "plain"), exact=True),
        ),
    )


FIGURES = tuple(map(figure, SIZES))
