"""`NetworkSystem`: what is the same in every system that is a network.

A published network is a frozen dataclass whose fields are its hyperparameters, with a card and three short methods:
what is built, how it is trained, what is worth tuning. Scaling, seeding, training, prediction in the data's own units
and the files on disk are here, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from timecell.card import Card
from timecell.checkpoint import seeded
from timecell.credit import BPTT, Credit
from timecell.data.containers import Data, Schema, Sequences
from timecell.data.scaling import Scale, scale_from_json, scale_of
from timecell.fitted_module import FittedModule
from timecell.inference import device_of, predict
from timecell.lens import synaptic_operations
from timecell.recipe import Recipe
from timecell.system import Run, Task, require_accepted
from timecell.tasks.truth import require_same
from timecell.train import Trained, fit


@dataclass(frozen=True)
class NetworkSystem:
    """Base of the systems that are networks. A subclass is a frozen dataclass of hyperparameters.

    Attributes:
        card: what it is.
        made_for: names of the tasks that it can do; empty: every task that says what its outputs mean.

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
    made_for: ClassVar[tuple[str, ...]] = ()

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
        """The tasks it is made for that say what their outputs mean (`Task.outputs`), on data of their kind."""
        if self.made_for and task.name not in self.made_for:
            *others, last = self.made_for
            can = " and ".join(filter(None, [", ".join(others), last]))
            return f"it can {can}; the task is {task.name}"
        if not hasattr(task, "outputs"):
            return f"it answers [B, T, K], and the task {task.name} asks for something else"
        if schema.kind != task.kind:
            return f"to {task.name} is a task for {task.kind}, and the data are {schema.kind}"
        if task.name == "classify" and len(schema.classes or ()) < 2:
            return "there are fewer than two classes"
        return None

    def asked(self, task: Task) -> Task:
        """The task as it is put to this network; it may have a readout or a loss of its own."""
        return task

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> FittedNetwork:
        """Scale as the training data say, build, train, keep the weights that are best on the validation data.

        Raises:
            InputError: the data or the task are not accepted; and what `timecell.fit` raises.
        """
        require_accepted(self, train.schema, task)
        task, scale = self.asked(task), scale_of(train)
        near, held_out = scale.data(train), scale.data(valid)
        outputs = task.outputs(train)
        with seeded(run.seed):
            net = self.build(train.schema, outputs)
        parameters = sum(p.numel() for p in net.parameters() if p.requires_grad)  # before a stage may freeze some
        trained = fit(net, near, task, valid=held_out, credit=self.credit(), recipe=self.recipe(), run=run)
        fitted = FittedNetwork(self, train.schema, task, scale, outputs, net, report_of(trained, parameters, held_out))
        return fitted.calibrated(valid)


@dataclass(frozen=True)
class FittedNetwork(FittedModule):
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

    weights: ClassVar[str] = "network."

    def predict(self, data: Data) -> Any:
        """The task's prediction, in the units of the data.

        Raises:
            InputError: the data have other channels than the training data.
        """
        require_same("channels", data.schema.channels, self.schema.channels)
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

    def config(self) -> dict[str, Any]:
        """With the scale and the number of outputs."""
        return {**super().config(), "scale": self.scale.to_json(), "outputs": self.outputs}

    def tensors(self) -> dict[str, Tensor]:
        """With the calibration."""
        known = {} if self.calibration is None else {"calibration": torch.from_numpy(self.calibration)}
        return {**super().tensors(), **known}

    @classmethod
    def parts(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor], classes: Iterable[type]) -> dict[str, Any]:
        """With scale, outputs and calibration."""
        calibration = tensors["calibration"].numpy() if "calibration" in tensors else None
        scale = scale_from_json(config["scale"])
        named = super().parts(config, tensors, classes)
        return {**named, "scale": scale, "outputs": config["outputs"], "calibration": calibration}

    @classmethod
    def untrained(cls, parts: Mapping[str, Any]) -> nn.Module:
        """As its system builds it, with what the recipe changes in the course of a training as it is at the end."""
        net: nn.Module = parts["system"].build(parts["schema"], parts["outputs"])
        recipe = parts["system"].recipe()
        recipe.reach(net, recipe.last, 1.0)
        return net


def report_of(trained: Trained, parameters: int, valid: Data) -> dict[str, Any]:
    """What a fit says of itself, as JSON values; operations are means over at most 256 validation samples."""
    sample = valid.batch(np.arange(min(256, len(valid))))
    operations = synaptic_operations(trained.network, sample.to(device_of(trained.network)))
    return {"parameters": parameters, "synaptic_operations": operations, **trained.report()}
