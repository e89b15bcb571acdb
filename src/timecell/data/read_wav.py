"""WAV files: PCM of 8, 16, 24 and 32 bits and floats of 32 and 64, any number of channels.

A file that ends before its header says so is refused (common readers return what there is).
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from jaxtyping import Float

from timecell.data.sounds import Sound
from timecell.errors import DataError

SUFFIXES = (".wav", ".wave")
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
TYPES = {(PCM, 8): "u1", (PCM, 16): "<i2", (PCM, 24): "3u1", (PCM, 32): "<i4", (FLOAT, 32): "<f4", (FLOAT, 64): "<f8"}


def read_wav(path: str | Path) -> Sound:
    """The wave, scaled to -1 to 1.

    Raises:
        DataError: the file is truncated or no WAV file, its samples are compressed, none, or not finite.
    """
    path = Path(path)
    raw = path.read_bytes()
    if raw[:4] != b"RIFF" or raw[8:12] != b"WAVE":
        raise DataError(
            str(path), found=f"a start of {raw[:12]!r}", expected="a WAV file: RIFF....WAVE",
            remedy="convert the sound to WAV (PCM)",
        )  # fmt: skip
    chunks = _chunks(path, raw)
    for name in ("fmt ", "data"):
        if name not in chunks:
            raise DataError(str(path), found=f"no chunk {name!r}", expected="one", remedy="copy or write it again")
    if len(chunks["fmt "]) < 16:
        raise DataError(
            f"{path}, chunk 'fmt '", found=f"{len(chunks['fmt '])} bytes", expected="at least 16",
            remedy="copy or write it again",
        )  # fmt: skip
    code, channels, rate, _, block, bits = struct.unpack("<HHIIHH", chunks["fmt "][:16])
    if code == EXTENSIBLE and len(chunks["fmt "]) >= 26:
        code = struct.unpack("<H", chunks["fmt "][24:26])[0]
    if (code, bits) not in TYPES or not channels or not rate or block != channels * bits // 8:
        raise DataError(
            f"{path}, chunk 'fmt '",
            found=f"format {code}, {bits} bits, {channels} channels, {rate} samples a second, {block} bytes each",
            expected="PCM (1) of 8, 16, 24 or 32 bits or floats (3) of 32 or 64", remedy="convert the sound to such a WAV",
        )  # fmt: skip
    data = chunks["data"]
    if not data or len(data) % block:
        raise DataError(
            f"{path}, chunk 'data'", found=f"{len(data):,} bytes", expected=f"a multiple of {block}, above 0",
            remedy="copy or write it again",
        )  # fmt: skip
    wave = _scaled(data, code, bits).reshape(-1, channels)
    broken = ~np.isfinite(wave)
    if broken.any():
        at, channel = np.argwhere(broken)[0]
        raise DataError(
            f"{path}, sample {at}, channel {channel}", found=wave[at, channel], expected="a finite number",
            remedy="write the file again",
        )  # fmt: skip
    return Sound(wave, rate)


def _chunks(path: Path, raw: bytes) -> dict[str, bytes]:
    """Name -> content of each chunk; DataError if one reaches beyond the end."""
    end = 8 + int.from_bytes(raw[4:8], "little")
    chunks: dict[str, bytes] = {}
    at = 12
    while at < end:
        name, size = raw[at : at + 4].decode("latin-1"), int.from_bytes(raw[at + 4 : at + 8], "little")
        if at + 8 + size > len(raw):
            raise DataError(
                f"{path}, byte {at}, chunk {name!r}", found=f"{max(0, len(raw) - at - 8):,} bytes",
                expected=f"{size:,}, as it says" if name else f"a file of {end:,} bytes, as it says at its start",
                remedy="the file was cut: copy or record it again",
            )  # fmt: skip
        chunks.setdefault(name, raw[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    return chunks


def _scaled(data: bytes, code: int, bits: int) -> Float[np.ndarray, "n"]:
    """Full scale to 1."""
    kind = TYPES[code, bits]
    if kind == "3u1":
        wide = np.zeros((len(data) // 3, 4), dtype=np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return (wide.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
    values = np.frombuffer(data, kind)
    if code == FLOAT:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused by name
            return values.astype(np.float32)
    return ((values - 128.0) / 128 if bits == 8 else values / 2.0 ** (bits - 1)).astype(np.float32)
