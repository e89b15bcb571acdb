"""`emergent-timescales`: the unit's step, heads, curricula that go on where they were, and a user's own sequences."""

import numpy as np
import pytest
import torch

from timecell import catalog
from timecell.checkpoint import seeded
from timecell.claims import Trial, load_claims, quick, read_terms, terms_file
from timecell.data.containers import Schema, Sequences
from timecell.data.synthetic.memory_tasks import label
from timecell.network_system import FittedNetwork
from timecell.neurons import LeakyRate
from timecell.system import Run
from timecell.systems.memory.claims.emergent_timescales import disturbed
from timecell.systems.memory.emergent_timescales import LastBits, LeakyMemory, Others, learn, own_tau, streams
from timecell.tasks import Classify, Forecast

CLAIMS = load_claims("emergent-timescales")
BITS = Schema("sequences", ("bit",))


def net(hidden=6, outputs=4, seed=0, tau=None):
    with seeded(seed):
        made = LeakyMemory(hidden=hidden).build(BITS, outputs)
        if tau is not None:
            units = LeakyRate(hidden, tau=tau, activation="leaky_relu", learn=())
            made[1]._modules["neuron"] = units
    return made.double()


def by_hand(made, x, tau):
    f, w = torch.nn.functional.leaky_relu, made[1].synapse.weight
    h = x.new_zeros(len(x), len(w))
    for t in range(x.shape[1]):
        h = f((1 - 1 / tau) * h + (h @ w.T + made[0](x[:, t])) / tau)
    return made[2](h)


@pytest.mark.parametrize("tau", [1.0, 1.7, 50.0])
def test_the_step_is_the_papers(tau):
    made, x = net(tau=tau), torch.randint(2, (3, 12, 1)).double()
    torch.testing.assert_close(made(x)[0][:, -1], by_hand(made, x, tau))


def test_tau_of_one_is_the_ordinary_recurrent_net():
    made, x = net(tau=1.0), torch.randint(2, (3, 7, 1)).double()
    f, h = torch.nn.functional.leaky_relu, torch.zeros(3, 6).double()
    for t in range(7):
        h = f(made[1].synapse(h) + made[0](x[:, t]))
    torch.testing.assert_close(made(x)[0][:, -1], made[2](h))


def test_a_very_long_tau_freezes_the_state():
    made = net(tau=1e9)
    _, state = made[1](made[0](torch.ones(1, 20, 1).double()))
    assert state["y"].abs().max() < 1e-6


def test_blame_reaches_tau_which_never_falls_to_one():
    made = net()
    made(torch.randint(2, (8, 10, 1)).double())[0][:, -1].square().sum().backward()
    assert (made[1].neuron.tau_raw.grad != 0).all()
    with torch.no_grad():
        made[1].neuron.tau_raw -= 5.0
    assert (own_tau(made) > 1).all() and (own_tau(made) < 1.02).all()


def test_no_unit_hears_itself_before_and_after_training():
    learnt = learn("dms", "cumulative", 2, 2, between=5, system=LeakyMemory(hidden=8, batch=16))
    assert learnt.curriculum.levels == (2,)
    synapse = Others(5)
    assert (synapse.weight.diagonal() == 0).all()
    with torch.no_grad():
        synapse.weight += 1
    synapse.constrain()
    assert (synapse.weight.diagonal() == 0).all() and synapse.weight.count_nonzero() == 20
    assert (disturbed(net(), 0.3, 0)[1].synapse.weight.diagonal() == 0).all()


# --- heads ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["dms", "parity"])
def test_the_loss_is_the_sum_over_heads_of_the_last_step(rule):
    batch = streams(rule, 4, 6, seed=0, draw=0).batch(np.arange(6))
    y = torch.randn(6, batch.x.shape[1], 6)
    task, expected = LastBits(rule, (2, 4)), 0.0
    for n, columns in ((2, slice(0, 2)), (4, slice(4, 6))):
        ends = torch.stack([y[i, batch.lengths[i] - 1, columns] for i in range(6)])
        expected += torch.nn.functional.cross_entropy(ends, label(rule, n, batch.x, batch.lengths))
    whole = task.loss(y, batch, slice(0, y.shape[1]))
    parts = task.loss(y[:, :7], batch, slice(0, 7)) + task.loss(y[:, 7:], batch, slice(7, y.shape[1]))
    torch.testing.assert_close(whole, expected)
    torch.testing.assert_close(parts, expected)


def test_heads_are_scored_one_by_one():
    data = streams("dms", 4, 50, seed=0, draw=0)
    task = LastBits("dms", (2, 3))
    truth = task.truth(data.batch(np.arange(50)))
    truth[:10, 0] = 1 - truth[:10, 0]
    scores = task.score(truth, data)
    assert scores.metrics == pytest.approx({"2": 0.8, "3": 1.0}) and scores.primary == "3"


def test_heads_that_are_not_trained_do_not_move():
    start = net(hidden=64, outputs=2, seed=0)
    assert start[2].weight.shape == (2, 64)
    learnt = learn("dms", "single", 4, 2, between=40, seed=1)
    assert learnt.solved and learnt.curriculum.newest > 2
    with seeded(1):
        first = LeakyMemory().build(BITS, 6)
    hardest = learnt.solved[2][2].weight[2 * (4 - 2) :]
    assert torch.equal(hardest, first[2].weight[4:])


def test_streams_are_never_seen_twice():
    drawn = {streams("dms", 3, 20, seed, draw).fingerprint for seed in (0, 1) for draw in range(4)}
    assert len(drawn) == 8


# --- as a system ---------------------------------------------------------------------------------------------------------


def test_it_learns_sequences_of_ones_own(tmp_path):
    def data(n, seed):
        rng = np.random.default_rng(seed)
        first = rng.integers(2, size=n)
        samples = [rng.normal(0, 0.3, (rng.integers(4, 8), 2)) for _ in range(n)]
        for sample, k in zip(samples, first):
            sample[0, 1] += 4.0 * k - 2
        return Sequences.of(samples, first, classes=("a", "b"))

    system, task = LeakyMemory(hidden=24, lr=1e-2, batch=32), Classify("last")
    fitted = system.fit(data(100, 0), data(50, 1), task, Run(updates=60, device="cpu"))
    unseen = data(80, 2)
    assert task.score(fitted.predict(unseen), unseen).value > 0.9
    fitted.save(tmp_path)
    loaded = FittedNetwork.load(tmp_path)
    assert np.array_equal(loaded.predict(unseen).probabilities, fitted.predict(unseen).probabilities)
    assert {"parameters", "updates", "seconds"} <= fitted.report.keys()


def test_it_says_what_it_accepts():
    sequences, series = Schema("sequences", ("x",), classes=("a", "b")), Schema("series", ("x",))
    assert LeakyMemory().accepts(sequences, Classify()) is None
    assert LeakyMemory().accepts(series, Forecast()) == "it can classify; the task is forecast"


# --- its claims ----------------------------------------------------------------------------------------------------------


def test_the_card_and_the_terms():
    path = catalog.find("emergent-timescales")
    card = catalog.read_card(path)
    assert card == LeakyMemory.card and (card.n, card.family) == (5, "memory")
    for name, claim in CLAIMS.items():
        assert set(read_terms(terms_file(path), name).margins) == set(claim.margins)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_runs(name):
    assert set(CLAIMS[name].shows.arms) <= quick(CLAIMS[name]).keys()


def test_both_curricula_begin_with_the_same_net():
    control = CLAIMS["many_heads_keep_units_fast"](Trial(3, quick=True, control=True))
    assert control["single"].value == control["cumulative"].value
