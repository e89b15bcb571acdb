"""What a learner may keep of old tasks while it learns a new one: `Replay`, the remedy that others are measured against.

Sequential fine-tuning keeps nothing, joint training keeps everything. Replay keeps a share of each task's training
sequences and mixes them in with those of the task that is being learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from timecell.data.event_sequences import EventSequences
from timecell.errors import InputError


@dataclass(frozen=True)
class Replay:
    """A memory of old training sequences.

    Attributes:
        share: how many of a task's sequences are kept, in (0, 1].
        kept: those of the tasks so far.

    Example:
        >>> task = EventSequences.of([[1.0], [2.0], [3.0], [4.0]], end=5.0)
        >>> memory = Replay(share=0.5).keeping(task)
        >>> len(memory.mixed(task))
        6
    """

    share: float = 0.1
    kept: tuple[EventSequences, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError("Replay(share)", found=self.share, expected="above 0, at most 1", remedy="try 0.1")

    def keeping(self, task: EventSequences, seed: int = 0) -> Replay:
        """The same with a share of this task, at least one sequence of it, drawn at random."""
        count = max(1, round(self.share * len(task)))
        chosen = np.random.default_rng(seed).permutation(len(task))[:count]
        return replace(self, kept=(*self.kept, task.select(np.sort(chosen))))

    def mixed(self, task: EventSequences) -> EventSequences:
        """This task's sequences and all that was kept."""
        return joined((task, *self.kept))


def joined(parts: Sequence[EventSequences]) -> EventSequences:
    """The sequences of all parts, in their order.

    Raises:
        InputError: there is none, or they have other marks.

    Example:
        >>> one = EventSequences.of([[1.0], [2.0, 3.0]], end=4.0)
        >>> joined([one, one]).counts.tolist()
        [1, 2, 1, 2]
    """
    if not parts:
        raise InputError("parts", found="none", expected="at least one", remedy="pass some data")
    for i, part in enumerate(parts):
        if part.schema.classes != parts[0].schema.classes:
            raise InputError(
                f"parts[{i}]", found=f"marks {part.schema.classes}", expected=f"{parts[0].schema.classes}, as in the first",
                remedy="name the same marks in the same order, those that never come too",
            )  # fmt: skip
    lengths = [part.schema.lengths for part in parts]
    counts = np.concatenate([part.counts for part in parts])
    return replace(
        parts[0],
        times=np.concatenate([part.times for part in parts]),
        marks=np.concatenate([part.marks for part in parts]),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        start=np.concatenate([part.start for part in parts]),
        end=np.concatenate([part.end for part in parts]),
        schema=replace(parts[0].schema, lengths=(min(low for low, _ in lengths), max(high for _, high in lengths))),
        group=None,
        part=None,
    )
