"""The .bin files of N-MNIST and N-Caltech101 (Orchard et al. 2015): five bytes an event, microseconds.

    byte 0: x    byte 1: y    byte 2: polarity (highest bit) and time bits 22..16    bytes 3, 4: time bits 15..0

Row 240 marks no event but that the clock has run over: all later times are 2**13 larger. The format has no header and
no count of events, so a file that was cut between two events cannot be told from a shorter recording.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from timecell.data.events import EventStream, Size
from timecell.errors import DataError

SUFFIXES = (".bin",)
BYTES = 5
OVERFLOW, STRIDE = 240, 2**13
MICROSECOND = 1e-6


def read_nmnist(path: Path, *, size: Size = (34, 34)) -> EventStream:
    """The events of one recording.

    Args:
        path: the file.
        size: (height, width) of the sensor; (180, 240) for N-Caltech101.

    Raises:
        DataError: the file is empty or cut within an event, a pixel lies off the sensor, or times go back.
    """
    raw = np.fromfile(path, dtype=np.uint8)
    if not raw.any() or len(raw) % BYTES:
        raise DataError(
            str(path), found=f"{len(raw):,} bytes" + ("" if raw.any() else ", not one above 0"),
            expected=f"a multiple of {BYTES}, the bytes of an event",
            remedy="copy the file again; only the .bin layout of N-MNIST is read",
        )  # fmt: skip
    x, y, high, middle, low = raw.reshape(-1, BYTES).astype(np.int64).T
    event = y != OVERFLOW
    t = ((high & 127) << 16 | middle << 8 | low) + STRIDE * np.cumsum(~event)
    return EventStream(x[event], y[event], t[event], (high >> 7)[event], MICROSECOND, size, source=str(path))
