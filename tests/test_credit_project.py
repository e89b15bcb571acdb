"""Lateral units find the principal subspace of what comes in, and later updates stay out of it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import timecell as tc
from timecell.config import from_dict, to_dict
from timecell.credit import BPTT, Eligibility, FixedFeedback, Full, Instantaneous, PresynapticTrace, Rule
from timecell.credit.checks import check, example_batch, example_net, gradients
from timecell.credit.project import (
    HebbianProjection,
    HebbianSubspace,
    finish_task,
    lateral_units,
    with_lateral_units,
)
from timecell.errors import InputError

N, K = 20, 5


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def inputs(rank, n=256, seed=0):
    """Samples in N dimensions: a few strong directions of equal power, weak noise in all others."""
    generator = torch.Generator().manual_seed(seed)
    strong = torch.linalg.qr(torch.randn(N, rank, generator=generator))[0].T
    return torch.randn(n, rank, generator=generator) @ strong + 0.05 * torch.randn(n, N, generator=generator)


def principal(x, k):
    return torch.linalg.svd(x, full_matrices=False)[2][:k]


def learnt(x, rows, times=300):
    lateral = HebbianSubspace(N, rows)
    for _ in range(times):
        lateral.watch(x)
    return lateral


@settings(deadline=None, max_examples=5)
@given(st.integers(1, K), st.integers(0, 9))
def test_rows_become_an_orthonormal_basis_of_the_principal_subspace(k, seed):
    torch.manual_seed(seed)
    x = inputs(k, seed=seed)
    rows = learnt(x, (k,)).present
    assert (rows @ rows.T - torch.eye(k)).norm() / k**0.5 < 0.05
    assert (rows @ principal(x, k).T).square().sum() / k > 0.99, "mean squared cosine of the principal angles"


def test_rows_of_a_second_task_find_what_the_first_ones_leave_over():
    first, second = inputs(3, seed=1), inputs(3, seed=2)
    lateral = learnt(first, (3, 3))
    lateral.finish_task()
    kept = lateral.kept.clone()
    for _ in range(300):
        lateral.watch(second)
    assert torch.equal(lateral.kept, kept), "what is kept stays to the bit"
    rest = second - second @ kept.T @ kept
    assert (lateral.present @ principal(rest, 3).T).square().sum() / 3 > 0.98
    assert (lateral.present @ kept.T).abs().max() < 0.05
    lateral.finish_task()
    lateral.watch(first)
    assert len(lateral.kept) == 6 and len(lateral.present) == 0, "no rows are left for a third task"


def test_silence_teaches_nothing():
    lateral = HebbianSubspace(N, (2,))
    before = lateral.rows.clone()
    lateral.watch(torch.zeros(4, N))
    assert torch.equal(lateral.rows, before)


def protected(share=0.5, tasks=2):
    net = with_lateral_units(example_net(), share, tasks)
    rule = Rule(Full(), update=HebbianProjection(repeats=20))
    for _ in range(20):
        gradients(rule, net, example_batch())
    return net, rule


@pytest.mark.parametrize("time", [Full(), Instantaneous(2), PresynapticTrace(2)], ids=str)
@pytest.mark.parametrize("space", [None, FixedFeedback()], ids=str)
def test_an_update_has_no_part_along_what_is_kept(time, space):
    net, _ = protected()
    for synapse in (net[0], net[2], net[4]):
        lateral = lateral_units(synapse)
        lateral.rows.copy_(torch.linalg.qr(lateral.rows.T)[0].T)
    finish_task(net)
    rule = Rule(time, update=HebbianProjection()) if space is None else Rule(time, space, HebbianProjection())
    found = gradients(rule, net, example_batch())[1]
    for number in (0, 2, 4):
        kept = lateral_units(net[number]).kept
        assert len(kept) and (found[f"{number}.weight"] @ kept.T).abs().max() < 1e-12
    assert found["0.weight"].abs().max() > 1e-6, "and something is learnt along the rest"


def test_nothing_is_spared_before_the_first_task_is_done_and_nothing_learnt_when_all_is_kept():
    net, batch = with_lateral_units(example_net(), 1.0, 1), example_batch()
    truth = gradients(BPTT(), net, batch)[1]
    rule = Rule(Full(), update=HebbianProjection())
    found = gradients(rule, net, batch)[1]
    assert all(torch.allclose(found[n], truth[n], atol=1e-12) for n in truth)
    for module in net.modules():
        if isinstance(module, HebbianSubspace):
            module.rows.copy_(torch.eye(len(module.rows)))
    finish_task(net)
    found = gradients(rule, net, batch)[1]
    assert all(g.abs().max() < 1e-12 for n, g in found.items() if n.endswith("weight"))


def test_a_synapse_without_lateral_units_learns_as_ever():
    net, batch = example_net(), example_batch()
    truth = gradients(BPTT(), net, batch)[1]
    found = gradients(Rule(Full(), update=HebbianProjection()), net, batch)[1]
    assert all(torch.allclose(found[n], truth[n], atol=1e-12) for n in truth)


@pytest.mark.parametrize("space", [None, FixedFeedback()], ids=str)
def test_it_keeps_the_contract_of_credit_rules(space):
    rule = Rule(PresynapticTrace(2), *([] if space is None else [space]), update=HebbianProjection())
    for result in check(rule):
        assert result.passed, f"{result.name}: {result.promise}\n{result.reason}"


def test_patches_of_a_convolution_have_lateral_units_too():
    net = tc.Sequential(nn.Conv2d(1, 2, 3), tc.LIF((2, 1, 1)), nn.Flatten(), nn.Linear(32, 2))
    with_lateral_units(net, 0.2, 2)
    assert lateral_units(net[0]).rows.shape == (4, 9)
    assert {"0.lateral.rows", "0.lateral.done"} <= net.state_dict().keys()


def test_rows_are_dealt_out_until_there_are_as_many_as_inputs():
    net = with_lateral_units(tc.Sequential(nn.Linear(3, 2)), 0.3, 5)
    sizes = []
    for _ in range(6):
        sizes.append(len(lateral_units(net[0]).present))
        finish_task(net)
    assert sizes == [1, 1, 1, 0, 0, 0]


def test_it_can_be_written_down():
    rule = Rule(Full(), update=HebbianProjection(3))
    assert from_dict(to_dict(rule)) == rule


def test_refusals():
    with pytest.raises(InputError, match=r"HebbianSubspace\(rows\): found 4 rows, expected at most 3"):
        HebbianSubspace(3, (2, 2))
    with pytest.raises(InputError, match=r"share: found 0, expected more than 0"):
        with_lateral_units(example_net(), 0, 1)
    net = with_lateral_units(example_net(), 0.5, 1)
    with pytest.raises(InputError, match="HebbianProjection: found a trace for each weight"):
        gradients(Rule(Eligibility(), update=HebbianProjection()), net, example_batch())
