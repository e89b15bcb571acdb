"""`PointProcessSystem`: what is the same in every system whose net is a point process.

A published model of event sequences is a frozen dataclass of hyperparameters with a card and a method that builds a
`timecell.generate.point_process.PointProcess`. Time scales, training by maximum likelihood through `timecell.fit`,
prediction in the data's own unit of time and the files on disk are here, once. (`NetworkSystem` is for nets that know
nothing of events and answer with the numbers of a decoder.)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from timecell._version import __version__
from timecell.card import Card
from timecell.checkpoint import seeded
from timecell.config import from_dict, to_dict
from timecell.data.containers import Batch, Data, Kind, Schema
from timecell.data.event_sequences import EventSequences, next_rows
from timecell.errors import DataError, InputError, TimecellError
from timecell.generate.point_process import PointProcess
from timecell.inference import evaluating
from timecell.pretrained import read_folder, write_folder
from timecell.recipe import Recipe, Stage
from timecell.system import Run, Scores, Task
from timecell.tasks.event_predictions import NextEvents, event_sequences
from timecell.train import Trained, fit

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
        reason = self.accepts(train.schema, task)
        if reason is not None:
            raise InputError(
                self.card.slug, found=reason, expected="data and a task that it accepts", remedy="choose another system"
            )
        events, held_out = event_sequences(train), event_sequences(valid)
        unit = events.mean_gap
        with seeded(run.seed):
            net = self.build(events.schema)
        parameters = sum(p.numel() for p in net.parameters() if p.requires_grad)
        near, far, aim = events.scaled(unit), held_out.scaled(unit), cast(Task, MaximumLikelihood())
        trained = fit(net, near, aim, valid=far, recipe=self.recipe(), run=run)
        return FittedPointProcess(self, events.schema, task, unit, net, _report(trained, parameters))


@dataclass(frozen=True)
class FittedPointProcess:
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
        if events.schema.classes != self.schema.classes:
            raise InputError(
                "data.schema.classes", found=events.schema.classes, expected=f"{self.schema.classes}, as in training",
                remedy="name the marks in the same order",
            )  # fmt: skip
        scaled = events.scaled(self.unit)
        device = next((p.device for p in self.network.parameters()), torch.device("cpu"))
        with evaluating(self.network):
            answers = [answer_rows(self.network, batch.to(device)) for batch in _batches(scaled)]
        return self.task.prediction(torch.cat(answers), scaled).rescaled(self.unit)

    def save(self, folder: Path) -> None:
        """Write config.json, model.safetensors and README.md, each whole or not at all; `load` reads them."""
        config = {
            "timecell": __version__,
            "system": to_dict(self.system),
            "schema": to_dict(self.schema),
            "task": to_dict(self.task),
            "unit": self.unit,
            "report": to_dict(self.report),
        }
        write_folder(Path(folder), config, self.network.state_dict(), self._card_text())

    @classmethod
    def load(cls, folder: Path, classes: Iterable[type] = ()) -> FittedPointProcess:
        """What was saved in a folder.

        Args:
            folder: with config.json and model.safetensors.
            classes: systems or tasks from outside timecell that it may name.

        Raises:
            DataError: a file is missing or damaged, or the two do not belong together.
            InputError: the folder names a class that is neither timecell's nor one of `classes`.
        """
        folder = Path(folder)
        config, tensors = read_folder(folder)
        try:
            system, schema, task = (from_dict(config[key], classes) for key in ("system", "schema", "task"))
            unit, report = float(config["unit"]), config["report"]
            with seeded(0):
                net = system.build(schema)
            net.load_state_dict(tensors)
        except TimecellError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as e:
            raise DataError(
                str(folder), found=f"{type(e).__name__}: {e}", expected="config.json and model.safetensors from `save`",
                remedy="save the model again",
            ) from e  # fmt: skip
        return cls(system, schema, task, unit, net.eval(), report)

    def _card_text(self) -> str:
        card, best = self.system.card, self.report.get("best")
        settings = {k: v for k, v in to_dict(self.system).items() if k != "class"}
        lines = [
            f"# {card.title}", card.summary, f"Paper: {card.paper}" if card.paper else "",
            f"Task: {self.task.name}. {self.report.get('parameters')} trainable parameters, "
            f"{self.report.get('updates')} updates. It counts time in units of {self.unit:.6g}.",
            f"On validation data, in this unit: {best['metric']} {best['valid_score']:.4g} (chosen on them, so it flatters)."
            if best else "",
            f"Settings: `{json.dumps(settings)}`",
            "Load with `timecell.point_process_system.FittedPointProcess.load(folder)`.",
        ]  # fmt: skip
        return "\n\n".join(line for line in lines if line) + "\n"


def answer_rows(net: PointProcess, batch: Batch) -> Float[Tensor, "R A"]:
    """A row for each event and each end of the batch, with the columns of `NextEvent.scores_from_outputs`."""
    said, rows = net.answer(batch.x, batch.lengths), next_rows(batch.x, batch.lengths)
    columns = torch.cat([torch.stack([said.log_time, said.median, said.mass], -1), said.log_mark], -1)
    return columns[rows.event | rows.tail].cpu()


def _batches(data: EventSequences) -> Iterable[Batch]:
    for start in range(0, len(data), BATCH):
        yield data.batch(np.arange(start, min(start + BATCH, len(data))))


def _report(trained: Trained, parameters: int) -> dict[str, Any]:
    """What a fit says of itself, as JSON values."""
    return {
        "parameters": parameters,
        "updates": trained.updates,
        "seconds": trained.seconds,
        "stopped_early": trained.stopped_early,
        "hit_time_cap": trained.hit_time_cap,
        "best": trained.best,
        "history": list(trained.history),
    }
