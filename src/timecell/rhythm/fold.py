"""`fold` and `unfold`: a series as a picture. One row is one period; one column is the same phase of every period.

    x_1 x_2 x_3 x_4 x_5 x_6 x_7   with period 3, padded on the right:    x_1 x_2 x_3
                                                                         x_4 x_5 x_6
                                                                         x_7  0   0

What changes within a period is seen along a row, what changes from period to period along a column.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Shaped
from torch import Tensor

from timecell.errors import InputError, unknown_name

Pad = Literal["right", "left", "reflect"]


def fold(x: Shaped[Tensor, "B T ..."], period: int, pad: Pad = "right") -> Shaped[Tensor, "B rows period ..."]:
    """Cut time into rows of one period each; the missing steps of the incomplete row are padded.

    Args:
        x: series.
        period: steps in a row, 1 or more; a period above T makes one padded row.
        pad: zeros after the end ("right"), zeros before the beginning ("left"), or the last steps mirrored after the
            end, the last one not repeated ("reflect").

    Raises:
        InputError: the period is below 1, or there are too few steps to mirror.

    Example:
        >>> fold(torch.arange(1.0, 8.0)[None], period=3).tolist()
        [[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 0.0, 0.0]]]
    """
    steps = x.shape[1]
    missing = _missing(steps, period, pad)
    if missing:
        if pad == "reflect" and missing >= steps:
            raise InputError(
                "period", found=period, expected=f"at most {2 * steps - 1} for {steps} steps to mirror",
                remedy='pass pad="right", or a shorter period',
            )  # fmt: skip
        extra = (
            x[:, steps - 1 - missing : -1].flip(1) if pad == "reflect" else x.new_zeros(len(x), missing, *x.shape[2:])
        )
        x = torch.cat([extra, x] if pad == "left" else [x, extra], dim=1)
    return x.unflatten(1, (-1, period))


def unfold(y: Shaped[Tensor, "B rows period ..."], steps: int, pad: Pad = "right") -> Shaped[Tensor, "B T ..."]:
    """The inverse of `fold` for a series of so many steps; what was padded is left out.

    Raises:
        InputError: the picture does not belong to a series of so many steps.

    Example:
        >>> x = torch.rand(2, 7, 5)
        >>> bool((unfold(fold(x, 3, "left"), 7, "left") == x).all())
        True
    """
    rows, period = y.shape[1:3]
    missing = _missing(steps, period, pad)
    if rows * period != steps + missing:
        raise InputError(
            "steps", found=steps, expected=f"{(rows - 1) * period + 1} to {rows * period} for {rows} rows of {period}",
            remedy="pass the number of steps that were folded",
        )  # fmt: skip
    first = missing if pad == "left" else 0
    return y.flatten(1, 2)[:, first : first + steps]


def _missing(steps: int, period: int, pad: str) -> int:
    """How many steps the incomplete row lacks."""
    if pad not in get_args(Pad):
        raise unknown_name("pad", pad, get_args(Pad))
    if period < 1:
        raise InputError("period", found=period, expected="1 step or more", remedy="pass a positive whole number")
    return -steps % period
