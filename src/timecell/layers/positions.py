"""Where a step stands in its window, as numbers that a net without an order of its own can read."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def sinusoidal_positions(steps: int, width: int) -> Float[Tensor, "L d"]:
    """Sines and cosines of the step, at rates from 1 down to nearly 1 / 10,000 (Vaswani et al., 2017).

    The product of two rows depends on nothing but how far apart they are.

    Args:
        steps: L.
        width: d; columns 2 i and 2 i + 1 are the sine and cosine of step * 10,000^(-2 i / d).

    Example:
        >>> sinusoidal_positions(3, 2)
        tensor([[ 0.0000,  1.0000],
                [ 0.8415,  0.5403],
                [ 0.9093, -0.4161]])
    """
    t = torch.arange(steps)[:, None]
    rate = torch.exp(-math.log(10_000.0) * torch.arange(0, width, 2) / width)
    return torch.stack([(t * rate).sin(), (t * rate).cos()], dim=2).flatten(1)[:, :width]
