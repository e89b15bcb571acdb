"""NPZ archives into named arrays. Nothing is ever unpickled."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from timecell.errors import DataError


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an archive written by `np.savez` or `np.savez_compressed`.

    Raises:
        DataError: the file is truncated or no NPZ archive, or holds pickled objects.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: _plain(path, archive, name) for name in archive.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            str(path), found=f"no readable NPZ archive ({error})", expected="a whole archive written by np.savez",
            remedy="copy or write it again",
        ) from error  # fmt: skip


def _plain(path: Path, archive: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    """One array; DataError if it is pickled."""
    try:
        return archive[name]
    except ValueError as error:
        if "pickle" not in str(error):
            raise
        raise DataError(
            f"{path}, array {name!r}", found="pickled Python objects", expected="an array of numbers or text",
            remedy="pad sequences of different lengths to one array x [N, T, C] and add lengths [N]",
        ) from error  # fmt: skip
