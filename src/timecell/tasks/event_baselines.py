"""The baselines of `NextEvent`: constant rates, log-normal waiting times, and Hawkes processes by maximum likelihood."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from timecell.data.containers import Data, Schema
from timecell.data.event_sequences import EventSequences
from timecell.data.synthetic.point_processes import (
    ExactProcess,
    Hawkes,
    MarkovRenewal,
    Poisson,
    excitation,
    log_likelihood,
)
from timecell.system import Card, Run, Task
from timecell.tasks.event_predictions import NextEvents, event_sequences
from timecell.tasks.fitted import FittedArrays
from timecell.tasks.truth import require_same

DECAYS = tuple(3.0**power for power in range(-4, 7))
"""Decays that a Hawkes process tries first, in events per mean gap."""
MOST_MARKS = 100  # of a Hawkes process, whose parameters are their square


@dataclass(frozen=True)
class _Baseline:
    card: ClassVar[Card]

    def accepts(self, schema: Schema, task: Task) -> str | None:
        """Event sequences."""
        return None if task.name == "next-event" else f"it predicts events, and the task is {task.name}"

    def space(self) -> Mapping[str, Sequence[Any]]:
        """Nothing that `fit` does not choose itself."""
        return {}


@dataclass(frozen=True)
class FittedProcess(FittedArrays):
    """A fitted point process in closed form.

    Attributes:
        classes: names of the marks.
    """

    classes: tuple[str, ...]

    @property
    def process(self) -> ExactProcess:
        """What was fitted."""
        raise NotImplementedError

    def predict(self, data: Data) -> NextEvents:
        """The distribution of each event.

        Raises:
            InputError: the data have other marks than the training data.
        """
        events = event_sequences(data)
        require_same("classes", events.schema.classes, self.classes)
        return NextEvents.of_process(self.process, events)


# --- constant rates ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FittedPoisson(FittedProcess):
    """A homogeneous Poisson process.

    Attributes:
        rates: [K] of each mark.
    """

    rates: Float[np.ndarray, "K"]

    @property
    def process(self) -> Poisson:
        """Constant rates."""
        return Poisson(self.rates)


@dataclass(frozen=True)
class PoissonRates(_Baseline):
    """Each mark at its mean rate, whatever has happened.

    Example:
        >>> from timecell.tasks.next_event import NextEvent
        >>> data = EventSequences.of([[1.0, 2.0, 3.0]], [[0, 1, 0]], end=4.0)
        >>> fitted = PoissonRates().fit(data, data, NextEvent(), Run())
        >>> fitted.predict(data).median.round(3).tolist()
        [0.924, 0.924, 0.924, 0.924]
    """

    card = Card("poisson", "Constant rates", "Each mark at its mean rate, whatever has happened.", "baseline")

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> FittedPoisson:
        """Count; a mark that never came gets half an event."""
        start = time.perf_counter()
        events = event_sequences(train)
        observed = len(events.times) * events.mean_gap
        rates = np.maximum(_counts(events), 0.5) / observed
        return FittedPoisson(self.card, time.perf_counter() - start, events.schema.classes or (), rates)


# --- waiting times ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FittedRenewal(FittedProcess):
    """Log-normal waiting times and a chain of marks.

    Attributes:
        next: [K + 1, K] probabilities of the next mark after each mark and after the start.
        log_mean: [1] mean of the logarithm of the waiting time.
        log_std: [1] its standard deviation.
    """

    next: Float[np.ndarray, "K+1 K"]
    log_mean: Float[np.ndarray, "1"]
    log_std: Float[np.ndarray, "1"]

    @property
    def process(self) -> MarkovRenewal:
        """The same waiting time for all pairs of marks."""
        every = np.ones_like(self.next)
        return MarkovRenewal(self.next, self.log_mean * every, self.log_std * every)


@dataclass(frozen=True)
class LogNormalRenewal(_Baseline):
    """Waiting times that are independent and log-normal; the next mark depends on the last.

    Example:
        >>> from timecell.data.synthetic.point_processes import renewal
        >>> from timecell.tasks.next_event import NextEvent
        >>> data = renewal(log_mean=1.0, log_std=0.5, sequences=50).data
        >>> fitted = LogNormalRenewal().fit(data, data, NextEvent(), Run())
        >>> bool(abs(fitted.log_mean.item() - 1.0) < 0.05 and abs(fitted.log_std.item() - 0.5) < 0.05)
        True
    """

    card = Card(
        "renewal",
        "Log-normal waiting times",
        "Independent waiting times; the next mark depends on the last.",
        "baseline",
    )

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> FittedRenewal:
        """Maximum likelihood, unfinished waits included; transitions are counted from one up."""
        from scipy.optimize import minimize

        start = time.perf_counter()
        events = event_sequences(train)
        K = len(events.schema.classes or ())
        pairs = np.ones((K + 1, K))
        before = events.before(events.marks, np.full(len(events), K))[events.happened]
        np.add.at(pairs, (before, events.marks), 1)
        timeless = events.scaled(events.mean_gap)
        unmarked = EventSequences.of(
            np.split(timeless.times, timeless.offsets[1:-1]), start=timeless.start, end=timeless.end
        )

        def process(p: Float[np.ndarray, "2"]) -> MarkovRenewal:
            return MarkovRenewal(np.ones((2, 1)), np.full((2, 1), p[0]), np.full((2, 1), np.exp(p[1])))

        waits = np.log(unmarked.waits[unmarked.happened])
        guess = np.array([waits.mean(), np.log(max(waits.std(), 0.1))])
        found = minimize(lambda p: -log_likelihood(process(p), unmarked).mean(), guess, method="Nelder-Mead").x
        mean, std = found[0] + np.log(events.mean_gap), np.exp(found[1])
        return FittedRenewal(
            self.card, time.perf_counter() - start, events.schema.classes or (),
            pairs / pairs.sum(1, keepdims=True), np.array([mean]), np.array([std]),
        )  # fmt: skip


# --- Hawkes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FittedHawkes(FittedProcess):
    """A multivariate Hawkes process with exponential kernels.

    Attributes:
        base: [K] rates without any events.
        branching: [K, K] events of mark k (row) that one of mark j (column) causes, in the mean.
        decay: [1, 1] of all kernels.
    """

    base: Float[np.ndarray, "K"]
    branching: Float[np.ndarray, "K K"]
    decay: Float[np.ndarray, "1 1"]

    @property
    def process(self) -> Hawkes:
        """With these kernels."""
        return Hawkes(self.base, self.branching, self.decay)


@dataclass(frozen=True)
class HawkesMLE(_Baseline):
    """Every event makes others more likely for a while (Hawkes, 1971), fitted exactly.

    Given the decay, the likelihood is concave in the rates and the branching matrix, and falls apart into one problem
    for each mark, which L-BFGS solves with the exact gradient. The decay is chosen on the validation data: a coarse
    grid of factors of three first, then between its best points.

    Example:
        >>> from timecell.data.synthetic.point_processes import hawkes
        >>> from timecell.tasks.next_event import NextEvent
        >>> train, valid = (hawkes(sequences=50, seed=seed).data for seed in (0, 1))
        >>> fitted = HawkesMLE().fit(train, valid, NextEvent(), Run())
        >>> bool(np.abs(fitted.branching - [[0.5, 0.2], [0.1, 0.4]]).max() < 0.15)
        True
    """

    card = Card(
        "hawkes", "Hawkes process", "Every event makes others more likely for a while; exponential kernels.", "baseline"
    )

    def accepts(self, schema: Schema, task: Task) -> str | None:
        """Event sequences with a moderate number of marks."""
        if len(schema.classes or ()) > MOST_MARKS:
            return super().accepts(schema, task) or f"it would have to learn {len(schema.classes or ())}^2 kernels"
        return super().accepts(schema, task)

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> FittedHawkes:
        """Maximum likelihood for each decay; the best one on the validation data."""
        start = time.perf_counter()
        events, held_out = event_sequences(train), event_sequences(valid)
        tried: dict[float, tuple[float, Hawkes]] = {}

        def assess(decays: Sequence[float]) -> float:
            for decay in decays:
                fitted = maximum_likelihood(events, decay / events.mean_gap)
                tried[decay] = float(log_likelihood(fitted, held_out).sum()), fitted
            return max(tried, key=lambda decay: tried[decay][0])

        best = assess(DECAYS)
        for factor in (3**0.5, 3**0.25, 3**0.125):
            best = assess((best / factor, best * factor))
        found = tried[best][1]
        return FittedHawkes(
            self.card, time.perf_counter() - start, events.schema.classes or (), found.base, found.branching, found.decay
        )  # fmt: skip


def maximum_likelihood(data: EventSequences, decay: float) -> Hawkes:
    """The Hawkes process with this decay of all kernels under which the data are most likely.

    Example:
        >>> from timecell.data.synthetic.point_processes import hawkes
        >>> generated = hawkes(sequences=20)
        >>> fitted = maximum_likelihood(generated.data, 1.5)
        >>> bool(log_likelihood(fitted, generated.data).sum() > log_likelihood(generated.truth, generated.data).sum())
        True
    """
    from scipy.optimize import minimize

    K, unit = len(data.schema.classes or ()), data.mean_gap
    rate = np.array([[decay]])
    left = excitation(data, rate)[:, 0]  # [R, K] just after the last event
    fade = np.exp(-decay * data.waits)[:, None]
    # lambda_k at each event = q_k . kernel, and the compensator = sum of q_k: how many events each cause has caused
    whole = np.concatenate([[len(data.times) * unit], (left * (1 - fade)).sum(0)])
    whole = np.maximum(whole, 1e-12)  # of a mark that never came
    kernel = np.concatenate([np.ones((len(data.times), 1)), (decay * left * fade)[data.happened]], axis=1) / whole
    q = np.empty((K, K + 1))
    for k, count in enumerate(np.maximum(_counts(data), 0.5)):
        own = kernel[data.marks == k]

        def loss(q: np.ndarray, own: np.ndarray = own, n: float = count) -> tuple[float, np.ndarray]:
            intensity = own @ (n * q)
            return q.sum() - np.log(intensity).sum() / n, 1 - (1 / intensity) @ own

        guess = np.concatenate([[0.5], np.full(K, 0.5 / K)])
        bounds = [(1e-3, None)] + [(0.0, None)] * K
        q[k] = count * minimize(loss, guess, jac=True, method="L-BFGS-B", bounds=bounds).x
    return Hawkes(q[:, 0] / whole[0], q[:, 1:] / whole[1:], rate)


def _counts(data: EventSequences) -> Float[np.ndarray, "K"]:
    """How often each mark came."""
    return np.bincount(data.marks, minlength=len(data.schema.classes or ())).astype(float)
