"""Codes of time: bounded, exact at zero, precise for moments in seconds."""

import pytest
import torch

from timecell.errors import InputError
from timecell.rhythm.time_encoding import Time2Vec, TimeEncoding


def test_frequencies_fall_from_one():
    encode = TimeEncoding(4, slowest=1e-3)
    torch.testing.assert_close(encode.frequency.data, torch.tensor([1.0, 1e-1, 1e-2, 1e-3]))
    assert torch.equal(encode(torch.zeros(2, 3)), torch.ones(2, 3, 4)) and encode(torch.rand(5) * 1e6).abs().max() <= 1


def test_only_a_learnable_one_learns():
    assert not any(p.requires_grad for p in TimeEncoding(4).parameters())
    encode = TimeEncoding(4, learnable=True)
    encode(torch.tensor([1.0])).sum().backward()
    assert encode.frequency.grad.abs().max() > 0


def test_moments_in_double_precision_keep_their_seconds():
    encode, moment = TimeEncoding(1), torch.tensor([1.7e9], dtype=torch.float64)
    turn = 2 * torch.pi * 1000
    assert encode(moment).dtype == torch.float32
    torch.testing.assert_close(encode(moment), encode(moment + turn), atol=1e-5, rtol=0)
    assert (encode(moment) - encode(moment + 1)).abs() > 0.01


def test_time2vec_has_a_line_and_sines():
    code = Time2Vec(3)
    y = code(torch.tensor([0.0, 1.0, 2.0]))
    torch.testing.assert_close(y[2, 0] - y[1, 0], y[1, 0] - y[0, 0])
    assert y[:, 1:].abs().max() <= 1 and len(list(code.parameters())) == 2


@pytest.mark.parametrize("make", [lambda: TimeEncoding(0), lambda: Time2Vec(0), lambda: TimeEncoding(3, slowest=0)])
def test_nothing_to_encode_with(make):
    with pytest.raises(InputError, match=r"size|slowest"):
        make()
