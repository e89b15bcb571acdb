"""What the adjoint of a fused loop keeps: every instant, or checkpoints between which it walks again (`fuse.memory`)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from benchmarks.side_by_side import Case, Figure, Pass

SHAPE = (16, 2000, 256)
NEURONS = ("LIF", "AdaptiveLIF")


def keeping(mode: str | int | None) -> AbstractContextManager[None]:
    """The context of a memory mode; None for the plain loop."""
    from timecell import fuse

    return nullcontext() if mode is None else fuse.memory(mode)  # type: ignore[arg-type]


def layer(neuron: str, mode: str | int | None) -> Pass:
    """Forward and backward of a layer of neurons, to its input."""
    import numpy as np
    import torch

    import timecell as tc

    draw = np.random.default_rng(0)
    x, blame = (torch.from_numpy(draw.normal(mean, 0.5, SHAPE).astype("float32")) for mean in (0.15, 0.0))
    x.requires_grad_()
    cell = getattr(tc, neuron)(SHAPE[-1])

    def one_pass() -> dict[str, Any]:
        x.grad = None
        with keeping(mode), tc.fuse.backend("plain" if mode is None else "fused"):
            spikes, _ = cell(x)
            spikes.backward(blame)
        return {"spikes": spikes, "gradient": x.grad}

    return one_pass


def figure(neuron: str) -> Figure:
    """All modes for a layer of such neurons."""
    return Figure(
        f"memory-{neuron.lower()}",
        f"{neuron} layer {list(SHAPE)}, forward and backward: what is kept for the adjoint",
        cases=(
            Case("every instant", partial(layer, neuron, "full"), kind="ours"),
            Case("checkpoints, sqrt(T)", partial(layer, neuron, "sqrt"), kind="ours", exact=True),
            Case("checkpoints, every 8", partial(layer, neuron, 8), kind="ours", exact=True),
            Case("plain loop", partial(layer, neuron, None)),
        ),
    )


FIGURES = tuple(map(figure, NEURONS))
