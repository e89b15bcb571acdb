"""`moving_average`: a series as its trend and what is left."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from timecell.errors import InputError


def moving_average(x: Float[Tensor, "B T C"], kernel: int) -> Float[Tensor, "B T C"]:
    """The mean of the `kernel` steps around each step; beyond the ends, the first and the last step are repeated.

    Of an even number of steps, one more lies before than after.

    Raises:
        InputError: the kernel is below 1.

    Example:
        >>> import torch
        >>> moving_average(torch.tensor([[[0.0], [3.0], [6.0]]]), kernel=3).flatten().tolist()
        [1.0, 3.0, 5.0]
    """
    if kernel < 1:
        raise InputError("kernel", found=kernel, expected="at least 1 step", remedy="try 25")
    padded = F.pad(x.mT, (kernel // 2, (kernel - 1) // 2), mode="replicate")
    return F.avg_pool1d(padded, kernel, stride=1).mT
