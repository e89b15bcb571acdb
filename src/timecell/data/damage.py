"""Damaged files: what a library says about one becomes our error, and a header that promises too much is not believed.

Honest files shrink: counts that are mostly zero by a factor of a hundred. What unpacks to more than 256 MiB *and* to
more than 200 times its size on the disk is refused before any memory is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from timecell.errors import DataError, TimecellError

LARGE = 2**28  # bytes; below this nobody's memory is in danger
RATIO = 200  # bytes in memory for each one on the disk


@contextmanager
def reading(path: Path, form: str) -> Iterator[None]:
    """Around a library's reader: whatever it raises for a damaged file becomes a DataError that names the file.

    Parsers of foreign formats raise nearly anything for bytes that they did not expect (struct.error, KeyError,
    RecursionError, UnicodeDecodeError, ...), hence the wide net; keep nothing but the library's calls inside.

    Example:
        >>> with reading(Path("a.bin"), "list of bytes"):
        ...     [][0]
        Traceback (most recent call last):
        timecell.errors.DataError: a.bin: found no readable list of bytes (list index out of range), ...
    """
    try:
        yield
    except TimecellError:
        raise
    except Exception as error:
        said = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(
            str(path), found=f"no readable {form} ({said})", expected=f"a whole {form}", remedy="copy or write it again"
        ) from error


def limit(stored: int) -> int:
    """The most bytes that this many stored bytes may unpack to.

    Example:
        >>> limit(1000) == LARGE, limit(2**30) == RATIO * 2**30
        (True, True)
    """
    return max(LARGE, RATIO * stored)


def refuse_bomb(place: str | Path, promised: int, stored: int) -> None:
    """Raise DataError if `stored` bytes claim to hold more than is plausible.

    Args:
        place: the file, and the part of it.
        promised: bytes in memory, as the header says.
        stored: bytes on the disk.
    """
    if promised > limit(stored):
        raise DataError(
            str(place), found=f"{promised:,} bytes promised by {stored:,} stored ones",
            expected=f"at most {RATIO} for one, beyond {LARGE:,}",
            remedy="copy or write the file again; if it is truly so regular, write it uncompressed",
        )  # fmt: skip
