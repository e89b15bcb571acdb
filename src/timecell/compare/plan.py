"""Who takes part, what each one tries, and which trial is refitted."""

from __future__ import annotations

import math
import random
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from timecell.compare.jobs import Job, Outcome, Scored
from timecell.compare.results import Failed, Rejected
from timecell.compare.settings import Settings
from timecell.data.containers import Schema
from timecell.errors import InputError
from timecell.system import System, Task


def with_baselines(systems: Sequence[System], task: Task) -> list[System]:
    """The systems, and those of the task's baselines that are not already among them."""
    slugs = [s.card.slug for s in systems]
    for slug in slugs:
        if slugs.count(slug) > 1:
            raise InputError(
                "systems",
                found=f"{slugs.count(slug)} systems called {slug!r}",
                expected="every slug once",
                remedy="give each a card of its own",
            )
    return [*systems, *(b for b in task.baselines() if b.card.slug not in slugs)]


def admit(
    systems: Sequence[System], schema: Schema, task: Task, settings: Settings
) -> tuple[dict[str, list[Job]], list[Rejected], list[Failed]]:
    """The trials of each system that accepts the data, by slug; who does not, and who could not say."""
    plans: dict[str, list[Job]] = {}
    rejected, failed = [], []
    for system in systems:
        card = system.card
        try:
            if reason := system.accepts(schema, task):
                rejected.append(Rejected(card.slug, card.title, reason))
            else:
                plans[card.slug] = trials(system, settings)
        except Exception as e:
            error = f"{type(e).__name__}: {e}"
            failed.append(Failed(card.slug, card.title, "before the first trial", error, traceback.format_exc()))
    return plans, rejected, failed


def trials(system: System, settings: Settings) -> list[Job]:
    """The defaults first, then draws from the system's space without repetition, the same in every comparison."""
    space = system.space()
    size = math.prod(len(choices) for choices in space.values())
    draws = random.Random(system.card.slug).sample(range(size), min(size, settings.trials))
    defaults = hyperparameters(system)
    others = [point for point in (grid_point(space, number) for number in draws) if point != defaults]
    return [
        Job(replace(system, **point), settings.first_seed, f"trial {n}")  # type: ignore[type-var]
        for n, point in enumerate([defaults, *others][: settings.trials], start=1)
    ]


def hyperparameters(system: System) -> dict[str, Any]:
    """The system's values of what its space tunes."""
    return {name: getattr(system, name) for name in system.space()}


def grid_point(space: Mapping[str, Sequence[Any]], number: int) -> dict[str, Any]:
    """One point of the grid that a space spans, read like the digits of a number.

    Example:
        >>> [grid_point({"tau": [10, 20], "width": [1, 2, 3]}, i) for i in (0, 1, 2)]
        [{'tau': 10, 'width': 1}, {'tau': 20, 'width': 1}, {'tau': 10, 'width': 2}]
    """
    point = {}
    for name, choices in space.items():
        number, digit = divmod(number, len(choices))
        point[name] = choices[digit]
    return point


def chosen(tried: Sequence[Outcome]) -> tuple[Job, Scored] | None:
    """The trial with the best validation score, the first among equals; None if every trial raised."""
    best: tuple[Job, Scored] | None = None
    for job, outcome in tried:
        if isinstance(outcome, Scored) and (best is None or outcome.beats(best[1])):
            best = job, outcome
    return best


def refits(tried: Sequence[Outcome], settings: Settings) -> list[Job]:
    """The chosen trial once a seed, the first one keeping its predictions; none if every trial raised."""
    best = chosen(tried)
    if best is None:
        return []
    seeds = range(settings.first_seed, settings.first_seed + settings.seeds)
    return [Job(best[0].system, seed, f"seed {seed}", keep=seed == settings.first_seed) for seed in seeds]
