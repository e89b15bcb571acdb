"""Convolutions over pictures [B, C, H, W]."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from timecell.errors import InputError


class Inception2d(nn.Module):
    """The mean of convolutions of several sizes: kernels of 1, 3, ..., 2 m - 1 pixels a side.

    A sum of convolutions of one picture is one convolution with the sum of their kernels, the small ones in the middle of
    the largest. So m kernels and one bias are learnt, and one convolution is computed.

    Args:
        inputs: channels in.
        outputs: channels out.
        kernels: m, how many sizes.

    Shapes: x [B, inputs, H, W] -> [B, outputs, H, W]; around the picture there are zeros.

    Source: Szegedy et al., "Going deeper with convolutions" (2015); in this form Wu et al. (2023), arXiv:2210.02186.

    Example:
        >>> layer = Inception2d(3, 8, kernels=4)
        >>> tuple(layer(torch.rand(2, 3, 5, 9)).shape), sum(p.numel() for p in layer.parameters())
        ((2, 8, 5, 9), 2024)
    """

    def __init__(self, inputs: int, outputs: int, kernels: int = 6) -> None:
        super().__init__()
        for name, value in (("inputs", inputs), ("outputs", outputs), ("kernels", kernels)):
            if value < 1:
                raise InputError(f"Inception2d({name})", found=value, expected="1 or more", remedy="pass a larger one")
        self.weights = nn.ParameterList(torch.empty(outputs, inputs, 2 * m + 1, 2 * m + 1) for m in range(kernels))
        self.bias = nn.Parameter(torch.zeros(outputs))
        for weight in self.weights:
            nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H W"]:
        """The convolution with the mean kernel."""
        weight = self.kernel()
        return nn.functional.conv2d(x, weight, self.bias, padding=weight.shape[-1] // 2)

    def kernel(self) -> Float[Tensor, "O I k k"]:
        """The mean of the kernels, each in the middle of the largest."""
        largest = len(self.weights) - 1
        return torch.stack([nn.functional.pad(w, [largest - m] * 4) for m, w in enumerate(self.weights)]).mean(dim=0)
