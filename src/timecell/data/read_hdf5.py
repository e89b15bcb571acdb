"""HDF5 files into named arrays, among them the Spiking Heidelberg layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from timecell.data.arrays import Arrays
from timecell.data.damage import reading, refuse_bomb
from timecell.errors import DataError, MissingExtra

SUFFIXES = (".h5", ".hdf5", ".hdf")
HEIDELBERG = {"labels": "labels", "extra/speaker": "speakers", "extra/keys": "classes", "split": "split"}


def read_hdf5(path: Path) -> Arrays:
    """All datasets by their path in the file, or of a file with a group ``spikes`` the flat form of its spikes.

    The Spiking Heidelberg layout (Cramer et al. 2020) keeps a ragged list of times in seconds and of unit numbers in
    ``spikes/times`` and ``spikes/units``. Here they come end to end as `times` and `units` with `offsets`, and with
    `labels`, `speakers`, `classes` and `split` where the file has ``labels``, ``extra/speaker``, ``extra/keys`` and
    ``split``. What else is below ``extra`` describes the speakers and is left out.

    Raises:
        DataError: the file is truncated or no HDF5 file, or a sample has more times than units.
        MissingExtra: h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingExtra("h5py", "io", f"reading {path}") from error
    with reading(path, "HDF5 file"), h5py.File(path, "r") as file:
        named = _spikes(path, file) if "spikes" in file else _datasets(path, file)
    return Arrays(path, named)


def _datasets(path: Path, file: Any) -> dict[str, np.ndarray]:
    """Every dataset under its full name."""
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if hasattr(item, "dtype") else None)
    return {name: _array(path, name, file[name]) for name in names}


def _spikes(path: Path, file: Any) -> dict[str, np.ndarray]:
    """The Heidelberg layout with ragged lists laid end to end."""
    times, units = (list(_ragged(path, f"spikes/{name}", file)) for name in ("times", "units"))
    lengths = np.array([len(own) for own in times], dtype=np.int64)
    others = np.array([len(own) for own in units], dtype=np.int64)
    if len(lengths) != len(others) or (lengths != others).any():
        at = int(np.argmax(lengths != others)) if len(lengths) == len(others) else min(len(lengths), len(others))
        raise DataError(
            f"{path}, spikes, sample {at}", found=f"{_get(lengths, at)} times and {_get(others, at)} units",
            expected="one unit for each time", remedy="copy or write the file again",
        )  # fmt: skip
    arrays = {
        "times": np.concatenate([np.zeros(0), *times]),
        "units": np.concatenate([np.zeros(0, np.int64), *units]),
        "offsets": np.concatenate([[0], np.cumsum(lengths)]),
    }
    return arrays | {flat: _array(path, name, file[name]) for name, flat in HEIDELBERG.items() if name in file}


def _ragged(path: Path, name: str, file: Any) -> np.ndarray:
    """A dataset of arrays of different lengths."""
    import h5py

    dataset = file[name]
    if not h5py.check_vlen_dtype(dataset.dtype):
        raise DataError(
            f"{path}, {name}", found=f"type {dataset.dtype}", expected="a list of numbers for each sample",
            remedy="write the Heidelberg layout, or flat arrays times, units, offsets",
        )  # fmt: skip
    refuse_bomb(f"{path}, {name}", dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size())
    return dataset[()]


def _array(path: Path, name: str, dataset: Any) -> np.ndarray:
    """The whole dataset; bytes become text."""
    import h5py

    refuse_bomb(f"{path}, array {name!r}", dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size())
    if h5py.check_string_dtype(dataset.dtype):
        return np.asarray(dataset.asstr()[()], dtype=str)
    return np.asarray(dataset[()])


def _get(lengths: np.ndarray, at: int) -> int:
    return int(lengths[at]) if at < len(lengths) else 0
