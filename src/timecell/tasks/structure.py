"""`Structure`: which channels of a recording belong together, and when?

Nobody knows the answer for a recording of one's own, so the task scores what communities are good for: on a stretch of
time that no system has seen, each channel is told from the other members of its communities alone. Where the truth is
known (generated recordings), `agreement` and `member_f1` compare with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
from jaxtyping import Bool, Float, Int

from timecell.data.containers import Data, Kind, Sequences, Series
from timecell.data.splits import TEST, VALID, Splits
from timecell.errors import InputError
from timecell.system import Scores, System
from timecell.tasks.communities import Communities, EveryChannel, SlidingLouvain, StaticLouvain
from timecell.tasks.truth import of_kind

FOLDS = 5  # stretches of the scored part, of which each is told from weights that the others gave
PENALTY = 1e-2  # of least squares, as a share of what is there without it


@dataclass(frozen=True)
class Structure:
    """Communities of the channels of a recording, scored by how well members tell each other on later time.

    Example:
        >>> from timecell.data.containers import Schema
        >>> rng = np.random.default_rng(0)
        >>> drive = rng.standard_normal((400, 2))
        >>> x = np.repeat(drive, 3, axis=1) + 0.5 * rng.standard_normal((400, 6))
        >>> data = Series(x, Schema("series", tuple("abcdef")))
        >>> true = Communities(np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]) > 0, np.ones((400, 2)))
        >>> round(Structure().score(true, data).value, 1)
        0.7
    """

    name: ClassVar[str] = "structure"
    kind: ClassVar[Kind] = "series"

    def split(self, data: Sequences | Series, seed: int = 0) -> Splits:
        """The first 65 % of the recording, the next 15 %, the last 20 %; nothing is drawn.

        Raises:
            InputError: the data are no series, have a single channel, or too few steps.
        """
        series = of_kind(data, Series, "a Series", "read the recording with kind='series'")
        T, N = series.values.shape
        if N < 2:
            raise InputError("data", found="one channel", expected="at least two", remedy="bring more channels")
        first, second = round(T * (1 - VALID - TEST)), round(T * (1 - TEST))
        if min(second - first, T - second) < 2 * FOLDS:
            raise InputError("data", found=f"{T} steps", expected=f"at least {round(2 * FOLDS / VALID) + 1}",
                             remedy="bring a longer recording")  # fmt: skip
        parts: Any = (series.cut(0, first), series.cut(first, second), series.cut(second, T))
        return Splits(*parts)

    def score(self, prediction: Communities, data: Data) -> Scores:
        """R^2 of each channel from the other members of its communities; its mean over the channels ranks.

        Each community has a drive, and a channel is taken to be the sum of those of its communities; least squares over
        all other channels say what they are at each step. The weights with which the channel follows its own come from
        the other four fifths of these data, so that only the communities are judged. In none of them, its R^2 is 0.

        Raises:
            InputError: the communities are of other channels, or no channel ever changes.
        """
        x = cast(Any, data).values
        if prediction.members.shape[1] != x.shape[1]:
            raise InputError(
                "prediction", found=f"communities of {prediction.members.shape[1]} channels", expected=f"{x.shape[1]}",
                remedy="predict the data that are scored",
            )  # fmt: skip
        items = told_by_others(prediction.members, x)
        if np.isnan(items).all():
            raise InputError(
                "data",
                found="no channel that changes",
                expected="at least one to score",
                remedy="score another stretch",
            )
        metrics = {
            "r2": float(np.nanmean(items)),
            "communities": float(len(prediction.members)),
            "members": float(prediction.members.any(axis=0).mean()),
        }
        return Scores(metrics, "r2", True, items)

    def baselines(self) -> list[System]:
        """All channels together; communities of the correlation over all time, and of that in windows."""
        return [EveryChannel(), StaticLouvain(), SlidingLouvain()]


def told_by_others(members: Bool[np.ndarray, "R N"], x: Float[np.ndarray, "T N"]) -> Float[np.ndarray, "N"]:
    """R^2 of each channel of a recording from the drives of its communities without itself, cross-validated in time.

    NaN for a channel that was not recorded or does not change.

    Example:
        >>> x = np.random.default_rng(0).standard_normal((50, 1)) @ np.ones((1, 3))
        >>> told_by_others(np.array([[True, True, False]]), x).round(3).tolist()
        [1.0, 1.0, 0.0]
    """
    known = ~np.isnan(x)
    count = known.sum(axis=0)
    mean = np.where(known, x, 0).sum(axis=0) / np.maximum(count, 1)
    spread = np.sqrt(np.where(known, (x - mean) ** 2, 0).sum(axis=0) / np.maximum(count, 1))
    changes = spread > 0
    z = np.where(known & changes, (x - mean) / np.where(changes, spread, 1), 0.0)
    fold = np.arange(len(x)) * FOLDS // len(x)
    r2 = np.full(x.shape[1], np.nan)
    for channel in np.flatnonzero(changes):
        others = (members & changes).astype(float)
        others[:, channel] = 0.0
        own = members[:, channel] & others.any(axis=1)
        overlap = others @ others.T + PENALTY * np.diag(np.maximum(others.sum(axis=1), 1))
        drives = np.linalg.solve(overlap, others @ z.T).T[:, own]
        left = z[:, channel].copy()
        for k in range(FOLDS):
            learn, test = fold != k, fold == k
            gram = drives[learn].T @ drives[learn] + PENALTY * learn.sum() * np.eye(own.sum())
            left[test] -= drives[test] @ np.linalg.solve(gram, drives[learn].T @ z[learn, channel])
        seen = known[:, channel]
        r2[channel] = 1 - (left[seen] ** 2).mean() / (z[seen, channel] ** 2).mean()
    return r2


# --- where the truth is known -----------------------------------------------------------------------------------------


def agreement(found: Int[np.ndarray, "N"], truth: Int[np.ndarray, "N"]) -> dict[str, float]:
    """Of two partitions: adjusted Rand index and normalised mutual information; names of the parts do not matter.

    Example:
        >>> agreement(np.array([0, 0, 1, 1]), np.array([5, 5, 2, 2]))
        {'ari': 1.0, 'nmi': 1.0}
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    return {
        "ari": float(adjusted_rand_score(truth, found)),
        "nmi": float(normalized_mutual_info_score(truth, found)),
    }


def matched(found: Bool[np.ndarray, "R N"], truth: Bool[np.ndarray, "K N"]) -> Float[np.ndarray, "K 2"]:
    """Each true community with a found one of its own, such that the sum of their F1 is largest (Hungarian matching).

    Returns:
        [K, 2] number of the found community (-1 = none is left) and F1 of its members.

    Example:
        >>> truth = np.array([[1, 1, 0, 0], [0, 1, 1, 1]]) > 0
        >>> matched(truth[::-1], truth).tolist()
        [[1.0, 1.0], [0.0, 1.0]]
    """
    from scipy.optimize import linear_sum_assignment

    both = truth.astype(float) @ found.T
    f1 = 2 * both / np.maximum(truth.sum(axis=1)[:, None] + found.sum(axis=1), 1)
    result = np.tile([-1.0, 0.0], (len(truth), 1))
    true, own = linear_sum_assignment(-f1)
    result[true] = np.stack([own, f1[true, own]], axis=1)
    return result


def member_f1(found: Bool[np.ndarray, "R N"], truth: Bool[np.ndarray, "K N"], *, spurious: bool = True) -> float:
    """Mean F1 of the members of matched communities; a missing one counts 0, and so does one too many (if `spurious`).

    Example:
        >>> truth = np.array([[1, 1, 0, 0], [0, 0, 1, 1]]) > 0
        >>> member_f1(truth[:1], truth), member_f1(np.eye(4) > 0, truth), member_f1(np.eye(4) > 0, truth, spurious=False)
        (0.5, 0.3333333333333333, 0.6666666666666666)
    """
    total = float(matched(found, truth)[:, 1].sum())
    return total / max(len(truth), len(found) if spurious else 0)
