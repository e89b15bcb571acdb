"""Neuroformer: a language model of spikes. Which neuron fires next, and when?

The idea. Read the activity of a population as a sentence: the tokens of a short window are its spikes in the order of
time, each two symbols, which neuron and how far into the window. A causal transformer writes the next token from those
before it, from the spikes of the time before the window, to which it attends, and from what else is known, such as
behaviour. What it learns that way is of use beyond prediction: it generates activity, its attention to the past says who
drives whom, and its features need few labels to tell what the animal does.

    h_k = e_id(i_k) + e_step(s_k) + e_place(k)           tokens of the window: SOS, spikes, EOS
    h   <- causal attention to itself -> to the past -> to behaviour -> to itself; each with a net of two layers after it
    P(i_{k+1}), P(s_{k+1}) = softmax(W_id h_k), softmax(W_step h_k)      loss: 0.6 CE of ids + 0.4 CE of steps

The past is a table of all tokens there can be, (bin, neuron) pairs with the embedding e_bin + e_neuron. A token that fired
n times gets log n added to its score: the same numbers as attention to a list of n tokens, and attention to the past
comes out as bins x neurons. Wiring: the mean attention that the position which predicts neuron i pays to a past spike of
neuron j (`wiring`), over all pairs of such positions and spikes.

Where we differ. Small: width 32 and one block a stage for 256 and six; windows of 50 ms and a past of as much or a little
more, as in the paper; AdamW along a cycle. Time cannot run back within a window, so the model may not say so. No video
frames and no contrastive loss between modalities (`losses.contrastive.info_nce` is there for it): behaviour is attended
to. On counts in bins (task co-smooth) there are no tokens to write: `RateModel` keeps the attention to the past and
answers with the rates of the next bin.

Source: Antoniades, Yu, Canzano, Wang & Smith, "Neuroformer: multimodal and multitask generative pretraining for brain
data" (2023), arXiv:2311.00136.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, Literal, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, one_hot

from timecell.card import Card
from timecell.checkpoint import seeded
from timecell.claims import Absent, AtChance, Measured, Ordering, Trial, claim
from timecell.data.containers import Batch, Data, Schema
from timecell.data.spikes import SpikeTrains
from timecell.data.synthetic.glm_network import GLMNetwork, glm_network
from timecell.generate.spikes import write_spikes
from timecell.inference import evaluating, predict
from timecell.lens.edges import cross_correlations, edge_recovery
from timecell.network_system import NetworkSystem
from timecell.networks.spike_models import Decoder, RateModel, TokenModel
from timecell.recipe import Recipe, Stage
from timecell.rhythm.tokenizers import SpikeTokenizer, SpikeWindows
from timecell.system import Run, Scores, Task
from timecell.train import fit

CARD = Card(
    slug="neuroformer",
    title="Neuroformer: multimodal and multitask generative pretraining for brain data",
    summary="A language model of spikes; its attention to the past says who drives whom.",
    family="recordings",
    paper="arXiv:2311.00136",
    n=24,
)


@dataclass(frozen=True)
class Neuroformer(NetworkSystem):
    """The model of rates on a user's spike counts; tokens are learnt with `fit_tokens`.

    Attributes:
        bins: how many bins it looks back.
        size: width.
        heads: of every attention.
        blocks: of attention.
        lr: highest learning rate.
        batch: samples an update.
    """

    card: ClassVar[Card] = CARD
    bins: int = 10
    size: int = 32
    heads: int = 4
    blocks: int = 1
    lr: float = 1e-2
    batch: int = 16

    def build(self, schema: Schema, outputs: int) -> nn.Module:
        """Counts of all units in, log rates out."""
        units = len(schema.channels)
        return RateModel(units, outputs, self.bins, size=self.size, heads=self.heads, blocks=self.blocks)

    def recipe(self) -> Recipe:
        """One cycle."""
        return Recipe((Stage(lr=self.lr, schedule="onecycle"),), batch=self.batch)

    def space(self) -> Mapping[str, Sequence[Any]]:
        """What comparisons tune."""
        return {"bins": (5, 10, 20), "lr": (3e-3, 1e-2), "blocks": (1, 2)}

    def accepts(self, schema: Schema, task: Task) -> str | None:
        """Spike counts whose next bin is asked for."""
        if task.name != "co-smooth":
            return f"it predicts spike counts (co-smooth); the task is {task.name}"
        return super().accepts(schema, task)


# --- tokens: learning, and what comes of it ---------------------------------------------------------------------------


@dataclass(frozen=True)
class NextToken:
    """The next token of a window; a prediction is its cost in nats, of the id and of the step, and how many tokens.

    Attributes:
        units: C, by which scores of ids and of steps are told apart.
        ids: weight of the ids in what is minimised; the score counts both in full.
    """

    units: int
    ids: float = 0.6

    name: ClassVar[str] = "next-token"
    kind: ClassVar[Literal["sequences"]] = "sequences"
    needs_whole: ClassVar[str | None] = "a window and its past are one sample"

    def loss(self, y: Float[Tensor, "B L K"], batch: Batch, steps: slice) -> Float[Tensor, ""]:
        """Mean over tokens."""
        of_id, of_step, tokens = self.scores_from_outputs(y, batch).sum(0)
        return (self.ids * of_id + (1 - self.ids) * of_step) / tokens

    def scores_from_outputs(self, y: Float[Tensor, "B L K"], batch: Batch) -> Float[Tensor, "B 3"]:
        """Of each window: nats of its ids, nats of its steps, tokens (spikes and EOS)."""
        assert batch.target is not None
        ids, steps = batch.target.unbind(-1)
        counts = ids <= self.units
        costs = [
            cross_entropy(scores.transpose(1, 2), truth.where(counts, -100), reduction="none").sum(1)
            for scores, truth in zip(y.split([self.units + 1, y.shape[2] - self.units - 1], 2), (ids, steps))
        ]
        return torch.stack([*costs, counts.sum(1).to(y.dtype)], 1)

    def prediction(self, answers: Float[Tensor, "N 3"], data: Data) -> Float[np.ndarray, "N 3"]:
        """As they are."""
        return answers.double().cpu().numpy()

    def score(self, prediction: Float[np.ndarray, "N 3"], data: Data) -> Scores:
        """Nats per token; the items are what each window adds to it."""
        of_id, of_step, tokens = prediction.T
        items = (of_id + of_step) / tokens.mean()
        metrics = {
            "nats": items.mean(),
            "nats_id": of_id.sum() / tokens.sum(),
            "nats_step": of_step.sum() / tokens.sum(),
        }
        return Scores({k: float(v) for k, v in metrics.items()}, "nats", False, items)


@dataclass(frozen=True)
class Behaviour(NextToken):
    """What the animal does during a window, from a `Decoder`: the labels of the windows, by squared error and R²."""

    name: ClassVar[str] = "behaviour"

    def loss(self, y: Float[Tensor, "B K"], batch: Batch, steps: slice) -> Float[Tensor, ""]:
        """Mean squared error."""
        assert batch.target is not None
        return mse_loss(y, batch.target)

    def scores_from_outputs(self, y: Float[Tensor, "B K"], batch: Batch) -> Float[Tensor, "B K"]:
        """As they are."""
        return y

    def score(self, prediction: Float[np.ndarray, "N K"], data: Data) -> Scores:
        """R² over all values; the items are what each window adds to it."""
        labels = cast(SpikeWindows, data).labels
        assert labels is not None
        truth = labels[cast(SpikeWindows, data).index]
        items = 1 - ((truth - prediction) ** 2).mean(1) / truth.var()
        return Scores({"r2": float(items.mean())}, "r2", True, items)


def fit_tokens(net: nn.Module, data: SpikeWindows, run: Run, lr: float = 2e-2) -> nn.Module:
    """Train a model of tokens, in place."""
    recipe = Recipe((Stage(lr=lr, schedule="onecycle"),), batch=64)
    return fit(net, data, cast(Task, NextToken(data.past.shape[2])), recipe=recipe, run=run).network


def wiring(net: TokenModel, data: SpikeWindows, windows: int = 4000) -> Float[np.ndarray, "C C"]:
    """Who drives whom: mean attention of the positions that predict unit i (row) to past spikes of unit j (column).

    NaN where the two never met.

    Args:
        net: after training.
        data: windows to look at; the training data will do.
        windows: how many of them.
    """
    units = net.units
    paid, met = torch.zeros(units, units), torch.zeros(units, units)
    with evaluating(net):
        for rows in np.array_split(np.arange(min(windows, len(data))), max(1, windows // 256)):
            batch = data.batch(rows)
            assert batch.target is not None
            ids = batch.target[..., 0]
            fires = one_hot(ids.clamp(max=units), units + 1)[..., :units].float()  # EOS and PAD are no units
            paid += torch.einsum("blpj,bli->ij", net.attention(batch.x), fires)
            met += torch.einsum("bpj,bli->ij", batch.x[:, : net.past_bins, :units], fires)
    return (paid / met).numpy()


# --- the checks -------------------------------------------------------------------------------------------------------
# 24 neurons, four hubs of which two drive each of the other twenty, some further wires, delays of 10 to 40 ms; ten minutes
# to learn from and five to test on. In the controls every spike is moved to a random time of its trial.

TOKENIZER = SpikeTokenizer(24, window=0.05, dt=0.01)
UPDATES = 300


def budget(trial: Trial) -> Run:
    """Updates of a model of tokens; shuffled spikes have little to teach."""
    updates = 3 if trial.quick else UPDATES // 4 if trial.control else UPDATES
    return Run(seed=trial.seed, updates=updates, progress=trial.progress, device="cpu")


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
        fit_tokens(model, data, budget(trial))
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
    control_shows=AtChance(0.0),
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
    fit_tokens(model, windows.of_trials(np.arange(learning)), budget(trial))

    windows, task = replace(windows, labels=labels.reshape(-1, 1)), Behaviour(TOKENIZER.units)
    near, far, test = (
        windows.select(np.arange(80)),
        windows.select(np.arange(80, 120)),
        windows.of_trials(np.arange(learning, trials)),
    )
    run = replace(budget(trial), updates=3 if trial.quick else UPDATES // 4)

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
