"""The look of all figures: one palette, one layout, and colours that follow the page's light or dark theme.

A figure is a plotly figure as a plain dict. Colours that begin with "@" are names of the page's own colours; its script
puts in their values when it draws.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from timecell.compare import Comparison
from timecell.plot.look import COLOURS

Figure = dict[str, Any]
Stroke = dict[str, str]  # colour and dash of a line

INK, MUTED, LINE, PAPER, ACCENT, SECOND = "@ink", "@muted", "@line", "@paper", "@accent", "@second"
BAND = "rgba(0,114,178,0.2)"  # the first of them, for areas
TRAIN, VALID, TEST = COLOURS[0], COLOURS[4], COLOURS[5]
DASHES = ("solid", "dash", "dot", "dashdot")


def figure(traces: Sequence[Mapping[str, Any]], height: int, x: str = "", y: str = "", **layout: Any) -> Figure:
    """Traces with the house's layout; x and y are axis titles, further layout is merged into it.

    Example:
        >>> figure([{"y": [1, 2]}], 200, x="time (s)", xaxis={"range": [0, 1]})["layout"]["xaxis"]["range"]
        [0, 1]
    """
    axis = {
        "automargin": True, "fixedrange": True, "zeroline": False, "ticks": "outside", "tickcolor": LINE,
        "gridcolor": LINE, "linecolor": LINE, "title": {"standoff": 8, "font": {"size": 13, "color": MUTED}},
    }  # fmt: skip
    base = {
        "height": height,
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
        "hoverlabel": {"bgcolor": PAPER, "bordercolor": LINE, "font": {"color": INK}},
        "showlegend": False,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "xaxis": merged(axis, {"title": {"text": x}, "showgrid": False}),
        "yaxis": merged(axis, {"title": {"text": y}}),
    }
    return {"data": [dict(t) for t in traces], "layout": merged(base, layout)}


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested dicts in one; the second one wins."""
    out = dict(base)
    for name, value in more.items():
        inner = out.get(name)
        out[name] = merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return out


def label(text: str, length: int = 28) -> str:
    """A user's text for a figure: shortened, and with nothing in it that plotly would take for markup.

    Example:
        >>> label("<b>bold</b>"), label("a" * 40, 10)
        ('&lt;b&gt;bold&lt;/b&gt;', 'aaaaaaaaa…')
    """
    short = text if len(text) <= length else text[: length - 1] + "…"
    return html.escape(short, quote=False)


def strokes(c: Comparison) -> dict[str, Stroke]:
    """Each system's line, the same in all figures: networks in colour, baselines grey and dotted."""
    networks = [row.slug for row in c.rows if not row.is_baseline]
    baselines = [row.slug for row in c.rows if row.is_baseline]
    turns = len(COLOURS)
    coloured = {s: {"color": COLOURS[i % turns], "dash": DASHES[i // turns % 4]} for i, s in enumerate(networks)}
    return coloured | {s: {"color": MUTED, "dash": DASHES[1 + i % 3]} for i, s in enumerate(baselines)}
