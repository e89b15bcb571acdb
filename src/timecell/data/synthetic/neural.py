"""Generated neurons that know their wiring, their voltages and their spikes.

`dendritic_neuron`: one cell of many synapses whose branches answer their input with a threshold before the soma adds
them up. What it does with its input no filter of each synapse can tell; a model of the cell must find the branches.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.signal import lfilter

from timecell.data.containers import Sequences
from timecell.errors import InputError

SYNAPSE, BRANCH, PLATEAU = 5.0, 10.0, 40.0
"""Decay of a synaptic current, of a branch's own voltage, of its NMDA-like current [ms]."""
MEMBRANE, REFRACTORY, ADAPTATION = 20.0, 3, 100.0
"""Decay of the soma's voltage, its refractory period, decay of its adaptation [ms]."""
HALF, STEEPNESS = 1.0, 0.12
"""Branch voltage at which half of the NMDA-like current flows, and how soft that threshold is."""
LEAK_THROUGH, JUMP = 0.15, 0.4
"""What a branch passes on without a plateau, relative to one with; how far a spike raises the soma's threshold."""


class DendriticNeuron(NamedTuple):
    """A cell's input and output, and what it is made of.

    Attributes:
        data: [N] trials of [T, synapses] spikes in steps of 1 ms: 1 from an excitatory synapse, -1 from an inhibitory.
        spikes: [N, T] what the cell answers, 0 or 1.
        soma: [N, T] voltage of the soma; the cell fires at 1 and above, as far as it is adapted.
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
    inhibitory: float = 0.25,
    coupling: float = 1.0,
    samples: int = 200,
    seed: int = 0,
    cell_seed: int = 0,
) -> DendriticNeuron:
    """A cell whose branches have thresholds of their own, driven by spikes whose rates come and go. Steps of 1 ms.

    Synapses lie on the branches one after the other. A branch sums their currents into a voltage u, which opens an
    NMDA-like current n, a slow trace of ``sigmoid((u - 1) / 0.12)``. The soma is a leaky integrator of the branches'
    n and, weakly, of their u; it fires at a threshold that each spike raises for some 100 ms, and is silent for 3 ms
    after it. The inputs are Poisson; the rate of the synapses of a branch wanders, most of all by itself and somewhat
    together with the others.

    Args:
        synapses: I, on the branches in equal numbers.
        branches: J.
        steps: T of each trial [ms].
        rate: mean rate of an input [spikes/s].
        inhibitory: share of the synapses that inhibit.
        coupling: strength of the branches at the soma; the more, the more it fires.
        samples: trials N.
        seed: of the inputs.
        cell_seed: of the wiring; the same for a training and a test set.

    Raises:
        InputError: an argument is out of its range.

    Example:
        >>> cell = dendritic_neuron(samples=2, steps=300)
        >>> cell.data[0].shape, cell.spikes.shape, np.unique(cell.data.values).tolist(), cell.branch[[0, 15, 16]].tolist()
        ((300, 128), (2, 300), [-1, 0, 1], [0, 0, 1])
    """
    for name, value, fits, expected in (
        ("branches", branches, branches >= 1, "at least 1"),
        ("synapses", synapses, synapses >= branches >= 1 and synapses % branches == 0, f"a multiple of {branches}"),
        ("steps", steps, steps >= 1, "at least 1"),
        ("samples", samples, samples >= 1, "at least 1"),
        ("rate", rate, 0 <= rate <= 500, "0 to 500 spikes/s"),
        ("inhibitory", inhibitory, 0 <= inhibitory <= 1, "a share from 0 to 1"),
        ("coupling", coupling, coupling >= 0 and np.isfinite(coupling), "0 or more"),
    ):
        if not fits:
            raise InputError(name, found=value, expected=expected, remedy="pass such a number")
    wiring = np.random.default_rng(cell_seed)
    branch = np.repeat(np.arange(branches), synapses // branches)
    sign = np.where(wiring.random(synapses) < inhibitory, -1, 1)
    weight = wiring.lognormal(0.0, 0.5, synapses)
    strength = coupling * wiring.uniform(0.7, 1.3, branches)

    rng = np.random.default_rng(seed)
    own, shared = _wander(rng, (samples, steps, branches)), _wander(rng, (samples, steps, 1))
    rates = rate / 1000 * np.exp(own + 0.5 * shared - (1 + 0.25) / 2)
    x = np.empty((samples, steps, synapses), np.int8)
    drive = np.empty((samples, steps, branches), np.float32)
    to_branch = np.zeros((synapses, branches), np.float32)
    to_branch[np.arange(synapses), branch] = weight
    for trial in range(samples):  # one at a time, for the sake of memory
        fires = rng.random((steps, synapses), np.float32) < rates[trial][:, branch]
        x[trial] = np.where(fires, sign, 0)
        drive[trial] = x[trial].astype(np.float32) @ to_branch
    u, n = _dendrites(drive * branches * 0.25 / synapses * 4)
    soma, spikes = _soma((n + LEAK_THROUGH * u) @ strength.astype(np.float32))
    data = Sequences.of(x, channels=tuple(f"{'e' if s > 0 else 'i'}{i}" for i, s in enumerate(sign)), rate=1000.0)
    return DendriticNeuron(data, spikes, soma, n, branch, sign, weight)


def _wander(rng: np.random.Generator, shape: tuple[int, int, int]) -> Float[np.ndarray, "N T n"]:
    """Gaussian with variance 1 that forgets within some 50 ms."""
    keep = np.exp(-1 / 50.0)
    noise = rng.standard_normal(shape)
    noise[:, 1:] *= np.sqrt(1 - keep**2)
    return lfilter([1.0], [1.0, -keep], noise, axis=1)
