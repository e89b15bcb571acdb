"""The protocol of everything that can be fitted: `System` and `Fitted`, the `Task` that asks, the `Run` that allows.

A system sees training and validation data and never the test set. A task knows how to split, what to lose, how to
score and which simple baselines an honest comparison needs. Networks, ridge regressions, samplers and tensor
factorisations all stand behind these few methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from torch import Tensor

from timecell.card import Card
from timecell.data.containers import AnyData, Batch, Data, Kind, Schema
from timecell.data.splits import Splits
from timecell.errors import InputError

__all__ = ["Card", "Fitted", "Prediction", "Readout", "Run", "Scores", "Splits", "System", "Task"]

Readout = Literal["last", "mean", "max", "softmax_sum", "every", "count", "first_spike"]


@dataclass(frozen=True)
class Run:
    """What a fit may use. The budget is counted in optimiser updates, so that it means the same on any machine.

    Attributes:
        seed: of every random draw.
        updates: optimiser updates at most.
        seconds: a cap on wall time; None = no cap. Hitting it is reported, never hidden.
        folder: where checkpoints and curves go; None = nothing is written.
        resume: go on from the checkpoint in `folder` if there is one.
        device: "cpu", "cuda" or "auto".
        devices: how many of them; each computes its part of every batch, in a process of its own.
        progress: show a progress bar (or one line an epoch where the output is not a terminal).
        checkpoint_every: seconds of work that a kill can lose at most.
    """

    seed: int = 0
    updates: int = 500
    seconds: float | None = None
    folder: Path | None = None
    resume: bool = False
    device: str = "auto"
    devices: int = 1
    progress: bool = False
    checkpoint_every: float = 30.0

    def __post_init__(self) -> None:
        if isinstance(self.folder, str):  # a path written as text is a path
            object.__setattr__(self, "folder", Path(self.folder))
        if self.devices < 1:
            raise InputError("run.devices", found=self.devices, expected="at least 1", remedy="pass 1 to train on one")


@dataclass(frozen=True)
class Scores:
    """What came out: named metrics, which of them ranks, and the per-item values a paired bootstrap needs.

    Attributes:
        metrics: name -> value.
        primary: the metric that ranks.
        higher_is_better: direction of the primary metric.
        items: [N] the primary metric's contribution of each test item (correct 0/1, absolute error, ...).
        blocks: [N] a number for each item; items of one block are not independent (windows that overlap, events of one
            sequence) and a bootstrap draws them together. None: each item stands alone.
    """

    metrics: Mapping[str, float]
    primary: str
    higher_is_better: bool
    items: Any = None
    blocks: Any = None

    @property
    def value(self) -> float:
        """The primary metric."""
        return self.metrics[self.primary]


class Prediction(Protocol):
    """One frozen dataclass a task: `ClassScores`, `Forecasted`, ...; `arrays()` is what a file would hold."""

    def arrays(self) -> dict[str, Any]:
        """Named numpy arrays."""


class Task(Protocol):
    """What is asked of the data."""

    @property
    def name(self) -> str:
        """Name on the command line."""

    @property
    def kind(self) -> Kind:
        """The kind of data that it is about."""

    @property
    def needs_whole(self) -> str | None:
        """Why the loss needs all of T at once; None if it is a sum over steps (then any credit slices will do)."""

    def split(self, data: AnyData, seed: int = 0) -> Splits:
        """Train, validation and test parts that respect time and groups."""

    def score(self, prediction: Any, data: Data) -> Scores:
        """Metrics of a prediction for these data."""

    def baselines(self) -> list[System]:
        """What an honest comparison includes."""

    # A task may learn from the answers to the validation data, and say so in the answers to others:
    #     calibration(prediction, data) -> array or None;  calibrated(prediction, array) -> prediction

    # --- what a network needs -----------------------------------------------------------------------------------
    def outputs(self, data: Data) -> int:
        """Number of output units K a network needs."""

    def loss(self, y: Tensor, batch: Batch, steps: slice) -> Tensor:
        """Mean over samples of the loss that these steps contribute; y is [B, t, K]; slices add up to the whole."""

    def scores_from_outputs(self, y: Tensor, batch: Batch) -> Tensor:
        """Per-sample answer from the outputs of all steps [B, T, K]: class probabilities, or forecast values."""

    def prediction(self, answers: Tensor, data: Data) -> Any:
        """The task's prediction type from the answers of all samples."""


class Fitted(Protocol):
    """A system after `fit`."""

    def predict(self, data: Data) -> Any:
        """The task's prediction type for these data."""

    def save(self, folder: Path) -> None:
        """config.json + model.safetensors + README.md."""

    @property
    def report(self) -> Mapping[str, Any]:
        """What the fit says of itself: parameters, seconds, curves, synaptic operations, ... (JSON values)."""


class System(Protocol):
    """Anything that can be fitted. Implementations are frozen dataclasses whose fields are the hyperparameters."""

    @property
    def card(self) -> Card:
        """What it is."""

    def accepts(self, schema: Schema, task: Task) -> str | None:
        """None: yes. Else the reason, which is shown to the user."""

    def space(self) -> Mapping[str, Sequence[Any]]:
        """Hyperparameters worth tuning and the values to draw from; `dataclasses.replace` sets them."""

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> Fitted:
        """Learn from `train`, choose on `valid`; the test set is never passed."""


def require_accepted(system: System, schema: Schema, task: Task) -> None:
    """Refuse data or a task that a system does not accept, with its reason.

    Raises:
        InputError: it does not accept them.
    """
    reason = system.accepts(schema, task)
    if reason is not None:
        raise InputError(
            system.card.slug, found=reason, expected="data and a task that it accepts", remedy="choose another system"
        )
