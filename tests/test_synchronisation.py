"""Synchronisation and private histories: recursions equal their sums, neurons are alone, order of neurons is a name."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from timecell.errors import InputError
from timecell.memory.synchronisation import DecayingMean, Synchronisation, dense_pairs
from timecell.neurons.history import NeuronLevelModel


@given(st.integers(1, 12), st.floats(0.0, 15.0), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_recursion_is_the_decayed_sum(steps, rate, seed):
    z = torch.randn(2, steps, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    pairs = Synchronisation(3, torch.tensor([0, 1]), torch.tensor([1, 1]), rate=rate).double()
    found, _ = pairs(z)
    products = z[..., [0, 1]] * z[..., [1, 1]]
    for t in range(steps):
        weight = torch.exp(-torch.tensor(rate, dtype=torch.float32).double() * torch.arange(t, -1, -1))[:, None]
        expected = (weight * products[:, : t + 1]).sum(1) / weight.sum().sqrt()
        torch.testing.assert_close(found[:, t], expected)


def test_without_forgetting_it_is_a_sum_and_with_much_the_present():
    z = torch.randn(1, 9, 2)
    left = right = torch.tensor([0])
    whole, _ = Synchronisation(2, left, right)(z)
    torch.testing.assert_close(whole[0, -1, 0], (z[0, :, 0] ** 2).sum() / math.sqrt(9))
    now, _ = Synchronisation(2, left, right, rate=15.0)(z)
    torch.testing.assert_close(now[..., 0], z[..., 0] ** 2, rtol=1e-4, atol=1e-4)


def test_every_pair_learns_a_rate_of_its_own():
    cell = Synchronisation(3, *dense_pairs(torch.arange(2), torch.arange(1, 3)), rate=0.5)
    cell(torch.randn(2, 6, 3))[0].sum().backward()
    assert cell.mean.rate_raw.grad.shape == (3,) and bool((cell.mean.rate_raw.grad != 0).all())
    assert DecayingMean(3).rate.shape == (3,)


def test_pairs_must_be_neurons():
    with pytest.raises(InputError, match="neurons 0 to 2"):
        Synchronisation(3, torch.tensor([0]), torch.tensor([3]))


def test_one_linear_neuron_is_a_gated_linear_map_of_its_past():
    model = NeuronLevelModel(1, history=4, hidden=None)
    line = nn.Linear(4, 2)
    with torch.no_grad():
        model.weights[0].copy_(line.weight.T[None])
        model.biases[0].copy_(line.bias[None])
    x = torch.randn(3, 7, 1)
    past = torch.cat([torch.zeros(3, 3, 1), x], 1)[:, :, 0].unfold(1, 4, 1)
    torch.testing.assert_close(model(x)[0], nn.functional.glu(line(past), -1))


def test_neurons_do_not_hear_one_another_and_forget_what_is_older_than_their_history():
    model = NeuronLevelModel(3, history=4)
    x = torch.randn(1, 10, 3, requires_grad=True)
    model(x)[0][0, -1, 1].backward()
    heard = x.grad[0] != 0
    assert heard[:, [0, 2]].sum() == 0 and heard[:, 1].tolist() == [False] * 6 + [True] * 4


def test_permuting_neurons_with_their_weights_permutes_the_answer():
    model, order = NeuronLevelModel(4, history=3, hidden=2), torch.tensor([2, 0, 3, 1])
    other = NeuronLevelModel(4, history=3, hidden=2)
    with torch.no_grad():
        for mine, its in zip(model.parameters(), other.parameters()):
            its.copy_(mine if mine.ndim == 0 else mine[order])
    x = torch.randn(2, 5, 4)
    torch.testing.assert_close(other(x[..., order])[0], model(x)[0][..., order])


def test_padding_is_silent_and_the_state_is_that_at_the_end():
    model = NeuronLevelModel(2, history=3)
    x = torch.randn(2, 6, 2)
    y, state = model(x, lengths=torch.tensor([4, 6]))
    short, alone = model(x[:1, :4])
    torch.testing.assert_close(y[:1, :4], short)
    assert bool((y[0, 4:] == 0).all())
    torch.testing.assert_close(state.past[:1], alone.past)
    with pytest.raises(InputError, match="History of shape"):
        model(x, (torch.zeros(2, 2, 2),))
