"""NPZ archives into named arrays. Nothing is ever unpickled, and nothing is unpacked that promises too much."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from timecell.data.arrays import Arrays
from timecell.data.damage import reading, refuse_bomb
from timecell.data.read_npy import whole_array
from timecell.errors import DataError

SUFFIXES = (".npz",)


def read_npz(path: Path) -> Arrays:
    """All arrays of an archive written by `np.savez` or `np.savez_compressed`.

    Raises:
        DataError: the file is truncated or no NPZ archive, holds pickled objects, or unpacks to a huge size.
    """
    with reading(path, "NPZ archive"), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        refuse_bomb(path, sum(member.file_size for member in members), path.stat().st_size)
        named = {}
        for member in members:
            named[member.filename.removesuffix(".npy")] = _array(path, archive, member)
    return Arrays(path, named)


def _array(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    if not member.filename.endswith(".npy"):
        raise DataError(
            f"{path}, {member.filename}", found="a file that is no array", expected="arrays written by np.savez",
            remedy="write the archive again with np.savez(path, x=..., y=...)",
        )  # fmt: skip
    with archive.open(member) as file:
        return whole_array(path, file, member.file_size, member.filename.removesuffix(".npy"))
