"""The checks of TimeMaster: four shapes of waves, a teacher who errs, and what rewards mend.

Sines, squares, triangles and sawteeth in noise: 520 to train, 120 to validate, 360 to test. The small model of the module
is trained from nothing. The teacher wrote 100 answers, and a quarter of the words in them are wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np
from jaxtyping import Float

from timecell.claims import Absent, AtChance, Matches, Measured, Ordering, Trial, claim, experiment
from timecell.claims.arms import budget, prepared
from timecell.claims.experiment import Arrays
from timecell.data.containers import Sequences
from timecell.data.scaling import scale_of
from timecell.data.splits import by_sample
from timecell.data.synthetic.shapes import shapes
from timecell.systems.series.answer_language import FACTS, facts
from timecell.systems.series.timemaster import TimeMaster, answers
from timecell.tasks import Classify
from timecell.tasks.answers import Answer, class_reward, fact_reward, format_reward

UPDATES = 300
TEACHER = TimeMaster(supervised=1 / 3, taught=100, noise=0.25, lr=2e-3, batch=16)
ARMS = {  # where there are two settings, the one that names more classes rightly on validation data
    "imitation, then rewards": [replace(TEACHER, reward_lr=rate) for rate in (1e-3, 5e-4)],
    "imitation": [replace(TEACHER, supervised=1.0, lr=lr) for lr in (2e-3, 5e-3)],
    "rewards alone": [replace(TEACHER, supervised=0.0)],
    "facts not rewarded": [replace(TEACHER, extension=0.0)],
    "facts punished": [replace(TEACHER, extension=-0.5)],
}


@claim(
    "rewards make the model better than what it imitated",
    source="sections 4 and 5: reinforcement learning after supervised fine-tuning",
    control="labels of training and validation shuffled, and with them the rewards: all at chance",
    shows=Ordering("imitation, then rewards", "imitation"),
    control_shows=AtChance(0.25),
)
def rewards_after_imitation(trial: Trial) -> Mapping[str, Measured]:
    """Accuracy of the class that is named on its own, at an equal number of updates, the better of two rates in each arm.

    An answer that names none, or several, is wrong.
    """
    found = {}
    for arm in ("imitation, then rewards", "imitation"):
        tried = [said(trial, arm, i) for i in range(1 if trial.quick or trial.control else len(ARMS[arm]))]
        best = max(tried, key=lambda one: float(one["valid"]))
        found[arm] = Measured(best["right"].mean(), best["right"], extra={"form": best["formed"].mean()})
    return found


@claim(
    "imitation teaches a form that is kept while rewards change what is said; rewards alone do not find it",
    source="the paper's format reward, and its ablation without the first stage",
    control="rewards alone, at as many updates: the form is not found",
    shows=Matches("imitation, then rewards", 1.0),
    control_shows=Absent(),
)
def form_is_kept(trial: Trial) -> Mapping[str, Measured]:
    """Share of greedy answers that have all parts, in order, and name one class."""
    arm = "rewards alone" if trial.control else "imitation, then rewards"
    formed = said(replace(trial, control=False), arm)["formed"]
    return {"imitation, then rewards": Measured(formed.mean(), formed)}


@claim(
    "a reward for facts makes what follows truer",
    source="the paper's ablation of the reward for the extension",
    control="facts are punished in place of rewarded: not so",
    shows=Ordering("facts rewarded", "facts not rewarded"),
    control_shows=Absent(),
)
def facts_are_rewarded(trial: Trial) -> Mapping[str, Measured]:
    """Mean share of facts that the extension states correctly; beside it the accuracy of the class."""
    whole, found = replace(trial, control=False), {}
    rewarded = "facts punished" if trial.control else "imitation, then rewards"
    for arm, fitted in (("facts rewarded", rewarded), ("facts not rewarded", "facts not rewarded")):
        each = said(whole, fitted)
        found[arm] = Measured(each["facts"].mean(), each["facts"], extra={"accuracy": each["right"].mean()})
    return found


@experiment
def said(trial: Trial, arm: str, setting: int = 0) -> Arrays:
    """What an arm says of the test series: whether class and form are right, and the share of true facts, [N] each."""
    whole = by_sample(shapes(1000, seed=trial.seed), seed=trial.seed, valid=0.12, test=0.36)
    splits = prepared(whole, trial, most=40)
    valid, test = cast(Sequences, splits.valid), cast(Sequences, splits.test)
    fitted = ARMS[arm][setting].fit(splits.train, valid, Classify(), budget(trial, UPDATES, control=6))
    scale, classes, told = scale_of(splits.train), tuple(test.schema.classes or ()), answers(fitted, test)
    true = [[kind[i] for kind, i in zip(FACTS, facts(scale.data(test)[n]))] for n in range(len(test))]
    return {
        "right": accuracy(told, test),
        "formed": np.array([format_reward(answer, classes) for answer in told]),
        "facts": np.array([fact_reward(answer["extension"], known, FACTS) for answer, known in zip(told, true)]),
        "valid": np.array(accuracy(answers(fitted, valid), valid).mean()),
    }


def accuracy(told: list[Answer], data: Sequences) -> Float[np.ndarray, "N"]:
    """1 where the class that is named, alone, is the right one."""
    names = data.schema.classes or ()
    return np.array([class_reward(answer, names[k]) for answer, k in zip(told, cast(np.ndarray, data.target))])
