"""Rules made of parts: every combination, against autograd and against loops written out by hand."""

import itertools
import json
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
import torch
from torch import nn

import timecell as tc
from timecell import fuse
from timecell.config import from_dict, to_dict
from timecell.credit import (
    BPTT,
    OTTT,
    RTRL,
    SLTT,
    Backprop,
    Eligibility,
    EProp,
    Factors,
    FixedFeedback,
    Full,
    Gradient,
    Instantaneous,
    LocalHead,
    OrthogonalProjection,
    PresynapticTrace,
    RandomSteps,
    ReadoutFeedback,
    Rule,
    Truncated,
    TruncatedBPTT,
    layers_of,
)  # fmt: skip
from timecell.credit.checks import (
    CHECKS,
    by_autograd,
    check,
    every_step,
    example_batch,
    example_net,
    gradients,
    peak_bytes,
    rules,
)  # fmt: skip
from timecell.credit.counter_current import CounterCurrent, with_counter_current
from timecell.credit.online import TESS
from timecell.credit.space_paths import fixed_weights
from timecell.credit.traces import TracePair
from timecell.data.containers import Batch, Sequences
from timecell.errors import InputError
from timecell.fuse.jacobian import jacobian
from timecell.recipe import Recipe, Stage
from timecell.state import detach
from timecell.system import Run
from timecell.tasks import Classify

LENGTHS = torch.tensor([8, 3, 1, 5])
TIME = [Full(), Truncated(3), Instantaneous(3), RandomSteps(3, k=5), PresynapticTrace(3), TracePair(3),
        Eligibility(), Eligibility(3)]  # fmt: skip
SPACE = [Backprop(), FixedFeedback(), FixedFeedback("sign"), ReadoutFeedback(), LocalHead(), CounterCurrent()]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def plain(factors, synapse):
    """The gradient, by a function of one's own: the rule then goes layer by layer."""
    return Gradient()(factors, synapse)


def same(found, truth, tolerance=1e-10):
    assert found.keys() == truth.keys()
    return all(torch.allclose(found[n], truth[n], rtol=0, atol=tolerance) for n in truth)


def recurrent_net():
    cell = tc.Recurrent(tc.LIF(5, tau=4.0, threshold=0.5), nn.Linear(5, 5))
    return tc.Sequential(nn.Linear(3, 5), cell, nn.Linear(5, 2), tc.LeakyIntegrator(2, tau=4.0)).double()


def image_net(norm=True):
    units = tc.LIF((3, 1, 1), tau=4.0, threshold=0.3, learn=("tau",))
    middle = [nn.BatchNorm2d(3)] if norm else []
    body = [nn.Conv2d(1, 3, 3, stride=2, padding=1), *middle, units, nn.Flatten(), nn.Linear(27, 2)]
    return tc.Sequential(*body).double()


def image_batch():
    x = torch.rand(2, 5, 1, 6, 6, dtype=torch.float64)
    return Batch(x, torch.tensor([0, 1]), torch.tensor([5, 3]))


# --- every rule, every combination --------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", list(rules()), ids=lambda r: type(r).__name__)
def test_every_rule_keeps_the_contract(rule):
    for result in check(rule):
        assert result.passed, f"{result.name}: {result.promise}\n{result.reason}"


@pytest.mark.parametrize(("time", "space"), list(itertools.product(TIME, SPACE)), ids=str)
def test_every_combination_of_parts_works(time, space):
    rule, net, batch = Rule(time, space, plain), example_net(1), example_batch(lengths=LENGTHS)
    if space == CounterCurrent():
        with_counter_current(net)
    loss, found = gradients(rule, net, batch)
    assert torch.allclose(loss, by_autograd(net, batch)[0])
    assert all(g.isfinite().all() and g.abs().max() > 0 for g in found.values())
    assert rule.local == (space != Backprop())


def test_parts_are_in_the_test_above():
    """Whoever adds a part adds it to the grid."""
    from timecell import credit
    from timecell.testing import walk

    found = {k for k in walk(object, "timecell.credit") if hasattr(k, "__dataclass_fields__")}
    assert {k for k in found if hasattr(k, "traced")} == {type(t) for t in TIME}
    assert {k for k in found if hasattr(k, "teach")} == {type(s) for s in SPACE}
    assert all(k.__name__ in credit.__all__ for k in found if hasattr(k, "traced") or hasattr(k, "teach"))


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "ragged"])
@pytest.mark.parametrize("build", [example_net, recurrent_net], ids=["feedforward", "recurrent"])
def test_going_layer_by_layer_changes_nothing(build, lengths):
    net, batch = build(), example_batch(lengths=lengths)
    assert same(gradients(Rule(Full(), Backprop(), plain), net, batch)[1], by_autograd(net, batch)[1])
    for whole, time in ((TruncatedBPTT(3), Truncated(3)), (SLTT(1), Instantaneous(1))):
        assert same(gradients(Rule(time, Backprop(), plain), net, batch)[1], gradients(whole, net, batch)[1])


def test_convolutions_norms_and_dropout_layer_by_layer():
    net, batch = image_net(), image_batch()
    assert same(gradients(Rule(Full(), Backprop(), plain), net, batch)[1], by_autograd(net, batch)[1])
    from timecell.layers import Dropout

    body = [nn.Linear(3, 6), nn.LayerNorm(6), tc.LIF(6, threshold=0.5), Dropout(0.3), nn.Linear(6, 2)]
    net, batch = tc.Sequential(*body).double(), example_batch()
    found = []
    for rule in (SLTT(2), Rule(Instantaneous(2), Backprop(), plain)):
        torch.manual_seed(3)
        found.append(gradients(rule, net, batch)[1])
    assert same(*found)


def test_a_nested_net_is_a_flat_one():
    torch.manual_seed(0)
    flat = example_net()
    nested = tc.Sequential(flat[0], tc.Sequential(flat[1], flat[2], flat[3]), flat[4], flat[5])
    assert [layer.name for layer in layers_of(nested)] == ["1.0", "1.2", "3"]
    one, other = (gradients(OTTT(), net, example_batch())[1] for net in (flat, nested))
    assert all(torch.equal(a, b) for a, b in zip(one.values(), other.values()))


def test_frozen_weights_get_no_gradient():
    net = example_net()
    net[0].weight.requires_grad_(False)
    gradients(EProp(), net, example_batch())
    assert net[0].weight.grad is None and net[0].bias.grad is not None and net[2].weight.grad is not None


@dataclass(frozen=True)
class Only:
    """Teaches one layer."""

    number: int
    crosses = False

    def teach(self, lesson):
        blame = torch.ones_like(lesson.y)
        return blame if lesson.number == self.number else torch.zeros_like(blame)


@pytest.mark.parametrize("time", TIME, ids=str)
def test_a_layer_that_is_not_taught_does_not_move(time):
    net, batch = example_net(3), example_batch()
    found = gradients(Rule(time, Only(1)), net, batch, lambda y, b, s: 0 * y.sum())[1]
    assert {n for n, g in found.items() if g.abs().max() > 0} == {"2.weight", "2.bias", "3.tau_raw"}


# --- SLTT ----------------------------------------------------------------------------------------------------------


def saved_bytes(net, rule, T):
    """The most bytes that autograd keeps for one slice, what comes in (3 channels) excluded."""
    batch, peak, held, state = example_batch(T), 0, 0, None
    gradients(rule, net, batch)

    def pack(t):
        nonlocal held
        held += 0 if t.shape[-1:] == (3,) else t.untyped_storage().nbytes()
        return t

    for steps in rule.slices(T):
        held = 0
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            _, state = rule.backward(net, batch, steps, state, every_step)
        peak, state = max(peak, held), detach(state)
    return peak


def test_sltt_saves_the_same_at_every_length_and_bptt_does_not():
    net = example_net()
    sizes = [saved_bytes(net, SLTT(4), T) for T in (4, 16, 64)]
    assert max(sizes) < 1.1 * min(sizes)
    assert saved_bytes(net, BPTT(), 64) >= 10 * saved_bytes(net, BPTT(), 4)


@pytest.mark.parametrize("rule", [SLTT(), OTTT(), EProp(), Rule(PresynapticTrace(), LocalHead())], ids=str)
def test_memory_is_flat_in_time_and_additive_in_depth(rule):
    one, two, three = (peak_bytes(rule, 8, hidden) for hidden in (1, 2, 3))
    assert peak_bytes(rule, 32, 2) < 1.1 * two
    assert three - two < 1.25 * (two - one)


def test_sltt_is_the_whole_sequence_without_carry():
    net, batch = example_net(), example_batch(lengths=LENGTHS)
    with fuse.carry("none"):
        truth = by_autograd(net, batch)[1]
    for steps in (1, 3, 4, 8):
        assert same(gradients(SLTT(steps), net, batch)[1], truth, 1e-6)
    assert not same(by_autograd(net, batch)[1], truth, 1e-4)


@dataclass(frozen=True)
class These(RandomSteps):
    """The steps of one draw."""

    drawn: tuple[int, ...] = ()

    def weights(self, steps):
        return torch.zeros(steps, dtype=torch.float64).index_fill(0, torch.tensor(self.drawn), steps / len(self.drawn))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_mean_of_all_draws_of_steps_is_sltt(k):
    net, batch = example_net(), example_batch(5)
    truth = gradients(SLTT(2), net, batch)[1]
    draws = [gradients(Rule(These(2, k, s)), net, batch)[1] for s in itertools.combinations(range(5), k)]
    mean = {n: torch.stack([d[n] for d in draws]).mean(0) for n in truth}
    assert same(mean, truth, 1e-10)  # so the rule already counts each drawn step T / k times
    assert not same(draws[0], truth, 1e-4)


def test_draws_reach_every_subset_and_follow_the_seed():
    def draw():
        return tuple(RandomSteps(k=2).weights(4).nonzero().flatten().tolist())

    assert {draw() for _ in range(200)} == set(itertools.combinations(range(4), 2))
    state = torch.get_rng_state()
    first = [draw() for _ in range(5)]
    torch.set_rng_state(state)
    assert [draw() for _ in range(5)] == first
    net, batch = example_net(), example_batch()
    torch.set_rng_state(state)
    one = gradients(SLTT(3, k=2), net, batch)[1]
    torch.set_rng_state(state)
    assert same(gradients(SLTT(8, k=2), net, batch)[1], one)  # one draw a sequence, however it is cut
    assert same(gradients(SLTT(4, k=8), net, batch)[1], gradients(SLTT(4), net, batch)[1])
    assert same(gradients(SLTT(4, k=99), net, batch)[1], gradients(SLTT(4), net, batch)[1])


def test_steps_that_are_not_drawn_run_without_a_graph():
    seen = []

    class Spy(nn.Identity):
        def forward(self, x):
            seen.append((torch.is_grad_enabled(), len(x)))
            return x

    net = tc.Sequential(nn.Linear(3, 2), Spy()).double()
    gradients(SLTT(4, k=2), net, example_batch(16))
    assert sum(n for on, n in seen if on) == 2 * 4 and sum(n for _, n in seen) == 16 * 4  # of 4 samples


# --- OTTT, e-prop, RTRL --------------------------------------------------------------------------------------------


def ottt_by_hand(net, batch):
    """Xiao et al. (2022), for two layers of LIF units with soft reset: every sum written out."""
    found = {n: torch.zeros_like(p) for n, p in net.named_parameters()}
    (w1, b1), (w2, b2) = ((net[i].weight.detach(), net[i].bias.detach()) for i in (0, 2))
    share, theta = 1 - 1 / 4.0, 0.5
    T = batch.x.shape[1]
    for x, label in zip(batch.x, batch.target):
        v1, v2, a0, a1, ones = torch.zeros(5).double(), torch.zeros(2).double(), 0.0, 0.0, 0.0
        for t in range(T):
            u1 = share * v1 + w1 @ x[t] + b1
            s1 = (u1 >= theta).double()
            u2 = share * v2 + w2 @ s1 + b2
            s2 = (u2 >= theta).double()
            v1, v2 = u1 - theta * s1, u2 - theta * s2
            a0, a1, ones = share * a0 + x[t], share * a1 + s1, share * ones + 1
            error = (torch.softmax(s2, 0) - nn.functional.one_hot(label, 2)) / T / len(batch)
            g2 = error * tc.neurons.surrogate.ATan().derivative(u2 - theta)
            g1 = (w2.T @ g2) * tc.neurons.surrogate.ATan().derivative(u1 - theta)
            found["2.weight"] += torch.outer(g2, a1)
            found["0.weight"] += torch.outer(g1, a0)
            found["2.bias"] += g2 * ones
            found["0.bias"] += g1 * ones
    return found


def test_ottt_is_what_its_paper_defines():
    spiking = [nn.Linear(3, 5), tc.LIF(5, tau=4.0, threshold=0.5), nn.Linear(5, 2), tc.LIF(2, tau=4.0, threshold=0.5)]
    net, batch = tc.Sequential(*spiking).double(), example_batch()
    truth = ottt_by_hand(net, batch)
    assert max(g.abs().max() for g in truth.values()) > 1e-3
    for steps in (1, 3, 8):
        assert same(gradients(OTTT(steps), net, batch)[1], truth)
    assert not same(by_autograd(net, batch)[1], truth, 1e-4)


def test_ottt_is_exact_where_a_reset_carries_no_blame():
    batch = example_batch(lengths=LENGTHS)
    for detach_reset in (True, False):
        net = tc.Sequential(nn.Linear(3, 2), tc.LIF(2, tau=4.0, threshold=0.5, detach=detach_reset)).double()
        found, truth = gradients(OTTT(), net, batch)[1], by_autograd(net, batch)[1]
        assert same(found, truth) == detach_reset


class Resonator(tc.Neuron):
    """Two states that turn into each other, and a learnt parameter for each unit."""

    u: tc.State
    v: tc.State
    omega = tc.param(0.5, unit="rad/step", per="unit")

    @staticmethod
    def dynamics(x, s, p):
        u = 0.9 * (torch.cos(p.omega) * s.u - torch.sin(p.omega) * s.v) + x
        v = 0.9 * (torch.sin(p.omega) * s.u + torch.cos(p.omega) * s.v)
        return tc.spike(v - 0.3), s._replace(u=u, v=v)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "ragged"])
@pytest.mark.parametrize(
    ("units", "readout"), [("lif", "none"), ("adaptive", "integrator"), ("resonator", "integrator")]
)
def test_eprop_with_backprop_is_exact_for_one_hidden_layer(units, readout, lengths):
    """Of any units, resets that carry blame and learnt parameters included, under a linear or leaky readout."""
    cell = {"lif": lambda: tc.LIF(5, threshold=0.5), "resonator": lambda: Resonator(5)}
    cell["adaptive"] = lambda: tc.AdaptiveLIF(5, tau=3.0, threshold=0.5, learn=("beta", "tau", "tau_a"))
    top = [tc.LeakyIntegrator(2, tau=3.0, input="scaled")] if readout == "integrator" else []
    net = tc.Sequential(nn.Linear(3, 5), cell[units](), nn.Linear(5, 2), *top).double()
    batch = example_batch(lengths=lengths)
    with fuse.backend("plain"):
        truth = by_autograd(net, batch)[1]
    for rule in (Rule(Eligibility(3)), EProp(space=ReadoutFeedback())):
        found = gradients(rule, net, batch)[1]
        scaled = readout == "integrator" and rule.local  # the error itself, without the readout's gain of 1 / tau
        assert same({n: g / 3 if scaled and n[0] in "01" else g for n, g in found.items()}, truth)


def test_eprop_is_exact_for_images_and_for_nothing_deeper():
    net, batch = image_net(norm=False), image_batch()
    assert same(gradients(Rule(Eligibility()), net, batch)[1], by_autograd(net, batch)[1])
    net, batch = example_net(2), example_batch()
    found, truth = gradients(Rule(Eligibility()), net, batch)[1], by_autograd(net, batch)[1]
    assert same({n: g for n, g in found.items() if n[0] in "2345"}, {n: g for n, g in truth.items() if n[0] in "2345"})
    assert not same(found, truth, 1e-5)


def test_eprop_of_recurrent_units_leaves_out_only_what_units_do_to_each_other():
    net, batch = recurrent_net(), example_batch()
    found = gradients(Rule(Eligibility()), net, batch)[1]
    assert not same(found, by_autograd(net, batch)[1], 1e-4)

    class Cut(nn.Linear):
        def forward(self, x):
            return super().forward(x.detach())

    net[1].synapse.__class__ = Cut
    assert same(found, by_autograd(net, batch)[1])


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "ragged"])
def test_rtrl_is_bptt(lengths):
    gated = tc.Sequential(tc.GRU(3, 4), nn.Linear(4, 2)).double()
    for net in (recurrent_net(), gated, example_net()):
        batch = example_batch(lengths=lengths)
        assert same(gradients(RTRL(), net, batch)[1], gradients(BPTT(), net, batch)[1], 1e-10)


# --- trace pairs ---------------------------------------------------------------------------------------------------


def tess_by_hand(net, batch, causal, acausal):
    """The gradients of a net's weights by the sums of the definition, written out over pairs of steps."""
    found, x = {}, batch.x
    for number, layer in enumerate(layers_of(net)):
        sent = (x @ layer.synapse.weight.T + layer.synapse.bias).detach()
        state, ys, psis = [torch.zeros_like(sent[:, 0])], [], []
        for sent_t in sent.unbind(1):
            now = jacobian(layer.cell)(sent_t, state)
            state = now.state
            ys.append(now.y)
            psis.append(now.dy_dx)
        y, psi = torch.stack(ys, 1), torch.stack(psis, 1)
        blame = y.clone().requires_grad_()
        last = layer.readout is None
        z = blame if last else blame @ fixed_weights(LocalHead(), number, 2, y.shape[2], y).T / y.shape[2]
        every_step(z, batch, slice(0, x.shape[1])).backward()
        m, total = blame.grad, 0
        for t in range(x.shape[1]):
            for s in range(t + 1):
                if last:
                    total = total + (m[:, t] * psi[:, t]).T @ x[:, s] * (s == t)
                else:
                    total = total + causal * 0.5 ** (t - s) * (m[:, t] * psi[:, t]).T @ x[:, s]
                    total = total + acausal * 0.2 ** (t - 1 - s) * (m[:, t] * psi[:, s]).T @ x[:, t] * (s < t)
        found[layer.name], x = total, y
    return found


@pytest.mark.parametrize(("causal", "acausal"), [(1.0, 1.0), (1.0, 0.0), (0.5, -0.2)])
def test_trace_pairs_are_the_sums_that_define_them(causal, acausal):
    net, batch = example_net(), example_batch()
    truth = tess_by_hand(net, batch, causal, acausal)
    for steps in (1, 3, 8):
        found = gradients(TESS(steps, causal, acausal), net, batch)[1]
        for name, gradient in truth.items():
            assert torch.allclose(found[f"{int(name) - 1}.weight"], gradient, atol=1e-12), (steps, name)


@pytest.mark.parametrize("build", [example_net, recurrent_net], ids=["feedforward", "recurrent"])
def test_without_memory_a_trace_pair_is_the_gradient_of_the_instant(build):
    net, batch = build(), example_batch(lengths=LENGTHS)
    pair = TracePair(3, decay_pre=0.0, decay_post=0.0, acausal=0.0)
    for space in (Backprop(), LocalHead()):
        found, truth = (gradients(Rule(time, space), net, batch)[1] for time in (pair, Instantaneous(3)))
        assert all(torch.allclose(found[n], truth[n], atol=1e-12) for n in truth)


def test_only_the_last_steps_are_taught():
    net, batch = example_net(), example_batch()

    def late(y, b, steps):
        return sum(every_step(y[:, i : i + 1], b, slice(t, t + 1)) for i, t in enumerate(range(steps.start, steps.stop))
                   if t >= 5) + 0 * y.sum()  # fmt: skip

    found = gradients(TESS(4, last=3), net, batch)[1]
    truth = gradients(TESS(4), net, batch, late)[1]
    assert same(found, truth, 1e-12) and not same(found, gradients(TESS(4), net, batch)[1], 1e-4)


# --- updates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("time", TIME, ids=str)
def test_a_projected_update_learns_nothing_along_the_subspace(time):
    for net, batch in ((example_net(), example_batch()), (image_net(norm=False), image_batch())):
        rows = {m: torch.linalg.qr(torch.randn(m.weight[0].numel(), 2).double())[0].T for m in (net[0], net[2])
                if isinstance(m, nn.Linear | nn.Conv2d)}  # fmt: skip
        found = gradients(Rule(time, update=OrthogonalProjection(rows.get)), net, batch)[1]
        free = gradients(Rule(time), net, batch)[1]
        for index, module in enumerate(net):
            if module in rows and not isinstance(time, RandomSteps):
                moved, would = (g[f"{index}.weight"].flatten(1) for g in (found, free))
                assert (moved @ rows[module].T).abs().max() < 1e-12 < (would @ rows[module].T).abs().max()
                assert torch.allclose(moved, would - would @ rows[module].T @ rows[module])


def test_an_update_sees_the_factors_of_every_synapse():
    seen = {}

    def spy(factors: Factors, synapse):
        seen[synapse] = (tuple(factors.delta.shape), tuple(factors.pre.shape))
        return Gradient()(factors, synapse)

    net, images = recurrent_net(), image_net()
    gradients(Rule(Full(), update=spy), net, example_batch())
    assert seen[net[0]] == ((4, 8, 5), (4, 8, 3)) and seen[net[1].synapse] == ((4, 8, 5), (4, 8, 5))
    gradients(Rule(Eligibility(2), update=spy), net, example_batch())
    assert seen[net[0]] == ((4, 2, 5), (4, 2, 5, 3))
    gradients(Rule(Full(), update=spy), images, image_batch())
    assert seen[images[0]] == ((2, 5, 9, 3), (2, 5, 9, 9))


# --- refusals ------------------------------------------------------------------------------------------------------


def refused(rule, net, batch=None):
    with pytest.raises(InputError) as e:
        gradients(rule, net.double(), example_batch() if batch is None else batch)
    return str(e.value)


def test_nets_that_a_rule_cannot_follow_are_refused():
    text = refused(OTTT(), nn.Sequential(nn.Linear(3, 2)))
    assert "net: found Sequential" in text and "timecell.Sequential" in text and "credit.BPTT" in text
    text = refused(OTTT(), tc.Sequential(tc.GRU(3, 4), nn.Linear(4, 2)))
    assert "net[0]: found GRU" in text and "nn.Linear" in text
    text = refused(OTTT(), tc.Sequential(tc.Delayed(3, 4), tc.LIF(4), nn.Linear(4, 2)))
    assert "net[0]: found Delayed" in text
    text = refused(EProp(), tc.Sequential(tc.Residual(nn.Linear(3, 3)), nn.Linear(3, 2)))
    assert "net[0]: found Residual" in text
    text = refused(EProp(), image_net(), image_batch())
    assert "net[2]: found BatchNorm2d behind a synapse" in text and "credit.OTTT" in text
    conv = tc.Sequential(nn.Conv2d(1, 3, 3, padding="same"), nn.Flatten(), nn.Linear(108, 2))
    assert "padding='same'" not in (text := refused(OTTT(), conv, image_batch())) and "net[0]: found Conv2d" in text
    norm = tc.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), tc.Recurrent(tc.LIF(4), nn.Linear(4, 4)), nn.Linear(4, 2))
    assert "Recurrent behind LayerNorm" in refused(OTTT(), norm)


def test_units_without_a_single_leak_need_one_from_the_user():
    net = tc.Sequential(nn.Linear(3, 4), tc.AdaptiveLIF(4, threshold=0.5), nn.Linear(4, 2)).double()
    text = refused(OTTT(), net)
    assert "AdaptiveLIF with the memories ['v', 'b', 'z']" in text and "decay=0.9" in text
    mixed = tc.Sequential(nn.Linear(3, 2), tc.LIF(2, tau=torch.tensor([2.0, 9.0])))
    assert "one share a step" in refused(OTTT(), mixed)
    assert gradients(Rule(PresynapticTrace(decay=0.9)), net, example_batch())[1]["0.weight"].abs().max() > 0


def test_other_refusals_name_what_is_wrong():
    assert "0' of 6 units" in refused(EProp(space=ReadoutFeedback()), tc.Sequential(
        nn.Linear(3, 6), tc.LIF(6), nn.Linear(6, 4), tc.LIF(4), nn.Linear(4, 2))).replace("1'", "0'")  # fmt: skip
    assert "RTRL(most=...)" in refused(replace(RTRL(), most=10), example_net())
    text = refused(RTRL(), tc.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), tc.LIF(2)))
    assert "net[1]: found BatchNorm1d in training" in text
    for make, name in ((lambda: SLTT(k=0), r"SLTT\(k\)"), (lambda: OTTT(0), r"OTTT\(steps\)"),
                       (lambda: Eligibility(0), r"Eligibility\(steps\)"), (lambda: RandomSteps(k=0), r"RandomSteps\(k\)"),
                       (lambda: PresynapticTrace(decay=1.5), r"PresynapticTrace\(decay\): found 1.5"),
                       (lambda: LocalHead("cosine"), r"LocalHead\(kind\): found 'cosine'")):  # fmt: skip
        with pytest.raises(InputError, match=name):
            make()
    net = example_net()
    _, state = net(example_batch().x)
    with pytest.raises(InputError, match=r"state: found dict.*None"):
        OTTT().backward(net, example_batch(), slice(0, 4), state, every_step)


# --- the checks can fail -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wrong:
    """BPTT with a fault."""

    fault: str = ""
    local = False

    @property
    def exact(self):
        return self.fault == "exact"

    def slices(self, steps):
        return [slice(1, steps)] if self.fault == "slices" else [slice(t, t + 1) for t in range(steps)]

    def backward(self, net, batch, steps, state, loss, autograd=torch.autograd.backward):
        kept, state = state or ([], None)
        if self.fault == "padding":
            batch = replace(batch, lengths=None)
        before = {n: None if p.grad is None else p.grad.clone() for n, p in net.named_parameters()}
        if self.fault == "adds":
            net.zero_grad()
        value, state = TruncatedBPTT(1).backward(net, batch, steps, state, loss)
        if self.fault == "learns":
            for n, p in net.named_parameters():
                p.grad = (0 if before[n] is None else 2 * before[n]) - p.grad
        if self.fault == "memory":
            kept = [*kept, torch.zeros(1000).normal_()]
        return (2 * value if self.fault == "loss" else value), (kept, state)


@pytest.mark.parametrize("fault", ["", "slices", "loss", "exact", "adds", "padding", "memory", "learns"])
def test_every_check_finds_the_fault_it_is_for(fault):
    if not fault:
        assert all(r.passed for r in check(Wrong()))
        return
    CHECKS[fault](Wrong())
    with pytest.raises(InputError, match=r"found .* expected .*\n.*Remedy"):
        CHECKS[fault](Wrong(fault))


def test_a_rule_is_local_only_if_it_says_so():
    for rule, says in ((BPTT(), True), (EProp(), False)):

        class Claims:
            local, exact, slices, backward = says, False, rule.slices, rule.backward

        CHECKS["local"](rule)
        with pytest.raises(InputError, match="declare local as the rule is"):
            CHECKS["local"](Claims())


# --- in training ---------------------------------------------------------------------------------------------------

LOSSES_LEFT = [10**9]


@dataclass(frozen=True)
class Interrupted(Classify):
    """A task whose loss raises once so many were computed."""

    def loss(self, y, batch, steps):
        LOSSES_LEFT[0] -= 1
        if LOSSES_LEFT[0] < 0:
            raise KeyboardInterrupt
        return super().loss(y, batch, steps)


def train(rule, folder=None, seed=0, updates=6):
    rng = np.random.default_rng(0)
    label = np.arange(20) % 2
    data = Sequences.of([rng.random((6, 3), dtype=np.float32) + k for k in label], label)
    torch.manual_seed(seed)
    net = tc.Sequential(nn.Linear(3, 4), tc.LIF(4, tau=4.0), nn.Linear(4, 2), tc.LeakyIntegrator(2, tau=4.0))
    run = Run(updates=updates, folder=folder, resume=folder is not None, device="cpu", checkpoint_every=0.0)
    recipe = Recipe((Stage(lr=0.05),), batch=10)
    return tc.fit(net, data, Interrupted("every"), credit=rule, recipe=recipe, run=run)


@pytest.mark.parametrize("rule", [*rules(), Rule(Truncated(2), LocalHead("sign"))], ids=str)
def test_fit_takes_any_rule(rule):
    before = train(rule, updates=0).network.state_dict()
    trained = train(rule, updates=2)
    assert all(not torch.equal(v, before[n]) for n, v in trained.network.state_dict().items() if "weight" in n)


def test_draws_go_on_where_they_were_when_a_run_is_resumed(tmp_path):
    rule = SLTT(6, k=2)
    straight = train(rule)
    LOSSES_LEFT[0] = 13
    try:
        with pytest.raises(KeyboardInterrupt):
            train(rule, tmp_path)
    finally:
        LOSSES_LEFT[0] = 10**9
    resumed = train(rule, tmp_path, seed=1)
    assert resumed.updates == 6
    truth = straight.network.state_dict()
    assert all(torch.equal(v, truth[n]) for n, v in resumed.network.state_dict().items())
    other = train(SLTT(6, k=3)).network.state_dict()
    assert not all(torch.equal(v, truth[n]) for n, v in other.items())


def test_processes_that_train_together_draw_alike():
    import torch.distributed as dist

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        assert (RandomSteps(k=2).weights(5) > 0).sum() == 2
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("rule", list(rules()), ids=lambda r: type(r).__name__)
def test_rules_can_be_written_down(rule):
    assert from_dict(json.loads(json.dumps(to_dict(rule)))) == rule
    assert all(f.name for f in fields(rule))


# --- the Jacobian of one instant ------------------------------------------------------------------------------------


def test_jacobian_is_that_of_autograd():
    for cell in (Resonator(4), tc.AdaptiveLIF(4, tau=torch.tensor([2.0, 3.0, 4.0, 5.0])), tc.LIF(4, reset="hard")):
        cell = cell.double()
        x, state = torch.randn(2, 4).double(), [torch.rand(2, 4).double() for _ in cell.states]
        values = [getattr(cell, n).detach().expand(2, 4) for n in cell.params]
        found, n_s = jacobian(cell)(x, state), len(state)
        outputs = cell.instant.function(x, *state, *values)
        assert torch.equal(found.y, outputs[0]) and all(torch.equal(a, b) for a, b in zip(found.state, outputs[1:]))
        dense = torch.autograd.functional.jacobian(cell.instant.function, (x, *state, *values))
        diagonal = [[torch.einsum("bnbn->bn", d) for d in row] for row in dense]
        assert all(
            torch.allclose(d, e)
            for d, e in zip(diagonal[0], [found.dy_dx, *found.dy_ds.unbind(-1), *found.dy_dp.unbind(-1)])
        )
        for i, row in enumerate(diagonal[1:]):
            parts = [found.ds_dx[..., i], *found.ds_ds[..., i, :].unbind(-1), *found.ds_dp[..., i, :].unbind(-1)]
            assert all(torch.allclose(d, e) for d, e in zip(row, parts)) and len(parts) == 1 + n_s + len(values)


def test_jacobian_of_units_that_mix_is_refused():
    class Mixing(tc.Neuron):
        v: tc.State

        @staticmethod
        def dynamics(x, s, p):
            v = 0.5 * s.v + x.mean(-1, keepdim=True)
            return v, s._replace(v=v)

    with pytest.raises(InputError, match=r"jacobian\(Mixing\).*independent units"):
        jacobian(Mixing(3))
