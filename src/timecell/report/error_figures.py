"""Figures of what went wrong on the test data: confusions of classes, forecasts beside the truth, error by horizon."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np
from jaxtyping import Int

from timecell.compare import Comparison
from timecell.data.containers import Sequences, Windows
from timecell.report.data_figures import border, time_title, times
from timecell.report.look import ACCENT, BAND, DASHES, INK, PAPER, SECOND, Figure, Stroke, figure, label, strokes
from timecell.tasks.truth import future, naive_scale

Arrays = Mapping[str, np.ndarray]
WRITTEN = 12  # classes up to which a confusion matrix has its numbers written in
TICKS = 40  # class names on its sides


def confusion(prediction: Arrays, test: Sequences) -> Int[np.ndarray, "K K"]:
    """How many samples of each true class (row) were taken for each class (column)."""
    assert test.target is not None
    truth, guess = test.target[prediction["item"]], prediction["probabilities"].argmax(axis=1)
    classes = len(test.schema.classes or ())
    return np.bincount(truth * classes + guess, minlength=classes**2).reshape(classes, classes)


def confusion_figure(counts: Int[np.ndarray, "K K"], classes: tuple[str, ...]) -> Figure:
    """The share of each true class by predicted class; counts are written in where there is room, and on hovering."""
    n = len(classes)
    gap = 1 if n <= TICKS else 0
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [label(c, 14) for c in classes]

    def axis(every: int) -> dict[str, Any]:
        named = list(range(0, n, every))
        return {
            "tickvals": named,
            "ticktext": [names[k] for k in named],
            "ticks": "",
            "showgrid": False,
            "type": "linear",
        }

    rows, columns = axis(-(-n // TICKS)), axis(-(-3 * n // TICKS))
    image = {
        "type": "heatmap", "z": share, "zmin": 0, "zmax": 1, "colorscale": [[0, PAPER], [1, ACCENT]],
        "showscale": False, "customdata": counts, "xgap": gap, "ygap": gap,
        "hovertemplate": "true %{y}, predicted %{x}: %{customdata} (%{z:.0%})<extra></extra>",
    }  # fmt: skip
    written = [
        {"x": j, "y": i, "text": str(counts[i, j]), "showarrow": False,
         "font": {"size": 11, "color": "#ffffff" if share[i, j] > 0.5 else INK}}
        for i in range(n) for j in range(n) if n <= WRITTEN and counts[i, j]
    ]  # fmt: skip
    return figure(
        [image], 150 + max(200, 17 * min(n, TICKS)), x="predicted", y="true", annotations=written,
        xaxis={**columns, "tickangle": -45 if max(map(len, names)) > 3 else 0, "range": [-0.5, n - 0.5]}, yaxis={**rows, "range": [n - 0.5, -0.5]},
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


def shown(c: Comparison) -> list[str]:
    """The best system and, if that is another one, the best baseline."""
    return [c.rows[0].slug, *(row.slug for row in c.rows[1:] if row.is_baseline)][:2]


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
    items = reduce(np.intersect1d, [c.predictions[slug]["item"] for slug in shown(c)])
    errors = np.abs(kept(c.predictions[c.rows[0].slug], items)["values"] - future(test.select(items)))[:, :, 0]
    seen = ~np.isnan(errors)
    mean = np.where(seen, errors, 0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    order = items[seen.any(axis=1)][np.argsort(mean[seen.any(axis=1)], kind="stable")]
    ranks = {"easy (10th percentile)": 0.1, "typical (median)": 0.5, "hard (90th percentile)": 0.9}
    return [(name, forecast(c, test, order[round(share * (len(order) - 1))])) for name, share in ranks.items()]


def kept(prediction: Arrays, items: Int[np.ndarray, " n"]) -> dict[str, np.ndarray]:
    """The prediction of these test items, all of them among the kept ones."""
    at = np.searchsorted(prediction["item"], items)
    return {name: prediction[name][at] for name in ("values", "quantiles") if name in prediction}


def forecast(c: Comparison, test: Windows, item: int) -> Figure:
    """One window: the end of its history, the truth, the best system's forecast with its band, the best baseline's."""
    start = int(test.starts[item])
    now, end = start + test.history, start + test.history + test.horizon
    begin = max(start, now - 3 * test.horizon)
    t, y = times(test.series)[begin:end], test.series.values[begin:end, test.target_channels[0]]
    stroke = forecast_strokes(c)
    line = {"type": "scatter", "mode": "lines" if test.horizon > 1 else "markers", "x": t[now - begin :]}
    traces: list[dict[str, Any]] = []
    for slug in shown(c):
        forecasted = kept(c.predictions[slug], np.array([item]))
        if "quantiles" in forecasted and slug == c.rows[0].slug:
            low, *_, high = np.moveaxis(forecasted["quantiles"][0, :, 0], 1, 0)
            edge = {**line, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
            traces += [{**edge, "y": low}, {**edge, "y": high, "fill": "tonexty", "fillcolor": BAND}]
        width = {**stroke[slug], "width": 2}
        traces.append({**line, "y": forecasted["values"][0, :, 0], "name": label(slug), "line": width})
    traces.append({**line, "mode": "lines", "x": t, "y": y, "name": "truth", "line": {**stroke["truth"], "width": 1.5}})
    title, shapes = time_title(test.series), [border(t[now - begin])]
    return figure(traces, 250, x=title, hovermode="x", shapes=shapes, xaxis={"nticks": 4})


def forecast_strokes(c: Comparison) -> dict[str, Stroke]:
    """The lines of the truth and of what is shown beside it."""
    lines = {slug: {"color": colour, "dash": dash} for slug, colour, dash in zip(shown(c), (ACCENT, SECOND), DASHES)}
    return lines | {"truth": {"color": INK, "dash": "solid"}}


def band(c: Comparison) -> str:
    """What the band around the best system's forecast is, in words; empty if it has none."""
    prediction = c.predictions[c.rows[0].slug]
    if "levels" not in prediction:
        return ""
    low, *_, high = 100 * prediction["levels"]
    return f"The band is from its {low:g} % to its {high:g} % quantile."
