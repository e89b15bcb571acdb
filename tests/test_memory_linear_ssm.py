"""Linear state spaces: one layer, read in four ways; HiPPO matrices and the family around them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timecell import fuse
from timecell.errors import InputError
from timecell.fuse import linear_scan
from timecell.fuse.state_space import fft_convolution
from timecell.memory.hippo import Fixed, Quasiseparable, gaussian, legendre, legs, legt, matrices
from timecell.memory.linear_ssm import LinearSSM, States, discretise, resampled


def layer(seed=0, **settings):
    torch.manual_seed(seed)
    return LinearSSM(3, 5, 2, **{"dt": (0.02, 0.3), **settings}).double()


def noise(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- four readings of one layer ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["bilinear", "zoh", "backward"])
@pytest.mark.parametrize("memory", ["legs", "legt", "gaussian"])
def test_chunks_equal_the_recurrence_and_the_convolution(method, memory):
    cell, x = layer(method=method, memory=memory), noise(2, 150, 3)
    y, state = cell(x)
    with fuse.backend("plain"):
        stepwise, end = cell(x)
    convolved = fft_convolution(cell.kernel(150), x[..., None]).flatten(2)
    torch.testing.assert_close(y, stepwise, rtol=0, atol=1e-10)
    torch.testing.assert_close(state.x, end.x, rtol=0, atol=1e-10)
    torch.testing.assert_close(y, convolved, rtol=0, atol=1e-10)


def test_it_equals_a_scan_in_the_eigenbasis():
    cell, x = layer(), noise(2, 90, 3)
    a, b = cell.discrete()
    values, vectors = torch.linalg.eig(a)
    inflow = torch.linalg.solve(vectors, b.to(vectors)[..., None])[..., 0] * x[..., None]
    modes, _ = linear_scan(values, inflow)
    states = torch.einsum("hnk,bthk->bthn", vectors, modes).real
    y = torch.einsum("hmn,bthn->bthm", cell.read, states) + x[..., None] * cell.skip
    torch.testing.assert_close(cell(x)[0], y.flatten(2), rtol=0, atol=1e-10)


def test_single_precision_keeps_five_digits():
    cell, x = layer(), noise(2, 300, 3)
    exact, _ = cell(x)
    y, _ = cell.float()(x.float())
    assert (y - exact).abs().max() < 1e-5 * exact.abs().max()


@given(st.lists(st.integers(1, 80), min_size=1, max_size=5), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_streaming_in_pieces_of_any_size(pieces, seed):
    cell, x = layer(seed), noise(2, sum(pieces), 3, seed=seed)
    whole, end = cell(x)
    state, parts = None, []
    for part in x.split(pieces, 1):
        y, state = cell(part, state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-10)
    torch.testing.assert_close(state.x, end.x, rtol=0, atol=1e-10)


@given(st.lists(st.integers(0, 140), min_size=1, max_size=5))
@settings(max_examples=15, deadline=None)
def test_each_sample_stops_at_its_own_end(lengths):
    cell, x = layer(), noise(len(lengths), 140, 3)
    y, state = cell(x, lengths=torch.tensor(lengths))
    for i, n in enumerate(lengths):
        alone, end = cell(x[i : i + 1, :n])
        torch.testing.assert_close(y[i : i + 1, :n], alone, rtol=0, atol=1e-10)
        torch.testing.assert_close(state.x[i : i + 1], end.x, rtol=0, atol=1e-10)
        assert (y[i, n:] == 0).all()


def test_nothing_at_all():
    y, state = layer()(noise(2, 0, 3))
    assert y.shape == (2, 0, 6) and (state.x == 0).all()


def test_gradients_of_the_kernel():
    torch.manual_seed(0)
    cell = LinearSSM(2, 4, learn=True, dt=(0.1, 0.3)).double()
    names, values = zip(*((n, p) for n, p in cell.named_parameters()))

    def kernel(*values):
        return torch.func.functional_call(_Kernel(cell), {f"cell.{n}": v for n, v in zip(names, values)}, ())

    assert torch.autograd.gradcheck(kernel, values)


class _Kernel(torch.nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self):
        return self.cell.kernel(6)


def test_no_blame_crosses_time_where_none_shall():
    cell, x = layer(), noise(1, 8, 3).requires_grad_()
    with fuse.carry("none"):
        y, _ = cell(x)
        (g,) = torch.autograd.grad(y[:, -1].sum(), x)
    assert (g[:, :-1] == 0).all() and (g[:, -1] != 0).any()


# --- the equation --------------------------------------------------------------------------------------------------------


def test_half_the_step_on_twice_the_samples():
    """The error of the bilinear rule falls with the square of the step."""

    def end(steps):
        cell = LinearSSM(1, 4, dt=(1 / steps, 1 / steps)).double()
        t = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
        return cell(torch.sin(5 * t)[None, :, None])[1].x[0, 0]

    fine = end(4096)
    errors = [(end(steps) - fine).norm().item() for steps in (64, 128)]
    assert errors[0] < 1e-2 and 3.5 < errors[0] / errors[1] < 4.5


def test_held_inputs_are_exact_at_any_rate():
    cell, x = layer(method="zoh"), noise(1, 20, 3)
    twice = resampled(cell, 2.0)(x.repeat_interleave(2, 1))[1]
    torch.testing.assert_close(twice.x, cell(x)[1].x, rtol=0, atol=1e-10)
    assert cell.log_dt[0] > resampled(cell, 2.0).log_dt[0]


def test_a_gate_is_a_step():
    """Backward Euler on dx/dt = u - x with dt = e^z is a gated unit."""
    z, x, u = noise(6), noise(6, seed=2), noise(6, seed=3)
    a, b = discretise(-torch.eye(1).double(), torch.ones(1).double(), z.exp(), "backward")
    gate = torch.sigmoid(z)
    torch.testing.assert_close(a[:, 0, 0] * x + b[:, 0] * u, (1 - gate) * x + gate * u)


@pytest.mark.parametrize("build", [legs, legt])
@pytest.mark.parametrize("dt", [1e-3, 0.1, 10.0])
def test_the_bilinear_rule_is_stable(build, dt):
    a, _ = discretise(*build(16), torch.tensor([dt], dtype=torch.float64))
    assert torch.linalg.eigvals(a).abs().max() < 1


# --- HiPPO ---------------------------------------------------------------------------------------------------------------


def test_legendre_functions_are_orthonormal():
    v = (np.arange(20000) + 0.5) / 20000
    basis = legendre(8, v)
    np.testing.assert_allclose(basis.T @ basis / len(v), np.eye(8), atol=1e-4)


@pytest.mark.parametrize(("memory", "place"), [("legs", lambda s: np.exp(-s)), ("legt", lambda s: 1 - s)])
def test_a_state_is_its_past(memory, place):
    steps = 1000
    cell = LinearSSM(1, 32, memory=memory, dt=(1 / steps, 1 / steps)).double()
    t = np.arange(1, 2 * steps + 1) / steps
    u = np.sin(7 * t) * np.exp(-3 * (t - 1.4) ** 2)
    state = cell(torch.from_numpy(u)[None, :, None])[1].x[0, 0].numpy()
    lags = np.linspace(0.05, 0.9, 50)
    np.testing.assert_allclose(legendre(32, place(lags)) @ state, np.interp(2 - lags, t, u), atol=0.02)


@pytest.mark.parametrize(("memory", "build"), [("legs", legs), ("legt", legt)])
def test_the_family_starts_at_the_dense_matrix(memory, build):
    a, b = Quasiseparable(memory, 12).double()()
    torch.testing.assert_close(a, build(12)[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(b, build(12)[1], rtol=1e-6, atol=1e-6)


def test_the_family_stays_a_family():
    """However it is trained, blocks off the diagonal have rank one: order 3 with the diagonal."""
    torch.manual_seed(0)
    family = Quasiseparable("legs", 8).double()
    with torch.no_grad():
        for p in family.parameters():
            p += 0.1 * torch.randn_like(p)
    a, _ = family()
    for cut in range(1, 8):
        assert torch.linalg.matrix_rank(a[cut:, :cut], atol=1e-8) == 1
        assert torch.linalg.matrix_rank(a[:cut, cut:], atol=1e-8) <= 1


def test_what_is_trained():
    def trained(cell):
        return {n for n, p in cell.named_parameters() if p.requires_grad}

    assert trained(LinearSSM(2, 4)) == {"read", "skip"}
    learnt = LinearSSM(2, 4, learn=True)
    assert {"log_dt", "read", "skip", "memory.diagonal", "memory.middle"} < trained(learnt)
    assert {id(p) for p in learnt.groups()["weight"]} == {id(learnt.read), id(learnt.skip)}


def test_a_random_memory_is_comparable():
    torch.manual_seed(0)
    a, b = gaussian(20)
    assert math.isclose(torch.linalg.eigvals(a).real.max().item(), -1.0, abs_tol=1e-6)
    torch.testing.assert_close(b.norm(), legs(20)[1].norm())


# --- errors --------------------------------------------------------------------------------------------------------------


def test_what_is_refused():
    with pytest.raises(InputError, match=r"(?s)memory: found 'lags'.*did you mean 'legs'"):
        matrices("lags", 4)
    with pytest.raises(InputError, match="states: found 0"):
        Fixed("legs", 0)
    with pytest.raises(InputError, match=r"Quasiseparable\(memory\): found 'gaussian'"):
        LinearSSM(2, 4, memory="gaussian", learn=True)
    with pytest.raises(InputError, match=r"method\): found 'trapezoid'"):
        LinearSSM(2, method="trapezoid")
    with pytest.raises(InputError, match=r"dt\): found \(1.0, 0.1\)"):
        LinearSSM(2, dt=(1.0, 0.1))
    with pytest.raises(InputError, match=r"outputs\): found \(2, 0, 1\)"):
        LinearSSM(2, 0)
    with pytest.raises(InputError, match="method: found 'zho'"):
        discretise(*legs(2), torch.ones(1), "zho")
    with pytest.raises(InputError, match=r"state\): found States"):
        LinearSSM(2, 4)(torch.zeros(3, 5, 2), States(torch.zeros(1, 2, 4)))
    with pytest.raises(InputError, match="found 0 linear state spaces"):
        resampled(torch.nn.Linear(1, 1), 2.0)
    with pytest.raises(InputError, match="rate 0"):
        resampled(LinearSSM(2, 4), 0)
