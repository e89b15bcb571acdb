"""Training: `fit` a net to data, `evaluate` it, `predict` with it.

    for each batch: for each slice of time that the credit rule visits: run, blame, detach the state; clip; step

What happens at an update is a function of its number alone: which samples (a permutation drawn from the seed and the
epoch), which learning rate, which annealed values. So a run can stop after any update, be written down
(`timecell.checkpoint`) and go on with the same bits.
"""

from __future__ import annotations

import math
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from timecell import checkpoint
from timecell.checkpoint import Checkpoint, seeded
from timecell.config import class_name, to_dict
from timecell.credit import BPTT, Credit
from timecell.credit.rule import require_sliceable, run_slice
from timecell.data.containers import Batch, Data
from timecell.errors import InputError, TimecellError
from timecell.progress import Display, display
from timecell.recipe import Recipe, Stage
from timecell.state import detach
from timecell.system import Run, Scores, Splits, Task


@dataclass(frozen=True)
class Trained:
    """A net after `fit`.

    Attributes:
        network: the net that was given, in eval mode, with the best weights.
        history: one row a validation: update, stage, train_loss, valid_loss, valid_score, metric.
        best: the row whose weights the net has; None without validation data (then it has the last weights).
        updates: optimiser updates that were made.
        seconds: wall time, over all sessions of a resumed run.
        stopped_early: patience ran out.
        hit_time_cap: `run.seconds` ran out before the updates did.
    """

    network: nn.Module
    history: tuple[Mapping[str, Any], ...]
    best: Mapping[str, Any] | None
    updates: int
    seconds: float
    stopped_early: bool
    hit_time_cap: bool


def fit(
    net: nn.Module,
    data: Data | Splits,
    task: Task,
    *,
    valid: Data | None = None,
    credit: Credit = BPTT(),  # noqa: B008 - frozen, as are the other defaults
    recipe: Recipe = Recipe(),  # noqa: B008
    run: Run = Run(),  # noqa: B008
) -> Trained:
    """Train a net.

    Args:
        net: ``net(x, state=None, lengths=lengths) -> (y, state)`` with x [B, T, C] and y [B, T, K]; trained in place.
        data: what to learn from; of `Splits` the training and validation parts (the test part is not touched).
        task: what is asked: it has the loss and the score.
        valid: what to choose the best weights on, by the task's primary metric, ties by loss.
        credit: how blame travels.
        recipe: stages, learning rates, batches, patience.
        run: seed, budget, device, folder for checkpoints.

    Raises:
        InputError: before training, for a rule that does not fit the task or the net, for a checkpoint of another run.
        DataError: for a damaged checkpoint.
        TimecellError: for a loss or gradient that is not finite.

    Ctrl-C (and a polite kill) lets the update that is running finish, writes a checkpoint and then stops.

    Example:
        >>> from timecell.data.containers import Sequences
        >>> from timecell.tasks import Classify
        >>> class Mean(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.out = nn.Linear(1, 2)
        ...     def forward(self, x, state=None, *, lengths=None):
        ...         return self.out(x), None
        >>> label = np.arange(40) % 2
        >>> data = Sequences.of([np.full((5, 1), 2.0 * k - 1) for k in label], label)
        >>> trained = fit(Mean(), data, Classify(), valid=data, run=Run(updates=20, device="cpu"))
        >>> trained.updates, evaluate(trained, data, Classify()).metrics["accuracy"]
        (20, 1.0)
    """
    train, valid = (data.train, data.valid) if isinstance(data, Splits) else (data, valid)
    for name, part in (("data", train), ("valid", valid)):
        if part is not None and len(part) == 0:
            raise InputError(name, found="no samples", expected="at least one", remedy="check how the data were split")
    require_sliceable(credit, net, task, train.schema.lengths[1])
    with seeded(run.seed):
        return _Training(net, train, valid, task, credit, recipe, run).run_all()


def evaluate(model: nn.Module | Trained, data: Data, task: Task, batch: int = 256) -> Scores:
    """The task's scores of a net on these data; `batch` samples at a time."""
    return task.score(predict(model, data, task, batch), data)


def predict(model: nn.Module | Trained, data: Data, task: Task, batch: int = 256) -> Any:
    """The task's prediction of a net for these data; `batch` samples at a time."""
    net = model.network if isinstance(model, Trained) else model
    with evaluating(net):
        answers = [task.scores_from_outputs(y, b).cpu() for y, b in _outputs(net, data, batch)]
    return task.prediction(torch.cat(answers), data)


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


def _outputs(net: nn.Module, data: Data, size: int) -> Iterator[tuple[Tensor, Batch]]:
    """Outputs [B, T, K] for all samples in order."""
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    for start in range(0, len(data), size):
        batch = data.batch(np.arange(start, min(start + size, len(data)))).to(device)
        yield run_slice(net, batch, slice(0, batch.x.shape[1]), None)[0], batch


def _assess(net: nn.Module, data: Data, task: Task, size: int) -> tuple[float, Scores]:
    """Mean loss and scores in one pass."""
    answers, loss = [], 0.0
    with evaluating(net):
        for y, batch in _outputs(net, data, size):
            loss += len(batch) * task.loss(y, batch, slice(0, y.shape[1])).item()
            answers.append(task.scores_from_outputs(y, batch).cpu())
    return loss / len(data), task.score(task.prediction(torch.cat(answers), data), data)


@dataclass
class _Position:
    """Where a run is: all of it that is neither a tensor nor a function of the update's number."""

    update: int = 0
    stage: int = -1
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    stale: int = 0
    losses: list[float] = field(default_factory=list)  # of the updates since the last validation
    stopped: bool = False


class _Training:
    """One run of `fit`."""

    def __init__(
        self, net: nn.Module, train: Data, valid: Data | None, task: Task, credit: Credit, recipe: Recipe, run: Run
    ) -> None:
        self.net, self.train, self.valid, self.task = net, train, valid, task
        self.credit, self.recipe, self.run = credit, recipe, run
        self.ends = recipe.ends(run.updates)
        self.epoch_updates = math.ceil(len(train) / recipe.batch)
        self.at = _Position()
        self.best_weights: dict[str, Tensor] | None = None
        self.fabric = _fabric(run.device)
        self.optimizer: Any = None
        self._epoch: tuple[int, list[Int[np.ndarray, "B"]]] | None = None

    # --- the course of a run ---------------------------------------------------------------------------------------

    def run_all(self) -> Trained:
        """Every stage from where the run is, then the best weights."""
        self.config  # noqa: B018 - what the net is before anything changes it
        self._resume()
        self.model = self.fabric.setup_module(self.net)
        self.net.train()
        self.begun = time.monotonic() - self.at.seconds
        self.saved = time.monotonic()
        with _signals() as caught, display(self.run.progress, self.run.updates, self.at.update) as show:
            for number in range(max(self.at.stage, 0), len(self.recipe.stages)):
                if number > self.at.stage and not self._expired:
                    self._begin(number)
                while self.at.update < self.ends[number] and not self.at.stopped and not self._expired:
                    self._update(self.recipe.stages[number], show)
                    if caught:
                        self._leave(caught[0])
                    if self.run.folder and time.monotonic() - self.saved >= self.run.checkpoint_every:
                        self._save()
            self._save()
            self._finish(show)
        at = self.at
        expired = at.update < self.run.updates and not at.stopped
        return Trained(self.net, tuple(at.history), at.best, at.update, at.seconds, at.stopped, expired)

    @property
    def _expired(self) -> bool:
        self.at.seconds = time.monotonic() - self.begun
        return self.run.seconds is not None and self.at.seconds >= self.run.seconds

    def _begin(self, number: int) -> None:
        stage = self.recipe.stages[number]
        stage.begin(self.net)
        self.at.stage = number
        self.optimizer = self._optimizer(stage)

    def _optimizer(self, stage: Stage) -> Any:
        groups = stage.groups(self.net)
        if not groups:
            raise InputError(
                "net", found="no parameter that can be trained", expected="at least one with requires_grad",
                remedy="leave fit out for a net that is fixed",
            )  # fmt: skip
        return self.fabric.setup_optimizers(torch.optim.AdamW(groups))

    def _finish(self, show: Display) -> None:
        """The net as it is used: all stages begun, annealed values at their ends, the best weights."""
        self.recipe.finish(self.net, begun=self.at.stage + 1)
        settled_before = self.at.stage == len(self.recipe.stages) - 1 and self._settled
        self.at.stage = len(self.recipe.stages) - 1
        if not (settled_before and self.at.history and self.at.history[-1]["update"] == self.at.update):
            self._validate(show, candidate=True)
        if self.best_weights is not None:
            self.net.load_state_dict(self.best_weights)
        self.net.eval()

    # --- one update ------------------------------------------------------------------------------------------------

    @property
    def _done(self) -> float:
        """How much of the stage is done."""
        start, end = (0, *self.ends)[self.at.stage], self.ends[self.at.stage]
        return (self.at.update - start) / (end - start) if end > start else 1.0

    @property
    def _settled(self) -> bool:
        return self.recipe.stages[self.at.stage].settled(self._done)

    def _batch(self) -> Batch:
        epoch, position = divmod(self.at.update, self.epoch_updates)
        if self._epoch is None or self._epoch[0] != epoch:
            order = np.random.default_rng([self.run.seed, epoch]).permutation(len(self.train))
            self._epoch = (epoch, np.array_split(order, self.epoch_updates))
        return self.train.batch(self._epoch[1][position]).to(self.fabric.device)

    def _update(self, stage: Stage, show: Display) -> None:
        batch = self._batch()
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * stage.rate(self._done)
        self.optimizer.zero_grad()
        loss, state = 0.0, None
        for steps in self.credit.slices(batch.x.shape[1]):
            part, state = self.credit.backward(
                self.model, batch, steps, state, self.task.loss, self.fabric.backward
            )  # fmt: skip
            loss, state = loss + part.item(), detach(state)
        self._require_finite("loss", loss, stage)
        norm = self.fabric.clip_gradients(
            self.model, self.optimizer, max_norm=stage.clip or math.inf, error_if_nonfinite=False
        )
        self._require_finite("gradient norm", norm.item(), stage)
        self.optimizer.step()
        for module in self.net.modules():
            if hasattr(module, "constrain"):
                module.constrain()
        self.at.update += 1
        self.at.losses.append(loss)
        stage.set_annealed(self.net, self._done)
        show.updated(self.at.update, loss)
        every = self.recipe.validate_every or self.epoch_updates
        if self.at.update % every == 0 or self.at.update in self.ends:
            self._validate(show, candidate=self.at.stage == len(self.recipe.stages) - 1 and self._settled)

    def _require_finite(self, what: str, value: float, stage: Stage) -> None:
        if math.isfinite(value):
            return
        rows = [r["train_loss"] for r in self.at.history if r["train_loss"] is not None]
        last = (self.at.losses or rows or [None])[-1]
        raise TimecellError(
            f"{what} at update {self.at.update + 1}", found=value,
            expected="a finite number" + ("" if last is None else f" (the last finite loss was {last:.4g})"),
            remedy=f"lower lr ({stage.lr:g}), clip the gradient (clip={stage.clip}), or look for NaN or very large values in the data",
        )  # fmt: skip

    # --- validation ------------------------------------------------------------------------------------------------

    def _validate(self, show: Display, candidate: bool) -> None:
        """Write a row of the history; keep the weights if they are candidates and the best so far."""
        at = self.at
        row: dict[str, Any] = {"update": at.update, "stage": at.stage}
        row["train_loss"] = math.fsum(at.losses) / len(at.losses) if at.losses else None
        at.losses = []
        at.history.append(row)
        if self.valid is not None:
            loss, scores = _assess(self.net, self.valid, self.task, 4 * self.recipe.batch)
            row |= {"valid_loss": loss, "valid_score": scores.value, "metric": scores.primary}
            if candidate and _better(row, at.best, scores.higher_is_better):
                at.best, at.stale = row, 0
                self.best_weights = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
            elif candidate:
                at.stale += 1
                at.stopped = self.recipe.patience is not None and at.stale >= self.recipe.patience
        show.validated(row)

    # --- stopping and going on -------------------------------------------------------------------------------------

    @cached_property
    def config(self) -> dict[str, Any]:
        """All that must be the same when a run is resumed."""
        annealed = {a.attribute.rpartition(".")[2] for stage in self.recipe.stages for a in stage.anneal}
        return {
            "recipe": to_dict(self.recipe),
            "credit": to_dict(self.credit),
            "task": to_dict(self.task),
            "seed": self.run.seed,
            "updates": self.run.updates,
            "network": describe(self.net, without=annealed),
            "train": self.train.fingerprint,
            "valid": None if self.valid is None else self.valid.fingerprint,
        }

    def _save(self) -> Path | None:
        if self.run.folder is None:
            return None
        random_tensors, random_rest = checkpoint.random_states()
        states = self.optimizer.state_dict()["state"] if self.optimizer is not None else {}
        tensors: dict[str, Mapping[str, Tensor]] = {
            "model": self.net.state_dict(),
            "optimizer": {f"{i}.{name}": t for i, state in states.items() for name, t in state.items()},
            "random": random_tensors,
        }
        if self.best_weights is not None:
            tensors["best"] = self.best_weights
        state = {
            "position": asdict(self.at),
            "random": random_rest,
            "config": self.config,
            "machine": _machine(),
        }
        path = checkpoint.save(self.run.folder, self.at.update, Checkpoint(tensors, state))
        self.saved = time.monotonic()
        return path

    def _resume(self) -> None:
        """Go on from the checkpoint in the run's folder, if that is wanted and there is one."""
        folder, path = self.run.folder, self.run.folder and checkpoint.latest(self.run.folder)
        if self.run.resume and folder is None:
            raise InputError("run.resume", found="no folder", expected="run.folder", remedy="name the folder to resume from")
        if path is None:
            return
        if not self.run.resume:
            raise InputError(
                "run.folder", found=f"{path.name} in {folder}", expected="a folder without a checkpoint",
                remedy="pass resume=True to go on from it, or another folder to start anew",
            )  # fmt: skip
        loaded = checkpoint.load(path)
        checkpoint.require_same(self.config, loaded.state["config"], "run.resume")
        if _machine() != loaded.state["machine"]:
            now, then = (", ".join(f"{k} {v}" for k, v in m.items()) for m in (_machine(), loaded.state["machine"]))
            warnings.warn(f"resuming with {now} what began with {then}: the last bits may differ", stacklevel=4)
        self.at = _Position(**loaded.state["position"])
        for number in range(self.at.stage + 1):
            self.recipe.stages[number].begin(self.net)
        self.net.load_state_dict(loaded.tensors["model"])
        ...
