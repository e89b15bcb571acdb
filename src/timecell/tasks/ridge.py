"""Ridge regression in closed form: many outputs, missing targets, a whole path of penalties from one Gram matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

ALPHAS = tuple(10.0**k for k in range(1, -8, -1))  # penalties a sample, on features of unit variance
ROUNDS = 50  # of filling missing targets
BLOCK = 2**22  # numbers in double precision at a time


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
        mean = x.mean(axis=0, dtype=np.float64)
        blocks = np.array_split(x, max(1, x.size // BLOCK))  # x may be large, and of small integers
        spread = np.sqrt(sum(np.square(b - mean).sum(axis=0) for b in blocks) / len(x))
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

    A missing target (NaN) is filled by the map's own answer and the map fitted again, until nothing changes or 50
    times: the fixed point is the map fitted to the observed targets of each output alone, as in the EM algorithm
    (Dempster, Laird, Rubin 1977). The bias bears no penalty.

    Example:
        >>> x = np.arange(4.0)[:, None]
        >>> line = next(ridge_path(x, 3 * x + 1, alphas=[0.0]))
        >>> line.weight.round(6).tolist(), line.bias.round(6).tolist()
        ([[3.0]], [1.0])
    """
    scaling = Scaling.of(x)
    features = np.concatenate([scaling(x), np.ones((len(x), 1))], axis=1)
    gram = torch.from_numpy(features.T @ features)  # numpy sees that this is symmetric, and does half of the work
    z, target = torch.from_numpy(features), torch.from_numpy(y)
    missing = target.isnan()
    moments = z.T @ target.nan_to_num()
    rows, columns = missing.any(dim=1), missing.any(dim=0)
    gap, beside = missing[rows][:, columns], z[rows]
    guess = torch.zeros_like(moments[:, columns])
    for alpha in alphas:
        penalty = torch.full_like(gram[0], alpha * len(x))
        penalty[-1] = 0
        factor = torch.linalg.cholesky(gram + penalty.diag())
        solution = torch.cholesky_solve(moments, factor)
        for _ in range(ROUNDS if columns.any() else 0):
            filled = (beside @ guess).masked_fill(~gap, 0)
            before, guess = guess, torch.cholesky_solve(moments[:, columns] + beside.T @ filled, factor)
            if torch.allclose(guess, before, rtol=1e-4, atol=1e-6):
                break
        solution[:, columns] = guess
        yield scaling.undo(Linear(solution[:-1].numpy(), solution[-1].numpy()))
