"""The checks of the continuous thought machine: the parity so far at every step of strings of 4 to 8 bits.

Strings that are shorter than eight are followed by blanks. A quarter of all strings is kept for the test; an arm answers at
the tick at which it is surest, whatever its neurons are made of. All arms think in the same loop, of twelve ticks unless
said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import torch

from timecell.claims import Absent, AtChance, Measured, Ordering, Trend, Trial, claim, experiment
from timecell.claims.arms import budget
from timecell.claims.experiment import Arrays
from timecell.data.labelled_steps import LabelledSteps
from timecell.data.splits import by_sample
from timecell.data.synthetic.memory_tasks import cumulative_parity
from timecell.inference import evaluating
from timecell.systems.memory.ctm import CTM
from timecell.tasks import Classify
from timecell.tasks.stopping import certainty, first_certain, most_certain, unflat

SHORTEST, LONGEST = 4, 8
UPDATES = 1000
SURE = 0.8  # certainty from which on an answer could be given

ARMS = {
    "CTM": [CTM(ticks=12)],
    "LSTM": [CTM(ticks=12, lstm=True, lr=lr) for lr in (2e-3, 5e-3)],  # the better one on validation data
    "no private histories": [CTM(ticks=12, private=False)],
    "no synchronisation": [CTM(ticks=12, synchrony=False)],
    "3 ticks": [CTM(ticks=3)],
}


@claim(
    "a continuous thought machine is better at parity than an LSTM in its place, which has more weights",
    source="the paper's parity task, where LSTMs of equal size fall behind",
    control="labels of training and validation shuffled: both at chance",
    shows=Ordering("CTM", "LSTM"),
    control_shows=AtChance(0.5),
)
def better_than_an_lstm(trial: Trial) -> Mapping[str, Measured]:
    """Share of steps that are right, at the tick at which each string's answers are surest."""
    return right(trial, "CTM", "LSTM")


@claim(
    "time to think is of use: a net that is built for twelve ticks is better than one for three",
    source="the paper's parity task, by the number of internal ticks",
    control="labels of training and validation shuffled: both at chance",
    shows=Ordering("12 ticks", "3 ticks"),
    control_shows=AtChance(0.5),
)
def thinking_helps(trial: Trial) -> Mapping[str, Measured]:
    """As `better_than_an_lstm`."""
    return {arm.replace("CTM", "12 ticks"): m for arm, m in right(trial, "CTM", "3 ticks").items()}


@claim(
    "it needs the private networks over each neuron's history: without them (z = tanh a) it is worse",
    source="the plan for this house; the paper takes neuron-level models out in its mazes",
    control="labels of training and validation shuffled: both at chance",
    shows=Ordering("CTM", "no private histories"),
    control_shows=AtChance(0.5),
)
def histories_matter(trial: Trial) -> Mapping[str, Measured]:
    """As `better_than_an_lstm`."""
    return right(trial, "CTM", "no private histories")


@claim(
    "it needs synchronisation: where neurons themselves look and answer it is worse",
    source="the plan for this house; the paper takes synchronisation out in its mazes",
    control="labels of training and validation shuffled: both at chance",
    shows=Ordering("CTM", "no synchronisation"),
    control_shows=AtChance(0.5),
)
def synchronisation_matters(trial: Trial) -> Mapping[str, Measured]:
    """As `better_than_an_lstm`."""
    return right(trial, "CTM", "no synchronisation")


@claim(
    "it knows when to answer: the surest tick is better than the last",
    source="the paper's loss of the best and the most certain tick, which leaves the choice of ticks to the net",
    control="each string answers at the surest tick of another one: no better than the last",
    shows=Ordering("surest tick", "last tick"),
    control_shows=Absent(),
)
def it_knows_when_to_answer(trial: Trial) -> Mapping[str, Measured]:
    """Share of steps that are right."""
    found = thoughts(replace(trial, control=False), "CTM")
    at = surest(found)
    if trial.control:
        at = np.random.default_rng(trial.seed).permutation(at)
    items = {"surest tick": pick(found["right"], at), "last tick": found["right"][:, -1]}
    return {arm: Measured(each.mean(), each) for arm, each in items.items()}


@claim(
    "it thinks longer about longer strings",
    source="the paper's adaptive compute: simple cases are done early",
    control="labels of training and validation shuffled: it is as unsure of all",
    shows=Trend(*(f"{n} bits" for n in range(SHORTEST, LONGEST + 1)), direction="rises"),
    control_shows=Absent(),
)
def longer_strings_take_longer(trial: Trial) -> Mapping[str, Measured]:
    """Mean tick from which on it is sure, from 1; the last one where it never is."""
    found = thoughts(trial, "CTM")
    done = 1.0 + first_certain(torch.from_numpy(found["certainty"]), SURE).numpy()
    each = {n: done[found["bits"] == n].mean() for n in range(SHORTEST, LONGEST + 1)}
    return {f"{n} bits": Measured(tick) for n, tick in each.items()}


def right(trial: Trial, *arms: str) -> dict[str, Measured]:
    """Share of steps of each test string that are right, at its surest tick."""
    found = {arm: thoughts(trial, arm) for arm in arms}
    items = {arm: pick(each["right"], surest(each)) for arm, each in found.items()}
    return {
        arm: Measured(
            items[arm].mean(), items[arm], extra={"by tick": each["right"].mean(0).tolist(), "lr": float(each["lr"])}
        )
        for arm, each in found.items()
    }


@experiment
def thoughts(trial: Trial, arm: str) -> Arrays:
    """What an arm says of the test strings: how sure it is, and what share of the steps is right, [N, ticks] each."""
    data = cumulative_parity(LONGEST, SHORTEST, seed=trial.seed)
    splits = by_sample(data, seed=trial.seed, valid=0.1, test=0.25)
    train, valid, test = (cast(LabelledSteps, part) for part in (splits.train, splits.valid, splits.test))
    if trial.control:
        train, valid = strangers(train, trial.seed), strangers(valid, trial.seed)
    run = budget(trial, UPDATES, control=10)
    systems = ARMS[arm][:1] if trial.quick or trial.control else ARMS[arm]
    fitted = [system.fit(train, valid, Classify(), run) for system in systems]
    best = max(fitted, key=lambda one: one.task.score(one.predict(valid), valid).value)
    batch = best.scale.data(test).batch(np.arange(len(test)))
    with evaluating(best.network):
        logits = unflat(best.network(batch.x)[0], batch)
    assert batch.target is not None
    return {
        "right": (logits.argmax(-1) == batch.target[:, None]).double().mean(2).numpy(),
        "certainty": certainty(logits).mean(2).numpy(),
        "bits": np.array([np.count_nonzero(test[i]) for i in range(len(test))]),
        "lr": np.array(cast(CTM, best.system).lr),
    }


def strangers(data: LabelledSteps, seed: int) -> LabelledSteps:
    """The same strings with the labels of others."""
    rows = np.random.default_rng(seed).permutation(data.labels.reshape(len(data), -1))
    return replace(data, labels=rows.reshape(-1))


def surest(found: Arrays) -> np.ndarray:
    """The tick at which each string's answers are surest."""
    return most_certain(torch.from_numpy(found["certainty"])).numpy()


def pick(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Of each row, the value at its tick."""
    return values[np.arange(len(values)), at]
