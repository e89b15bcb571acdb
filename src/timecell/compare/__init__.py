"""`compare`: many systems, one data set, one protocol, one ranking.

The protocol is the same for everybody, baselines included. There is one split. Every system may try equally many
settings of its hyperparameters, each fitted on the training part with the same budget and scored on the validation
part. The best one is refitted once a seed. Only then, in a second round, does the test part leave the safe: nothing in
the first round is handed it, and nothing is chosen after it.

    trials of all systems  ->  best setting of each  ->  refits with new seeds  ->  test scores  ->  ranking
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import joblib
import numpy as np

from timecell.compare.jobs import Broken, Job, Outcome, Round, Scored, run_all, workers
from timecell.compare.plan import admit, chosen, hyperparameters, refits, with_baselines
from timecell.compare.progress import Board
from timecell.compare.results import Behind, Comparison, Failed, Rejected, Row, Trial, differences
from timecell.compare.settings import Settings
from timecell.compare.store import Store
from timecell.data.containers import AnyData
from timecell.errors import TimecellError
from timecell.files import write_whole
from timecell.system import Splits, System, Task

__all__ = ["Behind", "Comparison", "Failed", "Rejected", "Row", "Settings", "Trial", "compare"]


def compare(data: AnyData, task: Task, systems: Sequence[System], settings: Settings | None = None) -> Comparison:
    """Fit many systems and the task's baselines to the same data under the same budget, and rank them.

    A system that does not accept the data, or that raises, gets no row and is listed with the reason. With
    `settings.out`, finished jobs and `results.json` are kept there, and a comparison that was stopped goes on.

    Args:
        data: what the user has.
        task: what is asked of it.
        systems: who competes, besides `task.baselines()`.
        settings: the budget.

    Raises:
        InputError: two systems have the same slug.
        TimecellError: not a single system could be fitted (the message lists why), or a worker process was killed.
        KeyboardInterrupt: Ctrl-C, after saying what is kept.
    """
    settings = settings or Settings()
    start = time.perf_counter()
    splits = task.split(data, seed=settings.first_seed)
    plans, rejected, failed = admit(with_baselines(systems, task), splits.train.schema, task, settings)
    store = None if settings.out is None else Store(settings.out / "jobs")

    with Board(settings.progress, store) as board, workers(settings.jobs) as pool:
        tuning = Round(splits.train, splits.valid, splits.valid, task, settings)
        board.begin("choosing hyperparameters", plans)
        tried = run_all(pool, tuning, plans, store, board.trial)

        finals = {slug: refits(tried[slug], settings) for slug in plans}
        testing = Round(splits.train, splits.valid, splits.test, task, settings)
        board.begin("refitting, then testing", finals)
        tested = run_all(pool, testing, finals, store, board.finished)

    verdicts = [verdict(tried[slug], tested[slug]) for slug in plans]
    failed += [v for v in verdicts if isinstance(v, Failed)]
    rows = {v.slug: v for v in verdicts if isinstance(v, Row)}
    scored = {slug: [s for _, s in tested[slug] if isinstance(s, Scored)] for slug in rows}
    if not rows:
        reasons = [f"{r.slug}: {r.reason}" for r in rejected] + [f"{f.slug}: {f.error}" for f in failed]
        raise TimecellError(
            "systems",
            found="none that could be fitted (" + "; ".join(reasons) + ")",
            expected="at least one",
            remedy="the reasons say what to change in the data, or choose other systems",
        )
    one = next(iter(scored.values()))[0]
    comparison = Comparison(
        task=task.name,
        question=repr(task),
        metric=one.primary,
        higher_is_better=one.higher_is_better,
        rows=ranked(rows, scored),
        rejected=tuple(rejected),
        failed=tuple(failed),
        data=description(data, splits),
        settings=settings,
        versions=versions(),
        seconds=time.perf_counter() - start,
        predictions={slug: s[0].prediction for slug, s in scored.items()},
    )
    if settings.out:
        settings.out.mkdir(parents=True, exist_ok=True)
        write_whole(settings.out / "results.json", json.dumps(comparison.to_json(), indent=1).encode())
    return comparison


def verdict(tried: Sequence[Outcome], tested: Sequence[Outcome]) -> Row | Failed:
    """A system's row; or what it failed of, if every trial raised or any refit did (the rest would flatter it)."""
    card = tried[0][0].system.card
    best = chosen(tried)
    for job, outcome in tested if best else tried:
        if isinstance(outcome, Broken):
            return Failed(card.slug, card.title, job.label, outcome.error, outcome.traceback)
    assert best is not None  # or one of the trials was broken
    scored = [s for _, s in tested if isinstance(s, Scored)]
    return Row(
        slug=card.slug,
        title=card.title,
        summary=card.summary,
        family=card.family,
        values=tuple(s.value for s in scored),
        metrics={name: tuple(s.metrics[name] for s in scored) for name in scored[0].metrics},
        hyperparameters=hyperparameters(best[0].system),
        trials=tuple(trial(*outcome) for outcome in tried),
        valid=best[1].value,
        valid_metric=best[1].primary,
        seconds=float(np.mean([s.seconds for s in scored])),
        report=scored[0].report,
    )


def trial(job: Job, outcome: Scored | Broken) -> Trial:
    """What is told of one trial."""
    if isinstance(outcome, Broken):
        return Trial(hyperparameters(job.system), None, outcome.error)
    return Trial(hyperparameters(job.system), outcome.value)


def ranked(rows: Mapping[str, Row], scored: Mapping[str, Sequence[Scored]]) -> tuple[Row, ...]:
    """Rows by their mean test metric, best first, each with its difference from the first."""
    higher = next(iter(scored.values()))[0].higher_is_better
    order = sorted(rows, key=lambda slug: rows[slug].metric, reverse=higher)
    items = [np.stack([s.arrays["items"] for s in scored[slug]]) for slug in order if "items" in scored[slug][0].arrays]
    if len(items) < len(order):
        return tuple(rows[slug] for slug in order)
    behind = differences(items, scored[order[0]][0].arrays["blocks"], higher)
    return tuple(replace(rows[slug], behind=b if n else None) for n, (slug, b) in enumerate(zip(order, behind)))


def description(data: AnyData, splits: Splits) -> dict[str, Any]:
    """The schema, the sizes of data and parts, and the fingerprint."""
    parts = {name: len(part) for name, part in vars(splits).items()}
    return {**vars(data.schema), "size": len(data), **parts, "fingerprint": data.fingerprint}


def versions() -> dict[str, str]:
    """What the numbers stand on."""
    packages = {name: version(name) for name in ("timecell", "torch", "numpy", "scikit-learn")}
    machine = f"{platform.system()} {platform.machine()}, {joblib.cpu_count()} cores"
    return {**packages, "python": platform.python_version(), "machine": machine}
