"""The checks of SLTT against backpropagation through time.

On 8 x 8 digits that are shown at every step, where time says nothing new, and on spike patterns that differ in timing
only, where it says everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from timecell.checkpoint import seeded
from timecell.claims import Absent, AtChance, Flat, Matches, Measured, NonInferior, Ordering, Trial, claim
from timecell.claims.arms import budget, prepared, settings, tuned
from timecell.credit import BPTT, Credit
from timecell.data.containers import Batch, Sequences
from timecell.data.encoders import direct
from timecell.data.images import load_digits
from timecell.data.splits import Splits, by_sample
from timecell.data.synthetic.spikes import motifs
from timecell.state import detach
from timecell.systems.spiking.sltt import SpatialLearning
from timecell.tasks import Classify

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
    space, run = settings(trial, RATES), budget(trial, UPDATES)
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
    fitted = system.fit(splits.train, splits.valid, TASK, budget(trial, 50, control=1))
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
    run = budget(trial, 300)
    space = {"lr": (1e-2,)} if trial.quick or trial.control else {"lr": (5e-3, 1e-2)}
    small = SpatialLearning(hidden=32, tau=10.0, batch=100, stretch=60)
    arms = {"BPTT": replace(small, rule="bptt"), "SLTT": small}
    if not trial.control:
        arms["SLTT, twice the width"] = replace(small, hidden=64)
    return {name: tuned(system, space, splits, TASK, run).measured for name, system in arms.items()}


def timed(samples: int, seed: int, part: int = 0) -> Sequences:
    """Spike patterns whose counts say nothing about the class; the parts of a seed share their classes."""
    return motifs(samples=samples, seed=3 * seed + part, template_seed=seed).data
