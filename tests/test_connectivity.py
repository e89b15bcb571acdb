"""Functional connectivity, non-negative factors and weighted blocks: what the dynamic connectome is made of."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timecell.data.synthetic.block_model import block_model
from timecell.data.synthetic.calcium import calcium
from timecell.data.synthetic.circuit import clustered_circuit
from timecell.errors import InputError
from timecell.rhythm.connectivity import functional_connectivity
from timecell.rhythm.factorisation import Factors, descend, factorise
from timecell.systems.recordings.weighted_blocks import _Partition, description_length, fit_blocks
from timecell.tasks.structure import agreement

RNG = np.random.default_rng(0)


def walk(T=120, N=6, seed=0):
    return np.cumsum(np.random.default_rng(seed).standard_normal((T, N)), axis=0)


# --- connectivity --------------------------------------------------------------------------------------------------------


def test_correlation_is_numpys():
    x = walk()
    found = functional_connectivity(x, window=40, stride=20)
    assert found.shape == (5, 6, 6) and np.isnan(found[:, np.arange(6), np.arange(6)]).all()
    away = ~np.eye(6, dtype=bool)
    np.testing.assert_allclose(found[2][away], np.corrcoef(x[40:80].T)[away])


@pytest.mark.parametrize("measure", ["correlation", "affinity"])
def test_names_of_channels_do_not_matter(measure):
    x, order = walk(), RNG.permutation(6)
    whole = functional_connectivity(x, 16, 8, measure, neighbours=2)
    np.testing.assert_allclose(
        functional_connectivity(x[:, order], 16, 8, measure, neighbours=2), whole[:, order][:, :, order]
    )
    np.testing.assert_allclose(whole, whole.transpose(0, 2, 1), atol=1e-12)


def test_affinity_is_local_and_needs_activity():
    x = np.zeros((60, 5))
    pulse = np.hanning(20)
    x[10:30, 0] = x[10:30, 1] = pulse  # together
    x[40:60, 2] = pulse  # alone
    x[:20, 3] = pulse  # another course, at about the same time
    found = functional_connectivity(x, 20, 10, "affinity", neighbours=1)
    assert found[1, 0, 1] == pytest.approx(found[1, 1, 0]) and found[1, 0, 1] > 0.3
    assert found[1, 0, 1] > 10 * found[1, 0, 3]
    assert found[4, 0, 1] == 0 and found[4, 0, 2] == 0, "silent pairs have none, and a lone channel neither"
    assert np.nanmin(found) >= 0


def test_a_gap_takes_a_channel_out():
    x = walk()
    x[50, 2] = np.nan
    found = functional_connectivity(x, 20, 20)
    assert np.isnan(found[2, 2]).all() and np.isfinite(found[1, 2, :2]).all()
    assert np.isnan(functional_connectivity(x, 20, 20, "affinity")[:, 2]).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"window": 1, "stride": 1}, "window: found 1, expected at least 2"),
        ({"window": 5, "stride": 0}, "stride"),
        ({"window": 200, "stride": 1}, "x: found 120 steps, expected at least a window of 200"),
        ({"window": 5, "stride": 1, "measure": "afinity"}, "did you mean 'affinity'"),
    ],
)
def test_connectivity_says_what_is_wrong(arguments, says):
    with pytest.raises(InputError, match=says):
        functional_connectivity(walk(), **arguments)


# --- factors -------------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), rank=st.integers(1, 4), hidden=st.floats(0, 0.5))
@settings(max_examples=15, deadline=None)
def test_the_error_never_rises_and_nothing_is_negative(seed, rank, hidden):
    rng = np.random.default_rng(seed)
    tensor = rng.random((5, 6, 7)) ** 3
    tensor[rng.random(tensor.shape) < hidden] = np.nan
    fits = list(descend(tensor, rank, seed=seed, sweeps=25))
    errors = [fit.error for fit in fits]
    assert np.diff(errors).max() < 1e-7
    assert min(fits[-1].a.min(), fits[-1].b.min(), fits[-1].c.min()) >= 0
    model = np.einsum("ir,jr,kr->ijk", fits[-1].a, fits[-1].b, fits[-1].c)
    seen = ~np.isnan(tensor)
    left = np.sqrt(((tensor - model)[seen] ** 2).sum() / (tensor[seen] ** 2).sum())
    assert left == pytest.approx(errors[-1], abs=1e-6)


def test_hidden_entries_are_found_from_the_others():
    a, b, c = RNG.random((8, 2)), RNG.random((9, 2)), RNG.random((10, 2))
    whole = np.einsum("ir,jr,kr->ijk", a, b, c)
    tensor = whole.copy()
    hidden = RNG.random(tensor.shape) < 0.3
    tensor[hidden] = np.nan
    fit = factorise(tensor, 2, sweeps=3000, tolerance=1e-10)
    model = np.einsum("ir,jr,kr->ijk", fit.a, fit.b, fit.c)
    assert np.abs(model - whole)[hidden].max() < 0.05
    assert fit.similarity(Factors(a, b, c)) > 0.98


def test_factors_say_what_is_wrong():
    for tensor, rank, says in (
        (np.ones((2, 2)), 1, r"expected \[I, J, K\]"),
        (-np.ones((2, 2, 2)), 1, r"tensor\[0, 0, 0\]: found -1.0"),
        (np.zeros((2, 2, 2)), 1, "nothing but zeros"),
        (np.ones((2, 2, 2)), 0, "rank: found 0"),
    ):
        with pytest.raises(InputError, match=says):
            factorise(tensor, rank)


# --- blocks --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("corrected", [False, True])
def test_description_length(corrected):
    weights, block = block_model(60, seed=1, mixing=0.2)
    planted = description_length(weights, block, corrected)
    assert description_length(weights, 7 - block, corrected) == pytest.approx(planted)
    order = RNG.permutation(60)
    assert description_length(weights[np.ix_(order, order)], block[order], corrected) == pytest.approx(planted)
    assert planted < description_length(weights, RNG.permutation(block), corrected) - 50


@pytest.mark.parametrize("corrected", [False, True])
def test_the_cost_of_a_step_is_the_change_of_the_length(corrected):
    weights, _ = block_model(40, degree=10, seed=2)
    weights /= weights[weights > 0].mean()
    partition = _Partition(weights, np.random.default_rng(0).integers(0, 4, 40), corrected)
    lengths = []
    partition.take(5)
    cost = partition.insertion(5)
    for block in range(5):
        partition.put(5, block)
        lengths.append(partition.copy().length())
        partition.take(5)
    np.testing.assert_allclose(np.diff(cost), np.diff(lengths), atol=1e-8)
    partition.put(5, 0)
    partition, before = partition.copy(), partition.length()
    merged = _Partition(weights, np.where(partition.labels == 3, 1, partition.labels), corrected)
    assert partition.merging()[1, 3] == pytest.approx(merged.length() - before)


def test_blocks_are_found_and_a_graph_without_stays_whole():
    weights, block = block_model(60, seed=0, mixing=0.2, degree=12)
    fit = fit_blocks(weights, restarts=1)
    assert agreement(fit.labels, block)["nmi"] > 0.9 and len(fit.lengths) == 2
    assert fit.description_length == min(fit.lengths)
    noise = np.triu(RNG.exponential(1.0, (40, 40)) * (RNG.random((40, 40)) < 0.3), 1)
    assert fit_blocks(noise + noise.T, restarts=1).labels.max() == 0


def test_blocks_say_what_is_wrong():
    for weights, says in (
        (np.ones((2, 3)), r"expected \[N, N\]"),
        (np.triu(np.ones((3, 3))), r"weights\[0, 1\]"),
        (np.zeros((3, 3)), "no edge"),
    ):
        with pytest.raises(InputError, match=says):
            fit_blocks(weights)
    with pytest.raises(InputError, match="labels"):
        description_length(np.ones((3, 3)), np.zeros(2, int))


# --- generators ----------------------------------------------------------------------------------------------------------


def test_calcium_is_as_it_says():
    data, members, activity = calcium(seed=3)
    assert [int(np.isnan(data[i]).all(axis=0).sum()) for i in range(3)] == [6, 6, 6]
    assert ((members.sum(axis=1) >= 12) & (members.sum(axis=1) <= 18)).all() and (members.sum(axis=0) == 2).any()
    alone = ~members.any(axis=0)
    assert alone.any(), "distractors"
    x, drive = np.nan_to_num(data[0]), activity[0]
    for own, act in zip(members, drive.T):
        on = act > 0.5
        assert 0.01 < on.mean() < 0.4
        assert x[on][:, own].mean() > 2.5 * x[on][:, alone].mean()
    again = calcium(seed=3)
    assert np.array_equal(again.data.values, data.values, equal_nan=True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"neurons": 20}, "neurons: found 20"),
        ({"shared": 1.0}, "shared"),
        ({"lasting": (20, 400)}, "lasting"),
        ({"missing": -0.1}, "missing"),
    ],
)
def test_calcium_says_what_is_wrong(arguments, says):
    with pytest.raises(InputError, match=says):
        calcium(**arguments)


def test_silence_changes_only_what_the_neuron_does():
    whole, without = clustered_circuit(seed=0), clustered_circuit(seed=0, silenced=3)
    assert not without.rates[:, 3].any() and whole.rates[:, 3].any()
    noise = whole.data.values - whole.rates, without.data.values - without.rates
    np.testing.assert_allclose(*noise, atol=1e-12)
    with pytest.raises(InputError, match="silenced"):
        clustered_circuit(silenced=99)


def test_planted_groups():
    weights, block = block_model(seed=0)
    within = block[:, None] == block
    edges = weights > 0
    assert 0.4 < edges[~within].sum() / edges.sum() < 0.6
    assert 0.2 < weights[edges & ~within].mean() / weights[edges & within].mean() < 0.3
    with pytest.raises(InputError, match="mixing"):
        block_model(mixing=1.0)
