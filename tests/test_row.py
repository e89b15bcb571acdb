"""The row grain: steps whose units mix inside a sample are fused, and equal the plain loop."""

import functools
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from timecell import fuse
from timecell.circuit import Circuit
from timecell.errors import InputError, TraceError
from timecell.fuse.plans import plan, plan_key
from timecell.fuse.row import LANES
from timecell.neurons import spike
from timecell.neurons.elm import ELM, log_spaced
from timecell.parameters import fan_in, param
from timecell.state import State

N, M = 4, 3


def step_of(name, function, x=(N,), w=(M, N)):
    """`function(x, s, w) -> (y, s)` on one sample, with a state s [N]."""
    return fuse.Step(name, function, ("x",), ("s",), ("w",), function, ("test_row", name, x, w), (x, (N,), w))


def compare(step, dtype=torch.float64, batch=3, steps=4, lengths=None, carry="full", record=(), tolerance=1e-10):
    """Values and gradients of the fused loop against the plain one."""
    shapes = dict(zip(step.arguments, step.shapes))
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, steps, *shapes["x"], generator=generator, dtype=dtype)
    s = torch.randn(batch, *shapes["s"], generator=generator, dtype=dtype)
    w = 0.2 + torch.rand(shapes["w"], generator=generator, dtype=dtype)
    results = []
    for backend in ("plain", "fused"):
        leaves = [t.clone().requires_grad_() for t in (x, s, w)]
        with fuse.backend(backend), fuse.carry(carry):
            y, after, courses = fuse.run(step, leaves[:1], leaves[1:2], leaves[2:], lengths, record)
        outputs = [y, *after, *courses.values()]
        generator = torch.Generator().manual_seed(2)
        loss = sum((o * torch.randn(o.shape, generator=generator, dtype=dtype)).sum() for o in outputs)
        grads = torch.autograd.grad(loss, leaves, allow_unused=True)
        results.append([*outputs, *(torch.zeros_like(t) if g is None else g for g, t in zip(grads, leaves))])
    for plain, fused in zip(*results):
        assert plain.shape == fused.shape
        size = max(1.0, plain.abs().max().item()) if plain.numel() else 1.0
        assert (plain - fused).abs().max().item() <= tolerance * size if plain.numel() else True


def leak(s, more):
    return 0.5 * s + more


CASES = {
    "product": lambda x, s, w: (w @ torch.tanh(s), leak(s, x)),
    "two products": lambda x, s, w: (torch.relu(w @ x), leak(s, torch.tanh(w.t() @ (w @ s)))),
    "linear": lambda x, s, w: (F.linear(x, w, w[:, 0]), leak(s, F.linear(x[None], w.T @ w)[0])),
    "private": lambda x, s, w: (torch.einsum("mn,n->m", w, s), leak(s, torch.einsum("n,mn->n", x, w))),
    "outer": lambda x, s, w: (torch.outer(x, s), leak(s, (torch.outer(x, s) * 0.1).sum(0))),
    "batched product": lambda x, s, w: (torch.bmm(x.view(2, 1, 2), s.view(2, 2, 1)), leak(s, x)),
    "softmax": lambda x, s, w: (torch.softmax(x + s, 0), leak(s, torch.log_softmax(x, 0))),
    "layer norm": lambda x, s, w: (F.layer_norm(x + s, (N,), w[0], w[1]), leak(s, x)),
    "norm": lambda x, s, w: (x / torch.linalg.vector_norm(x), leak(s, x * torch.rsqrt(x.square().sum() + 1))),
    "var": lambda x, s, w: (x.var(0, correction=0) + s.std(), leak(s, x)),
    "max": lambda x, s, w: (x.max() + s.min() + x.amax(0, keepdim=True), leak(s, x * (x >= x.max()))),
    "mean over axes": lambda x, s, w: ((w * x).mean((0, 1)) + (w * s).mean(1), leak(s, (w * s).mean(0))),
    "sum to nothing": lambda x, s, w: ((w.sum() * x).sum()[None], leak(s, x)),
    "count": lambda x, s, w: (x * (s > 0).sum(), leak(s, x * (x > 0).any())),
    "cat": lambda x, s, w: (torch.cat([x, w @ s, s[:1]]), leak(s, x)),
    "stack": lambda x, s, w: (torch.stack([x, s, x * s], 1), leak(s, x)),
    "shift": lambda x, s, w: (s.clone(), torch.cat([s[1:], x[:1]])),
    "roll by slices": lambda x, s, w: (x[::2] * s[1::2], leak(s, torch.cat([x[2:], x[:2]]))),
    "negative indices": lambda x, s, w: (x[-2:] + s[-1], leak(s, x[-1] * w[-1])),
    "select": lambda x, s, w: (x[1] * s + w[2], leak(s, x[0])),
    "chunk": lambda x, s, w: (torch.sigmoid(x.chunk(2)[0]) * s.chunk(2)[1], leak(s, x)),
    "split": lambda x, s, w: (x.split([1, 3])[1] * 2, leak(s, x)),
    "reshape": lambda x, s, w: (((x * s).view(2, 2).t().reshape(4)), leak(s, x.unflatten(0, (2, 2)).flatten())),
    "permute": lambda x, s, w: ((w * s).permute(1, 0) + x[:, None], leak(s, x)),
    "expand": lambda x, s, w: (x[0].expand(5), leak(s, s[1].expand(N) * x)),
    "pad": lambda x, s, w: (F.pad(x, (1, 2), value=0.5), leak(s, F.pad(x[:2] * s[:2], (2, 0)))),
    "difference": lambda x, s, w: (x[1:] - x[:-1] + s[:-1], leak(s, x)),
    "where": lambda x, s, w: (torch.where(x > s, x * s, w[0]), leak(s, torch.where(s.sum() > 0, x, -x))),
    "masked fill": lambda x, s, w: (x.masked_fill(s > 0, 0.3), leak(s, x)),
    "logic": lambda x, s, w: (x * ((x > 0) & ~(s > 0) | (x < -1)), leak(s, x * torch.logical_xor(x > 0, s > 0))),
    "extremes": lambda x, s, w: (torch.maximum(x, s) + torch.minimum(x, w[0]), leak(s, x.clamp(-0.5, 0.5))),
    "powers": lambda x, s, w: (x**2 + w[0] ** 1.5 + x.abs() ** s.abs(), leak(s, torch.sqrt(x.abs() + 1))),
    "waves": lambda x, s, w: (torch.sin(x) * torch.cos(s) + torch.atan2(x, w[0]), leak(s, torch.sinh(x * 0.1))),
    "divided": lambda x, s, w: (w @ s / w[0, 0], (s - x) / w[0, 0]),
    "curves": lambda x, s, w: (torch.exp(-x.abs()) + torch.log(w[0]) + torch.expm1(x), leak(s, F.gelu(x) + F.elu(x))),
    "steps": lambda x, s, w: (torch.floor(x) + torch.sign(s) + torch.round(x), leak(s, F.leaky_relu(x))),
    "spikes": lambda x, s, w: (spike(w @ s), leak(s, x - spike(s - 1))),
    "ignored": lambda x, s, w: (torch.ones(2, dtype=x.dtype) + 0 * x[:2], s),
    "parameters alone": lambda x, s, w: (x + torch.softmax(w, 1)[0] @ w[1], leak(s, (w.t() @ w) @ s * 0.1)),
    "a long sum": lambda x, s, w: (torch.einsum("ab,cd->ac", torch.outer(x, s), w), leak(s, x)),
}


NAMES = sorted(CASES)
GROUPS = [NAMES[i::6] for i in range(6)]  # several operations in one step: a kernel takes a second to compile


@pytest.mark.parametrize("names", GROUPS, ids=lambda names: names[0])
def test_fused_equals_plain(names):
    def function(x, s, w):
        parts = [CASES[name](x, s, w) for name in names]
        return torch.cat([y.flatten() for y, _ in parts]), sum(after for _, after in parts) / len(parts)

    step = fuse.Step("Cases", function, ("x",), ("s",), ("w",), function, ("cases", *names), ((N,), (N,), (M, N)))
    compare(step, lengths=torch.tensor([4, 0, 2]), record=("s",))
    compare(step, lengths=torch.tensor([4, 0, 2]), carry="none", record=("s",))
    compare(step, batch=LANES + 2, record=("s",))


def test_single_precision():
    compare(step_of("Single", CASES["product"]), torch.float32, batch=LANES + 2, steps=20, tolerance=3e-6)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (7, 9), (19, 8)])
@given(
    batch=st.integers(1, 2 * LANES + 1),
    steps=st.integers(1, 5),
    carry=st.sampled_from(["full", "none"]),
    data=st.data(),
)
def test_any_size(n, m, batch, steps, carry, data):
    """Sums of every length: shorter and longer than what one line holds."""
    lengths = torch.tensor(data.draw(st.lists(st.integers(0, steps), min_size=batch, max_size=batch)))

    def function(x, s, w):
        return torch.tanh(w @ x) * s.sum(), leak(s, x[:1] * w.mean())

    step = fuse.Step("Sized", function, ("x",), ("s",), ("w",), function, ("sized", n, m), ((n,), (N,), (m, n)))
    compare(step, batch=batch, steps=steps, lengths=lengths, carry=carry, record=("s",))


def test_states_may_change_places():
    """Each next state is whole before any state is overwritten."""

    def function(x, a, b):
        return a * b, b, a + x

    step = fuse.Step("Swap", function, ("x",), ("a", "b"), (), function, "swap", ((N,),) * 3)
    x, a, b = torch.randn(2, 5, N), torch.randn(2, N), torch.randn(2, N)
    for backend in ("plain", "fused"):
        with fuse.backend(backend):
            y, (a_end, b_end), _ = fuse.run(step, [x], [a, b], [])
        want_a, want_b, want_y = a, b, []
        for t in range(5):
            want_y.append(want_a * want_b)
            want_a, want_b = want_b, want_a + x[:, t]
        torch.testing.assert_close(y, torch.stack(want_y, 1))
        torch.testing.assert_close(a_end, want_a)
        torch.testing.assert_close(b_end, want_b)


def written_in_place(x, dim):
    y = torch.zeros_like(x)
    y[1:3] = 2 * x[:2]
    return y


@pytest.mark.parametrize("operation", [torch.cumsum, functools.partial(torch.argmax, keepdim=True), written_in_place])
def test_what_the_grain_lacks_runs_plain_and_says_so(operation, capsys):
    def function(x, s, w):
        return operation(x, 0) * 1.0, s

    step = step_of(f"Lacks{getattr(operation, '__name__', 'argmax')}", function)
    y, _, _ = fuse.run(step, [torch.randn(2, 3, N)], [torch.zeros(2, N)], [torch.rand(M, N)])
    assert y.shape[:2] == (2, 3)
    assert "plain Python loop" in capsys.readouterr().err
    assert "plain grain" in fuse.explain(step)


# --- circuits --------------------------------------------------------------------------------------------------------


class Competition(Circuit):
    """Units that inhibit one another by their softmax."""

    axes = ("inputs", "units")
    shapes = {"x": ("inputs",), "v": ("units",)}
    v: State
    tau = param(5.0, range=(1, None))
    w = param(fan_in, per=("units", "inputs"))

    @staticmethod
    def dynamics(x, s, p):
        v = (1 - 1 / p.tau) * s.v + p.w @ x - torch.softmax(s.v, 0)
        return torch.relu(v), s._replace(v=v)


def test_a_circuit_is_fused_in_the_row_grain():
    text = fuse.explain(Competition(3, 5))
    assert text.startswith("Competition: row grain, fused")
    assert "softmax" not in fuse.source(Competition(3, 5))  # taken apart into exponentials and sums


def test_a_scalar_parameter_may_divide():
    """Its blame sums over all units; rewriting x / p must not lose what comes out."""

    class Euler(Circuit):
        axes = ("units",)
        shapes = {"x": ("units",), "v": ("units",)}
        v: State
        tau = param(10.0)
        w = param(fan_in, per=("units", "units"))

        @staticmethod
        def dynamics(x, s, p):
            v = s.v + (x - p.w @ s.v) / p.tau
            return v, s._replace(v=v)

    assert "row grain, fused" in fuse.explain(Euler(3))
    cell, x = Euler(3).double(), torch.randn(2, 6, 3, dtype=torch.float64)
    grads = []
    for backend in ("plain", "fused"):
        with fuse.backend(backend):
            grads.append(torch.autograd.grad(cell(x)[0].square().sum(), list(cell.parameters())))
    for plain, fused in zip(*grads):
        torch.testing.assert_close(plain, fused)


def test_names_that_every_cell_has_are_refused():
    with pytest.raises(InputError, match=r"Resting\.rest"):

        class Resting(Circuit):
            rest = param(1.0)


def test_explain_counts_and_names_files():
    assert "operations" in fuse.explain(ELM(2, 5, 3))


def test_sizes_are_part_of_what_is_compiled():
    small, large = Competition(2, 3), Competition(4, 6)
    assert small(torch.randn(2, 4, 2))[0].shape == (2, 4, 3)
    assert large(torch.randn(2, 4, 4))[0].shape == (2, 4, 6)
    assert plan(plan_key(small.instant, torch.float32)) is not plan(plan_key(large.instant, torch.float32))
    assert plan(plan_key(small.instant, torch.float32)) is plan(plan_key(Competition(2, 3).instant, torch.float32))


def test_vmap_and_per_sample_gradients():
    cell = Competition(3, 2).double()
    names = [n for n, _ in cell.named_parameters()]
    x = torch.randn(5, 4, 3, dtype=torch.float64)

    def loss(values, x):
        return torch.func.functional_call(cell, dict(zip(names, values)), (x[None],))[0].square().sum()

    values = [p.detach() for p in cell.parameters()]
    per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(values, x)
    for b in range(5):
        for one, each in zip(torch.func.grad(loss)(values, x[b]), per_sample):
            torch.testing.assert_close(one, each[b])
    ensemble = [torch.stack([v, 1.1 * v, 0.9 * v]) for v in values]
    mapped = torch.func.vmap(loss, in_dims=(0, None))(ensemble, x[0])
    for k in range(3):
        torch.testing.assert_close(mapped[k], loss([v[k] for v in ensemble], x[0]))


def test_two_threads_give_the_same():
    torch.manual_seed(0)
    cell, x = Competition(8, 16), torch.randn(4 * LANES, 200, 8)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = cell(x)[0]
        torch.set_num_threads(2)
        assert torch.equal(cell(x)[0], alone)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Competition(3), ("Competition", "inputs, units", "1 sizes")),
        (lambda: Competition(3, 0), ("Competition(units)", "0", "positive")),
        (lambda: Competition(3, 2, w=torch.ones(3, 3)), ("Competition(w)", "[3, 3]", "[2, 3]")),
        (lambda: Competition(3, 2, tau=0.5), ("Competition(tau)", "0.5", "1")),
        (lambda: Competition(3, 2)(torch.rand(1, 2, 4)), ("Competition(x)", "[1, 2, 4]", "[B, T, 3]", "inputs")),
        (lambda: Competition(3, 2)(torch.rand(1, 2, 3), (torch.zeros(1, 3),)), ("Competition(state)", "v [1, 2]")),
    ],
)  # fmt: skip
def test_messages(make, words):
    with pytest.raises(InputError) as error:
        make()
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_constant_from_outside_is_refused_with_its_line():
    weights = torch.rand(4)

    class Leaky(Circuit):
        axes = ("units",)
        shapes = {"x": ("units",), "v": ("units",)}
        v: State

        @staticmethod
        def dynamics(x, s, p):
            v = 0.5 * s.v + weights @ x
            return v, s._replace(v=v)

    with pytest.raises(TraceError, match="weights @ x"):
        Leaky(4)(torch.rand(1, 2, 4))


# --- the expressive leaky memory -------------------------------------------------------------------------------------


def test_elm_memory_decays_exactly_where_nothing_is_proposed():
    elm = ELM(2, 6, 4, to_memories=0.0, memory_bias=0.0).double()
    start = elm.initial_state(1, torch.zeros(1, 1, 2, dtype=torch.float64))._replace(m=torch.ones(1, 4).double())
    y, _ = elm(torch.zeros(1, 20, 2, dtype=torch.float64), start)
    t = torch.arange(1, 21, dtype=torch.float64)
    torch.testing.assert_close(y[0], torch.exp(-t[:, None] / elm.tau_m.double()))


def test_elm_branch_has_an_exponential_impulse_response():
    elm = ELM(1, 2, 2, tau_b=7.0).double()
    x = torch.zeros(1, 10, 1, dtype=torch.float64)
    x[0, 0] = 1.0
    from timecell.cell import record

    with record(elm, "b") as r:
        elm(x)
    torch.testing.assert_close(r["b"][0, :, 0], torch.exp(-torch.arange(10).double() / 7.0))


def test_elm_converges_as_steps_get_smaller():
    """Halving the step (doubling T and every time constant) halves the distance to the limit: first order in time."""
    torch.manual_seed(0)
    coarse = ELM(2, 8, 3, tau_m=torch.tensor([20.0, 40.0, 80.0]), tau_b=30.0).double()
    ends = []
    for k in range(4):
        fine = ELM(2, 8, 3, tau_m=torch.tensor([20.0, 40.0, 80.0]) * 2**k, tau_b=30.0 * 2**k).double()
        fine.load_state_dict({**coarse.state_dict(), **{n: v for n, v in fine.state_dict().items() if "tau" in n}})
        x = torch.full((1, 60 * 2**k, 2), 0.05 / 2**k, dtype=torch.float64)  # the same charge in all
        ends.append(fine(x)[1].m)
    gaps = [(a - b).abs().max().item() for a, b in itertools.pairwise(ends)]
    assert 1.7 < gaps[0] / gaps[1] < 2.3
    assert 1.7 < gaps[1] / gaps[2] < 2.3


def test_elm_time_constants_are_log_spaced_and_stay_positive_when_learnt():
    tau = log_spaced(1.0, 1000.0, 4)
    torch.testing.assert_close(tau, torch.tensor([1.0, 10.0, 100.0, 1000.0]))
    elm = ELM(2, 6, 4, tau_m=tau, learn=("tau_m",))
    with torch.no_grad():
        elm.tau_m_raw -= 1e4
    assert (elm.tau_m >= 0).all()
    assert math.isclose(float(ELM(2, 6, 4).tau_m[-1]), 150.0, rel_tol=1e-5)
