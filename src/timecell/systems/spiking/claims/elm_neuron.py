"""The checks of the ELM neuron: the sum of two spike patterns, and the spikes of a cell with branches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.checkpoint import seeded
from timecell.claims import AtChance, Measured, NonInferior, Ordering, Trial, claim
from timecell.claims.arms import budget, prepared, settings, tuned
from timecell.combine import Parallel, Sequential
from timecell.controls import LongMemoryNet
from timecell.data.containers import Schema, Sequences, fingerprint
from timecell.data.splits import Splits
from timecell.data.synthetic.neural import dendritic_neuron
from timecell.data.synthetic.spikes import motifs
from timecell.inference import evaluating
from timecell.layers.temporal_conv import TemporalConv
from timecell.network_system import NetworkSystem
from timecell.neurons import LeakyIntegrator
from timecell.recipe import cosine
from timecell.systems.spiking.elm_neuron import ElmNeuron
from timecell.tasks import Classify

# --- to sum two patterns ----------------------------------------------------------------------------------------------

UPDATES = 400
RATES = (5e-3, 1e-2)  # every arm chooses on validation data ...
FASTER = (1e-2, 3e-2)  # ... and small nets learn faster
ADDER = ElmNeuron(memories=20, branches=8, tau_max=200.0, batch=100)
GATED = LongMemoryNet(hidden=15, lr=1e-2, batch=100)  # as many parameters


def adding(samples: int, seed: int, part: int) -> Sequences:
    """Two spike patterns of 5 classes, one after the other, 50 steps each; the target is the sum of their numbers."""
    first, second = (
        motifs(5, steps=50, samples=samples, seed=6 * seed + 2 * part + k, template_seed=seed).data for k in range(2)
    )
    assert first.target is not None and second.target is not None
    both = [np.concatenate([first[i], second[i]]) for i in range(samples)]
    return Sequences.of(both, first.target + second.target, classes=tuple(map(str, range(9))))


def summing(trial: Trial, rates: Sequence[float], **arms: NetworkSystem) -> dict[str, Measured]:
    """Test accuracy of the answer at the last step; all arms choose among these learning rates."""
    splits = prepared(Splits(*(adding(n, trial.seed, part) for part, n in enumerate((2000, 500, 1000)))), trial)
    space, run = settings(trial, {"lr": rates}), budget(trial, UPDATES)
    return {name: tuned(system, space, splits, Classify("last"), run).measured for name, system in arms.items()}


@claim(
    "memories that reach over both patterns sum them; memories of at most 5 steps do not",
    source="the paper's ablation of memory time constants on SHD-Adding; there on spoken digits, here on spike patterns",
    control="training and validation labels shuffled: both as good as the most frequent sum",
    shows=Ordering("tau_max 200", "tau_max 5"),
    control_shows=AtChance(0.2),
)
def long_memories_add(trial: Trial) -> Mapping[str, Measured]:
    """The same neuron with long and with short memories."""
    return summing(trial, RATES, **{"tau_max 200": ADDER, "tau_max 5": replace(ADDER, tau_max=5.0)})


@claim(
    "on a small budget of updates and parameters an ELM neuron sums two patterns at least as well as an LSTM",
    source="the paper's comparison with LSTMs on SHD-Adding; there on spoken digits, here on spike patterns",
    control="training and validation labels shuffled: both as good as the most frequent sum",
    shows=NonInferior("ELM", "LSTM"),
    control_shows=AtChance(0.2),
)
def adds_as_well_as_an_lstm(trial: Trial) -> Mapping[str, Measured]:
    """Equal parameters, updates and tuning."""
    return summing(trial, RATES, ELM=ADDER, LSTM=GATED)


@claim(
    "twenty memories sum two patterns better than three",
    source="the paper's figures of accuracy against the number of memory units",
    control="training and validation labels shuffled: both as good as the most frequent sum",
    shows=Ordering("20 memories", "3 memories"),
    control_shows=AtChance(0.2),
)
def more_memories_add_better(trial: Trial) -> Mapping[str, Measured]:
    """The same neuron with many and with few memories."""
    return summing(trial, FASTER, **{"20 memories": ADDER, "3 memories": replace(ADDER, memories=3)})


# --- the checks: to be another neuron ---------------------------------------------------------------------------------
# No task asks whether something happens at each step, so these nets have a plain training loop of their own.

CELL = ElmNeuron(memories=10, branches=8)  # not told the wiring: its windows are twice as wide as the cell's branches
TRIALS = (160, 40, 40)
FIT_UPDATES, LOOK, BATCH = 200, 50, 8
FIT_RATES = {"lr": (1e-2, 3e-2)}
TAUS, PENALTIES = (5.0, 15.0, 40.0), (3e-3, 1e-2, 3e-2, 1e-1)  # of the filters [ms]; inverse strength, tuned
SILENT = 0.07  # share of the steps without a spike that the logistic function learns from; all with one


class Recorded(NamedTuple):
    """Inputs x [N, T, synapses] of a cell and its spikes [N, T]."""

    x: Int[np.ndarray, "N T I"]
    spikes: Int[np.ndarray, "N T"]

    def inputs(self, trials: Int[np.ndarray, "n"]) -> Float[Tensor, "n T I"]:
        """Of some trials, as numbers."""
        return torch.from_numpy(self.x[trials].astype(np.float32))

    def answers(self, net: nn.Module) -> Float[np.ndarray, "N T K"]:
        """Of a net to all trials."""
        parts = np.array_split(np.arange(len(self.x)), -(-len(self.x) // BATCH))
        with evaluating(net):
            return torch.cat([net(self.inputs(part))[0] for part in parts]).numpy()

    def auc(self, answers: Float[np.ndarray, "N T 1"]) -> float:
        """Area under the ROC curve: how often an answer is higher at a step with a spike than at one without."""
        from sklearn.metrics import roc_auc_score

        return float(roc_auc_score(self.spikes.ravel(), answers.ravel()))

    def measured(self, answers: Float[np.ndarray, "N T 1"], extra: Mapping[str, Any]) -> Measured:
        """The AUC, as an arm of a claim."""
        return Measured(self.auc(answers), data=fingerprint(self.x, self.spikes), extra=extra)


@claim(
    "an ELM neuron of 10 memories predicts a cell's spikes as well as a causal convolutional net of 8 times its size",
    source="the paper's comparison on NeuronIO with convolutional nets of millions of parameters; there a pyramidal cell "
    "of layer 5, here a cell whose branches have thresholds",
    control="every trial has the spikes of another: both at chance",
    shows=NonInferior("ELM", "TCN"),
    control_shows=AtChance(0.5),
)
def fits_a_neuron(trial: Trial) -> Mapping[str, Measured]:
    """AUC of spikes on new trials."""
    parts = recorded(trial)
    return {"ELM": best_of_rates(elm, trial, *parts), "TCN": best_of_rates(tcn, trial, *parts)}


@claim(
    "an ELM neuron of 10 memories predicts a cell's spikes better than filters of each synapse and a logistic function",
    source="the paper's premise that branches must be mixed; here on a cell whose branches have thresholds",
    control="every trial has the spikes of another: both at chance",
    shows=Ordering("ELM", "filters"),
    control_shows=AtChance(0.5),
)
def beyond_filters(trial: Trial) -> Mapping[str, Measured]:
    """AUC of spikes on new trials."""
    parts = recorded(trial)
    return {"ELM": best_of_rates(elm, trial, *parts), "filters": linear_nonlinear(trial, *parts)}


def recorded(trial: Trial) -> list[Recorded]:
    """A cell for each seed: training, validation and test trials; in a control each has the spikes of the one before.

    The test trials too: a net that learnt nothing still follows its input somehow, and so does the cell.
    """
    sizes = (BATCH, BATCH, BATCH) if trial.quick else TRIALS
    cell = dendritic_neuron(samples=sum(sizes), seed=trial.seed, cell_seed=trial.seed)
    x = cell.data.values.reshape(*cell.spikes.shape, -1)
    parts = np.split(np.arange(len(x)), np.cumsum(sizes)[:-1])
    return [Recorded(x[at], cell.spikes[np.roll(at, 1) if trial.control else at]) for at in parts]


def elm(inputs: int) -> Sequential:
    """One output, the logit of a spike."""
    return CELL.build(Schema("sequences", tuple(map(str, range(inputs)))), 1)


def tcn(inputs: int) -> Sequential:
    """The same from the last 127 ms; without dropout it learns its trials by heart."""
    return Sequential(nn.Dropout(0.4), TemporalConv(inputs, 12, layers=6), nn.Linear(12, 1))


def best_of_rates(
    make: Callable[[int], Sequential], trial: Trial, train: Recorded, valid: Recorded, test: Recorded
) -> Measured:
    """Of the nets that each learning rate makes, the one with the best AUC on validation trials, on test trials."""
    updates, fits = budget(trial, FIT_UPDATES).updates, []
    for lr in settings(trial, FIT_RATES)["lr"]:
        with seeded(trial.seed):
            net = make(train.x.shape[2])
            fits.append((train_on_spikes(net, train, valid, lr, updates, trial.seed), lr, net))
    _, lr, net = max(fits, key=lambda one: one[0])
    extra = {"lr": lr, "parameters": sum(p.numel() for p in net.parameters())}
    return test.measured(test.answers(net), extra)


def train_on_spikes(net: Sequential, train: Recorded, valid: Recorded, lr: float, updates: int, seed: int) -> float:
    """Cross-entropy at every step by AdamW along a cosine; the net keeps the weights of its best validation AUC."""
    rate, readout = float(train.spikes.mean()), net[-1]
    assert isinstance(readout, nn.Linear)
    nn.init.constant_(readout.bias, np.log(rate / (1 - rate)))  # spikes are rare: begin with how rare
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.0)
    course = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda update: cosine(update / updates))
    rng, best, weights = np.random.default_rng(seed), -1.0, net.state_dict()
    for update in range(1, updates + 1):
        trials = rng.choice(len(train.x), BATCH, replace=False)
        y, _ = net(train.inputs(trials))
        target = torch.from_numpy(train.spikes[trials]).float()
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(y[..., 0], target).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        course.step()
        if update % LOOK == 0 or update == updates:
            score = valid.auc(valid.answers(net))
            if score > best:
                best, weights = score, {name: value.clone() for name, value in net.state_dict().items()}
    net.load_state_dict(weights)
    return best


def linear_nonlinear(trial: Trial, train: Recorded, valid: Recorded, test: Recorded) -> Measured:
    """Exponential filters of each synapse, a weighted sum, a logistic function; its penalty is tuned.

    It is fitted to convergence, on all steps with a spike and some of those without, which changes its constant only.
    """
    from sklearn.linear_model import LogisticRegression

    traces = Parallel(*(LeakyIntegrator(train.x.shape[2], tau=tau, decay="exp") for tau in TAUS), merge="cat")
    scale = np.repeat(TAUS, train.x.shape[2]) ** -0.5  # all of about the same size
    seen, held_out, new = (part.answers(traces) * scale.astype(np.float32) for part in (train, valid, test))
    some = (train.spikes > 0) | (np.random.default_rng(trial.seed).random(train.spikes.shape) < SILENT)
    fits = []
    for penalty in PENALTIES[:1] if trial.quick else PENALTIES:
        model = LogisticRegression(C=penalty, max_iter=1000).fit(seen[some], train.spikes[some])
        fits.append((valid.auc(held_out @ model.coef_[0]), penalty, model.coef_[0]))
    _, penalty, weights = max(fits, key=lambda one: one[0])
    return test.measured(new @ weights, {"penalty": penalty, "parameters": len(weights) + 1})
