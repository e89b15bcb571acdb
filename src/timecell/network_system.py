"""`NetworkSystem`: what is the same in every system that is a network.

A published network is a frozen dataclass whose fields are its hyperparameters, with a card and three short methods:
what is built, how it is trained, what is worth tuning. Scaling, seeding, training, prediction in the data's own units
and the files on disk are here, once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Shaped
from torch import nn

from timecell._version import __version__
from timecell.card import Card
from timecell.checkpoint import seeded
from timecell.config import from_dict, to_dict
from timecell.credit import BPTT, Credit
from timecell.data.containers import Data, Schema, Sequences
from timecell.data.scaling import Scale, scale_from_json, scale_of
from timecell.errors import DataError, InputError, TimecellError
from timecell.inference import predict
from timecell.lens import synaptic_operations
from timecell.pretrained import read_folder, write_folder
from timecell.recipe import Recipe
from timecell.system import Run, Task
from timecell.train import Trained, fit


@dataclass(frozen=True)
class NetworkSystem:
    """Base of the systems that are networks. A subclass is a frozen dataclass of hyperparameters.

    Example:
        >>> from timecell import LeakyIntegrator, Sequential
        >>> from timecell.data.containers import Sequences
        >>> from timecell.tasks import Classify
        >>> @dataclass(frozen=True)
        ... class Leaky(NetworkSystem):
        ...     card = Card("leaky", "A leaky readout", "One linear layer and a leak.", "example")
        ...     tau: float = 5.0
        ...
        ...     def build(self, schema, outputs):
        ...         return Sequential(nn.Linear(len(schema.channels), outputs), LeakyIntegrator(outputs, tau=self.tau))
        >>> label = np.arange(40) % 2
        >>> data = Sequences.of([np.full((5, 1), float(k)) for k in label], label)
        >>> fitted = Leaky().fit(data, data, Classify(), Run(updates=30, device="cpu"))
        >>> bool((fitted.predict(data).predicted == label).all())
        True
    """

    card: ClassVar[Card]

    def build(self, schema: Schema, outputs: int) -> nn.Module:
        """The net: x [B, T, C] with the schema's channels to y [B, T, outputs]. Random numbers are seeded outside."""
        raise NotImplementedError(f"{type(self).__name__}.build")

    def recipe(self) -> Recipe:
        """How it is trained."""
        return Recipe()

    def credit(self) -> Credit:
        """How blame travels."""
        return BPTT()

    def space(self) -> Mapping[str, Sequence[Any]]:
        """Hyperparameters worth tuning; none unless a subclass says so."""
        return {}

    def accepts(self, schema: Schema, task: Task) -> str | None:
        """Every task that says what its outputs mean (`Task.outputs`), on data of its kind."""
        if not hasattr(task, "outputs"):
            return f"it answers [B, T, K], and the task {task.name} asks for something else"
        if schema.kind != task.kind:
            return f"to {task.name} is a task for {task.kind}, and the data are {schema.kind}"
        if task.name == "classify" and len(schema.classes or ()) < 2:
            return "there are fewer than two classes"
        return None

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> FittedNetwork:
        """Scale as the training data say, build, train, keep the weights that are best on the validation data.

        Raises:
            InputError: the data or the task are not accepted; and what `timecell.fit` raises.
        """
        reason = self.accepts(train.schema, task)
        if reason is not None:
            raise InputError(
                self.card.slug, found=reason, expected="data and a task that it accepts", remedy="choose another system"
            )
        scale = scale_of(train)
        near, held_out = scale.data(train), scale.data(valid)
        outputs = task.outputs(train)
        with seeded(run.seed):
            net = self.build(train.schema, outputs)
        parameters = sum(p.numel() for p in net.parameters() if p.requires_grad)  # before a stage may freeze some
        trained = fit(net, near, task, valid=held_out, credit=self.credit(), recipe=self.recipe(), run=run)
        fitted = FittedNetwork(self, train.schema, task, scale, outputs, net, report_of(trained, parameters, held_out))
        return fitted.calibrated(valid)


@dataclass(frozen=True)
class FittedNetwork:
    """A trained network with all that is needed to use it on new data of the same kind.

    Attributes:
        system: the hyperparameters.
        schema: of the training data.
        task: what was asked.
        scale: of the inputs, measured on the training data.
        outputs: output units.
        network: the net, in eval mode.
        report: how the training went.
        calibration: what the task learnt from the answers to the validation data (how wide a forecast is, above which
            score a step is an anomaly); None where it learns nothing of them.
    """

    system: NetworkSystem
    schema: Schema
    task: Task
    scale: Scale
    outputs: int
    network: nn.Module
    report: Mapping[str, Any] = field(default_factory=dict)
    calibration: Shaped[np.ndarray, "..."] | None = None

    def predict(self, data: Data) -> Any:
        """The task's prediction, in the units of the data.

        Raises:
            InputError: the data have other channels than the training data.
        """
        if data.schema.channels != self.schema.channels:
            raise InputError(
                "data.schema.channels", found=data.schema.channels, expected=f"{self.schema.channels}, as in training",
                remedy="bring the same columns in the same order",
            )  # fmt: skip
        prediction = predict(self.network, self.scale.data(self._known(data)), self.task)
        units = self.scale.of_answers(data)
        if units is not None and hasattr(prediction, "rescaled"):
            prediction = prediction.rescaled(units)
        if self.calibration is None:
            return prediction
        return cast(Any, self.task).calibrated(prediction, self.calibration)

    def _known(self, data: Data) -> Data:
        """Sequences as what they were in training: counts or not, whatever these happen to look like, of its classes."""
        if not isinstance(data, Sequences):
            return data
        schema = replace(data.schema, spikes=self.schema.spikes, classes=self.schema.classes)
        return replace(data, schema=schema, target=None)

    def calibrated(self, valid: Data) -> FittedNetwork:
        """The same with what the task learns from its answers to these data, if it learns anything of them."""
        if not hasattr(self.task, "calibration"):
            return self
        return replace(self, calibration=self.task.calibration(self.predict(valid), valid))

    def save(self, folder: Path) -> None:
        """Write config.json, model.safetensors and README.md, each whole or not at all; `load` reads them."""
        config = {
            "timecell": __version__,
            "system": to_dict(self.system),
            "schema": to_dict(self.schema),
            "task": to_dict(self.task),
            "scale": self.scale.to_json(),
            "outputs": self.outputs,
            "report": to_dict(self.report),
        }
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        if self.calibration is not None:
            tensors["calibration"] = torch.from_numpy(self.calibration)
        write_folder(Path(folder), config, tensors, self._card_text())

    @classmethod
    def load(cls, folder: Path, classes: Iterable[type] = ()) -> FittedNetwork:
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
        place = folder / "config.json"
        try:
            system, schema, task = (from_dict(config[key], classes) for key in ("system", "schema", "task"))
            scale, outputs, report = scale_from_json(config["scale"]), config["outputs"], config["report"]
            with seeded(0):
                net = system.build(schema, outputs)
            recipe = system.recipe()
            recipe.reach(net, recipe.last, 1.0)
            place = folder / "model.safetensors"
            calibration = tensors.pop("calibration", None)
            net.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items()})
        except TimecellError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as e:
            raise DataError(
                str(place), found=f"{type(e).__name__}: {e}", expected="the file as `save` wrote it",
                remedy="save the model again",
            ) from e  # fmt: skip
        array = None if calibration is None else calibration.numpy()
        return cls(system, schema, task, scale, outputs, net.eval(), report, array)

    def _card_text(self) -> str:
        card, best = self.system.card, self.report.get("best")
        settings = {k: v for k, v in to_dict(self.system).items() if k != "class"}
        lines = [
            f"# {card.title}", card.summary, f"Paper: {card.paper}" if card.paper else "",
            f"Task: {self.task.name}. {self.report.get('parameters')} trainable parameters, "
            f"{self.report.get('updates')} updates.",
            f"On validation data: {best['metric']} {best['valid_score']:.4g} (chosen on them, so it flatters)." if best else "",
            f"Settings: `{json.dumps(settings)}`",
            "Load with `timecell.network_system.FittedNetwork.load(folder)`.",
        ]  # fmt: skip
        return "\n\n".join(line for line in lines if line) + "\n"


def report_of(trained: Trained, parameters: int, valid: Data) -> dict[str, Any]:
    """What a fit says of itself, as JSON values; operations are means over at most 256 validation samples."""
    sample = valid.batch(np.arange(min(256, len(valid))))
    device = next((p.device for p in trained.network.parameters()), torch.device("cpu"))
    return {
        "parameters": parameters,
        "synaptic_operations": synaptic_operations(trained.network, sample.to(device)),
        "updates": trained.updates,
        "seconds": trained.seconds,
        "stopped_early": trained.stopped_early,
        "hit_time_cap": trained.hit_time_cap,
        "best": trained.best,
        "history": list(trained.history),
    }
