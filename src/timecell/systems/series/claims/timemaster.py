"""The checks of TimeMaster: four shapes of waves, a teacher who errs, and what rewards mend.

Sines, squares, triangles and sawteeth in noise. The small model of the module is trained from nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
from jaxtyping import Float

from timecell.claims import Absent, AtChance, Matches, Measured, Ordering, Trial, claim
from timecell.claims.arms import prepared
from timecell.data.containers import Sequences
from timecell.data.scaling import scale_of
from timecell.data.splits import Splits, by_sample
from timecell.data.synthetic.shapes import shapes
from timecell.network_system import FittedNetwork
from timecell.system import Run
from timecell.systems.series.timemaster import FACTS, TimeMaster, answers, facts
from timecell.tasks import Classify
from timecell.tasks.answers import Answer, class_reward, fact_reward, format_reward

UPDATES = 300
# Few answers, and a quarter of the words in them are wrong.
TEACHER = TimeMaster(supervised=1 / 3, taught=100, noise=0.25, lr=2e-3, batch=16)
RATES = (2e-3, 5e-3)  # of imitation alone, the better one on validation data


@claim(
    "rewards make the model better than what it imitated",
    source="sections 4 and 5: reinforcement learning after supervised fine-tuning",
    control="labels of training and validation shuffled, and with them the rewards: all at chance",
    shows=Ordering("imitation, then rewards", "imitation"),
    control_shows=AtChance(0.25),
)
def rewards_after_imitation(trial: Trial) -> Mapping[str, Measured]:
    """Accuracy of the class that is named on its own, at an equal number of updates.

    An answer that names none, or several, is wrong. Beside: imitation of a teacher who is never wrong, of all samples.
    """
    splits = four_shapes(trial)
    imitating = replace(TEACHER, supervised=1.0)
    arms = {
        "imitation, then rewards": [TEACHER],
        "imitation": [replace(imitating, lr=lr) for lr in RATES],
        "imitation of the truth": [replace(imitating, taught=None, noise=0.0, lr=lr) for lr in RATES],
    }
    asked = [arm for arm in arms if not (trial.control and arm == "imitation of the truth")]
    return {arm: right(arms[arm], splits, trial) for arm in asked}


@claim(
    "imitation teaches a form that is kept while rewards change what is said; rewards alone do not find it",
    source="the paper's format reward, and its ablation without the first stage",
    control="rewards alone, at as many updates: the form is not found",
    shows=Matches("imitation, then rewards", 1.0),
    control_shows=Absent(),
)
def form_is_kept(trial: Trial) -> Mapping[str, Measured]:
    """Share of greedy answers that have all parts, in order, and name one class."""
    splits = four_shapes(replace(trial, control=False))
    system = replace(TEACHER, supervised=0.0) if trial.control else TEACHER
    said = answers(fitted_on(system, splits, replace(trial, control=False)), cast(Sequences, splits.test))
    formed = np.array([format_reward(answer, tuple(splits.test.schema.classes or ())) for answer in said])
    return {"imitation, then rewards": Measured(formed.mean(), formed, splits.test.fingerprint)}


@claim(
    "a reward for facts makes what follows truer",
    source="the paper's ablation of the reward for the extension",
    control="the weight of the facts is zero in both arms",
    shows=Ordering("facts rewarded", "facts not rewarded"),
    control_shows=Absent(),
)
def facts_are_rewarded(trial: Trial) -> Mapping[str, Measured]:
    """Mean share of facts that the extension states correctly; beside it the accuracy of the class."""
    splits = four_shapes(replace(trial, control=False))
    test, found = cast(Sequences, splits.test), {}
    scale = scale_of(splits.train)
    true = [[kind[i] for kind, i in zip(FACTS, facts(scale.data(test)[n]))] for n in range(len(test))]
    for arm, weight in (("facts rewarded", 0.0 if trial.control else 0.5), ("facts not rewarded", 0.0)):
        fitted = fitted_on(replace(TEACHER, extension=weight), splits, trial)
        said = answers(fitted, test)
        share = np.array([fact_reward(answer["extension"], known, FACTS) for answer, known in zip(said, true)])
        found[arm] = Measured(share.mean(), share, test.fingerprint, {"accuracy": accuracy(said, test).mean()})
    return found


def four_shapes(trial: Trial) -> Splits:
    """Sine, square, triangle and sawtooth: 520 to train, 120 to validate, 360 to test."""
    return prepared(by_sample(shapes(1000, seed=trial.seed), seed=trial.seed, valid=0.12, test=0.36), trial, most=40)


def fitted_on(system: TimeMaster, splits: Splits, trial: Trial) -> FittedNetwork:
    """Fit one arm; a control that has nothing to learn gets fewer updates."""
    updates = 3 if trial.quick else UPDATES // 6 if trial.control else UPDATES
    run = Run(seed=trial.seed, updates=updates, progress=trial.progress, device="cpu")
    return system.fit(splits.train, splits.valid, Classify(), run)


def right(systems: Sequence[TimeMaster], splits: Splits, trial: Trial) -> Measured:
    """Accuracy on the test set of the one that is best on the validation data."""
    valid, test = cast(Sequences, splits.valid), cast(Sequences, splits.test)
    fitted = [fitted_on(system, splits, trial) for system in (systems[:1] if trial.quick else systems)]
    best = fitted[0] if len(fitted) == 1 else max(fitted, key=lambda f: accuracy(answers(f, valid), valid).mean())
    each = accuracy(answers(best, test), test)
    extra = {"format_rate": best.report["format_rate"], "parameters": best.report["parameters"]}
    return Measured(each.mean(), each, test.fingerprint, extra)


def accuracy(said: Sequence[Answer], data: Sequences) -> Float[np.ndarray, "N"]:
    """1 where the class that is named, alone, is the right one."""
    names = data.schema.classes or ()
    return np.array([class_reward(answer, names[k]) for answer, k in zip(said, cast(np.ndarray, data.target))])
