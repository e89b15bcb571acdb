"""Figures of data that are no grid: marked events in continuous time, contacts of a temporal graph."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from jaxtyping import Float

from timecell.data.event_sequences import EventSequences
from timecell.data.temporal_edges import TemporalEdges
from timecell.report.data_figures import bars_of_parts, border, part_names
from timecell.report.look import COLOURS, TRAIN, Figure, Stroke, figure, label
from timecell.system import Splits

SHOWN = 12  # sequences of the raster
MOST = 400  # events drawn of each of them
MARKS = len(COLOURS)  # that have a colour of their own


def mark_strokes(events: EventSequences) -> dict[str, Stroke]:
    """The colour of each of the first marks."""
    return {name: {"color": colour, "dash": "solid"} for name, colour in zip(events.schema.classes or (), COLOURS)}


def raster(events: EventSequences) -> Figure:
    """The first sequences, one row each, a stroke an event, in the colour of its mark."""
    drawn: dict[int, tuple[list[float], list[int]]] = {}
    for row in range(min(SHOWN, len(events))):
        own = slice(events.offsets[row], min(events.offsets[row] + MOST, events.offsets[row + 1]))
        since = events.times[own] - events.start[row]
        for mark in np.unique(events.marks[own]):
            x, y = drawn.setdefault(int(mark), ([], []))
            chosen = since[events.marks[own] == mark]
            x += chosen.tolist()
            y += [row] * len(chosen)
    names = events.schema.classes or ()
    traces = [
        {"type": "scatter", "mode": "markers", "name": label(names[mark]), "x": x, "y": y,
         "marker": {"symbol": "line-ns-open", "size": 11, "color": COLOURS[mark % MARKS]},
         "hovertemplate": f"{label(names[mark])} at %{{x:.4g}}<extra></extra>"}
        for mark, (x, y) in sorted(drawn.items())
    ]  # fmt: skip
    rows = min(SHOWN, len(events))
    return figure(
        traces, 90 + 20 * rows, x="time since the start", y="sequence",
        yaxis={"range": [rows - 0.5, -0.5], "showgrid": False, "dtick": 1 if rows < 8 else 3},
    )  # fmt: skip


def mark_counts(splits: Splits) -> Figure:
    """Events of each mark in each part; of very many marks the most frequent ones."""
    return bars_of_parts([part.marks for part in vars(splits).values()], splits.train.schema.classes or (), "events")


def contacts(splits: Splits, bins: int = 120) -> Figure:
    """Edges over time, with the borders of the parts."""
    parts = (splits.train, splits.valid, splits.test)
    edges = splits.test
    assert isinstance(edges, TemporalEdges)
    counts, at = np.histogram(edges.time, bins=bins)
    borders = [float(part.time[part.begin]) for part in parts[1:]]  # type: ignore[attr-defined]
    whole = float(at[-1] - at[0]) or 1.0
    moments = dates((at[1:] + at[:-1]) / 2)
    return figure(
        [{"type": "bar", "x": moments, "y": counts, "marker": {"color": TRAIN}, "hovertemplate": "%{x}: %{y}<extra></extra>"}],
        230, x="" if at[0] > 1e8 else "time", y="edges", bargap=0, margin={"t": 22},
        annotations=part_names([(b - at[0]) / whole for b in borders]), shapes=[border(x) for x in dates(np.array(borders))],
    )  # fmt: skip


def degrees(edges: TemporalEdges) -> Figure:
    """How many nodes have how many contacts: the share of nodes with at least so many, on logarithmic axes."""
    contacts = np.sort(np.bincount(np.concatenate([edges.source, edges.target]), minlength=len(edges.nodes)))[::-1]
    contacts = contacts[contacts > 0]
    share = np.arange(1, len(contacts) + 1) / len(contacts)
    keep = np.unique(np.geomspace(1, len(contacts), 200).astype(int)) - 1
    trace = {"type": "scatter", "mode": "lines", "x": contacts[keep], "y": share[keep], "line": {"color": TRAIN, "width": 2},
             "hovertemplate": "%{y:.2%} have %{x} or more<extra></extra>"}  # fmt: skip
    return figure(
        [trace], 230, x="contacts, at least", y="share of nodes", xaxis={"type": "log"}, yaxis={"type": "log"}
    )


def dates(times: Float[np.ndarray, "n"]) -> Sequence[str | float]:
    """Moments as dates where they count from 1970, else as they are."""
    if len(times) and times[0] > 1e8:
        return [datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M:%S") for t in times]
    return times.tolist()
