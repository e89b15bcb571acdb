"""The checks of TimesNet: the same net with folds and without, on four tasks.

Gaps, a day ahead and unusual days in the hourly record of New York's taxis, which has a daily and a weekly rhythm; and
spoken digits, as counts of spikes of 40 channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from timecell.claims import Absent, AtChance, Measured, NonInferior, Ordering, Trial, claim
from timecell.claims.arms import budget, prepared, scored, tuned
from timecell.data.containers import Windows
from timecell.data.datasets import spoken_digits, taxi
from timecell.data.labelled_series import LabelledSeries
from timecell.data.splits import Splits, by_sample
from timecell.system import Run, System, Task
from timecell.systems.series.timesnet import TimesNetSystem
from timecell.tasks import Classify, Forecast
from timecell.tasks.detect import Detect
from timecell.tasks.detectors import NearestNeighbour, SeasonalDistance
from timecell.tasks.forecasters import SeasonalNaive
from timecell.tasks.impute import Impute
from timecell.tasks.imputers import LinearInterpolation

# Both arms have one rate; the TOML file says which were tried.
SMALL = TimesNetSystem(width=8, hidden=8, kernels=3, lr=1e-2)
WEEK = 168  # hours
EVENTS = (
    ("2014-10-30T15:30", "2014-11-03T22:30"),  # the marathon
    ("2014-11-25T12:00", "2014-11-29T19:00"),  # Thanksgiving
    ("2014-12-23T11:30", "2014-12-27T18:30"),  # Christmas
    ("2014-12-29T21:30", "2015-01-03T04:30"),  # New Year
    ("2015-01-24T20:30", "2015-01-29T03:30"),  # a snow storm
)
"""Unusual stretches of the taxi record, as the Numenta Anomaly Benchmark marks them."""


def hourly_taxi() -> LabelledSeries:
    """Taxi passengers of every hour, [5160, 1], with the unusual stretches marked; season 24."""
    half_hours = taxi()
    time = half_hours.time
    assert time is not None
    hours = time[::2]
    stamp = hours.astype("datetime64[s]")
    marks = np.any([(np.datetime64(a) <= stamp) & (stamp <= np.datetime64(b)) for a, b in EVENTS], axis=0)
    schema = replace(half_hours.schema, period=24, rate=1 / 3600, label="unusual")
    return LabelledSeries(half_hours.values.reshape(-1, 2).sum(1, keepdims=True), schema, hours, marks)


def shuffled_hours(seed: int) -> LabelledSeries:
    """The same hours, values and marks apart, in orders of their own: no rhythm, and nothing to foresee or to find."""
    record, rng = hourly_taxi(), np.random.default_rng(seed)
    first = int(np.argmax(record.anomalous)) - 1
    marks = np.concatenate([record.anomalous[:first], rng.permutation(record.anomalous[first:])])
    return replace(record, values=rng.permutation(record.values), anomalous=marks)


def both(trial: Trial, task: Task, updates: int, lr: float = 1e-2) -> tuple[Splits, dict[str, Measured]]:
    """The splits, and the test scores of the net with and without folds."""
    record = shuffled_hours(trial.seed) if trial.control else hourly_taxi()
    splits = task.split(record, trial.seed)
    if isinstance(splits.test, Windows):  # every day once
        splits = replace(splits, test=splits.test.select(np.arange(0, len(splits.test), 24)))
    run = budget(trial, updates, control=3)
    arms = {"folded": replace(SMALL, lr=lr), "unfolded": replace(SMALL, lr=lr, folded=False)}
    return splits, {name: tuned(system, {}, splits, task, run).measured for name, system in arms.items()}


def simple(system: System, splits: Splits, task: Task) -> Measured:
    """The test score of a baseline."""
    return scored(system.fit(splits.train, splits.valid, task, Run()), splits.test, task)


@claim(
    "gaps of 8 hours in a record with a daily rhythm are filled better with folds than without, and than by a line",
    source="the paper's imputation table and its ablation of the 2D form; there single values are missing, here stretches",
    control="the hours shuffled, no rhythm to fold by: folds fill no better",
    shows=Ordering("folded", "without folds", better="lower"),
    control_shows=Absent(),
)
def folds_fill_gaps(trial: Trial) -> Mapping[str, Measured]:
    """Test error in standard deviations; "without folds" is the better one of the unfolded net and the line."""
    task = Impute(share=0.25, gap=8, history=WEEK)
    splits, arms = both(trial, task, updates=150)
    line = simple(LinearInterpolation(), splits, task)
    return {**arms, "line": line, "without folds": min(arms["unfolded"], line, key=lambda arm: arm.value)}


@claim(
    "a day is forecast from a week no worse with folds than without, and the linear map over time is common to both",
    source="the paper's forecast tables and its ablation of the 2D form, where folds help",
    control="the hours shuffled: both as bad as a constant",
    shows=NonInferior("folded", "unfolded", better="lower"),
    control_shows=AtChance(0.7),
)
def folds_forecast(trial: Trial) -> Mapping[str, Measured]:
    """Test error (MASE) of every day once; the last season beside."""
    task = Forecast(history=WEEK, horizon=24)
    splits, arms = both(trial, task, updates=240, lr=3e-3)
    return {**arms, "last season": simple(SeasonalNaive(), splits, task)}


@claim(
    "unusual days are found better by the error of a reconstruction with folds than without",
    source="the paper's anomaly table and its ablation of the 2D form; there F1 after point adjustment, here the raw area",
    control="values and marks shuffled: both at the share of unusual hours",
    shows=Ordering("folded", "unfolded"),
    control_shows=AtChance(0.182),
)
def folds_find_anomalies(trial: Trial) -> Mapping[str, Measured]:
    """Area under the precision-recall curve; distances from the season's mean and from the nearest past beside."""
    task = Detect(normal=0.45, history=84)
    splits, arms = both(trial, task, updates=100)
    others = {
        "season": simple(SeasonalDistance(), splits, task),
        "nearest past": simple(NearestNeighbour(), splits, task),
    }
    return {**arms, **others}


@claim(
    "spoken digits are told apart no worse with folds than without",
    source="the paper's classification table, where folds help on average",
    control="training and validation labels shuffled: both at chance",
    shows=NonInferior("folded", "unfolded"),
    control_shows=AtChance(0.1),
)
def folds_classify(trial: Trial) -> Mapping[str, Measured]:
    """Test accuracy on counts of 40 channels in bins of 40 ms; half of the clips train, a tenth validates."""
    digits = replace(spoken_digits(dt=0.040), part=None, group=None)
    splits = prepared(by_sample(digits, trial.seed, valid=0.1, test=0.4), trial, most=100)
    run = budget(trial, 150, control=3)
    wide = replace(SMALL, width=16, hidden=16)
    arms = {"folded": wide, "unfolded": replace(wide, folded=False)}
    return {name: tuned(system, {}, splits, Classify(), run).measured for name, system in arms.items()}
