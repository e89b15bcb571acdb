"""What is asked next: curricula over a difficulty that is a number.

A net has one readout, a *head*, for each level of difficulty (to know the last 2, 3, 4, ... bits). A curriculum says which
heads are trained now, and moves on when they are good enough:

    single         the newest level alone; older heads are left to themselves
    cumulative     every level so far, all at once
    sliding        the newest few

It is a value: a new one comes from every look at the accuracies, and its fields are all that a file has to hold for a
training run to go on where it was.

Source: Khajehabdollahi et al. (2024), arXiv:2309.12927.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from timecell.errors import InputError, unknown_name

Heads = Literal["single", "cumulative", "sliding"]


@dataclass(frozen=True)
class Curriculum:
    """Which levels are trained now.

    Attributes:
        heads: "single", "cumulative" or "sliding".
        newest: the hardest level that is trained now.
        first: the level that the curriculum begins with.
        last: the hardest level there is.
        window: levels that are trained together in a sliding one.
        threshold: accuracy that the mean over the trained levels and the newest of them must exceed to move on.

    Raises:
        InputError: an attribute is out of its range.

    Example:
        >>> now = Curriculum("cumulative", newest=2, last=9)
        >>> now = now.after({2: 0.99})
        >>> now.levels, now.after({2: 0.99, 3: 0.7}).levels, now.after({2: 0.99, 3: 0.99}).levels
        ((2, 3), (2, 3), (2, 3, 4))
    """

    heads: Heads
    newest: int
    first: int = 2
    last: int = 100
    window: int = 3
    threshold: float = 0.98

    def __post_init__(self) -> None:
        if self.heads not in get_args(Heads):
            raise unknown_name("Curriculum(heads)", str(self.heads), get_args(Heads))
        if not self.first <= self.newest <= self.last:
            raise InputError("Curriculum(first, newest, last)", found=(self.first, self.newest, self.last),
                             expected="first <= newest <= last", remedy="order them")  # fmt: skip
        if self.window < 1 or not 0 < self.threshold < 1:
            raise InputError("Curriculum(window, threshold)", found=(self.window, self.threshold),
                             expected="a window of 1 or more, a threshold in (0, 1)", remedy="try 3 and 0.98")  # fmt: skip

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels whose heads are trained now, the newest last."""
        back = {"single": 1, "sliding": self.window, "cumulative": self.newest}[self.heads]
        return tuple(range(max(self.first, self.newest - back + 1), self.newest + 1))

    def passed(self, accuracy: Mapping[int, float]) -> bool:
        """Whether the trained levels are good enough.

        Raises:
            InputError: a trained level has no accuracy.
        """
        if missing := [level for level in self.levels if level not in accuracy]:
            raise InputError("accuracy", found=f"none of level {missing[0]}", expected=f"one of each of {self.levels}",
                             remedy="measure every level that is trained")  # fmt: skip
        mean = sum(accuracy[level] for level in self.levels) / len(self.levels)
        return min(mean, accuracy[self.newest]) > self.threshold

    def after(self, accuracy: Mapping[int, float]) -> Curriculum:
        """The curriculum after a look at the accuracy of each trained level: one level on, or as it is."""
        step = 1 if self.newest < self.last and self.passed(accuracy) else 0
        return replace(self, newest=self.newest + step)
