"""What was measured for a claim, as tables."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from timecell.claims import Evidence, Outcome
from timecell.claims.verdicts import Finding

COLOURS = {"holds": "green", "falls short": "red", "undecided": "yellow", "stale": "yellow"}


def coloured(verdict: str) -> str:
    """A verdict as markup."""
    return f"[{COLOURS.get(verdict, 'dim')}]{verdict}[/]"


def outcome_told(outcome: Outcome) -> Group:
    """The claim's evidence, then its control's."""
    return Group(
        evidence_told("measured", outcome.shown, judged),
        "",
        evidence_told("negative control", outcome.control, judged),
        "",
        f"  verdict: {coloured(outcome.verdict)}, after {outcome.seconds:,.0f} s",
    )


def evidence_told(title: str, evidence: Evidence, tell: Callable[[Finding], str]) -> Group:
    """The scores of each seed and arm, their means, and each contrast with its interval."""
    arms = list(dict.fromkeys(arm for scores in evidence.measured for arm in scores))
    table = Table(title, *map(escape, arms), box=None, padding=(0, 2, 0, 2))
    for column in table.columns[1:]:
        column.justify = "right"
    for seed, scores in zip(evidence.seeds, evidence.measured):
        table.add_row(f"seed {seed}", *[f"{scores[arm].value:.4g}" if arm in scores else "" for arm in arms])
    means = [np.mean([scores[arm].value for scores in evidence.measured if arm in scores]) for arm in arms]
    table.add_row("mean", *[f"{mean:.4g}" for mean in means], style="bold")
    lines = [] if evidence.judgement is None else [f"  {tell(f)}" for f in evidence.judgement.findings]
    if evidence.out_of_time:
        lines.append("  [yellow]time ran out before the next look at the data[/]")
    return Group(table, *lines)


def measured(f: Finding) -> str:
    """A contrast and its interval, e.g. "learned > frozen: 0.142 [0.108, 0.176]"."""
    return escape(f"{f.contrast}: {f.mean:.4g} [{f.low:.4g}, {f.high:.4g}]")


def judged(f: Finding) -> str:
    """The same with its bounds and the verdict, e.g. "..., at least 0.05: holds"."""
    bounds = {"at least": f.at_least, "at most": f.at_most}
    wanted = " and ".join(f"{word} {bound:.4g}" for word, bound in bounds.items() if math.isfinite(bound))
    return f"{measured(f)}, {wanted}: {coloured(f.verdict)}"
