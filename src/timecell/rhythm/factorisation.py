"""Non-negative tensor factorisation: a tensor as a sum of few products of non-negative vectors.

    X[i, j, k] ~ sum over r of a[i, r] b[j, r] c[k, r]          (non-negative CP or PARAFAC)

Because nothing can cancel, each term is a part of the whole: of affinities between neurons over time, who goes with whom
(a, b) and when (c). Each column is updated in closed form while all others stay (hierarchical alternating least squares,
Cichocki & Phan 2009). Entries that are NaN are not observed: in every sweep they take the value that the model gives
them (expectation maximisation, Kiers 1997), so that the error on what was observed never rises.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from timecell.errors import InputError

TINY = 1e-12


@dataclass(frozen=True)
class Factors:
    """A sum of non-negative products. Columns of a and b have length 1; the largest term comes first.

    Attributes:
        a: [I, R] first axis.
        b: [J, R] second axis.
        c: [K, R] third axis, with the size of the term.
        error: root of the squared error over the squared tensor, both on the observed entries.
        sweeps: updates of all vectors so far.
    """

    a: Float[np.ndarray, "I R"]
    b: Float[np.ndarray, "J R"]
    c: Float[np.ndarray, "K R"]
    error: float = np.inf
    sweeps: int = 0

    def similarity(self, other: Factors) -> float:
        """Mean cosine between the vectors of the two, their terms matched one to one; 1 = the same up to their sizes.

        Example:
            >>> same = Factors(np.eye(2), np.eye(2), np.eye(2))
            >>> turned = Factors(np.eye(2)[:, ::-1], np.eye(2)[:, ::-1], np.eye(2)[:, ::-1])
            >>> same.similarity(turned)
            1.0
        """
        from scipy.optimize import linear_sum_assignment

        cosines = np.zeros((self.a.shape[1], other.a.shape[1]))
        for mine, theirs in ((self.a, other.a), (self.b, other.b), (self.c, other.c)):
            lengths = np.outer(np.linalg.norm(mine, axis=0), np.linalg.norm(theirs, axis=0))
            cosines += mine.T @ theirs / np.maximum(lengths, TINY) / 3
        return float(cosines[linear_sum_assignment(-cosines)].mean())


def factorise(
    tensor: Float[np.ndarray, "I J K"], rank: int, *, seed: int = 0, sweeps: int = 200, tolerance: float = 1e-5
) -> Factors:
    """One fit from one random start; several starts, compared by `error` and `similarity`, say how far to trust it.

    Args:
        tensor: non-negative; NaN = not observed.
        rank: number of terms R.
        seed: of the start.
        sweeps: updates of all vectors at most.
        tolerance: a sweep that lowers the error by less than this ends the fit.

    Raises:
        InputError: the tensor has not three axes, holds a negative or infinite value, or nothing observed but zeros; or
            the rank is below 1.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> a, b, c = rng.random((4, 2)), rng.random((5, 2)), rng.random((6, 2))
        >>> tensor = np.einsum("ir,jr,kr->ijk", a, b, c)
        >>> tensor[1, 2, 3] = np.nan
        >>> factorise(tensor, rank=2, sweeps=1000, tolerance=1e-9).error < 0.01
        True
    """
    last = Factors(np.empty(0), np.empty(0), np.empty(0))
    for factors in descend(tensor, rank, seed=seed, sweeps=sweeps):
        done = last.error - factors.error < tolerance
        last = factors
        if done:
            break
    size = np.linalg.norm(last.c, axis=0)
    order = np.argsort(-size, kind="stable")
    return replace(last, a=last.a[:, order], b=last.b[:, order], c=last.c[:, order])


def descend(tensor: Float[np.ndarray, "I J K"], rank: int, *, seed: int, sweeps: int) -> Iterator[Factors]:
    """The factors after each sweep; errors as in `factorise`."""
    x = _checked(tensor, rank)
    at = np.nonzero(np.isnan(x))
    x[at] = 0.0
    total = float(np.vdot(x, x))
    if total == 0:
        raise InputError(
            "tensor", found="nothing but zeros", expected="a positive value", remedy="check what it was made of"
        )
    sizes, flat = x.shape, (-1, x.shape[2])
    rng = np.random.default_rng(seed)
    a, b, c = (rng.random((n, rank)) for n in sizes)
    c *= np.sqrt(total / (_gram(a) * _gram(b) * _gram(c)).sum())  # as large as the tensor
    x[at] = _entries(a, b, c, at)
    for sweep in range(1, sweeps + 1):
        along = x @ c
        a = _columns(a, np.einsum("ijr,jr->ir", along, b), _gram(b) * _gram(c))
        b = _columns(b, np.einsum("ijr,ir->jr", along, a), _gram(a) * _gram(c))
        size = np.maximum(np.linalg.norm(a, axis=0), TINY), np.maximum(np.linalg.norm(b, axis=0), TINY)
        a, b, c = a / size[0], b / size[1], c * size[0] * size[1]
        overlap = x.reshape(flat).T @ (a[:, None] * b).reshape(-1, rank)
        c = _columns(c, overlap, _gram(a) * _gram(b))
        squares = total + x[at] @ x[at] - 2 * (overlap * c).sum() + (_gram(a) * _gram(b) * _gram(c)).sum()
        model = _entries(a, b, c, at)
        squares -= ((x[at] - model) ** 2).sum()  # what is not observed is no error
        x[at] = model
        yield Factors(a, b, c, float(np.sqrt(max(squares, 0.0) / total)), sweep)


def _columns(
    factor: Float[np.ndarray, "n R"], overlap: Float[np.ndarray, "n R"], gram: Float[np.ndarray, "R R"]
) -> Float[np.ndarray, "n R"]:
    """Each column in turn at its best non-negative value: overlap is what the data have with the other two factors."""
    factor = factor.copy()
    for r in range(factor.shape[1]):
        change = (overlap[:, r] - factor @ gram[:, r]) / max(gram[r, r], TINY)
        factor[:, r] = np.maximum(factor[:, r] + change, TINY)  # a column of zeros could never come back
    return factor


def _entries(
    a: Float[np.ndarray, "I R"], b: Float[np.ndarray, "J R"], c: Float[np.ndarray, "K R"], at: tuple[np.ndarray, ...]
) -> Float[np.ndarray, "n"]:
    """What the model says of some entries."""
    i, j, k = at
    return np.einsum("nr,nr->n", (a[:, None] * b)[i, j], c[k])


def _gram(factor: Float[np.ndarray, "n R"]) -> Float[np.ndarray, "R R"]:
    return factor.T @ factor


def _checked(tensor: Float[np.ndarray, "I J K"], rank: int) -> Float[np.ndarray, "I J K"]:
    """A copy of the tensor in double precision."""
    x = np.array(tensor, dtype=np.float64)
    if x.ndim != 3:
        raise InputError("tensor", found=f"shape {x.shape}", expected="[I, J, K]", remedy="pass three axes")
    wrong = (x < 0) | np.isinf(x)
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise InputError(
            f"tensor{list(at)}", found=x[at], expected="a finite value from 0 on, or NaN where nothing was observed",
            remedy="factorise what cannot be negative: affinities, counts, powers",
        )  # fmt: skip
    if rank < 1:
        raise InputError("rank", found=rank, expected="at least 1", remedy="pass the number of terms")
    return x
