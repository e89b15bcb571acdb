"""Gated cells: torch's numbers, and each sample's own end."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from timecell.errors import TimecellError
from timecell.memory import GRU, LSTM, Elman
from timecell.memory.gated import Hidden

PAIRS = [(Elman, nn.RNN), (GRU, nn.GRU), (LSTM, nn.LSTM)]


def twins(ours, theirs, inputs=3, size=4):
    """Our cell and torch's with the same weights, in float64."""
    cell, rnn = ours(inputs, size).double(), theirs(inputs, size, batch_first=True).double()
    rnn.load_state_dict({k.removeprefix("rnn."): v for k, v in cell.state_dict().items()})
    return cell, rnn


def states(last):
    """torch's last states, each [B, N]."""
    return [s[0] for s in (last if isinstance(last, tuple) else (last,))]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=lambda k: k.__name__)
def test_whole_sequences_equal_torch(ours, theirs):
    cell, rnn = twins(ours, theirs)
    x = torch.randn(2, 7, 3, dtype=torch.float64)
    y, state = cell(x)
    expected, last = rnn(x)
    assert torch.equal(y, expected)
    assert all(torch.equal(a, b) for a, b in zip(state, states(last), strict=True))


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=lambda k: k.__name__)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 2), st.integers(0, 1000))
def test_ragged_sequences_equal_packed_ones_in_values_and_gradients(ours, theirs, lengths, more, seed):
    torch.manual_seed(seed)
    cell, rnn = twins(ours, theirs)
    x = torch.randn(len(lengths), max(lengths) + more, 3, dtype=torch.float64)
    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    ends = torch.tensor(lengths)
    y, state = cell(mine, lengths=ends)
    packed, last = rnn(pack_padded_sequence(other, ends, batch_first=True, enforce_sorted=False))
    expected, _ = pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])
    assert torch.allclose(y, expected, atol=1e-12)
    pairs = list(zip(state, states(last), strict=True))
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in pairs)
    weights = torch.randn_like(y)
    loss = (y * weights).sum() + sum((a**2).sum() for a, _ in pairs)
    truth = (expected * weights).sum() + sum((b**2).sum() for _, b in pairs)
    ours_g = torch.autograd.grad(loss, [mine, *cell.parameters()])
    for a, b in zip(ours_g, torch.autograd.grad(truth, [other, *rnn.parameters()])):
        assert torch.allclose(a, b, atol=1e-11)
    assert not ours_g[0][torch.arange(x.shape[1]) >= ends[:, None]].any()


@pytest.mark.parametrize("kind", [Elman, GRU, LSTM])
@given(st.integers(1, 8), st.integers(0, 1000))
def test_a_sequence_may_be_cut_anywhere(kind, cut, seed):
    torch.manual_seed(seed)
    cell = kind(3, 4).double()
    x, lengths = torch.randn(4, 9, 3, dtype=torch.float64), torch.tensor([9, 5, 1, 0])
    x[torch.arange(9) >= lengths[:, None]] = torch.nan  # what stands in the padding is nobody's business
    whole, end = cell(x, lengths=lengths)
    left, state = cell(x[:, :cut], lengths=lengths.clamp(max=cut))
    right, state = cell(x[:, cut:], state, lengths=(lengths - cut).clamp(min=0))
    assert torch.allclose(torch.cat([left, right], 1), whole, atol=1e-12)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(state, end))
    assert not any(s[3].any() for s in end)


def test_forget_bias_lengthens_the_first_memories():
    def decay(bias):
        torch.manual_seed(0)
        cell = LSTM(1, 50, forget_bias=bias)
        before = cell.initial_state(1, torch.zeros(1, 1, 1))
        _, after = cell(torch.zeros(1, 1, 1), before._replace(c=before.c + 1))
        return (after.c - cell(torch.zeros(1, 1, 1), before)[1].c).mean().item()

    assert abs(decay(0.0) - 0.5) < 0.03
    assert abs(decay(1.0) - torch.tensor(1.0).sigmoid().item()) < 0.03


@pytest.mark.parametrize("kind", [Elman, GRU, LSTM])
def test_reduced_precision_with_lengths(kind):
    x, lengths = torch.randn(3, 5, 4), torch.tensor([5, 2, 0])
    cell = kind(4, 3)
    y, _ = cell(x, lengths=lengths)
    low, state = kind(4, 3).bfloat16()(x.bfloat16(), lengths=lengths)
    assert low.dtype == torch.bfloat16 and all(s.dtype == torch.bfloat16 for s in state)
    with torch.autocast("cpu", torch.bfloat16):
        auto, _ = cell(x, lengths=lengths)
    assert torch.allclose(auto.float(), y, atol=0.05)


X = torch.ones(2, 5, 3)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: LSTM(4, 2)(X), ["LSTM(x)", "[2, 5, 3]", "[B, T, 4]"]),
        (lambda: GRU(3, 2)(X[..., None]), ["GRU(x)", "[2, 5, 3, 1]"]),
        (lambda: LSTM(3, 2)(X, GRU(3, 2)(X)[1]), ["LSTM(state)", "Hidden", "h, c of shape [2, 2]"]),
        (lambda: Elman(3, 2)(X, Hidden(torch.zeros(1, 2))), ["Elman(state)", "h of shape [2, 2]"]),
    ],
)
def test_errors_name_the_argument_what_was_found_and_the_remedy(make, names):
    with pytest.raises(TimecellError) as error:
        make()
    for name in [*names, "Remedy"]:
        assert name in str(error.value), str(error.value)
