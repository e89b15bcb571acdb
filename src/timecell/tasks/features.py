"""Features of whole sequences, for baselines that know nothing of time: plain summaries, and random convolutions.

Both look only at a sample's own steps, whatever it is padded to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from timecell.data.containers import Sequences
from timecell.tasks.readout import valid
from timecell.tasks.ridge import Scaling

SUMMARIES = 12  # of each channel
TAPS = 9  # of each random kernel
BATCH_BYTES = 64_000_000  # of convolution outputs at a time


def summaries(data: Sequences) -> Float[np.ndarray, "N F"]:
    """[N, 12 C + 1] summaries of each channel, and the number of steps.

    Mean, standard deviation, minimum, quartiles, maximum, first and last value, slope [1/step], mean absolute change,
    number of non-zero values.

    Example:
        >>> data = Sequences.of([np.array([[0.0], [1.0], [2.0]])])
        >>> summaries(data)[0, [0, 9, 12]].round(6).tolist()
        [1.0, 1.0, 3.0]
    """
    return np.stack([_summary(data[i].astype(np.float64)) for i in range(len(data))])


def _summary(x: Float[np.ndarray, "T C"]) -> Float[np.ndarray, "F"]:
    step = np.arange(len(x)) - (len(x) - 1) / 2
    slope = step @ x / max(step @ step, 1)
    change = np.abs(np.diff(x, axis=0)).sum(axis=0) / max(len(x) - 1, 1)
    spread = np.quantile(x, [0, 0.25, 0.5, 0.75, 1], axis=0)
    by_channel = np.stack([x.mean(0), x.std(0), *spread, x[0], x[-1], slope, change, (x != 0).sum(0)])
    return np.append(by_channel.ravel(), len(x))


@dataclass(frozen=True)
class RandomKernels:
    """Random dilated convolutions, each summed up by two numbers (ROCKET: Dempster, Petitjean, Webb 2020).

    A kernel has 9 normal weights on each of a random few of the channels. Its features are the largest output and the
    share of outputs above a random threshold. Sequences are padded with zeros, which after scaling is the channels'
    mean, so every kernel has an output at every step of a sample of any length.

    Attributes:
        mean, spread: [C] of the channels on the training data.
        weight: [K, C, 9].
        dilation: [K] steps between taps, in increasing order.
        threshold: [K].
    """

    mean: Float[np.ndarray, "C"]
    spread: Float[np.ndarray, "C"]
    weight: Float[np.ndarray, "K C 9"]
    dilation: Int[np.ndarray, "K"]
    threshold: Float[np.ndarray, "K"]

    @classmethod
    def draw(cls, data: Sequences, kernels: int, rng: np.random.Generator) -> RandomKernels:
        """Kernels for data like these. Thresholds are drawn around each kernel's mean output, as far as it spreads."""
        scaling = Scaling.of(data.values)
        C = data.values.shape[1]
        scales = int(np.log2(max(1, (data.lengths.max() - 1) / (TAPS - 1))))
        dilation = np.sort(2 ** rng.integers(0, scales + 1, kernels))
        some = np.floor(2 ** rng.uniform(0, np.log2(C + 1), kernels)).astype(int)
        chosen = rng.permuted(np.tile(np.arange(C), (kernels, 1)), axis=1) < some[:, None]
        weight = rng.standard_normal((kernels, C, TAPS)) * chosen[:, :, None]
        blank = cls(scaling.mean, scaling.spread, weight, dilation, np.zeros(kernels))

        sample = data.select(np.sort(rng.choice(len(data), min(len(data), 100), replace=False)))
        total, squares = torch.zeros(2, kernels, dtype=torch.float64)
        for _, group, outputs in blank._outputs(sample):
            own = outputs.masked_fill(outputs.isneginf(), 0)
            total[group] += own.sum(dim=(0, 2))
            squares[group] += own.square().sum(dim=(0, 2))
        mean, square = total.numpy() / len(sample.values), squares.numpy() / len(sample.values)
        deviation = np.sqrt(np.maximum(square - mean**2, 0))
        threshold = mean + deviation * rng.standard_normal(kernels)
        return cls(scaling.mean, scaling.spread, weight, dilation, threshold)

    def __call__(self, data: Sequences) -> Float[np.ndarray, "N F"]:
        """[N, 2 K] features: the share of outputs above the threshold, and the largest output, of each kernel."""
        steps = torch.from_numpy(data.lengths)
        threshold = torch.from_numpy(self.threshold)[:, None]
        share, largest = torch.empty(2, len(data), len(self.weight), dtype=torch.float64)
        for rows, group, outputs in self._outputs(data):
            share[rows, group] = (outputs > threshold[group]).sum(dim=2) / steps[rows, None]
            largest[rows, group] = outputs.amax(dim=2)
        return torch.cat([share, largest], dim=1).numpy()

    def _outputs(self, data: Sequences) -> Iterator[tuple[slice, slice, Float[Tensor, "B K T"]]]:
        """Some samples and kernels at a time: which, and their outputs; minus infinity beyond a sample's end.

        In double precision, so that no rounding can carry an output over its threshold when batches are cut otherwise.
        """
        dilations, first = np.unique(self.dilation, return_index=True)
        groups = [slice(a, b) for a, b in zip(first, [*first[1:], len(self.dilation)])]
        mean, spread, weight = map(torch.from_numpy, (self.mean, self.spread, self.weight))
        size = max(1, BATCH_BYTES // (8 * int(data.lengths.max()) * max(g.stop - g.start for g in groups)))
        for start in range(0, len(data), size):
            rows = slice(start, min(start + size, len(data)))
            batch = data.batch(np.arange(rows.start, rows.stop))
            beyond = ~valid(batch, range(batch.x.shape[1]))
            x = ((batch.x - mean) / spread).masked_fill(beyond[:, :, None], 0).mT
            for d, group in zip(dilations.tolist(), groups):
                y = F.conv1d(x, weight[group], padding=d * (TAPS - 1) // 2, dilation=d)
                yield rows, group, y.masked_fill_(beyond[:, None], -torch.inf)
