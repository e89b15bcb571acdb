"""What claims share: the budget of a trial, what it tunes, and what an arm scores."""

import pytest

from timecell.claims import Trial
from timecell.claims.arms import budget, scored, settings
from timecell.data.splits import by_sample
from timecell.data.synthetic.spikes import motifs
from timecell.system import Run
from timecell.tasks import Classify


@pytest.mark.parametrize(
    ("trial", "updates"),
    [
        (Trial(7), 300),
        (Trial(7, control=True), 100),
        (Trial(7, quick=True), 3),
        (Trial(7, quick=True, control=True), 3),
    ],
)
def test_a_budget_is_smaller_where_there_is_nothing_to_learn_or_only_to_see_that_it_runs(trial, updates):
    run = budget(trial, 300, control=3)
    assert (run.seed, run.updates, run.device) == (7, updates, "cpu")
    assert budget(Trial(0, progress=True), 1).progress and not run.progress


def test_all_settings_are_tried_unless_the_trial_is_brief():
    space = {"lr": (1e-3, 1e-2), "tau": (2.0, 5.0)}
    assert settings(Trial(0), space) == space
    for brief in (Trial(0, quick=True), Trial(0, control=True)):
        assert settings(brief, space) == {"lr": (1e-3,), "tau": (2.0,)}


def test_what_an_arm_scores_is_told_item_by_item():
    splits = by_sample(motifs(3, samples=60, seed=0).data, seed=0)
    task = Classify()
    fitted = task.baselines()[0].fit(splits.train, splits.valid, task, Run())
    measured = scored(fitted, splits.test, task, lr=0.1)
    assert measured.value == measured.items.mean() and len(measured.items) == len(splits.test)
    assert measured.data == splits.test.fingerprint and measured.extra == {"lr": 0.1}
