"""Which steps of a padded batch count, and which of them lie in the slice that a network has just computed.

A credit rule visits time slice by slice. A loss that is a sum over steps can be taken slice by slice as well; these
functions say what a slice holds.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from timecell.data.containers import Batch
from timecell.errors import InputError


def span(y: Float[Tensor, "B t K"], batch: Batch, steps: slice) -> range:
    """The steps of the padded batch that y holds.

    Raises:
        InputError: y has not as many steps as the slice.
    """
    inside = range(*steps.indices(batch.x.shape[1]))
    if y.shape[:2] != (len(batch), len(inside)):
        raise InputError(
            "y",
            found=f"shape {tuple(y.shape)}",
            expected=f"[{len(batch)}, {len(inside)}, K] for steps {steps}",
            remedy="pass the outputs of exactly these steps",
        )
    return inside


def lengths(batch: Batch) -> Int[Tensor, "B"]:
    """Number of steps of each sample."""
    if batch.lengths is None:
        return torch.full((len(batch),), batch.x.shape[1], device=batch.x.device)
    return batch.lengths


def valid(batch: Batch, inside: range) -> Bool[Tensor, "B t"]:
    """True where a step of the span belongs to the sample, False where it is padding."""
    step = torch.arange(inside.start, inside.stop, device=batch.x.device)
    return step < lengths(batch)[:, None]


def last(y: Float[Tensor, "B t K"], batch: Batch, inside: range) -> tuple[Float[Tensor, "b K"], Bool[Tensor, "B"]]:
    """Outputs at the last step of those samples that end within the span, and which samples these are.

    Example:
        >>> batch = Batch(torch.zeros(2, 3, 1), lengths=torch.tensor([1, 3]))
        >>> y = torch.arange(6.0).reshape(2, 3, 1)
        >>> last(y, batch, range(0, 3))[0].flatten().tolist(), last(y[:, 1:], batch, range(1, 3))[1].tolist()
        ([0.0, 5.0], [False, True])
    """
    end = lengths(batch) - 1
    here = (end >= inside.start) & (end < inside.stop)
    return y[here, end[here] - inside.start], here
