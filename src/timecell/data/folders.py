"""A folder as one data set: a folder for each class, a file for each sample.

    digits/zero/a.wav  digits/zero/b.wav  digits/one/c.wav                classes zero and one
    digits/train/zero/a.wav  digits/test/zero/b.wav                       with a split of its own
    ann/run1.edf  ann/run2.edf  bob/run1.edf                              trials with labels of their own; groups ann, bob
    GunPoint/GunPoint_TRAIN.ts  GunPoint/GunPoint_TEST.ts                 with a split of its own

Every file counts: one that cannot be read is an error and never left out. Only names that start with a dot, README or
LICENSE are not data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from timecell.data.containers import Sequences
from timecell.data.table import PARTS
from timecell.errors import DataError


def load_folder(folder: Path, suffix: Callable[[Path], str], load_file: Callable[[Path], Sequences]) -> Sequences:
    """All files below a folder, joined.

    Args:
        folder: the folder.
        suffix: the format of a file; raises DataError where it is unknown.
        load_file: reads the samples of one file.

    Raises:
        DataError: the folder is empty or mixes formats, files differ in channels or rate, some have a class or a part
            and others not.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not _no_data(p.relative_to(folder)))
    if not files:
        raise DataError(str(folder), found="no files", expected="a folder for each class", remedy="check the path")
    formats = {suffix(file): file for file in files}
    if len(formats) > 1:
        raise DataError(
            str(folder), found=f"files of different formats: {', '.join(p.name for p in formats.values())}",
            expected="one format", remedy="put each format in a folder of its own",
        )  # fmt: skip
    places = [_Place.of(file, folder) for file in files]
    sets = [load_file(file) for file in files]
    data = join([place.labelled(own) for own, place in zip(sets, places)], [str(file) for file in files])
    if data.part is not None or any(own.target is None for own in sets):
        return data
    owner = np.unique([place.label or file.name for file, place in zip(files, places)], return_inverse=True)[1]
    return replace(data, group=np.repeat(owner, [len(own) for own in sets]))


@dataclass(frozen=True)
class _Place:
    """What the path of a file says about it."""

    part: str | None
    label: str | None

    @classmethod
    def of(cls, file: Path, folder: Path) -> _Place:
        """train/zero/a.wav is of the part "train" and the class "zero"; X_TEST.ts of the part "test"."""
        *above, _ = file.relative_to(folder).parts
        part = PARTS.get(above[0].lower()) if above else None
        above = above[1:] if part else above
        if file.suffix.lower() == ".ts":
            part = part or PARTS.get(file.stem.rpartition("_")[2].lower())
        if len(above) > 1:
            raise DataError(
                str(file), found=f"{len(above)} folders above the file", expected="one, the class (and train, valid, test)",
                remedy="name the folder that holds the classes",
            )  # fmt: skip
        return cls(part, above[0] if above else None)

    def labelled(self, data: Sequences) -> Sequences:
        """The samples of a file with the class and part of its path; labels of their own stay."""
        if self.label is not None and data.target is None:
            schema = replace(data.schema, classes=(self.label,))
            data = replace(data, target=np.zeros(len(data), np.int64), schema=schema)
        return data if self.part is None else replace(data, part=np.full(len(data), self.part))


def join(sets: list[Sequences], sources: list[str]) -> Sequences:
    """Data sets end to end, with the classes of all.

    Args:
        sets: at least one, of the same channels and rate.
        sources: what to call each in a message.

    Raises:
        DataError: two of them differ in channels or rate, or one has no class or part and another has.

    Example:
        >>> low, high = (Sequences.of([np.ones((n, 1))], [0], classes=(name,)) for n, name in ((3, "low"), (5, "high")))
        >>> both = join([low, high], ["a", "b"])
        >>> both.schema.classes, both.target.tolist(), both.lengths.tolist()
        (('high', 'low'), [1, 0], [3, 5])
    """
    first = sets[0]
    for data, source in zip(sets, sources):
        for what in ("channels", "rate"):
            ours, other = getattr(data.schema, what), getattr(first.schema, what)
            if ours != other:
                raise DataError(
                    source, found=f"{what} {_short(ours)}", expected=f"{_short(other)}, as in {sources[0]}",
                    remedy="resample all to one rate with rate= (--rate)" if what == "rate" else "bring the files into line",
                )  # fmt: skip
        for what in ("target", "part"):
            if (getattr(data, what) is None) != (getattr(first, what) is None):
                has, has_not = (sources[0], source) if getattr(data, what) is None else (source, sources[0])
                raise DataError(
                    has_not, found=f"no {'class' if what == 'target' else what}", expected=f"one, as for {has}",
                    remedy="put every file into the folder of its class (and all into train, valid, test or none)",
                )  # fmt: skip
    classes = _classes([data.schema.classes for data in sets])
    lengths = np.concatenate([data.lengths for data in sets])
    schema = replace(
        first.schema, classes=classes, lengths=(int(lengths.min()), int(lengths.max())),
        spikes=all(data.schema.spikes for data in sets),
    )  # fmt: skip
    return Sequences(
        np.concatenate([data.values for data in sets]),
        np.concatenate([[0], np.cumsum(lengths)]),
        None if classes is None else np.concatenate([_numbered(data, classes) for data in sets]),
        schema,
        part=None if first.part is None else np.concatenate([data.part for data in sets if data.part is not None]),
    )


def _classes(own: list[tuple[str, ...] | None]) -> tuple[str, ...] | None:
    """The classes of all sets: as the first has them if all agree, else sorted."""
    if own[0] is None or len(set(own)) == 1:
        return own[0]
    return tuple(sorted({name for names in own for name in names or ()}))


def _numbered(data: Sequences, classes: tuple[str, ...]) -> np.ndarray:
    """The targets of one set as indices into the classes of all."""
    assert data.target is not None and data.schema.classes is not None
    return np.array([classes.index(name) for name in data.schema.classes], dtype=np.int64)[data.target]


def _no_data(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts) or path.name.upper().startswith(("README", "LICEN"))


def _short(value: object) -> str:
    """At most eighty characters."""
    text = f"{len(value)}: {', '.join(map(str, value))}" if isinstance(value, tuple) else f"{value}"
    return text if len(text) <= 80 else text[:77] + "..."
