"""`Sound`: a wave with its rate; as it is, resampled, or as the spikes of an ear (`cochleagram`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from jaxtyping import Float

from timecell.data.containers import Schema, Sequences, Series
from timecell.data.encoders import filterbank_spikes
from timecell.errors import InputError


@dataclass(frozen=True)
class Sound:
    """What one or more microphones recorded.

    Attributes:
        wave: [T, C] float32, full scale from -1 to 1.
        rate: samples per second.
    """

    wave: Float[np.ndarray, "T C"]
    rate: int

    @property
    def channels(self) -> tuple[str, ...]:
        """mono, left and right, or numbers."""
        C = self.wave.shape[1]
        return {1: ("mono",), 2: ("left", "right")}.get(C, tuple(f"x{c}" for c in range(C)))


def sequences(sound: Sound, *, rate: float | None = None, filters: int | None = None, dt: float = 0.010) -> Sequences:
    """One sample without a label: the wave at `rate` (its own by default), or what an ear of `filters` hears of it."""
    wave, own = resampled(sound.wave, sound.rate, rate)
    data = Sequences.of([wave], channels=sound.channels, rate=own)
    return data if filters is None else cochleagram(data, filters, dt)


def series(sound: Sound, *, rate: float | None = None, period: int | None = None) -> Series:
    """The wave as one long record at `rate` (its own by default)."""
    wave, own = resampled(sound.wave, sound.rate, rate)
    schema = Schema("series", sound.channels, rate=own, lengths=(len(wave), len(wave)), period=period)
    return Series(wave.astype(np.float64), schema)


def cochleagram(sounds: Sequences, filters: int = 40, dt: float = 0.010) -> Sequences:
    """Sounds as spikes of an ear: counts in bins of dt seconds, one channel a filter (see `filterbank_spikes`).

    Args:
        sounds: waves [T, C] with `schema.rate`; each of several channels has an ear of its own.
        filters: gammatone filters, from 100 Hz to 0.45 of the rate.
        dt: bin width in seconds. A sample keeps its length in time; the last bin may be a part of one.

    Raises:
        InputError: the sounds have no rate, `filters` or `dt` is not positive, or a wave is shorter than a millisecond.

    Example:
        >>> tone = np.sin(2 * np.pi * 440 * np.arange(4000) / 8000)[:, None]
        >>> heard = cochleagram(Sequences.of([tone, tone[:2000]], rate=8000.0), filters=20)
        >>> heard.values.shape, heard.lengths.tolist(), heard.schema.rate
        ((75, 20), [50, 25], 100.0)
    """
    rate = sounds.schema.rate
    if rate is None:
        raise InputError(
            "sounds",
            found="no rate",
            expected="samples per second in schema.rate",
            remedy="Sequences.of(..., rate=8000)",
        )
    for name, value in (("filters", filters), ("dt", dt)):
        if not 0 < value < np.inf:
            raise InputError(name, found=value, expected="above 0", remedy="40 filters and dt=0.010 are usual")
    heard = [_heard(sounds[i], rate, filters, dt) for i in range(len(sounds))]
    ears = [""] if len(sounds.schema.channels) == 1 else [f"{name} " for name in sounds.schema.channels]
    names = tuple(f"{ear}filter{k}" for ear in ears for k in range(filters))
    data = Sequences.of(heard, sounds.target, classes=sounds.schema.classes, channels=names, rate=1 / dt)
    schema = replace(data.schema, spikes=True, label=sounds.schema.label)
    return replace(data, schema=schema, group=sounds.group, part=sounds.part)


def _heard(wave: Float[np.ndarray, "T C"], rate: float, filters: int, dt: float) -> np.ndarray:
    """[bins, C filters] counts."""
    steps = max(1, int(np.ceil(len(wave) / rate / dt - 1e-6)))
    counts = np.zeros((wave.shape[1], steps, filters), dtype=np.uint16)
    for ear, channel in zip(counts, wave.T):
        times, units = filterbank_spikes(channel, round(rate), filters)
        np.add.at(ear, (np.minimum((times / dt + 1e-6).astype(int), steps - 1), units), 1)
    return np.concatenate(counts, axis=1)


def resampled(
    values: Float[np.ndarray, "T C"], own: float, rate: float | None
) -> tuple[Float[np.ndarray, "T' C"], float]:
    """The values at another rate (band-limited, by a ratio of whole numbers up to 10,000), and that rate.

    Raises:
        InputError: the rate is not positive, or no such ratio is near it.

    Example:
        >>> values, rate = resampled(np.ones((300, 1)), 300.0, 100.0)
        >>> values.shape, rate, round(float(values[50, 0]), 2)
        ((100, 1), 100.0, 1.0)
    """
    if rate is None or rate == own:
        return values, float(own)
    if not 0 < rate < np.inf:
        raise InputError(
            "rate", found=rate, expected="samples per second, above 0", remedy="leave it out to keep rates"
        )
    ratio = Fraction(rate / own).limit_denominator(10_000)
    if not ratio or ratio.numerator > 10_000 or abs(float(ratio) * own / rate - 1) > 1e-6:
        raise InputError(
            "rate",
            found=f"{rate:g} for data at {own:g}",
            expected="a simple ratio of the two",
            remedy="choose another rate",
        )
    from scipy.signal import resample_poly  # slow to import, and only this needs it

    return resample_poly(values, ratio.numerator, ratio.denominator, axis=0).astype(values.dtype), float(rate)
