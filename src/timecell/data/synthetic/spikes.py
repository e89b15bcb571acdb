"""Generated spike patterns that know their truth.

`motifs`: classes differ in *when* each unit spikes and not in how often. `poisson`: they differ in how often and not in
when. A system that reads time must solve the first, one that counts can solve the second only. `randman`: each unit
spikes once, at a time that varies smoothly over a class; how many dimensions it varies in sets the difficulty.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from timecell.data.containers import Sequences
from timecell.errors import InputError

SHIFTS = 10
"""A sample is shifted as a whole by 0 to 9 steps."""
PROBES = 1000
"""Places at which the range of a manifold is measured."""


class Motifs(NamedTuple):
    """Generated samples and what they were made from.

    Attributes:
        data: the samples.
        times: [classes, units] the step at which each unit spikes in each class, before shift and jitter.
    """

    data: Sequences
    times: Int[np.ndarray, "K C"]


def motifs(
    classes: int = 10,
    units: int = 20,
    steps: int = 60,
    *,
    jitter: float = 0.0,
    noise: float = 0.01,
    drop: float = 0.1,
    samples: int = 1000,
    seed: int = 0,
    template_seed: int = 0,
) -> Motifs:
    """Spike patterns whose classes differ only in time: every unit spikes once in each, at a step of its own.

    A class has a random step in [0, 2/3 T) for each unit. A sample is these steps, all moved by the same 0 to 9 steps,
    each by a rounded Gaussian jitter of its own (held within the sample), each spike left out with probability `drop`,
    and on top of it background spikes with probability `noise` a bin. So counts say nothing about the class.

    Args:
        classes: number of classes K.
        units: number of channels C.
        steps: number of steps T, at least 25 so that a shifted pattern fits.
        jitter: standard deviation in steps.
        noise: probability of a background spike in a bin.
        drop: probability that a spike is left out.
        samples: number of samples; classes take turns, so their numbers differ by one at most.
        seed: of the samples.
        template_seed: of the classes; the same for a training and a test set.

    Returns:
        Samples [T, C] of 0 and 1, and the classes' spike times.

    Raises:
        InputError: an argument is out of its range.

    Example:
        >>> data, times = motifs(classes=3, units=5, jitter=0, noise=0, drop=0, samples=6)
        >>> len(data), data[0].shape, data[0].sum(axis=0).tolist(), times.shape
        (6, (60, 5), [1, 1, 1, 1, 1], (3, 5))
    """
    span = steps * 2 // 3
    for name, value, fits, expected in (
        ("classes", classes, classes >= 2, "at least 2"),
        ("units", units, units >= 1, "at least 1"),
        ("steps", steps, span + SHIFTS - 1 <= steps, "at least 25"),
        ("samples", samples, samples >= 1, "at least 1"),
        ("jitter", jitter, jitter >= 0, "0 or more steps"),
        ("noise", noise, 0 <= noise <= 1, "a probability"),
        ("drop", drop, 0 <= drop <= 1, "a probability"),
    ):
        if not fits:
            raise InputError(name, found=value, expected=expected, remedy="pass such a number")
    times = np.random.default_rng(template_seed).integers(0, span, (classes, units))

    rng = np.random.default_rng(seed)
    label = rng.permutation(np.arange(samples) % classes)
    moved = times[label] + rng.integers(0, SHIFTS, (samples, 1))
    moved = moved + np.rint(rng.normal(0.0, jitter, (samples, units))).astype(np.int64)
    kept = rng.random((samples, units)) >= drop
    x = rng.random((samples, steps, units)) < noise
    sample, unit = np.nonzero(kept)
    x[sample, np.clip(moved, 0, steps - 1)[sample, unit], unit] = True
    return Motifs(Sequences.of(x.astype(np.uint8), label, classes=_names(classes)), times)


class Randman(NamedTuple):
    """Generated samples and where they lie.

    Attributes:
        data: the samples.
        place: [N, D] coordinates of each sample on the manifold of its class, in [0, 1].
    """

    data: Sequences
    place: Float[np.ndarray, "N D"]


def randman(
    classes: int = 10,
    units: int = 20,
    steps: int = 50,
    *,
    dimensions: int = 1,
    roughness: int = 8,
    smoothness: float = 2.0,
    samples: int = 1000,
    seed: int = 0,
    manifold_seed: int = 0,
) -> Randman:
    """Spikes on random smooth manifolds (Zenke & Vogels 2021): every unit spikes once, when depends on place and class.

    For each class and unit the spike time is a random periodic function of the sample's place, a product over the
    dimensions of sums of sines: ``prod_d sum_k a_dk k**-smoothness sin(2 pi (k z_d b_dk + c_dk))`` for k = 1 to
    `roughness`, a, b and c uniform in [0, 1]. Its values are stretched to fill all steps. Counts say nothing.

    Args:
        classes: number of classes K.
        units: number of channels C.
        steps: number of steps T.
        dimensions: of each manifold, D.
        roughness: highest frequency of the sines.
        smoothness: power with which amplitudes fall; the smaller, the more folded the manifold.
        samples: number of samples; classes take turns.
        seed: of the samples.
        manifold_seed: of the manifolds; the same for a training and a test set.

    Returns:
        Samples [T, C] of 0 and 1, and their places.

    Raises:
        InputError: an argument is out of its range.

    Example:
        >>> data, place = randman(classes=2, units=5, samples=4)
        >>> data[0].shape, data[0].sum(axis=0).tolist(), place.shape
        ((50, 5), [1, 1, 1, 1, 1], (4, 1))
    """
    for name, value, low in (
        ("classes", classes, 2), ("units", units, 1), ("steps", steps, 2), ("dimensions", dimensions, 1),
        ("roughness", roughness, 1), ("smoothness", smoothness, 0), ("samples", samples, 1),
    ):  # fmt: skip
        if not value >= low:
            raise InputError(name, found=value, expected=f"at least {low}", remedy="pass such a number")
    k = np.arange(1, roughness + 1)
    a, b, c = np.random.default_rng(manifold_seed).random((3, classes, units, dimensions, roughness))

    def heights(label: Int[np.ndarray, "n"], z: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n C"]:
        wave = np.sin(2 * np.pi * (k * z[:, None, :, None] * b[label] + c[label]))
        return (a[label] * k**-smoothness * wave).sum(-1).prod(-1)

    probe = np.random.default_rng(manifold_seed + 1).random((classes * PROBES, dimensions))
    height = heights(np.repeat(np.arange(classes), PROBES), probe).reshape(classes, PROBES, units)
    low, high = height.min(1), height.max(1)

    rng = np.random.default_rng(seed)
    label = rng.permutation(np.arange(samples) % classes)
    place = rng.random((samples, dimensions))
    share = ((heights(label, place) - low[label]) / (high - low)[label]).clip(0, 1)
    time = np.minimum((share * steps).astype(np.int64), steps - 1)
    x = np.zeros((samples, steps, units), dtype=np.uint8)
    np.put_along_axis(x, time[:, None], 1, axis=1)
    return Randman(Sequences.of(x, label, classes=_names(classes)), place)


def poisson(rates: Float[np.ndarray, "K C"], steps: int = 60, *, samples: int = 1000, seed: int = 0) -> Sequences:
    """Poisson counts whose classes differ only in their rates, which do not change in time.

    Args:
        rates: [K, C] mean count of each unit per step, for each class.
        steps: number of steps T.
        samples: number of samples; classes take turns.
        seed: of the samples.

    Raises:
        InputError: rates are negative or not of two axes, or there are no steps or samples.

    Example:
        >>> data = poisson(np.array([[0.0, 2.0], [2.0, 0.0]]), steps=100, samples=2)
        >>> [bool(data[i].sum(axis=0).argmax() == 1 - data.target[i]) for i in range(2)]
        [True, True]
    """
    rates = np.asarray(rates, dtype=np.float64)
    if rates.ndim != 2 or not (np.isfinite(rates).all() and (rates >= 0).all()):
        raise InputError(
            "rates", found=f"shape {rates.shape}, min {rates.min(initial=0):g}", expected="[classes, units] from 0 on",
            remedy="pass the mean count of each unit per step, for each class",
        )  # fmt: skip
    for name, value in (("steps", steps), ("samples", samples)):
        if value < 1:
            raise InputError(name, found=value, expected="at least 1", remedy="pass a larger number")
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.arange(samples) % len(rates))
    counts = rng.poisson(np.broadcast_to(rates[label][:, None], (samples, steps, rates.shape[1])))
    return Sequences.of(counts.astype(np.min_scalar_type(int(counts.max()))), label, classes=_names(len(rates)))


def _names(classes: int) -> tuple[str, ...]:
    return tuple(str(k) for k in range(classes))
