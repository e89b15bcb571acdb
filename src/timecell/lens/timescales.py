"""How long a unit remembers: the time constant of its autocorrelation.

A unit in a network has two time constants. One is its own, of its membrane. The other is what an observer sees: how fast
its activity forgets, which loops through other units can make far longer. It is measured on activity that is driven by
noise, by fitting

    R(k) = a exp(-k / tau)      or      R(k) = a exp(-k / tau) + a' exp(-k / tau')          a, a' >= 0, tau' < tau

The fit tries every pair of time constants of a fine grid, with the best amplitudes for each, so it has no starting
value to depend on. Which of the two is meant is decided by Akaike's criterion, n ln(RSS / n) + 2 (number of parameters).

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


@dataclass(frozen=True)
class Timescales:
    """The time constants of N units.

    Attributes:
        tau: [N] the slower time constant of the chosen fit [steps]; NaN for a unit that never changed.
        exponentials: [N] how many there are in it, 1 or 2; 0 for a unit that never changed.
        r2: [N] share of the autocorrelation's variance over lags that it explains.
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
        InputError: there are no more steps than lags, or fewer than 5 lags.

    Example:
        >>> import torch
        >>> from timecell.fuse import linear_scan
        >>> _ = torch.manual_seed(0)
        >>> x, _ = linear_scan(torch.tensor([0.9]), torch.randn(1, 50_000, 1))          # forgets with -1 / ln 0.9 = 9.5 steps
        >>> bool(9 < timescales(x[0]).tau[0] < 10)
        True
    """
    if activity.ndim != 2 or not 5 <= lags < len(activity):
        raise InputError(
            "timescales(activity, lags)", found=f"shape {list(activity.shape)}, lags {lags}",
            expected="[T, N] with T > lags >= 5", remedy="run longer, or fit fewer lags",
        )  # fmt: skip
    r = autocorrelation(activity.detach().double()[None], lags)[0].numpy()
    changing = np.isfinite(r[0])
    tau, count, r2 = (np.full(r.shape[1], value) for value in (np.nan, 0, np.nan))
    tau[changing], count[changing], r2[changing] = _fit(r[:, changing])
    return Timescales(tau, count.astype(int), r2)


def _fit(r: Float[np.ndarray, "K N"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(slower time constant, number of exponentials, R²) of each column."""
    points, units = r.shape
    taus = np.geomspace(SHORTEST, LONGEST * points, GRID)
    decays = np.exp(-np.arange(points)[:, None] / taus)
    gram, match = decays.T @ decays, decays.T @ r  # [GRID, GRID], [GRID, N]
    power = (r**2).sum(0)

    one = power - match.clip(min=0) ** 2 / gram.diagonal()[:, None]  # residual sums of squares
    i, j = np.triu_indices(GRID, 1)  # tau_i < tau_j
    a, b, c = gram[i, i, None], gram[i, j, None], gram[j, j, None]
    fast, slow = (c * match[i] - b * match[j]) / (a * c - b * b), (a * match[j] - b * match[i]) / (a * c - b * b)
    two = np.where((fast >= 0) & (slow >= 0), power - fast * match[i] - slow * match[j], np.inf)

    which, pair, at = one.argmin(0), two.argmin(0), np.arange(units)
    least = np.finfo(float).tiny
    losses = np.maximum([one[which, at], two[pair, at]], least)
    better = points * np.log(losses[1]) + 2 * 4 < points * np.log(losses[0]) + 2 * 2
    tau = np.where(better, taus[j[pair]], taus[which])
    spread = np.maximum(((r - r.mean(0)) ** 2).sum(0), least)
    return tau, 1 + better, 1 - np.where(better, losses[1], losses[0]) / spread
