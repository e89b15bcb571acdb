"""Cells and composition: the contract on everything found by walking, and what containers promise."""

import inspect

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import timecell as tc
from timecell.cell import Cell
from timecell.errors import TimecellError
from timecell.neurons import SURROGATES, ATan
from timecell.state import flatten, index, reset, unflatten
from timecell.testing import CHECKS, check, walk

CELLS = list(walk(Cell))


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.__name__)
def test_the_contract(cell):
    failed = [f"{r.name}: {r.reason}" for r in check(cell) if not r.passed]
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.__name__)
def test_docstrings_say_shapes_and_show_an_example(cell):
    text = inspect.getdoc(cell)
    assert text and "Shapes:" in text and "Example:" in text


def test_walking_finds_the_cells():
    assert {tc.LIF, tc.AdaptiveLIF, tc.LeakyIntegrator, tc.Delayed, tc.Sequential, tc.Recurrent, tc.GRU} <= set(CELLS)


class Cheat(tc.Neuron):
    """Breaks promises on purpose."""

    v: tc.State
    count = 0

    def forward(self, x, state=None, *, lengths=None):
        self.count += 1
        y, state = super().forward(x.flip(1), state, lengths=lengths)
        return y * self.count, state

    @staticmethod
    def dynamics(x, s, p):
        return s.v + x, s._replace(v=s.v + x)


def test_the_checks_can_fail():
    failed = {r.name for r in check(Cheat) if not r.passed}
    assert {"causal", "streaming", "batching", "nothing_hidden"} <= failed
    assert len(CHECKS) > 10


@pytest.mark.parametrize("surrogate", SURROGATES, ids=lambda s: s.__name__)
def test_a_surrogate_is_the_derivative_of_its_primitive(surrogate):
    s = surrogate()
    x = torch.linspace(-3, 3, 2001, dtype=torch.float64) + 1e-4
    h = 1e-6
    numeric = (s.primitive(x + h) - s.primitive(x - h)) / (2 * h)
    assert torch.allclose(s.derivative(x), numeric, atol=1e-5)


# --- closed-form facts (C7) --------------------------------------------------------------------------------------


def test_lif_step_response():
    """Below threshold a constant input x takes the scaled membrane to x (1 - (1 - 1/tau)^t)."""
    tau, t = 7.0, torch.arange(1, 41, dtype=torch.float64)
    net = tc.Sequential(tc.LIF(1, tau=tau, input="scaled").double())
    with tc.record(net, "0.v") as r:
        spikes, _ = net(torch.full((1, 40, 1), 0.9, dtype=torch.float64))
    assert not spikes.any()
    assert torch.allclose(r["0.v"][0, :, 0], 0.9 * (1 - (1 - 1 / tau) ** t), atol=1e-6)


def test_integrate_and_fire_rate():
    """Without leak and with soft reset the number of spikes is the whole part of the summed input."""
    x = torch.rand(4, 200, 3, dtype=torch.float64)
    spikes, _ = tc.LIF(3, tau=1e15).double()(x * 0.9)
    assert (spikes.sum(1) - (x * 0.9).sum(1)).abs().max() < 1.0 + 1e-6


def test_adaptation_settles():
    """At a constant rate r the threshold of an adaptive unit rises by beta r."""
    net = tc.Sequential(tc.AdaptiveLIF(1, tau=1.0, tau_a=50.0, beta=2.0, threshold=1.0).double())
    with tc.record(net, "0.b") as r:
        spikes, _ = net(torch.full((1, 2000, 1), 1.5, dtype=torch.float64))
    rate = spikes[0, 1000:].mean()
    assert abs(r["0.b"][0, 1000:].mean() - rate) < 0.01
    assert abs(1 + 2 * rate - 1.5) < 0.05  # it fires just so often that the threshold meets the input


# --- parameters --------------------------------------------------------------------------------------------------


@given(st.floats(1.01, 500))
def test_constrained_parameters_start_where_they_are_told(tau):
    assert abs(tc.LIF(2, tau=tau, learn=("tau",)).tau.item() / tau - 1) < 1e-4
    assert tc.LIF(2, tau=tau).tau.item() == torch.tensor(tau).item()


def test_learnt_time_constants_stay_in_range():
    cell = tc.LIF(3, tau=1.5, learn=("tau",))
    for p in cell.parameters():
        p.data -= 100
    assert (cell.tau >= 1).all()
    assert list(tc.parameter_groups(tc.Sequential(nn.Linear(2, 3), cell))) == ["weight", "neuron"]


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: tc.LIF(4, tau=0.5), ["LIF(tau)", "0.5", "[1"]),
        (lambda: tc.LIF(4, tua=3.0), ["tua", "did you mean 'tau'"]),
        (lambda: tc.LIF(4, reset="sofd"), ["LIF(reset)", "did you mean 'soft'"]),
        (lambda: tc.LIF(4, tau=torch.ones(3) * 2), ["LIF(tau)", "[3]", "[4]"]),
        (lambda: tc.LIF(0), ["LIF(size)", "positive"]),
        (lambda: tc.LIF(4, learn=("surrogate",)), ["LIF(learn)", "surrogate"]),
        (lambda: tc.LIF(4)(torch.ones(2, 3, 5)), ["LIF(x)", "[2, 3, 5]", "size 5"]),
        (lambda: tc.LIF(4)(torch.ones(2, 3, 4), (torch.ones(2, 4),)), ["LIF(state)"]),
        (lambda: tc.Sequential(nn.LSTM(3, 3)), ["LSTM", "GRU"]),
        (lambda: tc.Sequential(nn.Conv1d(3, 3, 1))(torch.ones(1, 4, 3)), ["Conv1d", "Delayed"]),
        (lambda: tc.Sequential(nn.Flatten(0, 1))(torch.ones(1, 4, 3)), ["Flatten", "one output for each instant"]),
        (lambda: tc.Sequential(), ["Sequential", "no module"]),
        (lambda: tc.Sequential(nn.Identity())(torch.ones(1, 2, 3), {"1": None}), ["Sequential(state)", "['0']"]),
        (lambda: tc.Residual(nn.Linear(3, 4))(torch.ones(1, 2, 3)), ["Residual", "[1, 2, 4]"]),
        (lambda: tc.Delayed(3, 4, max_delay=-1), ["Delayed", "-1"]),
        (lambda: tc.record(tc.Sequential(tc.LIF(3)), "0.u").__enter__(), ["record", "0.v"]),
    ],
)
def test_errors_name_the_argument_what_was_found_and_the_remedy(make, names):
    with pytest.raises(TimecellError) as error:
        make()
    for name in [*names, "Remedy"]:
        assert name in str(error.value), str(error.value)


# --- containers --------------------------------------------------------------------------------------------------


def test_batch_norm_is_over_batch_and_time_and_leaves_padding_out():
    x, lengths = torch.randn(4, 9, 3) * 2 + 1, torch.tensor([9, 5, 1, 7])
    net = tc.Sequential(nn.BatchNorm1d(3))
    y, _ = net(x, lengths=lengths)
    alive = torch.arange(9) < lengths[:, None]
    expected = nn.BatchNorm1d(3)(x[alive])
    assert torch.allclose(y[alive], expected, atol=1e-6) and not y[~alive].any()
    other = tc.Sequential(nn.BatchNorm1d(3))
    other(torch.where(alive[..., None], x, torch.tensor(1e6)), lengths=lengths)
    assert torch.equal(net[0].running_mean, other[0].running_mean)


def test_parallel_merges():
    x = torch.randn(2, 5, 3)
    a, b = nn.Linear(3, 4), nn.Linear(3, 4)
    assert torch.allclose(tc.Parallel(a, b)(x)[0], a(x) + b(x), atol=1e-6)
    assert tc.Parallel(a, b, merge="cat")(x)[0].shape == (2, 5, 8)
    assert torch.allclose(tc.Parallel(a, b, merge=lambda ys: ys[0] * ys[1])(x)[0], a(x) * b(x))


def test_recurrent_equals_its_equation():
    cell = tc.Recurrent(tc.LIF(3, tau=4.0), nn.Linear(3, 3)).double()
    x = torch.randn(2, 10, 3, dtype=torch.float64)
    y, state, feedback = [], None, torch.zeros(2, 3, dtype=torch.float64)
    for t in range(10):
        feedback, state = cell.neuron.step(x[:, t] + cell.synapse(feedback), state)
        y.append(feedback)
    assert torch.allclose(cell(x)[0], torch.stack(y, 1))


def test_state_helpers():
    net = tc.Sequential(nn.Linear(3, 3), tc.LIF(3), tc.Parallel(tc.LIF(3), nn.Identity()))
    _, state = net(torch.rand(4, 6, 3))
    flat = flatten(state)
    assert list(flat) == ["1.v", "2.0.v"]
    assert torch.equal(flatten(unflatten(flat, state))["1.v"], flat["1.v"])
    assert torch.equal(index(state, torch.tensor([2]))["1"].v, state["1"].v[2:3])
    _, fresh = net(torch.zeros(4, 1, 3))
    mixed = reset(state, torch.tensor([True, False, False, True]), fresh)
    assert torch.equal(mixed["1"].v[0], fresh["1"].v[0]) and torch.equal(mixed["1"].v[1], state["1"].v[1])


# --- delayed synapses --------------------------------------------------------------------------------------------


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 7), st.integers(1, 15), st.integers(0, 1000))
def test_hard_delays_are_shifts_and_sums_exactly(inputs, outputs, longest, steps, seed):
    torch.manual_seed(seed)
    synapse = tc.Delayed(inputs, outputs, max_delay=longest).double().eval()
    x = (torch.rand(2, steps, inputs) < 0.4).double()
    expected = torch.zeros(2, steps, outputs, dtype=torch.float64)
    for o in range(outputs):
        for i in range(inputs):
            d = int(synapse.delay[o, i].round())
            if d < steps:
                expected[:, d:, o] += synapse.weight[o, i] * x[:, : steps - d, i]
    assert torch.allclose(synapse(x)[0], expected, atol=1e-14, rtol=0)


@pytest.mark.parametrize("kernel", ["gaussian", "triangle"])
def test_blurred_delays_have_true_gradients_and_sum_to_the_weight(kernel):
    synapse = tc.Delayed(3, 2, max_delay=6, kernel=kernel, sigma=1.0).double()
    assert torch.allclose(synapse.taps().sum(0), synapse.weight, atol=1e-6)
    x = torch.randn(2, 8, 3, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda x, w, d: synapse(x)[0], (x, synapse.weight, synapse.delay))


def test_the_blur_tends_to_the_hard_kernel():
    synapse = tc.Delayed(3, 2, max_delay=6, sigma=0.12).double()
    synapse.delay.data.round_()
    soft = synapse.train().taps()
    assert torch.allclose(soft, synapse.eval().taps(), atol=1e-6)
    triangle = tc.Delayed(3, 2, max_delay=6, kernel="triangle", sigma=0.0).double()
    triangle.delay.data.round_()
    assert torch.allclose(triangle.train().taps(), triangle.eval().taps(), atol=1e-6)


def test_hardening_rounds_and_freezes():
    synapse = tc.Delayed(3, 2, max_delay=6)
    synapse.delay.data += 100
    synapse.constrain()
    assert synapse.delay.max() == 6
    synapse.delay.data -= 2.4
    synapse.harden()
    assert torch.equal(synapse.train().taps(), synapse.eval().taps())
    assert list(tc.parameter_groups(synapse)) == ["weight"]
    assert tc.Delayed(3, 2, max_delay=0).double().eval()(torch.ones(1, 2, 3).double())[0].shape == (1, 2, 2)


def test_surrogates_are_part_of_the_kernel():
    x = torch.randn(2, 6, 3)
    grads = []
    for alpha in (1.0, 5.0):
        z = x.clone().requires_grad_()
        tc.LIF(3, surrogate=ATan(alpha))(z)[0].sum().backward()
        grads.append(z.grad)
    assert not torch.allclose(*grads)
