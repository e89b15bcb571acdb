"""Moments and gaps in time as vectors.

    TimeEncoding    cos(w_i t + b_i), fast to slow            (Xu et al. 2020, "Inductive representation learning on
                                                              temporal graphs", arXiv:2002.07962; fixed as in GraphMixer)
    Time2Vec        w_0 t + b_0 and sin(w_i t + b_i)          (Kazemi et al. 2019, arXiv:1907.05321)

Whether t is a moment or the time that has passed since something is the caller's to say, and to write down: a code of
moments learns the calendar of its training data, a code of gaps does not.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from timecell.errors import InputError


class TimeEncoding(nn.Module):
    """cos(w t + b) with frequencies w from 1 down to `slowest` rad per unit of t, evenly spaced in their logarithm.

    The slowest cosine orders gaps up to pi / `slowest`; shorter ones are told apart by the faster ones. The product
    w t is computed in the precision of t, so moments in seconds since 1970 want float64.

    Args:
        size: number of cosines d.
        slowest: lowest frequency [rad per unit of t]; the highest is 1.
        learnable: train w and b; else w is fixed and b is 0.

    Raises:
        InputError: there is no cosine, or `slowest` is not in (0, 1].

    Example:
        >>> encode = TimeEncoding(3, slowest=0.01)
        >>> encode(torch.tensor([0.0, torch.pi])).round()
        tensor([[ 1.,  1.,  1.],
                [-1.,  1.,  1.]])
    """

    def __init__(self, size: int, *, slowest: float = 1e-6, learnable: bool = False) -> None:
        super().__init__()
        _require_size("TimeEncoding(size)", size)
        if not 0 < slowest <= 1:
            raise InputError("TimeEncoding(slowest)", found=slowest, expected="0 < it <= 1", remedy="try 1e-6")
        self.size, self.slowest, self.learnable = size, slowest, learnable
        w = torch.logspace(0, math.log10(slowest), size)
        self.frequency = nn.Parameter(w, requires_grad=learnable)
        self.phase = nn.Parameter(torch.zeros(size), requires_grad=learnable)

    def forward(self, t: Float[Tensor, "..."]) -> Float[Tensor, "... d"]:
        """Codes of times of any shape, in the type of the frequencies."""
        angle = t[..., None] * self.frequency.to(t.dtype) + self.phase.to(t.dtype)
        return angle.cos().to(self.frequency.dtype)


class Time2Vec(nn.Module):
    """One learned straight line and d - 1 learned sines of t.

    Args:
        size: d, the line included.

    Raises:
        InputError: there is nothing to compute.

    Example:
        >>> Time2Vec(8)(torch.zeros(2, 5)).shape
        torch.Size([2, 5, 8])
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        _require_size("Time2Vec(size)", size)
        self.size = size
        self.frequency = nn.Parameter(torch.randn(size))
        self.phase = nn.Parameter(torch.rand(size) * 2 * torch.pi)

    def forward(self, t: Float[Tensor, "..."]) -> Float[Tensor, "... d"]:
        """Codes of times of any shape."""
        angle = t[..., None] * self.frequency + self.phase
        return torch.cat([angle[..., :1], angle[..., 1:].sin()], -1)


def _require_size(place: str, size: int) -> None:
    if size < 1:
        raise InputError(place, found=size, expected="at least 1", remedy="try 16")
