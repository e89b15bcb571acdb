"""Ridge regression in closed form: many outputs, missing targets, a whole path of penalties from one Gram matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

ALPHAS = tuple(10.0**k for k in range(-7, 2))  # penalties a sample, on features of unit variance


@dataclass(frozen=True)
class Linear:
    """An affine map: `linear(x) = x @ weight + bias`."""

    weight: Float[np.ndarray, "F K"]
    bias: Float[np.ndarray, "K"]

    def __call__(self, x: Float[np.ndarray, "N F"]) -> Float[np.ndarray, "N K"]:
        """Answers of the rows of x."""
        return x @ self.weight + self.bias


@dataclass(frozen=True)
class Scaling:
    """Mean and spread of features on the training data; a constant feature keeps its units."""

    mean: Float[np.ndarray, "F"]
    spread: Float[np.ndarray, "F"]

    @classmethod
    def of(cls, x: Float[np.ndarray, "N F"]) -> Scaling:
        """Fitted on these rows."""
        mean, spread = x.mean(axis=0), x.std(axis=0)
        return cls(mean, np.where(spread > 1e-12 * (1 + np.abs(mean)), spread, 1.0))

    def __call__(self, x: Float[np.ndarray, "N F"]) -> Float[np.ndarray, "N F"]:
        """Features of mean 0 and variance 1."""
        return (x - self.mean) / self.spread

    def undo(self, linear: Linear) -> Linear:
        """The map of raw features that equals `linear` of scaled ones."""
        weight = linear.weight / self.spread[:, None]
        return Linear(weight, linear.bias - self.mean @ weight)


def ridge_path(
    x: Float[np.ndarray, "N F"], y: Float[np.ndarray, "N K"], alphas: Sequence[float] = ALPHAS
) -> Iterator[Linear]:
    """For each alpha, the map with the least mean squared error + alpha * |weight of scaled features|².

    A missing target (NaN) is filled by the map's own answer and the map fitted again: the fixed point is ridge
    regression on the observed targets of each output, as in the EM algorithm (Dempster, Laird, Rubin 1977). The bias
    bears no penalty.

    Example:
        >>> x = np.arange(4.0)[:, None]
        >>> line = next(ridge_path(x, 3 * x + 1, alphas=[0.0]))
        >>> line.weight.round(6).tolist(), line.bias.round(6).tolist()
        ([[3.0]], [1.0])
    """
    from scipy.linalg import cho_factor, cho_solve

    scaling = Scaling.of(x)
    z = np.concatenate([scaling(x), np.ones((len(x), 1))], axis=1)
    gram = z.T @ z
    missing = np.isnan(y)
    moments = z.T @ np.where(missing, 0, y)
    gappy = missing.any(axis=1)
    z_gappy, missing = z[gappy], missing[gappy]
    for alpha in alphas:
        penalty = np.full(len(gram), alpha * len(x) + 1e-10)
        penalty[-1] = 0
        factor = cho_factor(gram + np.diag(penalty))
        solution = cho_solve(factor, moments)
        for _ in range(200 if gappy.any() else 0):
            before = solution
            solution = cho_solve(factor, moments + z_gappy.T @ np.where(missing, z_gappy @ solution, 0))
            if np.allclose(solution, before, rtol=1e-6, atol=1e-9):
                break
        yield scaling.undo(Linear(solution[:-1], solution[-1]))
