"""Figures of answers beside the truth, for the tasks that are neither classes nor forecasts."""

from __future__ import annotations

from typing import Any

import numpy as np

from timecell.compare import Comparison
from timecell.data.containers import Cut
from timecell.data.labelled_series import LabelledSeries
from timecell.data.masked import MaskedWindows
from timecell.data.stretches import Stretches
from timecell.report.data_figures import line, time_title, times
from timecell.report.error_figures import forecast_strokes, kept, shown
from timecell.report.look import BAND, COLOURS, INK, MUTED, Figure, figure, label, strokes

TRACED = 300
"""Steps of the figure of `traces`."""
LEVELS = np.linspace(0, 1, 101)


def traces(c: Comparison, test: Stretches) -> Figure:
    """One target over the first steps of the test part: the truth, the best system's answer, the best baseline's."""
    needed = np.arange(min(len(test), -(-TRACED // test.length)))
    truth = test.select(needed).truth()
    target = int(np.argmax(np.nanstd(truth, axis=(0, 1))))
    first = test.first_target
    count = min(TRACED, len(test.series) - first)
    t, stroke = times(test.series)[first : first + count], forecast_strokes(c)
    lines = {slug: kept(c.predictions[slug], needed)["values"][..., target] for slug in shown(c)}
    drawn = [
        {"type": "scatter", "mode": "lines", "name": label(name), "x": t, "y": y.reshape(-1)[:count],
         "line": {**stroke[name], "width": 2 if name != "truth" else 1.5}}
        for name, y in {**lines, "truth": truth[..., target]}.items()
    ]  # fmt: skip
    name = test.series.schema.channels[test.targets[target]]
    return figure(drawn, 280, x=time_title(test.series), y=label(name), hovermode="x")


def alarms(c: Comparison, test: Cut) -> list[tuple[str, Figure]]:
    """The scores of the best system and of the best baseline over the test part; bands: what was marked as anomalous."""
    series, steps = test.series, test.covered
    t: Any = times(series)[steps]
    bands: list[dict[str, Any]] = []
    if isinstance(series, LabelledSeries):
        marks = np.diff(np.concatenate([[0], series.anomalous[steps].astype(int), [0]]))
        bands = [
            {"type": "rect", "x0": t[a], "x1": t[min(b, len(t) - 1)], "y0": 0, "y1": 1, "yref": "paper",
             "fillcolor": BAND, "line": {"width": 0}, "layer": "below"}
            for a, b in zip(np.flatnonzero(marks > 0), np.flatnonzero(marks < 0))
        ]  # fmt: skip
    out = []
    for slug in shown(c):
        scores = c.predictions[slug]["scores"]
        points = line(np.arange(len(scores), dtype=float), scores)
        drawn = {"type": "scatter", "mode": "lines", "x": t[np.asarray(points["x"], dtype=int)], "y": points["y"],
                 "line": {"color": INK, "width": 1}, "hovertemplate": "%{x}: %{y:.3g}<extra></extra>"}  # fmt: skip
        out.append((slug, figure([drawn], 220, x=time_title(series), y="score", shapes=bands)))
    return out


def imputed(c: Comparison, test: MaskedWindows) -> Figure:
    """The test window with most hidden values: what was seen, what was hidden, what was put there."""
    items = c.predictions[c.rows[0].slug]["item"]
    seen, hidden = test.sides(items)
    window, channel = divmod(int(np.argmax((~np.isnan(hidden)).sum(axis=1))), hidden.shape[2])
    t = times(test.series)[test.starts[items[window]] + np.arange(test.length)]
    stroke, gap = forecast_strokes(c), ~np.isnan(hidden[window, :, channel])
    drawn: list[dict[str, Any]] = [
        {"type": "scatter", "mode": "lines", "name": "seen", "x": t, "y": seen[window, :, channel],
         "line": {"color": MUTED, "width": 1.5}},
        {"type": "scatter", "mode": "markers", "name": "hidden", "x": t[gap], "y": hidden[window, gap, channel],
         "marker": {"color": INK, "size": 6, "symbol": "circle-open"}},
    ]  # fmt: skip
    for slug in shown(c):
        values = kept(c.predictions[slug], items[[window]])["values"][0, gap, channel]
        marker = {"color": stroke[slug]["color"], "size": 6}
        drawn.append(
            {"type": "scatter", "mode": "markers", "name": label(slug), "x": t[gap], "y": values, "marker": marker}
        )
    return figure(drawn, 280, x=time_title(test.series), y=label(test.series.schema.channels[channel]), showlegend=True)


def calibration(c: Comparison) -> Figure:
    """How often the next event came before each predicted quantile; the diagonal is right."""
    stroke = strokes(c)
    drawn: list[dict[str, Any]] = [
        {"type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "line": {"color": MUTED, "width": 1}}
    ]
    for row in c.rows:
        p = c.predictions[row.slug]
        pit = np.sort(p["pit"][p["happened"].astype(bool)])
        below = np.searchsorted(pit, LEVELS, side="right") / len(pit)
        drawn.append({
            "type": "scatter", "mode": "lines", "name": label(row.slug), "x": LEVELS, "y": below,
            "line": {**stroke[row.slug], "width": 2}, "hovertemplate": "%{y:.2f} before the %{x:.2f} quantile",
        })  # fmt: skip
    return figure(drawn, 340, x="predicted quantile", y="share of events before it", yaxis={"range": [0, 1]})


def by_candidates(c: Comparison) -> Figure:
    """Mean average precision of each system against each kind of candidates."""
    kinds = [name.removeprefix("ap_") for name in c.rows[0].metrics if name.startswith("ap_") and name.count("_") == 1]
    traces = [
        {"type": "bar", "name": kind, "x": [label(row.slug) for row in c.rows],
         "y": [float(np.mean(row.metrics[f"ap_{kind}"])) for row in c.rows], "marker": {"color": COLOURS[n]},
         "hovertemplate": f"%{{x}}: %{{y:.3f}} against {kind} candidates<extra></extra>"}
        for n, kind in enumerate(kinds)
    ]  # fmt: skip
    return figure(traces, 300, y="average precision", barmode="group", showlegend=True, yaxis={"range": [0, 1]})
