"""Tasks that come one after the other: what is kept of the old ones while a new one is learnt?

    for i, task in the order of the stream:  learn task i;  for every j: A[i, j] = score on the test data of task j

Everything that is said of continual learning is read off the matrix A: the average at the end, what later tasks did to
earlier ones (backward transfer, negative for forgetting), what was lost since the best moment (forgetting), how well a
new task is learnt (plasticity).

Source: Lopez-Paz & Ranzato, "Gradient episodic memory for continual learning" (2017), arXiv:1706.08840; Chaudhry et al.,
"Riemannian walk for incremental learning" (2018), arXiv:1801.10112.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float, Int

from timecell.data.containers import Data, Sequences
from timecell.data.splits import Splits
from timecell.errors import InputError
from timecell.tasks.truth import labelled, labels


@dataclass(frozen=True)
class TaskStream:
    """Tasks in their order, each with data of its own.

    Attributes:
        names: of the tasks.
        parts: training, validation and test data of each.

    Raises:
        InputError: there is no task, or not one name a task.

    Example:
        >>> from timecell.data.splits import by_sample
        >>> splits = by_sample(Sequences.of(np.random.rand(40, 1, 9), [0, 1] * 20))
        >>> stream = TaskStream.permuted(splits, tasks=3, seed=0)
        >>> len(stream), stream.names
        (3, ('as it is', 'permutation 1', 'permutation 2'))
    """

    names: tuple[str, ...]
    parts: tuple[Splits, ...]

    def __post_init__(self) -> None:
        if not self.parts or len(self.names) != len(self.parts):
            raise InputError(
                "TaskStream", found=f"{len(self.names)} names, {len(self.parts)} tasks",
                expected="one or more tasks, each with a name", remedy="name every task",
            )  # fmt: skip

    def __len__(self) -> int:
        return len(self.parts)

    @classmethod
    def permuted(cls, splits: Splits, tasks: int, seed: int = 0) -> TaskStream:
        """The same samples with their channels in another order for each task; the first task has them as they are.

        Classes and difficulty stay, but nothing that was learnt about channels is of use (permuted MNIST).

        Args:
            splits: labelled sequences.
            tasks: their number.
            seed: of the orders.
        """
        rng = np.random.default_rng(seed)
        channels = len(splits.train.schema.channels)
        orders = [rng.permutation(channels) if number else np.arange(channels) for number in range(tasks)]
        names = tuple(f"permutation {number}" if number else "as it is" for number in range(tasks))
        return cls(names, tuple(_each(splits, partial(_reordered, order=order)) for order in orders))

    @classmethod
    def by_class(cls, splits: Splits, groups: Sequence[Sequence[int]]) -> TaskStream:
        """One task for each group of classes; labels keep their numbers (class-incremental).

        Args:
            splits: labelled sequences.
            groups: class numbers of each task.

        Example:
            >>> from timecell.data.splits import by_sample
            >>> splits = by_sample(Sequences.of(np.random.rand(80, 1, 9), [0, 1, 2, 3] * 20))
            >>> TaskStream.by_class(splits, [(0, 1), (2, 3)]).names
            ('0, 1', '2, 3')
        """
        known = splits.train.schema.classes or ()
        names = tuple(", ".join(known[k] for k in group) for group in groups)
        return cls(names, tuple(_each(splits, partial(_only, classes=group)) for group in groups))


def _each(splits: Splits, change: Callable[[Sequences], Sequences]) -> Splits:
    return Splits(*(change(labelled(part)) for part in (splits.train, splits.valid, splits.test)))


def _reordered(data: Sequences, order: Int[np.ndarray, "C"]) -> Sequences:
    return replace(data, values=data.values[:, order])


def _only(data: Sequences, classes: Sequence[int]) -> Sequences:
    return data.select(np.flatnonzero(np.isin(labels(data), classes)))


@dataclass(frozen=True)
class ScoreMatrix:
    """What was scored on every task after each was learnt.

    Attributes:
        values: [N, N] A[i, j], the score on task j after learning task i.
        higher_is_better: direction of the score.

    Example:
        >>> scores = ScoreMatrix(np.array([[0.9, 0.1], [0.5, 0.8]]))
        >>> round(scores.average, 2), round(scores.backward_transfer, 2), round(scores.forgetting, 2)
        (0.65, -0.4, 0.4)
    """

    values: Float[np.ndarray, "N N"]
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[0] != self.values.shape[1] or not len(self.values):
            raise InputError("ScoreMatrix(values)", found=f"shape {self.values.shape}", expected="[N, N]",
                             remedy="score every task after each")  # fmt: skip

    @property
    def average(self) -> float:
        """Mean score of all tasks at the end."""
        return float(self.values[-1].mean())

    @property
    def plasticity(self) -> float:
        """Mean score of each task when it has just been learnt."""
        return float(np.diag(self.values).mean())

    @property
    def backward_transfer(self) -> float:
        """What learning later tasks did to earlier ones: below 0 where they are forgotten; 0 for a single task.

        For a score that is better when lower the sign is turned, so that below 0 is worse here too.
        """
        goodness = self._goodness
        return _mean(goodness[-1, :-1] - np.diag(goodness)[:-1])

    @property
    def forgetting(self) -> float:
        """How far earlier tasks have fallen below the best they ever had since they were learnt; 0 for a single task."""
        goodness = self._goodness
        best = np.array([goodness[j:-1, j].max() for j in range(len(goodness) - 1)])
        return _mean(best - goodness[-1, :-1])

    @property
    def _goodness(self) -> Float[np.ndarray, "N N"]:
        return self.values if self.higher_is_better else -self.values


def _mean(changes: Float[np.ndarray, "n"]) -> float:
    return float(changes.mean()) if len(changes) else 0.0


def learn_in_turn(
    stream: TaskStream,
    learn: Callable[[int, Splits], None],
    score: Callable[[int, Data], float],
    higher_is_better: bool = True,
) -> ScoreMatrix:
    """Learn the tasks in their order and score all of them after each.

    Args:
        stream: the tasks.
        learn: ``learn(number, parts)`` learns one task from its training and validation data.
        score: ``score(number, data)`` of what has been learnt so far on a task's test data.
        higher_is_better: direction of the score.

    Example:
        >>> from timecell.data.splits import by_sample
        >>> splits = by_sample(Sequences.of(np.random.rand(40, 1, 9), [0, 1] * 20))
        >>> seen = []
        >>> scores = learn_in_turn(TaskStream.permuted(splits, tasks=2), lambda i, parts: seen.append(i),
        ...                        lambda j, data: float(j in seen))
        >>> scores.values.tolist()
        [[1.0, 0.0], [1.0, 1.0]]
    """
    rows = []
    for number, parts in enumerate(stream.parts):
        learn(number, parts)
        rows.append([score(j, other.test) for j, other in enumerate(stream.parts)])
    return ScoreMatrix(np.array(rows, dtype=float), higher_is_better)
