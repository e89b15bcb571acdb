"""Numbers and sentences of a comparison, for the terminal and the page alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from timecell.compare import Comparison, Row

OPERATIONS = "synaptic_operations"  # key in a fit's report


def number(x: float | None) -> str:
    """Three decimals; three significant digits where those would say little.

    Example:
        >>> number(0.93149), number(1234.5), number(0.00012), number(None)
        ('0.931', '1.23e+03', '0.00012', '–')
    """
    if x is None:
        return "–"
    return f"{x:.3f}" if x == 0 or 0.0005 <= abs(x) < 1000 else f"{x:.3g}"


def rejected(c: Comparison) -> dict[str, list[str]]:
    """Reason -> slugs of the systems that could not take part for it."""
    reasons: dict[str, list[str]] = {}
    for system in c.rejected:
        reasons.setdefault(system.reason, []).append(system.slug)
    return reasons


def count(n: float | None) -> str:
    """A number of things, in thousands or millions from 10 000 on.

    Example:
        >>> count(950), count(12_345), count(2_500_000), count(None)
        ('950', '12.3 k', '2.5 M', '–')
    """
    if n is None:
        return "–"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(n) >= max(size, 1e4):
            return f"{n / size:.3g} {unit}"
    return f"{n:.0f}"


def duration(seconds: float) -> str:
    """Wall time.

    Example:
        >>> duration(0.004), duration(12.3), duration(75), duration(3600), duration(7300)
        ('< 0.01 s', '12.3 s', '1 min 15 s', '1 h', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.3g} s" if seconds >= 0.01 else "< 0.01 s"
    minutes, rest = divmod(round(seconds), 60)
    large, small = (f"{minutes} min", f"{rest} s") if minutes < 60 else (f"{minutes // 60} h", f"{minutes % 60} min")
    return large if small.startswith("0 ") else f"{large} {small}"


def score(values: Sequence[float | None]) -> str:
    """Mean and standard deviation over seeds, with as many decimals.

    Example:
        >>> score([0.92, 0.94]), score([0.5]), score([1210.0, 1270.0])
        ('0.930\xa0±\xa00.014', '0.500', '1240.0\xa0±\xa042.4')
    """
    known = [v for v in values if v is not None]
    if len(known) < 2:
        return number(known[0] if known else None)
    mean, spread = float(np.mean(known)), float(np.std(known, ddof=1))
    decimals = 3 if abs(mean) < 100 else 1
    small = 0 < abs(mean) < 0.01
    return f"{mean:.2e}\xa0±\xa0{spread:.0e}" if small else f"{mean:.{decimals}f}\xa0±\xa0{spread:.{decimals}f}"


def behind(row: Row) -> str:
    """Difference from the best row with its interval; a tie is marked with "≈"."""
    if row.behind is None:
        return ""
    interval = f"{number(row.behind.mean)} [{number(row.behind.low)}, {number(row.behind.high)}]"
    return interval if row.behind.distinguishable else f"≈ {interval}"


def is_tie(row: Row) -> bool:
    """True for a row that isn't the best and can't be told from it."""
    return row.behind is not None and not row.behind.distinguishable


def settings(values: Mapping[str, Any]) -> str:
    """Hyperparameters in one line.

    Example:
        >>> settings({"tau": 20.0, "width": 64})
        'tau = 20.0, width = 64'
    """
    return ", ".join(f"{name} = {value}" for name, value in values.items()) or "nothing to tune"


def metric(name: str) -> str:
    """A metric's name as words: "balanced_accuracy" is "balanced accuracy"; short ones are acronyms."""
    return name.upper() if len(name) <= 4 else name.replace("_", " ")


def direction(c: Comparison) -> str:
    """How to read the metric."""
    return "higher is better" if c.higher_is_better else "lower is better"


def verdict(c: Comparison) -> str:
    """What came out, in two or three sentences."""
    best, others = c.rows[0], c.rows[1:]
    sentences = [f"{best.slug} ranks first of {len(c.rows)}: {metric(c.metric)} {score(best.values)} on the test data."]
    if ties := [row.slug for row in others if is_tie(row)]:
        sentences.append(f"Not distinguishable from it: {listed(ties)}.")
    elif any(row.behind for row in others):
        sentences.append("All others are worse by more than chance explains.")
    baselines = [row for row in c.rows if row.is_baseline]
    if best.is_baseline:
        sentences.append("It is a baseline; nothing beat it.")
    elif baselines:
        sentences.append(f"The best baseline is {baselines[0].slug} with {score(baselines[0].values)}.")
    return " ".join(sentences)


def protocol(c: Comparison) -> list[str]:
    """What was done, a sentence a step; every number is one of the comparison's."""
    s, parts = c.settings, c.data
    cap = f" and {duration(s.seconds)} of wall time" if s.seconds else ""
    seeds = f"seeds {s.first_seed} to {s.first_seed + s.seeds - 1}" if s.seeds > 1 else f"seed {s.first_seed}"
    return [
        f"The data were split once: {parts['train']} samples to learn from, {parts['valid']} to choose on, "
        f"{parts['test']} to test on; a series is cut in the order of time, into windows.",
        f"Every system, baselines included, tried up to {s.trials} settings of its hyperparameters: its defaults, then "
        f"draws from its own list. Each was fitted on the training part with at most {s.updates} updates{cap}, and the "
        "one with the best validation score was chosen.",
        f"The chosen setting was fitted anew with {seeds}. The test part was sealed until then: it was scored once a "
        "seed, after all choices were made, and nothing was chosen after it.",
        "± is the standard deviation over seeds. Differences from the best are bootstrapped 2000 times over seeds and "
        "test items, the same draws for all systems, with windows that overlap kept together; ≈ marks a system whose "
        "95 % interval holds zero.",
        f"Times are wall times of one fit on one core while other fits ran beside it; the whole took "
        f"{duration(c.seconds)}.",
    ]


def listed(names: Sequence[str]) -> str:
    """Names in a sentence.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
