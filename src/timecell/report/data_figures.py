"""Figures of the data themselves: samples as rasters or lines, class counts, a series with the borders of its parts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from timecell.data.containers import Cut, Schema, Sequences, Series
from timecell.report.look import ACCENT, COLOURS, INK, MUTED, PAPER, TEST, TRAIN, VALID, Figure, Stroke, figure, label
from timecell.system import Splits

POINTS = 1500  # of one drawn line
CELLS = 250  # of one side of a raster
LINES = 6  # channels drawn as lines; more become an image
BARS = 40  # classes in the bar chart


def samples(train: Sequences, number: int = 6) -> list[tuple[str, Figure]]:
    """The first training sample of each of the first classes, with its class as title."""
    target = np.zeros(len(train), int) if train.target is None else train.target
    classes = train.schema.classes or ("",)
    firsts = [int(np.argmax(target == k)) for k in range(len(classes)) if (target == k).any()]
    return [(classes[target[i]], sample(train[i], train.schema)) for i in firsts[:number]]


def sample(x: Shaped[np.ndarray, "T C"], schema: Schema) -> Figure:
    """One sample: a raster of event counts, lines of a few channels, or an image of many."""
    title, scale = ("time (s)", 1 / schema.rate) if schema.rate else ("step", 1.0)
    if channel_strokes(schema):
        return figure(
            [{"type": "scatter", "mode": "lines", "name": label(name), **line(np.arange(len(x)) * scale, x[:, c]),
              "line": {"color": COLOURS[c], "width": 1.5}} for c, name in enumerate(schema.channels)],
            210, x=title,
        )  # fmt: skip
    kept = pooled(x, np.max if schema.spikes else np.mean)
    steps, channels = (np.arange(n) * whole / n for n, whole in zip(kept.shape, x.shape))
    top = float(np.nanmax(np.abs(kept))) or 1.0
    colours = [[0, PAPER], [1, INK]] if schema.spikes else [[0, COLOURS[1]], [0.5, PAPER], [1, COLOURS[0]]]
    image = {
        "type": "heatmap", "x": steps * scale, "y": channels, "z": kept.T, "colorscale": colours, "showscale": False,
        "zmin": 0 if schema.spikes else -top, "zmax": min(top, 2) if schema.spikes else top,
        "hovertemplate": f"{title} %{{x:.3g}}, channel %{{y:.0f}}: %{{z:.3g}}<extra></extra>",
    }  # fmt: skip
    return figure([image], 240, x=title, y="channel", yaxis={"showgrid": False})


def channel_strokes(schema: Schema) -> dict[str, Stroke]:
    """The line of each channel, where these are few enough to be told apart; empty for events and for many."""
    few = not schema.spikes and len(schema.channels) <= LINES
    return {name: {"color": colour, "dash": "solid"} for name, colour in zip(schema.channels, COLOURS)} if few else {}


def pooled(x: Shaped[np.ndarray, "T C"], reduce: Any) -> Float[np.ndarray, "t c"]:
    """Neighbours put together until neither side has more than `CELLS`.

    Example:
        >>> pooled(np.ones((1000, 3)), np.max).shape
        (250, 3)
    """
    for axis in (0, 1):
        starts = np.linspace(0, x.shape[axis], min(CELLS, x.shape[axis]), endpoint=False).astype(int)
        parts = np.split(x, starts[1:], axis=axis)
        x = np.stack([reduce(p, axis=axis) for p in parts], axis=axis)
    return x.astype(float)


def line(t: Float[np.ndarray, " T"], y: Float[np.ndarray, " T"]) -> dict[str, Any]:
    """x and y of a trace; a long line keeps the lowest and the highest value of each stretch.

    Example:
        >>> len(line(np.arange(90_000.0), np.random.default_rng(0).random(90_000))["x"]) <= POINTS
        True
    """
    if len(y) > POINTS:
        starts = np.linspace(0, len(y), POINTS // 2, endpoint=False).astype(int)
        low = [s + int(np.argmin(np.where(np.isnan(p), np.inf, p))) for s, p in zip(starts, np.split(y, starts[1:]))]
        high = [s + int(np.argmax(np.where(np.isnan(p), -np.inf, p))) for s, p in zip(starts, np.split(y, starts[1:]))]
        keep = np.unique([*low, *high])
        t, y = t[keep], y[keep]
    return {"x": t, "y": y}


def class_counts(splits: Splits) -> Figure:
    """Samples of each class in each part; of very many classes the most frequent ones."""
    return bars_of_parts([part.target for part in vars(splits).values()], splits.train.schema.classes or (), "samples")


def bars_of_parts(parts: Sequence[Int[np.ndarray, "N"]], names: Sequence[str], what: str) -> Figure:
    """How many there are of each name in the training, validation and test part; of many the most frequent ones."""
    counts = [np.bincount(part, minlength=len(names)) for part in parts]
    order = np.sort(np.argsort(-sum(counts), kind="stable")[:BARS])[::-1]
    traces = [
        {"type": "bar", "orientation": "h", "name": name, "x": own[order], "y": list(range(len(order))),
         "marker": {"color": colour}, "hovertemplate": f"%{{x}} in {name}<extra></extra>"}
        for own, name, colour in zip(counts, ("train", "validation", "test"), (TRAIN, VALID, TEST))
    ]  # fmt: skip
    named = {"tickvals": list(range(len(order))), "ticktext": [label(names[k]) for k in order]}
    return figure(
        traces, 90 + 18 * len(order), x=what, barmode="stack", bargap=0.25, showlegend=True,
        legend={"traceorder": "normal"}, xaxis={"showgrid": True}, yaxis={**named, "ticks": "", "showgrid": False},
    )  # fmt: skip


def borders_of(splits: Splits) -> list[int]:
    """The first step of the validation and of the test part of a series."""
    parts = (splits.train, splits.valid, splits.test)
    if isinstance(splits.test, Cut):
        return [part.first_target for part in parts[1:] if isinstance(part, Cut)]
    return [len(parts[0]), len(parts[0]) + len(parts[1])]


def whole_series(series: Series, borders: Sequence[int], number: int = 3) -> list[tuple[str, Figure]]:
    """The first channels of a series over all its time, with the borders of the parts, under their names."""
    t = times(series)
    names = part_names([b / max(1, len(series) - 1) for b in borders])
    out = []
    for c in range(min(number, series.values.shape[1])):
        trace = {"type": "scatter", "mode": "lines", "line": {"color": ACCENT, "width": 1}, "connectgaps": False}
        points = line(np.arange(len(series), dtype=float), series.values[:, c])
        points["x"] = t[points["x"].astype(int)]
        drawn = figure(
            [{**trace, **points, "hovertemplate": "%{x}: %{y:.4g}<extra></extra>"}], 200,
            x=time_title(series), margin={"t": 22}, annotations=names, shapes=[border(t[b]) for b in borders],
            xaxis={"range": [t[0], t[-1]]},
        )  # fmt: skip
        out.append((series.schema.channels[c], drawn))
    return out


def part_names(borders: Sequence[float]) -> list[dict[str, Any]]:
    """The names of the three parts above a figure whose borders lie at these shares of its width."""
    edges = [0, *borders, 1]
    return [
        {"x": (a + b) / 2, "xref": "paper", "y": 1, "yref": "paper", "yanchor": "bottom", "text": name,
         "showarrow": False, "font": {"color": MUTED, "size": 12}}
        for name, a, b in zip(("train", "validation", "test"), edges, edges[1:])
    ]  # fmt: skip


def border(x: Any) -> dict[str, Any]:
    """A dotted vertical line."""
    stroke = {"color": INK, "width": 1, "dash": "dot"}
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": stroke}


def times(series: Series) -> np.ndarray:
    """[T] dates where time counts from 1970 (as in `timecell.data.describe`), else seconds, else step numbers."""
    t = series.time
    if t is None:
        return np.arange(len(series)) / (series.schema.rate or 1.0)
    return np.array([datetime.fromtimestamp(s, UTC).strftime("%Y-%m-%d %H:%M:%S") for s in t]) if t[0] > 1e8 else t


def time_title(series: Series) -> str:
    """The axis title that goes with `times`; dates need none."""
    if series.time is not None:
        return "" if series.time[0] > 1e8 else "time (s)"
    return "time (s)" if series.schema.rate else "step"
