"""Neurons: each against the closed-form fact that defines it, and the conventions against their written equations.

That the fused loop computes what the plain one does is checked for every cell and option in `test_cells.py`; here the
plain loop is the shorter way.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import timecell as tc
from timecell import fuse, neurons
from timecell.errors import TimecellError
from timecell.fuse.trace import operations, trace
from timecell.neurons import (
    IZHIKEVICH_2003,
    IZHIKEVICH_2007,
    SURROGATES,
    Gate,
    Gaussian,
    Izhikevich,
    Rectangle,
    Triangle,
)

DECAYS = {"euler": lambda tau: 1 - 1 / tau, "exp": lambda tau: math.exp(-1 / tau)}
REFRACTORY = [neurons.RefractoryLIF, neurons.RefractorySynapticLIF, neurons.ConductanceLIF]


def course(cell, x, *states, backend="plain"):
    """Output and courses of states [T, N] of one sample, in float64."""
    net = tc.Sequential(cell.double())
    x = torch.as_tensor(x, dtype=torch.float64).view(1, len(x), -1)
    with fuse.backend(backend), torch.no_grad(), tc.record(net, *(f"0.{s}" for s in states)) as r:
        y, _ = net(x)
    return y[0], *(r[f"0.{s}"][0] for s in states)


def impulse(steps, size=1.0):
    return torch.eye(steps)[0] * size


# --- surrogates --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "s", [*(kind() for kind in SURROGATES), Rectangle(0.7), Gate(2.5), Gaussian(0.3, 0.1), Triangle(0.8, 0.5)], ids=str
)
def test_the_integral_of_a_slope_is_its_primitive(s):
    x = torch.linspace(-3, 3, 60_001, dtype=torch.float64)
    integral = torch.cumulative_trapezoid(s.derivative(x), x)
    assert torch.allclose(integral, (s.primitive(x) - s.primitive(x[:1]))[1:], atol=2e-4)


@pytest.mark.parametrize("s", [Rectangle(0.7), Gate(2.5), Gaussian(0.3, 0.1)], ids=str)
def test_slopes_of_the_window_kinds_have_area_one(s):
    x = torch.linspace(-9, 9, 180_001, dtype=torch.float64)
    assert abs(torch.trapezoid(s.derivative(x), x).item() - 1) < 1e-3
    assert (s.primitive(x[[0, -1]]) - torch.tensor([0.0, 1.0])).abs().max() < 1e-9


def test_a_gate_is_the_formula():
    x = torch.linspace(-1, 1, 101)
    assert torch.allclose(Gate(3.0).derivative(x), (3 - 9 * x.abs()).clamp(min=0), atol=1e-6)


# --- the integrate-and-fire family -------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.floats(2, 40), st.floats(1.05, 3), st.sampled_from(sorted(DECAYS)))
def test_lif_first_spike_under_constant_input(tau, x, decay):
    """x (1 - k^t) reaches theta = 1 at t = log(1 - 1/x) / log k."""
    when = math.log(1 - 1 / x) / math.log(DECAYS[decay](tau))
    if abs(when - round(when)) < 1e-3 or when > 150:
        return
    (spikes,) = course(tc.LIF(1, tau=torch.tensor(tau), input="scaled", decay=decay), [x] * 160)
    assert int(spikes[:, 0].argmax()) + 1 == math.ceil(when - 1e-4)


@pytest.mark.parametrize("reset_delay", [False, True])
@pytest.mark.parametrize("x", [0.0625, 0.3125, 0.5, 0.9375, 1.0])
def test_if_rate_is_input_over_threshold(x, reset_delay):
    (spikes,) = course(neurons.IF(1, threshold=2.0, reset_delay=reset_delay), [2 * x] * 160)
    assert spikes.sum() == 160 * x


@pytest.mark.parametrize("decay", sorted(DECAYS))
@pytest.mark.parametrize("reset", ["soft", "hard", "none"])
def test_a_delayed_reset_is_its_equation(reset, decay):
    k, x = DECAYS[decay](5.0), torch.rand(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.8
    v, s, expected = 0.0, 0.0, []
    for x_t in x.tolist():
        v = k * v + x_t
        v = {"soft": v - s, "hard": v * (1 - s), "none": v}[reset]
        s = float(v >= 1)
        expected.append((s, v))
    y, membrane = course(tc.LIF(1, tau=5.0, reset=reset, decay=decay, reset_delay=True), x, "v")
    assert torch.equal(y[:, 0], torch.tensor([s for s, _ in expected], dtype=torch.float64))
    assert torch.allclose(membrane[:, 0], torch.tensor([v for _, v in expected], dtype=torch.float64), atol=1e-6)
    assert y.sum() > 10


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_without_a_leak_soft_reset_now_or_later_is_the_same(seed):
    """What is taken away does not decay, so when it is taken away does not matter: the membrane lags by that spike."""
    x = torch.randint(0, 64, (100,), generator=torch.Generator().manual_seed(seed)) / 32  # exact in binary
    now, v = course(neurons.IF(1), x, "v")
    later, u = course(neurons.IF(1, reset_delay=True), x, "v")
    assert torch.equal(now, later) and torch.equal(v, u - later)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(sorted(DECAYS)))
def test_a_hard_reset_one_step_later_is_a_refractory_period_of_one_step(seed, decay):
    x = torch.rand(100, generator=torch.Generator().manual_seed(seed)) * 1.5
    (later,) = course(tc.LIF(1, tau=4.0, reset="hard", decay=decay, reset_delay=True), x)
    (paused,) = course(neurons.RefractoryLIF(1, tau=4.0, reset="hard", decay=decay, refractory=1.0), x)
    assert torch.equal(later, paused) and later.sum() > 5


def test_an_adaptive_unit_without_adaptation_is_a_lif():
    x = torch.rand(100, generator=torch.Generator().manual_seed(3))
    for choices in ({}, {"reset_delay": True}, {"reset": "hard", "decay": "exp"}):
        (plain,) = course(tc.LIF(1, tau=6.0, **choices), x)
        (same,) = course(tc.AdaptiveLIF(1, tau=6.0, beta=0.0, **choices), x)
        assert torch.equal(plain, same) and plain.sum() > 5


def test_a_delayed_reset_of_an_adaptive_unit_takes_the_threshold_that_was_crossed():
    x = torch.full((60,), 3.0)
    spikes, v, b = course(tc.AdaptiveLIF(1, tau=1.0, tau_a=10.0, beta=2.0, reset_delay=True), x, "v", "b")
    threshold = 1 + 2 * b
    assert torch.allclose(v[1:], x[1:, None] - spikes[:-1] * threshold[:-1])


def test_adaptation_settles_with_either_decay():
    for decay in DECAYS:
        spikes, b = course(tc.AdaptiveLIF(1, tau=1.0, tau_a=30.0, beta=2.0, decay=decay), [1.5] * 900, "b")
        assert abs(b[600:].mean() - spikes[600:].mean()) < 0.01


def test_exponential_decay_of_the_integrator():
    (y,) = course(tc.LeakyIntegrator(1, tau=7.0, decay="exp"), impulse(30))
    assert torch.allclose(y[:, 0], torch.exp(-torch.arange(30.0, dtype=torch.float64) / 7), atol=1e-6)
    (y,) = course(tc.LeakyIntegrator(1, tau=7.0, decay="exp", input="scaled"), [1.0] * 30)
    assert torch.allclose(y[:, 0], 1 - torch.exp(-torch.arange(1, 31.0, dtype=torch.float64) / 7), atol=1e-6)


def test_options_that_are_off_cost_nothing():
    """A choice is made when the step is traced: what was not chosen is not in the loop, nor in the state."""
    assert tc.LIF.states == ("v",) and neurons.SynapticLIF.states == ("v", "i")
    plain = [str(n.target) for n in operations(trace(tc.LIF(1).instant, torch.float32))]
    chosen = [str(n.target) for n in operations(trace(tc.LIF(1, decay="exp", reset_delay=True).instant, torch.float32))]
    assert not any("exp" in n for n in plain) and any("exp" in n for n in chosen)
    assert sum("aten.ge" in n for n in plain) == 1 and sum("aten.ge" in n for n in chosen) == 2


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: tc.LIF(4, decay="exq"), ["LIF(decay)", "did you mean 'exp'"]),
        (lambda: neurons.IF(4, tau=3.0), ["IF(...)", "'tau'", "threshold"]),
        (lambda: neurons.RefractoryLIF(4, refractory=-1.0), ["RefractoryLIF(refractory)", "-1", "[0"]),
        (lambda: Izhikevich(4, substeps=3), ["Izhikevich(substeps)", "'3'", "1, 2, 4"]),
        (lambda: neurons.LeakyRate(4, activation="tahn"), ["LeakyRate(activation)", "did you mean 'tanh'"]),
    ],
)
def test_errors_name_the_argument_what_was_found_and_the_remedy(make, names):
    with pytest.raises(TimecellError) as error:
        make()
    for name in [*names, "Remedy"]:
        assert name in str(error.value), str(error.value)


# --- the refractory period ---------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(REFRACTORY), st.integers(0, 6), st.integers(0, 10**6))
def test_a_refractory_period_keeps_spikes_apart(kind, steps, seed):
    x = torch.rand(120, generator=torch.Generator().manual_seed(seed)) * 3
    spikes, wait = course(kind(1, tau=4.0, refractory=float(steps)), x, "wait")
    when = spikes[:, 0].nonzero().flatten()
    assert len(when) > 3 and int(when.diff().min()) >= steps + 1
    assert wait.min() >= 0 and wait.max() == steps


@pytest.mark.parametrize("kind", REFRACTORY)
def test_driven_hard_a_unit_fires_as_often_as_its_refractory_period_allows(kind):
    (spikes,) = course(kind(3, tau=4.0, refractory=torch.tensor([0.0, 2.0, 3.5])), torch.full((60, 3), 50.0))
    assert spikes[spikes.cumsum(0)[:, 0] > 0].sum(0).tolist() == [60, 20, 12]  # part of a step counts as a whole one


def test_during_it_the_membrane_is_held_and_the_current_goes_on():
    unit = neurons.RefractorySynapticLIF(1, tau_syn=3.0, refractory=4.0, reset="hard")
    spikes, v, i = course(unit, impulse(6, 5.0), "v", "i")
    assert spikes[:, 0].tolist() == [1, 0, 0, 0, 0, 0]
    assert v[:5, 0].tolist() == [0] * 5 and v[5, 0] > 0
    assert torch.allclose(i[:, 0], 5 * (2 / 3) ** torch.arange(6, dtype=torch.float64), atol=1e-5)


@pytest.mark.parametrize(
    ("paused", "plain"),
    [(neurons.RefractoryLIF, tc.LIF), (neurons.RefractorySynapticLIF, neurons.SynapticLIF)],
)
def test_a_period_of_zero_is_none(paused, plain):
    x = torch.rand(100, generator=torch.Generator().manual_seed(1))
    assert torch.equal(course(paused(1, refractory=0.0), x)[0], course(plain(1), x)[0])


# --- synaptic currents and conductances --------------------------------------------------------------------------


@pytest.mark.parametrize("decay", sorted(DECAYS))
def test_synaptic_impulse_response_is_a_difference_of_exponentials(decay):
    a, k, t = DECAYS[decay](3.0), DECAYS[decay](11.0), torch.arange(1, 41, dtype=torch.float64)
    unit = neurons.SynapticLIF(1, tau_syn=3.0, tau=11.0, threshold=1e9, decay=decay)
    _, v, i = course(unit, impulse(40), "v", "i")
    assert torch.allclose(i[:, 0], a ** (t - 1), atol=1e-6)
    assert torch.allclose(v[:, 0], (k**t - a**t) / (k - a), atol=1e-5)


@pytest.mark.parametrize("x", [0.3, -0.3])
def test_conductances_settle_where_the_sums_say(x):
    """g settles at |x| / (1 - k_g), and the membrane at the mean of the potentials weighted by the conductances."""
    tau, reversal, g = (4.0, 3.0, "g_e") if x > 0 else (8.0, -0.5, "g_i")
    unit = neurons.ConductanceLIF(1, tau=10.0, tau_exc=4.0, tau_inh=8.0, e_exc=3.0, e_inh=-0.5, threshold=1e9)
    _, v, conductance = course(unit, [x] * 300, "v", g)
    settled = abs(x) / (1 - math.exp(-1 / tau))
    assert abs(conductance[-1, 0] - settled) < 1e-5
    assert abs(v[-1, 0] - settled * reversal / (1 + settled)) < 1e-5


def test_the_membrane_falls_by_its_whole_conductance():
    """While g stands still the distance to where it settles shrinks by exp(-(1 + g_e + g_i) / tau) a step."""
    unit = neurons.ConductanceLIF(1, tau=10.0, tau_exc=1e9, tau_inh=1e9, e_exc=3.0, threshold=1e9)
    _, v = course(unit, impulse(20, 2.0), "v")
    t = torch.arange(1, 21, dtype=torch.float64)
    assert torch.allclose(v[:, 0], 2 * (1 - torch.exp(-3 * t / 10)), atol=1e-6)


@pytest.mark.parametrize("x", [1e6, -1e6])
def test_the_membrane_never_passes_a_reversal_potential(x):
    _, v = course(neurons.ConductanceLIF(1, e_exc=3.0, e_inh=-0.5, threshold=1e9), [x] * 50, "v")
    assert v.min() >= -0.5 - 1e-9 and v.max() <= 3 + 1e-9


# --- Izhikevich --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", [*IZHIKEVICH_2003.values(), *IZHIKEVICH_2007.values()])
def test_izhikevich_rests_where_its_nullclines_cross(preset):
    q = dict(preset)
    roots = np.roots(
        [q["k"], -q["k"] * (q["v_r"] + q["v_t"]) - q["b"], q["k"] * q["v_r"] * q["v_t"] + q["b"] * q["v_r"] + q["bias"]]
    )
    _, v, u = course(Izhikevich(1, **q), [0.0] * 3000, "v", "u", backend="auto")
    assert abs(v[-1, 0] - roots.min()) < 1e-3
    assert abs(u[-1, 0] - q["b"] * (roots.min() - q["v_r"])) < 1e-3


def published_2003(a, b, c, d, current, dt=0.02, milliseconds=1000):
    """Spike counts of the equations as they stand in the paper of 2003, in small Euler steps."""
    v, spikes = np.full_like(a, -65.0), np.zeros_like(a)
    u = b * v
    for _ in range(int(milliseconds / dt)):
        v, u = v + dt * (0.04 * v * v + 5 * v + 140 - u + current), u + dt * a * (b * v - u)
        fired = v >= 30
        v, u, spikes = np.where(fired, c, v), np.where(fired, u + d, u), spikes + fired
    return spikes


def test_the_units_of_2003_fire_as_published():
    names = list(IZHIKEVICH_2003)
    columns = {n: torch.tensor([IZHIKEVICH_2003[k][n] for k in names]) for n in IZHIKEVICH_2003[names[0]]}
    expected = published_2003(*(columns[n].double().numpy() for n in "abcd"), current=10.0)
    for dt, tolerance in ((0.1, 0.03), (1.0, np.where([n == "resonator" for n in names], 0.16, 0.05))):
        current = torch.full((int(1000 / dt), len(names)), 10.0)
        (spikes,) = course(Izhikevich(len(names), **columns, dt=dt), current, backend="auto")
        assert (abs(spikes.sum(0).numpy() / expected - 1) <= tolerance).all(), (names, spikes.sum(0), expected)


def test_firing_patterns_are_those_of_their_names():
    names = ("regular spiking", "fast spiking", "chattering")
    columns = {n: torch.tensor([IZHIKEVICH_2003[k][n] for k in names]) for n in IZHIKEVICH_2003[names[0]]}
    (spikes,) = course(Izhikevich(3, **columns, dt=0.5), torch.full((2000, 3), 10.0), backend="auto")
    regular, fast, chattering = (0.5 * spikes[400:, i].nonzero().flatten().double().diff() for i in range(3))
    assert len(fast) > 3 * len(regular) > 0
    assert regular.std() / regular.mean() < 0.05 < 0.5 < chattering.std() / chattering.mean()  # bursts: short and long


@pytest.mark.parametrize("dt", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("substeps", [1, 2, 4])
def test_no_inhibition_and_no_step_throws_the_membrane_up(dt, substeps):
    unit = Izhikevich(4, dt=dt, substeps=substeps)
    spikes, v = course(unit, torch.tensor([0.0, -1e2, -1e4, -1e6]).expand(60, 4), "v")
    assert not spikes.any() and v.max() < -50  # the middle between v_r and v_t


# --- leaky rate units --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", sorted(DECAYS))
def test_step_response_of_a_rate_unit(decay):
    """A constant input is approached as 1 - k^t: by the rate that f asks for, or by the potential that f looks at."""
    k, t = DECAYS[decay](6.0), torch.arange(1, 31, dtype=torch.float64)
    x, way = torch.tensor(0.8, dtype=torch.float64), 1 - k**t
    (inside,) = course(neurons.LeakyRate(1, tau=6.0, at="input", decay=decay), [x] * 30)
    (outside,) = course(neurons.LeakyRate(1, tau=6.0, at="output", decay=decay), [x] * 30)
    (linear,) = course(neurons.LeakyRate(1, tau=6.0, activation="identity", decay=decay), [x] * 30)
    assert torch.allclose(inside[:, 0], torch.tanh(x) * way, atol=1e-6)
    assert torch.allclose(outside[:, 0], torch.tanh(x * way), atol=1e-6)
    assert torch.allclose(linear[:, 0], x * way, atol=1e-6)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softplus", "relu"])
def test_a_rate_unit_settles_where_the_nonlinearity_keeps_it(activation):
    f = neurons.rate.ACTIVATIONS[activation]
    (y,) = course(neurons.LeakyRate(1, tau=2.0, activation=activation), [0.5] * 200)
    assert torch.allclose(y[-1], f(0.5 * y[-1] + 0.25), atol=1e-6)


def test_every_rate_unit_learns_its_own_time_constant():
    unit = neurons.LeakyRate(3, tau=torch.tensor([2.0, 5.0, 20.0]))
    unit(torch.ones(1, 10, 3))[0].sum().backward()
    (parameter,) = unit.parameters()
    assert parameter.grad.shape == (3,) and bool((parameter.grad != 0).all())
    parameter.data -= 100
    assert (unit.tau >= 1).all()
