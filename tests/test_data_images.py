"""Pictures that are always at hand, and the sequences that encoders make of them."""

import numpy as np
import pytest
import torch

from timecell.data.encoders import direct, latency, rate
from timecell.data.images import Images, load_digits
from timecell.errors import InputError


def test_the_digits_are_those_of_scikit_learn():
    digits = load_digits()
    assert digits.pixels.shape == (1797, 8, 8) and digits.pixels.dtype == np.float32
    assert (digits.pixels.min(), digits.pixels.max()) == (0.0, 1.0)
    assert digits.classes == tuple("0123456789") and np.bincount(digits.target).min() >= 174
    ones = digits.pixels[digits.target == 1].mean(axis=0)
    assert ones[:, 3:5].mean() > 2 * ones[:, [0, 1, 6, 7]].mean(), "a one is a vertical stroke"


def test_codes_say_the_same_in_their_own_ways():
    digits = load_digits()
    flat = torch.from_numpy(digits.pixels.reshape(-1, 64))
    still, early = digits.encoded(lambda x: direct(x, 4)), digits.encoded(lambda x: latency(x, 17))
    random = digits.encoded(lambda x: rate(x, 200, torch.Generator().manual_seed(0)))
    assert [d.schema.spikes for d in (still, early, random)] == [False, True, True]
    np.testing.assert_array_equal(still[5], flat[5].expand(4, 64))
    np.testing.assert_allclose(random[5].mean(axis=0), flat[5], atol=0.15)
    fired = early[5].any(axis=0)
    np.testing.assert_array_equal(fired, flat[5] > 0)
    np.testing.assert_allclose(1 - early[5].argmax(axis=0)[fired] / 16, flat[5][fired], atol=1e-6)  # 17 grey levels
    np.testing.assert_array_equal(early.target, digits.target)


def test_channels_are_named_by_row_and_column():
    pictures = Images(np.zeros((1, 2, 3), np.float32), np.array([0]), ("one", "two"))
    data = pictures.encoded(lambda x: direct(x, 1))
    assert data.schema.channels == tuple(f"pixel {r},{c}" for r in range(2) for c in range(3))
    assert data.schema.classes == ("one", "two")


def test_a_code_of_another_shape_is_refused():
    with pytest.raises(
        InputError, match=r"code: found shape \[1797, 64\], expected \[1797, T, 64\](?s:.)*direct, rate"
    ):
        load_digits().encoded(lambda x: x)
