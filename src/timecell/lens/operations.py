"""How much work a net does: one operation for each event that meets a weight.

An input that is zero costs nothing, so a spiking layer counts its spikes times their fan-out (the additions of an
event-driven chip), and a layer with analogue inputs the multiplications of a dense one. Delays cost nothing, and
normalisation and single units are not counted.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from timecell.data.containers import Batch
from timecell.inference import evaluating
from timecell.synapses import Delayed


def synaptic_operations(net: nn.Module, batch: Batch) -> float | None:
    """Mean number of operations of a sample, over all of its steps.

    Counted are linear and delayed layers (non-zero inputs times outputs) and torch's recurrent ones (every weight at
    every step).

    Args:
        net: ``net(x, lengths=lengths) -> (y, state)``.
        batch: some samples.

    Returns:
        None if the net has weights of another kind, since the sum would leave them out.

    Example:
        >>> from timecell.combine import Sequential
        >>> x = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
        >>> synaptic_operations(Sequential(nn.Linear(2, 10)), Batch(x))
        30.0
    """
    counted = [m for m in net.modules() if isinstance(m, nn.Linear | Delayed | nn.RNNBase)]
    known = {id(p) for m in counted for p in m.parameters()}
    if any(p.ndim > 1 and id(p) not in known for p in net.parameters()):
        return None
    total = 0

    def count(module: Any, arguments: tuple[Any, ...], output: Any) -> None:
        nonlocal total
        x = arguments[0]
        if isinstance(module, nn.RNNBase):
            steps = x[..., 0].numel() if batch.lengths is None else int(batch.lengths.sum())
            total += steps * sum(p.numel() for p in module.parameters() if p.ndim == 2)
        else:
            total += int(torch.count_nonzero(x)) * module.weight.shape[0]

    hooks = [module.register_forward_hook(count) for module in counted]
    try:
        with evaluating(net):
            net(batch.x, lengths=batch.lengths)
    finally:
        for hook in hooks:
            hook.remove()
    return total / len(batch)
