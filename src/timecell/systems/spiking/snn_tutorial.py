"""The standard recipe for training spiking nets, as a matrix of options: codes x surrogates x losses.

The idea. A leaky integrate-and-fire unit is a recurrent cell with a hard threshold. Give the threshold a pretended slope
and such nets learn by backpropagation through time like any other. What is left to choose: how the input is made of
spikes (direct current, rate, latency), how the answer is read (number of spikes, first spike, membrane) and what is
asked of it, and how much firing may cost. This module is that choice; the parts are elsewhere (`timecell.data.encoders`,
`timecell.neurons`, `timecell.losses`).

    U_t = beta U_{t-1} + W x_t - theta S_{t-1},   S_t = H(U_t - theta)        beta = 0.9, theta = 1
    x -> Linear -> LIF -> Linear -> LIF (read by its spikes) or leaky integrator (read by its membrane)

A spike lowers the membrane one step later, and no gradient passes through that reset. The codes turn pictures into
sequences before the net sees them; sequences of one's own come in as they are, as currents or as spikes.

Which loss? `rate_mse` and `rate_ce` read spikes and need some; `membrane_ce` and the losses of every step learn from
units that do not fire at all; `first_spike_ce` answers soonest and learns hardest. See `timecell.losses`.

Which surrogate? For a readout of spikes one with tails, such as the arctangent, or a wide one: a triangle gives no gradient
to a unit further from threshold than its width, and an output unit that has fallen silent then stays so.

Source: Eshraghian, Ward, Neftci, Wang, Lenz, Dwivedi, Bennamoun, Jeong & Lu, "Training spiking neural networks using
lessons from deep learning" (2021), arXiv:2109.12894. There on MNIST with a net of 784-1000-10; here on 8 x 8 digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.card import Card
from timecell.cell import Cell, check_sequence, record
from timecell.claims import Absent, AtChance, Matches, Measured, NonInferior, Ordering, Trial, claim
from timecell.claims.arms import Arm, prepared, tuned
from timecell.combine import Sequential, silence
from timecell.data.containers import Data, Schema, Sequences
from timecell.data.encoders import direct, latency, rate
from timecell.data.images import load_digits
from timecell.data.splits import Splits, by_sample
from timecell.inference import evaluating
from timecell.losses import activity_l1, spike_count
from timecell.network_system import FittedNetwork, NetworkSystem
from timecell.neurons import LIF, ATan, FastSigmoid, LeakyIntegrator, Sigmoid, Surrogate, Triangle
from timecell.recipe import Recipe, Stage
from timecell.state import StateTree
from timecell.system import Readout, Run, Task
from timecell.tasks import Classify
from timecell.tasks.classify import Criterion

CARD = Card(
    slug="snn-tutorial",
    title="Training spiking neural networks using lessons from deep learning",
    summary="The standard two-layer spiking net with every choice of code, surrogate, loss and activity cost.",
    family="spiking",
    paper="arXiv:2109.12894",
    n=160,
)

SPIKES = ("count", "first_spike")
"""Readouts of spikes; the others read membranes."""


class SpikeCost(Cell):
    """Spikes as they are, and in training a cost on them: cost times the mean number of spikes a unit (`activity_l1`).

    The cost joins the loss by its gradient alone, wherever in the net it arises, and so no reported loss contains it.

    Args:
        cost: of one spike of every unit.

    Shapes: x [B, T, N] -> the same; no state.

    Example:
        >>> spikes = torch.ones(2, 3, 4, requires_grad=True)
        >>> SpikeCost(8.0)(spikes)[0].sum().backward()
        >>> spikes.grad.unique().tolist()                          # 1 + cost / (2 samples x 4 units)
        [2.0]
    """

    exempt = {"gradients": "its backward pass has a cost in it that its forward pass has not"}

    @classmethod
    def example(cls) -> SpikeCost:
        """For the checks."""
        return cls(0.1)

    def __init__(self, cost: float) -> None:
        super().__init__()
        self.cost = cost

    def forward(
        self, x: Float[Tensor, "B T N"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T N"], StateTree]:
        """The same spikes."""
        check_sequence("SpikeCost(x)", x, lengths)
        x = silence(x, lengths)
        if not (self.training and x.requires_grad):
            return x, None
        return _Charge.apply(x, self.cost * activity_l1(x).mean()), None


class _Charge(torch.autograd.Function):
    """x; backward, `cost` gets the gradient that it would have as a term of the loss."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cost: Tensor) -> Tensor:
        ctx.save_for_backward(torch.ones_like(cost))
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        return grad, ctx.saved_tensors[0]


@dataclass(frozen=True)
class SnnTutorial(NetworkSystem):
    """A two-layer net of leaky integrate-and-fire units.

    Attributes:
        hidden: hidden units.
        beta: share of the membrane that is left after a step, in [0, 1).
        learn_beta: train it, one value a layer.
        surrogate: pretended slope of the spike.
        readout: how the answer is made: of spikes ("count", "first_spike") or of membranes (the others).
        criterion: "cross_entropy", "mse" or "tet"; see `Classify`.
        spike_cost: of the mean number of hidden spikes a unit.
        train_hidden: False leaves the hidden weights as they were drawn.
        lr: highest learning rate.
        batch: samples an update.
    """

    card: ClassVar[Card] = CARD
    hidden: int = 128
    beta: float = 0.9
    learn_beta: bool = False
    surrogate: Surrogate = ATan()  # noqa: RUF009 - frozen, as every surrogate is
    readout: Readout = "count"
    criterion: Criterion = "cross_entropy"
    spike_cost: float = 0.0
    train_hidden: bool = True
    lr: float = 5e-3
    batch: int = 64

    def build(self, schema: Schema, outputs: int) -> nn.Module:
        """Widths [C, hidden, K]."""
        drive = nn.Linear(len(schema.channels), self.hidden)
        drive.requires_grad_(self.train_hidden)
        layers: list[nn.Module] = [drive, self.unit(self.hidden)]
        if self.spike_cost > 0:
            layers.append(SpikeCost(self.spike_cost))
        return Sequential(*layers, nn.Linear(self.hidden, outputs), self.output(outputs))

    def unit(self, size: int) -> LIF:
        """The tutorial's: a spike is subtracted one step later, without a gradient."""
        learn = ("tau",) if self.learn_beta else ()
        return LIF(size, tau=self.tau, reset_delay=True, detach=True, surrogate=self.surrogate, learn=learn)

    def output(self, size: int) -> nn.Module:
        """Units that fire, or membranes that only integrate."""
        if self.readout in SPIKES:
            return self.unit(size)
        return LeakyIntegrator(size, tau=self.tau, learn=("tau",) if self.learn_beta else ())

    @property
    def tau(self) -> float:
        """The time constant in steps: beta = 1 - 1 / tau."""
        return 1 / (1 - self.beta)

    def recipe(self) -> Recipe:
        """One stage."""
        return Recipe((Stage(lr=self.lr),), batch=self.batch)

    def space(self) -> Mapping[str, Sequence[Any]]:
        """What comparisons tune."""
        return {"beta": (0.5, 0.9, 0.95), "lr": (2e-3, 5e-3, 1e-2), "hidden": (64, 128)}

    def accepts(self, schema: Schema, task: Task) -> str | None:
        """Sequences to classify."""
        return super().accepts(schema, task) if task.name == "classify" else f"it can classify; the task is {task.name}"

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> FittedNetwork:
        """As every network; a classification gets this system's readout and loss."""
        if isinstance(task, Classify):
            task = replace(task, readout=self.readout, criterion=self.criterion, label_smoothing=0.0)
        return super().fit(train, valid, task, run)


# --- the checks -------------------------------------------------------------------------------------------------------

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
    brief = trial.quick or trial.control  # shuffled labels have nothing to teach
    updates = 4 if trial.quick else UPDATES // 4 if trial.control else UPDATES
    run = Run(seed=trial.seed, updates=updates, progress=trial.progress, device="cpu")
    return tuned(system, {"lr": RATES["lr"][:1]} if brief else RATES, splits, TASK, run)


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
