"""Scores of predictions, by scikit-learn and torchmetrics where they have them; in double precision, over all items
at once, so that batches and their order cannot matter."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int

from timecell.errors import InputError
from timecell.tasks.predictions import ClassScores, Forecasted


def classification(p: ClassScores, truth: Int[np.ndarray, "N"], bins: int) -> dict[str, float]:
    """Accuracy, balanced accuracy, macro F1, log loss [nats] and expected calibration error.

    Balanced accuracy is the mean recall of the classes that occur in the truth; macro F1 is the mean over the classes
    that occur in the truth or the prediction. The calibration error (Guo et al. 2017) is the mean distance between
    confidence and accuracy over so many equally wide bins of confidence.

    Example:
        >>> p = ClassScores(np.array([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4]]), ("a", "b"))
        >>> scores = classification(p, np.array([0, 1, 1]), bins=10)
        >>> round(scores["accuracy"], 3), scores["balanced_accuracy"]
        (0.667, 0.75)
    """
    from sklearn.metrics import accuracy_score, f1_score, log_loss, recall_score
    from torchmetrics.functional.classification import multiclass_calibration_error

    probabilities = p.probabilities.astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    error = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(truth), num_classes=len(p.classes), n_bins=bins
    )
    recall = recall_score(truth, p.predicted, labels=np.unique(truth), average="macro", zero_division=0)
    return {
        "accuracy": float(accuracy_score(truth, p.predicted)),
        "balanced_accuracy": float(recall),
        "macro_f1": float(f1_score(truth, p.predicted, average="macro", zero_division=0)),
        "log_loss": float(log_loss(truth, probabilities, labels=np.arange(len(p.classes)))),
        "calibration_error": float(error),
    }


def forecasting(
    p: Forecasted, truth: Float[np.ndarray, "N H C"], scale: Float[np.ndarray, "C"]
) -> tuple[dict[str, float], Float[np.ndarray, "N"]]:
    """Mean absolute scaled error (MASE), MAE and RMSE over all observed targets, and each window's part of the MASE.

    With quantiles also the mean pinball loss and the coverage: the share of targets between the outermost two.

    Args:
        p: the forecasts.
        truth: NaN = not observed, not scored.
        scale: what an error is divided by in the MASE; NaN = the channel has no part in it.

    Returns:
        The metrics, and [N] parts whose mean over windows is the MASE; NaN for a window that nothing is known of.

    Raises:
        InputError: not a single target is observed.

    Example:
        >>> metrics, items = forecasting(Forecasted(np.zeros((2, 1, 1))), np.array([[[1.0]], [[-3.0]]]), np.ones(1))
        >>> metrics["mase"], items.tolist()
        (2.0, [1.0, 3.0])
    """
    seen = ~np.isnan(truth)
    scaled = np.abs(p.values - truth) / scale
    counts = (~np.isnan(scaled)).sum(axis=(1, 2))
    if not counts.any():
        raise InputError(
            "data", found="no observed target", expected="at least one to score", remedy="choose a part without gap"
        )
    known = counts > 0
    total = np.where(known, np.nansum(scaled, axis=(1, 2)), np.nan)
    error = (p.values - truth)[seen]
    metrics = {
        "mase": float(np.nansum(total) / counts.sum()),
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt(np.square(error).mean())),
    }
    if p.quantiles is not None:
        from sklearn.metrics import mean_pinball_loss

        at = p.quantiles[seen]  # [observed targets, Q]
        pinball = [mean_pinball_loss(truth[seen], at[:, q], alpha=level) for q, level in enumerate(p.levels)]
        metrics["pinball"] = float(np.mean(pinball))
        metrics["coverage"] = float(np.mean((at[:, 0] <= truth[seen]) & (truth[seen] <= at[:, -1])))
    return metrics, total * known.sum() / counts.sum()


def symmetric(values: Float[np.ndarray, "N H C"], truth: Float[np.ndarray, "N H C"]) -> float:
    """Mean of 200 |error| / (|value| + |truth|) over what is observed, in percent: 0 to 200; two zeros are no error.

    Example:
        >>> round(symmetric(np.array([[[90.0], [0.0]]]), np.array([[[110.0], [0.0]]])), 6)
        10.0
    """
    size = np.abs(values) + np.abs(truth)
    error = np.divide(np.abs(values - truth), size, out=np.zeros_like(size), where=size > 0)
    return float(200 * error[~np.isnan(truth)].mean())


LEVELS = (0.1, 0.5, 0.9)
"""Quantiles of a forecast."""


def spread(points: Float[np.ndarray, "N H C"], truth: Float[np.ndarray, "N H C"]) -> Float[np.ndarray, "H C Q"] | None:
    """`residual_quantiles` at `LEVELS`; None where some step and channel is never observed, so that none are known."""
    return None if np.isnan(truth).all(axis=0).any() else residual_quantiles(points, truth, LEVELS)


def residual_quantiles(
    prediction: Float[np.ndarray, "N H C"], truth: Float[np.ndarray, "N H C"], levels: tuple[float, ...]
) -> Float[np.ndarray, "H C Q"]:
    """How far the truth lies from a point forecast, at each step of the horizon and in each channel.

    Taken on validation windows and added to test forecasts by `Forecasted.widened`, these give any system quantiles,
    all systems alike.

    Args:
        prediction: point forecasts of validation windows.
        truth: NaN = not observed.
        levels: of the quantiles, e.g. (0.1, 0.5, 0.9).

    Raises:
        InputError: the shapes differ, or some step and channel is never observed.

    Example:
        >>> truth = np.array([-1.0, 0.0, 1.0]).reshape(3, 1, 1)
        >>> residual_quantiles(np.zeros((3, 1, 1)), truth, (0.25, 0.75)).tolist()
        [[[-0.5, 0.5]]]
    """
    if prediction.shape != truth.shape:
        raise InputError(
            "prediction",
            found=f"shape {prediction.shape}",
            expected=f"the truth's, {truth.shape}",
            remedy="pass the forecasts of the same windows",
        )
    unseen = np.isnan(truth).all(axis=0)
    if unseen.any():
        step, channel = (int(i) for i in np.argwhere(unseen)[0])
        raise InputError(
            f"truth[:, {step}, {channel}]",
            found="no observed value",
            expected="at least one",
            remedy="pass more validation windows",
        )
    return np.moveaxis(np.nanquantile(truth - prediction, levels, axis=0), 0, -1)
