"""`EdgeSystem`: what is the same in every system that learns from a stream of edges.

Such a net keeps a memory of each node, and a stream has an order: every update carries the memory on to the next one,
in order of time, from an empty memory at the start of each epoch. That is why these systems do not train through
`timecell.fit`, whose updates draw samples at random and share nothing but weights. What else they do is as there: a
budget in updates, a learning rate that is a function of the update, the weights that are best on the validation edges,
checkpoints (here at the end of each epoch) from which a run goes on with the same bits, and Ctrl-C.

A net of edges has three methods::

    net.initial_state(nodes) -> state                     the memory of that many nodes that never met
    net(events, others, state) -> (logits, state)         scores the targets and the others [B, K], then remembers
    net.observe(events, state) -> state                   remembers only

The edges of one call do not see each other, so their number is part of the model; none is cut within an instant.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from timecell import checkpoint
from timecell.card import Card
from timecell.checkpoint import Checkpoint, seeded
from timecell.config import from_dict, to_dict
from timecell.data.containers import AnyData, Data, Schema
from timecell.data.temporal_edges import Events, TemporalEdges
from timecell.errors import InputError, TimecellError
from timecell.fitted_module import FittedModule
from timecell.inference import device_of, evaluating
from timecell.interrupt import noted
from timecell.progress import display
from timecell.recipe import Stage
from timecell.system import Run, Scores, Task, require_accepted
from timecell.tasks.candidates import LinkScores, temporal
from timecell.tasks.link import LinkPrediction
from timecell.tasks.truth import require_same


@dataclass(frozen=True)
class EdgeScale:
    """Edges in units that suit a net: times in mean gaps between edges, features with mean 0 and variance 1.

    Attributes:
        unit: mean time from one training edge to the next.
        mean, std: [F] of the training features; a constant one has std 1.
    """

    unit: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def fit(cls, train: TemporalEdges) -> EdgeScale:
        """Measured on training edges.

        Example:
            >>> EdgeScale.fit(TemporalEdges.of([0, 0, 0], [1, 1, 1], [0.0, 60.0, 120.0])).unit
            60.0
        """
        span = float(train.time[-1] - train.time[0])
        mean, std = train.features.mean(axis=0, dtype=np.float64), train.features.std(axis=0, dtype=np.float64)
        return cls(
            span / max(len(train.time) - 1, 1) or 1.0, tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist())
        )

    def __call__(self, events: Events) -> Events:
        """The events in these units."""
        mean, std = (events.features.new_tensor(stat) for stat in (self.mean, self.std))
        return events._replace(time=events.time / self.unit, features=(events.features - mean) / std)


@dataclass(frozen=True)
class EdgeSystem:
    """Base of the systems that learn from a stream of edges. A subclass is a frozen dataclass of hyperparameters.

    Attributes:
        batch: edges at a time: they do not see each other, and make one update in training.
    """

    card: ClassVar[Card]
    batch: int = 100

    def build(self, features: int) -> nn.Module:
        """The net, for edges with so many features. Random numbers are seeded outside."""
        raise NotImplementedError(f"{type(self).__name__}.build")

    def stage(self) -> Stage:
        """Learning rate and clipping."""
        return Stage()

    def space(self) -> Mapping[str, Sequence[Any]]:
        """Hyperparameters worth tuning; none unless a subclass says so."""
        return {}

    def accepts(self, schema: Schema, task: Task) -> str | None:
        """Edges whose links are to be predicted."""
        if schema.kind != "edges":
            return f"it learns from a stream of edges, and the data are {schema.kind}"
        return None if task.name == "link" else f"it predicts links, and the task is {task.name}"

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> FittedEdges:
        """Stream the training edges again and again; keep the weights that are best on the validation edges.

        Raises:
            InputError: the data or the task are not accepted, more than one device is asked for, or a checkpoint is
                of another run.
            DataError: a checkpoint is damaged.
            TimecellError: the loss is not finite.
        """
        require_accepted(self, train.schema, task)
        if run.devices > 1:
            raise InputError("run.devices", found=run.devices, expected="1: a stream has one order", remedy="pass 1")
        assert isinstance(task, LinkPrediction)
        near, held_out = temporal(train), temporal(valid)
        with seeded(run.seed):
            net = self.build(near.features.shape[1])
        fitted = FittedEdges(self, near.schema, task, EdgeScale.fit(near), net)
        return replace(fitted, report=_Training(fitted, near, held_out, run).all_epochs())


@dataclass(frozen=True)
class FittedEdges(FittedModule):
    """A trained net with all that is needed to use it on streams with the same features, whoever their nodes are.

    Attributes:
        system: the hyperparameters.
        schema: of the training edges.
        task: what was asked.
        scale: of times and features.
        network: the net, in eval mode. It holds no memory; that is made anew from the edges of each stream.
        report: how the training went.
    """

    system: EdgeSystem
    schema: Schema
    task: LinkPrediction
    scale: EdgeScale
    network: nn.Module
    report: Mapping[str, Any] = field(default_factory=dict)

    def predict(self, data: AnyData) -> LinkScores:
        """Scores [logits] of the task's candidates, from the edges strictly before each.

        Raises:
            InputError: the data are no edges, or have other features than the training edges.
        """
        edges = temporal(data)
        return LinkScores(self.score(edges, self.task.candidates(edges)[:, 1:]))

    def score(self, edges: TemporalEdges, others: Int[np.ndarray, "N K"]) -> Float[np.ndarray, "N 1+K"]:
        """Logits of each edge that is not history, and of its source with other nodes at the same time.

        Args:
            edges: the stream; `begin` says what is history.
            others: numbers of nodes, -1 for none, whose score is NaN.

        Raises:
            InputError: the edges have other features than the training edges, or all of them are history.
        """
        require_same("channels", edges.schema.channels, self.schema.channels)
        if not len(edges):
            raise InputError(
                "edges", found="no edge after the history", expected="at least one", remedy="lower `begin`"
            )
        device = device_of(self.network)
        logits = []
        with evaluating(self.network):
            state = self.network.initial_state(len(edges.nodes))  # type: ignore[operator]
            for part in edges.batches(self.system.batch):
                events = self.scale(edges.events(part).to(device))
                if part.start < edges.begin:
                    state = self.network.observe(events, state)  # type: ignore[operator]
                    continue
                chosen = torch.from_numpy(others[part.start - edges.begin : part.stop - edges.begin]).to(device)
                y, state = self.network(events, chosen.clamp(min=0), state)
                logits.append(y.double().cpu().numpy())
        scores = np.concatenate(logits)
        scores[:, 1:][others < 0] = np.nan
        return scores

    def config(self) -> dict[str, Any]:
        """With the scale."""
        return {**super().config(), "scale": to_dict(self.scale)}

    @classmethod
    def parts(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor], classes: Iterable[type]) -> dict[str, Any]:
        """With the scale."""
        return {**super().parts(config, tensors, classes), "scale": from_dict(config["scale"], classes)}

    @classmethod
    def untrained(cls, parts: Mapping[str, Any]) -> nn.Module:
        """As its system builds it."""
        net: nn.Module = parts["system"].build(len(parts["schema"].channels))
        return net


@dataclass
class _Position:
    """Where a run is: all of it that is neither a tensor nor a function of the epoch's number."""

    epoch: int = 0
    update: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None


class _Training:
    """One call of `EdgeSystem.fit`."""

    def __init__(self, fitted: FittedEdges, train: TemporalEdges, valid: TemporalEdges, run: Run) -> None:
        self.fitted, self.train, self.valid, self.run = fitted, train, valid, run
        self.net, self.stage, self.task = fitted.network, fitted.system.stage(), fitted.task
        self.parts = list(train.batches(fitted.system.batch))
        self.device = torch.device("cuda" if _on_gpu(run.device) else "cpu")
        self.net.to(self.device)
        self.optimizer = self.stage.optimiser(self.net)
        self.at = _Position()
        self.best_weights: dict[str, Tensor] | None = None
        self._resume()
        self.begun = time.monotonic() - self.at.seconds

    def all_epochs(self) -> dict[str, Any]:
        """From where the run is to its last update; then the best weights. Returns the report."""
        at, hit_time_cap = self.at, False
        with noted() as caught, display(self.run.progress, self.run.updates, at.update) as show:
            while at.update < self.run.updates and not (caught or hit_time_cap):
                losses = []
                for loss in self._epoch():
                    losses.append(loss)
                    show.updated(at.update, loss)
                    hit_time_cap = self.run.seconds is not None and self.seconds >= self.run.seconds
                    if caught or hit_time_cap or at.update >= self.run.updates:
                        break
                if caught:
                    break
                at.epoch += 1
                show.validated(self._validate(losses))
                self._save()
        if self.best_weights is None:
            self._validate([])
        self.net.load_state_dict(self.best_weights or {})
        self.net.eval()
        return {
            "parameters": sum(p.numel() for p in self.net.parameters() if p.requires_grad),
            "updates": at.update, "seconds": self.seconds, "hit_time_cap": hit_time_cap,
            "best": at.best, "history": list(at.history),
        }  # fmt: skip

    @property
    def seconds(self) -> float:
        """Wall time of this run, all its sessions together."""
        return time.monotonic() - self.begun

    def _epoch(self) -> Iterable[float]:
        """One pass over the training edges: the loss of each update. Candidates are drawn anew in each epoch."""
        epoch_seed = int(np.random.SeedSequence([self.run.seed, self.at.epoch]).generate_state(1)[0])
        drawn = replace(self.task, negatives=1, seed=epoch_seed).candidates(self.train)[:, 1:]
        self.net.train()
        with seeded(epoch_seed):
            state = self.net.initial_state(len(self.train.nodes))  # type: ignore[operator]
            for part in self.parts:
                events = self.fitted.scale(self.train.events(part).to(self.device))
                if part.start < self.train.begin:
                    state = self.net.observe(events, state)  # type: ignore[operator]
                    continue
                others = torch.from_numpy(drawn[part.start - self.train.begin : part.stop - self.train.begin])
                loss, state = self._update(events, others.to(self.device), state)
                yield loss

    def _update(self, events: Events, others: Int[Tensor, "B K"], state: Any) -> tuple[float, Any]:
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * self.stage.rate(self.at.update / self.run.updates)
        logits, state = self.net(events, others.clamp(min=0), state)
        loss = link_loss(logits, others)
        value = loss.item()
        if not math.isfinite(value):
            raise TimecellError(
                f"loss of update {self.at.update + 1}", found=value, expected="a finite number",
                remedy=f"lower lr ({self.stage.lr:g}), or look for very large features",
            )  # fmt: skip
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), self.stage.clip or math.inf)
        self.optimizer.step()
        self.at.update += 1
        return value, state

    def _validate(self, losses: list[float]) -> dict[str, Any]:
        """Write a row of the history; keep the weights if they are the best so far."""
        scores: Scores = self.task.score(self.fitted.predict(self.valid), self.valid)
        row = {
            "update": self.at.update, "train_loss": float(np.mean(losses)) if losses else None,
            "valid_score": scores.value, "metric": scores.primary,
        }  # fmt: skip
        self.at.history.append(row)
        if self.at.best is None or scores.value > self.at.best["valid_score"]:
            self.at.best = row
            self.best_weights = {name: t.detach().clone() for name, t in self.net.state_dict().items()}
        return row

    # --- going on ------------------------------------------------------------------------------------------------------

    def _config(self) -> dict[str, Any]:
        """All that must be the same when a run is resumed."""
        return {
            "system": to_dict(self.fitted.system), "task": to_dict(self.task), "seed": self.run.seed,
            "updates": self.run.updates, "train": self.train.fingerprint, "valid": self.valid.fingerprint,
        }  # fmt: skip

    def _save(self) -> None:
        if self.run.folder is None:
            return
        self.at.seconds = self.seconds
        tensors = {
            "model": self.net.state_dict(), "best": self.best_weights or {},
            "optimizer": checkpoint.optimizer_tensors(self.optimizer),
        }  # fmt: skip
        checkpoint.save(
            self.run.folder, self.at.update, Checkpoint(tensors, {"at": vars(self.at), "config": self._config()})
        )

    def _resume(self) -> None:
        """Go on from the checkpoint in the run's folder, if that is wanted and there is one."""
        if self.run.folder is None:
            return
        found = checkpoint.to_resume(checkpoint.latest(self.run.folder), self.run.resume, self._config())
        if found is None:
            return
        self.at = _Position(**found.state["at"])
        self.net.load_state_dict(found.tensors["model"])
        self.best_weights = dict(found.tensors["best"])
        checkpoint.load_optimizer(self.optimizer, found.tensors["optimizer"])


def link_loss(logits: Float[Tensor, "B 1+K"], others: Int[Tensor, "B K"]) -> Float[Tensor, ""]:
    """Binary cross-entropy [nats] of the targets and of the others, which together weigh as much; -1 is nobody.

    Example:
        >>> round(link_loss(torch.zeros(2, 3), torch.tensor([[4, -1], [5, 6]])).item(), 4)  # log 2
        0.6931
    """
    there = (others >= 0).to(logits.dtype)
    positive, negative = F.softplus(-logits[:, 0]).mean(), F.softplus(logits[:, 1:])
    return (positive + (negative * there).sum() / there.sum().clamp(min=1)) / 2 if there.any() else positive


def _on_gpu(device: str) -> bool:
    return device == "cuda" or (device == "auto" and torch.cuda.is_available())
