"""Dropout whose mask is state, the noise behind it, batch norm per step, and codes of position."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from timecell import LIF, Sequential
from timecell.errors import TimecellError
from timecell.layers import Dropout, PerStep, sinusoidal_positions
from timecell.layers.noise import start, uniform
from timecell.state import index


def ones(batch=3, steps=6, *units):
    return torch.ones(batch, steps, *(units or (5,)), dtype=torch.float64)


# --- noise -------------------------------------------------------------------------------------------------------


def test_noise_is_uniform_and_its_places_are_independent():
    seed, step = start(50, torch.device("cpu")).seed, torch.arange(40).expand(50, 40)
    u = uniform(seed, step, (30,)).double()
    assert u.min() >= 0 and u.max() < 1
    counts = torch.histc(u, 20, 0, 1)
    assert ((counts - u.numel() / 20) ** 2 / (u.numel() / 20)).sum() < 50  # chi squared, 19 degrees: p < 2e-4
    z = (u - 0.5) * 12**0.5
    for a, b in ((z[:, 1:], z[:, :-1]), (z[1:], z[:-1]), (z[..., 1:], z[..., :-1])):  # steps, samples, units
        assert (a * b).mean().abs() < 4 / a.numel() ** 0.5


def test_noise_belongs_to_its_place():
    seed, step = torch.tensor([5, 7, 5]), torch.tensor([[0, 1], [0, 1], [1, 0]])
    u = uniform(seed, step, (2, 3))
    assert torch.equal(u[0, 0], u[2, 1]) and not torch.equal(u[0], u[1])
    assert u.shape == (3, 2, 2, 3)


# --- dropout -----------------------------------------------------------------------------------------------------


@given(st.sampled_from(["same", "fresh"]), st.integers(1, 6), st.integers(0, 1000))
def test_slices_and_instants_meet_the_masks_of_the_whole(over_time, cut, seed):
    torch.manual_seed(seed)
    drop, x = Dropout(0.5, over_time), ones()
    first, state = drop(x[:, :1])
    state = state._replace(step=torch.zeros_like(state.step))
    lengths = torch.tensor([6, 4, 0])
    whole, end = drop(x, state, lengths=lengths)
    assert torch.equal(end.step, lengths)
    left, middle = drop(x[:, :cut], state, lengths=lengths.clamp(max=cut))
    right, last = drop(x[:, cut:], middle, lengths=(lengths - cut).clamp(min=0))
    assert torch.equal(torch.cat([left, right], 1), whole) and torch.equal(last.step, end.step)
    assert torch.equal(whole[:2, :1], first[:2]) and not whole[2].any()
    order = torch.tensor([1, 0])  # and so do other batches
    assert torch.equal(drop(x[order], index(state, order), lengths=lengths[order])[0], whole[order])
    y, now = drop.step(x[:, 0], state)
    assert torch.equal(y, first[:, 0]) and now.step.tolist() == [1, 1, 1]


def test_masks_over_time_and_their_mean():
    torch.manual_seed(0)
    x = ones(40, 20, 50)
    same, fresh = Dropout(0.3)(x)[0], Dropout(0.3, "fresh")(x)[0]
    assert torch.equal(same, same[:, :1].expand_as(same)) and not torch.equal(same[0], same[1])
    assert (fresh[:, 1:] != fresh[:, :-1]).any()
    for y in (same, fresh):
        assert torch.allclose(y.unique(), torch.tensor([0, 1 / 0.7]).double())
    assert abs(fresh.mean() - 1) < 0.01 and abs(same.mean() - 1) < 0.05


def test_eval_is_identity_and_the_seed_comes_from_torchs_generator():
    drop, x = Dropout(0.5), ones()
    torch.manual_seed(3)
    one = drop(x)[0]
    torch.manual_seed(3)
    assert torch.equal(drop(x)[0], one) and not torch.equal(drop(x)[0], one)
    y, state = drop.eval()(x)
    assert torch.equal(y, x) and state is None


def test_gradient_is_the_mask():
    x = ones().requires_grad_()
    y, _ = Dropout(0.5, "fresh")(x, start(3, x.device))
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


# --- norms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [None, torch.tensor([5, 5, 3, 1])], ids=["whole", "ragged"])
def test_per_step_statistics_are_those_of_slices_of_one_step(lengths):
    torch.manual_seed(0)
    x = torch.randn(4, 5, 3, 4, 4)
    whole, sliced = PerStep(nn.BatchNorm2d(3)), Sequential(nn.BatchNorm2d(3))
    parts = [sliced(x[:, t : t + 1], lengths=None if lengths is None else (lengths > t).long())[0] for t in range(5)]
    assert torch.allclose(whole(x, lengths=lengths)[0], torch.cat(parts, 1), atol=1e-6)
    assert torch.allclose(whole.module.running_mean, sliced[0].running_mean)
    y, _ = whole.eval()(x)
    assert torch.allclose(y, sliced.eval()(x)[0], atol=1e-6)


def test_with_norms_per_step_the_cut_of_time_does_not_matter_in_training():
    torch.manual_seed(0)
    net = Sequential(nn.Linear(3, 8), PerStep(nn.BatchNorm1d(8)), LIF(8, tau=2.0))
    over_all = Sequential(net[0], nn.BatchNorm1d(8), net[2])
    x = torch.randn(6, 4, 3)
    for model, equal in ((net, True), (over_all, False)):
        whole, _ = model(x)
        left, state = model(x[:, :2])
        right, _ = model(x[:, 2:], state)
        assert torch.equal(torch.cat([left, right], 1), whole) == equal


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Dropout(1.0), ["Dropout(p)", "1.0", "[0, 1)"]),
        (lambda: Dropout(float("nan")), ["Dropout(p)", "nan"]),
        (lambda: Dropout(0.1, "frehs"), ["Dropout(over_time)", "did you mean 'fresh'"]),
        (lambda: Dropout()(ones(), start(2, torch.device("cpu"))), ["Dropout(state)", "2 samples", "3"]),
    ],
)
def test_errors_name_the_argument_what_was_found_and_the_remedy(make, names):
    with pytest.raises(TimecellError) as error:
        make()
    for name in [*names, "Remedy"]:
        assert name in str(error.value), str(error.value)


# --- positions ---------------------------------------------------------------------------------------------------


def test_a_sinusoidal_code_tells_how_far_apart_two_steps_are():
    code = sinusoidal_positions(40, 16).double()
    near = code @ code.T
    for lag in range(40):
        torch.testing.assert_close(near.diagonal(lag), near[0, lag].expand(40 - lag), atol=1e-4, rtol=0)
    assert near[0, 0] == 8 and (near[0, 1:] < 8).all()
    assert sinusoidal_positions(4, 5).shape == (4, 5), "an odd width has a sine more"
