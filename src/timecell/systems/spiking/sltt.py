"""Spatial learning through time: gradients flow down through the layers and not back through time.

The idea. A membrane carries little from one step to the next when its time constant is near one step, and a gradient
that went back through time would be multiplied by (1 - 1/tau) (1 - surrogate') at every step. So leave that path out:
what a unit carries over from the step before is a constant to the gradient. Each step then has its own loss and its own
backward pass, its graph is freed at once, and memory does not grow with the number of steps T.

    x_t -> (Linear -> batch norm of step t -> LIF) x layers -> Linear -> logits o_t
    L = sum_t [(1 - pull) CE(o_t, class) + pull mean (o_t - 1)^2] / T        the answer: mean_t softmax(o_t)

SLTT-K goes further: only K steps, drawn at random for each update, have a backward pass at all.

When not to use it. What a net must *remember* in order to answer, it has to learn through the path that is left out.
Where the class lies in when spikes come, and membranes are slow to bridge the gaps, SLTT loses to backpropagation
through time, and the more the fewer units there are: with enough of them some happen to keep what is needed. The claim
`timing_needs_the_path_through_time` measures by how much. Pictures shown over and over, and anything that can nearly be
read step by step, are what it is for.

The recipe here is AdamW along a cosine, the paper's SGD with momentum; the optimiser is no part of the idea.

Source: Meng, Xiao, Yan, Wang, Lin & Luo, "Towards memory- and time-efficient backpropagation for training spiking
neural networks" (2023), arXiv:2302.14311.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from timecell.card import Card
from timecell.checkpoint import seeded
from timecell.claims import Absent, AtChance, Flat, Matches, Measured, NonInferior, Ordering, Trial, claim
from timecell.claims.arms import prepared, tuned
from timecell.combine import Sequential
from timecell.credit import BPTT, SLTT, Credit
from timecell.data.containers import Batch, Data, Schema, Sequences
from timecell.data.encoders import direct
from timecell.data.images import load_digits
from timecell.data.splits import Splits, by_sample
from timecell.data.synthetic.spikes import motifs
from timecell.layers import PerStep
from timecell.network_system import FittedNetwork, NetworkSystem
from timecell.neurons import LIF, Triangle
from timecell.recipe import Recipe, Stage
from timecell.state import detach
from timecell.system import Run, Task
from timecell.tasks import Classify

CARD = Card(
    slug="sltt",
    title="Towards memory- and time-efficient backpropagation for training spiking neural networks",
    summary="Gradients that skip the path through time: memory flat in T; not for classes that lie in the timing.",
    family="spiking",
    paper="arXiv:2302.14311",
    n=14,
)


@dataclass(frozen=True)
class SpatialLearning(NetworkSystem):
    """A feed-forward spiking net trained without the path through time.

    Attributes:
        hidden: units of each hidden layer.
        layers: hidden layers.
        tau: membrane time constant in steps; the method is made for values near 1.
        rule: "sltt", or "bptt" for the same net with the path through time.
        k: steps with a backward pass in each update, drawn at random; None = all.
        stretch: steps that run at a time; no part of the result, longer ones are faster and take more memory.
        lr: highest learning rate.
        batch: samples an update.
    """

    card: ClassVar[Card] = CARD
    hidden: int = 128
    layers: int = 2
    tau: float = 1.1
    rule: Literal["sltt", "bptt"] = "sltt"
    k: int | None = None
    stretch: int = 4
    lr: float = 5e-3
    batch: int = 64

    def build(self, schema: Schema, outputs: int) -> nn.Module:
        """Widths [C, hidden, ..., K]."""
        widths = [len(schema.channels), *[self.hidden] * self.layers]
        parts: list[nn.Module] = []
        for before, after in pairwise(widths):
            unit = LIF(after, tau=self.tau, reset="soft", detach=True, surrogate=Triangle())
            parts += [nn.Linear(before, after, bias=False), PerStep(nn.BatchNorm1d(after)), unit]
        return Sequential(*parts, nn.Linear(widths[-1], outputs))

    def credit(self) -> Credit:
        """Without the path through time, unless told otherwise."""
        return BPTT() if self.rule == "bptt" else SLTT(steps=self.stretch, k=self.k)

    def recipe(self) -> Recipe:
        """One stage."""
        return Recipe((Stage(lr=self.lr),), batch=self.batch)

    def space(self) -> Mapping[str, Sequence[Any]]:
        """What comparisons tune."""
        return {"tau": (1.1, 2.0, 5.0), "lr": (2e-3, 5e-3, 1e-2), "hidden": (64, 128)}

    def accepts(self, schema: Schema, task: Task) -> str | None:
        """Sequences to classify."""
        return super().accepts(schema, task) if task.name == "classify" else f"it can classify; the task is {task.name}"

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> FittedNetwork:
        """As every network; a classification is trained by the loss of each step, the only kind that SLTT can take."""
        if isinstance(task, Classify):
            task = replace(task, readout="every", criterion="tet", label_smoothing=0.0)
        return super().fit(train, valid, task, run)


# --- the checks -------------------------------------------------------------------------------------------------------

TASK = Classify("every", criterion="tet")
RATES = {"lr": (2e-3, 5e-3)}  # every arm chooses on validation data
STEPS = 6
UPDATES = 150


@claim(
    "at an equal budget SLTT is as accurate as backpropagation through time, on pictures shown at every step",
    source="abstract: memory and training time fall by more than 70 % and 50 % at comparable accuracy; there on images",
    control="training and validation labels shuffled: every arm at chance",
    shows=NonInferior("SLTT", "BPTT"),
    control_shows=AtChance(0.1),
)
def accuracy_of_sltt(trial: Trial) -> Mapping[str, Measured]:
    """Test accuracy of the same net trained with and without the path through time."""
    return on_digits(trial, SLTT=SpatialLearning(), BPTT=SpatialLearning(rule="bptt"))


@claim(
    "with a backward pass at two random steps of six, SLTT-K is nearly as accurate as backpropagation through time",
    source="the paper's SLTT-K, whose accuracy is close to SLTT's with a few steps",
    control="training and validation labels shuffled: every arm at chance",
    shows=NonInferior("SLTT-2", "BPTT"),
    control_shows=AtChance(0.1),
)
def accuracy_of_sltt_2(trial: Trial) -> Mapping[str, Measured]:
    """Test accuracy of the same net trained at two random steps of an update, and through all of time."""
    return on_digits(trial, **{"SLTT-2": SpatialLearning(k=2), "BPTT": SpatialLearning(rule="bptt")})


def on_digits(trial: Trial, **arms: SpatialLearning) -> dict[str, Measured]:
    """8 x 8 digits, direct coding; half of them train, a tenth validates, the rest tests."""
    data = load_digits().encoded(lambda x: direct(x, STEPS))
    splits = prepared(by_sample(data, seed=trial.seed, valid=0.1, test=0.4), trial)
    updates = 4 if trial.quick else UPDATES // 4 if trial.control else UPDATES  # shuffled labels have nothing to teach
    run = Run(seed=trial.seed, updates=updates, progress=trial.progress, device="cpu")
    space = {"lr": RATES["lr"][:1]} if trial.quick or trial.control else RATES
    return {name: tuned(system, space, splits, TASK, run).measured for name, system in arms.items()}


@claim(
    "what the backward pass keeps in memory does not grow with the number of steps",
    source="abstract and the paper's table of memory and time against T",
    control="BPTT in place of SLTT: it grows",
    shows=Flat("4 steps", "16 steps", "64 steps"),
    control_shows=Absent(),
)
def memory_is_flat(trial: Trial) -> Mapping[str, Measured]:
    """Most bytes that autograd keeps at a time during one update, as multiples of those at 4 steps."""
    data = load_digits().encoded(lambda x: direct(x, 1))
    batch = data.batch(np.random.default_rng(trial.seed).permutation(len(data))[:64])
    system = SpatialLearning(rule="bptt" if trial.control else "sltt")
    with seeded(trial.seed):
        net = system.build(data.schema, 10)
    kept = {
        T: saved_bytes(net, system.credit(), replace(batch, x=batch.x.expand(-1, T, -1).contiguous()))
        for T in (4, 16, 64)
    }
    return {f"{T} steps": Measured(n / kept[4], extra={"bytes": n}) for T, n in kept.items()}


def saved_bytes(net: nn.Module, credit: Credit, batch: Batch) -> int:
    """Most bytes that autograd keeps for the backward pass of a slice; batch and parameters are not counted."""
    known = {t.untyped_storage().data_ptr() for t in (batch.x, *net.parameters(), *net.buffers())}
    most, state = 0, None
    for steps in credit.slices(batch.x.shape[1]):
        kept: dict[int, int] = {}

        def keep(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in known:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            _, state = credit.backward(net, batch, steps, state, TASK.loss)
        most, state = max(most, sum(kept.values())), detach(state)
    return most


@claim(
    "at tau = 1.1 every layer's gradient points where that of backpropagation through time points",
    source="the paper's analysis of the temporal part of the gradient; cosine of the two",
    control="tau = 10 on classes that lie in the timing: it does not",
    shows=Matches("smallest cosine", 1.0),
    control_shows=Absent(),
)
def gradients_agree(trial: Trial) -> Mapping[str, Measured]:
    """Cosine of the two gradients of each layer's weights after a short training; the smallest one counts."""
    data = timed(400, trial.seed) if trial.control else load_digits().encoded(lambda x: direct(x, STEPS))
    splits = by_sample(data, seed=trial.seed)
    assert isinstance(splits.train, Sequences)
    system = SpatialLearning(tau=10.0 if trial.control else 1.1)
    run = Run(seed=trial.seed, updates=2 if trial.quick else 50, progress=trial.progress, device="cpu")
    fitted = system.fit(splits.train, splits.valid, TASK, run)
    batch = fitted.scale.data(splits.train).batch(np.arange(64))
    cut, full = (layer_gradients(fitted.network, credit, batch) for credit in (system.credit(), BPTT()))
    cosines = {name: torch.cosine_similarity(cut[name], full[name], dim=0).item() for name in full}
    return {"smallest cosine": Measured(min(cosines.values()), extra=cosines)}


def layer_gradients(net: nn.Module, credit: Credit, batch: Batch) -> dict[str, Tensor]:
    """The gradient of each layer's weights, flattened, as in training."""
    net.train()
    net.zero_grad()
    state = None
    for steps in credit.slices(batch.x.shape[1]):
        _, state = credit.backward(net, batch, steps, state, TASK.loss)
        state = detach(state)
    return {name: p.grad.flatten().clone() for name, p in net.named_parameters() if p.ndim == 2 and p.grad is not None}


@claim(
    "where the class lies in the timing and membranes are slow, SLTT loses to backpropagation through time",
    source="not the paper's: its limit, measured; it argues for time constants near one step",
    control="training and validation labels shuffled: both at chance",
    shows=Ordering("BPTT", "SLTT"),
    control_shows=AtChance(0.1),
)
def timing_needs_the_path_through_time(trial: Trial) -> Mapping[str, Measured]:
    """Test accuracy on spike patterns that differ in timing only, tau = 10; SLTT with twice the width beside."""
    sizes = (100, 60, 60) if trial.quick else (1000, 300, 1000)
    splits = prepared(Splits(*(timed(n, trial.seed, part) for part, n in enumerate(sizes))), trial)
    updates = 4 if trial.quick else 75 if trial.control else 300
    run = Run(seed=trial.seed, updates=updates, progress=trial.progress, device="cpu")
    space = {"lr": (1e-2,)} if trial.quick or trial.control else {"lr": (5e-3, 1e-2)}
    small = SpatialLearning(hidden=32, tau=10.0, batch=100, stretch=60)
    arms = {"BPTT": replace(small, rule="bptt"), "SLTT": small}
    if not trial.control:
        arms["SLTT, twice the width"] = replace(small, hidden=64)
    return {name: tuned(system, space, splits, TASK, run).measured for name, system in arms.items()}


def timed(samples: int, seed: int, part: int = 0) -> Sequences:
    """Spike patterns whose counts say nothing about the class; the parts of a seed share their classes."""
    return motifs(samples=samples, seed=3 * seed + part, template_seed=seed).data
