"""`LabelledSteps`: sequences with a class at every step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Int

from timecell.data.containers import Batch, Sequences, fingerprint


@dataclass(frozen=True)
class LabelledSteps(Sequences):
    """Sequences and the class of each of their steps; a batch's target is [B, T], -1 beyond a sample's end.

    Attributes:
        labels: [sum of lengths] class indices into `schema.classes`, end to end as the values are.

    Example:
        >>> data = LabelledSteps.labelled(Sequences.of([np.zeros((3, 1)), np.ones((2, 1))]), [0, 1, 1, 0, 1], ("a", "b"))
        >>> data.batch(np.array([0, 1])).target.tolist()
        [[0, 1, 1], [0, 1, -1]]
    """

    labels: Int[np.ndarray, "S"] = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def labelled(cls, data: Sequences, labels: object, classes: tuple[str, ...]) -> LabelledSteps:
        """These sequences with these labels."""
        named = replace(data.schema, classes=classes)
        return cls(**{**vars(data), "schema": named, "labels": np.asarray(labels, np.int64).reshape(-1)})

    @property
    def fingerprint(self) -> str:
        """Hash of sequences and labels."""
        return fingerprint(self.values, self.offsets, self.labels)

    def batch(self, index: Int[np.ndarray, "B"]) -> Batch:
        """Padded inputs, and the classes of all steps."""
        batch = super().batch(index)
        target = np.full(batch.x.shape[:2], -1)
        for row, i in enumerate(index):
            target[row, : self.lengths[i]] = self.labels[self.offsets[i] : self.offsets[i + 1]]
        return replace(batch, target=torch.from_numpy(target))

    def select(self, index: Int[np.ndarray, "n"]) -> LabelledSteps:
        """The sequences with these numbers."""
        rows = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in index]
        labels = self.labels[np.concatenate(rows) if rows else np.zeros(0, np.int64)]
        return LabelledSteps(**{**vars(super().select(index)), "labels": labels})
