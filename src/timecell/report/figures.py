"""Figures of a comparison's results: the ranking, and how the networks learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from timecell.compare import Comparison, Row
from timecell.report import words
from timecell.report.look import ACCENT, INK, MUTED, Figure, figure, label, strokes

CURVES = "history"  # key in a fit's report: one row a validation


def ranking(c: Comparison) -> Figure:
    """Every seed's test score as a dot, mean and standard deviation as a bar; the best on top, baselines grey."""
    traces: list[dict[str, Any]] = []
    for baseline, colour in ((False, ACCENT), (True, MUTED)):
        rows = [(y, row) for y, row in enumerate(c.rows) if row.is_baseline == baseline]
        traces += [
            {
                "type": "scatter", "mode": "lines", "hoverinfo": "skip", "opacity": 0.3,
                "line": {"color": colour, "width": 9},
                "x": [x for _, r in rows for x in (r.metric - r.spread, r.metric + r.spread, None)],
                "y": [at for y, _ in rows for at in (y, y, None)],
            },
            {
                "type": "scatter", "mode": "markers", "marker": {"color": colour, "size": 7, "opacity": 0.75},
                "x": [x for _, r in rows for x in r.values], "y": [y for y, r in rows for _ in r.values],
                "customdata": [seed for _, r in rows for seed in seeds(c, r)],
                "hovertemplate": "seed %{customdata}: %{x:.4g}<extra></extra>",
            },
            {
                "type": "scatter", "mode": "markers", "hoverinfo": "skip",
                "marker": {"symbol": "line-ns", "size": 16, "line": {"color": INK, "width": 2}},
                "x": [r.metric for _, r in rows], "y": [y for y, _ in rows],
            },
        ]  # fmt: skip
    names = [("≈ " if words.is_tie(row) else "") + label(row.slug) for row in c.rows]
    axis = {"tickvals": list(range(len(names))), "ticktext": names, "range": [len(names) - 0.4, -0.6]}
    return figure(
        traces, 70 + 32 * len(names), x=words.metric(c.metric), xaxis={"showgrid": True},
        yaxis={**axis, "ticks": "", "showgrid": False},
    )  # fmt: skip


def seeds(c: Comparison, row: Row) -> list[int]:
    """The seeds of a row's values."""
    return [c.settings.first_seed + i for i in range(len(row.values))]


def curves(c: Comparison, key: str) -> Figure:
    """One column of the training histories over updates, a line a system."""
    stroke = strokes(c)
    traces = []
    for row in c.rows:
        points = [(r["update"], r[key]) for r in history(row) if r.get(key) is not None]
        traces.append({
            "type": "scatter", "mode": "lines+markers" if len(points) < 3 else "lines", "name": label(row.slug),
            "x": [update for update, _ in points], "y": [value for _, value in points],
            "line": {**stroke[row.slug], "width": 2}, "hovertemplate": "%{y:.4g} after %{x} updates",
        })  # fmt: skip
    return figure(traces, 260, x="updates")


def history(row: Row) -> Sequence[Mapping[str, Any]]:
    """The rows of a fit's training history; none for what isn't trained by updates."""
    return row.report.get(CURVES) or ()
