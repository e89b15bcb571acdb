"""`PointProcessSystem`: what is the same in every system whose net is a point process.

A published model of event sequences is a frozen dataclass of hyperparameters with a card and a method that builds a
`timecell.generate.point_process.PointProcess`. Time scales, training by maximum likelihood through `timecell.fit`,
prediction in the data's own unit of time and the files on disk are here, once. (`NetworkSystem` is for nets that know
nothing of events and answer with the numbers of a decoder.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from timecell.card import Card
from timecell.checkpoint import seeded
from timecell.data.containers import Batch, Data, Kind, Schema
from timecell.data.event_sequences import EventSequences, next_rows
from timecell.fitted_module import FittedModule
from timecell.generate.point_process import PointProcess
from timecell.inference import device_of, evaluating
from timecell.recipe import Recipe, Stage
from timecell.system import Run, Scores, Task, require_accepted
from timecell.tasks.event_predictions import NextEvents, event_sequences
from timecell.tasks.truth import require_same
from timecell.train import fit

BATCH = 64  # sequences that are predicted at once


@dataclass(frozen=True)
class LogLikelihoods:
    """[N] log-likelihood of each sequence [nats]."""

    values: Float[np.ndarray, "N"]

    def arrays(self) -> dict[str, Any]:
        """`log_likelihoods`."""
        return {"log_likelihoods": self.values}


@dataclass(frozen=True)
class MaximumLikelihood:
    """What a point process is trained for, by `timecell.fit`: that the events which came were likely to come.

    The net answers with the likelihood itself, y [B, T, 2], so there is nothing left to compute but sums. The score is
    the log-likelihood per event in the unit of time of the data that it is given.
    """

    name: ClassVar[str] = "maximum-likelihood"
    kind: ClassVar[Kind] = "events"
    needs_whole: ClassVar[str | None] = "a point process answers for an event where it knows the row before it"

    def loss(self, y: Float[Tensor, "B T 2"], batch: Batch, steps: slice) -> Float[Tensor, ""]:
        """Minus the log-likelihood, mean over sequences."""
        return -y.sum() / len(batch)

    def scores_from_outputs(self, y: Float[Tensor, "B T 2"], batch: Batch) -> Float[Tensor, "B"]:
        """The log-likelihood of each sequence."""
        return y.double().sum((1, 2))

    def prediction(self, answers: Float[Tensor, "N"], data: Data) -> LogLikelihoods:
        """Those of all sequences."""
        return LogLikelihoods(answers.cpu().numpy())

    def score(self, prediction: LogLikelihoods, data: Data) -> Scores:
        """Log-likelihood per event."""
        events = event_sequences(data)
        n = max(len(events.times), 1)
        return Scores(
            {"log_likelihood": float(prediction.values.sum() / n)}, "log_likelihood", True, prediction.values * len(events) / n
        )  # fmt: skip


@dataclass(frozen=True)
class PointProcessSystem:
    """Base of the systems that are point processes. A subclass is a frozen dataclass of hyperparameters.

    Example:
        >>> from timecell.data.synthetic.point_processes import renewal
        >>> from timecell.generate.point_process import Constant, DecodedProcess
        >>> from timecell.layers.event_decoders import LogNormalMixture
        >>> from timecell.tasks.next_event import NextEvent
        >>> @dataclass(frozen=True)
        ... class Forgetful(PointProcessSystem):
        ...     card = Card("forgetful", "No history", "The same distribution after every history.", "example")
        ...
        ...     def build(self, schema):
        ...         decoder = LogNormalMixture(components=1)
        ...         return DecodedProcess(Constant(decoder.outputs(len(schema.classes))), decoder)
        ...
        ...     def recipe(self):
        ...         return Recipe((Stage(lr=0.05),))
        >>> data = renewal(log_mean=2.0, log_std=0.3).data
        >>> fitted = Forgetful().fit(data, data, NextEvent(), Run(updates=100, device="cpu"))
        >>> bool(abs(np.median(fitted.predict(data).median) - np.exp(2.0)) < 0.2)
        True
    """

    card: ClassVar[Card]

    def build(self, schema: Schema) -> PointProcess:
        """The net for len(schema.classes) marks. Random numbers are seeded outside; the mean gap will be 1."""
        raise NotImplementedError(f"{type(self).__name__}.build")

    def recipe(self) -> Recipe:
        """How it is trained."""
        return Recipe((Stage(lr=5e-3),))

    def space(self) -> Mapping[str, Sequence[Any]]:
        """Hyperparameters worth tuning; none unless a subclass says so."""
        return {}

    def accepts(self, schema: Schema, task: Task) -> str | None:
        """Event sequences, to predict the next event."""
        if task.name != "next-event":
            return f"it predicts the next event, and the task is {task.name}"
        if schema.kind != "events":
            return f"to {task.name} is a task for events, and the data are {schema.kind}"
        return None

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> FittedPointProcess:
        """Count time in mean gaps, build, train, keep the weights that are best on the validation data.

        Raises:
            InputError: the data or the task are not accepted; and what `timecell.fit` raises.
        """
        require_accepted(self, train.schema, task)
        events, held_out = event_sequences(train), event_sequences(valid)
        unit = events.mean_gap
        with seeded(run.seed):
            net = self.build(events.schema)
        parameters = sum(p.numel() for p in net.parameters() if p.requires_grad)
        near, far, aim = events.scaled(unit), held_out.scaled(unit), cast(Task, MaximumLikelihood())
        trained = fit(net, near, aim, valid=far, recipe=self.recipe(), run=run)
        return FittedPointProcess(self, events.schema, task, unit, net, {"parameters": parameters, **trained.report()})


@dataclass(frozen=True)
class FittedPointProcess(FittedModule):
    """A trained point process with all that is needed to use it on new data of the same kind.

    Attributes:
        system: the hyperparameters.
        schema: of the training data.
        task: what was asked.
        unit: the mean gap of the training data, in which the net counts time.
        network: the net, in eval mode.
        report: how the training went.
    """

    system: PointProcessSystem
    schema: Schema
    task: Task
    unit: float
    network: PointProcess
    report: Mapping[str, Any] = field(default_factory=dict)

    def predict(self, data: Data) -> NextEvents:
        """The distribution of each event, in the data's own unit of time.

        Raises:
            InputError: the data have other marks than the training data.
        """
        events = event_sequences(data)
        require_same("classes", events.schema.classes, self.schema.classes)
        scaled = events.scaled(self.unit)
        device = device_of(self.network)
        with evaluating(self.network):
            answers = [answer_rows(self.network, batch.to(device)) for batch in _batches(scaled)]
        return self.task.prediction(torch.cat(answers), scaled).rescaled(self.unit)

    def config(self) -> dict[str, Any]:
        """With the unit of time."""
        return {**super().config(), "unit": self.unit}

    @classmethod
    def parts(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor], classes: Iterable[type]) -> dict[str, Any]:
        """With the unit of time."""
        return {**super().parts(config, tensors, classes), "unit": float(config["unit"])}

    @classmethod
    def untrained(cls, parts: Mapping[str, Any]) -> PointProcess:
        """As its system builds it."""
        net: PointProcess = parts["system"].build(parts["schema"])
        return net

    def note(self) -> str:
        """The unit of time."""
        return f"It counts time in units of {self.unit:.6g}, as does its score on validation data."


def answer_rows(net: PointProcess, batch: Batch) -> Float[Tensor, "R A"]:
    """A row for each event and each end of the batch, with the columns of `NextEvent.scores_from_outputs`."""
    said, rows = net.answer(batch.x, batch.lengths), next_rows(batch.x, batch.lengths)
    columns = torch.cat([torch.stack([said.log_time, said.median, said.mass], -1), said.log_mark], -1)
    return columns[rows.event | rows.tail].cpu()


def _batches(data: EventSequences) -> Iterable[Batch]:
    for start in range(0, len(data), BATCH):
        yield data.batch(np.arange(start, min(start + BATCH, len(data))))
