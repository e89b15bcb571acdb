"""The text of a file, plain or gzipped."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from timecell.data.damage import limit, refuse_bomb
from timecell.errors import DataError


def read_text(path: Path) -> str:
    """The whole text in UTF-8, unpacked if the name ends in .gz.

    Raises:
        DataError: the file is empty, no UTF-8 text, a damaged gzip file, or one that unpacks to a huge size.
    """
    raw = _unpacked(path) if path.suffix.lower() == ".gz" else path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, byte {error.start}", found=f"0x{raw[error.start]:02x}", expected="text in UTF-8",
            remedy="save the file as text in UTF-8, or correct its ending",
        ) from error  # fmt: skip
    zero = text.find("\0")
    if zero >= 0:
        raise DataError(
            f"{path}, character {zero}", found="a zero byte", expected="text in UTF-8",
            remedy="save the file as text in UTF-8, or correct its ending",
        )  # fmt: skip
    if not text.strip():
        raise DataError(str(path), found="an empty file", expected="lines of text", remedy="check how it was written")
    return text


def _unpacked(path: Path) -> bytes:
    stored = path.stat().st_size
    try:
        with gzip.open(path) as file:
            raw = file.read(limit(stored) + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(
            str(path), found=f"damaged gzip data ({error})", expected="a whole gzip file",
            remedy="copy or download it again",
        ) from error  # fmt: skip
    refuse_bomb(path, len(raw), stored)
    return raw
