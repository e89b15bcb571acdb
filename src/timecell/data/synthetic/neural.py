"""Generated neurons that know their wiring, their voltages and their spikes.

`dendritic_neuron`: one cell of many synapses whose branches answer their input with a threshold before the soma adds
them up. What it does with its input no filter of each synapse can tell; a model of the cell must find the branches.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from timecell.data.containers import Sequences
from timecell.errors import InputError

BRANCH, PLATEAU, MEMBRANE, ADAPTATION = 8.0, 20.0, 10.0, 100.0
"""Decay of a branch's voltage, of its NMDA-like current, of the soma's voltage and of its adaptation [ms]."""
KICK, SOFTNESS = 0.5, 0.1
"""What a spike of a synapse of weight 1 adds to a branch's voltage, whose threshold is 1, and how soft that threshold is."""
REFRACTORY, JUMP = 3, 0.3
"""Silent steps after a spike [ms], and how far it raises the soma's threshold of 1."""
WANDER, OWN, SHARED = 50.0, 1.5, 0.5
"""How long the logarithm of a rate remembers [ms], and its spread: of each branch for itself, of all together."""


class DendriticNeuron(NamedTuple):
    """A cell's input and output, and what it is made of.

    Attributes:
        data: [N] trials of [T, synapses] spikes in steps of 1 ms: 1 from an excitatory synapse, -1 from an inhibitory.
        spikes: [N, T] what the cell answers, 0 or 1.
        soma: [N, T] voltage of the soma; the cell fires where it reaches 1, or more just after other spikes.
        branches: [N, T, branches] NMDA-like current of each branch, in [0, 1].
        branch: [synapses] which branch each synapse is on.
        sign: [synapses] 1 or -1.
        weight: [synapses] how strong it is, above zero.
    """

    data: Sequences
    spikes: Int[np.ndarray, "N T"]
    soma: Float[np.ndarray, "N T"]
    branches: Float[np.ndarray, "N T branches"]
    branch: Int[np.ndarray, "synapses"]
    sign: Int[np.ndarray, "synapses"]
    weight: Float[np.ndarray, "synapses"]


def dendritic_neuron(
    synapses: int = 128,
    branches: int = 8,
    steps: int = 2000,
    *,
    rate: float = 10.0,
    inhibitory: float = 0.4,
    coupling: float = 1.0,
    samples: int = 200,
    seed: int = 0,
    cell_seed: int = 0,
) -> DendriticNeuron:
    """A cell whose branches have thresholds of their own, driven by spikes whose rates come and go. Steps of 1 ms.

    Synapses lie on the branches one after the other. A branch sums them into a leaky voltage u, which opens an
    NMDA-like current: n follows ``sigmoid((u - 1) / 0.1)``, so a few spikes must meet, and more than enough are no
    better. The soma is a leaky integrator of all n; it fires at a threshold that each spike raises for some 100 ms, and
    is silent for 3 ms after it. Inputs are Poisson. The rate of the synapses of a branch wanders within some 50 ms over
    more than a decade, most of all for itself and somewhat together with the other branches.

    Args:
        synapses: I, on the branches in equal numbers.
        branches: J.
        steps: T of each trial [ms].
        rate: mean rate of an input [spikes/s].
        inhibitory: share of the synapses that inhibit.
        coupling: strength of a branch at the soma; the more, the more it fires.
        samples: trials N, each starting at rest.
        seed: of the inputs.
        cell_seed: of the wiring; the same for a training and a test set.

    Raises:
        InputError: an argument is out of its range.

    Example:
        >>> cell = dendritic_neuron(samples=2, steps=300)
        >>> cell.data[0].shape, cell.spikes.shape, np.unique(cell.data.values).tolist()
        ((300, 128), (2, 300), [-1, 0, 1])
    """
    from scipy.special import expit

    for name, value, fits, expected in (
        ("branches", branches, branches >= 1, "at least 1"),
        ("synapses", synapses, synapses >= branches >= 1 and synapses % branches == 0, f"a multiple of {branches}"),
        ("steps", steps, steps >= 1, "at least 1"),
        ("rate", rate, 0 <= rate <= 500, "0 to 500 spikes/s"),
        ("inhibitory", inhibitory, 0 <= inhibitory <= 1, "a share from 0 to 1"),
        ("coupling", coupling, 0 <= coupling < np.inf, "0 or more"),
        ("samples", samples, samples >= 1, "at least 1"),
    ):
        if not fits:
            raise InputError(name, found=value, expected=expected, remedy="pass such a number")
    wiring = np.random.default_rng(cell_seed)
    branch = np.repeat(np.arange(branches), synapses // branches)
    sign = np.where(wiring.random(synapses) < inhibitory, -1, 1)
    weight = wiring.lognormal(0.0, 0.5, synapses)
    strength = coupling * wiring.uniform(0.7, 1.3, branches)
    wires = np.where(branch[:, None] == np.arange(branches), KICK * weight[:, None], 0).astype(np.float32)

    rng = np.random.default_rng(seed)
    own, shared = _wander(rng, (samples, steps, branches)), _wander(rng, (samples, steps, 1))
    rates = rate / 1000 * np.exp(OWN * own + SHARED * shared - (OWN**2 + SHARED**2) / 2)  # their mean is `rate`
    x = np.empty((samples, steps, synapses), np.int8)
    kick = np.empty((samples, steps, branches), np.float32)
    for trial in range(samples):  # one at a time, for the sake of memory
        x[trial] = np.where(rng.random((steps, synapses), np.float32) < rates[trial][:, branch], sign, 0)
        kick[trial] = x[trial].astype(np.float32) @ wires
    u = _leak(kick, BRANCH)
    keep = np.exp(-1 / PLATEAU)
    n = _leak((1 - keep) * expit((u - 1) / SOFTNESS), PLATEAU)
    soma, spikes = _soma(n @ strength)
    names = tuple(f"{'e' if s > 0 else 'i'}{i}" for i, s in enumerate(sign))
    return DendriticNeuron(Sequences.of(x, channels=names, rate=1000.0), spikes, soma, n, branch, sign, weight)


def _leak(x: Float[np.ndarray, "N T n"], tau: float) -> Float[np.ndarray, "N T n"]:
    """A leaky sum over time: y_t = exp(-1 / tau) y_{t-1} + x_t."""
    from scipy.signal import lfilter

    return lfilter([1.0], [1.0, -np.exp(-1 / tau)], x, axis=1)


def _wander(rng: np.random.Generator, shape: tuple[int, int, int]) -> Float[np.ndarray, "N T n"]:
    """Gaussian with variance 1 at every step that forgets within `WANDER` ms."""
    noise = rng.standard_normal(shape)
    noise[:, 1:] *= np.sqrt(1 - np.exp(-2 / WANDER))
    return _leak(noise, WANDER)


def _soma(current: Float[np.ndarray, "N T"]) -> tuple[Float[np.ndarray, "N T"], Int[np.ndarray, "N T"]]:
    """Voltage before reset, and spikes, of a leaky integrator with a refractory period and a threshold that adapts."""
    keep, recover = np.exp(-1 / MEMBRANE), np.exp(-1 / ADAPTATION)
    v, raised, wait = np.zeros((3, len(current)))
    voltage, spikes = np.empty(current.shape), np.empty(current.shape, np.uint8)
    for t in range(current.shape[1]):
        v = np.where(wait > 0, 0.0, keep * v + (1 - keep) * current[:, t])
        fires = v >= 1 + raised
        voltage[:, t], spikes[:, t] = v, fires
        raised = recover * raised + JUMP * fires
        wait = np.where(fires, REFRACTORY, np.maximum(wait - 1, 0))
        v = np.where(fires, 0.0, v)
    return voltage, spikes
