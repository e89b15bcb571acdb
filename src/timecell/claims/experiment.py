"""`experiment`: what several claims look at is run once a trial.

    @experiment
    def answers(trial: Trial, arm: str) -> Mapping[str, np.ndarray]:    # fit an arm, keep what it answered
        ...

    @claim("the net is better than its ablation", ...)
    def better(trial: Trial) -> Mapping[str, Measured]:
        found = answers(trial, "net")                                   # the second claim that asks gets the same arrays
        ...

Seeds are measured in several processes, so arrays are kept in `trial.folder` while a system is verified; without a folder
they are kept in memory.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, cast

import numpy as np

P = ParamSpec("P")
Arrays = Mapping[str, np.ndarray]


def experiment(measure: Callable[P, Arrays]) -> Callable[P, Arrays]:
    """Run a function once for each trial and each setting (texts and numbers), however many claims ask for its arrays.

    Example:
        >>> from timecell.claims import Trial
        >>> @experiment
        ... def noise(trial: Trial) -> Arrays:
        ...     print("measured")
        ...     return {"noise": np.random.default_rng(trial.seed).normal(size=3)}
        >>> bool((noise(Trial(seed=1))["noise"] == noise(Trial(seed=1))["noise"]).all())
        measured
        True
    """
    in_memory: dict[Any, Arrays] = {}

    @wraps(measure)
    def once(*args: P.args, **kwargs: P.kwargs) -> Arrays:
        asked = inspect.signature(measure).bind(*args, **kwargs)
        asked.apply_defaults()
        trial, *settings = asked.arguments.values()
        if trial.folder is None:
            key = (trial, *settings)
            if key not in in_memory:
                in_memory[key] = measure(*args, **kwargs)
            return in_memory[key]
        kind = "-quick" * trial.quick + "-control" * trial.control
        path = trial.folder / "-".join([measure.__name__, *map(str, settings), f"{trial.seed}{kind}.npz"])
        if not path.exists():
            write(path, measure(*args, **kwargs))
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
