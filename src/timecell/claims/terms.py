"""On what terms a claim is confirmed: margins and budget, frozen in a TOML file beside the claims."""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from timecell.catalog import claims_file
from timecell.errors import DataError

CONFIRM = 100  # the first seed of a confirmation; those below are for calibration


@dataclass(frozen=True)
class Terms:
    """On what terms a claim is confirmed: one table of the TOML file beside it.

    Attributes:
        margins: by name.
        calibrated_on: the seeds that the margins were chosen with, all below 100.
        date: when.
        seeds: how many to start with.
        max_seeds: how many at most.
        seconds: no seed begins after so much wall time.
        first: the first seed of the confirmation. A claim that is changed with its confirmation in view is confirmed
            again on seeds that nobody has seen.
    """

    margins: Mapping[str, float]
    calibrated_on: tuple[int, ...]
    date: date
    seeds: int
    max_seeds: int
    seconds: float
    first: int = CONFIRM

    @property
    def looks(self) -> list[int]:
        """Numbers of seeds after which the verdict is asked for: doubled from `seeds` to `max_seeds`."""
        counts = [self.seeds]
        while counts[-1] < self.max_seeds:
            counts.append(min(2 * counts[-1], self.max_seeds))
        return counts

    @property
    def hash(self) -> str:
        """Of everything in the table."""
        usual = {"first": CONFIRM}
        said = {key: value for key, value in vars(self).items() if key not in usual or value != usual[key]}
        table = json.dumps(said, default=str, sort_keys=True)
        return hashlib.sha256(table.encode()).hexdigest()[:16]


def terms_file(module: Path) -> Path:
    """The TOML file with the terms of a system's claims: beside the file in which they stand.

    Example:
        >>> from timecell import catalog
        >>> terms_file(catalog.find("timesnet")).relative_to(catalog.SYSTEMS).as_posix()
        'series/claims/timesnet.toml'
    """
    return claims_file(module).with_suffix(".toml")


def tables(path: Path) -> dict[str, dict[str, Any]]:
    """The tables of a TOML file by claim; none if the file is not there.

    Raises:
        DataError: the file is no TOML, or holds something that is no table.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise DataError(str(path), found=str(e), expected="TOML", remedy="mend the line it names") from None
    for name, table in found.items():
        if not isinstance(table, dict):
            raise DataError(
                str(path), found=f"{name} = {table!r}", expected="tables only", remedy="see timecell.claims"
            )
    return found


def read_terms(path: Path, name: str) -> Terms:
    """The terms of one claim.

    Args:
        path: the TOML file beside the claims.
        name: of the claim.

    Raises:
        DataError: the table or a key of it is missing, unknown, or out of its range.
    """
    found = tables(path)
    if name not in found:
        raise DataError(
            str(path), found=f"no table [{name}]" if found else "no such file or an empty one",
            expected=f"[{name}] with margins, calibrated_on, date, seeds, max_seeds, seconds",
            remedy="measure with `timecell calibrate SLUG`, choose margins, and write the table",
        )  # fmt: skip
    table, place = found[name], f"{path}, [{name}]"
    if missing := [key for key in Terms.__dataclass_fields__ if key not in table and key != "first"]:
        raise DataError(place, found=f"no {missing[0]!r}", expected="it to be set", remedy="see timecell.claims")
    for key in table:
        if key not in Terms.__dataclass_fields__:
            raise DataError(place, found=f"{key!r}", expected=f"one of {', '.join(Terms.__dataclass_fields__)}",
                            remedy="take it out")  # fmt: skip
    rules: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "margins": ("numbers >= 0", lambda v: isinstance(v, dict) and all(_number(m) and m >= 0 for m in v.values())),
        "calibrated_on": (f"seeds from 0 to {CONFIRM - 1}", lambda v: isinstance(v, list) and _calibration(v)),
        "date": ("a date like 2026-01-31", lambda v: type(v) is date),
        "seeds": ("a whole number >= 2", lambda v: _whole(v) and v >= 2),
        "max_seeds": ("a whole number >= seeds", lambda v: _whole(v) and v >= table["seeds"]),
        "seconds": ("a number > 0", lambda v: _number(v) and v > 0),
        "first": (f"a whole number >= {CONFIRM}", lambda v: _whole(v) and v >= CONFIRM),
    }  # fmt: skip
    for key, (expected, fine) in rules.items():
        if key in table and not fine(table[key]):
            raise DataError(f"{place}, {key}", found=repr(table[key]), expected=expected, remedy="set it right")
    return Terms(**{**table, "calibrated_on": tuple(table["calibrated_on"])})


def _calibration(seeds: list[Any]) -> bool:
    return bool(seeds) and all(_whole(seed) and 0 <= seed < CONFIRM for seed in seeds)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
