"""`Structure`: communities are judged by what their members tell of each other on time that no system has seen."""

import numpy as np
import pytest

from timecell.data.containers import Schema, Sequences, Series
from timecell.errors import InputError
from timecell.system import Run
from timecell.tasks.communities import Communities, EveryChannel, SlidingLouvain, StaticLouvain, louvain
from timecell.tasks.fitted import FittedArrays
from timecell.tasks.structure import Structure, agreement, matched, member_f1, told_by_others

TRUTH = np.array([[1, 1, 1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 1, 0, 0]]) > 0


def recording(T=600, seed=0, noise=0.5):
    """Two overlapping communities, and two channels alone."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((T, 2)) @ TRUTH + noise * rng.standard_normal((T, 9))
    x[:, 7:] += rng.standard_normal((T, 2))
    return Series(x, Schema("series", tuple("abcdefghi"), lengths=(T, T)))


def answer(members, T=600):
    return Communities(np.asarray(members, dtype=bool), np.zeros((T, len(members))))


def test_the_true_communities_score_best():
    data, task = recording(), Structure()
    true = task.score(answer(TRUTH), data)
    assert (true.primary, true.higher_is_better, len(true.items)) == ("r2", True, 9)
    assert true.value == pytest.approx(np.mean(true.items)) and true.metrics["communities"] == 2
    assert (true.items[:7] > 0.5).all() and (true.items[7:] == 0).all()
    disjoint = TRUTH & ~(np.arange(9) == 3) | np.array([[0] * 9, [0, 0, 0, 1, 0, 0, 0, 0, 0]], dtype=bool)
    for worse in (disjoint, TRUTH[:1], np.ones((1, 9)), np.roll(TRUTH, 3, axis=1), np.eye(9)):
        assert task.score(answer(worse), data).value < true.value - 0.02
    assert task.score(answer(np.zeros((0, 9))), data).value == 0.0


def test_more_communities_than_there_are_do_not_pay():
    data, task = recording(), Structure()
    rng = np.random.default_rng(1)
    extra = np.concatenate([TRUTH, rng.random((20, 9)) < 0.3])
    noise = Series(rng.standard_normal((600, 9)), data.schema)
    assert task.score(answer(extra), noise).value < 0.02


def test_a_channel_never_tells_itself():
    x = np.random.default_rng(0).standard_normal((200, 2))
    assert (np.abs(told_by_others(np.array([[True, True]]), x)) < 0.1).all()
    assert told_by_others(np.array([[True, False]]), x).tolist() == [0.0, 0.0]


def test_gaps_and_silent_channels():
    data = recording()
    x = data.values.copy()
    x[::7, 0] = np.nan
    x[:, 5] = 2.0
    items = told_by_others(TRUTH, x)
    assert np.isnan(items[5]) and items[0] > 0.5 and items[4] > 0.5
    x[:, 8] = np.nan
    assert np.isnan(told_by_others(TRUTH, x)[8])


def test_the_split_goes_by_time_and_the_future_changes_no_community():
    data, task = recording(), Structure()
    splits = task.split(data)
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [390, 90, 120]
    assert np.array_equal(np.concatenate([p.values for p in (splits.train, splits.valid, splits.test)]), data.values)
    later = data.values.copy()
    later[480:] = np.random.default_rng(5).standard_normal((120, 9))
    again = task.split(Series(later, data.schema))
    for system in task.baselines():
        one = system.fit(splits.train, splits.valid, task, Run()).predict(splits.valid)
        two = system.fit(again.train, again.valid, task, Run()).predict(again.valid)
        assert all(np.array_equal(a, b) for a, b in zip(one.arrays().values(), two.arrays().values()))


@pytest.mark.parametrize(
    "system", [EveryChannel(), StaticLouvain(), SlidingLouvain(states=2)], ids=lambda s: s.card.slug
)
def test_a_baseline_is_kept(system, tmp_path):
    data, task = recording(), Structure()
    splits = task.split(data)
    assert system.accepts(data.schema, task) is None
    fitted = system.fit(splits.train, splits.valid, task, Run())
    found = fitted.predict(splits.test)
    assert found.activity.shape == (120, len(found.members)) and (found.activity >= 0).all()
    assert 0 < task.score(found, splits.test).value < 1
    fitted.save(tmp_path)
    kept = FittedArrays.load(tmp_path).predict(splits.test)
    assert np.array_equal(kept.members, found.members) and np.array_equal(kept.activity, found.activity)
    with pytest.raises(InputError, match="found 2 channels, expected the 9"):
        fitted.predict(Series(np.zeros((50, 2)), Schema("series", ("a", "b"))))


def test_static_louvain_finds_blocks_in_recordings_with_missing_channels():
    one, two = recording(seed=0).values, recording(seed=1).values
    one[:, 0] = two[:, 4] = np.nan
    fitted = StaticLouvain().fit(Sequences.of([one, two]), None, Structure(), Run())
    assert member_f1(fitted.members, TRUTH, spurious=False) > 0.8


def test_louvain_leaves_lone_channels_out():
    weights = np.kron(np.eye(2), np.ones((3, 3)))
    weights = np.pad(weights, (0, 2)) - 0.5 * np.eye(8)
    assert louvain(weights).sum(axis=1).tolist() == [3, 3]


def test_agreement_with_the_truth():
    truth = np.repeat([0, 1, 2], 10)
    assert agreement(truth[::-1] * 5, truth) == pytest.approx({"ari": 1.0, "nmi": 1.0})
    assert abs(agreement(np.random.default_rng(0).permutation(truth), truth)["ari"]) < 0.1
    assert matched(np.zeros((0, 9), bool), TRUTH).tolist() == [[-1, 0], [-1, 0]]
    assert member_f1(TRUTH[::-1], TRUTH) == 1.0
    assert member_f1(np.concatenate([TRUTH, TRUTH]), TRUTH) == 0.5
    assert member_f1(np.concatenate([TRUTH, TRUTH]), TRUTH, spurious=False) == 1.0


def test_it_says_what_is_wrong():
    task = Structure()
    with pytest.raises(InputError, match="kind='series'"):
        task.split(Sequences.of(np.zeros((2, 5, 3))))
    with pytest.raises(InputError, match="one channel"):
        task.split(Series(np.zeros((500, 1)), Schema("series", ("a",))))
    with pytest.raises(InputError, match="found 20 steps"):
        task.split(Series(np.zeros((20, 2)), Schema("series", ("a", "b"))))
    with pytest.raises(InputError, match="communities of 3 channels, expected 9"):
        task.score(answer(np.ones((1, 3))), recording())
    with pytest.raises(InputError, match="no channel that changes"):
        task.score(answer(TRUTH), Series(np.ones((600, 9)), recording().schema))
    with pytest.raises(InputError, match=r"activity\[1, 0\]: found nan"):
        Communities(np.ones((1, 3), bool), np.array([[0.0], [np.nan]]))
    with pytest.raises(InputError, match="members, activity"):
        Communities(np.ones((2, 3), bool), np.zeros((4, 1)))
    assert "the task is structure" not in (StaticLouvain().accepts(recording().schema, task) or "")
