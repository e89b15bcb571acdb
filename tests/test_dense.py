"""Dense products by oneDNN: torch's numbers, by a choice that no timing makes."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from timecell.fuse import dense
from timecell.fuse.sparse_rows import pays, product, products

onednn = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this torch lacks oneDNN's linear operator"
)


@pytest.fixture
def everywhere(monkeypatch):
    """oneDNN for products of all sizes, on any processor; the calls that it got."""
    calls, operator = [], torch.ops.mkldnn._linear_pointwise

    def noted(a, b, *rest):
        calls.append((a, b))
        return operator(a, b, *rest)

    monkeypatch.setattr(dense, "WORTH_IT", 1)
    monkeypatch.setattr(dense, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", noted)
    return calls


LAYOUTS = {
    "rows": lambda t: t.contiguous(),
    "turned": lambda t: t.t().contiguous().t(),
    "a slice": lambda t: torch.cat([t, t], 1)[:, : t.shape[1]],
    "every other": lambda t: t.repeat_interleave(2, 0)[::2],
    "expanded": lambda t: t[:1].expand(t.shape),
}


@onednn
@given(
    sizes=st.tuples(st.integers(1, 70), st.integers(1, 40), st.integers(1, 70)),
    layouts=st.tuples(st.sampled_from(list(LAYOUTS)), st.sampled_from(list(LAYOUTS))),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_product_of_any_layout_is_that_of_float64(everywhere, sizes, layouts, bias, seed):
    generator = torch.Generator().manual_seed(seed)
    rows, terms, outputs = sizes
    a, b = (torch.randn(n, terms, generator=generator) for n in (rows, outputs))
    a, b = LAYOUTS[layouts[0]](a), LAYOUTS[layouts[1]](b)
    c = torch.randn(outputs, generator=generator) if bias else None
    y = dense.product(a, b, c)
    truth = functional.linear(a.double(), b.double(), c if c is None else c.double())
    torch.testing.assert_close(y.double(), truth, rtol=1e-4, atol=1e-4)
    assert y.is_contiguous() and everywhere
    assert all(
        w.is_contiguous() or w.t().is_contiguous() for _, w in everywhere
    )  # others take a thousand times as long


@onednn
@pytest.mark.parametrize("worth_it", [1, 1 << 40])
def test_a_product_is_added_in_place(everywhere, monkeypatch, worth_it):
    monkeypatch.setattr(dense, "WORTH_IT", worth_it)
    a, b, total = torch.randn(5, 9), torch.randn(7, 9), torch.randn(2, 5, 7)
    expected = total[1] + a @ b.t()
    dense.add_product(total[1], a, b)
    torch.testing.assert_close(total[1], expected)
    assert len(everywhere) == (worth_it == 1)


@onednn
def test_long_sums_are_as_exact_as_short_ones(everywhere):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(60, 5000, generator=generator) for _ in range(2))
    error = (dense.product(a, b).double() - a.double() @ b.double().t()).square().mean().sqrt()
    assert len(everywhere) == 5 and error < 5e-7 * 5000**0.5


@onednn
@pytest.mark.parametrize("wild", [float("nan"), float("inf"), -float("inf"), 1e-40])
def test_what_is_not_finite_comes_through(everywhere, wild):
    a, b = torch.randn(9, 33), torch.randn(7, 33)
    a[4, 32], b[2] = wild, 0
    torch.testing.assert_close(dense.product(a, b), functional.linear(a, b), equal_nan=True, rtol=1e-4, atol=1e-5)


@onednn
def test_one_thread_or_two_and_again_give_the_same_bits():
    a, b, before = torch.randn(700, 96), torch.randn(64, 96), torch.get_num_threads()
    try:
        found = [(torch.set_num_threads(n), dense.product(a, b))[1] for n in (1, 2, 1)]
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


# --- gradients ---------------------------------------------------------------------------------------------------


def leaves():
    torch.manual_seed(0)
    return [torch.randn(shape, requires_grad=True) for shape in ((4, 10, 12), (8, 12), (8,))]


@onednn
@pytest.mark.parametrize("frozen", [(), (0,), (1,), (2,), (0, 2)])
def test_gradients_are_those_of_torch(everywhere, frozen):
    found = []
    for function in (dense.linear, functional.linear):
        given = leaves()
        for i in frozen:
            given[i].requires_grad_(False)
        function(*given).sin().sum().backward()
        found.append([t.grad for t in given])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
    assert [g is None for g in found[0]] == [i in frozen for i in range(3)]


@onednn
def test_second_derivatives_too(everywhere):
    found = []
    for function in (dense.linear, functional.linear):
        x, weight, bias = leaves()
        grads = torch.autograd.grad(function(x, weight, bias).pow(3).sum(), (x, weight, bias), create_graph=True)
        found.append(torch.autograd.grad(sum(g.square().sum() for g in grads), (x, weight, bias)))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-1)


@onednn
def test_many_blames_at_once(everywhere):
    x, weight, bias = leaves()
    y, blame = dense.linear(x, weight, bias), torch.randn(3, 4, 10, 8)
    mapped = torch.autograd.grad(y, weight, blame, is_grads_batched=True)[0]
    torch.testing.assert_close(mapped, torch.einsum("kbto,bti->koi", blame, x), rtol=1e-4, atol=1e-4)


@onednn
def test_dense_input_of_a_synapse_takes_it(everywhere):
    x, weight, _ = leaves()
    with products("dense"):
        y, choice = product(x, weight)
    assert len(everywhere) == 1 and choice.path == "dense"
    y.sum().backward()
    assert len(everywhere) == 3


# --- the choice --------------------------------------------------------------------------------------------------


@onednn
@pytest.mark.parametrize(
    "given",
    [
        (torch.ones(3, 4, dtype=torch.float64), torch.ones(2, 4, dtype=torch.float64)),
        (torch.ones(3, 4, dtype=torch.bfloat16), torch.ones(2, 4, dtype=torch.bfloat16)),
        (torch.ones(3, 4), torch.ones(2, 4), torch.ones(1)),
        (torch.ones(3, 4, device="meta"), torch.ones(2, 4, device="meta")),
        (torch.ones(3, 0), torch.ones(2, 0), torch.ones(2)),
        (torch.ones(0, 4), torch.ones(2, 4)),
        (torch.ones(3, 4).to_sparse(), torch.ones(2, 4)),
    ],
    ids=["float64", "bfloat16", "one bias for all", "meta", "no terms", "no rows", "sparse"],
)
def test_what_onednn_does_not_take_is_torchs(everywhere, given):
    assert dense.linear(*given).shape == (len(given[0]), 2) and not everywhere


@onednn
def test_shapes_that_do_not_fit_get_torchs_error(everywhere):
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        dense.linear(torch.ones(3, 4), torch.ones(2, 5))


@pytest.mark.parametrize(
    ("vendor", "vectors", "there", "faster"),
    [
        ("AuthenticAMD", "AVX512", True, True),
        ("GenuineIntel", "AVX512", True, False),
        ("AuthenticAMD", "AVX2", True, False),
        ("AuthenticAMD", "AVX512", False, False),
    ],
)
@onednn
def test_the_processor_decides(monkeypatch, vendor, vectors, there, faster):
    monkeypatch.setattr(Path, "read_text", lambda self: f"vendor_id : {vendor}\n")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: vectors)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: there)
    assert dense.onednn_is_faster.__wrapped__() is faster


def test_a_faster_dense_product_leaves_less_to_the_sparse_one(monkeypatch):
    crossings = []
    for faster in (False, True):
        monkeypatch.setattr(dense, "onednn_is_faster", lambda faster=faster: faster)
        crossings.append([max(d for d in range(101) if pays(d / 100, r, 256)) for r in (128, 640, 6400)])
    assert all(mkl > onednn for mkl, onednn in zip(*crossings))
