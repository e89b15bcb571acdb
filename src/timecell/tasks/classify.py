"""`Classify`: which of K classes is a sequence?

A network answers at every step; a *readout* makes one answer of them. `last` and `every` are sums over steps, so any
credit rule can train them slice by slice; `mean`, `max` and `softmax_sum` are one loss of all steps and say so in
`needs_whole`. Padding has no part in any of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from timecell.data.containers import AnyData, Batch, Data, Kind
from timecell.data.splits import Splits, by_sample
from timecell.errors import InputError, unknown_name
from timecell.losses import first_spike_time, membrane_mse, membrane_peak, rate_mse, spike_count, step_ce, tet
from timecell.system import Readout, Scores, System, Task
from timecell.tasks import metrics
from timecell.tasks.classifiers import Majority, RandomConvolutions, SummaryLogistic
from timecell.tasks.predictions import ClassScores
from timecell.tasks.readout import last, lengths, span, valid
from timecell.tasks.truth import labelled, labels, sequences, with_classes

Criterion = Literal["cross_entropy", "mse", "tet"]
READ_BY = {"mse": ("count", "every"), "tet": ("every",)}
"""Losses other than the cross-entropy -> the readouts that they are defined for."""


@dataclass(frozen=True)
class Classify:
    """One class for each sequence.

    The readouts of outputs y [B, T, K] over a sample's own steps:

    - `last`, `mean`, `max`: y at the last step, its mean, its largest value are the logits;
    - `softmax_sum`: the sum of softmax(y_t) is used as logits (Hammouamri et al. 2023, arXiv:2306.17670);
    - `every`: the mean over steps of each step's cross-entropy; the answer is the mean of softmax(y_t);
    - `count`, `first_spike`: y are spikes; their number, or minus the time of the first one, are the logits.

    Attributes:
        readout: how one answer is made of all steps.
        label_smoothing: share of the target that is spread over all classes, in [0, 1), with cross-entropy.
        bins: of confidence, in the expected calibration error.
        criterion: the loss: "cross_entropy"; "mse" of the counts (`losses.rate_mse`) or of every step's output
            (`losses.membrane_mse`); "tet" (`losses.tet`) of every step's.

    Raises:
        InputError: an attribute is out of its range.

    Example:
        >>> batch = Batch(torch.zeros(2, 3, 1), target=torch.tensor([0, 1]), lengths=torch.tensor([1, 3]))
        >>> y = torch.zeros(2, 3, 4)
        >>> task = Classify("last")
        >>> whole = task.loss(y, batch, slice(0, 3))
        >>> parts = task.loss(y[:, :1], batch, slice(0, 1)) + task.loss(y[:, 1:], batch, slice(1, 3))
        >>> round(whole.item(), 4), round(parts.item(), 4)
        (1.3863, 1.3863)
        >>> Classify("mean").needs_whole
        'the mean readout is one loss of all steps'
    """

    readout: Readout = "softmax_sum"
    label_smoothing: float = 0.0
    bins: int = 15
    criterion: Criterion = "cross_entropy"

    name: ClassVar[str] = "classify"
    kind: ClassVar[Kind] = "sequences"

    def __post_init__(self) -> None:
        if self.readout not in get_args(Readout):
            raise unknown_name("readout", self.readout, get_args(Readout))
        if not 0 <= self.label_smoothing < 1:
            raise InputError("label_smoothing", found=self.label_smoothing, expected="0 <= it < 1", remedy="try 0.1")
        if self.bins < 1:
            raise InputError("bins", found=self.bins, expected="at least 1", remedy="try 15")
        if self.criterion not in get_args(Criterion):
            raise unknown_name("criterion", self.criterion, get_args(Criterion))
        if self.label_smoothing > 0 and self.criterion != "cross_entropy":
            raise InputError("label_smoothing", found=self.label_smoothing, expected=f"0 with {self.criterion}",
                             remedy='leave it out, or choose criterion="cross_entropy"')  # fmt: skip
        readouts = READ_BY.get(self.criterion, get_args(Readout))
        if self.readout not in readouts:
            raise InputError("readout", found=repr(self.readout), expected=f"{' or '.join(readouts)} with {self.criterion}",
                             remedy='choose it, or criterion="cross_entropy"')  # fmt: skip

    @property
    def needs_whole(self) -> str | None:
        """Why the loss needs all steps at once; None for `last` and `every`."""
        if self.readout in ("last", "every"):
            return None
        return f"the {self.readout} readout is one loss of all steps"

    def split(self, data: AnyData, seed: int = 0) -> Splits:
        """65 % to train, 15 % to validate, 20 % to test; groups stay together, a split that the data bring is kept.

        Raises:
            InputError: the data are not labelled sequences, or are too few.
        """
        return by_sample(labelled(data), seed=seed)

    def score(self, prediction: ClassScores, data: Data) -> Scores:
        """Accuracy ranks; the items are 1 where a sample is right, else 0.

        The data need not hold every class of the prediction.

        Raises:
            InputError: the data have no labels, a label that is no class of the prediction, or other samples.
        """
        truth = labels(with_classes(sequences(data), prediction.classes))
        if len(prediction.probabilities) != len(truth):
            raise InputError(
                "prediction",
                found=f"{len(prediction.probabilities)} rows",
                expected=f"{len(truth)}, one a sample",
                remedy="predict the data that are scored",
            )
        correct = (prediction.predicted == truth).astype(float)
        return Scores(metrics.classification(prediction, truth, self.bins), "accuracy", True, correct)

    def baselines(self) -> list[System]:
        """The most frequent class, logistic regression on summaries, random convolutions."""
        return [Majority(), SummaryLogistic(), RandomConvolutions()]

    def outputs(self, data: Data) -> int:
        """One unit a class."""
        return len(labelled(data).schema.classes or ())

    def loss(self, y: Float[Tensor, "B t K"], batch: Batch, steps: slice) -> Float[Tensor, ""]:
        """Mean over samples of the cross-entropy [nats] that these steps contribute.

        Args:
            y: outputs of the network at these steps.
            batch: the whole padded batch, with targets.
            steps: which of its steps y holds.

        Raises:
            InputError: there are no labels; y does not fit the slice; the readout needs all steps and gets a slice.
        """
        if batch.target is None:
            raise InputError("batch.target", found="None", expected="[B] class indices", remedy="pass labelled data")
        inside = span(y, batch, steps)
        cross_entropy = partial(F.cross_entropy, label_smoothing=self.label_smoothing)
        if self.readout == "last":
            ending, here = last(y, batch, inside)
            return cross_entropy(ending, batch.target[here], reduction="sum") / len(batch)
        if self.readout == "every":
            each = self._each_step(y, batch.target)
            own = torch.where(valid(batch, inside), each, 0.0)
            return (own.sum(dim=1) / lengths(batch)).mean()
        self._require_all(inside, batch)
        if self.criterion == "mse":
            return rate_mse(y, batch.target, batch.lengths).mean()
        return cross_entropy(self._logits(y, batch), batch.target)

    def scores_from_outputs(self, y: Float[Tensor, "B T K"], batch: Batch) -> Float[Tensor, "B K"]:
        """Class probabilities from the outputs of all steps."""
        inside = span(y, batch, slice(None))
        if self.readout == "last":
            return last(y, batch, inside)[0].softmax(dim=1)
        if self.readout == "every":
            return _sum_of_softmax(y, batch) / lengths(batch)[:, None]
        return self._logits(y, batch).softmax(dim=1)

    def prediction(self, answers: Float[Tensor, "N K"], data: Data) -> ClassScores:
        """The probabilities of all samples with the names of their classes."""
        return ClassScores(answers.detach().cpu().double().numpy(), data.schema.classes or ())

    def _each_step(self, y: Float[Tensor, "B t K"], target: Tensor) -> Float[Tensor, "B t"]:
        if self.criterion == "cross_entropy":
            return step_ce(y, target, self.label_smoothing)
        return tet(y, target) if self.criterion == "tet" else membrane_mse(y, target)

    def _logits(self, y: Float[Tensor, "B T K"], batch: Batch) -> Float[Tensor, "B K"]:
        if self.readout == "softmax_sum":
            return _sum_of_softmax(y, batch)
        if self.readout == "count":
            return spike_count(y, batch.lengths)
        if self.readout == "first_spike":
            return -first_spike_time(y, batch.lengths)
        if self.readout == "max":
            return membrane_peak(y, batch.lengths)
        own = valid(batch, range(y.shape[1]))[:, :, None]
        return y.masked_fill(~own, 0).sum(dim=1) / lengths(batch)[:, None]

    def _require_all(self, inside: range, batch: Batch) -> None:
        T = batch.x.shape[1]
        if len(inside) != T:
            raise InputError(
                "steps",
                found=f"{inside.start} to {inside.stop} of {T}",
                expected=f"all steps, since {self.needs_whole}",
                remedy='use the readout "last" or "every"',
            )


def _sum_of_softmax(y: Float[Tensor, "B T K"], batch: Batch) -> Float[Tensor, "B K"]:
    """Sum over a sample's own steps of softmax(y_t)."""
    own = valid(batch, range(y.shape[1]))[:, :, None]
    return y.softmax(dim=2).masked_fill(~own, 0).sum(dim=1)


def stepwise(task: Task) -> Task:
    """The same question, if it is one of classes, with a loss of each step: what is asked of rules that know an instant."""
    return replace(task, readout="every", criterion="cross_entropy") if isinstance(task, Classify) else task
