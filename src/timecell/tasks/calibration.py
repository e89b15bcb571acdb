"""Do probabilities mean what they say? Of marks and classes, and of times."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def expected_calibration_error(
    probabilities: Float[np.ndarray, "N K"], truth: Int[np.ndarray, "N"], bins: int = 10
) -> float:
    """Mean distance between confidence and accuracy, over so many equally wide bins of confidence (Guo et al., 2017).

    Args:
        probabilities: rows sum to one.
        truth: the class that came true.
        bins: of the largest probability.

    Example:
        >>> certain = np.array([[1.0, 0.0]] * 4)
        >>> expected_calibration_error(certain, np.array([0, 0, 0, 1]))
        0.25
    """
    confidence = probabilities.max(axis=1)
    where = np.minimum((confidence * bins).astype(int), bins - 1)
    surplus = np.bincount(where, weights=confidence - (probabilities.argmax(axis=1) == truth), minlength=bins)
    return float(np.abs(surplus).sum() / len(truth))


def pit_error(pit: Float[np.ndarray, "N"], levels: int = 99) -> float:
    """Mean distance between how often a value lies below its predicted quantile and how often it should.

    Args:
        pit: the predicted distribution function at what came true (the probability integral transform); uniform in
            [0, 1] if the prediction is right.
        levels: equally spaced in (0, 1).

    Example:
        >>> round(pit_error(np.linspace(0, 1, 10001)), 3), round(pit_error(np.full(5, 0.5)), 3)
        (0.0, 0.253)
    """
    level = np.arange(1, levels + 1) / (levels + 1)
    below = np.searchsorted(np.sort(pit), level, side="right") / len(pit)
    return float(np.abs(below - level).mean())
