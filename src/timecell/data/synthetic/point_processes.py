"""Point processes that know their likelihood: events are drawn exactly, and what a model can reach at best is known.

    hawkes            every event makes others more likely, for a while         (Hawkes, 1971)
    self_correcting   the intensity grows until an event brings it down         (Isham & Westcott, 1979)
    renewal           waiting times that know nothing of each other
    markov_renewal    the next mark depends on the last, the waiting time on both

Each function returns the data and the process they were drawn from. A process answers what a fitted net answers
(`timecell.generate.point_process`), here in closed form: after each row (the start or an event) of the data the
logarithm of the intensity of each mark, and the compensator, tau later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, Int

from timecell.data.event_sequences import EventSequences
from timecell.errors import InputError

LOG_2PI = float(np.log(2 * np.pi))


class ExactProcess(Protocol):
    """A point process in closed form. Rows are those of `EventSequences.waits`: R, one before each event and each end."""

    def remember(self, data: EventSequences) -> Any:
        """What the history before each of the R rows says."""

    def log_intensity(self, memory: Any, tau: Float[np.ndarray, "R"]) -> Float[np.ndarray, "R K"]:
        """log lambda_k at tau after the last event."""

    def compensator(self, memory: Any, tau: Float[np.ndarray, "R"]) -> Float[np.ndarray, "R"]:
        """Integral of the total intensity until tau after the last event."""


def log_likelihood(process: ExactProcess, data: EventSequences) -> Float[np.ndarray, "N"]:
    """[N] log-likelihood of each sequence, in nats: its events, and that nothing else happened until its end.

    Example:
        >>> generated = hawkes(sequences=2, end=10.0)
        >>> log_likelihood(generated.truth, generated.data).shape
        (2,)
    """
    memory, waits = process.remember(data), data.waits
    rows = -process.compensator(memory, waits)
    rows[data.happened] += process.log_intensity(memory, waits)[data.happened][np.arange(len(data.times)), data.marks]
    return np.add.reduceat(rows, data.offsets[:-1] + np.arange(len(data)))


@dataclass(frozen=True)
class Poisson:
    """Events that know nothing of each other, at constant rates.

    Attributes:
        rates: [K].
    """

    rates: Float[np.ndarray, "K"]

    def remember(self, data: EventSequences) -> None:
        """Nothing."""

    def log_intensity(self, memory: None, tau: Float[np.ndarray, "R"]) -> Float[np.ndarray, "R K"]:
        """Always the same."""
        return np.broadcast_to(np.log(self.rates), (len(tau), len(self.rates)))

    def compensator(self, memory: None, tau: Float[np.ndarray, "R"]) -> Float[np.ndarray, "R"]:
        """The sum of the rates times tau."""
        return self.rates.sum() * tau


# --- Hawkes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hawkes:
    """Exponential kernels: lambda_k(t) = base_k + sum over events i before t of a_{k m_i} b exp(-b (t - t_i)).

    Attributes:
        base: [K] rate without any events.
        branching: [K, K] a: events of mark k that one event of mark j causes, in the mean; row k, column j.
        decay: [K, K] b of each pair, or [1, 1] of all.
    """

    base: Float[np.ndarray, "K"]
    branching: Float[np.ndarray, "K K"]
    decay: Float[np.ndarray, "k k"]

    def remember(self, data: EventSequences) -> Float[np.ndarray, "R k K"]:
        """What is left of past events just after the last one: [R, K, K], or [R, 1, K] with one decay for all."""
        return excitation(data, self.decay)

    def log_intensity(
        self, memory: Float[np.ndarray, "R k K"], tau: Float[np.ndarray, "R"]
    ) -> Float[np.ndarray, "R K"]:
        """The base rate and what is left of past events after tau."""
        left = memory * np.exp(-self.decay * tau[:, None, None])
        return np.log(self.base + (self.branching * self.decay * left).sum(-1))

    def compensator(self, memory: Float[np.ndarray, "R k K"], tau: Float[np.ndarray, "R"]) -> Float[np.ndarray, "R"]:
        """The base rate times tau, and what decayed until tau of what past events had left."""
        gone = memory * -np.expm1(-self.decay * tau[:, None, None])
        return self.base.sum() * tau + (self.branching * gone).sum((1, 2))


def excitation(data: EventSequences, decay: Float[np.ndarray, "k k"]) -> Float[np.ndarray, "R k K"]:
    """[R, k, K] sum over the events of mark j so far of exp(-decay (time since)), just after the last one.

    One pass over the events, all sequences side by side.
    """
    K = len(data.schema.classes or ())
    k = len(decay)
    after = np.zeros((len(data.times), k, K))
    trace = np.zeros((len(data), k, K))
    gaps = data.waits[data.happened]
    for n in range(int(data.counts.max(initial=0))):
        going = np.flatnonzero(data.counts > n)
        event = data.offsets[going] + n
        trace[going] *= np.exp(-decay * gaps[event][:, None, None])
        trace[going, :, data.marks[event]] += 1
        after[event] = trace[going]
    rows = np.zeros((len(data.times) + len(data), k, K))
    rows[~_first(data)] = after
    return rows


def _first(data: EventSequences) -> np.ndarray:
    """[R] True for the row of each start."""
    first = np.zeros(len(data.times) + len(data), bool)
    first[data.offsets[:-1] + np.arange(len(data))] = True
    return first


class Generated(NamedTuple):
    """Drawn events, and the process that they were drawn from.

    Attributes:
        data: the sequences.
        truth: a process with `remember`, `log_intensity` and `compensator`; for `log_likelihood`.
    """

    data: EventSequences
    truth: Any


def hawkes(
    base: object = (0.2, 0.1),
    branching: object = ((0.5, 0.2), (0.1, 0.4)),
    decay: object = 1.5,
    *,
    sequences: int = 100,
    end: float = 100.0,
    seed: int = 0,
) -> Generated:
    """A multivariate Hawkes process with exponential kernels, by thinning (Ogata, 1981), from no events at time 0.

    Args:
        base: [K] rates.
        branching: [K, K] events of mark k (row) that one of mark j (column) causes, in the mean.
        decay: one number or [K, K].
        sequences: N.
        end: of each sequence.
        seed: of the draws.

    Raises:
        InputError: a rate below zero, or events that cause more than one other in the mean (they would never end).

    Example:
        >>> generated = hawkes(sequences=200, end=50.0)
        >>> rate = np.linalg.solve(np.eye(2) - generated.truth.branching, generated.truth.base).sum()
        >>> bool(abs(len(generated.data.times) / (200 * 50) - rate) < 0.1 * rate)
        True
    """
    mu = np.atleast_1d(np.asarray(base, float))
    K = len(mu)
    a = np.asarray(branching, float).reshape(K, K)
    b = np.asarray(decay, float)
    b = b.reshape(K, K) if b.size == K * K else b.reshape(1, 1)
    for name, value in (("base", mu), ("branching", a), ("decay", b)):
        if not (np.isfinite(value).all() and (value >= 0).all() and (name != "decay" or (value > 0).all())):
            raise InputError(name, found=value.tolist(), expected="numbers from 0 on", remedy="pass rates")
    radius = float(np.abs(np.linalg.eigvals(a)).max())
    if radius >= 1:
        raise InputError(
            "branching", found=f"spectral radius {radius:.3g}", expected="below 1, or events never end",
            remedy="scale it down",
        )  # fmt: skip
    _positive(sequences, end)
    rng = np.random.default_rng(seed)
    t, trace = np.zeros(sequences), np.zeros((sequences, len(b), K))
    going = np.arange(sequences)
    drawn: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    bound = mu.sum() + (a * b * trace).sum((1, 2))  # the intensity only falls until the next event
    while len(going):
        step = rng.exponential(size=len(going)) / bound[going]
        t[going] += step
        trace[going] *= np.exp(-b * step[:, None, None])
        rate = mu + (a * b * trace[going]).sum(-1)  # [n, K]
        total = rate.sum(1)
        inside = t[going] < end
        taken = (rng.random(len(going)) * bound[going] < total) & inside
        mark = (rng.random(len(going))[:, None] * total[:, None] > rate.cumsum(1)).sum(1)[taken]
        trace[going[taken], :, mark] += 1
        drawn.append((going[taken], t[going[taken]], mark))
        going = going[inside]
        bound[going] = mu.sum() + (a * b * trace[going]).sum((1, 2))
    return Generated(_gathered(drawn, sequences, end, K), Hawkes(mu, a, b))


# --- self-correcting --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SelfCorrecting:
    """lambda(t) = exp(growth (t - start) - drop (events so far)).

    Attributes:
        growth: per unit of time.
        drop: by each event.
    """

    growth: float
    drop: float

    def remember(self, data: EventSequences) -> Float[np.ndarray, "R"]:
        """The logarithm of the intensity just after the last event."""
        start = np.repeat(data.start, data.counts)
        number = np.arange(1, len(data.times) + 1) - np.repeat(data.offsets[:-1], data.counts)
        return data.before(self.growth * (data.times - start) - self.drop * number, np.zeros(len(data)))

    def log_intensity(self, memory: Float[np.ndarray, "R"], tau: Float[np.ndarray, "R"]) -> Float[np.ndarray, "R 1"]:
        """Grows in a straight line."""
        return (memory + self.growth * tau)[:, None]

    def compensator(self, memory: Float[np.ndarray, "R"], tau: Float[np.ndarray, "R"]) -> Float[np.ndarray, "R"]:
        """The integral of the exponential."""
        return np.exp(memory) * np.expm1(self.growth * tau) / self.growth


def self_correcting(
    growth: float = 1.0, drop: float = 1.0, *, sequences: int = 100, end: float = 50.0, seed: int = 0
) -> Generated:
    """A process whose intensity grows until an event brings it down, by inverting the compensator.

    Example:
        >>> data = self_correcting(sequences=50, end=40.0).data  # growth / drop events in a unit of time
        >>> bool(0.9 < len(data.times) / (50 * 40) < 1.1)
        True
    """
    _positive(sequences, end)
    for name, value in (("growth", growth), ("drop", drop)):
        if not 0 < value < np.inf:
            raise InputError(name, found=value, expected="a number above 0", remedy="try 1")
    rng = np.random.default_rng(seed)

    def step(level: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        tau = np.log1p(growth * rng.exponential(size=len(level)) * np.exp(-level)) / growth
        return tau, np.zeros(len(level), np.int64), level + growth * tau - drop

    return Generated(_stepped(step, np.zeros(sequences), end, 1), SelfCorrecting(growth, drop))


# --- renewal ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MarkovRenewal:
    """After mark j (or the start, the last row) comes mark k with probability `next`, after a log-normal waiting time.

    Attributes:
        next: [K + 1, K] probabilities, rows sum to one.
        log_mean: [K + 1, K] mean of the logarithm of the waiting time.
        log_std: [K + 1, K] its standard deviation.
    """

    next: Float[np.ndarray, "K+1 K"]
    log_mean: Float[np.ndarray, "K+1 K"]
    log_std: Float[np.ndarray, "K+1 K"]

    def remember(self, data: EventSequences) -> Int[np.ndarray, "R"]:
        """The last mark; K at the start."""
        return data.before(data.marks, np.full(len(data), self.next.shape[1]))

    def log_intensity(self, memory: Int[np.ndarray, "R"], tau: Float[np.ndarray, "R"]) -> Float[np.ndarray, "R K"]:
        """log p_k + log f_k(tau) - log S(tau)."""
        z = self._z(memory, tau)
        with np.errstate(divide="ignore"):
            log_next = np.log(self.next)[memory]
        log_f = log_next - 0.5 * (z * z + LOG_2PI) - np.log(self.log_std)[memory] - _log(tau)[:, None]
        return log_f + self.compensator(memory, tau)[:, None]

    def compensator(self, memory: Int[np.ndarray, "R"], tau: Float[np.ndarray, "R"]) -> Float[np.ndarray, "R"]:
        """-log S(tau), S = sum_k p_k S_k."""
        from scipy.special import log_ndtr, logsumexp  # here, so that `import timecell.tasks` stays light

        return -logsumexp(log_ndtr(-self._z(memory, tau)), b=self.next[memory], axis=1)

    def _z(self, memory: np.ndarray, tau: np.ndarray) -> Float[np.ndarray, "R K"]:
        return (_log(tau)[:, None] - self.log_mean[memory]) / self.log_std[memory]


def renewal(
    log_mean: float = 0.0, log_std: float = 0.5, *, sequences: int = 100, end: float = 50.0, seed: int = 0
) -> Generated:
    """Events of one kind whose waiting times are independent and log-normal.

    Example:
        >>> data = renewal(log_mean=1.0, log_std=0.1, sequences=20).data
        >>> bool(abs(np.median(data.waits[data.happened]) - np.e) < 0.1)
        True
    """
    return markov_renewal([[1.0]], [[log_mean]], [[log_std]], sequences=sequences, end=end, seed=seed)


def markov_renewal(
    next: object = ((0.1, 0.6, 0.3), (0.3, 0.1, 0.6), (0.6, 0.3, 0.1)),
    log_mean: object = ((0.0, -1.0, 1.0), (1.0, 0.0, -1.0), (-1.0, 1.0, 0.0)),
    log_std: object = 0.4,
    *,
    sequences: int = 100,
    end: float = 50.0,
    seed: int = 0,
) -> Generated:
    """A chain of marks with a log-normal waiting time for each pair of them.

    The first mark is drawn from the chain's stationary distribution, and its waiting time has mean and spread of the
    logarithm as the average over the marks before.

    Args:
        next: [K, K] probabilities of the next mark (column) after a mark (row).
        log_mean: mean of the logarithm of the waiting time, [K, K] or one number.
        log_std: its standard deviation, [K, K] or one number.
        sequences: N.
        end: of each sequence.
        seed: of the draws.

    Raises:
        InputError: a row that is no distribution, or a spread that is not above zero.

    Example:
        >>> generated = markov_renewal(sequences=20)
        >>> generated.data.schema.classes, len(generated.data)
        (('0', '1', '2'), 20)
    """
    _positive(sequences, end)
    p = np.asarray(next, float)
    K = len(p)
    if p.shape != (K, K) or (p < 0).any() or not np.allclose(p.sum(1), 1):
        raise InputError("next", found=p.tolist(), expected="[K, K] with rows that sum to one", remedy="normalise it")
    mean, std = (np.broadcast_to(np.asarray(v, float), (K, K)) for v in (log_mean, log_std))
    if not ((std > 0).all() and np.isfinite(mean).all()):
        raise InputError("log_std", found=std.tolist(), expected="numbers above 0", remedy="try 0.4")
    stationary = np.linalg.matrix_power((p + np.eye(K)) / 2, 2**20)[0]
    process = MarkovRenewal(*(np.concatenate([m, (stationary @ m)[None]]) for m in (p, mean, std)))
    rng = np.random.default_rng(seed)

    def step(mark: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        coming = (rng.random(len(mark))[:, None] > process.next.cumsum(1)[mark, :-1]).sum(1)
        tau = np.exp(process.log_mean[mark, coming] + process.log_std[mark, coming] * rng.standard_normal(len(mark)))
        return tau, coming, coming

    return Generated(_stepped(step, np.full(sequences, K), end, K), process)


# --- helpers ----------------------------------------------------------------------------------------------------------


def _stepped(
    step: Callable[[np.ndarray], tuple[Any, Any, Any]], state: np.ndarray, end: float, K: int
) -> EventSequences:
    """Sequences drawn event by event: `step` says gap, mark and next state of those that are still going."""
    N = len(state)
    t, going = np.zeros(N), np.arange(N)
    drawn = []
    while len(going):
        tau, mark, after = step(state[going])
        t[going] += tau
        inside = t[going] < end
        state[going] = after
        going = going[inside]
        drawn.append((going, t[going], mark[inside]))
    return _gathered(drawn, N, end, K)


def _gathered(drawn: list[tuple[np.ndarray, np.ndarray, np.ndarray]], N: int, end: float, K: int) -> EventSequences:
    """The sequences of events that were drawn in any order."""
    owner, times, marks = (np.concatenate(part) for part in zip(*drawn))
    order = np.lexsort((times, owner))
    cuts = np.cumsum(np.bincount(owner, minlength=N))[:-1]
    return EventSequences.of(
        np.split(times[order], cuts), np.split(marks[order], cuts), end=end, classes=tuple(str(k) for k in range(K))
    )


def _log(tau: Float[np.ndarray, "R"]) -> Float[np.ndarray, "R"]:
    """The logarithm, of no time at all that of the shortest there is."""
    return np.log(np.maximum(tau, np.finfo(float).tiny))


def _positive(sequences: int, end: float) -> None:
    if sequences < 1:
        raise InputError("sequences", found=sequences, expected="at least 1", remedy="pass a number of sequences")
    if not 0 < end < np.inf:
        raise InputError("end", found=end, expected="a time above 0", remedy="pass when observation ends")
