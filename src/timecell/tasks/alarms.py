"""How good scores and alarms are at finding anomalies, each number beside what chance would have got.

Point adjustment counts a whole anomaly as found if one of its steps is an alarm. Long anomalies are then found by nearly
anything: random alarms often score higher than published methods (Kim et al., "Towards a rigorous evaluation of time-series
anomaly detection", 2022, arXiv:2109.05257). So the adjusted F1 stands beside the raw one, and both beside their value for
as many random alarms.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int

from timecell.tasks.predictions import AnomalyScores

DRAWS = 50  # of random alarms


def detection(p: AnomalyScores, truth: Bool[np.ndarray, "S"]) -> dict[str, float]:
    """Area under the precision-recall curve (average precision); with a threshold also what the alarms are worth.

    `f1` counts steps, `adjusted_f1` after point adjustment; `event_f1` is the harmonic mean of the share of anomalies with
    an alarm and the share of alarms within anomalies (Garg et al., 2021, arXiv:2109.11428). The names that begin with
    "random" say what scores without knowledge get: for the area the share of anomalous steps, for F1 the mean over
    draws of equally many alarms.

    Args:
        p: the scores; NaN = not scored.
        truth: of these steps; some are anomalous, and some are not.

    Example:
        >>> truth = np.array([0, 0, 1, 1, 1, 1, 0, 0], bool)
        >>> p = AnomalyScores(np.array([0, 3, 0, 0, 9, 0, 0, 0.0]), threshold=1.0)
        >>> {name: round(value, 2) for name, value in detection(p, truth).items() if not name.startswith("random")}
        {'pr_auc': 0.62, 'f1': 0.33, 'adjusted_f1': 0.89, 'event_f1': 0.67, 'alarm_share': 0.25}
    """
    from sklearn.metrics import average_precision_score

    seen = ~np.isnan(p.scores)
    truth = truth[seen]
    metrics = {
        "pr_auc": float(average_precision_score(truth, p.scores[seen])),
        "random_pr_auc": float(truth.mean()),
    }
    if p.threshold is None:
        return metrics
    alarms, event = p.alarms[seen], events(truth)
    rng = np.random.default_rng(0)
    random = np.mean([_worth(rng.permutation(alarms), truth, event) for _ in range(DRAWS)], axis=0)
    names = ("f1", "adjusted_f1", "event_f1")
    metrics |= dict(zip(names, _worth(alarms, truth, event)))
    metrics |= {f"random_{name}": float(value) for name, value in zip(names, random)}
    return metrics | {"alarm_share": float(alarms.mean())}


def events(truth: Bool[np.ndarray, "S"]) -> Int[np.ndarray, "S"]:
    """Number of the anomaly that a step belongs to, from 1; 0 for a step of none.

    Example:
        >>> events(np.array([0, 1, 1, 0, 1], bool)).tolist()
        [0, 1, 1, 0, 2]
    """
    begins = truth & ~np.concatenate([[False], truth[:-1]])
    return np.where(truth, np.cumsum(begins), 0)


def _worth(
    alarms: Bool[np.ndarray, "S"], truth: Bool[np.ndarray, "S"], event: Int[np.ndarray, "S"]
) -> tuple[float, float, float]:
    """F1 of steps, of steps after point adjustment, and of events."""
    found = np.bincount(event, weights=alarms) > 0
    found[0] = False
    adjusted = np.where(truth, found[event], alarms)
    hits = int((alarms & truth).sum())
    precision = hits / max(1, int(alarms.sum()))
    recall = found.sum() / (len(found) - 1)
    return (
        2 * hits / max(1, int(alarms.sum() + truth.sum())),
        2 * int((adjusted & truth).sum()) / max(1, int(adjusted.sum() + truth.sum())),
        float(2 * precision * recall / (precision + recall)) if hits else 0.0,
    )
