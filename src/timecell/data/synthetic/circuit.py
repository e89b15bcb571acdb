"""A generated circuit in which a neuron can be silenced.

`clustered_circuit`: excitatory neurons, strongly coupled within clusters and weakly across. Run it twice with the same
seed, once with a neuron silenced: what differs is what the neuron does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from timecell.data.containers import Schema, Series
from timecell.errors import InputError

DECAY = 1.0  # of a neuron's activity [s]
EVENTS, EPISODES, LASTING = 0.5, 3, 25.0  # of a cluster's drive: events [1/s] in episodes of so many seconds
CONNECTED = 0.5  # share of the pairs of a cluster with a synapse


class ClusteredCircuit(NamedTuple):
    """What was recorded, and from whom.

    Attributes:
        data: [T, neurons] activity with noise.
        rates: [T, neurons] the same without noise.
        cluster: [neurons] of each neuron.
    """

    data: Series
    rates: Float[np.ndarray, "T N"]
    cluster: Int[np.ndarray, "N"]


def clustered_circuit(
    neurons: int = 45,
    clusters: int = 3,
    *,
    coupling: float = 0.6,
    across: float = 0.1,
    seconds: float = 300.0,
    rate: float = 4.0,
    noise: float = 0.1,
    silenced: int | None = None,
    seed: int = 0,
) -> ClusteredCircuit:
    """Leaky rectified neurons whose clusters are driven in episodes of their own.

        v_t = d v_{t-1} + (1 - d) W r_{t-1} + drive_t,  r = max(v, 0),  d = exp(-1 / (rate * 1 s))

    Args:
        neurons: N, in clusters of equal sizes, up to one.
        clusters: K.
        coupling: sum of the weights that a neuron gets from its own cluster.
        across: sum of those that it gets from all others; with `coupling` below 1, so that activity dies out.
        seconds: length of the recording.
        rate: steps per second.
        noise: standard deviation of the measurement.
        silenced: a neuron whose output is held at zero; wiring, drive and noise stay the same.
        seed: of everything.

    Raises:
        InputError: an argument is out of its range.

    Example:
        >>> with_it, without = clustered_circuit(seed=1), clustered_circuit(silenced=0, seed=1)
        >>> less = (with_it.rates - without.rates).mean(axis=0)
        >>> bool(less[with_it.cluster == 0][1:].mean() > 3 * less[with_it.cluster > 0].mean())
        True
    """
    T = round(seconds * rate)
    for name, value, fits, expected in (
        ("clusters", clusters, clusters >= 1, "at least 1"),
        ("neurons", neurons, neurons >= 2 * clusters, f"at least {2 * clusters}, two a cluster"),
        (
            "coupling",
            coupling,
            min(coupling, across) >= 0 and coupling + across < 1,
            "with `across` below 1 together",
        ),
        ("seconds", seconds, seconds >= EPISODES * LASTING, f"at least {EPISODES * LASTING:g}"),
        ("rate", rate, rate > 0, "above 0"),
        ("noise", noise, noise >= 0, "0 or more"),
        (
            "silenced",
            silenced,
            silenced is None or 0 <= silenced < neurons,
            f"a neuron from 0 to {neurons - 1}, or None",
        ),
    ):
        if not fits:
            raise InputError(name, found=value, expected=expected, remedy="pass such a value")
    rng = np.random.default_rng(seed)
    cluster = np.arange(neurons) * clusters // neurons
    own = cluster[:, None] == cluster
    random = rng.random((neurons, neurons)) * ~np.eye(neurons, dtype=bool)
    inside, outside = random * own * (rng.random((neurons, neurons)) < CONNECTED), random * ~own
    W = coupling * _shares(inside) + across * _shares(outside)

    on = np.zeros((T, clusters), dtype=bool)
    for k in range(clusters):
        for start in np.linspace(0, seconds, EPISODES, endpoint=False):
            begin = round((start + rng.uniform(0, seconds / EPISODES - LASTING)) * rate)
            on[begin : begin + round(LASTING * rate), k] = True
    events = on & (rng.random((T, clusters)) < EVENTS / rate)
    drive = events[:, cluster] * rng.uniform(0.5, 1.5, (T, neurons))

    decay = np.exp(-1 / (rate * DECAY))
    heard = np.arange(neurons) != (-1 if silenced is None else silenced)
    v, rates = np.zeros(neurons), np.empty((T, neurons))
    for t in range(T):
        v = decay * v + (1 - decay) * (W @ (np.maximum(v, 0) * heard)) + drive[t]
        rates[t] = np.maximum(v, 0) * heard
    values = rates + noise * rng.standard_normal((T, neurons))
    schema = Schema("series", tuple(f"n{i}" for i in range(neurons)), rate=rate, lengths=(T, T))
    return ClusteredCircuit(Series(values, schema), rates, cluster)


def _shares(weights: Float[np.ndarray, "N N"]) -> Float[np.ndarray, "N N"]:
    """Rows that sum to one, or to zero."""
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
