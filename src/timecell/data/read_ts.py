"""The .ts files of the UCR and UEA archives: a header of @tags, then one labelled sample a line.

    @problemName Gestures
    @univariate false
    @dimensions 2
    @equalLength false
    @classLabel true left right
    @data
    0.1,0.2,0.4:1,1,1:left            two dimensions of three steps each, and the class
    0.3,0.2:0,1:right

Dimensions are channels. ``?`` is a missing value. Every promise of the header is checked against the data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from timecell.data.containers import Sequences, fill_forward
from timecell.data.labels import class_indices
from timecell.data.text import read_text
from timecell.errors import DataError, unknown_name

SUFFIXES = (".ts",)
FLAGS = ("timestamps", "missing", "univariate", "equallength")
COUNTS = ("dimensions", "dimension", "serieslength")
LABELS = ("classlabel", "targetlabel")
Gaps = Literal["forward"]


def read_ts(path: Path, *, gaps: Gaps | None = None) -> Sequences:
    """Labelled samples, of equal or different lengths, with the classes in the order of the header.

    Args:
        path: the file.
        gaps: "forward" fills a missing value with the last one before it (with the first one after it at the start of
            a sample); None refuses missing values.

    Raises:
        DataError: the file is truncated or malformed, breaks a promise of its header, has missing values, time stamps
            or real-valued targets.
        InputError: `gaps` is unknown.
    """
    if gaps not in (None, *get_args(Gaps)):
        raise unknown_name("gaps", str(gaps), get_args(Gaps))
    lines = read_text(path).splitlines()
    header, first = _header(path, lines)
    cases = [(n, line.strip()) for n, line in enumerate(lines[first:], first + 1) if line.strip()]
    if not cases:
        raise DataError(str(path), found="a header but no samples", expected="a line a sample", remedy="copy it again")
    samples, labels = [], []
    for number, line in cases:
        place = f"{path}, line {number}"
        fields = line.split(":")
        if header.labelled:
            labels.append(_label(place, fields.pop().strip(), header))
        sample = np.stack(_equal(place, [_numbers(place, d, field) for d, field in enumerate(fields)]), axis=1)
        samples.append(_filled(place, header.checked(place, sample), gaps))
        header = replace(header, dimensions=sample.shape[1])
    target, classes = None, None
    if header.labelled:
        target, classes = class_indices(np.array(labels), f"{path}, class label", lambda i: f"line {cases[i][0]}")
        if header.classes:
            target, classes = np.array([header.classes.index(label) for label in labels]), header.classes
    return Sequences.of(samples, target, classes=classes)


@dataclass(frozen=True)
class _Header:
    """What the tags promise; None where they say nothing."""

    labelled: bool = False
    classes: tuple[str, ...] = ()
    dimensions: int | None = None
    steps: int | None = None

    def checked(self, place: str, sample: Float[np.ndarray, "T C"]) -> Float[np.ndarray, "T C"]:
        """The sample itself; DataError if it has other dimensions or steps than promised."""
        for what, found, promised in zip(("steps", "dimensions"), sample.shape, (self.steps, self.dimensions)):
            if promised is not None and found != promised:
                raise DataError(
                    place, found=f"{found} {what}", expected=f"{promised}, as in the header or the lines before",
                    remedy="complete the line; the file may have been cut, so copy it again",
                )  # fmt: skip
        return sample


def _header(path: Path, lines: list[str]) -> tuple[_Header, int]:
    """The header, and the index of the first line after @data."""
    tags: dict[str, list[str]] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith(("#", "%")):
            continue
        name = words[0].lower().removeprefix("@")
        place = f"{path}, line {number}"
        if not words[0].startswith("@"):
            raise DataError(
                place, found=repr(line[:40]), expected="a tag such as @classLabel, a comment # or @data",
                remedy="check that this is a .ts file of the UCR/UEA kind",
            )  # fmt: skip
        if name == "data":
            return _meaning(path, tags), number
        if name not in ("problemname", *FLAGS, *COUNTS, *LABELS):
            raise DataError(
                place, found=f"the tag {words[0]}", expected=f"one of {', '.join(('problemName', *FLAGS, *COUNTS, *LABELS))}",
                remedy="correct or remove it",
            )  # fmt: skip
        tags[name] = [place, *words[1:]]
    raise DataError(str(path), found="no line @data", expected="a header that ends with @data", remedy="copy it again")


def _meaning(path: Path, tags: dict[str, list[str]]) -> _Header:
    flags = {name: _flag(*tags[name]) for name in (*FLAGS, *LABELS) if name in tags}
    counts = {name: _count(*tags[name]) for name in COUNTS if name in tags}
    for name, what, remedy in (
        ("timestamps", "samples with time stamps", "write the values alone, or a CSV with columns id, time, label"),
        ("targetlabel", "real-valued targets", "sort the targets into classes and write them under @classLabel"),
    ):
        if flags.get(name):
            raise DataError(tags[name][0], found=what, expected=f"@{name} false", remedy=remedy)
    dimensions = counts.get("dimensions", counts.get("dimension"))
    if flags.get("univariate") and dimensions not in (None, 1):
        raise DataError(
            tags["univariate"][0], found=f"@univariate true and {dimensions} dimensions", expected="one of the two",
            remedy="correct the header",
        )  # fmt: skip
    return _Header(
        labelled=flags.get("classlabel", False),
        classes=tuple(tags.get("classlabel", [])[2:]),
        dimensions=1 if flags.get("univariate") else dimensions,
        steps=counts.get("serieslength") if flags.get("equallength", "serieslength" in counts) else None,
    )


def _flag(place: str, *words: str) -> bool:
    if not words or words[0].lower() not in ("true", "false"):
        raise DataError(place, found=" ".join(words) or "nothing", expected="true or false", remedy="correct the tag")
    return words[0].lower() == "true"


def _count(place: str, *words: str) -> int:
    if len(words) != 1 or not words[0].isdecimal() or int(words[0]) < 1:
        raise DataError(place, found=" ".join(words) or "nothing", expected="a number from 1", remedy="correct the tag")
    return int(words[0])


def _label(place: str, label: str, header: _Header) -> str:
    if header.classes and label not in header.classes:
        raise DataError(
            place, found=f"the class {label[:40]!r}", expected=f"one of {', '.join(header.classes)}, as in the header",
            remedy="complete the line; the file may have been cut, so copy it again",
        )  # fmt: skip
    return label


def _numbers(place: str, dimension: int, field: str) -> Float[np.ndarray, "T"]:
    """The steps of one dimension, NaN where missing."""
    cells = ["nan" if cell.strip() == "?" else cell for cell in field.split(",")]
    try:
        values = np.array(cells, dtype=np.float64)
    except ValueError as error:
        raise DataError(
            f"{place}, dimension {dimension}", found=str(error), expected="numbers with commas between them",
            remedy="correct the line",
        ) from error  # fmt: skip
    if np.isinf(values).any():
        raise DataError(
            f"{place}, dimension {dimension}, step {int(np.argmax(np.isinf(values)))}", found="inf",
            expected="a finite number, or ? where it is missing", remedy="correct the value",
        )  # fmt: skip
    return values


def _equal(place: str, dimensions: list[np.ndarray]) -> list[np.ndarray]:
    """The dimensions of a sample, known to have equally many steps."""
    steps = [len(values) for values in dimensions]
    if len(set(steps)) != 1:
        raise DataError(
            place, found=f"dimensions of {', '.join(map(str, steps)) or 'no'} steps", expected="equally many in each",
            remedy="complete the line, or cut all dimensions to the shortest",
        )  # fmt: skip
    return dimensions


def _filled(place: str, sample: Float[np.ndarray, "T C"], gaps: Gaps | None) -> Float[np.ndarray, "T C"]:
    """The sample without missing values."""
    missing = np.isnan(sample)
    empty = missing.all(axis=0)
    if missing.any() and (gaps is None or empty.any()):
        step, dimension = np.argwhere(missing)[0]
        raise DataError(
            f"{place}, dimension {np.argmax(empty) if empty.any() else dimension}",
            found="no value at all" if empty.any() else f"a missing value at step {step}", expected="a number",
            remedy="leave the sample out" if empty.any() else 'fill it in, or load with gaps="forward" (the last value)',
        )  # fmt: skip
    return fill_forward(sample[None])[0]
