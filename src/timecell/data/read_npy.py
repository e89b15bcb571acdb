"""One array in a .npy file: a block of samples, a series, or the events of a recording."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np

from timecell.data.arrays import Arrays
from timecell.data.damage import reading
from timecell.errors import DataError

SUFFIXES = (".npy",)


def read_npy(path: Path) -> Arrays:
    """The array under the name `events` if it has named fields, else under `x`.

    Raises:
        DataError: the file is truncated or no .npy file, or holds pickled objects.
    """
    with path.open("rb") as file:
        array = whole_array(path, file, path.stat().st_size)
    return Arrays(path, {"events" if array.dtype.names else "x": array})


def whole_array(path: Path, file: IO[bytes], size: int, name: str = "") -> np.ndarray:
    """An array in the .npy format, if the header promises what the file holds and no more.

    Args:
        path: the file, for messages.
        file: open at the array's start.
        size: number of bytes from there to the array's end.
        name: of an array in an archive, for messages.
    """
    place, form = (f"{path}, array {name!r}", "NPZ archive") if name else (str(path), ".npy file")
    with reading(path, form):
        version = np.lib.format.read_magic(file)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, _, dtype = header(file)
    if dtype.hasobject:
        raise DataError(
            place, found="pickled Python objects", expected="an array of numbers or text",
            remedy="pad sequences of different lengths to one array x [N, T, C] and add lengths [N]",
        )  # fmt: skip
    promised, held = int(np.prod(shape, dtype=object)) * dtype.itemsize, size - file.tell()
    if promised != held:
        raise DataError(
            place, found=f"{held:,} bytes", expected=f"{promised:,} for the shape {list(shape)} of {dtype} in its header",
            remedy="the file was cut, or damaged: copy or write it again",
        )  # fmt: skip
    with reading(path, form):
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)
