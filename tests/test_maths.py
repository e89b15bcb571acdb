"""The emitter's elementary functions against numpy's in double precision."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from timecell.fuse import maths


def applied(function):
    @njit(**maths.INLINE)
    def loop(x, y):
        for n in range(x.shape[0]):
            y[n] = function(x[n])

    def over(x):
        x = np.asarray(x, dtype=np.float32)
        y = np.empty_like(x)
        loop(x, y)
        return y

    return over


CASES = {
    "exp": (applied(maths.exp), np.exp, np.linspace(-87, 88.7, 200_001)),
    "sigmoid": (applied(maths.sigmoid), lambda x: 1 / (1 + np.exp(-x)), np.linspace(-80, 80, 200_001)),
    "tanh": (
        applied(maths.tanh),
        np.tanh,
        np.concatenate([np.linspace(-20, 20, 100_001), np.logspace(-30, 0, 50_000)]),
    ),
    "log": (
        applied(maths.log),
        np.log,
        np.concatenate([np.logspace(-37.9, 38.4, 100_001), np.linspace(0.5, 2, 50_000)]),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_relative_error_is_below_4e_7(name):
    ours, truth, x = CASES[name]
    x = x.astype(np.float32)
    expected = truth(x.astype(np.float64))
    inside = expected != 0
    assert np.abs(ours(x)[inside] / expected[inside] - 1).max() <= 4e-7


@pytest.mark.parametrize("name", CASES)
def test_nan_stays_visible(name):
    assert np.isnan(CASES[name][0]([np.nan])).all()


def test_limits():
    inf = np.inf
    exp, sigmoid, tanh, log = (CASES[n][0] for n in ("exp", "sigmoid", "tanh", "log"))
    assert exp([inf, -inf, 1000, -1000, 0]).tolist() == [inf, 0, inf, 0, 1]
    assert sigmoid([inf, -inf, 0]).tolist() == [1, 0, 0.5]
    assert tanh([inf, -inf, 0]).tolist() == [1, -1, 0]
    assert log([inf, 0, 1]).tolist() == [inf, -inf, 0]
    assert np.isnan(log([-1.0, -inf])).all()


@given(st.lists(st.floats(-80, 80, width=32), min_size=1, max_size=40))
def test_exp_and_log_are_inverse(values):
    x = np.array(values, dtype=np.float32)
    assert np.allclose(CASES["log"][0](CASES["exp"][0](x)), x, rtol=1e-6, atol=1e-6)
