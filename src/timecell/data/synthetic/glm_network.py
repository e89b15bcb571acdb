"""`glm_network`: spiking neurons that drive one another along known wires with known delays.

    p_i(t) = 1 - exp(-r_i(t) dt)        r_i(t) = b_i exp(sum_j W_ij s_j(t - d_ij) + g_i z(t))        z: speed of an animal

A few hubs drive all others; some wires more go between the others, at random. A wire in one direction excludes the one
back. What a method infers about the wiring from the spikes alone can be held against W.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from timecell.data.spikes import SpikeTrains
from timecell.errors import InputError

LINGERS = 0.5  # seconds in which the speed forgets


class GLMNetwork(NamedTuple):
    """Spikes, and what made them.

    Attributes:
        spikes: of all units in all trials.
        weights: [C, C] effect of a spike of unit j (column) on the logarithm of the rate of unit i (row); 0 = no wire.
        delays: [C, C] seconds after which it acts, for one step; 0 where there is no wire.
        speed: [N, T] the latent speed, mean 0 and variance 1.
        gains: [C] how much it moves the logarithm of each unit's rate.
        dt: seconds of a step.
    """

    spikes: SpikeTrains
    weights: Float[np.ndarray, "C C"]
    delays: Float[np.ndarray, "C C"]
    speed: Float[np.ndarray, "N T"]
    gains: Float[np.ndarray, "C"]
    dt: float


def glm_network(
    units: int = 24,
    hubs: int = 4,
    *,
    parents: int = 2,
    extra: float = 0.04,
    strength: float = 2.5,
    inhibitory: float = 0.0,
    rates: tuple[float, float] = (5.0, 8.0),
    delays: tuple[float, float] = (0.010, 0.040),
    gain: float = 0.0,
    trials: int = 20,
    seconds: float = 30.0,
    dt: float = 0.005,
    seed: int = 0,
    wiring_seed: int = 0,
) -> GLMNetwork:
    """A network of Bernoulli neurons whose log-rate is a sum of delayed spikes.

    Args:
        units: C.
        hubs: the first units; nothing drives them.
        parents: how many hubs drive each of the others.
        extra: share of the pairs of others that have a wire as well, one way.
        strength: mean effect of a spike on the logarithm of a rate; each wire has 0.8 to 1.2 of it.
        inhibitory: share of the extra wires whose effect is negative.
        rates: lowest and highest mean rate of a unit [spikes/s], evenly drawn; a unit that is driven comes out up to a
            quarter lower, since no more than one spike fits into a step.
        delays: shortest and longest delay [s], drawn in whole steps.
        gain: how much the speed moves the log-rate of every second unit, half of these up and half down.
        trials: N.
        seconds: length of a trial.
        dt: step [s]; at most one spike in each.
        seed: of the spikes and the speed.
        wiring_seed: of wires, delays and rates; the same for a training and a test set.

    Raises:
        InputError: an argument is out of its range.

    Example:
        >>> net = glm_network(trials=2, seconds=3.0)
        >>> net.weights.shape, net.speed.shape, len(net.spikes), int((net.weights[4:, :4] > 0).sum(1).min())
        ((24, 24), (2, 600), 2, 2)
    """
    low, high = round(delays[0] / dt), round(delays[1] / dt)
    for name, value, fits, expected in (
        ("hubs", hubs, 0 <= hubs < units, f"0 to {units - 1}, fewer than the units"),
        ("parents", parents, 0 <= parents <= hubs, f"0 to {hubs}, the number of hubs"),
        ("extra", extra, 0 <= extra <= 1, "a share from 0 to 1"),
        ("inhibitory", inhibitory, 0 <= inhibitory <= 1, "a share from 0 to 1"),
        ("rates", rates, 0 < rates[0] <= rates[1] < 0.2 / dt, f"lowest and highest, above 0 and below {0.2 / dt:g}"),
        ("delays", delays, 1 <= low <= high, f"shortest and longest, at least one step of {dt:g} s"),
        ("trials", trials, trials >= 1, "at least 1"),
        ("seconds", seconds, seconds >= dt, "at least one step"),
    ):
        if not fits:
            raise InputError(name, found=value, expected=expected, remedy="pass such a value")
    wiring, rng = np.random.default_rng([wiring_seed, 1]), np.random.default_rng([seed, 2])
    weights = _wires(wiring, units, hubs, parents, extra, inhibitory) * strength
    weights *= wiring.uniform(0.8, 1.2, weights.shape)
    lags = np.where(weights != 0, wiring.integers(low, high + 1, weights.shape), 0)
    rate = wiring.uniform(*rates, units)
    gains = gain * np.tile([0.0, 1.0, 0.0, -1.0], units)[:units]
    # A wire multiplies a rate by exp(w) in one step after each spike, the speed by exp(g z): on average by this much.
    usual = (1 + (np.exp(weights) - 1) * rate * dt).prod(1) * np.exp(gains**2 / 2)
    steps = round(seconds / dt)
    speed = _wander(rng, trials, steps, dt)
    counts = _simulate(rng, rate * dt / usual, weights, lags, speed, gains)
    return GLMNetwork(SpikeTrains.from_counts(list(counts), dt), weights, lags * dt, speed, gains, dt)


def _wires(
    rng: np.random.Generator, units: int, hubs: int, parents: int, extra: float, inhibitory: float
) -> Float[np.ndarray, "C C"]:
    """1, -1 or 0 from each unit (column) to each (row)."""
    wires = np.zeros((units, units))
    for i in range(hubs, units):
        wires[i, rng.permutation(hubs)[:parents]] = 1
    pairs = np.argwhere(np.tri(units, k=-1, dtype=bool)) if units > 1 else np.zeros((0, 2), np.int64)
    pairs = pairs[(pairs >= hubs).all(1)]
    several = round(2 * extra * len(pairs))  # a share of all ordered pairs, none of them twice
    chosen = pairs[rng.permutation(len(pairs))[:several]]
    chosen = np.where(rng.random((len(chosen), 1)) < 0.5, chosen, chosen[:, ::-1])
    wires[chosen[:, 0], chosen[:, 1]] = np.where(rng.random(len(chosen)) < inhibitory, -1, 1)
    return wires


def _wander(rng: np.random.Generator, trials: int, steps: int, dt: float) -> Float[np.ndarray, "N T"]:
    """Gaussian with variance 1 at every step that forgets within `LINGERS` seconds."""
    from scipy.signal import lfilter

    keep = np.exp(-dt / LINGERS)
    noise = rng.standard_normal((trials, steps))
    noise[:, 1:] *= np.sqrt(1 - keep**2)
    return lfilter([1.0], [1.0, -keep], noise, axis=1)


def _simulate(
    rng: np.random.Generator,
    base: Float[np.ndarray, "C"],
    weights: Float[np.ndarray, "C C"],
    lags: Int[np.ndarray, "C C"],
    speed: Float[np.ndarray, "N T"],
    gains: Float[np.ndarray, "C"],
) -> Int[np.ndarray, "N T C"]:
    """Spikes 0 or 1, all trials at once, step after step."""
    reach, (trials, steps), units = int(lags.max(initial=1)), speed.shape, len(base)
    wired = np.zeros((reach, units, units))  # [lag from the longest down to 1, from, to]
    to, source = np.nonzero(weights)
    wired[reach - lags[to, source], source, to] = weights[to, source]
    by_lag = wired.reshape(reach * units, units)
    spikes = np.zeros((trials, reach + steps, units))  # silence before the first step
    chance = rng.random((steps, trials, units))
    for t in range(steps):
        drive = spikes[:, t : t + reach].reshape(trials, -1) @ by_lag + speed[:, t, None] * gains
        spikes[:, reach + t] = chance[t] < -np.expm1(-base * np.exp(drive))
    return spikes[:, reach:].astype(np.int64)
