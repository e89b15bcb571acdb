"""`dynamic-connectome`: communities that overlap and come and go, found without being told how many."""

from dataclasses import replace

import numpy as np
import pytest

from timecell import catalog
from timecell.claims import load_claims, quick, read_terms, terms_file
from timecell.data.containers import Schema, Sequences, Series
from timecell.data.synthetic.calcium import calcium
from timecell.errors import InputError
from timecell.rhythm.factorisation import Factors
from timecell.system import Run
from timecell.systems.recordings.dynamic_connectome import (
    DynamicConnectome,
    FittedConnectome,
    communities,
    motif_graph,
    shifted,
)
from timecell.tasks.communities import recordings
from timecell.tasks.fitted import FittedArrays
from timecell.tasks.structure import Structure, matched, member_f1

SYSTEM = DynamicConnectome(starts=3)
MADE = calcium(neurons=40, communities=2, animals=2, seconds=240.0, seed=0)
CLAIMS = load_claims("dynamic-connectome")


@pytest.fixture(scope="module")
def fitted() -> FittedConnectome:
    return SYSTEM.fit(MADE.data, MADE.data, Structure(), Run())


# --- what it finds -------------------------------------------------------------------------------------------------------


def test_it_finds_who_and_when(fitted):
    found = fitted.predict(MADE.data)
    assert len(found.members) == 2 and member_f1(found.members, MADE.members) > 0.85
    drive = np.concatenate(MADE.activity)
    for r, (own, _) in enumerate(matched(found.members, MADE.members)):
        smooth = np.convolve(drive[:, r], np.ones(16) / 16, "same")
        assert np.corrcoef(smooth, found.activity[:, int(own)])[0, 1] > 0.8


def test_names_of_neurons_do_not_matter(fitted):
    order = np.random.default_rng(1).permutation(40)
    turned = replace(MADE.data, values=MADE.data.values[:, order])
    again = SYSTEM.fit(turned, turned, Structure(), Run())
    assert member_f1(again.members, fitted.members[:, order]) > 0.9


def test_a_later_recording_has_later_activity(fitted):
    x = recordings(MADE.data)[0]
    late = np.concatenate([np.full((64, 40), np.percentile(x, 20, axis=0)), x])
    now, then = fitted.activity(x), fitted.activity(late)
    assert np.corrcoef(then[64:, 0], now[:, 0])[0, 1] > 0.95
    assert then[:48].max() < 0.1 * then.max()


def test_shifted_recordings_have_no_communities():
    rng = np.random.default_rng(0)
    alone = Sequences.of([shifted(x, rng) for x in recordings(MADE.data)])
    fitted = SYSTEM.fit(alone, alone, Structure(), Run())
    assert fitted.members.shape == (0, 40) and fitted.report["motifs"] == 0
    found = fitted.predict(alone)
    assert found.activity.shape == (len(alone.values), 0)
    silent = Series(np.zeros((200, 8)), Schema("series", tuple("abcdefgh")))
    assert len(SYSTEM.fit(silent, silent, Structure(), Run()).members) == 0


def test_a_motif_graph_keeps_what_noise_cannot_reach():
    members = np.arange(10) < 6
    affinity = np.outer(members, members)[:, :, None] * np.ones(20) + 0.01
    noise = np.full((10, 10, 20), 0.02)
    factors = Factors(members[:, None] / 6**0.5, members[:, None] / 6**0.5, np.ones((20, 1)))
    graph = motif_graph(affinity, noise, factors, 0)
    assert np.array_equal(graph > 0, np.outer(members, members) & ~np.eye(10, dtype=bool))
    assert np.array_equal(communities(graph, 6), members[None])
    assert communities(np.zeros((10, 10)), 6).shape == (0, 10)


# --- as a system ---------------------------------------------------------------------------------------------------------


def test_on_a_recording_of_ones_own(tmp_path):
    made = calcium(neurons=30, communities=2, members=(8, 10), animals=1, missing=0.0, seconds=300.0, seed=2)
    series = Series(made.data[0], Schema("series", made.data.schema.channels, rate=4.0))
    task = Structure()
    splits = task.split(series)
    fitted = SYSTEM.fit(splits.train, splits.valid, task, Run())
    found = fitted.predict(splits.test)
    assert found.activity.shape == (len(splits.test), len(found.members))
    assert task.score(found, splits.test).value > 0.1
    assert {"parameters", "updates", "seconds", "motifs", "trials"} <= fitted.report.keys()
    fitted.save(tmp_path)
    kept = FittedArrays.load(tmp_path)
    assert isinstance(kept, FittedConnectome) and kept.report["trials"] == fitted.report["trials"]
    assert np.array_equal(kept.predict(splits.test).activity, found.activity)


def test_it_says_what_it_accepts_and_what_is_wrong():
    schema = Schema("series", tuple("abc"))
    assert SYSTEM.accepts(Schema("series", tuple("abcdef")), Structure()) is None
    assert "no more than 5 channels" in SYSTEM.accepts(Schema("series", ("a",)), Structure())
    assert set(SYSTEM.space()) <= {"window", "neighbours"}
    with pytest.raises(InputError, match="starts: found 1"):
        DynamicConnectome(starts=1)
    gaps = Series(np.full((100, 3), np.nan), schema)
    with pytest.raises(InputError, match="recording 0: found 0 channels without a gap, expected more than the 5"):
        SYSTEM.fit(gaps, gaps, Structure(), Run())
    short = Series(np.random.default_rng(0).random((10, 8)), Schema("series", tuple("abcdefgh")))
    with pytest.raises(InputError, match="found 10 steps"):
        SYSTEM.fit(short, short, Structure(), Run())


def test_channels_of_another_recording(fitted):
    with pytest.raises(InputError, match="found 3 channels, expected the 40"):
        fitted.predict(Series(np.zeros((100, 3)), Schema("series", tuple("abc"))))


# --- its claims ----------------------------------------------------------------------------------------------------------


def test_every_claim_has_its_terms():
    for name, claim in CLAIMS.items():
        terms = read_terms(terms_file(catalog.find("dynamic-connectome")), name)
        assert set(terms.margins) == set(claim.margins)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_runs(name):
    assert set(CLAIMS[name].shows.arms) <= quick(CLAIMS[name]).keys()
