"""What measurements say: ratios, targets met or not, and tables of them in Markdown.

Measured are, as JSON values, `{figure name: {"date", "load", "threads": {"1": rows, "2": rows}}}`, with the rows of
`Measurement`. On one thread time is CPU time, because a second program on the machine blurs wall time; on more threads it
is wall time, because CPU time does not see threads that wait for each other. One thread is what targets are judged by.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.side_by_side import Figure, Target

Rows = Mapping[str, Mapping[str, Any]]
CLOCKS = {"1": "cpu", "2": "wall"}
MISSING = "not measured"


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, the lowest and the highest."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None where there is no value."""
        return cls(statistics.median(values), min(values), max(values)) if values else None

    def text(self, unit: float = 1.0) -> str:
        """In multiples of a unit."""
        middle, low, high = (number(value / unit) for value in (self.median, self.lowest, self.highest))
        return middle if low == high else f"{middle} ({low}–{high})"


def number(value: float) -> str:
    """Three digits, or all that stand before the point.

    Example:
        >>> [number(v) for v in (0.01234, 1.618, 27.18, 314.2, 31415.9)]
        ['0.0123', '1.62', '27.2', '314', '31416']
    """
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def values(rows: Rows, case: str, clock: str) -> list[float]:
    """Seconds by a clock, one number a round, or the one number of "memory" in MB; empty where nothing was measured."""
    found = rows.get(case, {}).get(clock)
    if clock == "memory":
        return [] if found is None else [max(found, 1.0)]  # less than a MB cannot be told from nothing
    return found or []


def ratio(rows: Rows, case: str, other: str, clock: str) -> Spread | None:
    """What `case` takes in units of what `other` takes in the same round."""
    return Spread.of([a / b for a, b in zip(values(rows, case, clock), values(rows, other, clock))])


# --- targets --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """A target beside what was measured; `met` is None where one of its cases was not measured."""

    target: str
    measured: str
    met: bool | None


def judge(figure: Figure, target: Target, rows: Rows, clock: str) -> Verdict:
    """A target is met if the median over the rounds meets it.

    Args:
        figure: where the target stands.
        target: what is asked.
        rows: what was measured.
        clock: "cpu" or "wall", for a target of time.
    """
    ours, peer = target.subject or figure.cases[0].name, target.against
    by = f"{target.subject}: " if target.subject else ""
    memory = target.of == "memory"
    clock = "memory" if memory else clock
    if target.at_least is not None:
        gain = "× smaller in memory than" if memory else "× as fast as"
        asked, unit = f"{by}≥ {target.at_least:g} {gain} {peer}", 1.0
        found = ratio(rows, peer, ours, clock)
        met = found and found.median >= target.at_least
    elif target.at_most is not None:
        cost = "× the memory of" if memory else "× the time of"
        asked, unit = f"{by}≤ {target.at_most:g} {cost} {peer}", 1.0
        found = ratio(rows, ours, peer, clock)
        met = found and found.median <= target.at_most
    else:
        assert target.above is not None
        name, unit = ("MB", 1.0) if memory else ("µs", 1e-6) if target.above < 1e-3 else ("s", 1.0)
        asked = f"{by}≤ {target.above / unit:g} {name} above {peer}"
        found = Spread.of([a - b for a, b in zip(values(rows, ours, clock), values(rows, peer, clock))])
        met = found and found.median <= target.above
    return Verdict(asked, found.text(unit) if found else MISSING, met if found else None)  # type: ignore[arg-type]


def verdicts(figures: Iterable[Figure], measured: Mapping[str, Any]) -> list[tuple[Figure, Verdict, Verdict]]:
    """Every target of every figure that was run, judged on one thread; beside it, the same on two."""
    found = []
    for figure in figures:
        threads = measured.get(figure.name, {"threads": {}})["threads"]
        if threads:
            for target in figure.targets:
                one, two = (judge(figure, target, threads.get(n, {}), clock) for n, clock in CLOCKS.items())
                found.append((figure, one, two))
    return found


# --- tables ---------------------------------------------------------------------------------------------------------


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown whose columns also line up on a terminal."""
    lines = [list(heads), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines)


def target_table(figures: Iterable[Figure], measured: Mapping[str, Any]) -> str:
    """Every target beside what was measured."""
    words = {True: "met", False: "**not met**", None: "?"}
    judged = verdicts(figures, measured)
    return table(
        ("work", "target", "one thread, CPU time", "", "two threads, wall time"),
        [(figure.title, one.target, one.measured, words[one.met], two.measured) for figure, one, two in judged],
    )


def case_table(figure: Figure, measured: Mapping[str, Any]) -> str:
    """Every case of a figure: milliseconds, how many times ours, memory, and what it returned."""
    first = figure.cases[0].name
    by_threads: dict[str, Rows] = measured["threads"]
    heads = [""]
    for n in by_threads:
        heads += [{"1": "one thread, CPU ms", "2": "two threads, wall ms"}[n], "× ours"]
    lines = []
    for case in figure.cases:
        line = [f"**{case.name}**" if case.kind == "ours" else case.name]
        for n, rows in by_threads.items():
            spent, times = (
                Spread.of(values(rows, case.name, CLOCKS[n])), ratio(rows, case.name, first, CLOCKS[n]),
            )  # fmt: skip
            line += [spent.text(1e-3) if spent else MISSING, times.text() if times else MISSING]
        rows = next(iter(by_threads.values()))
        memory = values(rows, case.name, "memory")
        row = rows.get(case.name, {})
        returned = ", ".join(f"{name} {number(value)}" for name, value in row.get("result", {}).items())
        lines.append([*line, number(memory[0]) if memory else "unknown", row.get("failed") or returned])
    return table([*heads, "MB", "mean size of what it returned, or why it did not run"], lines)
