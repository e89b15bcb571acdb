"""`Arrays`: the named arrays of a file, and errors that name array and element."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Shaped

from timecell.errors import DataError, unknown_name

Layout = Literal["spikes", "counts", "events", "sequences", "series"]
EVENT = ("x", "y", "t", "p")
"""What an event of a camera is made of: column, row, time, polarity."""


@dataclass(frozen=True)
class Arrays:
    """The arrays of a file, and errors that name them.

    Attributes:
        path: the file.
        named: name -> array.
    """

    path: Path
    named: Mapping[str, np.ndarray]

    def source(self, name: str) -> str:
        """What to call an array in a message."""
        return f"{self.path}, array {name!r}"

    def without(self, names: Collection[str]) -> Arrays:
        """Without these arrays; InputError if one does not exist."""
        for name in names:
            if name not in self.named:
                raise unknown_name(f"{self.path}, ignore", name, self.named)
        return replace(self, named={k: v for k, v in self.named.items() if k not in names})

    def layout(self, kind: str | None, target: str | None) -> Layout:
        """Which of the layouts the names make; DataError if none."""
        x = self.named.get("x", self.named.get("values"))
        if "times" in self.named:
            labels = {"offsets", "labels", "y", target} & self.named.keys()
            layout: Layout = "spikes" if labels else "counts"
        elif set(EVENT) <= self.named.keys() or any(
            set(EVENT) <= set(a.dtype.names or ()) for a in self.named.values()
        ):
            layout = "events"
        elif x is None:
            raise DataError(
                str(self.path), found=f"the arrays {', '.join(self.named) or 'none'}",
                expected="x [N, T, C] with y [N], values [T, C], times, units, offsets, labels, or x, y, t, p of events",
                remedy="name the arrays so",
            )  # fmt: skip
        else:
            labelled = {"y", "labels", target} & self.named.keys()
            flat = "values" in self.named or (x.ndim <= 2 and not labelled and kind != "sequences")
            layout = "series" if flat else "sequences"
        if kind is not None and (kind == "series") != (layout in ("series", "counts")):
            raise DataError(
                str(self.path), found=f"the arrays {', '.join(self.named)}, which are not {kind}",
                expected="values [T, C] for a series, x [N, T, C] and y [N] for sequences",
                remedy="choose a task that fits the data: forecast for a series, classify for sequences",
            )  # fmt: skip
        return layout

    def only(self, *known: str | None) -> None:
        """Raise DataError if there is an array beyond these."""
        for name in self.named:
            if name not in known:
                names = ", ".join(sorted(filter(None, known)))
                raise DataError(
                    self.source(name), found="an array of an unknown name", expected=f"one of {names}",
                    remedy=f"rename it, or leave it out with ignore=[{name!r}] (--ignore {name})",
                )  # fmt: skip

    def get(self, name: str, kinds: str, shape: tuple[int | None, ...]) -> np.ndarray:
        """An array of this shape (None = any length) whose type is of these numpy kinds, e.g. "iuf".

        Raises:
            DataError: it is absent, or has another shape or type.
        """
        if name not in self.named:
            raise DataError(
                str(self.path), found=f"no array {name!r} among {', '.join(self.named)}", expected="this array as well",
                remedy="add it, or check the names",
            )  # fmt: skip
        array = self.named[name]
        fits = array.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape))
        if not fits:
            lengths = ", ".join("any" if n is None else str(n) for n in shape)
            raise DataError(
                self.source(name), found=f"shape {list(array.shape)}", expected=f"[{lengths}]",
                remedy="check the order of the axes: samples, time, channels",
            )  # fmt: skip
        if array.dtype.kind not in kinds:
            words = ["numbers" if "f" in kinds else "whole numbers"] * ("i" in kinds) + ["text"] * ("U" in kinds)
            raise DataError(
                self.source(name), found=f"type {array.dtype}", expected=" or ".join(words),
                remedy="write it with such a type",
            )  # fmt: skip
        return array

    def rate(self) -> float | None:
        """Steps per second, if the file says it."""
        if "rate" not in self.named:
            return None
        rate = float(self.get("rate", "iuf", ()))
        if not rate > 0 or not np.isfinite(rate):
            raise DataError(self.source("rate"), found=rate, expected="steps per second", remedy="correct or remove it")
        return rate

    def refuse(self, bad: Shaped[np.ndarray, "..."], name: str, expected: str, remedy: str) -> None:
        """Raise DataError at the first element marked as bad."""
        if bad.any():
            at = np.argwhere(bad)[0].tolist()
            raise DataError(
                f"{self.path}, {name}{at}", found=self.named[name][tuple(at)], expected=expected, remedy=remedy
            )

    def numbers(self, name: str, ndim: tuple[int, int]) -> np.ndarray:
        """An array of numbers with one of two numbers of axes; the last axis, channels, is added where it is absent."""
        array = self.named[name]
        array = self.get(name, "biuf", (None,) * (ndim[0] if array.ndim == ndim[0] else ndim[1]))
        array = array.astype(np.uint8) if array.dtype.kind == "b" else array
        if not array.size:
            raise DataError(
                self.source(name),
                found=f"shape {list(array.shape)}",
                expected="at least one value",
                remedy="check the file",
            )
        return array[..., None] if array.ndim == ndim[0] else array
