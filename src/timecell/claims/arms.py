"""What the claims of several systems share: arms of one budget, tuned alike, and labels that teach nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from timecell.claims.declare import Trial
from timecell.claims.statements import Measured
from timecell.data.containers import Sequences
from timecell.data.splits import Splits
from timecell.system import Fitted, Run, System, Task


class Arm(NamedTuple):
    """A fitted system and what it scored on the test set."""

    fitted: Any
    measured: Measured


def tuned(system: System, space: Mapping[str, Sequence[Any]], splits: Splits, task: Task, run: Run) -> Arm:
    """Fit every setting in the space, choose on the validation data, score that one on the test data.

    Args:
        system: with the settings that are not tuned.
        space: field -> values; all combinations are tried.
        splits: of the data; the test part is looked at once.
        task: whose primary metric chooses and scores.
        run: seed and budget of each fit.
    """
    tried = []
    for values in product(*space.values()):
        chosen = dict(zip(space, values))
        fitted = replace(system, **chosen).fit(  # type: ignore[type-var]
            splits.train, splits.valid, task, run
        )
        scores = task.score(fitted.predict(splits.valid), splits.valid)
        tried.append((scores.value if scores.higher_is_better else -scores.value, fitted, chosen))
    _, best, chosen = max(tried, key=lambda one: one[0])
    costs = {"parameters": best.report["parameters"], "operations": best.report.get("synaptic_operations")}
    return Arm(best, scored(best, splits.test, task, **chosen, **costs))


def scored(fitted: Fitted, test: Any, task: Task, **extra: Any) -> Measured:
    """What a fitted system scores on test data, with every item; `extra` is reported beside."""
    scores = task.score(fitted.predict(test), test)
    return Measured(scores.value, scores.items, test.fingerprint, extra)


def budget(trial: Trial, updates: int, control: int = 4) -> Run:
    """What each fit of a trial may spend, on one CPU.

    Args:
        trial: a quick one has 3 updates, which show that it runs.
        updates: of a fit.
        control: a negative control has one in so many of them, since shuffled labels have nothing to teach.

    Example:
        >>> budget(Trial(seed=0), 200).updates, budget(Trial(seed=0, control=True), 200).updates
        (200, 50)
    """
    updates = 3 if trial.quick else updates // control if trial.control else updates
    return Run(seed=trial.seed, updates=updates, progress=trial.progress, device="cpu")


def settings(trial: Trial, space: Mapping[str, Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
    """What is tuned: the whole space, or, where a trial is quick or a control, the first value of each field.

    Example:
        >>> settings(Trial(seed=0, control=True), {"lr": (1e-3, 1e-2)})
        {'lr': (0.001,)}
    """
    return {field: values[:1] for field, values in space.items()} if trial.quick or trial.control else space


def prepared(splits: Splits, trial: Trial, most: int = 60) -> Splits:
    """The data of a trial: in a control the labels of training and validation are shuffled, in a quick one few stay."""
    train, valid, test = splits.train, splits.valid, splits.test
    assert isinstance(train, Sequences) and isinstance(valid, Sequences)
    if trial.control:
        train, valid = shuffled(train, trial.seed), shuffled(valid, trial.seed)
    if not trial.quick:
        return Splits(train, valid, test)
    return Splits(*(part.select(np.arange(min(most, len(part)))) for part in (train, valid, test)))


def shuffled(data: Sequences, seed: int) -> Sequences:
    """The same samples with their labels permuted.

    Example:
        >>> data = Sequences.of(np.zeros((4, 1, 1)), [0, 0, 1, 1])
        >>> sorted(shuffled(data, seed=0).target.tolist())
        [0, 0, 1, 1]
    """
    assert data.target is not None
    return replace(data, target=np.random.default_rng(seed).permutation(data.target))
