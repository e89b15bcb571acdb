"""Periods, folding, reversible norm and the inception layer: identities, invariances, and the paper's own example."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from timecell.errors import InputError
from timecell.layers.conv import Inception2d
from timecell.rhythm.fold import fold, unfold
from timecell.rhythm.instance_norm import ReversibleInstanceNorm
from timecell.rhythm.periods import fft_periods


def waves(*of, T=336):
    """[1, T, 1] sum of sines, each of a period and an amplitude."""
    t = torch.arange(float(T))
    return sum(a * torch.sin(2 * torch.pi * t / p) for p, a in of)[None, :, None]


# --- periods ----------------------------------------------------------------------------------------------------------


def test_both_periods_of_two_sines_are_found():
    periods, weights = fft_periods(waves((24, 1.0), (168, 0.5)) + 100.0, k=2)
    assert periods.tolist() == [[24, 168]]
    assert weights[0, 0] > weights[0, 1]


@given(seed=st.integers(0, 1000), T=st.integers(4, 60), k=st.integers(1, 4), level=st.floats(-1e3, 1e3))
def test_weights_sum_to_one_and_the_mean_is_never_a_period(seed, T, k, level):
    k = min(k, T // 2)
    x = torch.randn(3, T, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    periods, weights = fft_periods(x, k)
    torch.testing.assert_close(weights.sum(1), torch.ones(3, dtype=torch.float64))
    assert periods.min() >= 1 and periods.max() <= T
    shifted, _ = fft_periods(x + level, k)
    assert torch.equal(periods, shifted)


def test_each_window_has_its_own_periods_unless_they_are_shared():
    x = torch.cat([waves((12, 1.0)), waves((48, 5.0))])
    assert fft_periods(x, k=1)[0].tolist() == [[12], [48]]
    together, weights = fft_periods(x, k=2, shared=True)
    assert together.tolist() == [[48, 12], [48, 12]]
    assert weights[0, 1] > 0.9 and weights[1, 0] > 0.9, "weights must be each window's own"


def test_gradients_reach_the_input_through_the_weights():
    x = torch.randn(2, 32, 1, requires_grad=True)
    (fft_periods(x, k=3)[1][:, 0].sum()).backward()
    assert x.grad.abs().sum() > 0


def test_impossible_periods_are_refused():
    with pytest.raises(InputError, match=r"k: found 5, expected 1 to 4, half the steps"):
        fft_periods(torch.zeros(1, 9, 1), k=5)
    with pytest.raises(InputError, match=r"x: found shape \[9, 1\]"):
        fft_periods(torch.zeros(9, 1), k=1)


# --- folding ----------------------------------------------------------------------------------------------------------


@given(T=st.integers(1, 40), period=st.integers(1, 50), pad=st.sampled_from(["right", "left", "reflect"]))
def test_fold_then_unfold_is_the_identity(T, period, pad):
    x = torch.arange(2.0 * T * 3).reshape(2, T, 3)
    if pad == "reflect" and -T % period >= T:
        with pytest.raises(InputError, match="to mirror"):
            fold(x, period, pad)
        return
    picture = fold(x, period, pad)
    assert picture.shape[2] == period and (picture.shape[1] - 1) * period < T <= picture.shape[1] * period
    assert torch.equal(unfold(picture, T, pad), x)


def test_a_column_is_one_phase():
    picture = fold(torch.arange(12.0)[None, :, None] % 4, 4)
    assert (picture.std(dim=1) == 0).all()


def test_paddings():
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert fold(x, 3, "left").tolist() == [[[0, 0, 1], [2, 3, 4]]]
    assert fold(x, 3, "reflect").tolist() == [[[1, 2, 3], [4, 3, 2]]]


def test_wrong_folds_are_refused():
    x = torch.zeros(1, 7)
    with pytest.raises(InputError, match="period: found 0"):
        fold(x, 0)
    with pytest.raises(InputError, match="did you mean 'right'"):
        fold(x, 3, "rigth")
    with pytest.raises(InputError, match="steps: found 10, expected 7 to 9 for 3 rows of 3"):
        unfold(fold(x, 3), 10)


# --- reversible norm ----------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), affine=st.booleans())
def test_undo_is_the_inverse(seed, affine):
    torch.manual_seed(seed)
    norm = ReversibleInstanceNorm(3, affine=affine)
    if affine:
        nn.init.uniform_(norm.weight, 0.5, 2.0), nn.init.normal_(norm.bias)
    x = 5 * torch.randn(4, 11, 3) + 100
    torch.testing.assert_close(norm.undo(*norm.normalise(x)), x)


def test_an_affine_change_of_the_input_is_not_seen():
    x = torch.randn(4, 30, 2, dtype=torch.float64)
    norm = ReversibleInstanceNorm(2, eps=1e-12)
    (y, a), (z, b) = norm.normalise(x), norm.normalise(x * torch.tensor([3.0, 0.1]) + torch.tensor([7.0, -2.0]))
    torch.testing.assert_close(y, z)
    torch.testing.assert_close(norm.undo(y, b), norm.undo(y, a) * torch.tensor([3.0, 0.1]) + torch.tensor([7.0, -2.0]))


def test_what_was_not_observed_has_no_part():
    x, observed = torch.randn(2, 8, 1), torch.ones(2, 8, 1, dtype=torch.bool)
    observed[:, 5:] = False
    other = x.clone()
    other[:, 5:] = 1e6
    norm = ReversibleInstanceNorm(1)
    (y, a), (z, b) = norm.normalise(x, observed), norm.normalise(other, observed)
    assert torch.equal(y, z) and torch.equal(a.mean, b.mean) and (y[:, 5:] == 0).all()
    torch.testing.assert_close(a.mean, x[:, :5].mean(1, keepdim=True))
    nothing = norm.normalise(x, torch.zeros_like(observed))[1]
    assert (nothing.mean == 0).all() and (nothing.scale == 1).all()


def test_wrong_windows_are_refused():
    norm = ReversibleInstanceNorm(2)
    with pytest.raises(InputError, match=r"x: found shape \[1, 4, 3\], expected \[B, T, 2\]"):
        norm.normalise(torch.zeros(1, 4, 3))
    with pytest.raises(InputError, match=r"observed: found shape \[1, 4, 1\]"):
        norm.normalise(torch.zeros(1, 4, 2), torch.ones(1, 4, 1, dtype=torch.bool))


# --- inception ----------------------------------------------------------------------------------------------------------


@given(m=st.integers(1, 5), H=st.integers(1, 6), W=st.integers(1, 6))
def test_one_convolution_is_the_mean_of_them_all(m, H, W):
    layer = Inception2d(2, 3, kernels=m).double()
    nn.init.normal_(layer.bias)
    x = torch.randn(2, 2, H, W, dtype=torch.float64)
    each = [nn.functional.conv2d(x, w, layer.bias, padding=i) for i, w in enumerate(layer.weights)]
    torch.testing.assert_close(layer(x), torch.stack(each).mean(0))


def test_no_kernel_is_refused():
    with pytest.raises(InputError, match=r"Inception2d\(kernels\): found 0"):
        Inception2d(1, 1, kernels=0)
