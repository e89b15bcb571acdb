"""Tokenizers: a signal as a sentence of symbols.

Spikes (Antoniades et al., 2023, arXiv:2311.00136): time is cut into windows; the tokens of a window are its spikes in
the order of time, each with two symbols, which unit fired and how far into the window, counted in bins.

    ids    SOS  3  0  7  EOS PAD PAD           steps  SOS  0  2  2  EOS PAD PAD

The vocabulary of ids is the units, then EOS, SOS, PAD; that of steps the bins of a window, then EOS, SOS, PAD.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int

from timecell.data.containers import Batch, Schema, fingerprint
from timecell.data.spikes import SpikeTrains
from timecell.errors import InputError

ROUNDING = 1e-6  # of a bin: a time that close below a border lies on it


@dataclass(frozen=True)
class SpikeTokens:
    """The windows of some trials as tokens, one after the other.

    Attributes:
        ids: [W, L] which unit, or EOS, SOS, PAD.
        steps: [W, L] bins from the start of the window, or EOS, SOS, PAD.
        trial: [W] number of the trial that a window is from.
        window: [W] number of the window in its trial.
        end: [N] seconds of each trial.
        names: of the units.
    """

    ids: Int[np.ndarray, "W L"]
    steps: Int[np.ndarray, "W L"]
    trial: Int[np.ndarray, "W"]
    window: Int[np.ndarray, "W"]
    end: Float[np.ndarray, "N"]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class SpikeTokenizer:
    """Spikes to tokens and back; exact up to the bin.

    Attributes:
        units: C.
        window: seconds of a window, a whole number of bins.
        dt: seconds of a bin.

    Raises:
        InputError: an attribute is out of its range, or trains of other units come in.

    Example:
        >>> trains = SpikeTrains.of([[np.array([0.031]), np.array([0.002, 0.068])]], end=[0.1])
        >>> tokens = SpikeTokenizer(2, window=0.05, dt=0.01).encode(trains)
        >>> tokens.ids.tolist(), tokens.steps.tolist()          # EOS, SOS, PAD are 2, 3, 4 and 5, 6, 7
        ([[3, 1, 0, 2], [3, 1, 2, 4]], [[6, 0, 3, 5], [6, 1, 5, 7]])
        >>> back = SpikeTokenizer(2, window=0.05, dt=0.01).decode(tokens)
        >>> back.times.round(3).tolist(), back.units.tolist()    # the middle of the bin
        ([0.005, 0.035, 0.065], [1, 0, 1])
    """

    units: int
    window: float = 0.05
    dt: float = 0.01

    def __post_init__(self) -> None:
        if self.units < 1:
            raise InputError("units", found=self.units, expected="at least 1", remedy="pass the number of units")
        if not 0 < self.dt <= self.window or abs(self.window / self.dt - self.bins) > ROUNDING:
            raise InputError(
                "window", found=f"{self.window} s in bins of {self.dt} s", expected="a whole number of bins",
                remedy="choose window and dt so that it is one, e.g. 0.05 and 0.01",
            )  # fmt: skip

    @property
    def bins(self) -> int:
        """Bins of a window."""
        return round(self.window / self.dt)

    @property
    def special(self) -> Int[np.ndarray, "3 2"]:
        """EOS, SOS and PAD (rows), as id and as step (columns)."""
        return np.arange(3)[:, None] + [self.units, self.bins]

    def encode(self, trains: SpikeTrains, seed: int = 0) -> SpikeTokens:
        """All windows of all trials; where a trial ends within a window, the rest of that window is silence.

        Spikes at the very same time come in random order: an order by number would tell the units apart for nothing.
        """
        if len(trains.names) != self.units:
            raise InputError(
                "trains", found=f"{len(trains.names)} units", expected=f"{self.units}", remedy="bring the same units"
            )
        windows = np.maximum(np.ceil(trains.end / self.window - ROUNDING), 1).astype(np.int64)
        first = np.cumsum(windows) - windows
        bins = np.floor(trains.times / self.dt + ROUNDING).astype(np.int64)
        trial = np.repeat(np.arange(len(trains)), np.diff(trains.offsets))
        order = np.lexsort((np.random.default_rng(seed).random(len(bins)), trains.times, trial))
        row, step, unit = (first[trial] + bins // self.bins)[order], (bins % self.bins)[order], trains.units[order]
        count = np.bincount(row, minlength=windows.sum())
        place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count) + 1
        shape = (len(count), int(count.max()) + 2)
        ids, steps = (
            _sentences(shape, row, place, symbol, special) for symbol, special in zip((unit, step), self.special.T)
        )
        whose = np.repeat(np.arange(len(trains)), windows)
        return SpikeTokens(ids, steps, whose, np.arange(len(whose)) - first[whose], trains.end, trains.names)

    def decode(self, tokens: SpikeTokens) -> SpikeTrains:
        """The spikes, each in the middle of its bin; what stands after EOS is no spike.

        Raises:
            InputError: a window without EOS, or a token before it that is no spike.
        """
        body_ids, body_steps = tokens.ids[:, 1:], tokens.steps[:, 1:]
        closed = body_ids == self.units
        spikes = np.cumsum(closed, 1) == 0
        wrong = ~closed.any(1) | (spikes & ((body_ids >= self.units) | (body_steps >= self.bins))).any(1)
        if wrong.any():
            raise InputError(
                f"tokens, window {int(wrong.argmax())}", found=body_ids[wrong.argmax()].tolist(),
                expected=f"units below {self.units} with steps below {self.bins}, then EOS ({self.units})",
                remedy="pass tokens of this tokenizer",
            )  # fmt: skip
        row, _ = np.nonzero(spikes)
        unit, step = body_ids[spikes], body_steps[spikes]
        times = (tokens.window[row] * self.bins + step + 0.5) * self.dt
        trial = tokens.trial[row]
        times = np.minimum(times, np.nextafter(tokens.end[trial], 0))  # a bin that the end of the trial cuts
        order = np.lexsort((times, trial))
        offsets = np.searchsorted(trial[order], np.arange(len(tokens.end) + 1))
        return SpikeTrains(times[order], unit[order], offsets, tokens.end, tokens.names)


def _sentences(
    shape: tuple[int, int],
    row: Int[np.ndarray, "S"],
    place: Int[np.ndarray, "S"],
    symbol: Int[np.ndarray, "S"],
    special: Int[np.ndarray, "3"],
) -> Int[np.ndarray, "W L"]:
    """Every symbol in its row and place, SOS before and EOS behind them, then PAD."""
    eos, sos, pad = special
    tokens = np.full(shape, pad)
    tokens[:, 0] = sos
    tokens[row, place] = symbol
    tokens[np.arange(shape[0]), np.bincount(row, minlength=shape[0]) + 1] = eos
    return tokens


@dataclass(frozen=True)
class SpikeWindows:
    """Windows of tokens as batches, each with the spikes before it: what a model of the next token reads.

    A window counts if all of its past lies in its own trial. A sample is one matrix: the first P rows are the bins of
    the past, oldest first, with the count of each unit; the rows after them are the tokens of the window but for the
    last, with id, step and then the values of `beside`.

    Attributes:
        tokens: of the spikes.
        past: [W, P, C] counts in the bins before each window.
        beside: [W, V] what is known beside the spikes (behaviour, stimulus); V may be 0.
        index: [n] the windows that this holds.
        labels: [W, K] what to learn instead of the next tokens; None = the next tokens.

    Example:
        >>> trains = SpikeTrains.of([[np.array([0.031]), np.array([0.002, 0.068])]], end=[0.1])
        >>> windows = SpikeWindows.of(trains, SpikeTokenizer(2, window=0.05, dt=0.01))
        >>> batch = windows.batch(np.arange(len(windows)))
        >>> batch.x[0, :5].nonzero().tolist()                   # in the past: unit 1 in bin 0, unit 0 in bin 3
        [[0, 1], [3, 0]]
        >>> batch.x[0, 5:].tolist(), batch.target[0].tolist()   # SOS, unit 1 in bin 1; after them that unit, EOS
        ([[3.0, 6.0], [1.0, 1.0]], [[1, 1], [2, 5]])
    """

    tokens: SpikeTokens
    past: Int[np.ndarray, "W P C"]
    beside: Float[np.ndarray, "W V"]
    index: Int[np.ndarray, "n"]
    labels: Float[np.ndarray, "W K"] | None = None

    @classmethod
    def of(
        cls,
        trains: SpikeTrains,
        tokenizer: SpikeTokenizer,
        history: int = 1,
        beside: Float[np.ndarray, "W V"] | None = None,
        seed: int = 0,
    ) -> SpikeWindows:
        """All windows of the trials, with `history` windows before each.

        Raises:
            InputError: no trial has so many windows, or `beside` has not one row a window.
        """
        tokens = tokenizer.encode(trains, seed)
        index = np.flatnonzero(tokens.window >= history)
        if not index.size:
            raise InputError(
                "trains", found=f"trials of {tokens.window.max() + 1} windows at most", expected=f"{history + 1} or more",
                remedy="bring longer trials, or choose a shorter history",
            )  # fmt: skip
        known = np.zeros((len(tokens), 0)) if beside is None else beside
        if len(known) != len(tokens):
            raise InputError(
                "beside", found=f"{len(known)} rows", expected=f"{len(tokens)}, one a window", remedy="match the two"
            )
        counts = np.zeros((len(tokens), tokenizer.bins, tokenizer.units), np.int64)
        row, place = np.nonzero(tokens.ids < tokenizer.units)
        np.add.at(counts, (row, tokens.steps[row, place], tokens.ids[row, place]), 1)
        before = np.arange(len(tokens))[:, None] - np.arange(history, 0, -1)  # of windows that count: same trial
        return cls(tokens, counts[before].reshape(len(tokens), -1, tokenizer.units), known, index)

    @property
    def schema(self) -> Schema:
        """Of the samples."""
        rows = self.past.shape[1] + self.tokens.ids.shape[1] - 1
        return Schema("sequences", self.tokens.names, lengths=(rows, rows), spikes=True)

    @property
    def fingerprint(self) -> str:
        """Hash of tokens, of what is beside them, and of the windows that this holds."""
        return fingerprint(self.tokens.ids[self.index], self.tokens.steps[self.index], self.beside[self.index])

    def __len__(self) -> int:
        return len(self.index)

    def select(self, index: Int[np.ndarray, "n"]) -> SpikeWindows:
        """Some of these windows."""
        return replace(self, index=self.index[index])

    def of_trials(self, trials: Int[np.ndarray, "n"]) -> SpikeWindows:
        """The windows of these trials."""
        return replace(self, index=self.index[np.isin(self.tokens.trial[self.index], trials)])

    def batch(self, index: Int[np.ndarray, "B"]) -> Batch:
        """Samples as long as the longest sentence among them needs; the target is [B, L, 2] or the labels [B, K]."""
        rows = self.index[index]
        units, eos = self.past.shape[2], len(self.tokens.names)
        length = int((self.tokens.ids[rows] <= eos).sum(1).max()) + 1  # spikes, EOS and SOS
        ids, steps = self.tokens.ids[rows, :length], self.tokens.steps[rows, :length]
        past, beside = self.past[rows], self.beside[rows]
        bins = past.shape[1]
        x = np.zeros((len(rows), bins + length - 1, max(units, 2 + beside.shape[1])), np.float32)
        x[:, :bins, :units] = past
        x[:, bins:, 0], x[:, bins:, 1] = ids[:, :-1], steps[:, :-1]
        x[:, bins:, 2 : 2 + beside.shape[1]] = beside[:, None]
        target = np.stack([ids, steps], -1)[:, 1:] if self.labels is None else self.labels[rows].astype(np.float32)
        return Batch(torch.from_numpy(x), torch.from_numpy(target))
