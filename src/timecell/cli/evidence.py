"""What was measured for a claim, as tables."""

from __future__ import annotations

import math

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
        evidence_told("measured", outcome.shown),
        "",
        evidence_told("negative control", outcome.control),
        "",
        f"  verdict: {coloured(outcome.verdict)}, after {outcome.seconds:,.0f} s",
    )


def evidence_told(title: str, evidence: Evidence) -> Group:
    """The scores of each seed and arm, their means, and each contrast with its interval."""
    arms = list(dict.fromkeys(arm for scores in evidence.measured for arm in scores))
    table = Table(title, *map(escape, arms), box=None, padding=(0, 2, 0, 2))
    for column in table.columns[1:]:
        column.justify = "right"
    for seed, scores in zip(evidence.seeds, evidence.measured):
        table.add_row(f"seed {seed}", *[f"{scores[arm].value:.4g}" if arm in scores else "" for arm in arms])
    means = [np.mean([scores[arm].value for scores in evidence.measured if arm in scores]) for arm in arms]
    table.add_row("mean", *[f"{mean:.4g}" for mean in means], style="bold")
    lines = [] if evidence.judgement is None else [finding_told(f) for f in evidence.judgement.findings]
    if evidence.out_of_time:
        lines.append("  [yellow]time ran out before the next look at the data[/]")
    return Group(table, *lines)


def finding_told(f: Finding) -> str:
    """One line, e.g. "learned > frozen: 0.142 [0.108, 0.176], at least 0.05: holds"."""
    wanted = []
    if math.isfinite(f.at_least):
        wanted.append(f"at least {f.at_least:.4g}")
    if math.isfinite(f.at_most):
        wanted.append(f"at most {f.at_most:.4g}")
    interval = escape(f"{f.mean:.4g} [{f.low:.4g}, {f.high:.4g}]")
    return f"  {escape(f.contrast)}: {interval}, {' and '.join(wanted)}: {coloured(f.verdict)}"
