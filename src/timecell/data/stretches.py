"""`Stretches`: pieces of a series whose inputs and targets are different channels of the same steps.

Decoding asks what one group of channels says about another one *now*: a position about the spikes that went with it, a
hidden neuron about its neighbours. A stretch has some steps to warm up (a memory begins empty), then the steps whose
targets count; in a target NaN means that a step does not count, so the loss and the score need to know nothing of this.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int

from timecell.data.containers import Batch, Cut, Schema, Series, fill_forward, fingerprint, with_channels
from timecell.data.splits import TEST, VALID, Splits, check_shares
from timecell.errors import InputError


@dataclass(frozen=True)
class Stretches(Cut):
    """Stretches of a series, one after the other; each of its steps is the target of one of them.

    Attributes:
        series: the record.
        inputs: numbers of the channels that are seen.
        targets: numbers of the channels that are asked for.
        starts: [N] first step that counts.
        length: steps that count (fewer where the part ends).
        stop: end of the part.
        warm: steps before them, to fill a memory; zeros before the series begins.
        lag: how many steps the inputs lie before the targets: 0, the same step; 1, only what came before.
        base: [C'] what an answer of zero means, a number a target (the logarithm of a unit's mean rate in training); it
            stands behind the targets of a batch. () = nothing does.

    Example:
        >>> series = Series(np.arange(12.0).reshape(6, 2), Schema("series", ("spikes", "speed")))
        >>> data = Stretches(series, inputs=(0,), targets=(1,), starts=np.array([2, 5]), length=3, stop=6, warm=1)
        >>> batch = data.batch(np.array([0]))
        >>> batch.x[0, :, 0].tolist(), batch.target[0, :, 0].tolist(), data.truth()[1, :, 0].tolist()
        ([2.0, 4.0, 6.0, 8.0], [nan, 5.0, 7.0, 9.0], [11.0, nan, nan])
    """

    series: Series
    inputs: tuple[int, ...]
    targets: tuple[int, ...]
    starts: Int[np.ndarray, "N"]
    length: int
    stop: int
    warm: int = 0
    lag: int = 0
    base: tuple[float, ...] = ()

    @property
    def schema(self) -> Schema:
        """Of the inputs."""
        whole = self.series.schema
        steps = self.warm + self.length
        return replace(whole, channels=tuple(whole.channels[c] for c in self.inputs), lengths=(steps, steps))

    @property
    def covered(self) -> slice:
        """The steps that count."""
        return slice(int(self.starts.min()), min(self.stop, int(self.starts.max()) + self.length))

    @property
    def target_channels(self) -> list[int]:
        """Numbers of the channels that are asked for."""
        return list(self.targets)

    @property
    def input_channels(self) -> list[int]:
        """Numbers of the channels that are seen."""
        return list(self.inputs)

    @property
    def fingerprint(self) -> str:
        """Hash of the series up to the end of the part, and of the cuts."""
        cuts = [*self.inputs, -1, *self.targets, -1, self.length, self.stop, self.warm, self.lag]
        return fingerprint(self.series.values[: self.stop], self.starts, np.array(cuts))

    def __len__(self) -> int:
        return len(self.starts)

    def batch(self, index: Int[np.ndarray, "B"]) -> Batch:
        """Inputs [B, warm + length, C] and targets [B, warm + length, C' (+ C' of `base`)], NaN where they do not count."""
        at = self.starts[index, None] + np.arange(-self.warm, self.length)
        seen = at - self.lag
        x = fill_forward(self.series.values[seen.clip(0, self.stop - 1)][..., list(self.inputs)])
        x = np.where((seen >= 0)[..., None], x, 0.0)
        target = self._targets(at, self.starts[index, None])
        base = np.broadcast_to(np.array(self.base), (*target.shape[:2], len(self.base)))
        target = np.concatenate([target, base], axis=2)
        return Batch(torch.from_numpy(x.astype(np.float32)), torch.from_numpy(target.astype(np.float32)))

    def truth(self) -> Float[np.ndarray, "N L C"]:
        """[N, length, C'] targets of all stretches in double precision."""
        return self._targets(self.starts[:, None] + np.arange(self.length), self.starts[:, None])

    def select(self, index: Int[np.ndarray, "n"]) -> Stretches:
        """The stretches with these numbers."""
        return replace(self, starts=self.starts[index])

    def _targets(self, at: Int[np.ndarray, "B L"], start: Int[np.ndarray, "B 1"]) -> Float[np.ndarray, "B L C"]:
        values = self.series.values[at.clip(0, self.stop - 1)][..., list(self.targets)]
        return np.where(((at >= start) & (at < self.stop))[..., None], values, np.nan)


def by_stretches(
    series: Series, inputs: tuple[int, ...], targets: tuple[int, ...], length: int, *, warm: int | None = None,
    lag: int = 0, valid: float = VALID, test: float = TEST,
) -> Splits:  # fmt: skip
    """Stretches of the first, the middle and the last part of a series; memories warm up on steps before their own.

    Args:
        series: the record.
        inputs: numbers of the channels that are seen.
        targets: numbers of the channels that are asked for.
        length: steps of a stretch that count.
        warm: steps before them; None = as many.
        lag: how many steps the inputs lie before the targets.
        valid: share of the steps that validates.
        test: share that tests.

    Raises:
        InputError: the series is too short, or a part has no observed target.

    Example:
        >>> series = Series(np.arange(80.0).reshape(40, 2), Schema("series", ("a", "b")))
        >>> parts = by_stretches(series, (0,), (1,), length=5)
        >>> [(len(p), p.covered.start, p.covered.stop) for p in (parts.train, parts.valid, parts.test)]
        [(6, 0, 26), (2, 26, 32), (2, 32, 40)]
    """
    check_shares(valid, test)
    series, inputs, targets = arranged(series, inputs, targets)
    T = len(series)
    borders = (0, round(T * (1 - valid - test)), round(T * (1 - test)), T)
    parts = []
    for name, start, stop in zip(("train", "valid", "test"), borders, borders[1:]):
        if stop - start < length or np.isnan(series.values[start:stop, list(targets)]).all():
            raise InputError(
                "series", found=f"{stop - start} steps in the {name} part" + (", no target observed" if stop - start >= length else ""),
                expected=f"at least one stretch of {length} steps with an observed target",
                remedy="shorten the history, or bring a longer record",
            )  # fmt: skip
        before = length if warm is None else warm
        parts.append(
            Stretches(series.cut(0, stop), inputs, targets, np.arange(start, stop, length), length, stop, before, lag)
        )
    return Splits(*parts)


def arranged(
    series: Series, inputs: tuple[int, ...], targets: tuple[int, ...]
) -> tuple[Series, tuple[int, ...], tuple[int, ...]]:
    """The inputs in front, then the targets that are none: wherever a file has its targets, or if it lacks them.

    Example:
        >>> series = Series(np.arange(6.0).reshape(2, 3), Schema("series", ("speed", "a", "b")))
        >>> found, inputs, targets = arranged(series, (1, 2), (0,))
        >>> found.schema.channels, found.values[0].tolist(), inputs, targets
        (('a', 'b', 'speed'), [1.0, 2.0, 0.0], (0, 1), (2,))
    """
    order = [*inputs, *(c for c in targets if c not in inputs)]
    if order == list(range(series.values.shape[1])):
        return series, inputs, targets
    return with_channels(series, order), tuple(map(order.index, inputs)), tuple(map(order.index, targets))
