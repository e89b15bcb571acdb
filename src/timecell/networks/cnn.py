"""Convolutional encoders of pictures and clips, instant by instant.

    [B, T, C, H, W] -> (convolution -> batch norm -> units -> pooling) x blocks -> flat -> Linear -> [B, T, D]

What the units are is an argument: an activation makes an ordinary net, a neuron its spiking twin with the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from timecell.combine import Sequential
from timecell.errors import InputError

Units = Callable[[tuple[int, int, int]], nn.Module]
"""Makes the units behind a convolution: ``(channels, 1, 1) -> module``; units share their parameters over space."""


def relu(size: tuple[int, int, int]) -> nn.Module:
    """Rectified units; the size does not matter."""
    return nn.ReLU()


class Pictures(nn.Module):
    """Flat pictures of one instant in their shape; those that have it stay as they are."""

    def __init__(self, picture: tuple[int, int, int]) -> None:
        super().__init__()
        self.picture = tuple(picture)

    def forward(self, x: Float[Tensor, "N ..."]) -> Float[Tensor, "N C H W"]:
        """[N, C H W] or [N, C, H, W] -> [N, C, H, W]."""
        return x.reshape(len(x), *self.picture)


class SmallCNN(Sequential):
    """A few convolutions, each halving the picture, and a linear map.

    Args:
        picture: (C, H, W) of an input.
        outputs: D.
        channels: feature maps of each block; a block halves height and width, rounding down.
        units: makes the units of a block, e.g. ``lambda size: LIF(size, tau=2.0)``.
        norm: batch norm behind each convolution, over batch, time and space.

    Shapes: x [B, T, C, H, W], or flat [B, T, C H W] -> y [B, T, D].

    Raises:
        InputError: the picture is too small for so many blocks.

    Example:
        >>> import torch
        >>> from timecell import LIF
        >>> x = torch.rand(2, 3, 1, 28, 28)
        >>> SmallCNN((1, 28, 28), 10)(x)[0].shape
        torch.Size([2, 3, 10])
        >>> SmallCNN((1, 28, 28), 10, units=lambda size: LIF(size, tau=2.0))(x)[0].shape
        torch.Size([2, 3, 10])
    """

    @classmethod
    def example(cls) -> SmallCNN:
        """For the checks, whose inputs are flat: pictures of 2 x 2."""
        return cls((1, 2, 2), 3, channels=(2,), norm=False)

    def __init__(
        self, picture: tuple[int, int, int], outputs: int, channels: Sequence[int] = (16, 32), *, units: Units = relu,
        norm: bool = True,
    ) -> None:  # fmt: skip
        inputs, height, width = picture
        shrunk = 2 ** len(channels)
        if min(height, width) < shrunk:
            raise InputError(
                "SmallCNN(picture)", found=f"{height} x {width} pixels", expected=f"at least {shrunk} x {shrunk} for "
                f"{len(channels)} blocks that halve it", remedy="use fewer blocks",
            )  # fmt: skip
        parts: list[nn.Module] = [Pictures(picture)]
        for before, after in pairwise((inputs, *channels)):
            parts.append(nn.Conv2d(before, after, 3, padding=1, bias=not norm))
            parts += [nn.BatchNorm2d(after)] if norm else []
            parts += [units((after, 1, 1)), nn.AvgPool2d(2)]
        pixels = (height // shrunk) * (width // shrunk)
        super().__init__(*parts, nn.Flatten(), nn.Linear((inputs, *channels)[-1] * pixels, outputs))
