"""Attention and the stacks made of it: against torch's own, masks, the cache, and sampling."""

import pytest
import torch
from torch import nn

from timecell.errors import InputError
from timecell.layers.attention import MultiHeadAttention, SelfAttention, causal_mask, padding_mask
from timecell.networks.decoding import sample
from timecell.networks.transformer import Attend, TransformerDecoder, TransformerEncoder
from timecell.testing import check

D, H = 8, 2


def pair(memory_size=D):
    """Ours and torch's, with the same weights, in float64."""
    torch.manual_seed(0)
    ours = MultiHeadAttention(D, H, memory_size=memory_size).double()
    theirs = nn.MultiheadAttention(D, H, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.output.state_dict())
    return ours, theirs


# --- the operator ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
def test_it_equals_torchs_own(masked):
    ours, theirs = pair()
    x, memory = torch.randn(3, 5, D).double(), torch.randn(3, 7, D).double()
    mask = torch.rand(5, 7) < 0.6 if masked else None
    if masked:
        mask[:, 0] = True
    y, weights = theirs(x, memory, memory, attn_mask=None if mask is None else ~mask, average_attn_weights=False)
    torch.testing.assert_close(ours(x, memory, mask), y)
    torch.testing.assert_close(ours.weights(x, memory, mask), weights)


def test_numbers_as_mask_are_added_to_the_scores():
    ours, _ = pair()
    x = torch.randn(2, 5, D).double()
    bias = torch.zeros(5, 5).double().masked_fill(~causal_mask(5, 5), -torch.inf)
    torch.testing.assert_close(ours(x, mask=bias), ours(x, mask=causal_mask(5, 5)))
    torch.testing.assert_close(ours.weights(x, mask=bias), ours.weights(x, mask=causal_mask(5, 5)))
    far = torch.zeros(H, 5, 5).double()
    far[0] = bias
    one, all_ = ours.weights(x, mask=far.expand(2, -1, -1, -1)), ours.weights(x)
    torch.testing.assert_close(one[:, 1], all_[:, 1])
    assert (one[:, 0].triu(1) == 0).all()


def test_what_reads_is_what_the_weights_say():
    ours, _ = pair()
    x, memory = torch.randn(3, 5, D).double(), torch.randn(3, 7, D).double()
    mask = padding_mask(torch.tensor([7, 2, 4]), 7)
    values = ours.value(memory).unflatten(-1, (H, -1)).transpose(1, 2)
    read = (ours.weights(x, memory, mask) @ values).transpose(1, 2).flatten(2)
    torch.testing.assert_close(ours(x, memory, mask), ours.output(read))


def test_what_is_masked_does_not_matter():
    ours, _ = pair()
    x, memory = torch.randn(2, 5, D).double(), torch.randn(2, 7, D).double()
    mask = padding_mask(torch.tensor([3, 7]), 7)
    other = memory.clone()
    other[0, 3:] = 1e3
    assert torch.equal(ours(x, memory, mask), ours(x, other, mask))


def test_a_query_that_sees_nothing_reads_zeros_and_has_a_gradient():
    ours, _ = pair()
    x = torch.randn(2, 3, D).double().requires_grad_()
    mask = torch.tensor([[True, True, True], [False, False, False], [True, False, False]])
    y = ours(x, mask=mask)
    torch.testing.assert_close(y[:, 1], ours.output.bias.expand(2, -1))
    assert (ours.weights(x, mask=mask)[:, :, 1] == 0).all()
    y.sum().backward()
    assert x.grad.isfinite().all()


def test_nan_stays_visible():
    ours, _ = pair()
    x = torch.randn(2, 3, D).double()
    x[0, 1] = torch.nan
    assert ours(x)[0].isnan().all() and ours.weights(x)[0].isnan().all()
    assert ours(x)[1].isfinite().all()


def test_memories_of_another_width_and_keys_in_any_order():
    attention = MultiHeadAttention(D, H, memory_size=3)
    x, memory = torch.randn(2, 5, D), torch.randn(2, 7, 3)
    order = torch.randperm(7)
    torch.testing.assert_close(attention(x, memory), attention(x, memory[:, order]))
    torch.testing.assert_close(attention.weights(x, memory)[..., order], attention.weights(x, memory[:, order]))


@pytest.mark.parametrize(
    "call, names",
    [
        (lambda: MultiHeadAttention(8, 3), ["heads", "3 heads for a width of 8"]),
        (lambda: MultiHeadAttention(8, 2)(torch.zeros(2, 3, 7)), ["(x)", "[2, 3, 7]", "[B, T, 8]"]),
        (lambda: MultiHeadAttention(8, 2)(torch.zeros(3, 8)), ["(x)", "[3, 8]"]),
        (lambda: MultiHeadAttention(8, 2, memory_size=5)(torch.zeros(2, 3, 8)), ["(memory)", "[B, T, 5]"]),
        (
            lambda: MultiHeadAttention(8, 2)(torch.zeros(2, 3, 8), mask=causal_mask(4, 4)),
            ["mask", "[4, 4]", "[2, 2, 3, 3]"],
        ),
        (lambda: SelfAttention(8, 2, context=0), ["context", "found 0"]),
        (
            lambda: SelfAttention(8, 2, context=3)(
                torch.zeros(2, 3, 8), SelfAttention(8, 2, context=4).initial_state(2, torch.zeros(2, 3, 8))
            ),
            ["state", "[2, 3, 8]", "[2, 2, 8]"],
        ),
        (lambda: TransformerEncoder(8, layers=0), ["TransformerEncoder(layers)", "found 0"]),
        (lambda: TransformerDecoder(8, layers=0), ["TransformerDecoder(layers)", "found 0"]),
    ],
)
def test_what_does_not_fit_is_refused(call, names):
    with pytest.raises(InputError) as error:
        call()
    for name in names:
        assert name in str(error.value)


# --- over time -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cell",
    [
        SelfAttention,
        TransformerEncoder,
        SelfAttention(4, 2, context=1),
        SelfAttention(4, 2, context=30),
        SelfAttention(4, 2),
        TransformerEncoder(4, 1, 2),
    ],
    ids=["causal", "causal stack", "itself only", "long context", "whole", "whole stack"],
)
def test_they_keep_the_contract_of_cells(cell):
    assert [f"{r.name}: {r.reason}" for r in check(cell) if not r.passed] == []


def test_the_context_is_counted_per_layer():
    one, two = (TransformerEncoder(D, layers=n, heads=H, context=3).double().eval() for n in (1, 2))
    x = torch.randn(1, 9, D).double()
    other = x.clone()
    other[0, 0, 0] += 1.0  # a norm would take away what all channels share
    for net, reach in ((one, 3), (two, 5)):
        changed = (net(x)[0] != net(other)[0]).any(-1)[0]
        assert changed.tolist() == [t < reach for t in range(9)]


def test_a_decoder_sees_its_past_and_all_of_its_memory():
    torch.manual_seed(0)
    net = TransformerDecoder(D, layers=2, heads=H).double().eval()
    x, memory = torch.randn(2, 6, D).double(), torch.randn(2, 4, D).double()
    y = net(x, memory)
    later = x.clone()
    later[:, 4:, 0] += 1.0
    assert torch.equal(net(later, memory)[:, :4], y[:, :4]) and not torch.equal(net(later, memory), y)
    last = memory.clone()
    last[:, 3, 0] += 1.0
    assert (net(x, last)[:, 0] != y[:, 0]).any()
    hidden = padding_mask(torch.tensor([3, 3]), 4)
    assert torch.equal(net(x, last, hidden), net(x, memory, hidden))


def test_attend_says_where_it_looks():
    attend = Attend(D, H, memory_size=3)
    weights = attend.weights(torch.randn(2, 5, D), torch.randn(2, 4, 3))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, H, 5))


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_samples_follow_the_probabilities():
    logits = torch.tensor([0.5, 0.3, 0.2, 0.0]).log().expand(20_000, 4)
    drawn = sample(logits, generator=torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.2, 0.0]), atol=0.015, rtol=0)


@pytest.mark.parametrize("top_p, allowed", [(0.4, {0}), (0.6, {0, 1}), (0.9, {0, 1, 2}), (1.0, {0, 1, 2})])
def test_the_nucleus_is_the_smallest_that_suffices(top_p, allowed):
    logits = torch.tensor([0.5, 0.3, 0.2, 0.0]).log().expand(500, 4)
    assert set(sample(logits, top_p=top_p, generator=torch.Generator().manual_seed(0)).tolist()) == allowed


def test_one_generator_one_sample():
    logits = torch.randn(4, 3, 10)
    one, two = (sample(logits, 2.0, 0.9, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one, two) and one.shape == (4, 3)
    assert torch.equal(sample(logits, temperature=1e-4), logits.argmax(-1))


@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"temperature": 0.0}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"logits": torch.full((2, 3), -torch.inf)}, "logits"),
        ({"logits": torch.tensor([0.0, torch.nan])}, "logits"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, name):
    with pytest.raises(InputError, match=f"^{name}: "):
        sample(**{"logits": torch.zeros(2, 3), **arguments})
