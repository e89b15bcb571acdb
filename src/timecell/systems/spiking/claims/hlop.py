"""The checks of HLOP: five tasks in a row, each of them 5,000 of MNIST's digits with the pixels in an order of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from timecell.claims import Absent, AtChance, Measured, NonInferior, Ordering, Trial, claim, experiment
from timecell.claims.arms import budget, prepared
from timecell.claims.experiment import Arrays
from timecell.credit import Factors, Full, Gradient, Rule
from timecell.credit.project import HebbianSubspace, finish_task, lateral_units
from timecell.data.containers import Data
from timecell.data.encoders import direct
from timecell.data.images import load_mnist
from timecell.data.splits import by_sample
from timecell.network_system import FittedNetwork
from timecell.systems.spiking.hlop import OrthogonalLearning, Rules
from timecell.tasks import Classify
from timecell.tasks.stream import ScoreMatrix, TaskStream

TASK = Classify("every")
TASKS, STEPS = 5, 4
RATES = (0.2, 0.5)  # where arms choose, they do so on validation data; RATE where they need not
RATE = 0.5


@claim(
    "of five tasks learnt one after the other, a net whose updates spare the lateral units' subspace knows more at the end",
    source="table of permuted MNIST: about 95 % on average, and 1 point forgotten",
    control="labels of training and validation shuffled: both at chance",
    shows=Ordering("HLOP", "plain"),
    control_shows=AtChance(0.1),
)
def more_is_known_at_the_end(trial: Trial) -> Mapping[str, Measured]:
    """Test accuracy over all tasks after the last one, by backpropagation through time; what was forgotten beside."""
    return of_both(trial, "bptt", RATES)


@claim(
    "so it is with presynaptic traces online in place of backpropagation through time",
    source="table of training methods: OTTT with HLOP",
    control="labels of training and validation shuffled: both at chance",
    shows=Ordering("HLOP", "plain"),
    control_shows=AtChance(0.1),
)
def it_goes_with_online_traces(trial: Trial) -> Mapping[str, Measured]:
    """As `more_is_known_at_the_end`, by OTTT."""
    return of_both(trial, "ottt", [RATE])


@claim(
    "so it is with errors that are broadcast by fixed random weights in place of backpropagated ones",
    source="table of error propagation: feedback alignment with HLOP (there layer by layer, here directly)",
    control="labels of training and validation shuffled: both at chance",
    shows=Ordering("HLOP", "plain"),
    control_shows=AtChance(0.1),
)
def it_goes_with_feedback_alignment(trial: Trial) -> Mapping[str, Measured]:
    """As `more_is_known_at_the_end`, by direct feedback alignment."""
    return of_both(trial, "feedback", [RATE])


@claim(
    "what the Hebbian rule finds protects nearly as well as the principal directions of stored activity",
    source="the paper's aim: principal subspaces without storing or decomposing activity",
    control="lateral units that never learn: as many random directions protect much worse",
    shows=NonInferior("HLOP", "principal components"),
    control_shows=Absent(),
)
def hebbian_is_nearly_exact(trial: Trial) -> Mapping[str, Measured]:
    """Backward transfer over five tasks, with rows from the Hebbian rule (in the control: none) and from an SVD."""
    whole = replace(trial, control=False)  # random rows need all five tasks to show what they miss
    found = {
        "HLOP": learnt(whole, "random directions" if trial.control else "HLOP"),
        "principal components": learnt(whole, "principal components"),
    }
    return {name: Measured(ScoreMatrix(arm["scores"]).backward_transfer) for name, arm in found.items()}


@dataclass(frozen=True)
class Decomposed(OrthogonalLearning):
    """The same with rows from a singular value decomposition of activity that is stored when a task has been learnt."""

    def settle(self, net: nn.Module, train: Data) -> None:
        """Rows are the principal directions of what kept rows leave over."""
        for lateral, x in watched(net, train).items():
            rest = x - x @ lateral.kept.T @ lateral.kept
            lateral.present.copy_(torch.linalg.svd(rest, full_matrices=False)[2][: len(lateral.present)])
        finish_task(net)


def watched(net: nn.Module, data: Data, samples: int = 500) -> dict[HebbianSubspace, Float[Tensor, "n in"]]:
    """What the lateral units of each synapse see at all steps of some samples."""
    seen = {}

    def note(factors: Factors, synapse: nn.Module) -> Tensor:
        lateral = lateral_units(synapse)
        if lateral is not None:
            seen[lateral] = factors.pre.flatten(0, -2)
        return Gradient()(factors, synapse)

    batch = data.batch(np.arange(min(samples, len(data))))
    Rule(Full(), update=note).backward(net, batch, slice(0, batch.x.shape[1]), None, TASK.loss)
    net.zero_grad()
    return seen


@claim(
    "a net that spares old directions still learns the last task",
    source="the paper's trade-off of stability and plasticity",
    control="as many lateral units as inputs: nothing is left to learn along",
    shows=NonInferior("HLOP", "plain"),
    control_shows=Absent(),
)
def new_tasks_are_still_learnt(trial: Trial) -> Mapping[str, Measured]:
    """Accuracy on the last task when it has just been learnt; in the control every synapse is full after one task."""
    last = 1 if trial.quick or trial.control else TASKS - 1
    whole = replace(trial, control=False)
    found = {
        "HLOP": learnt(whole, "no room", tasks=2) if trial.control else learnt(whole, "HLOP"),
        "plain": learnt(whole, "plain"),
    }
    return {name: Measured(arm["scores"][last, last]) for name, arm in found.items()}


@experiment
def learnt(trial: Trial, kind: str, rule: Rules = "bptt", lr: float = RATE, tasks: int = TASKS) -> Arrays:
    """One kind of net after another task, and what it knows of all at the end; in a control, labels are shuffled."""
    kinds = {
        "HLOP": OrthogonalLearning(),
        "plain": OrthogonalLearning(protect=False),
        "random directions": OrthogonalLearning(repeats=0),
        "principal components": Decomposed(),
        "no room": OrthogonalLearning(share=1.0),
    }
    stream = permuted_digits(trial, 2 if trial.quick or trial.control else tasks)
    updates = math.ceil(len(stream.parts[0].train) / OrthogonalLearning.batch)  # every task is seen once
    done = replace(kinds[kind], rule=rule, lr=lr).learn_stream(stream, TASK, budget(trial, updates, control=1))
    return {
        "scores": done.scores.values,
        "valid": right(done.fitted, [parts.valid for parts in stream.parts]),
        "test": right(done.fitted, [parts.test for parts in stream.parts]),
    }


def permuted_digits(trial: Trial, tasks: int) -> TaskStream:
    """Digits whose pixels are shuffled in another way for each task, shown at every step."""
    images = load_mnist()
    images = replace(images, pixels=images.pixels.astype(np.float16))  # a copy for each task: half of the memory
    splits = by_sample(images.encoded(lambda x: direct(x, STEPS)), seed=trial.seed, valid=0.1, test=0.2)
    return TaskStream.permuted(prepared(splits, trial), tasks, seed=trial.seed)


def of_both(trial: Trial, rule: Rules, rates: Sequence[float]) -> dict[str, Measured]:
    """Accuracy over all tasks with and without protection, each at the rate that is best on validation data."""
    found = {}
    rates = rates[-1:] if trial.quick or trial.control else rates
    for kind in ("HLOP", "plain"):
        tried = {lr: learnt(trial, kind, rule, lr) for lr in rates}
        lr = max(rates, key=lambda lr: tried[lr]["valid"].mean())
        extra = {"lr": lr, "backward transfer": ScoreMatrix(tried[lr]["scores"]).backward_transfer}
        found[kind] = Measured(tried[lr]["test"].mean(), tried[lr]["test"], extra=extra)
    return found


def right(fitted: FittedNetwork, tasks: Sequence[Data]) -> Float[np.ndarray, "N"]:
    """In how many of the tasks, which hold the same samples, each sample is recognised, as a share."""
    return np.mean([TASK.score(fitted.predict(data), data).items for data in tasks], axis=0)
