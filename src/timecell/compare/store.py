"""Finished jobs on disk, so that a comparison that was stopped goes on where it was.

A job's file is named by a hash of everything that decides its outcome: timecell's source, the system with its
hyperparameters and the source it stands in, the task, the seed, the budget and the data. A change of any of them is
another name, so a stale result is never read.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import shutil
import sys
import types
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from timecell.data.containers import fingerprint
from timecell.errors import InputError
from timecell.files import write_whole


@dataclass(frozen=True)
class Store:
    """One JSON and one NPZ file a finished job, each written whole or not at all."""

    folder: Path

    def unfinished(self, key: str) -> Path:
        """Where a job keeps the checkpoints it would go on from."""
        return self.folder / f"{key}.unfinished"

    def save(self, key: str, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Keep a job's record (JSON values) and arrays; the JSON file, written last, says that the job is done."""
        packed = io.BytesIO()
        np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / f"{key}.npz", packed.getvalue())
        write_whole(self.folder / f"{key}.json", json.dumps(record, indent=1, allow_nan=False).encode())
        shutil.rmtree(self.unfinished(key), ignore_errors=True)

    def load(self, key: str) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
        """A job's record and arrays; None if it is not finished, or if its files are damaged and it must run again."""
        try:
            record = json.loads((self.folder / f"{key}.json").read_bytes())
            packed = io.BytesIO((self.folder / f"{key}.npz").read_bytes())
            return record, dict(np.load(packed, allow_pickle=False))
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None


def key(*parts: object) -> str:
    """A file name that is the same in another process if, and only if, all parts would compute the same.

    Example:
        >>> key({"tau": 20.0}, len) == key({"tau": 20.0}, len), key({"tau": 20.0}) == key({"tau": 30.0})
        (True, False)
    """
    timecell = hash_of_sources(Path(__file__).parents[1], "**/*.py")
    return hashlib.sha256(json.dumps([timecell, identity(parts)]).encode()).hexdigest()[:20]


def identity(value: Any) -> Any:
    """A value as JSON that tells it from all others: functions and classes by source, others by content.

    Raises:
        InputError: an object has no content to hash.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return [[identity(k), identity(v)] for k, v in value.items()]
    if isinstance(value, list | tuple):
        return [identity(v) for v in value]
    if isinstance(value, np.ndarray):
        return fingerprint(value)
    if isinstance(value, partial):
        return identity(["partial", value.func, value.args, value.keywords])
    if isinstance(value, types.FunctionType):
        place = list(value.__code__.co_positions())  # tells two lambdas of one line apart
        captured = [cell.cell_contents for cell in value.__closure__ or ()]
        return [*source(value), place, *map(identity, (value.__defaults__, value.__kwdefaults__, captured))]
    if isinstance(value, type | types.BuiltinFunctionType):
        return source(value)
    if is_dataclass(value):
        return [source(type(value)), {f.name: identity(getattr(value, f.name)) for f in fields(value)}]
    try:
        return [source(type(value)), joblib.hash(value)]
    except Exception as e:
        raise InputError(
            "systems", found=f"a {type(value).__name__} that has no fixed content ({e})",
            expected="frozen dataclasses of numbers, names, arrays and functions, so that their jobs can be kept",
            remedy="make it one, or compare without `out`",
        ) from e  # fmt: skip


def source(thing: Any) -> list[str]:
    """Where a class or function is, and the text of all modules in that folder, since it may use any of them."""
    file = getattr(sys.modules.get(thing.__module__ or ""), "__file__", None)
    if file is not None:
        text = hash_of_sources(Path(file).parent, "*.py")
    else:
        try:
            text = inspect.getsource(thing)  # of a notebook
        except (OSError, TypeError):
            text = ""  # builtin
    return [thing.__module__ or "", thing.__qualname__, text]


@cache
def hash_of_sources(folder: Path, pattern: str) -> str:
    """Hash of the text of Python files."""
    h = hashlib.sha256()
    for path in sorted(folder.glob(pattern)):
        h.update(path.read_bytes())
    return h.hexdigest()
