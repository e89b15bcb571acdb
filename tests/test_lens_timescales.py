"""Autocorrelation and the time constants fitted to it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timecell.errors import InputError
from timecell.fuse import linear_scan
from timecell.lens.timescales import timescales
from timecell.rhythm.autocorrelation import autocorrelation


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def forgetting(*taus, steps=60_000, seed=0):
    """Signals [T, N] of variance 1 that forget with these time constants."""
    a = torch.exp(-1 / torch.tensor(taus, dtype=torch.float64))
    x, _ = linear_scan(a, (1 - a**2).sqrt() * noise(1, steps, len(taus), seed=seed))
    return x[0]


@given(st.integers(0, 99), st.integers(2, 40), st.integers(0, 30))
@settings(max_examples=15, deadline=None)
def test_it_equals_its_definition(seed, steps, lags):
    lags = min(lags, steps - 1)
    x = noise(2, steps, 3, seed=seed)
    centred = x - x.mean(1, keepdim=True)
    direct = [(centred[:, : steps - k] * centred[:, k:]).mean(1) for k in range(lags + 1)]
    expected = torch.stack(direct, 1) / centred.square().mean(1, keepdim=True)
    torch.testing.assert_close(autocorrelation(x, lags), expected)


def test_a_constant_has_none():
    r = autocorrelation(torch.full((1, 50, 1), 0.3), 4)
    assert r.isnan().all()
    found = timescales(torch.full((200, 1), 0.3), lags=10)
    assert np.isnan(found.tau).all() and found.exponentials.tolist() == [0] and not found.reliable().any()


def test_one_time_constant():
    found = timescales(forgetting(3.0, 10.0, 30.0))
    np.testing.assert_allclose(found.tau, [3, 10, 30], rtol=0.15)
    assert found.reliable(0.98).all()


def test_two_time_constants_and_the_slower_one_is_told():
    found = timescales(forgetting(2.0, seed=1) + 1.5 * forgetting(30.0, seed=2), lags=100)
    assert found.exponentials.tolist() == [2]
    np.testing.assert_allclose(found.tau, [30], rtol=0.2)


def test_a_rhythm_is_not_reliable():
    t = torch.arange(5000, dtype=torch.float64)
    assert not timescales(torch.sin(0.4 * t)[:, None]).reliable().any()


def test_what_is_refused():
    with pytest.raises(InputError, match=r"found shape \[1, 5, 2\], lags 5"):
        autocorrelation(torch.zeros(1, 5, 2), 5)
    with pytest.raises(InputError, match=r"expected \[T, N\] with T > lags > 5"):
        timescales(torch.zeros(50, 2), lags=50)
