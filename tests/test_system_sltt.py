"""`sltt`: no blame goes back in time, memory does not grow, and a user's own sequences go in."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from timecell import catalog
from timecell.card import Card
from timecell.checkpoint import seeded
from timecell.claims import Trial, load_claims, quick, read_terms, terms_file
from timecell.claims.arms import prepared, shuffled, tuned
from timecell.credit import BPTT, SLTT
from timecell.data.containers import Batch, Schema, Sequences
from timecell.errors import InputError
from timecell.network_system import FittedNetwork
from timecell.system import Run
from timecell.systems.spiking.claims.sltt import layer_gradients, saved_bytes
from timecell.systems.spiking.sltt import SpatialLearning
from timecell.tasks import Classify, Forecast

RUN = Run(updates=60, device="cpu")
CLAIMS = load_claims("sltt")


def ragged(n=90, seed=0):
    """Two classes told apart by which channel is loud; samples of 2 to 9 steps."""
    rng = np.random.default_rng(seed)
    label = rng.integers(2, size=n)
    loud = np.arange(2) == label[:, None]
    return Sequences.of([rng.normal(2.0 * c, 1.0, (rng.integers(2, 10), 2)) for c in loud], label, classes=("a", "b"))


def net_and_batch(tau=4.0, steps=7, lengths=None):
    with seeded(0):
        net = SpatialLearning(hidden=12, tau=tau).build(Schema("sequences", ("x", "y", "z")), 2)
        x = torch.randn(8, steps, 3)
    return net, Batch(x, torch.arange(8) % 2, lengths)


# --- the rule in this net ------------------------------------------------------------------------------------------------


def test_one_step_has_no_past_to_leave_out():
    net, batch = net_and_batch(steps=1)
    cut, full = layer_gradients(net, SLTT(), batch), layer_gradients(net, BPTT(), batch)
    assert cut.keys() == full.keys() == {"0.weight", "3.weight", "6.weight"}
    for name in cut:
        torch.testing.assert_close(cut[name], full[name])


@pytest.mark.parametrize("lengths", [None, torch.tensor([7, 7, 5, 5, 4, 4, 2, 2])])
def test_how_time_is_cut_changes_nothing_in_training(lengths):
    net, batch = net_and_batch(lengths=lengths)
    alone = layer_gradients(net, SLTT(steps=1), batch)
    for steps in (3, 7):
        for name, gradient in layer_gradients(net, SLTT(steps=steps), batch).items():
            torch.testing.assert_close(gradient, alone[name], rtol=1e-4, atol=1e-6)


def test_only_the_readout_is_blind_to_the_missing_path():
    net, batch = net_and_batch(tau=10.0)
    cut, full = layer_gradients(net, SLTT(), batch), layer_gradients(net, BPTT(), batch)
    torch.testing.assert_close(cut["6.weight"], full["6.weight"], rtol=1e-4, atol=1e-6)
    assert torch.cosine_similarity(cut["0.weight"], full["0.weight"], dim=0) < 0.95


def test_kept_bytes():
    net, short = net_and_batch(steps=4)
    _, long = net_and_batch(steps=64)
    few, many = (saved_bytes(net, SLTT(steps=4), batch) for batch in (short, long))
    assert 0.9 < many / few < 1.1
    few, many = (saved_bytes(net, BPTT(), batch) for batch in (short, long))
    assert many > 10 * few
    assert saved_bytes(net, SLTT(steps=1), short) < saved_bytes(net, SLTT(steps=4), short)


# --- as a system ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"k": 2}, {"rule": "bptt"}])
def test_it_learns_sequences_of_ones_own(settings, tmp_path):
    system, task = SpatialLearning(hidden=16, batch=30, **settings), Classify()
    fitted = system.fit(ragged(), ragged(60, 1), task, RUN)
    unseen = ragged(60, 2)
    assert task.score(fitted.predict(unseen), unseen).value > 0.9
    fitted.save(tmp_path)
    loaded = FittedNetwork.load(tmp_path)
    assert loaded.system == system and loaded.task == replace(task, readout="every", criterion="tet")
    assert np.array_equal(loaded.predict(unseen).probabilities, fitted.predict(unseen).probabilities)


def test_a_batch_in_which_one_sample_goes_on_alone():
    data = Sequences.of([np.ones((2, 1)), np.zeros((9, 1)), np.ones((3, 1)), np.zeros((4, 1))], [1, 0, 1, 0])
    fitted = SpatialLearning(hidden=8).fit(data, data, Classify(), replace(RUN, updates=3))
    assert fitted.report["updates"] == 3


def test_it_says_what_it_accepts():
    sequences, series = ragged().schema, Schema("series", ("x",))
    assert SpatialLearning().accepts(sequences, Classify()) is None
    assert "the data are series" in SpatialLearning().accepts(series, Classify())
    assert SpatialLearning().accepts(series, Forecast()) == "it can classify; the task is forecast"
    with pytest.raises(InputError, match="sltt: found it can classify"):
        SpatialLearning().fit(ragged(), ragged(), Forecast(), RUN)


# --- its claims ----------------------------------------------------------------------------------------------------------


def test_the_card():
    card = catalog.read_card(catalog.find("sltt"))
    assert card == SpatialLearning.card and isinstance(card, Card) and (card.n, card.family) == (14, "spiking")
    assert "timing" in card.summary, "it says what the method is not for"


def test_every_claim_has_its_terms():
    for name, claim in CLAIMS.items():
        terms = read_terms(terms_file(catalog.find("sltt")), name)
        assert set(terms.margins) == set(claim.margins)
    assert "timing_needs_the_path_through_time" in CLAIMS


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_runs(name):
    assert set(CLAIMS[name].shows.arms) <= quick(CLAIMS[name]).keys()


def test_memory_and_its_control_are_exact():
    claim = CLAIMS["memory_is_flat"]
    shown, control = claim(Trial(0)), claim(Trial(0, control=True))
    assert max(m.value for m in shown.values()) < 1.1
    assert control["64 steps"].value > 10


# --- arms ----------------------------------------------------------------------------------------------------------------


def test_an_arm_is_chosen_on_validation_data_and_scored_on_test_data():
    task = Classify("every")
    splits = task.split(ragged(200))
    arm = tuned(SpatialLearning(hidden=8), {"lr": (1e-9, 1e-2)}, splits, task, replace(RUN, updates=15))
    assert arm.measured.extra["lr"] == 1e-2 and arm.fitted.system.lr == 1e-2
    assert arm.measured.value == task.score(arm.fitted.predict(splits.test), splits.test).value
    assert arm.measured.data == splits.test.fingerprint


def test_a_control_shuffles_what_teaches_and_not_what_tests():
    splits = Classify().split(ragged(200))
    control = prepared(splits, Trial(0, control=True))
    assert (control.train.target != splits.train.target).any() and (control.valid.target != splits.valid.target).any()
    assert control.test is splits.test
    assert sorted(shuffled(splits.train, 1).target) == sorted(splits.train.target)
    assert [len(p) for p in (prepared(splits, Trial(0, quick=True), most=7).train, splits.train)] == [7, 130]
