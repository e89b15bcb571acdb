"""One fit as a `Job`, and a `Round` of them: several at a time in worker processes, finished ones kept on disk.

A round fits on the training part and scores on *one* other part that it is given: the validation part while
hyperparameters are chosen, the test part at the end. A job has no other way to reach data.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from timecell.compare.results import plain
from timecell.compare.settings import Settings
from timecell.compare.store import Store, key
from timecell.data.containers import Data
from timecell.errors import TimecellError
from timecell.fuse.pool import one_thread
from timecell.system import Run, System, Task

KEPT_BYTES = 8_000_000  # of one test prediction, for a report's figures; a longer one is thinned evenly


@dataclass(frozen=True)
class Job:
    """One fit of one system, whose fields hold the hyperparameters.

    Attributes:
        system: what is fitted.
        seed: of every random draw.
        label: what it is called in messages, e.g. "trial 2".
        keep: keep the predictions, not only their scores.
    """

    system: System
    seed: int
    label: str
    keep: bool = False

    @property
    def name(self) -> str:
        """For messages, e.g. "lif, trial 2"."""
        return f"{self.system.card.slug}, {self.label}"


@dataclass(frozen=True)
class Scored:
    """What came out of a job.

    Attributes:
        value: the primary metric, whose name is `primary`.
        metrics: all of them.
        seconds: wall time of the fit.
        report: what the fit says of itself.
        arrays: "items" and their "blocks" (see `Scores`; where the task gives them), and the arrays of the prediction under "prediction." and their names (of a job that keeps them).
    """

    value: float
    primary: str
    higher_is_better: bool
    metrics: Mapping[str, float]
    seconds: float
    report: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]

    @property
    def prediction(self) -> dict[str, np.ndarray]:
        """The kept prediction."""
        return {k.removeprefix("prediction."): a for k, a in self.arrays.items() if k.startswith("prediction.")}

    def beats(self, other: Scored) -> bool:
        """True if its primary metric is strictly the better one."""
        return self.value > other.value if self.higher_is_better else self.value < other.value


@dataclass(frozen=True)
class Broken:
    """A job that raised."""

    error: str
    traceback: str


Outcome = tuple[Job, Scored | Broken]


@dataclass(frozen=True)
class Round:
    """What all jobs of a round share: data to fit on, the one part to score on, and the budget."""

    train: Data
    valid: Data
    scored: Data
    task: Task
    settings: Settings

    def run(self, job: Job, folder: Path | None) -> Scored | Broken:
        """Fit on one core, with checkpoints in the folder, and score; an exception becomes a `Broken`."""
        try:
            with one_thread():
                return self._fit_and_score(job, folder)
        except Exception as e:
            return Broken(f"{type(e).__name__}: {e}", traceback.format_exc())

    def _fit_and_score(self, job: Job, folder: Path | None) -> Scored:
        updates, cap = self.settings.updates, self.settings.seconds
        run = Run(job.seed, updates, cap, folder, resume=folder is not None, device="cpu")
        start = time.perf_counter()
        fitted = job.system.fit(self.train, self.valid, self.task, run)
        seconds = fitted.report.get("seconds", time.perf_counter() - start)  # a resumed fit knows its earlier sessions
        prediction = fitted.predict(self.scored)
        scores = self.task.score(prediction, self.scored)
        if not np.isfinite(scores.value):
            raise ArithmeticError(f"{scores.primary} is {scores.value}: the fit has diverged")
        arrays = {}
        if scores.items is not None:
            items = np.asarray(scores.items, dtype=float)
            alone = scores.blocks is None
            arrays = {"items": items, "blocks": np.arange(len(items)) if alone else np.asarray(scores.blocks)}
        if job.keep:
            arrays |= {f"prediction.{k}": v for k, v in thinned(prediction.arrays(), len(self.scored)).items()}
        return Scored(
            float(scores.value),
            scores.primary,
            scores.higher_is_better,
            plain(scores.metrics),
            seconds,
            plain(fitted.report),
            arrays,
        )

    @cached_property
    def fingerprints(self) -> tuple[str, str, str]:
        """Of the three parts."""
        return self.train.fingerprint, self.valid.fingerprint, self.scored.fingerprint

    def key(self, job: Job) -> str:
        """What the job is called in the store."""
        budget = self.settings.updates, self.settings.seconds
        return key(job.system, self.task, self.fingerprints, job.seed, job.keep, budget)


def workers(jobs: int) -> joblib.Parallel:
    """So many worker processes (0 = one a core), or the cluster that `joblib.parallel_config` names.

    Large arrays are written once and mapped by every worker; copy-on-write, since systems may wrap them in tensors.
    """
    return joblib.Parallel(
        n_jobs=jobs or joblib.cpu_count(), return_as="generator_unordered", batch_size=1, mmap_mode="c"
    )


def run_all(
    pool: joblib.Parallel,
    shared: Round,
    jobs: Mapping[str, Sequence[Job]],
    store: Store | None,
    finished: Callable[[Job, Scored | Broken], None],
) -> dict[str, list[Outcome]]:
    """All jobs with their outcomes, under the same names and in the same order; what the store has is not run again.

    Raises:
        TimecellError: a worker process died, usually for want of memory.
    """
    todo = {(name, n): job for name, some in jobs.items() for n, job in enumerate(some)}
    keys = {at: shared.key(job) for at, job in todo.items()} if store else {}
    outcomes: dict[tuple[str, int], Scored | Broken] = {}
    for at, name in keys.items():
        if store and (kept := store.load(name)):
            record, arrays = kept
            outcomes[at] = Scored(**record, arrays=arrays)
            finished(todo.pop(at), outcomes[at])
    try:
        folders = {at: store.unfinished(keys[at]) if store else None for at in todo}
        for at, outcome in pool(joblib.delayed(_run)(at, shared, job, folders[at]) for at, job in todo.items()):
            if store and isinstance(outcome, Scored):
                store.save(keys[at], {k: v for k, v in vars(outcome).items() if k != "arrays"}, outcome.arrays)
            outcomes[at] = outcome
            finished(todo[at], outcome)
    except BrokenProcessPool as e:
        raise TimecellError(
            "compare", found="a worker process killed from outside", expected="all to live",
            remedy="memory is the usual reason: run fewer jobs at a time, e.g. jobs=1",
        ) from e  # fmt: skip
    return {name: [(job, outcomes[name, n]) for n, job in enumerate(some)] for name, some in jobs.items()}


def _run(at: tuple[str, int], shared: Round, job: Job, folder: Path | None) -> tuple[tuple[str, int], Scored | Broken]:
    return at, shared.run(job, folder)


def thinned(arrays: Mapping[str, np.ndarray], items: int) -> dict[str, np.ndarray]:
    """All arrays, or every k-th item of them where all would be more than `KEPT_BYTES`; "item" says which."""
    every = max(1, -(-sum(a.nbytes for a in arrays.values()) // KEPT_BYTES))
    kept = {name: a[::every] if a.shape[:1] == (items,) else a for name, a in arrays.items()}
    return kept | {"item": np.arange(0, items, every)}
