"""A generated cell: what it returns is what it says it is made of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timecell.data.synthetic import neural
from timecell.data.synthetic.neural import dendritic_neuron
from timecell.errors import InputError

CELL = dendritic_neuron(samples=12, steps=1000, seed=3)


def inputs(cell):
    return cell.data.values.reshape(*cell.spikes.shape, -1)


def test_shapes_signs_and_wiring():
    assert len(CELL.data) == 12 and CELL.data[0].shape == (1000, 128) and CELL.branches.shape == (12, 1000, 8)
    assert CELL.data.schema.rate == 1000 and CELL.data.schema.channels[0][0] == ("e" if CELL.sign[0] > 0 else "i")
    assert (np.bincount(CELL.branch) == 16).all() and (np.diff(CELL.branch) >= 0).all() and (CELL.weight > 0).all()
    x = inputs(CELL)
    assert ((x == 0) | (x == CELL.sign)).all()


def test_inputs_have_the_mean_rate_that_was_asked_for():
    cell = dendritic_neuron(samples=100, steps=1000, rate=20.0)
    assert abs(inputs(cell)).mean() * 1000 == pytest.approx(20.0, rel=0.1)


def test_the_rates_of_a_branch_wander_together():
    busy = abs(inputs(CELL)).astype(float).reshape(12, 20, 50, 8, 16).sum(2).reshape(240, 8, 16)
    same = np.mean([np.corrcoef(busy[:, j].T)[np.triu_indices(16, 1)].mean() for j in range(8)])
    others = np.mean([np.corrcoef(busy[:, j, 0], busy[:, k, 0])[0, 1] for j in range(8) for k in range(j)])
    assert same > 0.3 > others + 0.1


def test_a_branch_is_a_sigmoid_of_its_own_leaky_sum():
    x, keep_u, keep_n = inputs(CELL), np.exp(-1 / neural.BRANCH), np.exp(-1 / neural.PLATEAU)
    on = CELL.branch == 5
    u = n = 0.0
    for t in range(200):
        u = keep_u * u + neural.KICK * x[0, t, on] @ CELL.weight[on]
        n = keep_n * n + (1 - keep_n) / (1 + np.exp(-(u - 1) / neural.SOFTNESS))
        assert CELL.branches[0, t, 5] == pytest.approx(n, abs=1e-4)


def test_it_fires_at_threshold_with_a_refractory_period_and_adapts():
    fires = CELL.spikes > 0
    assert (CELL.soma[fires] >= 1).all()
    gaps = np.concatenate([np.diff(np.flatnonzero(row)) for row in CELL.spikes])
    assert gaps.min() > neural.REFRACTORY
    missed = (CELL.soma >= 1) & ~fires  # above 1, and silent, only because it has fired before
    assert missed.any() and all(fires[trial, :t].any() for trial, t in np.argwhere(missed))


def test_it_fires_at_a_few_spikes_a_second_whatever_its_wiring():
    rates = [dendritic_neuron(samples=10, seed=s, cell_seed=s).spikes.mean() * 1000 for s in range(4)]
    assert all(0.5 < rate < 15 for rate in rates)


def test_nothing_comes_of_nothing():
    silent = dendritic_neuron(samples=2, steps=200, rate=0.0)
    assert not silent.data.values.any() and not silent.spikes.any() and silent.branches.max() < 1e-4
    assert not dendritic_neuron(samples=2, steps=200, coupling=0.0).spikes.any()


@given(st.integers(0, 100), st.integers(0, 100))
def test_seeds_choose_inputs_and_wiring_apart(seed, cell_seed):
    def make(a, b):
        return dendritic_neuron(16, 4, 30, samples=2, rate=50.0, seed=a, cell_seed=b)

    one, again = make(seed, cell_seed), make(seed, cell_seed)
    assert one.data.fingerprint == again.data.fingerprint and (one.soma == again.soma).all()
    assert (make(seed + 1, cell_seed).weight == one.weight).all()
    assert (abs(make(seed, cell_seed + 1).data.values) == abs(one.data.values)).all()
    assert (make(seed, cell_seed + 1).weight != one.weight).any()


@pytest.mark.parametrize(
    ("name", "value"),
    [("branches", 0), ("synapses", 30), ("synapses", 4), ("steps", 0), ("rate", -1.0), ("rate", float("nan")),
     ("inhibitory", 1.5), ("coupling", float("inf")), ("samples", 0)],
)  # fmt: skip
def test_arguments_out_of_range_are_named(name, value):
    with pytest.raises(InputError, match=rf"(?s){name}.*{value}"):
        dendritic_neuron(**{"synapses": 16, "branches": 8, "steps": 5, "samples": 1, name: value})
