"""Training: `fit` a net to data.

    for each batch: for each slice of time that the credit rule visits: run, blame, detach the state; clip; step

What happens at an update is a function of its number alone: which samples (a permutation drawn from seed and epoch),
which learning rate, which annealed values. So a run can stop after any update, be written down
(`timecell.checkpoint`) and go on with the same bits.
"""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor, nn

from timecell import checkpoint, distributed
from timecell.checkpoint import Checkpoint, seeded, unchanged
from timecell.config import to_dict
from timecell.credit import BPTT, Credit
from timecell.credit.rule import require_sliceable
from timecell.data.containers import Batch, Data
from timecell.distributed import World
from timecell.errors import InputError, TimecellError
from timecell.inference import assess, evaluate, predict
from timecell.interrupt import noted
from timecell.progress import Display, display
from timecell.recipe import Recipe, Stage
from timecell.state import detach
from timecell.system import Run, Scores, Splits, Task

__all__ = ["Trained", "evaluate", "fit", "predict"]


@dataclass(frozen=True)
class Trained:
    """A net after `fit`.

    Attributes:
        network: the net that was given, in eval mode, with the best weights.
        history: one row a validation: update, stage, candidate, train_loss, valid_loss, valid_score, metric.
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

    def report(self) -> dict[str, Any]:
        """All but the net, as JSON values."""
        names = ("updates", "seconds", "stopped_early", "hit_time_cap", "best")
        return {**{name: getattr(self, name) for name in names}, "history": list(self.history)}


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

    Ctrl-C (and a polite kill) lets the running update finish, writes a checkpoint if there is a folder, and then stops.

    Args:
        net: ``net(x, state=None, lengths=lengths) -> (y, state)`` with x [B, T, C] and y [B, T, K]; trained in place.
        data: what to learn from; of `Splits` the training and validation parts (the test part is not touched).
        task: what is asked: it has the loss and the score.
        valid: what to choose the best weights on, by the task's primary metric, ties by loss.
        credit: how blame travels.
        recipe: stages, learning rates, batches, patience.
        run: seed, budget, devices, folder for checkpoints. Several devices make the updates that one would make, up to
            rounding and to random draws such as dropout's.

    Raises:
        InputError: before training, for a rule that does not fit the task or the net, or a checkpoint of another run.
        DataError: for a damaged checkpoint.
        TimecellError: for a loss or gradient that is not finite; or a training process that died.

    Example:
        >>> from timecell.data.containers import Sequences
        >>> from timecell.tasks import Classify
        >>> class Instant(nn.Linear):
        ...     def forward(self, x, state=None, *, lengths=None):
        ...         return super().forward(x), None
        >>> label = np.arange(40) % 2
        >>> data = Sequences.of([np.full((5, 1), 2.0 * k - 1) for k in label], label)
        >>> recipe, run = Recipe((Stage(lr=0.1),)), Run(updates=30, device="cpu")
        >>> trained = fit(Instant(1, 2), data, Classify(), valid=data, recipe=recipe, run=run)
        >>> trained.updates, trained.best["metric"], trained.best["valid_score"]
        (30, 'accuracy', 1.0)
    """
    train, valid = (data.train, data.valid) if isinstance(data, Splits) else (data, valid)
    for name, part in (("data", train), ("valid", valid)):
        if part is not None and len(part) == 0:
            raise InputError(name, found="no samples", expected="at least one", remedy="check how the data were split")
    require_sliceable(credit, net, task, train.schema.lengths[1])
    joined = distributed.join()
    distributed.require_devices(run, smallest=len(train) // math.ceil(len(train) / recipe.batch))
    work = partial(_in_this_process, net, train, valid, task, credit, recipe, run)
    if joined or run.devices == 1:
        return work(distributed.never)
    trained = distributed.launch(work, run.devices)
    recipe.reach(net, recipe.last, 1.0)
    net.load_state_dict(trained.network.state_dict())
    return replace(trained, network=net.eval())


def _in_this_process(
    net: nn.Module, train: Data, valid: Data | None, task: Task, credit: Credit, recipe: Recipe, run: Run,
    stop: Callable[[], bool],
) -> Trained:  # fmt: skip
    """Train alone, or as one of several; `stop` says that whoever launched them wants an end."""
    world = World(stop)
    with seeded(run.seed if world.rank == 0 else _seed_of(run.seed, world.rank)):
        return _Training(net, train, valid, task, credit, recipe, run, world).all_stages()


@dataclass
class _Position:
    """Where a run is: all of it that is neither a tensor nor a function of the update's number."""

    update: int = 0
    stage: int = -1
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    stale: int = 0
    stopped: bool = False
    losses: list[float] = field(default_factory=list)  # since the last validation


class _Training:
    """One call of `fit`."""

    def __init__(
        self, net: nn.Module, train: Data, valid: Data | None, task: Task, credit: Credit, recipe: Recipe, run: Run,
        world: World,
    ) -> None:  # fmt: skip
        self.net, self.train, self.valid, self.task = net, train, valid, task
        self.credit, self.recipe, self.run, self.world = credit, recipe, run, world
        self.ends = recipe.ends(run.updates)
        self.epoch_updates = math.ceil(len(train) / recipe.batch)
        self.epoch: tuple[int, list[Int[np.ndarray, "B"]]] = (-1, [])
        self.at = _Position()
        self.best_weights: dict[str, Tensor] | None = None
        self.optimizer: Any = None
        self.fabric = _fabric(run, world)
        self.folder = Path(run.folder) if run.folder else None
        self.config = self._config() if self.folder else {}  # of the net as it is now, before a stage changes it
        resumed = self._find_checkpoint()
        if resumed:
            self._load_net(resumed)
        self.model = self.fabric.setup_module(net)
        if resumed:
            self._load_rest(resumed)
        self.begun = time.monotonic() - self.at.seconds
        self.saved = time.monotonic()

    # --- the course of a run ---------------------------------------------------------------------------------------

    def all_stages(self) -> Trained:
        """Every stage from where the run is; then the best weights."""
        at, world = self.at, self.world
        self.net.train()
        with noted() as caught, self._shown() as show, world.synchronised(self.net):
            stop, expired, _ = self._agreed(caught)
            for number, stage in enumerate(self.recipe.stages):
                if number > at.stage and not (stop or expired):
                    self._begin(number)
                while at.update < self.ends[number] and not (at.stopped or stop or expired):
                    self._update(stage, show)
                    stop, expired, due = self._agreed(caught)
                    if due:
                        self._save()
            self._save()
            stopped, capped = at.stopped, at.update < self.run.updates and not at.stopped
            if stop:
                self._say_how_to_resume()
            else:
                self._finish(show)
        if stop:  # the signal went to another of the processes
            raise KeyboardInterrupt
        return Trained(self.net, tuple(at.history), at.best, at.update, self.seconds, stopped, capped)

    def _agreed(self, caught: list[int]) -> list[bool]:
        """Is somebody to stop, is the time up, is a checkpoint due? All processes get the same answers."""
        due = time.monotonic() - self.saved >= self.run.checkpoint_every
        return self.world.any(bool(caught) or self.world.stop(), self.expired, due)

    def _shown(self) -> Any:
        return display(self.run.progress and self.world.rank == 0, self.run.updates, self.at.update)

    @property
    def seconds(self) -> float:
        """Wall time of this run, all its sessions together."""
        return time.monotonic() - self.begun

    @property
    def expired(self) -> bool:
        """True once the cap on wall time is reached."""
        return self.run.seconds is not None and self.seconds >= self.run.seconds

    def _begin(self, number: int) -> None:
        self.at.stage = number
        self.recipe.stages[number].begin(self.net)
        self.world.make_equal(self.net)
        self._make_optimizer()

    def _make_optimizer(self) -> None:
        self.optimizer = self.fabric.setup_optimizers(self.recipe.stages[self.at.stage].optimiser(self.net))

    def _finish(self, show: Display) -> None:
        """The net as it is used: every stage begun, annealed values at their ends, the best weights."""
        self.recipe.reach(self.net, self.recipe.last, 1.0, begun=self.at.stage + 1)
        self.at.stage = self.recipe.last
        last = self.at.history[-1] if self.at.history else None
        if last is None or last["update"] < self.at.update or not last["candidate"]:
            self._validate(show, candidate=True)
        if self.best_weights is not None:
            self.net.load_state_dict(self.best_weights)
        self.net.eval()

    # --- one update ------------------------------------------------------------------------------------------------

    def _update(self, stage: Stage, show: Display) -> None:
        batch = self.world.part(self._batch()).to(self.fabric.device)
        rate = stage.rate(self.done)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        self.optimizer.zero_grad()
        loss, state = 0.0, None
        for steps in self.credit.slices(batch.x.shape[1]):
            part, state = self.credit.backward(
                self.model, batch, steps, state, self.task.loss, self.fabric.backward
            )  # fmt: skip
            loss, state = loss + part.item(), detach(state)
        loss = self.world.mean(loss)
        self._require_finite("loss", loss, stage)
        self.world.add_gradients(p for group in self.optimizer.param_groups for p in group["params"])
        limit = stage.clip or math.inf
        norm = self.fabric.clip_gradients(self.model, self.optimizer, max_norm=limit, error_if_nonfinite=False)
        self._require_finite("gradient norm", float(norm), stage)
        self.optimizer.step()
        for module in self.net.modules():
            constrain = getattr(module, "constrain", None)
            if constrain is not None:
                constrain()
        self.at.update += 1
        self.at.losses.append(loss)
        stage.set_annealed(self.net, self.done)
        show.updated(self.at.update, loss)
        if self.at.update % (self.recipe.validate_every or self.epoch_updates) == 0 or self.at.update in self.ends:
            self._validate(show, candidate=self.at.stage == self.recipe.last and stage.settled(self.done))

    @property
    def done(self) -> float:
        """How much of the present stage is done."""
        start, end = (0, *self.ends)[self.at.stage], self.ends[self.at.stage]
        return (self.at.update - start) / (end - start) if end > start else 1.0

    def _batch(self) -> Batch:
        """The samples of this update: every epoch is a permutation, cut into batches of nearly equal size."""
        epoch, position = divmod(self.at.update, self.epoch_updates)
        if epoch != self.epoch[0]:
            order = np.random.default_rng([self.run.seed, epoch]).permutation(len(self.train))
            self.epoch = (epoch, np.array_split(order, self.epoch_updates))
        return self.train.batch(self.epoch[1][position])

    def _require_finite(self, what: str, value: float, stage: Stage) -> None:
        if math.isfinite(value):
            return
        known = [*(row["train_loss"] for row in self.at.history), *self.at.losses]
        raise TimecellError(
            f"{what} of update {self.at.update + 1}", found=value,
            expected="a finite number" + (f" (the last finite loss was {known[-1]:.4g})" if known else ""),
            remedy=f"lower lr ({stage.lr:g}), clip gradients (clip={stage.clip}), "
            "or look for NaN and very large values in the data",
        )  # fmt: skip

    # --- validation ------------------------------------------------------------------------------------------------

    def _validate(self, show: Display, candidate: bool) -> None:
        """Write a row of the history; keep the weights if they are candidates and the best so far."""
        at, recipe = self.at, self.recipe
        row: dict[str, Any] = {
            "update": at.update,
            "stage": at.stage,
            "candidate": candidate,
            "train_loss": math.fsum(at.losses) / len(at.losses) if at.losses else None,
        }
        at.losses = []
        at.history.append(row)
        if self.valid is not None:
            with unchanged():  # how often one looks, and what a metric draws or imports, must not change the training
                loss, scores = assess(self.net, self.valid, self.task, 4 * recipe.batch)
            row |= {"valid_loss": loss, "valid_score": scores.value, "metric": scores.primary}
            if candidate and (at.best is None or _rank(row, scores) > _rank(at.best, scores)):
                at.best, at.stale = row, 0
                self.best_weights = {name: t.detach().clone() for name, t in self.net.state_dict().items()}
            elif candidate:
                at.stale += 1
                at.stopped = recipe.patience is not None and at.stale >= recipe.patience
        show.validated(row)

    # --- stopping and going on -------------------------------------------------------------------------------------

    def _config(self) -> dict[str, Any]:
        """All that must be the same when a run is resumed."""
        return {
            "recipe": to_dict(self.recipe),
            "credit": to_dict(self.credit),
            "task": to_dict(self.task),
            "seed": self.run.seed,
            "updates": self.run.updates,
            "devices": self.world.size,
            "network": checkpoint.describe(self.net, without={a.name for s in self.recipe.stages for a in s.anneal}),
            "train": self.train.fingerprint,
            "valid": None if self.valid is None else self.valid.fingerprint,
        }

    def _save(self) -> None:
        if self.folder is None:
            return
        self.saved, self.at.seconds = time.monotonic(), self.seconds
        draws = self.world.gather(checkpoint.random_states())  # each process has its own
        if self.world.rank > 0:
            return
        tensors: dict[str, Mapping[str, Tensor]] = {
            "model": self.net.state_dict(),
            "optimizer": checkpoint.optimizer_tensors(self.optimizer) if self.optimizer else {},
            "random": {f"{rank}.{name}": t for rank, (tensors, _) in enumerate(draws) for name, t in tensors.items()},
        }
        if self.best_weights is not None:
            tensors["best"] = self.best_weights
        state = {
            "at": asdict(self.at),
            "random": [rest for _, rest in draws],
            "config": self.config,
            "machine": checkpoint.machine(),
        }
        checkpoint.save(self.folder, self.at.update, Checkpoint(tensors, state))

    def _find_checkpoint(self) -> Checkpoint | None:
        """The one to go on from, known to be whole and of this run; None where a run begins."""
        if self.folder is None:
            if self.run.resume:
                raise InputError("run.resume", found="no folder", expected="run.folder", remedy="name the run's folder")
            return None
        path = self.world.gather(checkpoint.latest(self.folder))[0]  # the first one wrote it, and knows if it is done
        found = checkpoint.to_resume(path, self.run.resume, self.config)
        if found is not None and found.state["machine"] != checkpoint.machine():
            now, then = checkpoint.machine(), found.state["machine"]
            warnings.warn(f"resuming on {now} what was begun on {then}: the last bits may differ", stacklevel=5)
        return found

    def _load_net(self, found: Checkpoint) -> None:
        self.at = _Position(**found.state["at"])
        self.recipe.reach(self.net, self.at.stage, self.done)
        self.net.load_state_dict(found.tensors["model"])
        self.best_weights = dict(found.tensors["best"]) if "best" in found.tensors else None

    def _load_rest(self, found: Checkpoint) -> None:
        if self.at.stage >= 0:
            self._make_optimizer()
            checkpoint.load_optimizer(self.optimizer, found.tensors["optimizer"])
        own, rank = f"{self.world.rank}.", self.world.rank
        tensors = {k.removeprefix(own): t for k, t in found.tensors["random"].items() if k.startswith(own)}
        checkpoint.set_random_states(tensors, found.state["random"][rank])

    def _say_how_to_resume(self) -> None:
        how = f"Run(folder={str(self.folder)!r}, resume=True) goes on from here"
        if self.folder is None:
            how = "nothing was kept, for want of run.folder"
        if self.world.rank == 0:
            print(f"Stopped after update {self.at.update}: {how}.", file=sys.stderr)


# --- helpers ----------------------------------------------------------------------------------------------------------


def _fabric(run: Run, world: World) -> Any:
    """Fabric on this process's own device."""
    from lightning_fabric import Fabric

    return Fabric(accelerator=run.device, devices=[world.local_rank] if distributed.gpus_for(run) else 1)


def _seed_of(seed: int, rank: int) -> int:
    """Processes draw independently (dropout, noise), so that no two samples of a batch share a draw."""
    return int(np.random.SeedSequence([seed, rank]).generate_state(1)[0])


def _rank(row: Mapping[str, Any], scores: Scores) -> tuple[float, float]:
    """Larger is better: the primary metric, then the loss; what is not a number comes last."""
    score, loss = row["valid_score"] * (1 if scores.higher_is_better else -1), -row["valid_loss"]
    return (-math.inf if math.isnan(score) else score, -math.inf if math.isnan(loss) else loss)
