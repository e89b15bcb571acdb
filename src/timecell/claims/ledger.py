"""The ledger: what was verified, when, with which code, and every number it rests on.

A JSON-lines file that is only ever appended to: one line a verified claim, with the scores of every seed and arm, and
of every test item, so that each interval can be computed again. A line also holds hashes of the system's code and of the
claim's terms. When one of them no longer matches, the verdict is *stale*: it was about something else.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import os
import sys
import warnings
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any, Literal

from timecell.catalog import claim_names, claims_file, sources
from timecell.claims.confirm import Evidence, Outcome
from timecell.claims.packing import measured_from_json, measured_to_json
from timecell.claims.terms import read_terms, tables, terms_file
from timecell.claims.verdicts import Finding, Judgement, Verdict
from timecell.errors import DataError, TimecellError

Standing = Literal["holds", "falls short", "undecided", "stale", "not verified"]
SHIPPED = Path(__file__).parents[1] / "systems" / "ledger.jsonl"  # what the documentation's table is made from


@dataclass(frozen=True, eq=False)
class Record:
    """One line.

    Attributes:
        slug: of the system.
        outcome: what was measured and judged.
        code: hash of what the code of the system and its claims does.
        terms: hash of the claim's table in the TOML file.
        time: when, ISO 8601, UTC.
        versions: of timecell and what it stands on.
    """

    slug: str
    outcome: Outcome
    code: str
    terms: str
    time: str
    versions: Mapping[str, str]

    @property
    def claim(self) -> str:
        """Name of the claim."""
        return self.outcome.claim

    @property
    def verdict(self) -> Verdict:
        """As it was when it was measured."""
        return self.outcome.verdict

    @classmethod
    def of(cls, slug: str, outcome: Outcome, code: str, terms: str) -> Record:
        """A record of now."""
        packages = {name: version(name) for name in ("timecell", "torch", "numpy", "numba")}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(slug, outcome, code, terms, now, {**packages, "python": python_version()})

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        head = {"slug": self.slug, "claim": self.claim, "verdict": self.verdict, "time": self.time}
        body = {"shown": evidence_to_json(self.outcome.shown), "control": evidence_to_json(self.outcome.control)}
        hashes = {"code": self.code, "terms": self.terms}
        return head | hashes | {"versions": dict(self.versions), "seconds": self.outcome.seconds} | body

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Record:
        """The inverse of `to_json`; KeyError, TypeError or ValueError for what is no record."""
        shown, control = (evidence_from_json(line[part]) for part in ("shown", "control"))
        outcome = Outcome(line["claim"], shown, control, line["seconds"])
        return cls(line["slug"], outcome, line["code"], line["terms"], line["time"], line["versions"])


def default_path() -> Path:
    """The user's own ledger, in the folder where programs keep data."""
    if sys.platform == "darwin":
        base = "~/Library/Application Support"
    elif sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    else:
        base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "timecell" / "ledger.jsonl"


def require_writable(path: Path) -> None:
    """Make the file if it is not there, before hours are spent on what could then not be written down.

    Raises:
        DataError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
    except OSError as e:
        raise DataError(
            str(path), found=e.strerror, expected="a ledger that can be written", remedy="name another one: --ledger"
        ) from None


def append(path: Path, record: Record) -> None:
    """Add a line in one write, and see it safely on disk.

    Raises:
        DataError: the file cannot be written.
    """
    line = json.dumps(record.to_json(), allow_nan=False).encode() + b"\n"
    require_writable(path)
    with path.open("a+b", buffering=0) as file:
        if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            line = b"\n" + line  # an earlier write was cut off: leave its remains on a line of their own
        if file.write(line) < len(line):
            raise DataError(str(path), found="a full disk", expected="room for the record", remedy="make room")
        os.fsync(file.fileno())


def read(path: Path) -> list[Record]:
    """All records, oldest first; none if the file is not there. A line that was cut off is left out with a warning.

    Raises:
        DataError: a line is whole and yet no record.
    """
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as e:
        raise DataError(str(path), found=e.strerror, expected="a ledger", remedy="name a file: --ledger") from None
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError:
            warnings.warn(f"{path}, line {number}: cut off, left out (a write was interrupted)", stacklevel=2)
            continue
        try:
            records.append(Record.from_json(values))
        except (KeyError, TypeError, ValueError, AttributeError, zlib.error, TimecellError) as e:
            raise DataError(
                f"{path}, line {number}", found=f"{type(e).__name__}: {e}", expected="a record of `timecell verify`",
                remedy="take this line out, or restore the file",
            ) from None  # fmt: skip
    return records


def standing(records: Iterable[Record], slug: str, claim: str, code: str, terms: str) -> tuple[Standing, Record | None]:
    """What is known of a claim: the newest record that fits the code and terms of today, else a stale one."""
    of_claim = sorted((r for r in records if (r.slug, r.claim) == (slug, claim)), key=lambda r: r.time)
    if fitting := [r for r in of_claim if (r.code, r.terms) == (code, terms)]:
        return fitting[-1].verdict, fitting[-1]
    return ("stale", of_claim[-1]) if of_claim else ("not verified", None)


def standings(module: Path, slug: str, records: Iterable[Record]) -> dict[str, tuple[Standing, Record | None]]:
    """What is known of each claim of a system, read from its sources without importing them.

    Args:
        module: of the system.
        slug: of the system.
        records: of one or more ledgers.

    Raises:
        DataError: the claims or their terms cannot be read.
    """
    file, code, records = terms_file(module), hash_of(module), list(records)
    written, names = tables(file), claim_names(claims_file(module))
    terms = {name: read_terms(file, name).hash if name in written else "none" for name in names}
    return {name: standing(records, slug, name, code, terms[name]) for name in terms}


def overall(standings: Iterable[Standing]) -> Standing:
    """The standing of a system from those of its claims: the worst of them.

    Example:
        >>> overall(["holds", "stale", "holds"]), overall([])
        ('stale', 'not verified')
    """
    order: tuple[Standing, ...] = ("falls short", "stale", "not verified", "undecided", "holds")
    return min(standings, key=order.index, default="not verified")


def hash_of(module: Path) -> str:
    """Hash of what a system's code does: the statements of all its files, without imports and docstrings.

    Sorted, so that a definition may move from one file to another. Comments and the wording of docstrings do not
    count: none of these changes what was measured.
    """
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in sources(module)]
    statements = [s for tree in trees for s in tree.body if not isinstance(s, ast.Import | ast.ImportFrom)]
    told = "\n".join(sorted(_told(s) for s in statements if not _is_docstring(s)))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _told(part: object) -> str:
    """A part of a syntax tree as text, alike in every version of Python, which `ast.dump` is not."""
    if isinstance(part, list):
        return f"[{', '.join(_told(p) for p in part if not _is_docstring(p))}]"
    if not isinstance(part, ast.AST):
        return repr(part)
    fields = [f"{name}={_told(value)}" for name, value in ast.iter_fields(part) if value not in (None, [])]
    return f"{type(part).__name__}({', '.join(fields)})"


def _is_docstring(part: object) -> bool:
    return isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) and isinstance(part.value.value, str)


# --- evidence as JSON values ------------------------------------------------------------------------------------------


def evidence_to_json(evidence: Evidence) -> dict[str, Any]:
    """Seeds, scores, items and judgement as JSON values."""
    trials = [
        {"seed": seed, "arms": {arm: measured_to_json(m) for arm, m in arms.items()}}
        for seed, arms in zip(evidence.seeds, evidence.measured)
    ]
    judged = None
    if evidence.judgement is not None:
        findings = [{k: _finite(v) for k, v in asdict(f).items()} for f in evidence.judgement.findings]
        judged = {"verdict": evidence.judgement.verdict, "error": evidence.judgement.error, "findings": findings}
    return {"judgement": judged, "out_of_time": evidence.out_of_time, "trials": trials}


def evidence_from_json(values: Mapping[str, Any]) -> Evidence:
    """The inverse."""
    judgement = None
    if judged := values["judgement"]:
        findings = tuple(_finding_from_json(**f) for f in judged["findings"])
        judgement = Judgement(judged["verdict"], findings, judged["error"])
    trials = values["trials"]
    measured = tuple({arm: measured_from_json(m) for arm, m in trial["arms"].items()} for trial in trials)
    return Evidence(tuple(trial["seed"] for trial in trials), measured, judgement, values["out_of_time"])


def _finding_from_json(
    contrast: str, mean: float, low: float | None, high: float | None, at_least: float | None, at_most: float | None
) -> Finding:
    def bound(value: float | None, without: float) -> float:
        return without if value is None else value

    inf = math.inf
    return Finding(contrast, mean, bound(low, -inf), bound(high, inf), bound(at_least, -inf), bound(at_most, inf))


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and math.isinf(value) else value
