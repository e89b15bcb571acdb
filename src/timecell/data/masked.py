"""`MaskedWindows`: windows of a series in which known values are hidden, to be told from the rest.

Each channel hides values of its own, single ones or gaps of several steps. The windows to learn from have new masks
every time they are looked at; those to validate and test on have one mask, fixed by the data and a seed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from timecell.data.containers import Batch, Cut, Schema, Series, fingerprint
from timecell.data.splits import TEST, VALID, Splits, check_shares
from timecell.errors import InputError


@dataclass(frozen=True)
class MaskedWindows(Cut):
    """Windows of one length, in which some values are hidden.

    Attributes:
        series: the record; NaN = never known.
        length: steps of a window.
        starts: [N] first step of each window.
        share: of the values that is hidden on average.
        gap: steps of a gap; 1 = each value for itself. Gaps may overlap and then make a longer one.
        hidden: [T, C] which values of the series are hidden; None = drawn anew for each batch, from torch's generator,
            which a fit seeds and a checkpoint keeps.

    Example:
        >>> series = Series(np.arange(4.0)[:, None] + 1, Schema("series", ("x",)))
        >>> hidden = np.array([[False], [True], [False], [False]])
        >>> batch = MaskedWindows(series, 4, np.array([0]), share=0.25, hidden=hidden).batch(np.array([0]))
        >>> batch.x[0].tolist(), batch.target[0, :, 0].tolist()
        ([[1.0, 1.0], [0.0, 0.0], [3.0, 1.0], [4.0, 1.0]], [nan, 2.0, nan, nan])
    """

    series: Series
    length: int
    starts: Int[np.ndarray, "N"]
    share: float
    gap: int = 1
    hidden: Bool[np.ndarray, "T C"] | None = None

    @property
    def schema(self) -> Schema:
        """Of what a net reads: each channel, and then for each one whether it is seen."""
        whole = self.series.schema
        flags = tuple(f"{name} seen" for name in whole.channels)
        return replace(whole, channels=(*whole.channels, *flags), lengths=(self.length, self.length))

    @property
    def covered(self) -> slice:
        """From the first step of the first window to the last one of the last."""
        return slice(int(self.starts.min()), int(self.starts.max()) + self.length)

    @property
    def fingerprint(self) -> str:
        """Hash of the series, the cuts and the mask."""
        mask = np.zeros(0, bool) if self.hidden is None else self.hidden
        return fingerprint(self.series.values, self.starts, np.array([self.length, self.share, self.gap]), mask)

    def __len__(self) -> int:
        return len(self.starts)

    def batch(self, index: Int[np.ndarray, "B"]) -> Batch:
        """Inputs [B, L, 2 C], the values (zero where not seen) and 1 where they are seen; targets [B, L, C], the hidden
        values (NaN elsewhere)."""
        seen, target = self.sides(index)
        x = np.concatenate([np.nan_to_num(seen), ~np.isnan(seen)], axis=2)
        return Batch(torch.from_numpy(x.astype(np.float32)), torch.from_numpy(target.astype(np.float32)))

    def sides(
        self, index: Int[np.ndarray, "B"] | None = None
    ) -> tuple[Float[np.ndarray, "B L C"], Float[np.ndarray, "B L C"]]:
        """What is seen of these windows (of all of them) and what is hidden, NaN elsewhere, in double precision."""
        at = (self.starts if index is None else self.starts[index])[:, None] + np.arange(self.length)
        values = self.series.values[at].astype(np.float64)
        hidden = draw(torch.rand(values.shape), self.share, self.gap) if self.hidden is None else self.hidden[at]
        return np.where(hidden, np.nan, values), np.where(hidden, values, np.nan)

    def select(self, index: Int[np.ndarray, "n"]) -> MaskedWindows:
        """The windows with these numbers."""
        return replace(self, starts=self.starts[index])


def draw(uniform: Float[Tensor, "*N T C"], share: float, gap: int) -> Bool[np.ndarray, "*N T C"]:
    """A mask that hides a share of the values in gaps of so many steps, from uniform random numbers.

    A gap begins wherever the number is below 1 - (1 - share)^(1 / gap), so that a value, which any of `gap` beginnings
    may hide, is hidden with probability `share` (towards the first steps with less).

    Example:
        >>> draw(torch.tensor([[0.1], [0.9], [0.9]]), share=0.5, gap=2)[:, 0].tolist()
        [True, True, False]
    """
    begins = (uniform < 1 - (1 - share) ** (1 / gap)).numpy()
    hidden = begins.copy()
    for later in range(1, min(gap, begins.shape[-2])):
        hidden[..., later:, :] |= begins[..., :-later, :]
    return hidden


def by_masking(
    series: Series, length: int, share: float, gap: int = 1, seed: int = 0, valid: float = VALID, test: float = TEST
) -> Splits:
    """Masked windows of the first, the middle and the last stretch of time; a part knows nothing of the others.

    Training windows begin at every step. Those of validation and test lie one after the other and stay fixed; what is
    left at the end of a part, shorter than a window, is not scored.

    Args:
        series: the record.
        length: steps of a window.
        share: of the values to hide.
        gap: steps of a gap.
        seed: of the fixed masks.
        valid: share of the steps that validates.
        test: share that tests.

    Raises:
        InputError: a part is shorter than a window, or has nothing to hide.

    Example:
        >>> series = Series(np.arange(100.0)[:, None], Schema("series", ("x",)))
        >>> parts = by_masking(series, length=7, share=0.5)
        >>> len(parts.train), parts.valid.starts.tolist(), parts.test.starts.tolist()
        (59, [65, 72], [80, 87])
    """
    check_shares(valid, test)
    T = len(series)
    borders = (0, round(T * (1 - valid - test)), round(T * (1 - test)), T)
    uniform = torch.rand(series.values.shape, generator=torch.Generator().manual_seed(seed))
    fixed = draw(uniform, share, gap)
    parts = []
    for name, start, stop in zip(("train", "valid", "test"), borders, borders[1:]):
        part = series.cut(0, stop)
        known = ~np.isnan(part.values[start:])
        if stop - start < length or not (known if name == "train" else known & fixed[start:stop]).any():
            raise InputError(
                "series", found=f"{stop - start} steps in the {name} part, {int(known.sum())} values known",
                expected=f"at least one window of {length} steps, with values to hide",
                remedy="shorten the windows (history=), hide a larger share, or bring a longer record",
            )  # fmt: skip
        training = name == "train"
        starts = np.arange(start, stop - length + 1, 1 if training else length)
        parts.append(MaskedWindows(part, length, starts, share, gap, None if training else fixed[:stop]))
    return Splits(*parts)
