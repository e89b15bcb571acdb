"""From values to spikes: codes for intensities, for series and for sound.

Intensities [B, ...] in [0, 1] become spikes [B, T, ...] with `direct`, `rate`, `latency` and `log_latency`, if you like
after `population` has spread each over several units. A series [..., T, C] becomes ON and OFF spikes [..., T, 2 C] with
`delta` (changes by a threshold) or `level_crossing` (passages of fixed levels). `filterbank_spikes` is an ear.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from timecell.errors import InputError

FRAME = 0.001
"""Seconds between two readings of the ear's envelopes, and so the precision of its spike times."""


def direct(x: Float[Tensor, "B ..."], steps: int) -> Float[Tensor, "B T ..."]:
    """The same values at every step; the first layer of the network turns them into spikes.

    Example:
        >>> direct(torch.tensor([[0.5]]), steps=3)[0, :, 0].tolist()
        [0.5, 0.5, 0.5]
    """
    return x.unsqueeze(1).expand(-1, _positive("steps", steps), *x.shape[1:])


def rate(x: Float[Tensor, "B ..."], steps: int, generator: torch.Generator | None = None) -> Float[Tensor, "B T ..."]:
    """A spike at each step with probability x, independently (Bernoulli code); the mean over steps tends to x.

    Args:
        x: intensities in [0, 1].
        steps: number of steps T.
        generator: source of the draws, for a result that can be repeated.

    Raises:
        InputError: a value lies outside [0, 1].

    Example:
        >>> rate(torch.tensor([[0.0, 1.0]]), steps=2, generator=torch.Generator().manual_seed(0))[0].tolist()
        [[0.0, 1.0], [0.0, 1.0]]
    """
    return torch.bernoulli(direct(_intensity(x), steps), generator=generator)


def latency(x: Float[Tensor, "B ..."], steps: int) -> Float[Tensor, "B T ..."]:
    """One spike, the earlier the larger x: at step (1 - x) (steps - 1), rounded; none where x is 0.

    So a spike at step t means x = 1 - t / (steps - 1) to within half a step.

    Args:
        x: intensities in [0, 1].
        steps: number of steps T, at least 2.

    Raises:
        InputError: a value lies outside [0, 1], or there are fewer than 2 steps.

    Example:
        >>> latency(torch.tensor([[1.0, 0.5, 0.0]]), steps=3)[0].tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    if steps < 2:
        raise InputError("steps", found=steps, expected="at least 2, an early and a late one", remedy="pass more steps")
    at = ((1 - _intensity(x)) * (steps - 1)).round().long()
    spikes = torch.zeros_like(direct(x, steps))
    return spikes.scatter_(1, at.unsqueeze(1), (x > 0).to(x.dtype).unsqueeze(1))


def log_latency(
    x: Float[Tensor, "B ..."], steps: int, *, tau: float = 5.0, threshold: float = 0.01
) -> Float[Tensor, "B T ..."]:
    """One spike, when a leaky integrator driven by x reaches a threshold: at step tau ln(x / (x - threshold)), rounded.

    The membrane relaxes from 0 to x with time constant tau, so strong inputs lie close together and weak ones far
    apart. An input at or below the threshold never spikes, and neither does one that would need `steps` or more.

    Args:
        x: intensities in [0, 1].
        steps: number of steps T.
        tau: time constant in steps.
        threshold: the membrane's, in units of x.

    Raises:
        InputError: a value lies outside [0, 1], or tau or threshold is not positive.

    Example:
        >>> log_latency(torch.tensor([[1.0, 0.03, 0.01]]), steps=4)[0].argmax(0).tolist()
        [0, 2, 0]
        >>> log_latency(torch.tensor([[1.0, 0.03, 0.01]]), steps=4)[0].sum(0).tolist()
        [1.0, 1.0, 0.0]
    """
    for name, value in (("tau", tau), ("threshold", threshold)):
        if not 0 < value < np.inf:
            raise InputError(name, found=value, expected="above 0", remedy="tau=5.0 and threshold=0.01 are usual")
    spikes = torch.zeros_like(direct(_intensity(x), steps))
    at = tau * torch.log(x / (x - threshold).clamp(min=torch.finfo(x.dtype).tiny))
    fires = (x > threshold) & (at.round() < steps)
    step = torch.where(fires, at, 0.0).round().long()
    return spikes.scatter_(1, step.unsqueeze(1), fires.to(x.dtype).unsqueeze(1))


def population(x: Float[Tensor, "*B C"], units: int) -> Float[Tensor, "*B C*units"]:
    """Each value as the responses of several units, each with a Gaussian tuning curve (Bohte, Kok & La Poutre 2002).

    The curves are centred evenly from 0 to 1, their width is two thirds of the distance between two centres. The
    responses lie in [0, 1] and go on to `rate`, `latency` or straight into a network.

    Args:
        x: intensities in [0, 1].
        units: number of curves, at least 2.

    Returns:
        Responses, all units of the first channel first.

    Raises:
        InputError: a value lies outside [0, 1], or there are fewer than 2 units.

    Example:
        >>> (100 * population(torch.tensor([[0.5]]), units=3)).round().tolist()
        [[32.0, 100.0, 32.0]]
    """
    if units < 2:
        raise InputError("units", found=units, expected="at least 2", remedy="pass more units")
    centre = torch.linspace(0, 1, units, dtype=x.dtype, device=x.device)
    apart = (_intensity(x).unsqueeze(-1) - centre) * (units - 1)  # in distances between centres
    return torch.exp(-0.5 * (apart / (2 / 3)) ** 2).flatten(-2)


def delta(x: Float[Tensor, "*B T C"], threshold: float) -> Float[Tensor, "*B T 2C"]:
    """Changes: each channel sends an ON spike per threshold that it rises, an OFF spike per threshold that it falls.

    The reference starts at the first value and follows by whole thresholds, so several spikes may fall into one step
    and x[0] + threshold * cumsum(ON - OFF) stays within one threshold of x.

    Args:
        x: series, time on the last axis but one.
        threshold: size of a level, in the units of x.

    Returns:
        Counts, ON spikes of all channels and then OFF spikes.

    Raises:
        InputError: the threshold is not positive, or x is not finite.

    Example:
        >>> delta(torch.tensor([[0.0], [2.5], [1.0]]), threshold=1.0).tolist()
        [[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]]
    """
    if not threshold > 0:
        raise InputError("threshold", found=threshold, expected="above 0", remedy="try the standard deviation of x")
    _finite(x)
    reference = x[..., 0, :]
    moves = []
    for value in x.unbind(-2):
        move = torch.trunc((value - reference) / threshold)
        reference = reference + threshold * move
        moves.append(move)
    moved = torch.stack(moves, dim=-2)
    return torch.cat([moved.clamp(min=0), moved.clamp(min=0) - moved], dim=-1)


def level_crossing(x: Float[Tensor, "*B T C"], levels: Float[Tensor, "L"]) -> Float[Tensor, "*B T 2C"]:
    """Passages of fixed levels: an ON spike for each level that a channel rises to, an OFF spike for each it falls below.

    Several levels may be passed in one step. Unlike in `delta` the levels stand still, may lie at any distance, and say
    where the signal is and not only how it changes: of the levels, ``(levels <= x[0]).sum() + cumsum(ON - OFF)`` lie at
    or below x at each step, so x lies between that level and the next.

    Args:
        x: series, time on the last axis but one.
        levels: ascending, in the units of x.

    Returns:
        Counts, ON spikes of all channels and then OFF spikes; none at the first step.

    Raises:
        InputError: the levels do not ascend, or x is not finite.

    Example:
        >>> level_crossing(torch.tensor([[0.0], [2.5], [1.0]]), levels=torch.tensor([0.5, 1.5, 2.0])).tolist()
        [[0.0, 0.0], [3.0, 0.0], [0.0, 2.0]]
    """
    if levels.ndim != 1 or not len(levels) or not (levels.diff() > 0).all():
        raise InputError(
            "levels", found=levels.tolist(), expected="ascending numbers", remedy="sort them: torch.unique"
        )
    _finite(x)
    below = torch.searchsorted(levels.to(x), x.contiguous(), right=True)
    moved = below.diff(dim=-2, prepend=below[..., :1, :]).to(x.dtype)
    return torch.cat([moved.clamp(min=0), moved.clamp(min=0) - moved], dim=-1)


def filterbank_spikes(
    wave: Float[np.ndarray, "samples"],
    rate: int,
    channels: int = 40,
    *,
    lowest: float = 100.0,
    dynamic_range: float = 40.0,
    contrast: float = 0.8,
    gain: float = 0.15,
    adaptation: float = 3.0,
) -> tuple[Float[np.ndarray, "E"], Int[np.ndarray, "E"]]:
    """Spikes of an ear: where in the spectrum energy arises, and when.

    Pre-emphasis; gammatone filters, evenly spaced on the ERB scale (Glasberg & Moore 1990); half-wave rectification and
    a 40 Hz low-pass; decibels below the clip's peak, 0 to 1 over the dynamic range; lateral inhibition by the mean of
    nine neighbouring channels; one leaky integrate-and-fire unit a channel (10 ms) whose threshold jumps at each of its
    spikes and recovers within 75 ms, so that onsets count for more than what lasts.

    Args:
        wave: sound, any scale.
        rate: samples per second.
        channels: number of filters, from `lowest` to 0.45 of the sampling rate.
        lowest: lowest centre frequency in Hz.
        dynamic_range: decibels below the peak at which a channel is silent.
        contrast: share of the neighbours' mean that is subtracted, in [0, 1).
        gain: drive of the units; more gives more spikes.
        adaptation: jump of the threshold at a spike, in units of the resting threshold.

    Returns:
        Times in seconds, ascending, in whole milliseconds; channel of each spike.

    Raises:
        InputError: the wave is not finite, has other than one axis or is shorter than a millisecond.

    Example:
        >>> tone = np.sin(2 * np.pi * 440 * np.arange(4000) / 8000)
        >>> times, units = filterbank_spikes(tone, rate=8000)
        >>> bool((units == np.bincount(units).argmax()).any()), bool((np.diff(times) >= 0).all())
        (True, True)
    """
    from scipy.ndimage import uniform_filter1d  # slow to import, and only sound needs it

    wave = np.asarray(wave, dtype=np.float64)
    if wave.ndim != 1 or len(wave) < rate * FRAME or not np.isfinite(wave).all():
        raise InputError(
            "wave", found=f"shape {wave.shape}", expected="one axis of at least a millisecond, finite",
            remedy="pass one channel of sound",
        )  # fmt: skip
    level = _loudness(_envelopes(wave, rate, _erb_frequencies(lowest, 0.45 * rate, channels)), dynamic_range)
    neighbours = uniform_filter1d(level, 9, axis=1, mode="nearest")
    spikes = _fire(gain * np.maximum(level - contrast * neighbours, 0) / (1 - contrast), adaptation)
    frame, unit = np.nonzero(spikes)
    return frame * FRAME, unit


def _envelopes(wave: Float[np.ndarray, "samples"], rate: int, centres: Float[np.ndarray, "C"]) -> np.ndarray:
    """[T, C] amplitude in each band, one value a millisecond."""
    from scipy import signal

    sharpened = signal.lfilter([1.0, -0.97], [1.0], wave)
    smooth = signal.butter(2, 40.0, fs=rate)
    ends = np.round(np.arange(1, int(len(wave) / (rate * FRAME)) + 1) * rate * FRAME).astype(int) - 1
    bands = []
    for centre in centres:
        rectified = np.maximum(signal.lfilter(*signal.gammatone(centre, "iir", fs=rate), sharpened), 0)
        bands.append(signal.lfilter(*smooth, rectified)[ends])
    return np.maximum(np.stack(bands, axis=1), 0)


def _loudness(envelopes: Float[np.ndarray, "T C"], dynamic_range: float) -> Float[np.ndarray, "T C"]:
    """Decibels above the floor as a share of the dynamic range: 1 at the clip's peak, 0 at silence."""
    peak = envelopes.max()
    if peak == 0:
        return envelopes
    decibels = 20 * np.log10(np.maximum(envelopes / peak, 1e-12))
    return np.maximum(decibels / dynamic_range + 1, 0)


def _fire(drive: Float[np.ndarray, "T C"], adaptation: float) -> Float[np.ndarray, "T C"]:
    """Leaky integrate-and-fire units with adapting thresholds, one step a millisecond, resting threshold 1."""
    leak, recovery = np.exp(-FRAME / 0.010), np.exp(-FRAME / 0.075)
    v, raised = np.zeros(drive.shape[1]), np.zeros(drive.shape[1])
    spikes = np.zeros_like(drive)
    for t, current in enumerate(drive):
        v = leak * v + current
        spikes[t] = v >= 1 + raised
        v = np.where(spikes[t], 0.0, v)
        raised = recovery * raised + adaptation * spikes[t]
    return spikes


def _erb_frequencies(lowest: float, highest: float, channels: int) -> Float[np.ndarray, "C"]:
    """Centre frequencies evenly spaced on the scale of equivalent rectangular bandwidths."""
    low, high = (float(21.4 * np.log10(1 + 0.00437 * f)) for f in (lowest, highest))
    return (10 ** (np.linspace(low, high, channels) / 21.4) - 1) / 0.00437


def _intensity(x: Tensor) -> Tensor:
    """The same values, known to lie in [0, 1]."""
    low, high = float(x.min()), float(x.max())
    if not (low >= 0 and high <= 1):
        raise InputError(
            "x", found=f"values from {low:g} to {high:g}", expected="0 to 1", remedy="scale them to [0, 1]"
        )
    return x


def _finite(x: Tensor) -> None:
    if not torch.isfinite(x).all():
        raise InputError("x", found="a value that is not finite", expected="numbers", remedy="fill the gaps first")


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise InputError(name, found=value, expected="at least 1", remedy=f"pass a positive number of {name}")
    return value
