"""`snn-tutorial`: the tutorial's unit, its options, the cost on spikes, and the window of spike timing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from timecell import catalog
from timecell.claims import Trial, load_claims, quick, read_terms, terms_file
from timecell.data.containers import Schema, Sequences
from timecell.network_system import FittedNetwork
from timecell.neurons import LIF, FastSigmoid, LeakyIntegrator, Sigmoid
from timecell.system import Run
from timecell.systems.spiking.claims.snn_tutorial import CODES, LOSSES, digits, hidden_spikes, window
from timecell.systems.spiking.snn_tutorial import SnnTutorial, SpikeCost
from timecell.tasks import Classify, Forecast
from timecell.testing import check

RUN = Run(updates=60, device="cpu")
CLAIMS = load_claims("snn-tutorial")


def ragged(n=90, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(2, size=n)
    loud = np.arange(2) == label[:, None]
    return Sequences.of([rng.normal(2.0 * c, 1.0, (rng.integers(5, 12), 2)) for c in loud], label, classes=("a", "b"))


# --- the unit ------------------------------------------------------------------------------------------------------------


def test_the_unit_is_the_tutorials():
    """U_t = beta U_{t-1} + x_t - theta S_{t-1}."""
    x = torch.rand(1, 40, 1, generator=torch.Generator().manual_seed(0)) * 0.6
    spikes, _ = SnnTutorial(beta=0.8).unit(1)(x)
    u, s, expected = 0.0, 0.0, []
    for value in x.flatten().tolist():
        u = 0.8 * u + value - s
        s = float(u >= 1)
        expected.append(s)
    assert spikes.flatten().tolist() == expected and 3 < sum(expected) < 37


@pytest.mark.parametrize(("current", "beta"), [(0.15, 0.9), (0.3, 0.8), (0.6, 0.5), (0.09, 0.9)])
def test_the_first_spike_comes_when_the_closed_form_says(current, beta):
    """The membrane is x (1 - beta^n) / (1 - beta) after n steps, and so n = ceil(ln(1 - theta (1 - beta) / x) / ln beta)."""
    spikes, _ = SnnTutorial(beta=beta).unit(1)(torch.full((1, 60, 1), current))
    reached = 1 - (1 - beta) / current
    if reached <= 0:
        assert not spikes.any()
    else:
        assert int(spikes.argmax()) + 1 == int(np.ceil(np.log(reached) / np.log(beta)))


# --- the options ---------------------------------------------------------------------------------------------------------


def built(**settings):
    return SnnTutorial(hidden=6, **settings).build(Schema("sequences", ("x", "y")), 3)


def test_the_readout_decides_the_last_layer():
    assert isinstance(built(readout="count")[-1], LIF) and isinstance(built(readout="max")[-1], LeakyIntegrator)
    assert built(surrogate=FastSigmoid(10.0))[1].surrogate == FastSigmoid(10.0)
    assert float(built(beta=0.75)[1].tau) == pytest.approx(4.0)


def test_what_is_trained():
    names = {n for n, p in built().named_parameters() if p.requires_grad}
    assert names == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert {n for n, p in built(learn_beta=True).named_parameters() if p.requires_grad} - names == {
        "1.tau_raw",
        "3.tau_raw",
    }
    frozen = {n for n, p in built(train_hidden=False).named_parameters() if p.requires_grad}
    assert frozen == {"2.weight", "2.bias"}


@pytest.mark.parametrize(("readout", "criterion"), LOSSES)
def test_every_loss_learns_sequences_of_ones_own(readout, criterion, tmp_path):
    system, task = SnnTutorial(hidden=24, readout=readout, criterion=criterion, batch=30, lr=2e-2), Classify()
    fitted = system.fit(ragged(), ragged(60, 1), task, RUN)
    unseen = ragged(60, 2)
    assert task.score(fitted.predict(unseen), unseen).value > 0.8
    fitted.save(tmp_path)
    loaded = FittedNetwork.load(tmp_path)
    assert loaded.system == system and (loaded.task.readout, loaded.task.criterion) == (readout, criterion)
    assert np.array_equal(loaded.predict(unseen).probabilities, fitted.predict(unseen).probabilities)


def test_it_says_what_it_accepts():
    assert SnnTutorial().accepts(ragged().schema, Classify()) is None
    assert SnnTutorial().accepts(Schema("series", ("x",)), Forecast()) == "it can classify; the task is forecast"


# --- the cost on spikes --------------------------------------------------------------------------------------------------


def test_the_cost_is_in_the_gradient_as_if_it_were_in_the_loss():
    x, lengths = torch.rand(3, 5, 4), torch.tensor([5, 1, 3])
    one, other = (x.clone().requires_grad_() for _ in range(2))
    (SpikeCost(0.7)(one, lengths=lengths)[0] ** 2).sum().backward()
    alive = other * (torch.arange(5) < lengths[:, None])[..., None]
    ((alive**2).sum() + 0.7 * alive.sum(1).mean()).backward()
    torch.testing.assert_close(one.grad, other.grad)
    assert SpikeCost(0.7).eval()(one)[0] is one, "in use there is nothing to charge"


def test_the_cost_is_a_cell():
    assert not [f"{r.name}: {r.reason}" for r in check(SpikeCost) if not r.passed]


def test_a_cost_quiets_the_hidden_layer():
    data = ragged(200)
    plain, charged = (
        SnnTutorial(hidden=24, spike_cost=cost, lr=2e-2).fit(data, data, Classify(), RUN) for cost in (0.0, 5.0)
    )
    assert hidden_spikes(charged, data).mean() < 0.5 * hidden_spikes(plain, data).mean()
    assert hidden_spikes(plain, data).shape == (200,)


# --- the link to spike timing --------------------------------------------------------------------------------------------


def test_the_window_has_the_signs_of_plasticity_and_fades_as_the_membrane_does():
    change = window(seed=3)
    assert change[0] == 0 and set(change) == set(range(-8, 9))
    assert all(change[-lag] < 0 for lag in range(1, 9))
    assert change[1] > 0 and all(change[lag] > change[lag + 1] for lag in range(1, 8))


def test_without_a_spike_nothing_is_strengthened():
    assert max(window(seed=3, fires=False).values()) <= 0


# --- codes and claims ----------------------------------------------------------------------------------------------------


def test_the_codes_share_their_pictures_and_random_spikes_are_drawn_by_seed():
    parts = {code: digits(Trial(0), code) for code in CODES}
    for code in CODES:
        np.testing.assert_array_equal(parts[code].test.target, parts["direct"].test.target)
    assert digits(Trial(0), "rate").test.fingerprint == parts["rate"].test.fingerprint
    assert digits(Trial(1), "rate").test.fingerprint != parts["rate"].test.fingerprint


def test_every_claim_has_its_terms():
    for name, claim in CLAIMS.items():
        terms = read_terms(terms_file(catalog.find("snn-tutorial")), name)
        assert set(terms.margins) == set(claim.margins)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_runs(name):
    assert set(CLAIMS[name].shows.arms) <= quick(CLAIMS[name]).keys()


def test_the_frugal_code_and_its_control_are_what_they_say():
    claim = CLAIMS["latency_needs_few_spikes"]
    assert claim(Trial(0))["latency"].value < 0.2 < claim(Trial(0, control=True))["latency"].value


def test_a_system_with_its_surrogate_survives_a_file(tmp_path):
    system = SnnTutorial(hidden=6, surrogate=Sigmoid(3.0), spike_cost=0.1)
    data = ragged(30)
    system.fit(data, data, Classify(), replace(RUN, updates=2)).save(tmp_path)
    assert FittedNetwork.load(tmp_path).system == system
