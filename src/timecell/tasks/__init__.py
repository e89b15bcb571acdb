"""What is asked of the data. `every()` finds the tasks by walking this folder.

A task knows how to split, what to lose, how to score, and which baselines an honest comparison includes.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from timecell.tasks.answers import Answer
from timecell.tasks.candidates import LinkScores
from timecell.tasks.classify import Classify
from timecell.tasks.communities import Communities
from timecell.tasks.decode import Decode
from timecell.tasks.detect import Detect
from timecell.tasks.event_predictions import NextEvents
from timecell.tasks.fitted import FittedArrays
from timecell.tasks.forecast import Forecast
from timecell.tasks.impute import Impute
from timecell.tasks.likelihood import CoSmoothing
from timecell.tasks.link import LinkPrediction
from timecell.tasks.metrics import residual_quantiles
from timecell.tasks.next_event import NextEvent
from timecell.tasks.predictions import AnomalyScores, ClassScores, Decoded, Forecasted, Imputed, Rates
from timecell.tasks.short_term import ShortTerm
from timecell.tasks.stopping import Thinking
from timecell.tasks.stream import ScoreMatrix, TaskStream, learn_in_turn
from timecell.tasks.structure import Structure

__all__ = [
    "AnomalyScores",
    "Answer",
    "ClassScores",
    "Classify",
    "CoSmoothing",
    "Communities",
    "Decode",
    "Decoded",
    "Detect",
    "FittedArrays",
    "Forecast",
    "Forecasted",
    "Impute",
    "Imputed",
    "LinkPrediction",
    "LinkScores",
    "NextEvent",
    "NextEvents",
    "Rates",
    "ScoreMatrix",
    "ShortTerm",
    "Structure",
    "TaskStream",
    "Thinking",
    "every",
    "learn_in_turn",
    "residual_quantiles",
]


def every() -> dict[str, Any]:
    """Name on the command line -> class of each task: what has a `name`, a `kind` of data and a `split`.

    Example:
        >>> [name for name, task in every().items() if task.kind == "sequences"]
        ['classify', 'short-term']
    """
    modules = [importlib.import_module(f"timecell.tasks.{m.name}") for m in pkgutil.iter_modules(__path__)]
    own = [thing for m in modules for thing in vars(m).values() if getattr(thing, "__module__", None) == m.__name__]
    tasks = [thing for thing in own if all(hasattr(thing, part) for part in ("name", "kind", "split"))]
    return {task.name: task for task in tasks if isinstance(task.name, str)}  # not those that are about another one
