"""Activity-driven products: torch's numbers, by the way that costs less, with bits kept instead of floats."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

import timecell as tc
from timecell.errors import InputError
from timecell.fuse.raw import kernels
from timecell.fuse.sparse_rows import pays, product, products, sparse_rows
from timecell.synapses.linear import Linear


def spikes(*shape, density, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=generator) < density).to(dtype)


def layer(inputs=256, outputs=64, **options):
    torch.manual_seed(1)
    return Linear(inputs, outputs, **options)


def both(x, weight, bias, way):
    """y and the gradients of x, weight and bias: by a way of ours, and by torch."""
    found = []
    for function in (sparse_rows, nn.functional.linear):
        leaves = [t if t is None else t.detach().clone().requires_grad_() for t in (x, weight, bias)]
        with products(way):
            y = function(*leaves)
        blame = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
        grads = torch.autograd.grad(y, [t for t in leaves if t is not None], blame)
        found.append((y, *grads))
    return zip(*found)


# --- the numbers -------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 7)), inputs=st.integers(1, 150), outputs=st.integers(1, 40),
    density=st.sampled_from([0.0, 0.02, 0.3, 1.0]), real=st.booleans(), bias=st.booleans(), way=st.sampled_from(["sparse", "auto"]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_values_and_gradients_are_those_of_torch(shape, inputs, outputs, density, real, bias, way, seed):
    x = spikes(*shape, inputs, density=density, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, dtype=x.dtype, generator=generator)
    x = x * torch.randn(x.shape, dtype=x.dtype, generator=generator) if real else x
    b = torch.randn(outputs, dtype=x.dtype, generator=generator) if bias else None
    for ours, torchs in both(x, weight, b, way):
        torch.testing.assert_close(ours, torchs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("density", [0.02, 0.6])
@pytest.mark.parametrize("real", [False, True])
def test_in_float32_too_on_either_path_and_on_two_threads(density, real):
    x = spikes(5000, 96, density=density, dtype=torch.float32)
    x = x * torch.randn(x.shape) if real else x
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert product(x, torch.randn(64, 96))[1].path == ("sparse" if density == 0.02 else "dense")
        for ours, torchs in both(x, torch.randn(64, 96), torch.randn(64), "auto"):
            torch.testing.assert_close(ours, torchs, rtol=1e-4, atol=2e-3)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "x",
    [
        spikes(9, 70, 20, density=0.3).transpose(1, 2),
        spikes(70, 9, density=0.3).t(),
        spikes(1, 1, 70, density=0.3).expand(3, 4, 70),
        spikes(30, 140, density=0.3)[::2, ::2],
        spikes(70, density=0.3),
    ],
    ids=["transposed", "turned", "expanded", "strided", "one row"],
)
def test_any_layout_of_the_input(x):
    for ours, torchs in both(x, torch.randn(5, 70, dtype=x.dtype), None, "sparse"):
        torch.testing.assert_close(ours, torchs)


@pytest.mark.parametrize("shape", [(0, 8), (3, 0, 8), (3, 0)])
def test_nothing_to_multiply(shape):
    x = torch.zeros(shape)
    for ours, torchs in both(x, torch.ones(2, shape[-1]), torch.ones(2), "auto"):
        torch.testing.assert_close(ours, torchs)


@pytest.mark.parametrize("wild", [float("nan"), float("inf"), -float("inf"), 1e-40])
def test_what_is_not_finite_is_active_and_comes_through(wild):
    x = spikes(40, 130, density=0.1)
    x[3, 129] = wild
    weight = torch.randn(6, 130, dtype=x.dtype)
    for ours, torchs in both(x, weight, None, "sparse"):
        torch.testing.assert_close(ours, torchs, equal_nan=True)


def test_silent_units_do_not_meet_their_weights():
    x, weight = torch.tensor([[1.0, 0.0], [0.0, -0.0]]), torch.tensor([[2.0, float("inf")]])
    with products("sparse"):
        assert sparse_rows(x, weight).tolist() == [[2.0], [0.0]]
    assert nn.functional.linear(x, weight).isnan().all()


def test_a_product_an_instant_at_a_time():
    x, rows, out = spikes(4, 70, density=0.2).numpy(), np.random.default_rng(1).normal(size=(70, 5)), np.ones((4, 5))
    kernels("sparse_rows_kernels").accumulate(x, rows, out, 1, 4)
    np.testing.assert_allclose(out, np.concatenate([np.ones((1, 5)), 1 + x[1:] @ rows]), atol=1e-12)


# --- the choice --------------------------------------------------------------------------------------------------


def test_the_density_of_the_input_decides():
    net = layer()
    assert (net.path, net.density) == (None, None)
    net(spikes(400, 256, density=0.02, dtype=torch.float32))
    assert net.path == "sparse" and 0.01 < net.density < 0.03 and "last call sparse: " in repr(net)
    net(spikes(400, 256, density=0.6, dtype=torch.float32))
    assert net.path == "dense" and 0.55 < net.density < 0.65 and "last call dense: " in repr(net)


def test_the_rule():
    assert pays(0.02, 6400, 256) and not pays(0.6, 6400, 256)
    densities, widths, lengths = np.linspace(0, 1, 101), (1, 8, 64, 512), (20, 64, 6400)
    crossings = [[max([d for d in densities if pays(d, r, o)], default=-1) for o in widths] for r in lengths]
    assert crossings == sorted(crossings) and all(c == sorted(c) for c in crossings)  # more rows, more outputs
    assert crossings[0] == [-1] * 4


def test_what_is_too_small_is_not_counted():
    x = spikes(400, 8, density=0.02, dtype=torch.float32)
    assert product(x, torch.ones(3, 8))[1] == ("dense", None, "a small product")


@pytest.mark.parametrize("way", ["dense", "sparse"])
def test_one_way_can_be_forced(way):
    net, x = layer(), spikes(400, 256, density=0.3, dtype=torch.float32)
    with products(way):
        net(x)
    assert net.path == way


def test_another_word_is_refused():
    with pytest.raises(InputError, match="products: found 'quick', expected auto, dense or sparse"), products("quick"):
        pass


@pytest.mark.parametrize(
    ("x", "weight", "said"),
    [
        (torch.ones(3, 4, dtype=torch.bfloat16), torch.ones(2, 4, dtype=torch.bfloat16), "bfloat16 times"),
        (torch.ones(3, 4, device="meta"), torch.ones(2, 4, device="meta"), "meta"),
        (torch.ones(0, 4), torch.ones(2, 4), r"shapes \[0, 4\]"),
        (torch.ones(3, 4).to_sparse(), torch.ones(2, 4), "sparse_coo"),
    ],
)
def test_where_only_torch_can_multiply(x, weight, said):
    assert product(x, weight)[1].path == "dense"
    with pytest.raises(InputError, match=f'products: found "sparse" for .*{said}'), products("sparse"):
        sparse_rows(x, weight)


def test_under_the_plain_backend_and_autocast_torch_multiplies():
    net, x = layer(), spikes(400, 256, density=0.02, dtype=torch.float32)
    with tc.fuse.backend("plain"):
        net(x)
    assert net.path == "dense"
    with torch.autocast("cpu", torch.bfloat16):
        assert net(x).dtype == torch.bfloat16


# --- memory ------------------------------------------------------------------------------------------------------


def saved_bytes(x, net):
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        net(x)
    return sum(t.nbytes for t in kept)


@pytest.mark.parametrize("density", [0.02, 0.7])
def test_spikes_are_kept_as_bits_on_either_path(density):
    net, x = layer(), spikes(400, 256, density=density, dtype=torch.float32)
    assert saved_bytes(x, net) == x.nbytes / 32
    net.weight.requires_grad_(False)
    assert saved_bytes(x, net) == 0
    assert saved_bytes(x.requires_grad_(), net) == net.weight.nbytes


def test_few_real_values_are_kept_as_bits_and_values():
    net, x = layer(), 2 * spikes(400, 256, density=0.02, dtype=torch.float32)
    assert saved_bytes(x, net) == x.nbytes / 32 + 4 * int((x != 0).sum())


def test_many_real_values_are_kept_as_they_are():
    x = torch.rand(400, 256)
    assert saved_bytes(x, layer()) == x.nbytes


# --- torch's transforms and traces -------------------------------------------------------------------------------


def test_transforms_and_traces_multiply_densely_with_the_same_numbers():
    net, x = layer(), spikes(400, 256, density=0.02, dtype=torch.float32)
    y = net(x)
    assert net.path == "sparse"
    parts = {n: p.detach() for n, p in net.named_parameters()}
    same = [
        torch.func.vmap(net)(x.view(4, 100, 256)).view(400, 64),
        torch.func.functional_call(net, parts, (x,)),
        make_fx(net)(x)(x),
        torch.jit.trace(net, x)(x),
        torch.export.export(net, (x,)).module()(x),
        torch.compile(net, backend="eager", fullgraph=True)(x),
    ]
    for other in same:
        torch.testing.assert_close(other, y, rtol=1e-4, atol=1e-5)
    blame = torch.func.grad(lambda p: torch.func.functional_call(net, p, (x,)).square().sum())(parts)
    y.square().sum().backward()
    torch.testing.assert_close(blame["weight"], net.weight.grad, rtol=1e-4, atol=1e-3)


def test_many_blames_at_once():
    net, x = layer(), spikes(400, 256, density=0.02, dtype=torch.float32)
    y, blame = net(x), torch.randn(2, 400, 64)
    mapped = torch.func.vmap(lambda g: torch.autograd.grad(y, net.weight, g, retain_graph=True)[0])(blame)
    torch.testing.assert_close(mapped, blame.mT @ x, rtol=1e-4, atol=1e-4)


def test_second_derivatives_are_refused():
    net = layer()
    y = net(spikes(400, 256, density=0.02, dtype=torch.float32))
    with pytest.raises(InputError, match="second derivatives"):
        torch.autograd.grad(y.sum(), net.weight, create_graph=True)


# --- in a net ----------------------------------------------------------------------------------------------------


def test_it_is_torchs_linear_to_a_state_dict():
    torch.manual_seed(1)
    theirs, ours = nn.Linear(256, 64), layer()
    assert isinstance(ours, nn.Linear) and list(ours.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values()))
    ours.load_state_dict(theirs.state_dict())
    assert layer(bias=False).bias is None


def test_a_net_of_it_learns_what_a_net_of_torchs_learns():
    x = spikes(8, 30, 256, density=0.02)
    nets = []
    for kind in (Linear, nn.Linear):
        torch.manual_seed(0)
        net = tc.Sequential(kind(256, 96), nn.ReLU(), kind(96, 3)).double()
        y, _ = net(x, lengths=torch.tensor([30, 30, 30, 30, 30, 30, 30, 4]))
        y.square().sum().backward()
        nets.append((y, [p.grad for p in net.parameters()]))
    torch.testing.assert_close(*nets)


def test_it_is_written_and_read_back(tmp_path):
    net = tc.Sequential(Linear(5, 4, bias=False), nn.ReLU(), Linear(4, 2)).eval()
    net.save_pretrained(tmp_path)
    again = tc.Sequential.from_pretrained(tmp_path)
    assert [type(m) for m in again.children()] == [Linear, nn.ReLU, Linear] and again.get_submodule("0").bias is None
    x = torch.rand(2, 6, 5)
    assert torch.equal(again(x)[0], net(x)[0])
