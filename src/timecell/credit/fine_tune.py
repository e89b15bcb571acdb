"""Supervised fine-tuning: a language model learns to say what a teacher said.

    loss = -mean over the teacher's words of log p(word | all before it)        the prompt is read, not learnt

`FineTune` asks this of `timecell.fit`; what of a trained model may change is said beforehand, by
`timecell.networks.adapters.set_trainable`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from timecell.data.containers import Batch, Data, Kind
from timecell.errors import InputError
from timecell.system import Scores

UNSAID = -1
"""The target where the teacher says nothing."""


@dataclass(frozen=True)
class WordsRight:
    """[N, 2] of each sample: words that the net would have said as the teacher did, and words in all."""

    counts: Float[np.ndarray, "N 2"]

    def arrays(self) -> dict[str, Any]:
        """`counts`."""
        return {"counts": self.counts}


@dataclass(frozen=True)
class FineTune:
    """What training on a teacher's answers asks: y [B, L, V] scores of the next word, target [B, L] that word or -1.

    Example:
        >>> batch = Batch(torch.zeros(1, 3, 1), target=torch.tensor([[UNSAID, 1, 0]]))
        >>> y = torch.zeros(1, 3, 2)
        >>> round(FineTune().loss(y, batch, slice(0, 3)).item(), 4)
        0.6931
    """

    name: ClassVar[str] = "fine-tune"
    kind: ClassVar[Kind] = "sequences"
    needs_whole: ClassVar[str | None] = "an answer is read behind its whole prompt"

    def loss(self, y: Float[Tensor, "B L V"], batch: Batch, steps: slice) -> Float[Tensor, ""]:
        """Cross-entropy, mean over the words that the teacher said.

        Raises:
            InputError: the batch has no target of this form, or says no word.
        """
        target = batch.target
        if target is None or target.shape != y.shape[:2] or not (target != UNSAID).any():
            found = "None" if target is None else f"shape {list(target.shape)}, {int((target != UNSAID).sum())} words"
            raise InputError(
                "batch.target", found=found, expected=f"{list(y.shape[:2])} with a word at least",
                remedy=f"give the next word at each place and {UNSAID} where none is learnt",
            )  # fmt: skip
        return F.cross_entropy(y.transpose(1, 2), target, ignore_index=UNSAID)

    def scores_from_outputs(self, y: Float[Tensor, "B L V"], batch: Batch) -> Float[Tensor, "B 2"]:
        """Words that would have been right, and words in all."""
        assert batch.target is not None
        said = batch.target != UNSAID
        return torch.stack([(y.argmax(-1) == batch.target) & said, said], -1).sum(1).double()

    def prediction(self, answers: Float[Tensor, "N 2"], data: Data) -> WordsRight:
        """Of all samples."""
        return WordsRight(answers.cpu().numpy())

    def score(self, prediction: WordsRight, data: Data) -> Scores:
        """The share of the words that are right, sample by sample."""
        share = prediction.counts[:, 0] / prediction.counts[:, 1]
        return Scores({"words_right": float(share.mean())}, "words_right", True, share)
