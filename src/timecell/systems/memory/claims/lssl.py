"""The checks of linear state-space layers: nets on digits that are read row by row, and what a state holds.

The nets read 8 x 8 digits, and answer after a long delay or at another sampling rate; the states are those of signals of
low frequencies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from timecell.card import Card
from timecell.checkpoint import seeded
from timecell.claims import Absent, AtChance, Measured, NonInferior, Ordering, Trial, claim
from timecell.claims.arms import Arm, budget, prepared, scored, settings, tuned
from timecell.combine import Sequential
from timecell.controls import LongMemoryNet
from timecell.data.containers import Schema, Sequences, fingerprint
from timecell.data.images import load_digits
from timecell.data.splits import by_sample
from timecell.layers import TemporalConv
from timecell.memory.hippo import legendre
from timecell.memory.linear_ssm import LinearSSM, resampled
from timecell.network_system import NetworkSystem
from timecell.recipe import OneStage
from timecell.systems.memory.lssl import LinearStateSpace
from timecell.tasks import Classify

# --- nets --------------------------------------------------------------------------------------------------------------

SHOWN, DELAY = 4, 96  # steps that each row of a digit is shown for, and steps of noise after the last row
UPDATES = 100
RATES = {"lr": (1e-2, 2e-2)}  # every arm chooses on validation data
TASK = Classify("last")


@dataclass(frozen=True)
class Convolutions(OneStage, NetworkSystem):
    """Causal convolutions over 127 steps with as many channels as the layers have, trained alike."""

    card: ClassVar[Card] = Card("convolutions", "Causal convolutions", "Convolutions over 127 steps.", "control")
    lr: float = 1e-2
    batch: int = 64

    def build(self, schema: Schema, outputs: int) -> nn.Module:
        """Widths [C, 32, K]."""
        return Sequential(TemporalConv(len(schema.channels), 32, layers=6), nn.Linear(32, outputs))


GATED = LongMemoryNet(hidden=32, lr=1e-2, batch=64)  # about as many parameters as the layers
ARMS: Mapping[str, NetworkSystem] = {
    "LegS": LinearStateSpace(),
    "random A": LinearStateSpace(memory="gaussian"),
    "short steps": LinearStateSpace(dt=(0.1, 0.1)),
    "LSTM": GATED,
    "LegS, scanning": LinearStateSpace(states=16, dt=(1e-2, 1e-1)),
    "CNN": Convolutions(),
}


def scanned(seed: int, delay: int, shown: int = SHOWN) -> Sequences:
    """8 x 8 digits read row by row, [T, 8], each row for `shown` steps, and then so many steps of weak noise."""
    digits = load_digits()
    rows = digits.pixels.repeat(shown, axis=1)
    noise = np.random.default_rng(seed).normal(0.0, 0.1, (len(rows), delay, 8)).astype(np.float32)
    return Sequences.of(np.concatenate([rows, noise], 1), digits.target, classes=digits.classes)


@cache  # several claims look at the same nets
def arm(name: str, delay: int, trial: Trial) -> Arm:
    """A net after training, and its test accuracy at the last step."""
    splits = prepared(by_sample(scanned(trial.seed, delay), seed=trial.seed), trial)
    return tuned(ARMS[name], settings(trial, RATES), splits, TASK, budget(trial, UPDATES))


@claim(
    "a digit is told 96 noisy steps after it was seen by LegS, worse with a random A, and not by an LSTM",
    source="the paper's ablation of HiPPO matrices, and its long sequences beside recurrent nets; there longer ones",
    control="training and validation labels shuffled: every arm at chance",
    shows=Ordering("LegS", "random A", "LSTM"),
    control_shows=AtChance(0.1),
)
def legs_remembers(trial: Trial) -> Mapping[str, Measured]:
    """Test accuracy after equal updates; the LSTM has about as many parameters."""
    return {name: arm(name, DELAY, trial).measured for name in ("LegS", "random A", "LSTM")}


@claim(
    "steps that span the delay remember across it; steps whose horizon is ten of its 96 do not",
    source="the paper: 1/dt should span the length of the sequence",
    control="training and validation labels shuffled: both at chance",
    shows=Ordering("LegS", "short steps"),
    control_shows=AtChance(0.1),
)
def steps_span_the_delay(trial: Trial) -> Mapping[str, Measured]:
    """Test accuracy of the same net with steps of 0.003 to 0.03, and with all of them 0.1."""
    return {name: arm(name, DELAY, trial).measured for name in ("LegS", "short steps")}


@claim(
    "trained at one sampling rate and used at twice that rate with half the step, the net is as accurate",
    source="the paper's continuous-time view: the sampling rate is a number of the layer; there on speech",
    control="the step left as it was: it is not",
    shows=NonInferior("twice the rate", "rate of training"),
    control_shows=Absent(),
)
def rate_may_change(trial: Trial) -> Mapping[str, Measured]:
    """Test accuracy on digits whose rows are shown for 4 steps, as in training, and for 8."""
    found = arm("LegS, scanning", 0, replace(trial, control=False))
    net = found.fitted.network if trial.control else resampled(found.fitted.network, 2.0)
    fast = faster(found._replace(fitted=replace(found.fitted, network=net)), trial)
    return {"twice the rate": fast, "rate of training": replace(found.measured, data=fast.data)}  # the same digits


@claim(
    "at twice the sampling rate a net that may change its step is ahead of an LSTM, which may not",
    source="the paper's comparison on data of another sampling rate; there on speech",
    control="training and validation labels shuffled: both at chance",
    shows=Ordering("half the step", "LSTM"),
    control_shows=AtChance(0.1),
)
def usual_nets_are_tied_to_a_rate(trial: Trial) -> Mapping[str, Measured]:
    """Test accuracy at twice the rate of training; causal convolutions beside."""
    found = arm("LegS, scanning", 0, trial)
    moved = replace(found.fitted, network=resampled(found.fitted.network, 2.0))
    arms = {"half the step": found._replace(fitted=moved), "LSTM": arm("LSTM", 0, trial), "CNN": arm("CNN", 0, trial)}
    return {name: faster(each, trial) for name, each in arms.items()}


def faster(arm: Arm, trial: Trial) -> Measured:
    """Test accuracy of a trained net on the same test digits, scanned twice as fast; that at its own rate beside."""
    test = prepared(by_sample(scanned(trial.seed, 0, 2 * SHOWN), seed=trial.seed), trial).test
    return scored(arm.fitted, test, TASK, **arm.measured.extra, **{"own rate": arm.measured.value})


# --- the checks: a state ----------------------------------------------------------------------------------------------

SPAN, CYCLES, STEPS, NUMBERS = 2.0, 8, 256, 64  # of time, of the highest frequency in it, its steps; states


@claim(
    "a state of LegS holds the signal that led to it; a random A's does not",
    source="the paper's background on HiPPO: states are coefficients of the past",
    control="white noise in place of a signal of low frequencies: no 64 numbers hold 256",
    shows=Ordering("LegS", "random A", better="lower"),
    control_shows=Absent(),
)
def state_holds_the_past(trial: Trial) -> Mapping[str, Measured]:
    """Relative error of the best linear reader of the state, which knows it to 0.1 %; Legendre's formula beside."""
    rng = np.random.default_rng(trial.seed)
    known, new = (signals(n, rng, white=trial.control) for n in ((100, 20) if trial.quick else (1000, 200)))
    lags = SPAN * (1 - np.arange(1, STEPS + 1) / STEPS)
    measured = {}
    for name, memory in (("LegS", "legs"), ("random A", "gaussian")):
        with seeded(trial.seed):
            layer = LinearSSM(1, NUMBERS, memory=memory, dt=(SPAN / STEPS, SPAN / STEPS)).double()  # type: ignore[arg-type]
        seen, states = (layer(torch.from_numpy(u)[..., None])[1].x[:, 0].numpy() for u in (known, new))
        blur = 1e-3 * np.sqrt((seen**2).mean())
        seen, blurred = (x + blur * rng.standard_normal(x.shape) for x in (seen, states))
        read = np.linalg.lstsq(seen, known)[0]
        measured[name] = error(blurred @ read, new)
        if memory == "legs":
            measured["LegS, by the formula"] = error(states @ legendre(NUMBERS, np.exp(-lags)).T, new)
    return measured


def signals(count: int, rng: np.random.Generator, white: bool) -> Float[np.ndarray, "N T"]:
    """Sums of sines with up to `CYCLES` periods, each of a random size and phase; or white noise."""
    if white:
        return rng.standard_normal((count, STEPS))
    cycles = np.arange(1, CYCLES + 1)
    size, phase = rng.standard_normal((count, CYCLES)), 2 * np.pi * rng.random((count, CYCLES))
    turns = 2 * np.pi * cycles[:, None] * np.arange(STEPS) / STEPS
    return (size[..., None] * np.sin(turns + phase[..., None])).sum(1)


def error(found: Float[np.ndarray, "N T"], true: Float[np.ndarray, "N T"]) -> Measured:
    """Norm of what is wrong, relative to the signal's; one item a signal."""
    items = np.linalg.norm(found - true, axis=1) / np.linalg.norm(true, axis=1)
    return Measured(items.mean(), items, fingerprint(true))
