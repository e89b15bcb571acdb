"""Losses on spikes and membranes: closed forms, padding, slices, gradients that point the right way."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from timecell import losses
from timecell.data.containers import Batch
from timecell.errors import InputError
from timecell.tasks import Classify

B, T, K = 4, 9, 3
WHOLE = {
    "rate_ce": losses.rate_ce,
    "rate_mse": losses.rate_mse,
    "membrane_ce": losses.membrane_ce,
    "first_spike_ce": losses.first_spike_ce,
}
EACH = {"step_ce": losses.step_ce, "membrane_mse": losses.membrane_mse, "tet": losses.tet}


def spikes(seed: int = 0, rate: float = 0.3) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.bernoulli(torch.full((B, T, K), rate, dtype=torch.float64), generator=g)


def target(seed: int = 0) -> torch.Tensor:
    return torch.randint(0, K, (B,), generator=torch.Generator().manual_seed(seed + 100))


@pytest.mark.parametrize("name", WHOLE)
@given(seed=st.integers(0, 100))
def test_padding_has_no_part_and_no_gradient(name, seed):
    lengths = torch.randint(1, T + 1, (B,), generator=torch.Generator().manual_seed(seed))
    y = spikes(seed).requires_grad_()
    together = WHOLE[name](y, target(seed), lengths)
    assert together.shape == (B,)
    for i, n in enumerate(lengths.tolist()):
        alone = WHOLE[name](y[i : i + 1, :n], target(seed)[i : i + 1])
        torch.testing.assert_close(alone, together[i : i + 1])
    together.sum().backward()
    beyond = torch.arange(T) >= lengths[:, None]
    assert (y.grad[beyond] == 0).all()


@pytest.mark.parametrize("name", EACH)
def test_a_loss_of_each_step_knows_that_step_only(name):
    y = torch.randn(B, T, K, dtype=torch.float64)
    every = EACH[name](y, target())
    assert every.shape == (B, T)
    for t in range(T):
        torch.testing.assert_close(EACH[name](y[:, t : t + 1], target()), every[:, t : t + 1])


@pytest.mark.parametrize("name", [*WHOLE, *EACH])
def test_the_gradient_raises_the_right_unit_and_lowers_the_others(name):
    y = torch.full((B, T, K), 0.5, dtype=torch.float64, requires_grad=True)
    loss = {**WHOLE, **EACH}[name]
    loss(y, target()).sum().backward()
    right = F.one_hot(target(), K).bool()
    pushed = -y.grad.sum(dim=1)
    assert (pushed[right] > 0).all() and (pushed[~right] < 0).all()


def test_counts_and_first_spikes():
    y = torch.zeros(1, 4, 3)
    y[0, 2, 0] = y[0, 3, 0] = y[0, 0, 1] = 1
    assert losses.spike_count(y).tolist() == [[2, 1, 0]]
    assert losses.first_spike_time(y).tolist() == [[2, 0, 4]]
    assert losses.spike_count(y, torch.tensor([3])).tolist() == [[1, 1, 0]]
    assert losses.first_spike_time(y, torch.tensor([2])).tolist() == [[2, 0, 2]]


@given(seed=st.integers(0, 100), rate=st.floats(0.0, 1.0))
def test_the_first_spike_is_where_one_would_look(seed, rate):
    y = spikes(seed, rate)
    expected = [[next((t for t in range(T) if y[b, t, k]), T) for k in range(K)] for b in range(B)]
    assert losses.first_spike_time(y).tolist() == expected


def test_the_first_spike_moves_by_what_happens_before_it():
    y = torch.tensor([0.0, 0.0, 1.0, 0.0, 1.0]).view(1, 5, 1).requires_grad_()
    losses.first_spike_time(y).sum().backward()
    # a spike at step 0 or 1 would be 2 or 1 steps earlier; without the one at step 2 the next is 2 later
    assert y.grad.flatten().tolist() == [-2, -1, -2, 0, 0]


def test_closed_forms():
    chance = math.log(K)
    silent, none = torch.zeros(B, T, K), torch.zeros(B, dtype=torch.long)
    for loss in (losses.rate_ce, losses.membrane_ce, losses.first_spike_ce):
        torch.testing.assert_close(loss(silent, none), torch.full((B,), chance))
    torch.testing.assert_close(losses.step_ce(silent, none), torch.full((B, T), chance))
    expected = (0.8**2 + (K - 1) * 0.2**2) / K
    torch.testing.assert_close(losses.rate_mse(silent, none), torch.full((B,), expected))
    torch.testing.assert_close(losses.membrane_mse(silent, none), torch.full((B, T), 1 / K))
    v = torch.randn(B, T, K)
    torch.testing.assert_close(losses.tet(v, none, pull=0.0), losses.step_ce(v, none))
    torch.testing.assert_close(losses.tet(v, none, pull=1.0, level=0.3), ((v - 0.3) ** 2).mean(2))
    torch.testing.assert_close(losses.membrane_peak(v, torch.tensor([1] * B)), v[:, 0])


def test_activity_is_bounded_from_both_sides():
    y = torch.zeros(1, 10, 3)
    y[0, :, 1], y[0, :3, 2] = 1, 1  # rates 0, 1 and 0.3
    assert losses.activity_l1(y).item() == pytest.approx(13 / 3)
    assert losses.activity_l1(y, torch.tensor([5])).item() == pytest.approx(8 / 3)
    bounds = losses.activity_bounds(y, lower=0.1, upper=0.5)
    assert bounds.item() == pytest.approx((0.1**2 + 0.5**2) / 3)
    assert losses.activity_bounds(y[:, :, 2:], lower=0.1, upper=0.5).item() == 0
    assert losses.activity_bounds(y[:, :, 2:], torch.tensor([3]), lower=0.1, upper=0.5).item() == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: losses.rate_mse(spikes(), target(), right=1.5), r"right: found 1.5, expected a share of steps"),
        (lambda: losses.tet(spikes(), target(), pull=-0.1), r"pull: found -0.1, expected a share"),
        (lambda: losses.activity_bounds(spikes(), lower=0.6, upper=0.5), r"lower, upper: found \(0.6, 0.5\)"),
    ],
)
def test_bad_settings_are_named(call, named):
    with pytest.raises(InputError, match=named):
        call()


# --- as a classification's loss ----------------------------------------------------------------------------------------


def batch(lengths=None) -> Batch:
    return Batch(torch.zeros(B, T, 1), target(), lengths)


@pytest.mark.parametrize(
    ("task", "loss"),
    [
        (Classify("count"), losses.rate_ce),
        (Classify("count", criterion="mse"), losses.rate_mse),
        (Classify("first_spike"), losses.first_spike_ce),
        (Classify("max"), losses.membrane_ce),
    ],
)
def test_a_task_uses_the_loss_of_its_readout(task, loss):
    lengths = torch.tensor([T, 2, 5, 1])
    y = spikes()
    torch.testing.assert_close(task.loss(y, batch(lengths), slice(None)), loss(y, target(), lengths).mean())
    assert task.needs_whole is not None


@pytest.mark.parametrize("criterion", ["cross_entropy", "mse", "tet"])
def test_losses_of_every_step_add_up_over_slices(criterion):
    task, data = Classify("every", criterion=criterion), batch(torch.tensor([T, 2, 5, 1]))
    y = torch.randn(B, T, K, dtype=torch.float64)
    assert task.needs_whole is None
    parts = sum(task.loss(y[:, s], data, s) for s in (slice(0, 4), slice(4, 5), slice(5, T)))
    torch.testing.assert_close(parts, task.loss(y, data, slice(0, T)))


def test_the_answer_follows_the_readout():
    y = torch.zeros(B, T, K)
    y[:, 0, 1], y[:, 3:6, 2] = 1, 1  # unit 1 fires first, unit 2 most
    assert Classify("count").scores_from_outputs(y, batch()).argmax(1).tolist() == [2] * B
    assert Classify("first_spike").scores_from_outputs(y, batch()).argmax(1).tolist() == [1] * B


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"criterion": "tett"}, "criterion: found 'tett', expected one of cross_entropy, mse, tet"),
        ({"readout": "count", "criterion": "tet"}, "readout: found 'count', expected every with tet"),
        ({"readout": "last", "criterion": "mse"}, "readout: found 'last', expected count or every with mse"),
        ({"readout": "every", "criterion": "mse", "label_smoothing": 0.1}, "label_smoothing: found 0.1, expected 0"),
    ],
)
def test_losses_that_do_not_fit_the_readout_are_refused(settings, named):
    with pytest.raises(InputError, match=named):
        Classify(**settings)
