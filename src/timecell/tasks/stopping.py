"""Answers that ripen: a net that thinks in ticks answers at each of them, and it is to say when it is done.

`certainty` is how sure an answer is, `most_certain` and `first_certain` are rules for stopping, and `Thinking` is a task
in which the net is never told at which tick to answer: of each sample only its best and its most certain tick are trained

    loss = (L_{t1} + L_{t2}) / 2,   t1 = the tick of the least loss, t2 = the tick of the greatest certainty

so that easy samples may be done early and hard ones go on (Darlow et al. 2025, arXiv:2505.05522).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from timecell.data.containers import AnyData, Batch, Data, Kind
from timecell.data.labelled_steps import LabelledSteps
from timecell.data.splits import Splits
from timecell.errors import InputError
from timecell.system import Scores, System
from timecell.tasks.classify import Classify
from timecell.tasks.predictions import ClassScores


def certainty(logits: Float[Tensor, "... K"]) -> Float[Tensor, "..."]:
    """1 - entropy / log K of softmax(logits): 0 for a coin, 1 for a sure answer.

    Example:
        >>> certainty(torch.tensor([[0.0, 0.0], [100.0, 0.0]])).tolist()
        [0.0, 1.0]
    """
    log_p = logits.log_softmax(-1)
    return 1 + (log_p.exp() * log_p).sum(-1) / math.log(logits.shape[-1])


def most_certain(sure: Float[Tensor, "B T"]) -> Int[Tensor, "B"]:
    """The tick of the greatest certainty, the first among equals."""
    return sure.argmax(dim=1)


def first_certain(sure: Float[Tensor, "B T"], threshold: float) -> Int[Tensor, "B"]:
    """The first tick whose certainty is above the threshold; the last tick where none is.

    Example:
        >>> first_certain(torch.tensor([[0.1, 0.9, 0.8], [0.1, 0.2, 0.3]]), 0.5).tolist()
        [1, 2]
    """
    above = sure > threshold
    return torch.where(above.any(1), above.int().argmax(1), sure.shape[1] - 1)


def best_and_most_certain(losses: Float[Tensor, "B T"], sure: Float[Tensor, "B T"]) -> Float[Tensor, "B"]:
    """Half the loss of each sample's best tick and half that of its most certain one.

    Example:
        >>> best_and_most_certain(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[0.0, 0.1, 0.9]])).tolist()
        [1.5]
    """
    return (losses.min(dim=1).values + losses.gather(1, most_certain(sure)[:, None])[:, 0]) / 2


@dataclass(frozen=True)
class Thinking:
    """A question of classes put to a net that answers at each of its ticks, y [B, ticks, P K].

    The data have one class a sequence (P = 1), or one at each of P steps (`LabelledSteps`); then certainty and loss are
    means over the steps.

    Attributes:
        question: what is asked; it splits and has the baselines.

    Example:
        >>> from timecell.data.containers import Batch
        >>> batch = Batch(torch.zeros(2, 5, 1), target=torch.tensor([0, 1]))
        >>> y = torch.tensor([[[0.0, 0.0], [9.0, 0.0]], [[0.0, 0.0], [9.0, 0.0]]])  # surer and surer of class 0
        >>> Thinking().scores_from_outputs(y, batch).round().tolist()
        [[1.0, 0.0], [1.0, 0.0]]
    """

    question: Classify = field(default_factory=Classify)

    @property
    def name(self) -> str:
        """As the question's."""
        return self.question.name

    @property
    def kind(self) -> Kind:
        """As the question's."""
        return self.question.kind

    @property
    def needs_whole(self) -> str:
        """Which tick counts is known at the last one."""
        return "the best and the most certain tick are known at the end"

    def split(self, data: AnyData, seed: int = 0) -> Splits:
        """As the question's."""
        return self.question.split(data, seed)

    def baselines(self) -> list[System]:
        """As the question's."""
        return self.question.baselines()

    def outputs(self, data: Data) -> int:
        """K, or P K where every step has a class."""
        return len(data.schema.classes or ()) * (data.schema.lengths[1] if isinstance(data, LabelledSteps) else 1)

    def loss(self, y: Float[Tensor, "B T PK"], batch: Batch, steps: slice) -> Float[Tensor, ""]:
        """Mean over samples."""
        if batch.target is None:
            raise InputError("batch.target", found="None", expected="class indices", remedy="pass labelled data")
        logits = unflat(y, batch)
        target = batch.target.reshape(len(batch), 1, -1).expand(logits.shape[:3])
        losses = F.cross_entropy(logits.flatten(0, 2), target.flatten(), reduction="none").view(target.shape)
        return best_and_most_certain(losses.mean(2), certainty(logits).mean(2)).mean()

    def scores_from_outputs(self, y: Float[Tensor, "B T PK"], batch: Batch) -> Float[Tensor, "B PK"]:
        """Class probabilities at the most certain tick, step by step."""
        logits = unflat(y, batch)
        at = most_certain(certainty(logits).mean(2))
        return logits[torch.arange(len(y), device=y.device), at].softmax(-1).flatten(1)

    def prediction(self, answers: Float[Tensor, "N PK"], data: Data) -> ClassScores:
        """One row a sequence, or one row a step."""
        classes = data.schema.classes or ()
        return ClassScores(answers.detach().cpu().double().numpy().reshape(-1, len(classes)), classes)

    def score(self, prediction: ClassScores, data: Data) -> Scores:
        """Accuracy over sequences, or over steps; steps of one sequence belong together."""
        if not isinstance(data, LabelledSteps):
            return self.question.score(prediction, data)
        correct = (prediction.predicted == data.labels).reshape(len(data), -1).mean(1)
        return Scores({"accuracy": float(np.mean(correct))}, "accuracy", True, correct)


def unflat(y: Float[Tensor, "B T PK"], batch: Batch) -> Float[Tensor, "B T P K"]:
    """Logits by step and class."""
    steps = 1 if batch.target is None or batch.target.ndim == 1 else batch.target.shape[1]
    return y.unflatten(2, (steps, -1))
