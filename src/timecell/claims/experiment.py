"""`experiment`: what several claims look at is run once a trial.

    @experiment
    def answers(trial: Trial) -> Mapping[str, np.ndarray]:      # fit the arms, keep what they answered
        ...

    @claim("the net is better than its ablation", ...)
    def better(trial: Trial) -> Mapping[str, Measured]:
        found = answers(trial)                                  # the second claim that asks gets the same arrays
        ...

Seeds are measured in several processes, so arrays are kept in `trial.folder` while a system is verified; without a folder
they are kept in memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, cast

import numpy as np

from timecell.claims.declare import Trial

Arrays = Mapping[str, np.ndarray]


def experiment(measure: Callable[[Trial], Arrays]) -> Callable[[Trial], Arrays]:
    """Run a function of a trial once, however many claims ask for its arrays.

    Example:
        >>> @experiment
        ... def noise(trial: Trial) -> Arrays:
        ...     print("measured")
        ...     return {"noise": np.random.default_rng(trial.seed).normal(size=3)}
        >>> bool((noise(Trial(seed=1))["noise"] == noise(Trial(seed=1))["noise"]).all())
        measured
        True
    """
    in_memory: dict[Trial, Arrays] = {}

    @wraps(measure)
    def once(trial: Trial) -> Arrays:
        if trial.folder is None:
            if trial not in in_memory:
                in_memory[trial] = measure(trial)
            return in_memory[trial]
        kind = "-quick" * trial.quick + "-control" * trial.control
        path = trial.folder / f"{measure.__name__}-{trial.seed}{kind}.npz"
        if not path.exists():
            write(path, measure(trial))
        with np.load(path, allow_pickle=False) as found:
            return dict(found)

    return once


def write(path: Path, arrays: Arrays) -> None:
    """All or nothing: a kill leaves no half of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with draft.open("wb") as file:
        np.savez(file, **cast(dict[str, Any], arrays))
    os.replace(draft, path)
