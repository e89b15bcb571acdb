"""From label values, words or whole numbers, to class indices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Int, Shaped

from timecell.errors import DataError


def class_indices(
    values: Shaped[np.ndarray, "N"], source: str, row: Callable[[int], str]
) -> tuple[Int[np.ndarray, "N"], tuple[str, ...]]:
    """Indices into the sorted class names, and the names.

    Args:
        values: text ("" = missing) or numbers (NaN = missing), one a row.
        source: file and column, for error messages.
        row: what to call a row in an error message.

    Raises:
        DataError: a label is missing or is a number with a fraction.

    Example:
        >>> index, names = class_indices(np.array(["no", "yes", "no"]), "file", str)
        >>> index.tolist(), names
        ([0, 1, 0], ('no', 'yes'))
    """
    if values.dtype.kind == "U":
        values = np.char.strip(values)
    missing = np.flatnonzero(_missing(values))
    if len(missing):
        shown = ", ".join(row(int(i)) for i in missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise DataError(
            source, found=f"no label in {len(missing)} of {len(values)} rows ({shown})", expected="one in every row",
            remedy="fill them in, or delete these rows",
        )  # fmt: skip
    if values.dtype.kind == "f":
        broken = np.flatnonzero(values != np.floor(values))
        if len(broken):
            i = int(broken[0])
            raise DataError(
                f"{source}, {row(i)}", found=f"{values[i]:g}", expected="a class: a word or a whole number",
                remedy="choose the label column with target=, or sort the numbers into classes first",
            )  # fmt: skip
        values = values.astype(np.int64)
    names, index = np.unique(values, return_inverse=True)
    return index.astype(np.int64), tuple(str(name) for name in names)


def _missing(values: Shaped[np.ndarray, "N"]) -> Shaped[np.ndarray, "N"]:
    if values.dtype.kind == "f":
        return ~np.isfinite(values)
    if values.dtype.kind == "U":
        return (values == "") | (np.char.lower(values) == "nan")
    return np.zeros(len(values), dtype=bool)
