"""`SpikeTrains`: when each of several units fired, in one or more trials; to counts in bins and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from timecell.data.binning import bin_spikes
from timecell.data.containers import Schema, Sequences, Series, fingerprint
from timecell.errors import InputError

SNAP = 1e-6  # of a bin: how far behind a border a trial may end without beginning another bin


@dataclass(frozen=True)
class SpikeTrains:
    """Spikes of all units of a trial in the order of time, trial after trial.

    Attributes:
        times: [S] seconds from the start of the trial, never decreasing within one.
        units: [S] number of the unit that fired.
        offsets: [N + 1] trial i holds the spikes offsets[i] to offsets[i + 1] - 1.
        end: [N] how long each trial was observed, in seconds; its spikes come before.
        names: name of each unit.

    Raises:
        InputError: arrays that do not fit one another, a time out of its trial or out of order, a unit without a name.

    Example:
        >>> trains = SpikeTrains.of([[np.array([0.011, 0.012]), np.array([0.025])]], end=[0.04])
        >>> trains.of_unit(0, 1).tolist(), trains.units.tolist(), trains.rates.tolist()
        ([0.025], [0, 0, 1], [50.0, 25.0])
        >>> trains.counts(dt=0.01)[0].tolist()
        [[0, 0], [2, 0], [0, 1], [0, 0]]
    """

    times: Float[np.ndarray, "S"]
    units: Int[np.ndarray, "S"]
    offsets: Int[np.ndarray, "N+1"]
    end: Float[np.ndarray, "N"]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        size, spikes = len(self.end), len(self.times)
        borders = self.offsets
        if len(self.units) != spikes or len(borders) != size + 1:
            raise InputError(
                "units, offsets", found=f"{len(self.units)} units and {len(borders)} offsets",
                expected=f"{spikes} and {size + 1}, for {spikes} times in {size} trials", remedy="match the arrays",
            )  # fmt: skip
        if borders[0] != 0 or borders[-1] != spikes or (np.diff(borders) < 0).any():
            raise InputError(
                "offsets", found=f"{borders[0]} to {borders[-1]}", expected=f"0 to {spikes}, never decreasing",
                remedy="pass where each trial begins, and the number of spikes",
            )  # fmt: skip
        unknown = (self.units < 0) | (self.units >= len(self.names))
        if unknown.any():
            at = int(unknown.argmax())
            raise InputError(
                f"units[{at}]", found=int(self.units[at]), expected=f"0 to {len(self.names) - 1}",
                remedy="name every unit",
            )  # fmt: skip
        out = ~((self.times >= 0) & (self.times < np.repeat(self.end, np.diff(borders))))
        back = np.diff(self.times, prepend=-np.inf) < 0
        back[borders[:-1][borders[:-1] < spikes]] = False  # the first of a trial comes after nothing
        for wrong, expected in ((out, "a time within its trial"), (back, "a time not before the one ahead of it")):
            if wrong.any():
                at = int(wrong.argmax())
                raise InputError(
                    f"times[{at}]", found=f"{self.times[at]} s", expected=expected,
                    remedy="count time in seconds from the start of each trial, sort by it, and give the trials' ends",
                )  # fmt: skip

    @classmethod
    def of(
        cls,
        trials: Sequence[Sequence[Float[np.ndarray, "n"]]],
        end: Sequence[float] | Float[np.ndarray, "N"],
        names: tuple[str, ...] | None = None,
    ) -> SpikeTrains:
        """From the times of each unit in each trial, in any order: ``trials[i][u]`` in seconds."""
        units = {len(trial) for trial in trials}
        if len(units) != 1:
            raise InputError(
                "trials", found=f"trials of {sorted(units)} units" if trials else "none",
                expected="one or more trials of the same units", remedy="give a silent unit an empty array",
            )  # fmt: skip
        times = [np.concatenate([np.asarray(t, float) for t in trial]) for trial in trials]
        fired = [np.repeat(np.arange(len(trial)), [len(t) for t in trial]) for trial in trials]
        order = [np.argsort(t, kind="stable") for t in times]
        return cls(
            np.concatenate([t[o] for t, o in zip(times, order)]),
            np.concatenate([u[o] for u, o in zip(fired, order)]),
            np.concatenate([[0], np.cumsum([len(t) for t in times])]),
            np.asarray(end, float),
            names or tuple(f"unit{u}" for u in range(units.pop())),
        )

    @classmethod
    def from_counts(
        cls, counts: Sequence[Int[np.ndarray, "T C"]], dt: float, names: tuple[str, ...] | None = None
    ) -> SpikeTrains:
        """From counts in bins of `dt` seconds; the spikes of a bin lie evenly spread in it, so `counts` gets them back.

        Example:
            >>> counts = np.array([[0, 2], [1, 0]])
            >>> trains = SpikeTrains.from_counts([counts], dt=0.01)
            >>> trains.times.tolist(), bool((trains.counts(0.01)[0] == counts).all())
            ([0.0025, 0.0075, 0.015], True)
        """
        trials = []
        for i, c in enumerate(counts):
            c = np.asarray(c)
            if c.ndim != 2 or (c < 0).any() or (c % 1 != 0).any():
                raise InputError(
                    f"counts[{i}]", found=f"shape {c.shape}" if c.ndim != 2 else "negative, broken or missing counts",
                    expected="[T, C] whole numbers from 0", remedy="count spikes in bins",
                )  # fmt: skip
            trials.append([_spread(c[:, u].astype(np.int64), dt) for u in range(c.shape[1])])
        return cls.of(trials, [len(c) * dt for c in counts], names)

    def __len__(self) -> int:
        return len(self.end)

    @property
    def fingerprint(self) -> str:
        """Hash of all spikes and trials."""
        return fingerprint(self.times, self.units, self.offsets, self.end)

    @property
    def rates(self) -> Float[np.ndarray, "C"]:
        """Spikes per second of each unit, over all trials."""
        return np.bincount(self.units, minlength=len(self.names)) / self.end.sum()

    def of_unit(self, trial: int, unit: int) -> Float[np.ndarray, "n"]:
        """When a unit fired in a trial, in seconds."""
        here = slice(self.offsets[trial], self.offsets[trial + 1])
        return self.times[here][self.units[here] == unit]

    def select(self, index: Int[np.ndarray, "n"]) -> SpikeTrains:
        """The trials with these numbers, in this order."""
        rows = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in index]
        spikes = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        offsets = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)
        return replace(self, times=self.times[spikes], units=self.units[spikes], offsets=offsets, end=self.end[index])

    def shuffled(self, seed: int) -> SpikeTrains:
        """Every spike at a random time of its trial: the counts stay, and nothing else."""
        trial = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        times = np.random.default_rng(seed).random(len(trial)) * self.end[trial]
        order = np.lexsort((times, trial))
        return replace(self, times=times[order], units=self.units[order])

    def counts(self, dt: float) -> list[Int[np.ndarray, "T C"]]:
        """Spikes of each unit in bins of `dt` seconds, trial by trial, from time zero to the trial's end.

        Raises:
            InputError: dt is not positive.
            DataError: so short a bin that hardly one would hold a spike.
        """
        counts, starts = bin_spikes(self.times, self.units, self.offsets, dt, len(self.names))
        return [
            _padded(counts[starts[i] : starts[i + 1]], max(1, int(np.ceil(self.end[i] / dt - SNAP))))
            for i in range(len(self))
        ]

    def sequences(self, dt: float) -> Sequences:
        """The counts as samples, one a trial."""
        return Sequences.of(self.counts(dt), channels=self.names, rate=1 / dt)

    def series(self, dt: float, trial: int = 0) -> Series:
        """The counts of one trial as a series."""
        counts = self.counts(dt)[trial].astype(float)
        size = (len(counts), len(counts))
        schema = Schema("series", self.names, rate=1 / dt, lengths=size, spikes=True)
        return Series(counts, schema, np.arange(len(counts)) * dt)


def _spread(counts: Int[np.ndarray, "T"], dt: float) -> Float[np.ndarray, "n"]:
    """Times of the spikes of one unit: n in a bin lie at (i + 1/2) / n of it."""
    bins = np.repeat(np.arange(len(counts)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    return (bins + (np.arange(len(bins)) - first + 0.5) / counts[bins]) * dt


def _padded(counts: Int[np.ndarray, "t C"], steps: int) -> Int[np.ndarray, "T C"]:
    """With silent bins up to the end of the trial."""
    return np.concatenate([counts, np.zeros((max(steps - len(counts), 0), counts.shape[1]), counts.dtype)])
