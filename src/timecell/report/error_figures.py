"""Figures of what went wrong on the test data: confusions of classes, forecasts beside the truth, error by horizon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from timecell.compare import Comparison
from timecell.data.containers import Sequences, Windows
from timecell.report.data_figures import time_title, times
from timecell.report.look import ACCENT, INK, MUTED, PAPER, SECOND, Figure, figure, label, strokes
from timecell.tasks.truth import future, naive_scale, target_channels

Arrays = Mapping[str, np.ndarray]
WRITTEN = 12  # classes up to which a confusion matrix has its numbers written in


def confusion(prediction: Arrays, test: Sequences) -> Int[np.ndarray, "K K"]:
    """How many samples of each true class (row) were taken for each class (column)."""
    assert test.target is not None
    truth, guess = test.target[prediction["item"]], prediction["probabilities"].argmax(axis=1)
    classes = len(test.schema.classes or ())
    return np.bincount(truth * classes + guess, minlength=classes**2).reshape(classes, classes)


def confusion_figure(counts: Int[np.ndarray, "K K"], classes: tuple[str, ...]) -> Figure:
    """The share of each true class by predicted class; counts are written in where there is room, and on hovering."""
    n = len(classes)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [label(c, 14) for c in classes]
    ticks = {"tickvals": list(range(n)), "ticktext": names, "ticks": "", "showgrid": False, "type": "linear"}
    image = {
        "type": "heatmap", "z": share, "zmin": 0, "zmax": 1, "colorscale": [[0, PAPER], [1, ACCENT]], "showscale": False,
        "customdata": counts, "xgap": 1, "ygap": 1,
        "hovertemplate": "true %{y}, predicted %{x}: %{customdata} (%{z:.0%})<extra></extra>",
    }  # fmt: skip
    written = [
        {"x": j, "y": i, "text": str(counts[i, j]), "showarrow": False,
         "font": {"size": 11, "color": "#ffffff" if share[i, j] > 0.5 else INK}}
        for i in range(n) for j in range(n) if n <= WRITTEN and counts[i, j]
    ]  # fmt: skip
    return figure(
        [image], 150 + max(200, 17 * n), x="predicted", y="true", annotations=written,
        xaxis={**ticks, "tickangle": -45, "range": [-0.5, n - 0.5]}, yaxis={**ticks, "range": [n - 0.5, -0.5]},
    )  # fmt: skip


def confused(counts: Int[np.ndarray, "K K"], classes: tuple[str, ...], number: int = 3) -> list[str]:
    """The most frequent confusions in words.

    Example:
        >>> confused(np.array([[5, 2], [0, 7]]), ("five", "nine"))
        ['“five” taken for “nine” (2 of 7)']
    """
    off = counts - np.diag(np.diag(counts))
    worst = [divmod(int(k), len(classes)) for k in np.argsort(-off, axis=None, kind="stable")[:number]]
    sizes = counts.sum(axis=1)
    return [f"“{classes[i]}” taken for “{classes[j]}” ({off[i, j]} of {sizes[i]})" for i, j in worst if off[i, j]]


def horizon_errors(c: Comparison, test: Windows) -> Figure:
    """Mean absolute scaled error at each step of the horizon, a line a system."""
    stroke, scale = strokes(c), naive_scale(test)
    traces = []
    for row in c.rows:
        p = c.predictions[row.slug]
        errors = np.abs(p["values"] - future(test.select(p["item"]))) / scale  # [N, H, C]
        seen = ~np.isnan(errors)
        mean = np.where(seen, errors, 0).sum(axis=(0, 2)) / np.maximum(seen.sum(axis=(0, 2)), 1)
        mean[~seen.any(axis=(0, 2))] = np.nan
        traces.append({
            "type": "scatter", "mode": "lines+markers" if len(mean) < 3 else "lines", "name": label(row.slug),
            "x": list(range(1, len(mean) + 1)), "y": mean, "line": {**stroke[row.slug], "width": 2},
            "hovertemplate": "%{y:.4g}, %{x} steps ahead",
        })  # fmt: skip
    return figure(traces, 300, x="steps ahead", y="MASE", hovermode="closest", yaxis={"rangemode": "tozero"})


def forecasts(c: Comparison, test: Windows) -> list[tuple[str, Figure]]:
    """An easy, a typical and a hard window of the best system, the best baseline beside it, under their names."""
    best = c.predictions[c.rows[0].slug]
    error = item_errors(best, test)
    order = np.argsort(error)[: int((~np.isnan(error)).sum())]
    ranks = {"easy (10th percentile)": 0.1, "typical (median)": 0.5, "hard (90th percentile)": 0.9}
    chosen = {name: int(order[int(share * (len(order) - 1))]) for name, share in ranks.items()}
    return [(name, forecast(c, test, n)) for name, n in chosen.items()]


def item_errors(prediction: Arrays, test: Windows) -> Float[np.ndarray, "N"]:
    """Mean absolute error of the first target channel in each kept window; NaN where nothing was observed."""
    off = np.abs(prediction["values"] - future(test.select(prediction["item"])))[:, :, 0]
    seen = ~np.isnan(off)
    return np.where(seen.any(axis=1), np.where(seen, off, 0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1), np.nan)


def forecast(c: Comparison, test: Windows, n: int) -> Figure:
    """One kept window: the end of its history, the truth, the best system's forecast with its band, the best baseline."""
    best = c.rows[0]
    prediction = c.predictions[best.slug]
    start = int(test.starts[prediction["item"][n]])
    begin, now, end = start + max(0, test.history - 3 * test.horizon), start + test.history, start + test.history + test.horizon
    t, y = times(test.series)[begin:end], test.series.values[begin:end, target_channels(test)[0]]
    ahead = t[now - begin :]
    line = {"type": "scatter", "mode": "lines" if test.horizon > 1 else "markers", "hovertemplate": "%{y:.4g}"}
    traces: list[dict[str, Any]] = []
    if "quantiles" in prediction:
        low, high = prediction["quantiles"][n, :, 0, 0], prediction["quantiles"][n, :, 0, -1]
        levels = [f"{100 * level:g}" for level in prediction["levels"][[0, -1]]]
        edge = {**line, "x": ahead, "line": {"width": 0, "color": ACCENT}, "hoverinfo": "skip", "hovertemplate": None}
        band = {"fill": "tonexty", "fillcolor": "rgba(0,114,178,0.2)", "name": f"{' to '.join(levels)} %", "showlegend": True}
        traces += [{**edge, "y": low, "showlegend": False}, {**edge, "y": high, **band}]
    traces.append({**line, "mode": "lines", "x": t, "y": y, "name": "truth", "line": {"color": INK, "width": 1.5}})
    shown = [(best, ACCENT, "solid"), *((r, SECOND, "dash") for r in c.rows[1:] if r.is_baseline)][:2]
    for row, colour, dash in shown:
        values = c.predictions[row.slug]["values"][n, :, 0]
        traces.append({**line, "x": ahead, "y": values, "name": label(row.slug), "line": {"color": colour, "width": 2, "dash": dash}})
    border = {"type": "line", "x0": ahead[0], "x1": ahead[0], "y0": 0, "y1": 1, "yref": "paper", "line": {"color": MUTED, "width": 1, "dash": "dot"}}
    return figure(
        traces, 250, x=time_title(test.series), hovermode="x", shapes=[border], xaxis={"nticks": 4},
    )  # fmt: skip
