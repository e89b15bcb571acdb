"""The checks of Neuroformer, on spikes of a circuit whose wires are known.

24 neurons, four hubs of which two drive each of the other twenty, some further wires, delays of 10 to 40 ms; ten minutes
to learn from and five to test on. In the controls every spike is moved to a random time of its trial.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple, cast

import numpy as np
from jaxtyping import Bool, Float

from timecell.checkpoint import seeded
from timecell.claims import Absent, AtChance, Measured, NoBetter, Ordering, Trial, claim
from timecell.claims.arms import budget
from timecell.data.spikes import SpikeTrains
from timecell.data.synthetic.glm_network import GLMNetwork, glm_network
from timecell.generate.spikes import write_spikes
from timecell.inference import predict
from timecell.lens.edges import cross_correlations, edge_recovery
from timecell.networks.spike_models import Decoder, TokenModel
from timecell.recipe import Recipe, Stage
from timecell.rhythm.tokenizers import SpikeTokenizer, SpikeWindows
from timecell.system import Task
from timecell.systems.recordings.neuroformer import Behaviour, NextToken, fit_tokens, wiring
from timecell.train import fit

TOKENIZER = SpikeTokenizer(24, window=0.05, dt=0.01)
UPDATES = 300


class Learnt(NamedTuple):
    """A network, its spikes (shuffled in a control), and models of them."""

    truth: GLMNetwork
    spikes: SpikeTrains
    train: SpikeWindows
    test: SpikeWindows
    model: TokenModel
    blind: TokenModel


@lru_cache(maxsize=16)  # the claims ask for the same models
def learnt(trial: Trial) -> Learnt:
    """Ten minutes of spikes, and two models with and without the past."""
    trials = (2, 2) if trial.quick else (20, 10)
    seconds = 5.0 if trial.quick else 30.0
    truth = glm_network(trials=sum(trials), seconds=seconds, seed=trial.seed, wiring_seed=trial.seed)
    spikes = truth.spikes.shuffled(trial.seed) if trial.control else truth.spikes
    windows = SpikeWindows.of(spikes, TOKENIZER, seed=trial.seed)
    train, test = windows.of_trials(np.arange(trials[0])), windows.of_trials(np.arange(trials[0], sum(trials)))
    models = []
    for data in (train, without_past(train)):
        model = untrained(trial.seed)
        fit_tokens(model, data, budget(trial, UPDATES))
        models.append(model)
    return Learnt(truth, spikes, train, test, *models)


def untrained(seed: int, history: int = 1) -> TokenModel:
    """A model as it is before it learns."""
    with seeded(seed):
        return TokenModel(TOKENIZER.units, TOKENIZER.bins, history)


def without_past(windows: SpikeWindows) -> SpikeWindows:
    """The same windows after silence."""
    return replace(windows, past=np.zeros_like(windows.past))


@claim(
    "the next token is predicted better with the past than without, and better without than from mean rates",
    source="the paper's ablation of its modalities, and its check on a simulated circuit with hubs",
    control="every spike at a random time: the order does not hold",
    shows=Ordering("with the past", "without the past", "mean rates", better="lower"),
    control_shows=Absent(),
)
def the_past_tells(trial: Trial) -> Mapping[str, Measured]:
    """Nats per token of test windows; the two models have the same weights and updates, one of them sees no past."""
    seen = learnt(trial)
    task, test = NextToken(TOKENIZER.units), seen.test
    costs = {
        "with the past": predict(seen.model, test, cast(Task, task)),
        "without the past": predict(seen.blind, without_past(test), cast(Task, task)),
        "mean rates": mean_rates(seen.train, test),
    }
    scores = {arm: task.score(cost, test) for arm, cost in costs.items()}
    return {arm: Measured(s.value, s.items, test.fingerprint, dict(s.metrics)) for arm, s in scores.items()}


def mean_rates(train: SpikeWindows, test: SpikeWindows) -> Float[np.ndarray, "N 3"]:
    """The costs of a model that knows how often each unit fires and which bin was the last: tables of counts, plus 1/2."""
    bins, units = TOKENIZER.bins, TOKENIZER.units

    def pairs(data: SpikeWindows) -> tuple[np.ndarray, ...]:
        ids, steps = data.tokens.ids[data.index], data.tokens.steps[data.index]
        row, place = np.nonzero(ids[:, 1:] <= units)
        return (
            row,
            np.minimum(steps[row, place], bins),
            ids[row, place + 1],
            steps[row, place + 1],
        )  # SOS has a row of its own

    _, before, ids, steps = pairs(train)
    of_id, of_step = np.full((bins + 1, units + 1), 0.5), np.full((bins + 1, bins + 1), 0.5)
    np.add.at(of_id, (before, ids), 1)
    np.add.at(of_step, (before, steps), 1)
    row, before, ids, steps = pairs(test)
    columns = [-np.log(of_id / of_id.sum(1, keepdims=True))[before, ids]]
    columns += [-np.log(of_step / of_step.sum(1, keepdims=True))[before, steps], np.ones(len(row))]
    return np.stack([np.bincount(row, column, minlength=len(test)) for column in columns], 1)


@claim(
    "attention to a hub tells the neurons that it drives from the others, and learning is what makes it so",
    source="the paper's connectivity of a simulated circuit with hubs, read out of attention",
    control="every spike at a random time: the AUC is that of chance",
    shows=Ordering("trained", "untrained"),
    control_shows=AtChance(0.5),
)
def attention_is_wiring(trial: Trial) -> Mapping[str, Measured]:
    """AUC of each hub's targets among the neurons that are no hubs, mean over hubs.

    Beside it AUC, precision and direction over all pairs of neurons. They say above all which columns have much attention
    (four hubs have 40 of the 55 wires), and by chance a model without wires may favour just these.
    """
    seen = learnt(trial)
    wires = seen.truth.weights != 0
    scores = {
        "trained": wiring(seen.model, seen.train),
        "untrained": wiring(untrained(trial.seed), seen.train),
        "cross-correlogram": cross_correlations(seen.spikes, 0.005, 8).max(0),  # the classical method
    }
    return {
        arm: Measured(of_hubs(score, wires), extra=edge_recovery(score, wires)._asdict())
        for arm, score in scores.items()
    }


def of_hubs(scores: Float[np.ndarray, "C C"], wires: Bool[np.ndarray, "C C"], hubs: int = 4) -> float:
    """AUC of the targets of each hub, mean over hubs: scores of one column are compared with one another alone."""
    from sklearn.metrics import roc_auc_score

    known = np.nan_to_num(scores)
    return float(np.mean([roc_auc_score(wires[hubs:, hub], known[hubs:, hub]) for hub in range(hubs)]))


@claim(
    "generated activity has the lagged correlations of the recorded one, and the past is what gives them",
    source="the paper: generated spikes of a simulated circuit have its statistics",
    control="a model of shuffled spikes, against the recorded ones: no correlation",
    shows=Ordering("with the past", "without the past"),
    control_shows=AtChance(0.0),
)
def generated_activity(trial: Trial) -> Mapping[str, Measured]:
    """Correlation over pairs and lags (10 to 40 ms) of lagged correlations; the rates' beside it."""
    seen = learnt(trial)
    start = seen.train.select(np.arange(0, len(seen.train), len(seen.train) // (4 if trial.quick else 200) + 1))
    recorded = seen.truth.spikes

    def alike(model: TokenModel, data: SpikeWindows) -> tuple[float, float]:
        made = write_spikes(model, data, TOKENIZER, 3 if trial.quick else 20, trial.seed)
        pairs = [cross_correlations(spikes, 0.01, 4).ravel() for spikes in (made, recorded)]
        return correlation(*pairs), correlation(made.rates, recorded.rates)

    arms = {"with the past": alike(seen.model, start), "without the past": alike(seen.blind, without_past(start))}
    return {arm: Measured(pairs, extra={"rates": rates}) for arm, (pairs, rates) in arms.items()}


def correlation(a: Float[np.ndarray, "n"], b: Float[np.ndarray, "n"]) -> float:
    """Pearson's; 0 where nothing varies."""
    return float(np.corrcoef(a, b)[0, 1]) if a.std() and b.std() else 0.0


HISTORY = 4


@claim(
    "with labels for six seconds, 1 % of the windows, a model that has learnt the spikes first decodes speed better",
    source="the paper's few-shot prediction of speed from pre-trained features",
    control="the speed of another trial: nothing to decode",
    shows=Ordering("pre-trained", "from scratch"),
    control_shows=NoBetter(0.0),
)
def few_labels_suffice(trial: Trial) -> Mapping[str, Measured]:
    """R² of the speed in test trials; both nets are tuned alike on the labelled windows, of which a third validates."""
    learning, seconds = (2, 5.0) if trial.quick else (20, 30.0)
    trials = learning * 3 // 2
    truth = glm_network(trials=trials, seconds=seconds, gain=0.7, seed=trial.seed, wiring_seed=trial.seed)
    speed = truth.speed.reshape(trials, -1, round(TOKENIZER.window / truth.dt)).mean(2)  # of each window
    labels = np.roll(speed, 1, axis=0) if trial.control else speed
    windows = SpikeWindows.of(truth.spikes, TOKENIZER, HISTORY, seed=trial.seed)
    model = untrained(trial.seed, HISTORY)
    fit_tokens(model, windows.of_trials(np.arange(learning)), budget(trial, UPDATES))

    windows, task = replace(windows, labels=labels.reshape(-1, 1)), Behaviour(TOKENIZER.units)
    near, far, test = (
        windows.select(np.arange(80)),
        windows.select(np.arange(80, 120)),
        windows.of_trials(np.arange(learning, trials)),
    )
    run = budget(trial, UPDATES // 4, control=1)

    def arm(model: TokenModel) -> Measured:
        tried = []
        for lr in (1e-3, 1e-2):
            with seeded(trial.seed):
                net = Decoder(deepcopy(model), outputs=1)
            recipe = Recipe((Stage(lr=lr, schedule="onecycle"),), batch=64, validate_every=10)
            fit(net, near, cast(Task, task), valid=far, recipe=recipe, run=run)  # keeps the weights best on these
            tried.append((task.score(predict(net, far, cast(Task, task)), far).value, lr, net))
        _, lr, net = max(tried, key=lambda one: one[:2])
        scores = task.score(predict(net, test, cast(Task, task)), test)
        by_trial = scores.items.reshape(trials - learning, -1).mean(1)  # neighbours in time are no independent items
        return Measured(scores.value, by_trial, test.fingerprint, {"lr": lr})

    return {"pre-trained": arm(model), "from scratch": arm(untrained(trial.seed, HISTORY))}
