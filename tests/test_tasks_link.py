"""Link prediction: the same candidates for everybody, none from the future, and metrics that scikit-learn agrees with."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from timecell.data.containers import Sequences
from timecell.data.synthetic.edge_stream import edge_stream
from timecell.data.temporal_edges import TemporalEdges
from timecell.errors import InputError
from timecell.system import Run
from timecell.tasks.candidates import KINDS, LinkScores, candidates
from timecell.tasks.fitted import FittedArrays
from timecell.tasks.link import LinkPrediction, ranked, touches_new
from timecell.tasks.linkers import CommonNeighbours, EdgeBank, PairRecency, TargetRecency

TASK = LinkPrediction(negatives=4)
STREAM = edge_stream(nodes=40, edges=900, closing=0.4, repeat=0.4, window=60, seed=1).data


def tied(E=400, V=12, seed=0):
    rng = np.random.default_rng(seed)
    return TemporalEdges.of(rng.integers(V, size=E), rng.integers(V, size=E), rng.integers(60, size=E))


def negatives(found, kind, n=4):
    first = 1 + n * KINDS.index(kind)
    return found[:, first : first + n]


# --- candidates -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [tied(), STREAM])
def test_candidates_are_of_their_kind(data):
    part = data.chronological()[2]
    found = candidates(part, 4, seed=0)
    assert np.array_equal(found[:, 0], part.target[part.begin :])
    for i, row in enumerate(range(part.begin, len(part.time))):
        past = part.time < part.time[row]
        now = part.time == part.time[row]
        u = part.source[row]
        true = set(part.target[now & (part.source == u)].tolist())
        known = {
            "random": set(part.target[past].tolist()),
            "historical": set(part.target[past & (part.source == u)].tolist()),
            "recent": set(part.target[past][-500:].tolist()),
        }
        for kind in KINDS:
            drawn = set(negatives(found, kind)[i].tolist()) - {-1}
            assert drawn <= known[kind] - true


def test_there_is_no_candidate_where_the_past_has_none():
    edges = TemporalEdges.of([0, 0, 3], [1, 1, 4], [1.0, 2.0, 3.0])
    found = candidates(edges, 2, seed=0)
    assert (found[0, 1:] == -1).all(), "nothing is known at first"
    assert (found[1, 1:] == -1).all(), "only the true target is known"
    assert (negatives(found, "historical", 2)[2] == -1).all() and (negatives(found, "random", 2)[2] == 1).all()


def test_later_edges_change_no_candidate():
    rng, part = np.random.default_rng(0), tied().chronological()[2]
    t = np.median(part.time[part.begin :])
    later = part.time > t
    moved = np.where(later, part.time + rng.integers(1, 5, len(later)), part.time)
    other = TemporalEdges.of(np.where(later, rng.permutation(part.source), part.source), part.target, moved)
    other = other.__class__(**{**vars(other), "begin": part.begin, "nodes": part.nodes})
    keep = int((~later).sum()) - part.begin
    assert keep > 20
    assert np.array_equal(candidates(part, 4, 0)[:keep], candidates(other, 4, 0)[:keep])


def test_draws_are_fixed_by_the_seed():
    part = STREAM.chronological()[2]
    assert np.array_equal(candidates(part, 3, 1), candidates(part, 3, 1))
    assert not np.array_equal(candidates(part, 3, 1), candidates(part, 3, 2))


# --- metrics ----------------------------------------------------------------------------------------------------------------


def test_metrics_are_scikit_learns():
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(6, size=50) / 2, rng.integers(5, size=(50, 3)) / 2.0
    found = ranked(positive, negative, np.ones(50, bool))
    truth, values = np.repeat([1, 0], [50, 150]), np.concatenate([positive, negative.ravel()])
    weight = np.repeat([1, 1 / 3], [50, 150])
    assert found.precision.mean() == pytest.approx(average_precision_score(truth, values, sample_weight=weight))
    assert found.won.mean() == pytest.approx(roc_auc_score(truth, values, sample_weight=weight))
    first = 1 / (1 + (negative[0] > positive[0]).sum() + 0.5 * (negative[0] == positive[0]).sum())
    assert found.reciprocal_rank[0] == pytest.approx(first)
    ahead = (negative > positive[:, None]).sum(1) + 0.5 * (negative == positive[:, None]).sum(1)
    assert found.wins == pytest.approx(1 - ahead / 3)


def test_missing_negatives_do_not_count():
    found = ranked(np.array([1.0, 2.0]), np.array([[np.nan, 0.0], [np.nan, np.nan]]), np.ones(2, bool))
    assert found.precision[0] == 1 and np.isnan(found.precision[1]) and np.isnan(found.reciprocal_rank[1])


def test_items_are_what_the_primary_metric_is_the_mean_of():
    part = TASK.split(STREAM).test
    rng = np.random.default_rng(0)
    there = TASK.candidates(part) >= 0
    scores = TASK.score(LinkScores(np.where(there, rng.random(there.shape), np.nan)), part)
    assert scores.items.shape == (len(part),) and scores.value == pytest.approx(np.nanmean(scores.items))
    assert scores.value == pytest.approx(0.5, abs=0.06), "chance is one half, however many negatives there are"
    hard = (scores.metrics["wins_historical"] + scores.metrics["wins_recent"]) / 2
    assert scores.value == pytest.approx(hard, abs=0.02)
    assert scores.metrics["ap_recent"] == pytest.approx(0.5, abs=0.06)


def test_transductive_and_inductive_edges_are_told_apart():
    edges = TemporalEdges.of([0, 1, 0, 0, 5, 1], [1, 2, 2, 2, 1, 2], np.arange(6.0)).chronological(0.3, 0.4)[2]
    assert touches_new(edges).tolist() == [True, False]
    scores = TASK.score(PairRecency().fit(edges, edges, TASK, Run()).predict(edges), edges)
    assert {"ap_random_inductive", "mrr_recent_transductive"} <= scores.metrics.keys()


def test_a_prediction_must_fit():
    part = TASK.split(STREAM).test
    with pytest.raises(InputError, match=r"expected .180, 13."):
        TASK.score(LinkScores(np.zeros((180, 4))), part)
    with pytest.raises(InputError, match="no edge with a past"):
        one = TemporalEdges.of([0], [1], [0.0])
        TASK.score(LinkScores(np.array([[1.0] + [np.nan] * 12])), one)
    with pytest.raises(InputError, match=r"scores\[1\]: found \[nan"):
        LinkScores(np.array([[0.0] * 4, [np.nan] * 4]))
    with pytest.raises(InputError, match="1 \\+ 3 n"):
        LinkScores(np.zeros((3, 3)))
    with pytest.raises(InputError, match="negatives: found 0"):
        LinkPrediction(negatives=0)
    with pytest.raises(InputError, match=r"did you mean .recent"):
        LinkPrediction(hard=("recnt",))
    with pytest.raises(InputError, match="found Sequences, expected TemporalEdges"):
        TASK.split(Sequences.of(np.zeros((4, 5, 1)), target=[0, 1, 1, 1]))


# --- baselines --------------------------------------------------------------------------------------------------------------

BASELINES = [EdgeBank(), PairRecency(), TargetRecency(), CommonNeighbours(last=5)]


@pytest.mark.parametrize("system", BASELINES, ids=lambda s: s.card.slug)
@pytest.mark.parametrize("data", [tied(), STREAM], ids=["ties", "no ties"])
def test_baselines_know_what_a_loop_knows(system, data):
    parts = TASK.split(data)
    part = parts.test
    found = system.fit(parts.train, parts.valid, TASK, Run()).predict(part).scores
    targets = TASK.candidates(part)
    for i in range(0, len(part), 7):
        row = part.begin + i
        known = int((part.time < part.time[row]).sum())
        past = list(zip(part.source[:known].tolist(), part.target[:known].tolist()))
        u = int(part.source[row])
        for j, v in enumerate(targets[i].tolist()):
            if v < 0:
                assert np.isnan(found[i, j])
                continue
            met = [e for e, pair in enumerate(past) if pair == (u, v)]
            hit = [e for e, pair in enumerate(past) if pair[1] == v]
            expected = {
                "edgebank": float(bool(met)),
                "pair-recency": 1 / (1 + known - met[-1]) if met else 0.0,
                "target-recency": 1 / (1 + known - hit[-1]) if hit else 0.0,
                "common-neighbours": shared(past, u, v),
            }[system.card.slug]
            assert found[i, j] == pytest.approx(expected)


def shared(past, u, v):
    def last(node):
        met = [p for a, b in past for end, p in ((a, b), (b, a)) if end == node]
        return met[::-1][:5]

    return sum(p in last(v) for p in last(u))


@pytest.mark.parametrize("system", BASELINES, ids=lambda s: s.card.slug)
def test_the_future_does_not_change_a_score(system):
    part = TASK.split(STREAM).test
    cut = part.__class__(**{**vars(part.before(part.time[-40])), "begin": part.begin})
    fitted = system.fit(part, part, TASK, Run())
    assert np.array_equal(fitted.predict(cut).scores, fitted.predict(part).scores[:-40], equal_nan=True)


def test_each_baseline_finds_its_own_cause():
    def score(system, **causes):
        parts = TASK.split(edge_stream(nodes=60, edges=2500, window=80, **causes).data)
        prediction = system.fit(parts.train, parts.valid, TASK, Run()).predict(parts.test)
        return TASK.score(prediction, parts.test).metrics["wins_recent"]

    assert score(PairRecency(), closing=0.0, repeat=0.8) > 0.75
    assert score(PairRecency(), closing=0.8) < 0.54 < 0.56 < score(CommonNeighbours(), closing=0.8)
    assert all(abs(score(system, closing=0.0) - 0.5) < 0.06 for system in BASELINES)


@pytest.mark.parametrize("system", BASELINES, ids=lambda s: s.card.slug)
def test_a_baseline_can_be_kept(system, tmp_path):
    part = TASK.split(STREAM).test
    fitted = system.fit(part, part, TASK, Run())
    fitted.save(tmp_path)
    loaded = FittedArrays.load(tmp_path)
    assert np.array_equal(loaded.predict(part).scores, fitted.predict(part).scores, equal_nan=True)
    assert system.accepts(part.schema, TASK) is None
