"""How long a unit remembers: the time constant of its autocorrelation.

A unit in a network has two time constants. One is its own, of its membrane. The other is what an observer sees: how fast
its activity forgets, which loops through other units can make far longer. It is measured on activity that is driven by
noise, by fitting

    R(k) = a exp(-k / tau)      or      R(k) = a exp(-k / tau) + a' exp(-k / tau')          a, a' >= 0, tau' < tau

A fit tries every pair of time constants of a fine grid, with the best amplitudes for each, so it has no starting value to
depend on. It takes the lags up to the first at which R is below 0.05, for what comes after is sampling noise, whose slow
wandering would pass for a slow unit. Which of the two is meant is decided by Akaike's criterion for few points n,
n ln(RSS / n) + 2 p + 2 p (p + 1) / (n - p - 1) with p = 2 or 4 parameters; but the criterion takes the errors of R at
neighbouring lags for independent, which they are not, so where one exponential explains 99 % it is enough.

Source: Khajehabdollahi et al. (2024), arXiv:2309.12927, for the two time constants of trained nets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from timecell.errors import InputError
from timecell.rhythm.autocorrelation import autocorrelation

GRID = 120  # time constants tried, in equal ratios
SHORTEST, LONGEST = 0.2, 5.0  # of them: in steps, and in multiples of the largest lag
FLOOR, FEWEST = 0.05, 5  # of R, and lags that are fitted whatever R is
ENOUGH = 0.99  # share of the variance that one exponential explains


@dataclass(frozen=True)
class Timescales:
    """The time constants of N units.

    Attributes:
        tau: [N] the slower time constant of the chosen fit [steps]; NaN for a unit that never changed.
        exponentials: [N] how many there are in it, 1 or 2; 0 for a unit that never changed.
        r2: [N] share of the variance of R over the fitted lags that it explains.
    """

    tau: Float[np.ndarray, "N"]
    exponentials: Int[np.ndarray, "N"]
    r2: Float[np.ndarray, "N"]

    def reliable(self, least: float = 0.9) -> Bool[np.ndarray, "N"]:
        """Which units are described well enough by what was fitted."""
        return np.nan_to_num(self.r2, nan=-np.inf) >= least


def timescales(activity: Float[Tensor, "T N"], lags: int = 100) -> Timescales:
    """Fit the autocorrelation of each unit.

    Args:
        activity: course of each unit, long against what is to be found.
        lags: the largest lag of the fit.

    Raises:
        InputError: there are no more steps than lags, or fewer than 6 lags.

    Example:
        >>> import torch
        >>> from timecell.fuse import linear_scan
        >>> _ = torch.manual_seed(0)
        >>> x, _ = linear_scan(torch.tensor([0.9]), torch.randn(1, 50_000, 1))          # forgets with -1 / ln 0.9 = 9.5 steps
        >>> bool(9 < timescales(x[0]).tau[0] < 10)
        True
    """
    if activity.ndim != 2 or not FEWEST < lags < len(activity):
        raise InputError(
            "timescales(activity, lags)", found=f"shape {list(activity.shape)}, lags {lags}",
            expected=f"[T, N] with T > lags > {FEWEST}", remedy="run longer, or fit fewer lags",
        )  # fmt: skip
    r = autocorrelation(activity.detach().double()[None], lags)[0].numpy()
    changing = np.isfinite(r[0])
    tau, count, r2 = (np.full(r.shape[1], value) for value in (np.nan, 0, np.nan))
    tau[changing], count[changing], r2[changing] = _fit(r[:, changing])
    return Timescales(tau, count.astype(int), r2)


def _fit(r: Float[np.ndarray, "K N"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(slower time constant, number of exponentials, R²) of each column."""
    points, units = r.shape
    below = np.maximum.accumulate(r < FLOOR, axis=0)
    used = ~below | (np.arange(points) <= FEWEST)[:, None]  # [K, N]
    n, seen = used.sum(0), used * r

    taus = np.geomspace(SHORTEST, LONGEST * points, GRID)
    decays = np.exp(-np.arange(points)[:, None] / taus)
    match, power = decays.T @ seen, (seen**2).sum(0)
    one = power - match.clip(min=0) ** 2 / (decays.T**2 @ used)  # residual sums of squares, [GRID, N]

    i, j = np.triu_indices(GRID, 1)  # tau_i < tau_j
    a, b, c = ((decays[:, x] * decays[:, y]).T @ used for x, y in ((i, i), (i, j), (j, j)))
    fast, slow = (c * match[i] - b * match[j]) / (a * c - b * b), (a * match[j] - b * match[i]) / (a * c - b * b)
    two = np.where((fast >= 0) & (slow >= 0), power - fast * match[i] - slow * match[j], np.inf)

    which, pair, at = one.argmin(0), two.argmin(0), np.arange(units)
    losses = np.maximum([one[which, at], two[pair, at]], np.finfo(float).tiny)
    r2 = 1 - losses / (used * (r - seen.sum(0) / n) ** 2).sum(0)
    both = (r2[0] < ENOUGH) & (_akaike(losses[1], n, 4) < _akaike(losses[0], n, 2))
    return np.where(both, taus[j[pair]], taus[which]), 1 + both, np.where(both, r2[1], r2[0])


def _akaike(loss: Float[np.ndarray, "N"], n: Int[np.ndarray, "N"], parameters: int) -> Float[np.ndarray, "N"]:
    few = 2 * parameters * (parameters + 1) / (n - parameters - 1)
    return n * np.log(loss / n) + 2 * parameters + few
