"""Reservoirs: what they compute, what they forget, what a readout finds in them; values, gradients, transforms, errors."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import timecell as tc
from timecell.errors import InputError
from timecell.memory import Reservoir
from timecell.memory.reservoir import Echo, radius
from timecell.tasks.ridge import ridge_path


def small(**settings) -> Reservoir:
    torch.manual_seed(0)
    return Reservoir(2, 7, **{"leak": 0.6, "connections": 3, "bias_scaling": 0.3, **settings}).double()


def dense(cell: Reservoir) -> torch.Tensor:
    w = torch.zeros(cell.size, cell.size, dtype=torch.float64)
    for i in range(cell.size):
        for k in range(cell.source.shape[1]):
            w[i, cell.source[i, k]] += cell.weight[i, k]
    return w


def test_the_equation_written_out():
    cell, x = small(), torch.randn(1, 5, 2, dtype=torch.float64)
    w, h = dense(cell), torch.zeros(7, dtype=torch.float64)
    y, state = cell(x)
    for t in range(5):
        h = (1 - 0.6) * h + 0.6 * torch.tanh(cell.input_weight @ x[0, t] + w @ h + cell.bias)
        assert torch.allclose(y[0, t], h, atol=1e-14)
    assert torch.equal(state.h[0], y[0, -1])


@given(size=st.integers(1, 30), connections=st.integers(1, 40), rho=st.floats(0.1, 2), seed=st.integers(0, 99))
def test_the_net_is_as_it_was_asked_for(size, connections, rho, seed):
    torch.manual_seed(seed)
    cell = Reservoir(1, size, spectral_radius=rho, connections=connections)
    w = dense(cell)
    assert torch.linalg.eigvals(w).abs().max().item() == pytest.approx(rho, rel=1e-4)
    assert cell.source.shape == (size, min(connections, size))
    assert all(len(set(row)) == len(row) for row in cell.source.tolist())  # nobody is listened to twice


def test_the_radius_of_a_large_net():
    """A ring of 1500 units with weights 2 and 8 in turn: every eigenvalue has the absolute value sqrt(2 * 8)."""
    ring = torch.arange(1500).roll(1)[:, None]
    assert radius(torch.tensor([2.0, 8.0]).repeat(750)[:, None], ring) == pytest.approx(4)
    torch.manual_seed(0)
    assert Reservoir(1, 1001, spectral_radius=0.8).weight.isfinite().all()


def test_seeds_decide_what_it_is():
    def seeded(seed):
        torch.manual_seed(seed)
        return Reservoir(1, 9).weight

    assert torch.equal(seeded(0), seeded(0)) and not torch.equal(seeded(0), seeded(5))


def test_the_start_is_forgotten():
    """The echo state property: with a spectral radius well below 1 two starts become one."""
    cell, x = small(spectral_radius=0.5, leak=1.0), torch.randn(1, 60, 2, dtype=torch.float64)
    _, one = cell(x)
    _, other = cell(x, Echo(torch.ones(1, 7, dtype=torch.float64)))
    assert torch.allclose(one.h, other.h, atol=1e-9)


def test_without_recurrence_and_leak_it_is_a_layer_of_tanh_units():
    cell, x = small(leak=1.0), torch.randn(3, 4, 2, dtype=torch.float64)
    cell.weight.zero_()
    expected = torch.tanh(nn.functional.linear(x, cell.input_weight, cell.bias))
    assert torch.allclose(cell(x)[0], expected, atol=1e-14)


def test_a_readout_finds_the_past_and_more_units_find_more_of_it():
    """Memory capacity (Jaeger, 2001): the summed squared correlations with past inputs, at most one a unit."""

    def capacity(size):
        torch.manual_seed(0)
        x = torch.rand(1, 1500, 1) - 0.5
        h = Reservoir(1, size, input_scaling=0.1)(x)[0][0, 100:].double().numpy()
        past = np.stack([x[0, 100 - lag : 1500 - lag, 0].double().numpy() for lag in range(1, 41)], 1)
        found = next(ridge_path(h[:1000], past[:1000], alphas=[1e-9]))(h[1000:])
        return sum(np.corrcoef(found[:, i], past[1000:, i])[0, 1] ** 2 for i in range(40))

    few, many = capacity(5), capacity(40)
    assert 2 < few < 5.5 and many > 2 * few


# --- gradients and transforms ------------------------------------------------------------------------------------


@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4), carry=st.sampled_from(["full", "none"]))
def test_fused_equals_plain_with_lengths_and_without_carry(lengths, carry):
    cell, rows = small(), len(lengths)
    torch.manual_seed(1)
    x = torch.randn(rows, 6, 2, dtype=torch.float64, requires_grad=True)
    first = torch.randn(rows, 7, dtype=torch.float64, requires_grad=True)

    def run():
        y, state = cell(x, Echo(first), lengths=torch.tensor(lengths))
        loss = (y * torch.arange(7)).sum() + (state.h**2).sum()
        return y, state.h, *torch.autograd.grad(loss, (x, first))

    with tc.fuse.carry(carry):
        fused = run()
        with tc.fuse.backend("plain"):
            plain = run()
    for a, b in zip(fused, plain):
        assert torch.allclose(a, b, atol=1e-12)


def test_gradients_reach_what_comes_before_and_leave_the_reservoir_alone():
    torch.manual_seed(0)
    net = tc.Sequential(nn.Linear(3, 2), Reservoir(2, 8), nn.Linear(8, 1))
    assert {name for name, _ in net.named_parameters()} == {"0.weight", "0.bias", "2.weight", "2.bias"}
    net(torch.randn(2, 5, 3))[0].sum().backward()
    assert net[0].weight.grad.abs().sum() > 0


def test_transforms_of_torch():
    cell, x = small(), torch.randn(3, 4, 2, dtype=torch.float64)

    def loss(x):
        return cell(x[None])[0].square().sum()

    each = torch.func.vmap(torch.func.grad(loss))(x)
    assert all(torch.allclose(each[b], torch.func.grad(loss)(x[b])) for b in range(3))
    with tc.fuse.backend("plain"):
        assert torch.allclose(each, torch.func.vmap(torch.func.grad(loss))(x))


def test_second_derivatives_and_learnt_weights_are_refused_but_not_by_the_plain_loop():
    cell, x = small(), torch.randn(1, 3, 2, dtype=torch.float64, requires_grad=True)

    def second():
        (g,) = torch.autograd.grad(cell(x)[0].square().sum(), x, create_graph=True)
        return torch.autograd.grad(g.square().sum(), x)[0]

    with pytest.raises(InputError, match="second derivatives"):
        second()
    with tc.fuse.backend("plain"):
        assert second().abs().sum() > 0
    cell.weight.requires_grad_()
    with pytest.raises(InputError, match="weights of a reservoir"):
        cell(x)[0].sum().backward()
    with tc.fuse.backend("plain"):
        cell(x)[0].sum().backward()
    assert cell.weight.grad.abs().sum() > 0


def test_threads_share_the_samples():
    """Long enough for the pool to split it."""
    torch.manual_seed(0)
    cell, x = Reservoir(1, 30), torch.randn(5, 200, 1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone, _ = cell(x)
        torch.set_num_threads(2)
        assert torch.equal(cell(x)[0], alone)
    finally:
        torch.set_num_threads(before)


# --- files and errors --------------------------------------------------------------------------------------------


def test_it_is_written_to_a_folder_and_read_again(tmp_path):
    net = tc.Sequential(Reservoir(2, 6, leak=0.5), nn.Linear(6, 1))
    net.save_pretrained(tmp_path / "net")
    x = torch.randn(1, 4, 2)
    assert torch.equal(tc.Sequential.from_pretrained(tmp_path / "net")(x)[0], net(x)[0])


X = torch.ones(1, 3, 2)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Reservoir(2, 0), ["Reservoir(inputs, size, connections)", "(2, 0, 10)", "positive"]),
        (lambda: Reservoir(2, 4, leak=0.0), ["Reservoir(leak)", "0.0", "(0, 1]"]),
        (lambda: Reservoir(2, 4, leak=math.nan), ["Reservoir(leak)", "nan"]),
        (lambda: Reservoir(2, 4, spectral_radius=-1.0), ["Reservoir(spectral_radius)", "-1.0", "positive"]),
        (lambda: Reservoir(3, 4)(X), ["Reservoir(x)", "[1, 3, 2]", "[B, T, 3]"]),
        (lambda: Reservoir(2, 4)(X, Echo(torch.zeros(2, 4))), ["Reservoir(state)", "h of shape [1, 4]"]),
        (lambda: Reservoir(2, 4)(X, torch.zeros(1, 4)), ["Reservoir(state)", "found Tensor"]),
    ],
)
def test_errors_name_the_argument_what_was_found_and_the_remedy(make, names):
    with pytest.raises(InputError) as error:
        make()
    for name in [*names, "Remedy"]:
        assert name in str(error.value), str(error.value)
