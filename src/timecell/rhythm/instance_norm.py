"""`ReversibleInstanceNorm`: each window in units of its own, and the answer back in the window's units.

    y = (x - mean) / sqrt(var + eps)        mean and var of this window and channel, constants to the gradient

A net between `normalise` and `undo` sees neither level nor scale, so a series may drift. Which steps the statistics are
taken over is a mask: all of the window, the points that were observed, or the history without what comes after.

Source: Kim et al., "Reversible instance normalization" (2022); without affine map also Liu et al., "Non-stationary
transformers" (2022), arXiv:2205.14415.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from timecell.errors import InputError


class Moments(NamedTuple):
    """What a window was normalised by: [B, 1, C] each."""

    mean: Float[Tensor, "B 1 C"]
    scale: Float[Tensor, "B 1 C"]


class ReversibleInstanceNorm(nn.Module):
    """Standardises windows and undoes it; what was measured is handed on, not kept.

    Args:
        channels: C.
        affine: learn a scale and a shift for each channel, applied after the one and undone before the other.
        eps: added to the variance.

    Shapes: `normalise`: x [B, T, C] -> (y [B, T, C], moments); `undo`: y [B, H, C], moments -> [B, H, C].

    Raises:
        InputError: x has other channels, or the mask another shape.

    Example:
        >>> norm = ReversibleInstanceNorm(1)
        >>> y, moments = norm.normalise(torch.tensor([[[1.0], [5.0], [9.0]]]), observed=torch.tensor([[[1], [1], [0]]]))
        >>> y.round().flatten().tolist(), norm.undo(torch.zeros(1, 1, 1), moments).item()
        ([-1.0, 1.0, 0.0], 3.0)
    """

    def __init__(self, channels: int, affine: bool = False, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels, self.eps = channels, eps
        self.affine = affine
        if affine:
            self.weight = nn.Parameter(torch.ones(channels))
            self.bias = nn.Parameter(torch.zeros(channels))

    def normalise(
        self, x: Float[Tensor, "B T C"], observed: Bool[Tensor, "B T C"] | None = None
    ) -> tuple[Float[Tensor, "B T C"], Moments]:
        """The window in units of its own, and these units.

        Args:
            x: windows.
            observed: true where the statistics are taken; None = everywhere. The rest becomes the mean: zero, before
                the affine map. A channel without any observed step has mean 0 and scale 1.
        """
        if x.ndim != 3 or x.shape[2] != self.channels:
            raise InputError(
                "x", found=f"shape {list(x.shape)}", expected=f"[B, T, {self.channels}]", remedy="match the channels"
            )
        if observed is not None and observed.shape != x.shape:
            raise InputError(
                "observed", found=f"shape {list(observed.shape)}", expected=f"x's, {list(x.shape)}",
                remedy="say of each value whether it was observed",
            )  # fmt: skip
        seen = torch.ones_like(x, dtype=torch.bool) if observed is None else observed.bool()
        moments = _moments(x.detach(), seen, self.eps)
        y = ((x - moments.mean) / moments.scale).masked_fill(~seen, 0)
        return (y * self.weight + self.bias if self.affine else y), moments

    def undo(self, y: Float[Tensor, "B H C"], moments: Moments) -> Float[Tensor, "B H C"]:
        """Back in the window's own units."""
        if self.affine:
            y = (y - self.bias) / self.weight
        return y * moments.scale + moments.mean

    def extra_repr(self) -> str:
        """Channels."""
        return f"{self.channels}, affine={self.affine}"


def _moments(x: Float[Tensor, "B T C"], seen: Bool[Tensor, "B T C"], eps: float) -> Moments:
    count = seen.sum(dim=1, keepdim=True)
    shared = count.clamp(min=1)
    mean = x.masked_fill(~seen, 0).sum(dim=1, keepdim=True) / shared
    variance = (x - mean).masked_fill(~seen, 0).square().sum(dim=1, keepdim=True) / shared
    return Moments(mean, torch.where(count > 0, (variance + eps).sqrt(), 1.0))
