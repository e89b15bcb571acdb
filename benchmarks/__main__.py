"""Ours beside the peers: every figure, its table, its picture, and every target beside what was measured.

python -m benchmarks                                  # all of it, half an hour on a quiet machine; docs are written
python -m benchmarks --only lif --quick               # a look; nothing is written
python -m benchmarks --peers other/venv/bin/python    # where the peers' packages are installed elsewhere
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import tyro

from benchmarks import picture, report
from benchmarks.side_by_side import ROOT, Figure, Measurement, Pythons, figures


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Time ours beside the peers, and print every target beside what was measured.

    Attributes:
        only: run the figures with this in the name of the file or the figure.
        rounds: how often each case is timed.
        threads: what each case may use; targets are judged on one.
        peers: the Python that has the peers' packages; as a rule the one that runs this.
        into: where results.json, tables.md and the pictures are kept; what other figures have there stays.
        quick: two rounds on one thread, and nothing is written.
        json: print the results as JSON, and nothing else.
    """

    only: str = ""
    rounds: int = 7
    threads: tuple[Literal[1, 2], ...] = (1, 2)
    peers: str = sys.executable
    into: Path = ROOT / "docs" / "reference" / "speed"
    quick: bool = False
    json: bool = False

    def run(self) -> int:
        """Measure, write after every figure, print; the exit status."""
        chosen = figures(self.only)
        if not chosen:
            names = ", ".join(figure.name for _, figure in figures())
            say(f"--only {self.only}: no figure has this in its name; there are {names}")
            return 2
        if shutil.which(self.peers) is None:
            say(f"--peers {self.peers}: there is no such program; give the Python of benchmarks/peers.sh")
            return 2
        measured: dict[str, Any] = {}
        try:
            for module, figure in chosen:
                self.measure(module, figure, measured)
                self.keep(measured)
        except KeyboardInterrupt:
            say("interrupted: what is measured is kept")
            self.keep(measured)
        run = [figure for _, figure in chosen if figure.name in measured]
        if self.json:
            print(json.dumps(measured, indent=1))
        else:
            print(*(f"\n{f.title}\n\n{report.case_table(f, measured[f.name])}" for f in run), sep="\n")
            print(f"\n{report.target_table(run, measured)}")
        return 0

    def keep(self, measured: Mapping[str, Any]) -> None:
        """Write what there is."""
        if measured and not self.quick:
            publish(measured, self.into)

    def measure(self, module: str, figure: Figure, measured: dict[str, Any]) -> None:
        """Put the figure's rows into `measured`; those of an interrupted run as well, if a round was complete."""
        found = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine()}
        for threads in (1,) if self.quick else self.threads:
            say(f"{figure.title}, {threads} thread{'s' if threads > 1 else ''}")
            pythons = Pythons(peers=self.peers)
            measurement = Measurement(module, figure, threads, pythons, lambda line: say(f"  {line}"))
            try:
                measurement.run(2 if self.quick else self.rounds)
            finally:
                if any("cpu" in row for row in measurement.rows.values()):
                    kept = measured.setdefault(figure.name, found | {"threads": {}})
                    kept["threads"][str(threads)] = measurement.rows


def say(line: str) -> None:
    """About progress, to stderr."""
    print(line, file=sys.stderr, flush=True)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor()
    packages = {name: version(name) for name in ("timecell", "torch", "numba")}
    return {
        "processor": processor, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(), **packages,
    }  # fmt: skip


def publish(measured: Mapping[str, Any], folder: Path) -> None:
    """Merge into the folder's results.json, and write its tables and pictures anew."""
    from timecell.files import write_whole

    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "results.json"
    everything = (json.loads(kept.read_text()) if kept.exists() else {}) | dict(measured)
    write_whole(kept, json.dumps(everything, indent=1).encode())
    known = [figure for _, figure in figures() if figure.name in everything]
    for figure in known:
        picture.draw(figure, everything[figure.name], folder / f"{figure.name}.png")
    write_whole(folder / "tables.md", page(known, everything).encode())


def page(known: Sequence[Figure], measured: Mapping[str, Any]) -> str:
    """The tables as the documentation includes them."""
    parts = ["<!-- written by python -m benchmarks -->", "## Targets", report.target_table(known, measured)]
    for figure in known:
        found = measured[figure.name]
        where = found["machine"]
        parts += [
            f"## {figure.title}", f"![{figure.title}](speed/{figure.name}.png)", report.case_table(figure, found),
            f"{found['date'][:10]}, {where['processor']}, {where['cores']} cores, load {where['load']} at the start, "
            f"Python {where['python']}, torch {where['torch']}, numba {where['numba']}.",
        ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(tyro.cli(Bench, prog="python -m benchmarks").run())
