"""A picture of one figure: a bar a case on a logarithmic axis, ours in colour, what the targets ask as marks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import CLOCKS, Spread, number, ratio, values
from benchmarks.side_by_side import Figure

COLOURS = {"ours": "#0072B2", "peer": "#c9ced4", "floor": "#f3f5f7"}
INK, MUTED, ASKED = "#1b1f24", "#6a737d", "#D55E00"


def draw(figure: Figure, measured: Mapping[str, Any], path: Path) -> None:
    """Write a PNG of the times on the fewest threads that were measured."""
    from matplotlib import ticker
    from matplotlib.figure import Figure as Canvas

    threads, rows = min(measured["threads"].items())
    clock = CLOCKS[threads]
    spent = {case.name: Spread.of([1e3 * s for s in values(rows, case.name, clock)]) for case in figure.cases}
    places = {case.name: -y for y, case in enumerate(figure.cases)}
    asked = list(marks(figure, spent))
    canvas = Canvas(figsize=(7.2, 0.9 + 0.34 * len(figure.cases)), dpi=140, layout="constrained")
    ax = canvas.subplots()
    for case in figure.cases:
        y, time = places[case.name], spent[case.name]
        if time is None:
            ax.text(0.01, y, "did not run", transform=ax.get_yaxis_transform(), va="center", size=8, color=MUTED)
            continue
        ax.barh(y, time.median, height=0.62, color=COLOURS[case.kind])
        ax.plot([time.lowest, time.highest], [y, y], color=MUTED, linewidth=1)
        times = ratio(rows, case.name, figure.cases[0].name, clock)
        words = f"{number(time.median)} ms" + (f", {number(times.median)} × ours" if times else "")
        end = max([time.highest, *(mark for name, mark in asked if name == case.name)])
        ax.annotate(words, (end, y), (6, 0), textcoords="offset points", va="center", size=8, color=INK)
    for name, mark in asked:
        ax.plot([mark, mark], [places[name] - 0.38, places[name] + 0.38], color=ASKED, linewidth=2)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,g}"))
    ax.xaxis.set_minor_formatter(ticker.NullFormatter())
    ax.set_xlim(*limits([time for time in spent.values() if time], [mark for _, mark in asked]))
    ax.set_yticks(list(places.values()), list(places), size=8)
    ax.get_yticklabels()[0].set_fontweight("bold")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", labelsize=8, labelcolor=MUTED)
    ax.set_title(figure.title, size=9, loc="left", color=INK)
    what = "CPU time of one thread" if clock == "cpu" else "wall time of two threads"
    ax.set_xlabel(f"{what} in ms; | what is asked: of ours at most, of a peer at least", size=8, color=MUTED)
    canvas.savefig(path, metadata={"Software": None})


def marks(figure: Figure, spent: Mapping[str, Spread | None]) -> Iterator[tuple[str, float]]:
    """Where a bar must end, or how far it must reach, by the targets of time: the case and milliseconds."""
    for target in figure.targets:
        subject = target.subject or figure.cases[0].name
        ours, peer = spent.get(subject), spent.get(target.against)
        if target.of == "memory" or ours is None or peer is None:
            continue
        if target.at_least is not None:
            yield target.against, target.at_least * ours.median
        elif target.at_most is not None:
            yield subject, target.at_most * peer.median
        elif target.above is not None:
            yield subject, 1e3 * target.above + peer.median


def limits(spent: Sequence[Spread], asked: Sequence[float]) -> tuple[float, float]:
    """Of the axis: half the shortest time, and room behind the longest for its number."""
    low, high = min(time.lowest for time in spent) / 2, max([time.highest for time in spent] + list(asked))
    return low, high * (high / low) ** 0.35
