"""A neuron that hears itself: the fused walk against the Python loop, value for value and gradient for gradient."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import timecell as tc
from timecell import fuse
from timecell.errors import InputError

CELLS = [
    tc.LIF(4), tc.LIF(4, reset="hard", learn=("tau",)), tc.AdaptiveLIF(4), tc.LeakyRate(4, tau=torch.tensor([2.0, 3.0, 4.0, 5.0])),
]  # fmt: skip


def numbers(net, x, state, lengths, backend, carry):
    """Everything that comes out, and all gradients."""
    net.zero_grad()
    x, before = x.clone().requires_grad_(), state["y"].clone().requires_grad_()
    name = f"neuron.{net.neuron.states[0]}"
    with fuse.backend(backend), fuse.carry(carry), tc.record(net, name, "neuron") as seen:
        y, after = net(x, {**state, "y": before}, lengths=lengths)
    parts = [y, after["y"], *after["neuron"], seen[name], seen["neuron"]]
    sum(part.sin().sum() for part in parts).backward()
    blame = [torch.zeros_like(before) if before.grad is None else before.grad, x.grad]
    return [*parts, *blame, *(p.grad for p in net.parameters())]


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: type(c).__name__)
@given(
    steps=st.integers(1, 8),
    ragged=st.booleans(),
    bias=st.booleans(),
    carry=st.sampled_from(["full", "none"]),
    seed=st.integers(0, 99),
)
def test_walk_equals_loop(cell, steps, ragged, bias, carry, seed):
    torch.manual_seed(seed)
    net = tc.Recurrent(cell, nn.Linear(4, 4, bias=bias))
    with torch.no_grad():
        _, state = net(torch.randn(3, 2, 4))
    x = torch.randn(3, steps, 4) * 2
    lengths = torch.randint(0, steps + 1, (3,)) if ragged else None
    if ragged and steps:
        x[0, lengths[0] :] = float("nan")  # padding, whatever stands there
    plain, fused = (numbers(net, x, state, lengths, backend, carry) for backend in ("plain", "auto"))
    for a, b in zip(plain, fused):
        torch.testing.assert_close(a.nan_to_num(), b.nan_to_num(), rtol=1e-4, atol=1e-5)


def test_it_is_fused(capsys):
    net = tc.Recurrent(tc.LIF(4), nn.Linear(4, 4))
    net(torch.randn(2, 5, 4))
    assert "Python loop" not in capsys.readouterr().err
    tc.Recurrent(tc.LIF(4), nn.Sequential(nn.Linear(4, 4), nn.Tanh()))(torch.randn(2, 5, 4))  # another synapse: a loop
    y, _ = net(torch.randn(2, 5, 4))
    assert type(y.grad_fn.next_functions[0][0] or y.grad_fn).__name__ == "WalkBackward" or "Walk" in repr(y.grad_fn)


def test_hooks_see_every_instant():
    net, seen = tc.Recurrent(tc.LIF(4), nn.Linear(4, 4)), []
    net.synapse.register_forward_hook(lambda module, given, out: seen.append(out.shape))
    net(torch.randn(2, 5, 4))
    assert len(seen) >= 5


def test_second_derivatives_are_refused():
    net = tc.Recurrent(tc.LIF(4), nn.Linear(4, 4))
    x = torch.randn(2, 5, 4).requires_grad_()
    with pytest.raises(InputError, match="second derivatives"):
        torch.autograd.grad(net(x)[0].sum(), x, create_graph=True)


def test_gradients_of_each_sample():
    net = tc.Recurrent(tc.LIF(4), nn.Linear(4, 4))
    x = torch.randn(3, 5, 4)

    def loss(weights, sample):
        return torch.func.functional_call(net, weights, (sample[None],))[0].sum()

    weights = {k: v.detach() for k, v in net.named_parameters()}
    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, x)
    net(x)[0].sum().backward()
    torch.testing.assert_close(each["synapse.weight"].sum(0), net.synapse.weight.grad)


def test_sparse_activity_gives_the_same_numbers():
    torch.manual_seed(0)
    net = tc.Recurrent(tc.LIF(96), tc.Linear(96, 96))
    x = torch.randn(64, 20, 96) * 0.9
    seen = {}
    for way in ("dense", "auto"):
        net.zero_grad()
        given = x.clone().requires_grad_()
        with fuse.products(way):
            y, _ = net(given)
        y.sin().sum().backward()
        seen[way] = [y.detach(), given.grad, net.synapse.weight.grad, net.synapse.bias.grad]
    assert 0.01 < y.mean() < 0.2
    for a, b in zip(seen["dense"], seen["auto"]):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_spikes_are_kept_as_bits():
    net, x = tc.Recurrent(tc.LIF(96), nn.Linear(96, 96)), torch.randn(64, 20, 96)
    kept = []
    for way in ("dense", "auto"):
        sizes = {}

        def note(t, sizes=sizes):
            sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with fuse.products(way), torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            net(x)
        kept.append(sum(sizes.values()))
    assert kept[1] < 0.6 * kept[0]
