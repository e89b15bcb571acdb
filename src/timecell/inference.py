"""What a net answers and how good it is: `predict` and `evaluate`, on all data, in eval mode, without a graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from timecell.credit.rule import run_slice
from timecell.data.containers import Batch, Data
from timecell.system import Scores, Task


class HasNetwork(Protocol):
    """What holds a net: `timecell.train.Trained`."""

    @property
    def network(self) -> nn.Module:
        """The net."""


def predict(model: nn.Module | HasNetwork, data: Data, task: Task, batch: int = 256) -> Any:
    """The task's prediction of a net for these data, `batch` samples at a time.

    Example:
        >>> from timecell.data.containers import Sequences
        >>> from timecell.tasks import Classify
        >>> class Sign(nn.Module):
        ...     def forward(self, x, state=None, *, lengths=None):
        ...         return torch.cat([-x, x], dim=2), None
        >>> data = Sequences.of([np.full((3, 1), v) for v in (-1.0, 2.0)], target=[0, 1])
        >>> predict(Sign(), data, Classify()).predicted.tolist()
        [0, 1]
        >>> evaluate(Sign(), data, Classify()).metrics["accuracy"]
        1.0
    """
    net = model if isinstance(model, nn.Module) else model.network
    with evaluating(net):
        answers = [task.scores_from_outputs(y, b).cpu() for y, b in _outputs(net, data, batch)]
    return task.prediction(torch.cat(answers), data)


def evaluate(model: nn.Module | HasNetwork, data: Data, task: Task, batch: int = 256) -> Scores:
    """The task's scores of a net on these data, `batch` samples at a time."""
    return task.score(predict(model, data, task, batch), data)


def assess(net: nn.Module, data: Data, task: Task, batch: int = 256) -> tuple[float, Scores]:
    """Mean loss over samples, and scores, in one pass."""
    answers, loss = [], 0.0
    with evaluating(net):
        for y, b in _outputs(net, data, batch):
            loss += len(b) * task.loss(y, b, slice(0, y.shape[1])).item()
            answers.append(task.scores_from_outputs(y, b).cpu())
    return loss / len(data), task.score(task.prediction(torch.cat(answers), data), data)


def device_of(net: nn.Module) -> torch.device:
    """Where its parameters are; the CPU for a net without any.

    Example:
        >>> device_of(nn.ReLU())
        device(type='cpu')
    """
    return next((p.device for p in net.parameters()), torch.device("cpu"))


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Inside, the net is in eval mode and builds no graph; afterwards each module is in the mode it was in."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _outputs(net: nn.Module, data: Data, size: int) -> Iterator[tuple[Float[Tensor, "B T K"], Batch]]:
    """The outputs of all samples, in order, with the batches they belong to."""
    device = device_of(net)
    for start in range(0, len(data), size):
        batch = data.batch(np.arange(start, min(start + size, len(data)))).to(device)
        yield run_slice(net, batch, slice(0, batch.x.shape[1]), None)[0], batch
