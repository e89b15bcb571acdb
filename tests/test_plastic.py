"""Plastic synapses: rules against their closed forms, and weights as state."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import timecell as tc
from timecell.errors import TimecellError
from timecell.neurons import IF
from timecell.state import flatten, index, reset, unflatten
from timecell.synapses import (
    STDP,
    DoubleTrace,
    Hebb,
    Oja,
    PlasticSynapse,
    ThreeFactor,
    Trace,
    TripletSTDP,
)
from timecell.testing import check

FREE = (-100.0, 100.0)
RULES = [
    STDP(a_plus=0.05, bounds=FREE), STDP(mu=1.0), TripletSTDP(a_plus=0.01), Hebb(decay=0.1), Oja(),
    ThreeFactor(Hebb(), tau=5.0), ThreeFactor(STDP(a_plus=0.05), tau=5.0),
]  # fmt: skip


def trains(*times, steps=100):
    """Spike trains [1, T, C]: one list of times a channel."""
    x = torch.zeros(1, steps, len(times), dtype=torch.float64)
    for channel, when in enumerate(times):
        x[0, list(when), channel] = 1
    return x


def move(rule, pre, post, w=0.0, modulator=None):
    """The weight of one synapse between two given trains, all of them driven by hand."""
    synapse = PlasticSynapse(
        2, 1, rule, IF(1, threshold=50.0, reset="hard"), weight=torch.tensor([[w, 90.0]], dtype=torch.float64)
    ).double()
    x = trains(pre, post)  # the second channel forces the unit to fire; what it learns is not looked at
    if modulator is not None:
        x = torch.cat([x, modulator.view(1, -1, 1)], -1)
    y, state = synapse(x)
    assert y[0, :, 0].nonzero().flatten().tolist() == sorted(post)
    return state["weight"][0, 0, 0].item() - w


# --- rules -------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(-45, 45), st.floats(1, 50), st.floats(1, 50), st.floats(0.001, 0.5), st.floats(0.001, 0.5))
def test_an_isolated_pair_gives_the_window_exactly(d, tau_plus, tau_minus, a_plus, a_minus):
    rule = STDP(a_plus, a_minus, tau_plus, tau_minus, bounds=FREE)
    window = a_plus * math.exp(-d / tau_plus) if d >= 0 else -a_minus * math.exp(d / tau_minus)
    assert abs(move(rule, pre=[50], post=[50 + d]) - window) < 1e-13


@settings(max_examples=10, deadline=None)
@given(st.sets(st.integers(0, 99), max_size=12), st.sets(st.integers(0, 99), max_size=12))
def test_many_spikes_add_up_over_all_pairs(pre, post):
    rule = STDP(0.02, 0.03, 12.0, 25.0, bounds=FREE)
    total = sum(
        rule.a_plus * math.exp(-(b - a) / rule.tau_plus)
        if b >= a
        else -rule.a_minus * math.exp((b - a) / rule.tau_minus)
        for a in pre
        for b in post
    )
    assert abs(move(rule, pre, post) - total) < 1e-12


def test_a_triplet_adds_what_the_earlier_spike_allows():
    rule = TripletSTDP(0.01, 0.02, 0.03, 0.04, bounds=FREE)
    up = math.exp(-2 / rule.tau_plus) * (rule.a_plus + rule.a_plus_slow * math.exp(-12 / rule.tau_post))
    down = math.exp(-10 / rule.tau_minus) * rule.a_minus
    assert abs(move(rule, pre=[30], post=[20, 32]) - (up - down)) < 1e-13
    up = math.exp(-10 / rule.tau_plus) * rule.a_plus
    down = math.exp(-2 / rule.tau_minus) * (rule.a_minus + rule.a_minus_slow * math.exp(-12 / rule.tau_pre))
    assert abs(move(rule, pre=[20, 32], post=[30]) - (up - down)) < 1e-13


def test_triplets_without_a_third_spike_are_pairs():
    pairs, triplets = STDP(0.02, 0.03, 12.0, 25.0, FREE), TripletSTDP(0.02, 0.03, 0.0, 0.0, 12.0, 25.0, bounds=FREE)
    pre, post = [3, 17, 18, 40, 77], [5, 18, 30, 70]
    assert abs(move(pairs, pre, post) - move(triplets, pre, post)) < 1e-13


def test_multiplicative_changes_go_a_share_of_the_way_to_the_bound():
    rule = STDP(a_plus=0.2, a_minus=0.1, bounds=(-1.0, 100.0), mu=1.0)
    up = 0.2 * math.exp(-3 / 20) * (100 - 4) / 101
    assert abs(move(rule, [10], [13], w=4.0) - up) < 1e-13
    down = -0.1 * math.exp(-3 / 20) * (4 + 1) / 101
    assert abs(move(rule, [13], [10], w=4.0) - down) < 1e-13


@pytest.mark.parametrize("mu", [0.0, 1.0])
def test_weights_stay_within_their_bounds(mu):
    rule = STDP(a_plus=0.3, a_minus=0.3, bounds=(0.2, 0.6), mu=mu)
    synapse = PlasticSynapse(6, 4, rule, tc.LIF(4, tau=3.0, threshold=0.5))
    assert synapse.weight.min() >= 0.2 and synapse.weight.max() <= 0.6
    state, reached = None, []
    for _ in range(60):
        _, state = synapse.step((torch.rand(3, 6) < 0.3).float(), state)
        reached.append(state["weight"].detach())
    reached = torch.stack(reached)
    assert reached.min() >= 0.2 and reached.max() <= 0.6
    assert mu or (reached.min() == 0.2 or reached.max() == 0.6)  # additive changes run into them


def test_oja_finds_the_first_principal_component():
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64))[0]
    spread = torch.tensor([2.0, 1.0, 0.7, 0.5, 0.3], dtype=torch.float64)
    x = (torch.randn(2, 2500, 5, generator=generator, dtype=torch.float64) * spread) @ axes.T
    _, state = PlasticSynapse(5, 1, Oja(rate=0.005)).double()(x)
    for b, w in enumerate(state["weight"][:, 0].detach()):
        first = torch.linalg.eigh(x[b].T @ x[b])[1][:, -1]
        assert abs(w @ first) / w.norm() > 0.99
        assert abs(w.norm() - 1) < 0.1


def test_hebb_with_decay_settles_at_the_correlation():
    x = torch.ones(1, 400, 2)
    _, state = PlasticSynapse(2, 3, Hebb(rate=0.02, decay=0.1), Fixed())(x)
    assert torch.allclose(state["weight"], torch.full((1, 3, 2), 0.02 * 0.5 / 0.1), atol=1e-5)


class Fixed(nn.Module):
    """Units that fire at 0.5 whatever comes."""

    def forward(self, x):
        return torch.full_like(x, 0.5)


# --- three factors -----------------------------------------------------------------------------------------------


def test_without_a_modulator_nothing_changes():
    synapse = PlasticSynapse(3, 2, ThreeFactor(STDP(a_plus=0.5)), tc.LIF(2, tau=2.0, threshold=0.3))
    x = torch.cat([(torch.rand(4, 40, 3) < 0.5).float(), torch.zeros(4, 40, 1)], -1)
    y, state = synapse(x)
    assert y.sum() > 10 and torch.equal(state["weight"], synapse.weight.expand(4, 2, 3))
    assert state["rule"].trace.abs().max() > 0.1  # it was all eligible
    _, later = synapse.step(torch.cat([torch.zeros(4, 3), torch.ones(4, 1)], -1), state)
    assert not torch.equal(later["weight"], state["weight"])


def test_a_late_modulator_finds_what_is_left_of_the_eligibility():
    rule, reward = ThreeFactor(STDP(0.02, 0.03, 12.0, 25.0, FREE), tau=30.0), torch.zeros(100, dtype=torch.float64)
    reward[60] = -2.0
    expected = -2.0 * 0.02 * math.exp(-4 / 12) * math.exp(-(60 - 34) / 30)
    assert abs(move(rule, [30], [34], modulator=reward) - expected) < 1e-13


def test_each_output_may_have_a_modulator_of_its_own():
    synapse = PlasticSynapse(3, 2, ThreeFactor(Hebb(rate=0.1)), Fixed())
    x = torch.cat([torch.ones(1, 5, 3), torch.tensor([0.0, 1.0]).expand(1, 5, 2)], -1)
    _, state = synapse(x)
    assert torch.equal(state["weight"][0, 0], synapse.weight[0]) and (state["weight"][0, 1] > synapse.weight[1]).all()


# --- weights as state --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda r: type(r).__name__)
def test_every_rule_keeps_the_contract_of_cells(rule):
    inputs = 3 if rule.modulated else 4
    weight = torch.rand(3, inputs) * 0.5 + 0.2
    cell = PlasticSynapse(inputs, 3, rule, nn.Tanh(), weight=weight, differentiable=True)
    failed = [f"{r.name}: {r.reason}" for r in check(cell) if not r.passed]
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: type(r).__name__)
def test_spiking_synapses_stream(rule):
    inputs = 4 if rule.modulated else 5
    synapse = PlasticSynapse(inputs, 3, rule, tc.LIF(3, tau=4.0, threshold=0.5), weight=torch.rand(3, inputs)).double()
    x = (torch.rand(2, 30, 5) < 0.3).double()
    whole, end = synapse(x)
    first, state = synapse(x[:, :11])
    second, state = synapse(x[:, 11:], state)
    assert torch.equal(torch.cat([first, second], 1), whole) and whole.sum() > 3
    assert all(torch.equal(a, b) for a, b in zip(flatten(state).values(), flatten(end).values()))


def test_the_weights_of_a_finished_sample_stay():
    synapse = PlasticSynapse(3, 2, STDP(a_plus=0.1), tc.LIF(2, tau=3.0, threshold=0.4))
    x, lengths = (torch.rand(3, 20, 3) < 0.4).float(), torch.tensor([20, 8, 0])
    y, state = synapse(
        torch.where(torch.arange(20)[None, :, None] < lengths[:, None, None], x, math.nan), lengths=lengths
    )
    assert not y[1, 8:].any() and not y[2].any()
    assert torch.equal(state["weight"][2], synapse.weight)
    _, alone = synapse(x[1:2, :8])
    assert torch.allclose(state["weight"][1], alone["weight"][0], atol=1e-6)
    assert not torch.equal(state["weight"][1], synapse.weight)


def test_the_state_can_be_written_indexed_and_reset():
    synapse = PlasticSynapse(3, 2, ThreeFactor(TripletSTDP()), tc.LIF(2, tau=3.0, threshold=0.2))
    _, state = synapse(torch.rand(4, 12, 4))
    flat = flatten(state)
    assert set(flat) == {
        "neuron.v", "weight", "rule.trace", *(f"rule.rule.{n}" for n in ("pre", "pre_slow", "post", "post_slow"))
    }  # fmt: skip
    back = unflatten(flat, state)
    x = torch.rand(4, 9, 4)
    assert torch.equal(synapse(x, back)[0], synapse(x, state)[0])
    assert torch.allclose(synapse(x[2:3], index(state, torch.tensor([2])))[0], synapse(x, state)[0][2:3], atol=1e-6)
    mixed = reset(state, torch.tensor([True, False, False, False]), synapse.initial_state(4, x))
    assert torch.equal(mixed["weight"][0], synapse.weight)
    assert torch.equal(mixed["weight"][1], state["weight"][1])


def test_it_composes_and_can_be_kept(tmp_path):
    net = tc.Sequential(nn.Linear(4, 3), PlasticSynapse(3, 2, ThreeFactor(Hebb()), tc.LIF(2)), tc.LeakyIntegrator(2))
    with pytest.raises(TimecellError, match="the modulator"):
        net(torch.rand(1, 5, 4))
    net = tc.Sequential(nn.Linear(4, 3), PlasticSynapse(3, 2, STDP(tau_plus=7.0), tc.LIF(2, decay="exp")))
    net.save_pretrained(tmp_path)
    x = torch.rand(2, 9, 4)
    assert torch.equal(tc.Sequential.from_pretrained(tmp_path)(x)[0], net(x)[0])


def test_gradients_stop_at_plasticity_unless_asked():
    """A linear unit's output at 1 depends on its input at 0 through the change of the weight alone."""
    for differentiable in (False, True):
        synapse = PlasticSynapse(2, 1, Hebb(rate=0.5), differentiable=differentiable)
        x = torch.rand(1, 2, 2, requires_grad=True)
        y, _ = synapse(x)
        along_x, along_w = torch.autograd.grad(y[0, 1, 0], [x, synapse.weight])
        assert bool(along_x[0, 0].any()) == differentiable
        assert along_w.any()
        if not differentiable:
            assert torch.allclose(along_w, x[0, 1:])  # the change counts as a constant


def test_it_says_once_that_it_is_a_python_loop(capsys, monkeypatch):
    monkeypatch.setattr("timecell.combine.feedback._announced", set())
    synapse = PlasticSynapse(2, 1, Hebb())
    synapse(torch.rand(1, 3, 2)), synapse(torch.rand(1, 3, 2))
    assert capsys.readouterr().err.count("PlasticSynapse runs as a Python loop") == 1


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: STDP(tau_plus=0.0), ["STDP(tau_plus)", "0.0", "> 0"]),
        (lambda: STDP(bounds=(1.0, 0.0)), ["STDP(bounds)", "(1.0, 0.0)"]),
        (lambda: TripletSTDP(mu=0.5, bounds=(0.0, math.inf)), ["TripletSTDP(mu)", "inf", "finite bounds"]),
        (lambda: ThreeFactor(ThreeFactor(Hebb())), ["ThreeFactor(rule)", "ThreeFactor"]),
        (lambda: PlasticSynapse(0, 2, Hebb()), ["PlasticSynapse(inputs, outputs)", "(0, 2)"]),
        (lambda: PlasticSynapse(2, 2, STDP(), weight=torch.full((2, 2), 3.0)), ["PlasticSynapse(weight)", "3", "(0.0, 1.0)"]),
        (lambda: PlasticSynapse(2, 2, STDP(), weight=torch.zeros(2, 3)), ["PlasticSynapse(weight)", "[2, 3]", "[2, 2]"]),
        (lambda: PlasticSynapse(2, 3, Hebb())(torch.zeros(1, 4, 5)), ["PlasticSynapse(x)", "[1, 4, 5]", "[B, T, 2]"]),
        (lambda: PlasticSynapse(2, 3, ThreeFactor(Hebb()))(torch.zeros(1, 4, 2)), ["[B, T, 3] or [B, T, 5]", "modulator"]),
        (lambda: PlasticSynapse(2, 3, Hebb(), nn.Linear(3, 4))(torch.zeros(1, 4, 2)), ["PlasticSynapse(neuron)", "[4]", "3"]),
        (
            lambda: PlasticSynapse(2, 3, Hebb())(torch.zeros(1, 4, 2), PlasticSynapse(2, 3, Hebb())(torch.zeros(2, 4, 2))[1]),
            ["PlasticSynapse(state)", "[2, 3, 2]", "[1, 3, 2]"],
        ),
    ],
)  # fmt: skip
def test_errors_name_the_argument_what_was_found_and_the_remedy(make, names):
    with pytest.raises(TimecellError) as error:
        make()
    for name in [*names, "Remedy"]:
        assert name in str(error.value), str(error.value)


# --- traces ------------------------------------------------------------------------------------------------------


def test_a_trace_is_the_sum_of_exponentials_of_its_spikes():
    x = trains([3, 4, 20], [0, 50])
    t = torch.arange(100, dtype=torch.float64)
    y, _ = Trace(2, tau=9.0).double()(x)
    expected = sum(torch.where(t >= s, torch.exp(-(t - s) / 9), 0) for s in (3, 4, 20))
    assert torch.allclose(y[0, :, 0], expected, atol=1e-6)
    y, _ = DoubleTrace(2, tau=9.0, tau_rise=2.0).double()(x)
    expected = sum(torch.where(t >= s, torch.exp(-(t - s) / 9) - torch.exp(-(t - s) / 2), 0) for s in (0, 50))
    assert torch.allclose(y[0, :, 1], expected, atol=1e-6)
