"""The checks of the tutorial's recipe: codes, losses and costs on 8 x 8 digits, and one synapse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from timecell.cell import record
from timecell.claims import Absent, AtChance, Matches, Measured, NonInferior, Ordering, Trial, claim
from timecell.claims.arms import Arm, budget, prepared, settings, tuned
from timecell.data.containers import Sequences
from timecell.data.encoders import direct, latency, rate
from timecell.data.images import load_digits
from timecell.data.splits import Splits, by_sample
from timecell.inference import evaluating
from timecell.losses import spike_count
from timecell.network_system import FittedNetwork
from timecell.neurons import LIF, FastSigmoid, Sigmoid, Triangle
from timecell.system import Readout
from timecell.systems.spiking.snn_tutorial import SnnTutorial
from timecell.tasks import Classify
from timecell.tasks.classify import Criterion

STEPS = 15
UPDATES = 150
TASK = Classify("every")
RATES = {"lr": (5e-3, 2e-2)}  # every arm chooses on validation data

CODES: Mapping[str, Callable[[Tensor, int, torch.Generator], Tensor]] = {
    "direct": lambda x, steps, generator: direct(x, steps),
    "rate": lambda x, steps, generator: rate(x, steps, generator),
    "latency": lambda x, steps, generator: latency(x, steps),
}
LOSSES: tuple[tuple[Readout, Criterion], ...] = (
    ("count", "cross_entropy"),
    ("count", "mse"),
    ("first_spike", "cross_entropy"),
    ("max", "cross_entropy"),
    ("every", "cross_entropy"),
    ("every", "mse"),
    ("every", "tet"),
)


def digits(trial: Trial, code: str, steps: int = STEPS) -> Splits:
    """8 x 8 digits in a code; half of them train, a tenth validates, the rest tests. Random spikes are drawn once."""
    generator = torch.Generator().manual_seed(trial.seed)
    data = load_digits().encoded(lambda x: CODES[code](x, steps, generator))
    return by_sample(data, seed=trial.seed, valid=0.1, test=0.4)


def fitted(trial: Trial, system: SnnTutorial, splits: Splits) -> Arm:
    """The best of two learning rates; in a control or a quick trial one rate and fewer updates."""
    return tuned(system, settings(trial, RATES), splits, TASK, budget(trial, UPDATES))


@claim(
    "every loss trains the net with every code",
    source="the tutorial's survey of input codes and losses; spec: above 85 % on digits, first-spike losses 75 %",
    control="training and validation labels shuffled: it does not",
    shows=Matches("worst of all", 1.0),
    control_shows=Absent(),
)
def every_code_with_every_loss(trial: Trial) -> Mapping[str, Measured]:
    """Test accuracy of the worst of 21 combinations; all of them beside."""
    cells: dict[str, Measured] = {}
    for code in ("latency",) if trial.quick else CODES:
        splits = prepared(digits(trial, code), trial)
        for readout, criterion in LOSSES:
            system = SnnTutorial(readout=readout, criterion=criterion)
            arm = fitted(trial, system, splits)
            cells[f"{code}, {readout}, {criterion}"] = replace(arm.measured, data=None)  # each code has data of its own
    return {"worst of all": min(cells.values(), key=lambda m: m.value), **cells}


@claim(
    "a hidden layer trained through surrogate spikes beats one left at random",
    source="the tutorial's case for surrogate gradients",
    control="training and validation labels shuffled: both at chance",
    shows=Ordering("arctangent", "random hidden layer"),
    control_shows=AtChance(0.1),
)
def surrogates_teach_hidden_layers(trial: Trial) -> Mapping[str, Measured]:
    """Test accuracy with 32 hidden units, trained and not; two more surrogates of the tutorial beside."""
    splits = prepared(digits(trial, "rate"), trial)
    small = SnnTutorial(hidden=32)
    systems = {
        "arctangent": small,
        "random hidden layer": replace(small, train_hidden=False),
        "fast sigmoid": replace(small, surrogate=FastSigmoid()),
        "triangle": replace(small, surrogate=Triangle()),
    }
    return {name: fitted(trial, system, splits).measured for name, system in systems.items()}


@claim(
    "a latency code needs at most a fifth of a rate code's input spikes",
    source="the tutorial on input codes: latency is sparse, rate is not",
    control="3 steps in place of 15: too few for a rate code to be expensive",
    shows=Ordering("latency", "rate", better="lower"),
    control_shows=Absent(),
)
def latency_needs_few_spikes(trial: Trial) -> Mapping[str, Measured]:
    """Input spikes of a test picture, as a share of the rate code's mean."""
    spikes = {}
    for code in ("latency", "rate"):
        test = digits(trial, code, 3 if trial.control else STEPS).test
        spikes[code] = test.batch(np.arange(len(test))).x.sum(dim=(1, 2)).numpy()
    return shares(spikes, of="rate")


@claim(
    "a latency code is nearly as accurate as a rate code",
    source="the tutorial on input codes; what sparse input costs in accuracy",
    control="training and validation labels shuffled: both at chance",
    shows=NonInferior("latency", "rate"),
    control_shows=AtChance(0.1),
)
def latency_keeps_accuracy(trial: Trial) -> Mapping[str, Measured]:
    """Test accuracy of the same net on the same pictures in two codes."""
    system = SnnTutorial(readout="every")
    arms = {code: fitted(trial, system, prepared(digits(trial, code), trial)).measured for code in ("latency", "rate")}
    return {code: replace(arm, data="the same pictures") for code, arm in arms.items()}


@claim(
    "a cost on spikes halves the activity of the hidden layer",
    source="the tutorial on activity regularisation",
    control="a cost of next to nothing: it does not",
    shows=Ordering("with cost", "without", better="lower"),
    control_shows=Absent(),
)
def cost_halves_activity(trial: Trial) -> Mapping[str, Measured]:
    """Hidden spikes of a test picture, as a share of the mean without a cost."""
    arms, test = with_and_without_cost(replace(trial, control=False), cost=1e-6 if trial.control else COST)
    return shares({name: hidden_spikes(arm.fitted, test) for name, arm in arms.items()}, of="without")


@claim(
    "that cost on spikes takes next to nothing from the accuracy",
    source="the tutorial on activity regularisation",
    control="training and validation labels shuffled: both at chance",
    shows=NonInferior("with cost", "without"),
    control_shows=AtChance(0.1),
)
def cost_keeps_accuracy(trial: Trial) -> Mapping[str, Measured]:
    """Test accuracy of the same nets."""
    return {name: arm.measured for name, arm in with_and_without_cost(trial, COST)[0].items()}


@claim(
    "learning how fast membranes leak does no harm",
    source="the tutorial on learnable decay",
    control="training and validation labels shuffled: both at chance",
    shows=NonInferior("learned beta", "fixed beta"),
    control_shows=AtChance(0.1),
)
def learned_beta(trial: Trial) -> Mapping[str, Measured]:
    """Test accuracy with beta learned from 0.9, and with 0.9."""
    splits = prepared(digits(trial, "latency"), trial)
    systems = {"learned beta": SnnTutorial(learn_beta=True), "fixed beta": SnnTutorial()}
    return {name: fitted(trial, system, splits).measured for name, system in systems.items()}


@claim(
    "backpropagation through time moves the weight of a synapse as spike-timing-dependent plasticity does",
    source="abstract: the link between temporal backpropagation and spike-timing-dependent plasticity",
    control="the unit does not fire: nothing is strengthened",
    shows=Ordering("pre before post", "silent synapse", "post before pre"),
    control_shows=Absent(),
)
def backpropagation_looks_like_stdp(trial: Trial) -> Mapping[str, Measured]:
    """Mean change of a weight over lags of 1 to 8 steps, as a multiple of the largest change."""
    change = window(trial.seed, fires=not trial.control)
    largest = max(abs(value) for value in change.values())
    before, after = ([change[sign * lag] / largest for lag in range(1, 9)] for sign in (1, -1))
    return {
        "pre before post": Measured(float(np.mean(before)), extra={"by lag": before}),
        "silent synapse": Measured(change[0] / largest),
        "post before pre": Measured(float(np.mean(after)), extra={"by lag": after}),
    }


# --- what they measure ------------------------------------------------------------------------------------------------

COST = 3.0


def with_and_without_cost(trial: Trial, cost: float) -> tuple[dict[str, Arm], Sequences]:
    """The same net twice, and the test pictures."""
    splits = prepared(digits(trial, "rate"), trial)
    systems = {"with cost": SnnTutorial(spike_cost=cost), "without": SnnTutorial()}
    assert isinstance(splits.test, Sequences)
    return {name: fitted(trial, system, splits) for name, system in systems.items()}, splits.test


def hidden_spikes(net: FittedNetwork, data: Sequences) -> Float[np.ndarray, "N"]:
    """How many spikes the hidden layer fires for each sample."""
    batch = net.scale.data(data).batch(np.arange(len(data)))
    with evaluating(net.network), record(net.network, "1") as seen:
        net.network(batch.x, lengths=batch.lengths)
    return spike_count(seen["1"], batch.lengths).sum(dim=1).numpy()


def shares(spikes: Mapping[str, Float[np.ndarray, "N"]], of: str) -> dict[str, Measured]:
    """Spikes of each sample as a share of an arm's mean."""
    mean = float(np.mean(spikes[of]))
    each = {arm: n / mean for arm, n in spikes.items()}
    return {
        arm: Measured(n.mean(), n, "the same pictures", {"spikes": float(spikes[arm].mean())})
        for arm, n in each.items()
    }


def window(seed: int, fires: bool = True, reach: int = 8) -> dict[int, float]:
    """How much gradient descent moves a weight for a spike that comes so many steps before the unit's own; 0: none comes.

    The unit is driven to fire once. The loss is minus the log-likelihood of that: at each step the unit fires with the
    probability that its surrogate's primitive gives to its distance from threshold.

    Args:
        seed: of the weight, of beta and of a weak noise current.
        fires: False: there is no drive, and the loss is that of staying silent.
        reach: the longest lag.
    """
    rng = np.random.default_rng(seed)
    surrogate, steps, post = Sigmoid(5.0), 4 * reach + 1, 2 * reach  # so steep that it hardly fires at rest
    unit = LIF(1, tau=1 / (1 - rng.uniform(0.8, 0.95)), reset_delay=True, detach=True, surrogate=surrogate)
    current = torch.from_numpy(rng.normal(0.0, 0.02, steps))
    current[post] += 1.1 if fires else 0.0
    strength = rng.uniform(0.05, 0.2)
    change = {}
    for lag in range(-reach, reach + 1):
        weight = torch.tensor(strength, requires_grad=True)
        arrives = torch.zeros(steps)
        if lag != 0:
            arrives[post - lag] = 1.0
        with record(unit, "v") as seen:
            spikes, _ = unit((weight * arrives + current.float())[None, :, None])
        probability = surrogate.primitive(seen["v"] - unit.threshold)
        loss = torch.nn.functional.binary_cross_entropy(probability, spikes.detach())
        (gradient,) = torch.autograd.grad(loss, weight)
        change[lag] = -float(gradient)
    return change
