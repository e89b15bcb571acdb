"""The checks of PromptTPP: a stream of four regimes, one of which comes back, learnt one after the other.

Each regime has rules of its own for which mark follows which, and after how long. The arms are the same base model with
prompts, with prompts that all histories share, and without.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from timecell.checkpoint import seeded
from timecell.claims import Absent, Measured, Ordering, Trial, claim
from timecell.claims.arms import budget
from timecell.data.containers import Data
from timecell.data.event_sequences import next_rows
from timecell.data.splits import Splits
from timecell.data.synthetic.event_regimes import event_regimes
from timecell.generate.point_process import PointProcess
from timecell.inference import evaluate, evaluating
from timecell.systems.events.prompttpp import TASK, PromptedHawkes, PromptTPP
from timecell.tasks.event_predictions import event_sequences
from timecell.tasks.stream import ScoreMatrix, TaskStream, learn_in_turn

ORDER, STILL = "ABaC", "Aaaa"  # of the regimes, and in a control, where nothing changes
UPDATES = 150  # for each
PROMPTED = PromptTPP()
SHARED = PromptTPP(prompts=3)  # all histories find the same three
FINE_TUNED = PromptTPP(prompts=0, base_rate=1.0)
SLOWLY = tuple(PromptTPP(prompts=0, base_rate=rate) for rate in (0.03, 0.1))


class Learnt(NamedTuple):
    """What became of a stream.

    Attributes:
        network: after the last period.
        matrix: log-likelihood per event of every period after each was learnt [nats; time in mean gaps].
        items: [N] what the test sequences of all periods add to its last row.
    """

    network: PointProcess
    matrix: ScoreMatrix
    items: Float[np.ndarray, "N"]


def stream(trial: Trial) -> TaskStream:
    """The periods, with time in mean gaps of the first one."""
    sizes = (24, 6, 6) if trial.quick else (120, 30, 60)
    order, change = (STILL, 0.0) if trial.control else (ORDER, 0.1)
    regimes = event_regimes(order, end=16.0, sequences=sizes, change=change, seed=trial.seed)
    unit = event_sequences(regimes[0].parts.train).mean_gap
    parts = [(event_sequences(p).scaled(unit) for p in vars(regime.parts).values()) for regime in regimes]
    return TaskStream(tuple(regime.name for regime in regimes), tuple(Splits(*each) for each in parts))


@cache
def learnt(system: PromptTPP, trial: Trial) -> Learnt:
    """One system on one stream; several claims look at the same."""
    periods = stream(trial)
    run = budget(trial, UPDATES, control=2)
    with seeded(trial.seed):
        net = system.build(periods.parts[0].train.schema)
    items: dict[int, Float[np.ndarray, "n"]] = {}

    def score(period: int, data: Data) -> float:
        scores = evaluate(net, data, TASK)
        items[period] = scores.items
        return scores.value

    matrix = learn_in_turn(periods, lambda period, parts: system.learn(net, period, parts, run), score)
    return Learnt(net, matrix, np.concatenate(list(items.values())))


def slowly_tuned(trial: Trial) -> Learnt:
    """The base model alone, at the rate that is best for the validation data of all periods: more than it could know."""

    def valid(one: Learnt) -> float:
        return float(np.mean([evaluate(one.network, parts.valid, TASK).value for parts in stream(trial).parts]))

    return max((learnt(system, trial) for system in SLOWLY), key=valid)


def at_the_end(one: Learnt) -> Measured:
    """Log-likelihood per event, mean over all periods, after the last one."""
    extra = {"forgetting": one.matrix.forgetting, "when just learnt": one.matrix.plasticity}
    return Measured(one.matrix.average, one.items, extra=extra)


@claim(
    "after a stream of periods, a model with prompts explains all of them better than one that is fine-tuned at its full rate",
    source="the paper's comparison with continual baselines on Taobao, Amazon and StackOverflow; there by error rate and RMSE",
    control="a stream in which nothing changes: fine-tuning goes on learning, and is no worse",
    shows=Ordering("PromptTPP", "fine-tuning"),
    control_shows=Absent(),
)
def explains_all_periods(trial: Trial) -> Mapping[str, Measured]:
    """Log-likelihood per event over all periods at the end [nats]."""
    return {"PromptTPP": at_the_end(learnt(PROMPTED, trial)), "fine-tuning": at_the_end(learnt(FINE_TUNED, trial))}


@claim(
    "after a stream of periods, a model with prompts explains all of them better than one that is fine-tuned slowly",
    source="not the paper's: a control of what prompts add to a base that goes on learning slowly",
    control="a stream in which nothing changes: fine-tuning goes on learning, and is no worse",
    shows=Ordering("PromptTPP", "fine-tuning, slow"),
    control_shows=Absent(),
)
def better_than_slow(trial: Trial) -> Mapping[str, Measured]:
    """Log-likelihood per event over all periods at the end [nats]; fine-tuning at the better of two slow rates."""
    return {"PromptTPP": at_the_end(learnt(PROMPTED, trial)), "fine-tuning, slow": at_the_end(slowly_tuned(trial))}


@claim(
    "a model with prompts forgets less than one that is fine-tuned at its full rate",
    source="the paper's premise; forgetting as the loss since a period's best score",
    control="a stream in which nothing changes: there is nothing to forget",
    shows=Ordering("PromptTPP", "fine-tuning", better="lower"),
    control_shows=Absent(),
)
def forgets_less(trial: Trial) -> Mapping[str, Measured]:
    """Log-likelihood per event that earlier periods have lost since their best [nats]; with slow fine-tuning beside."""
    arms = {"PromptTPP": PROMPTED, "fine-tuning": FINE_TUNED, "fine-tuning, slow": SLOWLY[0]}
    return {name: Measured(learnt(system, trial).matrix.forgetting) for name, system in arms.items()}


@claim(
    "prompts that histories find explain a stream better than as many prompts that all are shown",
    source="the paper's ablation of the retrieval",
    control="a stream in which nothing changes: there is nothing to find",
    shows=Ordering("found", "shared"),
    control_shows=Absent(),
)
def finding_matters(trial: Trial) -> Mapping[str, Measured]:
    """Log-likelihood per event over all periods at the end [nats]."""
    arms = {"found": learnt(PROMPTED, trial), "shared": learnt(SHARED, trial)}
    return {name: at_the_end(one) for name, one in arms.items()}


@claim(
    "a regime that comes back finds the prompts that it found before, another one finds others",
    source="the paper's picture of the selection of prompts across tasks",
    control="a stream in which nothing changes: the last period finds the same ones",
    shows=Ordering("A and a", "A and C"),
    control_shows=Absent(),
)
def regimes_find_their_prompts(trial: Trial) -> Mapping[str, Measured]:
    """Correlation of how often each prompt is found in the test data of two periods, after the last one."""
    net = learnt(PROMPTED, trial).network
    assert isinstance(net, PromptedHawkes)
    A, _, a, C = (found_shares(net, parts.test) for parts in stream(trial).parts)
    return {name: Measured(np.corrcoef(A, other)[0, 1]) for name, other in (("A and a", a), ("A and C", C))}


def found_shares(net: PromptedHawkes, data: Data) -> Float[np.ndarray, "M"]:
    """How often each prompt is found, after the start and after each event."""
    batch = data.batch(np.arange(len(data)))
    with evaluating(net):
        chosen = net.find(batch.x).chosen
    known = next_rows(batch.x, batch.lengths)
    counts = torch.bincount(chosen[:, :-1][known.event | known.tail].flatten(), minlength=len(net.pool.keys))
    return (counts / counts.sum()).numpy()
