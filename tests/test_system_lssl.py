"""`lssl`: the net changes its clock, streams, and reads a user's own sequences and series."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from timecell import catalog
from timecell.checkpoint import seeded
from timecell.claims import Trial, load_claims, quick, read_terms, terms_file
from timecell.data.containers import Schema, Sequences, Series
from timecell.memory.linear_ssm import LinearSSM, resampled
from timecell.network_system import FittedNetwork
from timecell.system import Run
from timecell.systems.memory.claims.lssl import scanned
from timecell.systems.memory.lssl import LinearStateSpace
from timecell.tasks import Classify, Forecast

RUN = Run(updates=40, device="cpu")
CLAIMS = load_claims("lssl")
SMALL = LinearStateSpace(hidden=8, states=8, dt=(1e-2, 1e-1))


def ragged(n=90, seed=0):
    """Two classes told apart by the sign of the first step, which noise follows; samples of 12 to 30 steps."""
    rng = np.random.default_rng(seed)
    label = rng.integers(2, size=n)
    samples = [rng.normal(0.0, 0.1, (rng.integers(12, 31), 2)) for _ in label]
    for sample, k in zip(samples, label):
        sample[:4, 0] += 2.0 * k - 1
    return Sequences.of(samples, label, classes=("down", "up"))


@pytest.mark.parametrize("settings", [{}, {"learn": True}, {"memory": "legt"}, {"outputs": 2, "layers": 1}])
def test_it_learns_sequences_of_ones_own(settings, tmp_path):
    system, task = replace(SMALL, **settings), Classify("last")
    fitted = system.fit(ragged(), ragged(60, 1), task, RUN)
    unseen = ragged(60, 2)
    assert task.score(fitted.predict(unseen), unseen).value > 0.9
    fitted.save(tmp_path)
    loaded = FittedNetwork.load(tmp_path)
    assert loaded.system == system
    assert np.array_equal(loaded.predict(unseen).probabilities, fitted.predict(unseen).probabilities)
    assert {"parameters", "updates", "seconds"} <= fitted.report.keys()


def test_it_forecasts():
    t = np.arange(600)
    series = Series(np.sin(t / 5)[:, None], Schema("series", ("x",)))
    task = Forecast(horizon=4, history=24)
    splits = task.split(series)
    fitted = SMALL.fit(splits.train, splits.valid, task, replace(RUN, updates=80))
    assert task.score(fitted.predict(splits.test), splits.test).metrics["mase"] < 1


def test_what_the_rate_is_does_not_matter_where_the_input_is_held():
    """Twice the samples of a held signal and half the step: nearly the same answer at the end."""
    with seeded(0):
        net = replace(SMALL, dt=(1e-3, 1e-2)).build(Schema("sequences", ("x", "y")), 3).eval()
    x = torch.randn(4, 10, 2).repeat_interleave(4, 1)
    with torch.no_grad():
        own, half = net(x)[0][:, -1], resampled(net, 2.0)(x.repeat_interleave(2, 1))[0][:, -1]
        wrong = net(x.repeat_interleave(2, 1))[0][:, -1]
    assert (half - own).abs().max() < 0.2 * (wrong - own).abs().max()


def test_it_streams():
    with seeded(0):
        net = SMALL.build(Schema("sequences", ("x", "y")), 3).eval()
    x, state, parts = torch.randn(2, 30, 2), None, []
    with torch.no_grad():
        for t in range(30):
            y, state = net.step(x[:, t], state)
            parts.append(y)
        torch.testing.assert_close(torch.stack(parts, 1), net(x)[0], rtol=1e-4, atol=1e-5)


def test_what_is_trained_slowly():
    with seeded(0):
        net = replace(SMALL, learn=True).build(Schema("sequences", ("x",)), 2)
    rates = {id(p): group["peak"] for group in SMALL.recipe().stages[0].groups(net) for p in group["params"]}
    layer = next(m for m in net.modules() if isinstance(m, LinearSSM))
    assert rates[id(layer.log_dt)] == rates[id(layer.memory.diagonal)] == pytest.approx(1e-3 * rates[id(layer.read)])


def test_scans_show_each_row_and_then_noise():
    data = scanned(seed=0, delay=5, shown=3)
    assert data[0].shape == (29, 8) and (data[0][0] == data[0][2]).all() and (data[0][2] != data[0][3]).any()
    assert np.abs(data[0][24:]).max() < 0.6


def test_the_card_and_the_terms():
    card = catalog.read_card(catalog.find("lssl"))
    assert card == LinearStateSpace.card and (card.n, card.family) == (43, "memory")
    for name, claim in CLAIMS.items():
        assert set(read_terms(terms_file(catalog.find("lssl")), name).margins) == set(claim.margins)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_runs(name):
    assert set(CLAIMS[name].shows.arms) <= quick(CLAIMS[name]).keys()


def test_a_state_of_legs_holds_the_past():
    measured = CLAIMS["state_holds_the_past"](Trial(0))
    assert measured["LegS"].value < 0.01 and measured["LegS, by the formula"].value < 0.12
    assert measured["random A"].value > 0.5
