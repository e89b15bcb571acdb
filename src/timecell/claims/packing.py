"""What a trial measured as JSON values: the ledger and the journal of a run hold it in this form."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from timecell.claims.statements import Measured


def measured_to_json(m: Measured) -> dict[str, Any]:
    """The score of an arm with its items."""
    return {"value": m.value, "items": pack(m.items), "data": m.data, "extra": dict(m.extra)}


def measured_from_json(values: Mapping[str, Any]) -> Measured:
    """The inverse; KeyError, TypeError or ValueError for what is none."""
    return Measured(values["value"], unpack(values["items"]), values["data"], values["extra"])


def pack(items: Float[np.ndarray, "N"] | None) -> str | None:
    """Items of a trial as one string: bits where all are 0 or 1, else compressed float32.

    Example:
        >>> pack(np.array([1, 0, 1, 1], np.float32)), unpack("bits:4:sA==").tolist()
        ('bits:4:sA==', [1.0, 0.0, 1.0, 1.0])
    """
    if items is None:
        return None
    if np.isin(items, (0, 1)).all():
        return f"bits:{len(items)}:{_text(np.packbits(items.astype(bool)).tobytes())}"
    return f"f4:{len(items)}:{_text(zlib.compress(items.astype('<f4').tobytes()))}"


def unpack(text: str | None) -> Float[np.ndarray, "N"] | None:
    """The inverse of `pack`; ValueError for a text that is none of its."""
    if text is None:
        return None
    kind, size, content = text.split(":")
    raw = base64.b64decode(content, validate=True)
    if kind == "bits":
        items = np.unpackbits(np.frombuffer(raw, np.uint8), count=int(size)).astype(np.float32)
    else:
        items = np.frombuffer(zlib.decompress(raw), "<f4").astype(np.float32)
    if len(items) != int(size):
        raise ValueError(f"{len(items)} items, {size} announced")
    return items


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
