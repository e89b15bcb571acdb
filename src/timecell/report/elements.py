"""The page's pieces: figures with captions, grids, legends, tables. All text that comes in is escaped here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from timecell.compare.results import plain
from timecell.report.look import Figure, Stroke


class Markup(str):
    """Text that is HTML already; all other text of a table is escaped."""


def section(title: str, *parts: str) -> str:
    """A part of the page under its heading."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def paragraph(text: str) -> str:
    """One paragraph."""
    return f"<p>{escape(text)}</p>"


def items(lines: Iterable[str], kind: str = "ul") -> str:
    """A list, with numbers if the kind is "ol"; nothing if there are no lines."""
    inside = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<{kind}>{inside}</{kind}>" if inside else ""


def facts(pairs: Mapping[str, str]) -> str:
    """Names with their values, a line each."""
    inside = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs.items())
    return f'<dl class="facts">{inside}</dl>'


# --- figures ----------------------------------------------------------------------------------------------------------


def plot(figure: Figure) -> str:
    """A place for the figure, and its content, in which nothing can end the script element that holds it."""
    content = json.dumps(plain(figure), separators=(",", ":")).replace("<", "\\u003c")
    place = f'<div style="height:{figure["layout"]["height"]}px"></div>'
    return f'<div class="plot">{place}<script type="application/json">{content}</script></div>'


def captioned(caption: str, *inside: str) -> str:
    """Plots that make one figure, with its numbered caption."""
    return f"<figure>{''.join(inside)}<figcaption>{escape(caption)}</figcaption></figure>"


def grid(shown: Iterable[tuple[str, Figure]], kind: str = "grid") -> str:
    """Plots under small titles, as many side by side as there is room for; fewer and wider ones with "grid wide"."""
    cells = "".join(f"<div><h3>{escape(title)}</h3>{plot(figure)}</div>" for title, figure in shown)
    return f'<div class="{kind}">{cells}</div>'


def legend(strokes: Mapping[str, Stroke]) -> str:
    """Names with their lines; nothing if there are none."""
    inside = "".join(f"<li>{swatch(**stroke)}{escape(name)}</li>" for name, stroke in strokes.items())
    return f'<ul class="legend">{inside}</ul>' if inside else ""


def swatch(color: str, dash: str) -> str:
    """A short line."""
    stroke = f"var(--{color[1:]})" if color.startswith("@") else color
    dashes = {"solid": "none", "dash": "7 4", "dot": "2 3", "dashdot": "7 3 2 3"}[dash]
    style = f"stroke:{stroke};stroke-width:2.5;stroke-dasharray:{dashes}"
    return f'<svg width="28" height="8" aria-hidden="true"><line y1="4" x2="28" y2="4" style="{style}"/></svg>'


# --- tables -----------------------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kinds: str) -> str:
    """A table whose columns are numbers ("n"), text ("t") or ranks ("r"), a letter each in `kinds`."""
    top = "".join(f'<th class="{kind}">{escape(name)}</th>' for kind, name in zip(kinds, head))
    body = "".join("<tr>" + "".join(map(cell, kinds, row)) + "</tr>" for row in rows)
    return f'<div class="table"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def cell(kind: str, value: str) -> str:
    """One cell of a table."""
    return f'<td class="{kind}">{value if isinstance(value, Markup) else escape(value)}</td>'


def titled(slug: str, title: str, baseline: bool = False) -> Markup:
    """A system's name, a tag if it is a baseline, its title below."""
    tag = ' <span class="tag">baseline</span>' if baseline else ""
    return Markup(f"{escape(slug)}{tag}<small>{escape(title)}</small>")
