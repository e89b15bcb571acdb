"""Several ways to do the same work, timed side by side.

A figure file (``benchmarks/figures/<file>.py``) declares what is run; it is found by being there:

    from benchmarks.side_by_side import Case, Figure, Target

    def ours():                                  # imports stand inside: the file is also read where torch or JAX is missing
        import torch, timecell as tc
        cell, x = tc.LIF(512), torch.from_numpy(current()).requires_grad_()

        def one_pass():                          # what is timed
            y, _ = cell(x)
            y.backward(blame)
            gradient, x.grad = x.grad, None      # what a pass leaves behind is missing in the memory of the next
            return {"spikes": y, "gradient": gradient}
        return one_pass

    FIGURES = (
        Figure(
            "lif-hard", "LIF layer [64, 100, 512], hard reset, forward and backward",
            cases=(
                Case("timecell", ours, kind="ours"),                     # the first case is the one that all others are held against
                Case("bytes", bound, kind="floor"),                      # what nobody can be faster than
                Case("plain torch loop", loop, exact=True),              # must return what the first case returns
                Case("SpikingJelly", spikingjelly, needs=("spikingjelly",)),
            ),
            targets=(
                Target("SpikingJelly", at_least=8),                      # takes at least 8 times our time
                Target("bytes", at_most=1.6),                            # we take at most 1.6 times its time
                Target("SpikingJelly", at_least=2, of="memory"),         # the same for peak memory
            ),
        ),
    )

One worker process a case, kept alive and told over a pipe to do its passes. Rounds go over all cases in shuffled order
and every ratio is formed inside a round, so that the load of other programs cancels to first order; what is reported
is the median over rounds, with the lowest and the highest. On one thread the time is CPU time; on more it is wall time.

A case with `needs` runs in the peers' Python, one without in ours. A case that cannot run is a row with its reason.
The arrays that the first pass returns are compared by their mean absolute value: the table shows it, and a case that
is declared `exact` and is off by more than a thousandth is a failure, not a row.
"""

from __future__ import annotations

import importlib
import json
import random
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 300.0  # seconds that a worker may take for an answer

Pass = Callable[[], Mapping[str, Any] | None]


@dataclass(frozen=True)
class Case:
    """One way to do the work.

    Args:
        name: as the tables show it.
        setup: makes data and model and returns one pass, the callable that is timed. What it returns, arrays (of
            torch, numpy or JAX) or numbers by name, is compared between the cases.
        needs: packages beyond timecell's own; such a case runs in the peers' Python.
        kind: "ours", "peer", or "floor": a bound that nobody can be faster than.
        exact: computes what the figure's first case computes.
    """

    name: str
    setup: Callable[[], Pass]
    needs: tuple[str, ...] = ()
    kind: Literal["ours", "peer", "floor"] = "peer"
    exact: bool = False


@dataclass(frozen=True)
class Target:
    """What is asked of a figure; exactly one of the three limits is given.

    Args:
        against: the case that is held against ours.
        at_least: `against` takes at least so many times what `subject` takes.
        at_most: `subject` takes at most so many times what `against` takes.
        above: `subject` takes at most so many seconds (or MB) more than `against`.
        of: "time" or "memory".
        subject: our case; the figure's first where nothing is said.
    """

    against: str
    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    of: Literal["time", "memory"] = "time"
    subject: str = ""


@dataclass(frozen=True)
class Figure:
    """One workload and the ways to do it; the first case is ours, and every ratio is formed with it."""

    name: str
    title: str
    cases: tuple[Case, ...]
    targets: tuple[Target, ...] = ()


def figures(only: str = "") -> list[tuple[str, Figure]]:
    """Every figure with the module it stands in, found by walking ``benchmarks/figures``.

    Args:
        only: a part of the file's or the figure's name.
    """
    found = []
    for path in sorted((ROOT / "benchmarks" / "figures").glob("[!_]*.py")):
        module = f"benchmarks.figures.{path.stem}"
        declared = importlib.import_module(module).FIGURES
        found += [(module, figure) for figure in declared if only in path.stem or only in figure.name]
    return found


class Failure(Exception):
    """Why a case cannot run."""


class Worker:
    """A process that makes one case ready, says so, and does passes of it when told."""

    def __init__(self, python: str, module: str, figure: str, case: str, threads: int) -> None:
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (it lives as long as the process)
        self.process = subprocess.Popen(
            [python, "-W", "ignore", "-m", "benchmarks.worker", module, figure, case, str(threads)], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
            start_new_session=True,  # an interrupt is for the runner, which ends its workers itself
        )  # fmt: skip

    def ask(self, request: str) -> dict[str, Any]:
        """Tell the worker what to do, and hear what came of it; see worker.py for the requests.

        Raises:
            Failure: as for `hear`.
        """
        assert self.process.stdin is not None
        try:
            print(request, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise Failure(self._last_words()) from None
        return self.hear()

    def hear(self) -> dict[str, Any]:
        """The worker's next answer.

        Raises:
            Failure: it cannot do its case, has ended, or takes too long.
        """
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
            raise Failure(f"no answer within {PATIENCE:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            raise Failure(self._last_words())
        answer = json.loads(line)
        if "failed" in answer:
            raise Failure(answer["failed"])
        return answer

    def _last_words(self) -> str:
        status = self.process.wait()
        self.errors.seek(0)
        said = [line for line in self.errors if line.strip()]
        return f"the worker ended with status {status}: {said[-1].strip() if said else 'it said nothing'}"

    def end(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()
        self.errors.close()


@dataclass(frozen=True)
class Pythons:
    """The interpreters: for ours, and for everything that needs a peer's package."""

    ours: str = sys.executable
    peers: str = sys.executable

    def of(self, case: Case) -> str:
        """The one that a case runs in."""
        return self.peers if case.needs else self.ours


class Measurement:
    """All cases of a figure with so many threads each, round after round.

    Attributes:
        rows: case name -> what is known of it, JSON values: its "kind"; seconds of one pass by the "wall" and the "cpu"
            clock, one number a round; "memory", MB at the peak of a pass (None where the system does not tell); and
            "result", the mean absolute value of what it returned first. Or "failed", the reason.
        tell: is given a line when something has happened.
    """

    def __init__(
        self, module: str, figure: Figure, threads: int, pythons: Pythons, tell: Callable[[str], object]
    ) -> None:
        self.module, self.figure, self.threads, self.pythons, self.tell = module, figure, threads, pythons, tell
        self.rows: dict[str, dict[str, Any]] = {case.name: {"kind": case.kind} for case in figure.cases}
        self.workers: dict[str, Worker] = {}

    def run(self, rounds: int) -> None:
        """Start, time and end all cases. What is interrupted keeps the rounds that are complete in `rows`."""
        try:
            self._start()
            order = random.Random(0)
            for done in range(rounds):
                times = {}
                for name in order.sample(sorted(self.workers), len(self.workers)):
                    with self._failing(name):
                        times[name] = self.workers[name].ask("time")
                for name in self.workers:
                    for clock in ("wall", "cpu"):
                        self.rows[name].setdefault(clock, []).append(times[name][clock])
                self.tell(f"round {done + 1} of {rounds}")
            for name in list(self.workers):
                with self._failing(name):
                    self.rows[name] |= self.workers[name].ask("memory")
        finally:
            for worker in self.workers.values():
                worker.end()

    def _start(self) -> None:
        """All at once: a start is mostly imports and compiling, and nothing is timed meanwhile."""
        for case in self.figure.cases:
            python = self.pythons.of(case)
            self.workers[case.name] = Worker(python, self.module, self.figure.name, case.name, self.threads)
        first = self.figure.cases[0].name
        for case in self.figure.cases:
            with self._failing(case.name):
                self.rows[case.name] |= self.workers[case.name].hear()
                if case.exact:
                    check_same(self.rows[case.name], self.rows[first], first)
                self.tell(f"{case.name} is ready")

    @contextmanager
    def _failing(self, name: str) -> Iterator[None]:
        """A case that fails is left out from here on, with the reason in its row; the others go on."""
        try:
            yield
        except Failure as failure:
            self.rows[name] = {"kind": self.rows[name]["kind"], "failed": str(failure)}
            self.workers.pop(name).end()
            self.tell(f"{name} cannot run: {failure}")


def check_same(row: Mapping[str, Any], first: Mapping[str, Any], name: str) -> None:
    """Refuse a case that says it is exact and returns something else than the first one.

    Raises:
        Failure: it names the result that is off by more than a thousandth, and both values.
    """
    for key, expected in first.get("result", {}).items():
        found = row["result"].get(key, float("nan"))
        if not abs(found - expected) <= 1e-3 * abs(expected):
            raise Failure(f"computes something else: mean |{key}| {found:.6g}, {name} {expected:.6g}")
