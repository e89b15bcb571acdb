"""`event_regimes`: event sequences whose rules change from one period to the next, and sometimes come back.

In every regime each mark has a successor of its own and marks have their own popularity: after mark j comes its successor
with probability `strength`, and otherwise a mark by its popularity; how long the wait is depends on the mark that ends
it. A new regime draws all of this anew, so what was right in one is wrong in the next, while marks, mean gap and kind of
process stay the same. What regime a history is of can be told from how often its marks come.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from timecell.data.splits import Splits
from timecell.data.synthetic.point_processes import MarkovRenewal, markov_renewal
from timecell.errors import InputError


class Regime(NamedTuple):
    """One period of a stream.

    Attributes:
        name: its letter.
        parts: training, validation and test sequences.
        truth: the process that they were drawn from, for `log_likelihood`.
    """

    name: str
    parts: Splits
    truth: MarkovRenewal


class _Rules(NamedTuple):
    next: Float[np.ndarray, "K K"]
    log_mean: Float[np.ndarray, "K"]


def event_regimes(
    order: str = "ABaC",
    *,
    marks: int = 6,
    sequences: tuple[int, int, int] = (120, 30, 60),
    end: float = 20.0,
    strength: float = 0.5,
    change: float = 0.1,
    seed: int = 0,
) -> tuple[Regime, ...]:
    """A stream of regimes, each with sequences of its own; the mean gap is about 1 in all.

    Args:
        order: a capital letter is a new regime, a small one is the regime of its capital come back, a little changed.
        marks: K.
        sequences: how many train, validate and test in each regime.
        end: of each sequence.
        strength: how sure a mark's successor is.
        change: of what comes back: share of its transitions that are drawn anew, and standard deviation of the change
            of log waiting times.
        seed: of rules and draws.

    Raises:
        InputError: a letter comes back that never was.

    Example:
        >>> stream = event_regimes("ABa", sequences=(20, 5, 5))
        >>> [regime.name for regime in stream], len(stream[0].parts.train)
        (['A', 'B', 'a'], 20)
    """
    rng = np.random.default_rng(seed)
    known: dict[str, _Rules] = {}
    stream = []
    for place, name in enumerate(order):
        if name.isupper():
            rules = known[name] = _new(rng, marks, strength)
        elif name.upper() in known:
            rules = _changed(rng, known[name.upper()], change)
        else:
            raise InputError(
                f"order[{place}]", found=repr(name), expected="a capital, or the small letter of one before it",
                remedy='e.g. "ABaC"',
            )  # fmt: skip
        draws = [
            markov_renewal(
                rules.next, rules.log_mean, 0.5, sequences=n, end=end, seed=int(rng.integers(2**31))
            ) for n in sequences
        ]  # fmt: skip
        stream.append(Regime(name, Splits(*(draw.data for draw in draws)), draws[0].truth))
    return tuple(stream)


def _new(rng: np.random.Generator, K: int, strength: float) -> _Rules:
    ring = rng.permutation(K)
    successor = np.zeros((K, K))
    successor[ring, np.roll(ring, -1)] = 1
    popularity = rng.dirichlet(np.full(K, 0.3))
    next_ = strength * successor + (1 - strength) * popularity
    stationary = np.linalg.matrix_power((next_ + np.eye(K)) / 2, 2**20)[0]
    mean = rng.uniform(0.4, 1.6, K)
    return _Rules(next_, np.log(mean / (stationary @ mean)) - 0.125)  # the mean of a log-normal is exp(mu + 0.5^2 / 2)


def _changed(rng: np.random.Generator, rules: _Rules, change: float) -> _Rules:
    K = len(rules.log_mean)
    other = rng.dirichlet(np.ones(K), K)
    return _Rules(
        (1 - change) * rules.next + change * other, rules.log_mean + change * rng.standard_normal(K)
    )  # fmt: skip
