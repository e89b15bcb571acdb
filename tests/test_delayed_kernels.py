"""Delays at the cost of their taps: the same numbers as the dense convolution over all lags, values and gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import timecell as tc
from timecell import fuse
from timecell.errors import InputError
from timecell.fuse.delays import delayed_sum, plan
from timecell.testing import check


def convolved(x, taps, first, history):
    """The definition, over all lags."""
    lags = int(first.max()) + len(taps)
    kernel = torch.zeros(lags, *first.shape, dtype=x.dtype)
    for p, tap in enumerate(taps):
        kernel = kernel.scatter_add(0, first[None] + p, tap[None])
    padded = torch.nn.functional.pad(x, (0, 0, lags, 0)).transpose(1, 2)  # a step more, for T = 0
    return torch.nn.functional.conv1d(padded, kernel.flip(0).permute(1, 2, 0)).transpose(1, 2)[:, history + 1 :]


def with_gradients(function, wrt, seed=0):
    y = function()
    torch.manual_seed(seed)
    return [y.detach(), *torch.autograd.grad(y, wrt, torch.randn(y.shape, dtype=y.dtype))]


def close(found, expected, tolerance):
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert torch.allclose(a, b, atol=tolerance * (1 + float(b.abs().max()) if b.numel() else 1), rtol=0)


@pytest.mark.parametrize("form", ["events", "windows", "auto"])
@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 35), st.integers(0, 40), st.integers(1, 5), st.integers(1, 20), st.integers(1, 19),
    st.integers(0, 60), st.integers(0, 30), st.sampled_from([0.0, 0.05, 0.5, 1.0]), st.integers(0, 1000),
)  # fmt: skip
def test_both_forms_are_the_convolution(form, batch, steps, inputs, outputs, lags, longest, history, density, seed):
    torch.manual_seed(seed)
    x = (torch.randn(batch, history + steps, inputs) * (torch.rand(batch, history + steps, inputs) < density)).double()
    taps, first = torch.randn(lags, outputs, inputs).double(), torch.randint(0, longest + 1, (outputs, inputs))
    wrt = x.requires_grad_(), taps.requires_grad_()
    truth = with_gradients(lambda: convolved(x, taps, first, history), wrt)
    close(with_gradients(lambda: delayed_sum(x, taps, first, history, form), wrt), truth, 1e-13)


@pytest.mark.parametrize("form", ["events", "windows"])
def test_single_precision_strides_and_threads(form):
    torch.manual_seed(0)
    x = (torch.rand(20, 3, 50) < 0.3).float().permute(1, 2, 0).contiguous().permute(0, 1, 2)[..., ::2]
    taps, first = torch.randn(40, 10, 7).permute(2, 0, 1), torch.randint(0, 30, (40, 10), dtype=torch.int32)
    wrt = x.requires_grad_(), taps.requires_grad_()
    truth = with_gradients(lambda: convolved(x, taps, first.long(), 0), wrt)
    one = with_gradients(lambda: delayed_sum(x, taps, first, 0, form), wrt)
    close(one, truth, 2e-6)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for a, b in zip(with_gradients(lambda: delayed_sum(x, taps, first, 0, form), wrt), one):
            assert torch.equal(a, b)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("kernel", ["gaussian", "triangle"])
@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 20), st.integers(1, 30), st.integers(0, 30), st.sampled_from([0.06, 0.12, 0.3, 0.5, 1.0, 2.7, 9.0]),
    st.sampled_from([0.1, 1.0]), st.booleans(), st.integers(0, 1000),
)  # fmt: skip
def test_the_layer_is_its_convolution(kernel, batch, steps, max_delay, sigma, density, ragged, seed):
    torch.manual_seed(seed)
    synapse = tc.Delayed(4, 3, max_delay, kernel=kernel).double()
    synapse.sigma = torch.nn.Parameter(torch.tensor(sigma).double())
    synapse.delay.data[0, 0], synapse.delay.data[1, 1] = 0.0, float(max_delay)
    x = (torch.randn(batch, steps, 4) * (torch.rand(batch, steps, 4) < density)).double().requires_grad_()
    lengths = torch.randint(0, steps + 1, (batch,)) if ragged else None
    before = tc.synapses.delayed.Past(torch.randn(batch, max_delay, 4).double().requires_grad_())
    for state in (None, before):
        wrt = [x, synapse.weight, synapse.delay, synapse.sigma, *(state or ())]

        def run(state=state):
            y, past = synapse(x, state, lengths=lengths)
            return torch.cat([y.flatten(), past.x.flatten()])

        with fuse.backend("plain"):
            truth = with_gradients(run, wrt)
        close(with_gradients(run, wrt), truth, 1e-9)


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.15, 0.177, 0.2, 0.25, 0.3, 0.5, 1.0, 3.0])
def test_what_the_window_leaves_out_is_below_a_millionth_of_the_weight(sigma):
    torch.manual_seed(0)
    synapse = tc.Delayed(300, 20, max_delay=40, sigma=sigma)
    taps, first = synapse.window()
    inside = torch.zeros_like(synapse.taps()).scatter(0, first[None] + torch.arange(len(taps))[:, None, None], taps)
    assert ((inside - synapse.taps()).abs() < 1e-6 * synapse.weight.abs() + 1e-12).all()
    assert len(taps) <= max(2, 11.4 * sigma + 1)


def test_a_blur_in_pieces_is_the_blur():
    torch.manual_seed(0)
    synapse, x = tc.Delayed(100, 300, max_delay=20).double(), torch.randn(1, 7, 100).double()
    synapse.sigma = torch.nn.Parameter(torch.tensor(0.5).double())
    wrt = list(synapse.parameters())
    assert len(synapse.window()[0]) * 100 * 300 > 2 * tc.synapses.delayed.PIECE
    with fuse.backend("plain"):
        truth = with_gradients(lambda: synapse(x)[0], wrt)
    close(with_gradients(lambda: synapse(x)[0], wrt), truth, 1e-10)
    assert "sigma=0.5" in repr(synapse)


def test_whole_steps_are_one_tap():
    synapse = tc.Delayed(5, 4, max_delay=250).eval()
    taps, first = synapse.window()
    assert torch.equal(taps[0], synapse.weight) and torch.equal(first, synapse.steps)
    x = (torch.rand(3, 300, 5) < 0.1).float()
    with fuse.backend("plain"):
        truth, _ = synapse(x)
    assert torch.allclose(synapse(x)[0], truth, atol=1e-6)


@pytest.mark.parametrize("density", [0.02, 1.0])
def test_the_work_does_not_grow_with_the_longest_delay(density):
    x = (torch.rand(4, 100, 60, generator=torch.Generator().manual_seed(0)) < density).float()
    works = {tc.Delayed(60, 30, max_delay).plan(x) for max_delay in (25, 50, 100, 250)}
    (work,) = works
    assert work.form == ("events" if density < 1 else "windows")
    assert work.active == int(x.sum()) and work.density == pytest.approx(float(x.mean()))
    with fuse.backend("plain"):
        dense = tc.Delayed(60, 30, 250).plan(x)
    assert dense.form == "convolution" and dense.products == x.numel() * 30 * 251 > 25 * work.products
    whole = tc.Delayed(60, 30, 250).eval().plan(x)
    assert whole.products <= work.products


def test_events_are_taken_where_they_are_cheaper():
    x = torch.zeros(64, 50, 40)
    assert plan(x, outputs=10, lags=6).form == "events" and plan(x + 1, outputs=10, lags=6).form == "windows"
    assert plan(x + 1, outputs=10, lags=6, form="events").products == x.numel() * 8 * 10
    assert plan(x[:1, :1] + 1, outputs=10, lags=1).form == "events"  # streaming: a tile would be almost empty


def test_a_state_does_not_look_at_an_input_that_is_written_over():
    synapse, x = tc.Delayed(2, 3, max_delay=4), torch.ones(1, 6, 2)
    _, past = synapse(x)
    x.zero_()
    assert torch.equal(past.x, torch.ones(1, 4, 2))


def test_nan_shows_where_it_arrives():
    synapse = tc.Delayed(2, 3, max_delay=5, init=2.0).eval()
    x = torch.ones(2, 9, 2)
    x[0, 3, 1] = float("nan")
    (bad,) = synapse(x)[0].isnan().any(2).nonzero().unique(dim=0)
    assert bad.tolist() == [0, 5]
    synapse.train().delay.data[1, 0] = float("nan")
    assert synapse(torch.ones(1, 9, 2))[0][:, :, 1].isnan().all()


def test_the_contract_in_training_and_in_use():
    for cell in (tc.Delayed(4, 3, max_delay=9, sigma=0.7), tc.Delayed(4, 3, max_delay=9, kernel="triangle")):
        assert [(r.name, r.reason) for r in check(cell) if not r.passed] == []


def test_transforms():
    torch.manual_seed(0)
    x, taps, first = torch.randn(3, 8, 4).double(), torch.randn(2, 5, 4).double(), torch.randint(0, 4, (5, 4))

    def loss(taps, x):
        return delayed_sum(x, taps, first).square().sum()

    whole = torch.func.grad(loss)(taps, x)
    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(taps, x[:, None])
    assert torch.allclose(each.sum(0), whole) and torch.allclose(
        whole, torch.autograd.functional.jacobian(loss, (taps, x))[0]
    )
    compiled = torch.compile(delayed_sum, fullgraph=True, backend="aot_eager")
    synapse = tc.Delayed(4, 5, max_delay=6).double()

    def of_layer(parameters):
        return torch.func.functional_call(synapse, parameters, (x,))[0].square().sum()

    parameters = dict(synapse.named_parameters())
    gradients = torch.func.grad(of_layer)(parameters)
    truth = torch.autograd.grad(of_layer(parameters), list(parameters.values()))
    close(list(gradients.values()), truth, 1e-13)
    layer = torch.compile(synapse, fullgraph=True, backend="aot_eager")
    assert torch.allclose(layer(x)[0], synapse(x)[0])
    wrt = x.requires_grad_(), taps.requires_grad_()
    truth = with_gradients(lambda: delayed_sum(x, taps, first), wrt)
    close(with_gradients(lambda: compiled(x, taps, first), wrt), truth, 1e-14)


def test_refusals():
    x, taps, first = torch.ones(1, 4, 2), torch.ones(1, 3, 2, requires_grad=True), torch.zeros(3, 2, dtype=torch.long)
    with pytest.raises(InputError, match=r"delayed_sum\(first\): found -1, expected lags of at least 0"):
        delayed_sum(x, taps, first - 1)
    with pytest.raises(InputError, match=r"delayed_sum\(form\): found 'windws'.*\n.*did you mean 'windows'"):
        delayed_sum(x, taps, first, form="windws")
    (g,) = torch.autograd.grad(delayed_sum(x, taps, first).square().sum(), taps, create_graph=True)
    with pytest.raises(InputError, match='backend\\("plain"\\)'):
        g.sum().backward()


def test_events_too_far_apart_to_be_listed_go_by_windows(monkeypatch):
    x = torch.eye(100)[None]
    assert plan(x, outputs=20, lags=6).form == "events"
    monkeypatch.setattr("timecell.fuse.delays.PLACES", 100)
    assert plan(x, outputs=20, lags=6).form == "windows"
