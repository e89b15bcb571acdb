"""Small pictures that are always at hand, as intensities in [0, 1]; the encoders make sequences of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from timecell.data.containers import Sequences
from timecell.data.datasets import files
from timecell.data.readers import load
from timecell.errors import InputError


@dataclass(frozen=True)
class Images:
    """Labelled pictures.

    Attributes:
        pixels: [N, H, W] intensities, 0 to 1.
        target: [N] class indices into `classes`.
        classes: names.
    """

    pixels: Float[np.ndarray, "N H W"]
    target: Int[np.ndarray, "N"]
    classes: tuple[str, ...]

    def pooled(self, size: int) -> Images:
        """The same pictures in coarser pixels, each the mean of size x size.

        Raises:
            InputError: height or width is no multiple of the size.

        Example:
            >>> load_mnist().pooled(2).pixels.shape
            (5000, 14, 14)
        """
        N, H, W = self.pixels.shape
        if H % size or W % size:
            raise InputError(
                "size", found=size, expected=f"a divisor of {H} and {W}", remedy="cut or pad the pictures first"
            )
        return replace(self, pixels=self.pixels.reshape(N, H // size, size, W // size, size).mean(axis=(2, 4)))

    def encoded(self, code: Callable[[Float[Tensor, "N P"]], Float[Tensor, "N T P"]]) -> Sequences:
        """Sequences of flattened pictures, one channel a pixel, by an encoder such as ``lambda x: direct(x, 6)``.

        Raises:
            InputError: the code returns something else than [N, T, P].

        Example:
            >>> from timecell.data.encoders import latency
            >>> data = load_digits().encoded(lambda x: latency(x, steps=15))
            >>> len(data), data[0].shape, data.schema.channels[9], data.schema.spikes
            (1797, (15, 64), 'pixel 1,1', True)
        """
        N, H, W = self.pixels.shape
        x = code(torch.from_numpy(self.pixels.reshape(N, H * W)))
        if x.ndim != 3 or (x.shape[0], x.shape[2]) != (N, H * W):
            raise InputError(
                "code", found=f"shape {list(x.shape)}", expected=f"[{N}, T, {H * W}]",
                remedy="use an encoder of timecell.data: direct, rate or latency",
            )  # fmt: skip
        channels = tuple(f"pixel {row},{column}" for row in range(H) for column in range(W))
        return Sequences.of(x.numpy(), self.target, classes=self.classes, channels=channels)


def load_digits() -> Images:
    """1,797 handwritten digits of 8 x 8 pixels, 10 classes, in 17 grey levels.

    They come with scikit-learn: the test half of "Optical Recognition of Handwritten Digits" by E. Alpaydin and
    C. Kaynak (UCI Machine Learning Repository, 1998; CC BY 4.0).

    Example:
        >>> digits = load_digits()
        >>> digits.pixels.shape, float(digits.pixels.max()), len(digits.classes)
        ((1797, 8, 8), 1.0, 10)
    """
    from sklearn import datasets

    bunch = datasets.load_digits()
    pixels = (bunch.images / 16).astype(np.float32)
    return Images(pixels, bunch.target.astype(np.int64), tuple(str(k) for k in range(10)))


def load_mnist() -> Images:
    """5,000 handwritten digits of 28 x 28 pixels, 10 classes, in 16 grey levels.

    They are the first 5,000 of the 10,000 *test* digits of MNIST (Y. LeCun, C. Cortes and C. Burges; CC BY-SA 3.0), so
    what is measured on them is no score on MNIST. ``timecell.data.load`` reads the same file row by row, as sequences
    of 28 steps and 28 channels.

    Example:
        >>> digits = load_mnist()
        >>> digits.pixels.shape, float(digits.pixels.max()), len(digits.classes)
        ((5000, 28, 28), 1.0, 10)
    """
    rows = load(files()["mnist"], kind="sequences")
    assert isinstance(rows, Sequences) and rows.target is not None
    pixels = rows.values.astype(np.float32).reshape(-1, 28, 28)
    return Images(pixels, rows.target, tuple(str(k) for k in range(10)))
