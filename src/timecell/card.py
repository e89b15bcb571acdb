"""`Card`: what a system is. It stands alone so that cards can be read without importing torch (`timecell.catalog`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """What a system is, readable without importing torch (cards are literals, read from the source).

    Attributes:
        slug: name on the command line.
        title: the paper's title, or what it is.
        summary: one sentence.
        family: spiking, memory, series, ...; "baseline" or "control" for what every comparison includes.
        paper: where it was published, e.g. "arXiv:2306.17670"; None for a baseline.
        n: number in the project's list of papers; None for a baseline.

    Example:
        >>> Card("lif", "Leaky neurons", "One layer.", "spiking").n is None
        True
    """

    slug: str
    title: str
    summary: str
    family: str
    paper: str | None = None
    n: int | None = None
