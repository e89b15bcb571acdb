"""The journal of a verification: what each seed measured, written down as it finishes.

A verification takes hours, and a kill must not cost the seeds that are done. They are kept beside the ledger, a file a
claim, until the verdict is in the ledger. Each line has a hash of the code and the versions that it was measured with:
a line of other code is never used.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

from timecell.catalog import PACKAGE, sources
from timecell.claims.declare import Trial
from timecell.claims.packing import measured_from_json, measured_to_json
from timecell.claims.statements import Measured

VERSIONS = ("torch", "numpy", "numba", "scikit-learn")


class Journal:
    """Measurements of one claim, by seed; in memory, or in a file that outlives the process.

    Attributes:
        seconds: wall time that was spent on what is in it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.jsonl"
        ...     Journal(path, "code 1").add(Trial(100), {"arm": Measured(0.5)}, seconds=3.0)
        ...     again, other = Journal(path, "code 1"), Journal(path, "code 2")
        ...     again.get(Trial(100))["arm"].value, again.seconds, other.get(Trial(100))
        (0.5, 3.0, None)
    """

    def __init__(self, path: Path | None = None, code: str = "") -> None:
        self.path, self.code, self.seconds = path, code, 0.0
        self._kept: dict[tuple[int, bool], dict[str, Measured]] = {}
        for line in path.read_bytes().splitlines() if path and path.exists() else ():
            try:
                values = json.loads(line)
                arms = {arm: measured_from_json(m) for arm, m in values["arms"].items()}
            except (ValueError, KeyError, TypeError, zlib.error):
                continue  # the kill came while this line was being written: its seed is measured again
            if values["code"] == code:
                self._kept[values["seed"], values["control"]] = arms
                self.seconds = max(self.seconds, values["seconds"])

    def get(self, trial: Trial) -> dict[str, Measured] | None:
        """What this seed measured; None if it has not."""
        return self._kept.get((trial.seed, trial.control))

    def add(self, trial: Trial, arms: Mapping[str, Measured], seconds: float) -> None:
        """Keep what a seed measured, safely on disk; `seconds` is the wall time so far."""
        self._kept[trial.seed, trial.control] = dict(arms)
        self.seconds = seconds
        if self.path is None:
            return
        values: dict[str, Any] = {"code": self.code, "seed": trial.seed, "control": trial.control, "seconds": seconds}
        values["arms"] = {arm: measured_to_json(m) for arm, m in arms.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(b"\n" + json.dumps(values).encode())  # after a line that a kill cut off, a line of its own
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Forget everything: the verdict is in the ledger."""
        self._kept = {}
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def beside(ledger: Path, slug: str, claim: str) -> Path:
    """Where the journal of a claim lies."""
    return ledger.parent / f"{ledger.stem}-unfinished" / f"{slug}.{claim}.jsonl"


def experiments(ledger: Path, slug: str, code: str) -> Path:
    """Where what the claims of a system share lies, as measured with this code."""
    return ledger.parent / f"{ledger.stem}-unfinished" / f"{slug}.{code}"


def code_hash(module: Path) -> str:
    """Hash of all that a measurement depends on: the system's files, all of timecell, and what it stands on."""
    digest = hashlib.sha256(f"{python_version()} {[version(name) for name in VERSIONS]}".encode())
    for path in [*sorted(sources(module)), *sorted(PACKAGE.rglob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
