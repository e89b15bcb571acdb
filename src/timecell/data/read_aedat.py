"""AEDAT 3.1 files of iniVation cameras (DVS128 Gesture among them): packets of events, microseconds.

After the header lines come packets: 28 bytes of packet header (type, source, bytes of an event, place of the time stamp,
times that the clock has run over, capacity, number, valid), then the events. A polarity event is two words: bit 0 valid,
bit 1 polarity, bits 2 to 16 row, bits 17 to 31 column; then the time. All is little-endian. Other kinds of events
(frames, motion, triggers) are passed over; events that the camera marked as invalid are none.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from timecell.data.events import EventStream, Size
from timecell.errors import DataError, InputError

SUFFIXES = (".aedat",)
VERSION, END = b"#!AER-DAT3.1\r\n", b"#!END-HEADER\r\n"
PACKET = struct.Struct("<hhiiiiii")
POLARITY, POLARITY_BYTES = 1, 8
MICROSECOND = 1e-6


def read_aedat(path: Path, *, size: Size | None = None) -> EventStream:
    """The polarity events of a recording.

    Args:
        path: the file.
        size: (height, width) of the sensor, which the format does not say: (128, 128) for a DVS128.

    Raises:
        DataError: the file is truncated, of another version, without events, a pixel lies off the sensor, times go back.
        InputError: the size is missing.
    """
    raw = path.read_bytes()
    head = raw.find(END)
    if not raw.startswith(VERSION) or head < 0:
        raise DataError(
            str(path), found=f"a start of {raw[:14]!r}" + ("" if head >= 0 else " and no end of the header"),
            expected=f"{VERSION!r} and {END!r}", remedy="convert the recording to AEDAT 3.1, or to NPZ with x, y, t, p",
        )  # fmt: skip
    if size is None:
        raise InputError(
            "size", found="none", expected="(height, width) of the sensor, which AEDAT does not say",
            remedy="say it: size=(128, 128) (--size 128 128)",
        )  # fmt: skip
    words, times, at = [], [], head + len(END)
    while at < len(raw):
        kind, bytes_, overflow, number = _packet(path, raw, at)
        at += PACKET.size
        if kind == POLARITY:
            pairs = np.frombuffer(raw, "<u4", 2 * number, at).reshape(-1, 2).astype(np.int64)
            words.append(pairs[:, 0])
            times.append(pairs[:, 1] + (overflow << 31))
        at += bytes_ * number
    data, t = (np.concatenate([np.zeros(0, np.int64), *parts]) for parts in (words, times))
    valid = (data & 1) == 1
    data, t = data[valid], t[valid]
    return EventStream(data >> 17, data >> 2 & 0x7FFF, t, data >> 1 & 1, MICROSECOND, size, source=str(path))


def _packet(path: Path, raw: bytes, at: int) -> tuple[int, int, int, int]:
    """Type, bytes of an event, overflows and number of events of the packet that starts here, known to be whole."""
    if at + PACKET.size > len(raw):
        raise DataError(
            f"{path}, byte {at}", found=f"{len(raw) - at} bytes", expected=f"a packet header of {PACKET.size}",
            remedy="the file was cut: copy it again",
        )  # fmt: skip
    kind, _, bytes_, _, overflow, capacity, number, valid = PACKET.unpack_from(raw, at)
    sane = 0 <= valid <= number <= capacity and bytes_ > 0 and overflow >= 0
    if not sane or (kind == POLARITY and bytes_ != POLARITY_BYTES):
        raise DataError(
            f"{path}, byte {at}", found=f"a packet of {number} events of {bytes_} bytes (capacity {capacity}, valid {valid})",
            expected="a packet of AEDAT 3.1", remedy="the file is damaged: copy it again",
        )  # fmt: skip
    held = len(raw) - at - PACKET.size
    if bytes_ * number > held:
        raise DataError(
            f"{path}, byte {at}", found=f"{held:,} bytes", expected=f"{bytes_ * number:,} of {number} events",
            remedy="the file was cut: copy it again",
        )  # fmt: skip
    return kind, bytes_, overflow, number
