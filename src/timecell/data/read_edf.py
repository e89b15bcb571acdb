"""EDF, EDF+ and BDF files: signals of a fixed rate with their units, and annotations.

A file holds a header and data records of one length. What the header promises is compared with the bytes there are
before a library (edfio) decodes them: a recording cut in the middle is refused and never read as a shorter one.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import numpy as np

from timecell.data.damage import reading
from timecell.data.recordings import Annotation, Recording
from timecell.data.sounds import resampled
from timecell.errors import DataError, MissingExtra, unknown_name

SUFFIXES = (".edf", ".bdf")
STARTS = {2: b"0       ", 3: b"\xffBIOSEMI"}  # of EDF and BDF, by the bytes of a sample
ANNOTATIONS = (b"EDF Annotations", b"BDF Annotations")
LISTS = re.compile(
    rb"(?:[+-]\d+(?:\.\d+)?(?:\x15\d+(?:\.\d+)?)?\x14[^\x00\n]*\x14\x00|\x00)*"
)  # onset, duration, texts


def read_edf(path: str | Path, *, ignore: Collection[str] = (), rate: float | None = None) -> Recording:
    """The signals side by side at one rate, in the physical units that the file gives.

    A label that occurs twice gets a number the second time ("EMG", "EMG 2").

    Args:
        path: the file.
        ignore: channels to leave out.
        rate: steps per second to resample all channels to; None = their own, which must then be the same for all.

    Raises:
        DataError: the file is truncated, malformed or discontinuous (EDF+D), or its channels differ in rate.
        InputError: a channel to ignore does not exist.
        MissingExtra: edfio is not installed.
    """
    try:
        import edfio
    except ImportError as error:
        raise MissingExtra("edfio", "neuro", f"reading {path}") from error
    path = Path(path)
    bdf = path.suffix.lower() == ".bdf"
    _check(path, bytes_per_sample=3 if bdf else 2)
    with reading(path, "BDF file" if bdf else "EDF file"):
        file = edfio.read_bdf(path) if bdf else edfio.read_edf(path, lazy_load_data=False, header_encoding="latin-1")
        continuous = file.is_continuous
        signals = [(s.label, float(s.sampling_frequency), s.physical_dimension, s.data) for s in file.signals]
        notes = [Annotation(float(a.onset), float(a.duration or 0.0), a.text.strip()) for a in file.annotations]
    if not continuous:
        raise DataError(
            str(path), found="a discontinuous recording (EDF+D)", expected="records without gaps between them",
            remedy="cut it at its gaps, one file for each part",
        )  # fmt: skip
    names = _distinct([label for label, *_ in signals])
    for name in ignore:
        if name not in names:
            raise unknown_name(f"{path}, ignore", name, names)
    kept = {name: signal[1:] for name, signal in zip(names, signals) if name not in ignore}
    if not kept:
        raise DataError(str(path), found="no signals", expected="at least one", remedy="check the file, or ignore less")
    own = {name: signal[0] for name, signal in kept.items()}
    if rate is None and len(set(own.values())) > 1:
        raise DataError(
            str(path), found="channels of different rates: " + ", ".join(f"{k} {v:g} Hz" for k, v in own.items()),
            expected="one rate", remedy="leave channels out with ignore=, or resample all with rate= (--ignore, --rate)",
        )  # fmt: skip
    columns = [resampled(data[:, None], hertz, rate)[0] for hertz, _, data in kept.values()]
    steps = min(map(len, columns))  # a resampled channel may be longer by one, rounded up
    values = np.concatenate([column[:steps] for column in columns], axis=1)
    units = tuple(unit for _, unit, _ in kept.values())
    return Recording(values, rate or own[next(iter(own))], tuple(kept), units, tuple(notes), source=str(path))


def _check(path: Path, bytes_per_sample: int) -> None:
    """Raise DataError unless the file has as many bytes as its header promises, and whole annotations."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(256)
        if head[:8] != STARTS[bytes_per_sample] or len(head) < 256:
            raise DataError(
                str(path), found=f"a start of {head[:8]!r}, {size:,} bytes",
                expected=f"{STARTS[bytes_per_sample]!r} and a header of 256 bytes at least",
                remedy="copy the file again, or correct its ending (.edf, .bdf)",
            )  # fmt: skip
        header, records, signals = (
            _whole(path, head, at) for at in (slice(184, 192), slice(236, 244), slice(252, 256))
        )
        if signals < 1 or header != 256 * (signals + 1) or size < header:
            raise DataError(
                str(path), found=f"a header of {header:,} bytes for {signals} signals in a file of {size:,}",
                expected=f"{256 * (signals + 1):,} bytes", remedy="the file was cut, or damaged: copy it again",
            )  # fmt: skip
        labels = file.read(16 * signals)
        file.seek(256 + 216 * signals)
        counts = file.read(8 * signals)
    samples = [_whole(path, counts, slice(8 * i, 8 * i + 8)) for i in range(signals)]
    record = bytes_per_sample * sum(samples)
    if records < 1 or min(samples) < 1 or size != header + records * record:
        held = (size - header) / record if record > 0 else 0
        raise DataError(
            str(path), found=f"{held:.6g} data records of {record:,} bytes", expected=f"{records}, as the header says",
            remedy="copy the file again; one whose recorder did not close it (-1 records) must be repaired first",
        )  # fmt: skip
    ends = header + bytes_per_sample * np.cumsum(samples)
    for i in range(signals):
        if labels[16 * i : 16 * i + 16].strip() in ANNOTATIONS:
            _check_annotations(path, int(ends[i]) - bytes_per_sample * samples[i], int(ends[i]), record, records)


def _check_annotations(path: Path, start: int, end: int, record: int, records: int) -> None:
    """Raise DataError at an annotation that is none, since parsers pass over such."""
    with path.open("rb") as file:
        for i in range(records):
            file.seek(start + i * record)
            lists = file.read(end - start)
            match = LISTS.match(lists)
            understood = match.end() if match else 0
            if understood < len(lists):
                raise DataError(
                    f"{path}, data record {i}, annotations", found=repr(lists[understood : understood + 40]),
                    expected="onset, duration and texts as EDF+ writes them", remedy="copy the file again",
                )  # fmt: skip


def _whole(path: Path, head: bytes, at: slice) -> int:
    """A whole number in a field of the header."""
    text = head[at].decode("latin-1").strip()
    if not text.lstrip("-").isdecimal():
        raise DataError(
            f"{path}, header", found=repr(text), expected="a whole number", remedy="the file is damaged: copy it again"
        )
    return int(text)


def _distinct(labels: list[str]) -> list[str]:
    """The labels, with a number from the second time on."""
    seen: dict[str, int] = {}
    names = []
    for label in labels:
        seen[label] = seen.get(label, 0) + 1
        names.append(label if seen[label] == 1 else f"{label} {seen[label]}")
    return names
