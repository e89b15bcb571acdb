"""Linear recurrences: every form gives the same numbers and gradients, and says no where it cannot."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from timecell import fuse
from timecell.errors import TimecellError
from timecell.fuse import scan
from timecell.fuse.scan import chunked_scan, linear_scan, ragged
from timecell.fuse.selective import selective_ssm, written_out
from timecell.fuse.state_space import chunked_ssm, diagonal_ssm, fft_convolution, ssm_kernel
from timecell.memory import DiagonalSSM


def plain(function):
    """The same call as the reference: a Python loop, differentiated by autograd."""

    def run(*args, **kwargs):
        with fuse.backend("plain"):
            return function(*args, **kwargs)

    return run


def everything(function, tensors, lengths):
    """Outputs and the gradients of all tensors, for a loss that looks at all outputs and at the last state."""
    leaves = [t.clone().requires_grad_() for t in tensors]
    out, last = function(*leaves, lengths)
    weights = torch.linspace(0.5, 1.5, out.numel(), dtype=out.real.dtype).view(out.shape)
    loss = (out * weights).real.sum() + (last * last.conj()).real.sum()
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    return [out, last, *(torch.zeros_like(t) if g is None else g for g, t in zip(gradients, leaves))]


def same(ours, truth, tolerance):
    for i, (a, b) in enumerate(zip(ours, truth, strict=True)):
        assert a.shape == b.shape and a.dtype == b.dtype
        scale = max(1.0, b.abs().max().item()) if b.numel() else 1.0
        assert ((a - b).abs() <= tolerance * scale).all(), f"{i}: {(a - b).abs().max()} of {scale}"


def draw(shape, dtype, seed=0):
    """Numbers of modulus up to 1."""
    g = torch.Generator().manual_seed(seed)
    parts = (2 * torch.rand(*shape, 2, generator=g, dtype=torch.float64) - 1) / 2**0.5
    return (torch.view_as_complex(parts) if dtype.is_complex else parts[..., 0]).to(dtype)


# --- linear_scan -------------------------------------------------------------------------------------------------

FACTORS = {
    "varying": (3, 11, 2, 5),
    "fixed": (2, 5),
    "number": (),
    "per sample": (3, 1, 2, 5),
    "per step": (1, 11, 1, 5),
}


def chunked(a, u, h0, lengths):
    """The form of other devices, on the CPU."""
    h, last = ragged(chunked_scan, scan._factors(a, u), u.flatten(2), h0.flatten(1), lengths)
    return h.reshape(u.shape), last.reshape(h0.shape)


@pytest.mark.parametrize("lengths", [None, torch.tensor([11, 0, 4])], ids=["whole", "ragged"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("factors", FACTORS)
def test_a_scan_equals_the_plain_loop(factors, dtype, lengths):
    tensors = [draw(FACTORS[factors], dtype), draw((3, 11, 2, 5), dtype, 1), draw((3, 2, 5), dtype, 2)]
    truth = everything(plain(linear_scan), tensors, lengths)
    same(everything(linear_scan, tensors, lengths), truth, 1e-12)
    same(everything(chunked, tensors, lengths), truth, 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64], ids=str)
def test_a_scan_in_single_precision(dtype):
    tensors = [draw((2, 50, 70), dtype), draw((2, 50, 70), dtype, 1), draw((2, 70), dtype, 2)]
    same(everything(linear_scan, tensors, None), everything(plain(linear_scan), tensors, None), 1e-5)


@given(st.integers(1, 4), st.integers(0, 40), st.integers(0, 20), st.data())
def test_a_scan_of_any_shape_in_any_pieces(rows, steps, units, data):
    a, u, h0 = (
        draw((rows, steps, units), torch.float64),
        draw((rows, steps, units), torch.float64, 1),
        draw((rows, units), torch.float64, 2),
    )
    lengths = torch.tensor(data.draw(st.lists(st.integers(0, steps), min_size=rows, max_size=rows)))
    same(everything(linear_scan, [a, u, h0], lengths), everything(plain(linear_scan), [a, u, h0], lengths), 1e-12)
    whole, end = linear_scan(a, u, h0)
    cut = data.draw(st.integers(0, steps))
    left, state = linear_scan(a[:, :cut], u[:, :cut], h0)
    right, state = linear_scan(a[:, cut:], u[:, cut:], state)
    assert torch.equal(torch.cat([left, right], 1), whole) and torch.equal(state, end)


def test_types_mix_as_elsewhere_in_torch():
    a, u = draw((4,), torch.complex64), draw((2, 6, 4), torch.float32, 1)
    h, last = linear_scan(a, u.requires_grad_())
    assert h.dtype == last.dtype == torch.complex64
    assert torch.autograd.grad(h.real.sum(), u)[0].dtype == torch.float32


# --- diagonal_ssm ------------------------------------------------------------------------------------------------


def layer(rows, steps, channels, states, dtype):
    """x, a, c, d, h0 in double precision (real or complex)."""
    return [
        draw((rows, steps, channels), torch.float64), draw((channels, states), dtype, 1), draw((channels, states), dtype, 2),
        draw((channels,), torch.float64, 3), draw((rows, channels, states), dtype, 4),
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@given(st.integers(1, 3), st.integers(0, 150), st.sampled_from([1, 3, 16, 33]), st.integers(1, 6), st.data())
def test_a_state_space_equals_the_plain_loop(dtype, rows, steps, channels, states, data):
    tensors = layer(rows, steps, channels, states, dtype)
    ends = st.lists(st.integers(0, steps), min_size=rows, max_size=rows).map(torch.tensor)
    lengths = data.draw(st.none() | ends)
    truth = everything(plain(diagonal_ssm), tensors, lengths)
    same(everything(diagonal_ssm, tensors, lengths), truth, 1e-12)
    x, a, c, d, h0 = tensors
    tensors = [x, a + 0j, c + 0j, d, h0 + 0j]
    same(everything(chunked_ssm, tensors, lengths), everything(plain(diagonal_ssm), tensors, lengths), 1e-11)


def test_a_state_space_in_single_precision_and_in_pieces():
    x, a, c, d, h0 = (
        t.to(torch.complex64 if t.is_complex() else torch.float32) for t in layer(2, 100, 20, 5, torch.complex128)
    )
    same(
        everything(diagonal_ssm, [x, a, c, d, h0], None), everything(plain(diagonal_ssm), [x, a, c, d, h0], None), 1e-5
    )
    whole, end = diagonal_ssm(x, a, c, d, h0)
    left, state = diagonal_ssm(x[:, :33], a, c, d, h0)
    right, state = diagonal_ssm(x[:, 33:], a, c, d, state)
    same([torch.cat([left, right], 1), state], [whole, end], 1e-6)


def test_recurrence_and_convolution_are_one():
    x, a, c, *_ = layer(2, 200, 3, 5, torch.complex128)
    convolved = fft_convolution(ssm_kernel(a, c, 200), x)
    assert torch.allclose(diagonal_ssm(x, a, c)[0], convolved, atol=1e-12)


@given(st.integers(1, 20), st.integers(0, 20), st.integers(1, 3))
def test_fft_convolution_is_the_sum_it_says(taps, steps, channels):
    kernel, x = draw((taps, channels), torch.float64), draw((2, steps, channels), torch.float64, 1)
    expected = torch.zeros_like(x)
    for k in range(min(taps, steps)):
        expected[:, k:] += kernel[k] * x[:, : steps - k]
    assert torch.allclose(fft_convolution(kernel, x), expected, atol=1e-13)


def test_a_diagonal_layer_is_the_convolution_with_its_kernel():
    for discretization in ("zoh", "bilinear"):
        cell, x = DiagonalSSM(3, 8, init="inv", discretization=discretization).double(), torch.randn(2, 60, 3).double()
        assert torch.allclose(cell(x)[0], fft_convolution(cell.kernel(60), x), atol=1e-12)


def test_held_inputs_are_integrated_exactly():
    """Zero-order hold: one step of 2 dt on a held input is two steps of dt."""
    fine, coarse = DiagonalSSM(2, 4).double(), DiagonalSSM(2, 4).double()
    coarse.load_state_dict(fine.state_dict())
    coarse.log_dt.data += torch.log(torch.tensor(2.0))
    x = torch.randn(1, 30, 2).double()
    assert torch.allclose(fine(x.repeat_interleave(2, 1))[0][:, 1::2], coarse(x)[0], atol=1e-12)


# --- selective_ssm -----------------------------------------------------------------------------------------------


def mamba(rows, steps, channels, states):
    """x, dt, a, b, c, d, h0 in double precision."""
    shapes = (
        [(rows, steps, channels)] * 2
        + [(channels, states)]
        + [(rows, steps, states)] * 2
        + [(channels,), (rows, channels, states)]
    )
    x, dt, a, *rest = (draw(shape, torch.float64, seed) for seed, shape in enumerate(shapes))
    return [x, dt + 1, 2 * a - 2, *rest]


@given(st.integers(1, 3), st.integers(0, 80), st.sampled_from([1, 3, 16, 33]), st.integers(1, 6), st.data())
def test_a_selective_state_space_equals_the_plain_loop(rows, steps, channels, states, data):
    tensors = mamba(rows, steps, channels, states)
    ends = st.lists(st.integers(0, steps), min_size=rows, max_size=rows).map(torch.tensor)
    lengths = data.draw(st.none() | ends)
    truth = everything(plain(selective_ssm), tensors, lengths)

    def call(form):
        return lambda x, dt, a, b, c, d, h0, lengths: form(x, dt, a, b, c, d, h0, lengths)

    same(everything(call(selective_ssm), tensors, lengths), truth, 1e-12)
    same(everything(call(partial(written_out, chunked_scan)), tensors, lengths), truth, 1e-11)


def test_a_selective_state_space_in_single_precision_and_in_pieces():
    tensors = [t.float() for t in mamba(2, 100, 20, 5)]
    same(everything(selective_ssm, tensors, None), everything(plain(selective_ssm), tensors, None), 1e-5)
    x, dt, a, b, c, d, h0 = tensors
    whole, end = selective_ssm(x, dt, a, b, c, d, h0)
    left, state = selective_ssm(x[:, :33], dt[:, :33], a, b[:, :33], c[:, :33], d, h0)
    right, state = selective_ssm(x[:, 33:], dt[:, 33:], a, b[:, 33:], c[:, 33:], d, state)
    same([torch.cat([left, right], 1), state], [whole, end], 1e-6)


def test_the_decay_is_an_exponential_over_its_whole_range():
    rates = torch.cat([torch.linspace(-87, 88, 20_001), torch.tensor([-1e4, -torch.inf, 1e4, torch.nan])])
    one = torch.ones(1, 1, 1)
    _, last = selective_ssm(
        0 * one,
        one,
        rates[None],
        torch.ones(1, 1, len(rates)),
        torch.zeros(1, 1, len(rates)),
        None,
        torch.ones(1, 1, len(rates)),
    )
    assert ((last[0, 0, :-4].double() / rates[:-4].double().exp() - 1).abs() < 4e-7).all()
    assert last[0, 0, -4:-1].tolist() == [0.0, 0.0, torch.inf] and last[0, 0, -1].isnan()


# --- what every fused recurrence keeps ---------------------------------------------------------------------------

A, C = 0.9 * draw((5, 3), torch.complex64), draw((5, 3), torch.complex64, 1)
RAMP = torch.tensor([1.0, -0.5, 0.2])
CALLS = {
    "linear_scan": lambda x: linear_scan(A[:, 0], x),
    "diagonal_ssm": lambda x: diagonal_ssm(x, A, C),
    "selective_ssm": lambda x: selective_ssm(
        x, x.abs(), -A.abs(), RAMP.expand(*x.shape[:2], 3), RAMP.expand(*x.shape[:2], 3)
    ),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_nan_stays_where_it_is(call):
    x = torch.randn(3, 70, 5)
    clean = call(x)[0]
    x[1, 40, 2] = float("nan")
    y = call(x)[0]
    struck = torch.zeros(3, 70, 5, dtype=torch.bool)
    struck[1, 40:, 2] = True
    assert y[struck].isnan().all() and torch.equal(y[~struck], clean[~struck])


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_transforms_and_compile(call):
    def loss(x):
        return call(x)[0].abs().square().sum()

    x = torch.randn(3, 9, 5)
    expected = torch.autograd.grad(loss(x.requires_grad_()), x)[0]
    x = x.detach()
    assert torch.allclose(torch.func.grad(loss)(x), expected, atol=1e-5)
    each = torch.func.vmap(torch.func.grad(loss))(x[:, None])
    assert torch.allclose(each[:, 0], expected, atol=1e-5)
    y, _ = torch.compile(call, fullgraph=True, backend="aot_eager")(x.requires_grad_())
    assert torch.allclose(torch.autograd.grad(y.abs().square().sum(), x)[0], expected, atol=1e-5)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_second_derivatives_are_refused_or_right(call):
    x = torch.randn(2, 6, 5, requires_grad=True)

    def second():
        (g,) = torch.autograd.grad(call(x)[0].abs().square().sum(), x, create_graph=True)
        return torch.autograd.grad(g.square().sum(), x)[0]

    with pytest.raises(TimecellError, match=r"second derivatives(.|\n)*plain"):
        second()
    with fuse.backend("plain"):
        assert second().abs().sum() > 0


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_blame_stays_in_its_instant_where_it_is_told_to(call):
    x = torch.randn(2, 40, 5, requires_grad=True)
    with fuse.carry("none"):
        y, last = call(x)
        (ours,) = torch.autograd.grad(y.real.sum() + last.real.sum(), x)
        y, last = plain(call)(x)
        (truth,) = torch.autograd.grad(y.real.sum() + last.real.sum(), x)
    assert torch.allclose(ours, truth, atol=1e-5)


def test_other_devices_take_the_chunked_forms():
    x, a, d = torch.empty(2, 70, 5, device="meta"), A.to("meta"), torch.empty(5, device="meta")
    read = torch.empty(2, 70, 3, device="meta")
    calls = linear_scan(a[:, 0], x), diagonal_ssm(x, a, a, d), selective_ssm(x, x, a.real, read, read, d)
    for (y, last), shape in zip(calls, [(2, 5), (2, 5, 3), (2, 5, 3)], strict=True):
        assert y.device == last.device == x.device and y.shape == x.shape and last.shape == shape


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_more_threads_give_the_same_numbers(call):
    x = torch.randn(4, 8000, 5, requires_grad=True)

    def run():
        y, _ = call(x)
        return y, torch.autograd.grad(y.real.sum(), x)[0]

    one = run()
    torch.set_num_threads(2)
    try:
        assert all(torch.equal(a, b) for a, b in zip(run(), one))
    finally:
        torch.set_num_threads(1)


U = torch.zeros(2, 6, 4)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: linear_scan(torch.ones(3), U), ["linear_scan(a)", "[3]", "[2, 6, 4]"]),
        (lambda: linear_scan(torch.ones(2, 5, 4), U), ["linear_scan(a)", "[2, 5, 4]"]),
        (lambda: linear_scan(torch.ones(4).long(), U.long()), ["linear_scan(a, u)", "float()"]),
        (lambda: linear_scan(torch.ones(4).half(), U.half()), ["float16", "float()"]),
        (lambda: linear_scan(torch.ones(4), U[0, 0]), ["linear_scan(u)", "[4]", "time"]),
        (lambda: linear_scan(torch.ones(4), U, torch.zeros(4)), ["linear_scan(h0)", "[4]", "[2, 4]"]),
        (lambda: linear_scan(torch.ones(4), U, None, torch.tensor([7, 1])), ["lengths[0]", "7", "T = 6"]),
        (lambda: linear_scan(torch.ones(4), U, None, torch.tensor([1])), ["lengths", "2 whole numbers"]),
        (lambda: diagonal_ssm(U, A, C), ["diagonal_ssm(a)", "[5, 3]", "[4, 3]"]),
        (lambda: diagonal_ssm(U, A[:4], C[:4, :2]), ["diagonal_ssm(c)", "[4, 2]", "[4, 3]"]),
        (lambda: diagonal_ssm(U, A[:4, 0], C[:4]), ["diagonal_ssm(a)", "[4]", "[4, N]"]),
        (lambda: diagonal_ssm(U.half(), A[:4], C[:4]), ["diagonal_ssm(x)", "float16"]),
        (lambda: diagonal_ssm(U, A[:4], C[:4], torch.ones(3)), ["diagonal_ssm(d)", "[3]", "[4]"]),
        (lambda: diagonal_ssm(U, A[:4], C[:4], None, torch.ones(4, 3)), ["diagonal_ssm(h0)", "[2, 4, 3]"]),
        (lambda: selective_ssm(U, U, -torch.ones(4, 2), U, U), ["selective_ssm(b)", "[2, 6, 4]", "[2, 6, 2]"]),
        (
            lambda: selective_ssm(U, U.double(), -torch.ones(4, 2), U[..., :2], U[..., :2]),
            ["selective_ssm(dt)", "float64", "float32"],
        ),
        (lambda: DiagonalSSM(3, 5), ["DiagonalSSM(size, states)", "even"]),
        (lambda: DiagonalSSM(3, init="line"), ["DiagonalSSM(init)", "did you mean 'lin'"]),
        (lambda: DiagonalSSM(3, discretization="zo"), ["discretization", "did you mean 'zoh'"]),
        (lambda: DiagonalSSM(3, dt=(0.1, 0.01)), ["DiagonalSSM(dt)", "shortest"]),
        (lambda: DiagonalSSM(3)(U), ["DiagonalSSM(x)", "[2, 6, 4]", "[B, T, 3]"]),
        (lambda: DiagonalSSM(4)(U, (U,)), ["DiagonalSSM(state)", "Modes"]),
    ],
)
def test_errors_name_what_is_wrong(make, names):
    with pytest.raises(TimecellError) as error:
        make()
    for name in [*names, "Remedy"]:
        assert name in str(error.value), str(error.value)
