"""The engine: what it traces, what it refuses, how its operators behave, where its kernels live."""

import os
import subprocess
import sys
import textwrap
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import timecell as tc
from timecell import fuse
from timecell.errors import TimecellError, TraceError
from timecell.fuse import cache
from timecell.fuse.emit import TABLE


class Three(tc.Neuron):
    """Three states, a branch, an exponential, a parameter for each unit."""

    v: tc.State
    w: tc.State
    trace: tc.State
    tau = tc.param(8.0, unit="steps", range=(1, None), per="unit")
    gain = tc.param(0.7)
    rate = tc.param(0.3, range=(0, 1))

    @staticmethod
    def dynamics(x, s, p):
        u = s.v * torch.exp(-1 / p.tau) + p.gain * x - s.w
        z = tc.spike(u - 1.0 - 0.5 * torch.tanh(s.trace))
        w = torch.where(u > 0.5, s.w + p.rate * (u - s.w), 0.9 * s.w)
        trace = torch.clamp(s.trace * 0.8 + z, max=3.0)
        return z * torch.sigmoid(u), s._replace(v=u * (1 - z), w=w, trace=trace)


def both(cell, x, lengths=None, state=None):
    """(y, *states, *gradients) fused and plain."""
    results = []
    for name in ("fused", "plain"):
        with fuse.backend(name):
            z = x.clone().requires_grad_()
            y, after = cell(z, state, lengths=lengths)
            loss = (y * torch.arange(1, y.numel() + 1).view_as(y) / y.numel()).sum() + sum((s**2).sum() for s in after)
            grads = torch.autograd.grad(loss, [z, *cell.parameters()])
            results.append([y, *after, *grads])
    return zip(*results)


@given(st.integers(1, 5), st.integers(1, 30), st.integers(1, 9), st.integers(0, 2**20))
def test_fused_equals_plain_for_any_shape(batch, steps, units, seed):
    torch.manual_seed(seed)
    cell = Three(units, tau=torch.rand(units) * 10 + 1.5).double()
    x = torch.randn(batch, steps, units, dtype=torch.float64)
    lengths = torch.randint(0, steps + 1, (batch,))
    state = cell.StateType(*torch.randn(3, batch, units, dtype=torch.float64))
    for a, b in both(cell, x, lengths, state):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(2, 7, 1500), (2, 5, 3, 4, 6)])
def test_wide_layers_and_feature_maps(shape):
    cell = tc.LIF(shape[-1] if len(shape) == 3 else (3, 1, 1), tau=4.0, learn=("tau",)).double()
    for a, b in both(cell, torch.randn(shape, dtype=torch.float64)):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-10)


def test_threads_give_the_same_numbers():
    cell, x = Three(300), torch.randn(32, 40, 300)
    one = [t.clone() for t, _ in both(cell, x)]
    torch.set_num_threads(2)
    try:
        two = [t.clone() for t, _ in both(cell, x)]
    finally:
        torch.set_num_threads(1)
    for a, b in zip(one, two):
        assert torch.equal(a, b)


def test_blame_that_stays_in_its_instant():
    cell = Three(4).double()
    x = torch.randn(2, 9, 4, dtype=torch.float64)
    expected = torch.zeros_like(x)
    state = cell.initial_state(2, x)
    for t in range(9):  # the definition: the state before each step is a constant
        z = x[:, t : t + 1].clone().requires_grad_()
        y, state = cell(z, tc.state.detach(state))
        expected[:, t] = torch.autograd.grad(y.sum(), z)[0][:, 0]
    for name in ("fused", "plain"):
        z = x.clone().requires_grad_()
        with fuse.backend(name), fuse.carry("none"):
            y, _ = cell(z)
        assert torch.allclose(torch.autograd.grad(y.sum(), z)[0], expected, atol=1e-12)


def test_recorded_states_are_attached_to_the_graph():
    net = tc.Sequential(nn.Linear(4, 4), Three(4)).double()
    x, lengths = torch.randn(3, 8, 4, dtype=torch.float64), torch.tensor([8, 3, 1])
    grads = []
    for name in ("fused", "plain"):
        with fuse.backend(name), tc.record(net, "1.w", "1.trace", "1") as r:
            net(x, lengths=lengths)
        assert r["1.w"].shape == r["1"].shape == (3, 8, 4)
        assert not r["1.w"][1, 3:].any()
        grads.append(
            torch.autograd.grad((r["1.w"] ** 2).sum() + r["1.trace"].sum(), list(net.parameters()), allow_unused=True)
        )
    for a, b in zip(*grads):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, atol=1e-12)


def test_a_first_call_under_saved_tensor_hooks():
    class Fresh(Three):
        """A step that no test has traced yet."""

    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (saved.append(t.shape), t)[1], lambda t: t):
        Fresh(4)(torch.ones(2, 3, 4, requires_grad=True))[0].sum().backward()
    assert saved


# --- what the engine refuses, and how it says so ------------------------------------------------------------------


def neuron(body):
    """A neuron with this dynamics body, from a real file so that errors can show its lines."""
    source = textwrap.dedent("""
        import torch, timecell as tc
        outside = torch.tensor(0.5)
        weight = torch.eye(4)
        class User(tc.Neuron):
            v: tc.State
            @staticmethod
            def dynamics(x, s, p):
                {body}
                return v, s._replace(v=v)
    """).replace("{body}", body)
    path = cache.folder() / f"user_{abs(hash(body))}.py"
    path.write_text(source)
    scope = {"__name__": "user"}
    exec(compile(source, str(path), "exec"), scope)
    return scope["User"]


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("v = s.v * outside + x", ["v = s.v * outside + x", "tc.param"]),
        ("v = s.v * torch.tensor(0.5) + x", ["torch.tensor(0.5)", "Python number"]),
        ("v = s.v + x * torch.rand_like(x)", ["rand_like", "input"]),
        ("v = s.v + x if x.sum() > 0 else s.v", ["x.sum() > 0", "torch.where"]),
        ("v = s.w + x", ["v = s.w + x"]),
    ],
)
def test_hidden_inputs_randomness_and_branches_are_refused_with_the_line(body, names):
    with pytest.raises(TraceError) as error:
        neuron(body)(4)(torch.ones(2, 3, 4))
    for name in names:
        assert name in str(error.value), str(error.value)


def test_what_is_not_pointwise_runs_plain_and_says_so_once(capsys):
    cell = neuron("v = s.v @ (x.mT @ x) + x")(4)
    for _ in range(2):
        cell(torch.ones(2, 3, 4))
    message = capsys.readouterr().err
    assert message.count("plain Python loop") == 1
    assert "s.v @ (x.mT @ x) + x" in message
    assert "plain grain" in fuse.explain(cell)
    with pytest.raises(TimecellError, match="pointwise"), fuse.backend("fused"):
        cell(torch.ones(2, 3, 4))


def test_dynamics_must_be_static_and_return_the_state():
    with pytest.raises(TimecellError, match="staticmethod"):

        class Bound(tc.Neuron):
            v: tc.State

            def dynamics(self, x, s, p):
                return x, s

    with pytest.raises(TimecellError, match=r"s\._replace"):
        neuron("return x")(4)(torch.ones(1, 2, 4))


UNARY = [
    *("exp", "log", "tanh", "sigmoid", "sin", "cos", "abs", "sqrt", "neg", "floor", "ceil", "round", "trunc", "relu"),
    *("atan", "erf", "expm1", "log1p", "reciprocal", "rsqrt"),
]


@pytest.mark.parametrize("name", [*UNARY, "softplus", "leaky_relu", "gelu", "silu", "elu", "hardtanh", "square"])
def test_unary_operations_and_their_adjoints(name):
    function = getattr(torch, name, None) or getattr(nn.functional, name)

    class Unary(tc.Neuron):
        v: tc.State

        @staticmethod
        def dynamics(x, s, p):
            v = 0.25 * s.v + 0.5 * x * x + 0.3
            return function(v), s._replace(v=v)

    for a, b in both(Unary(5).double(), torch.randn(3, 6, 5, dtype=torch.float64)):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-10), name


def test_binary_and_logical_operations_and_their_adjoints():
    class Many(tc.Neuron):
        v: tc.State
        a = tc.param(0.4, per="unit")

        @staticmethod
        def dynamics(x, s, p):
            inside = (x > -0.5) & ~(s.v >= 2.0) | (x != x)
            v = torch.where(inside, torch.maximum(s.v, x) - torch.minimum(x, p.a), s.v.clamp(-1, 1) ** 3)
            v = v.masked_fill(x < -1.5, 0.25) + torch.lerp(x, s.v, 0.3) + x.clamp(min=-0.2) * p.a
            return torch.hypot(v, x + 3.0) + (v.sign() + 2.0) ** 0.5, s._replace(v=0.5 * v)

    for a, b in both(Many(5).double(), torch.randn(3, 12, 5, dtype=torch.float64)):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-10)


def test_the_table_is_closed():
    assert len(TABLE) == len(set(TABLE)) and "mm" not in TABLE and "rand" not in TABLE


# --- torch's transforms -------------------------------------------------------------------------------------------


@pytest.fixture
def resonator():
    return Three(4).double(), torch.randn(6, 10, 4, dtype=torch.float64)


def plainly(function, *args):
    with fuse.backend("plain"):
        return function(*args)


def close(a, b):
    return all(
        torch.allclose(p, q, atol=1e-9)
        for p, q in zip(torch.utils._pytree.tree_leaves(a), torch.utils._pytree.tree_leaves(b))
    )


def test_func_grad_vmap_jacrev_and_per_sample_gradients(resonator):
    cell, x = resonator
    parameters = dict(cell.named_parameters())

    def loss(p, x):
        y, s = torch.func.functional_call(cell, p, (x[None],))
        return (y**2).sum() + (s.w**2).sum()

    per_sample = torch.func.vmap(torch.func.grad(loss), (None, 0))
    assert close(per_sample(parameters, x), plainly(per_sample, parameters, x))
    whole = torch.func.grad(loss)
    assert close(whole(parameters, x[0]), plainly(whole, parameters, x[0]))
    jacobian = torch.func.jacrev(lambda z: cell(z[None])[1].v[0])
    assert close(jacobian(x[0]), plainly(jacobian, x[0]))
    ensemble = {k: torch.stack([v, v + 0.1]) for k, v in parameters.items()}
    several = torch.func.vmap(lambda p: torch.func.functional_call(cell, p, (x,))[0])
    assert close(several(ensemble), plainly(several, ensemble))


def test_second_derivatives_are_an_error_not_a_wrong_number(resonator):
    cell, x = resonator
    z = x.clone().requires_grad_()
    (g,) = torch.autograd.grad((cell(z)[1].w ** 3).sum(), z, create_graph=True)
    with pytest.raises(TimecellError, match="plain"):
        g.sum().backward()


def test_compile_and_export(resonator):
    cell, x = resonator
    z = x.clone().requires_grad_()
    compiled = torch.compile(cell, fullgraph=True, backend="aot_eager")
    assert close(compiled(z)[0], cell(z)[0])
    assert close(torch.autograd.grad(compiled(z)[1].w.sum(), z), torch.autograd.grad(cell(z)[1].w.sum(), z))
    assert close(torch.export.export(cell, (x,)).module()(x)[0], cell(x)[0])


# --- processes, threads, the cache --------------------------------------------------------------------------------


def run(code, **env):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, **env},
    )
    assert done.returncode == 0, done.stderr
    return done


FORK = """
    import torch, timecell as tc
    from torch.utils.data import DataLoader, Dataset
    torch.set_num_threads(2)
    cell = tc.LIF(300)
    x = torch.rand(64, 30, 300)
    class Encoded(Dataset):
        def __len__(self): return 4
        def __getitem__(self, i): return cell(x)[0]
    if __name__ == "__main__":
        truth = cell(x)[0]
        for batch in DataLoader(Encoded(), batch_size=2, num_workers=2, multiprocessing_context="fork"):
            assert torch.equal(batch[0], truth) and torch.equal(batch[1], truth)
"""


def test_forked_data_loaders_after_a_first_call():
    run(FORK)


def test_four_threads_call_one_net():
    net = tc.Sequential(nn.Linear(20, 50), Three(50), nn.Linear(50, 3))
    x = torch.randn(16, 40, 20)
    truth = net(x)[0]
    wrong = []

    def work():
        for _ in range(5):
            y, _ = net(x)
            y.sum().backward()
            if not torch.equal(y, truth):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_kernels_are_readable_files_and_an_unwritable_folder_is_announced(tmp_path):
    code = "import torch, timecell as tc; tc.LIF(2)(torch.ones(1, 3, 2)); print(tc.fuse.source(tc.LIF(2)))"
    done = run(code, TIMECELL_CACHE=str(tmp_path))
    kernels = list((tmp_path / "kernels").glob("kernel_*.py"))
    assert kernels and kernels[0].read_text() in done.stdout
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert "cannot write kernels" in run(code, TIMECELL_CACHE=str(blocked)).stderr


def test_importing_timecell_imports_no_torch():
    run("import sys, timecell; assert 'torch' not in sys.modules and 'numba' not in sys.modules")


def test_states_and_parameters_may_have_any_name():
    """The emitted source has names of its own; none may stand for two things."""

    class Names(tc.Neuron):
        y: tc.State
        p0: tc.State
        g_y: tc.State
        blame = tc.param(0.5)
        c0 = tc.param(0.3)

        @staticmethod
        def dynamics(x, s, p):
            y = p.blame * s.y + x
            p0 = p.c0 * s.p0 + 0.7 * y
            return torch.tanh(p0) * s.g_y, s._replace(y=y, p0=p0, g_y=0.9 * s.g_y + p0)

    cell, x = Names(3).double(), torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    results = []
    for backend in ("plain", "fused"):
        with fuse.backend(backend):
            y, state = cell(x)
            grads = torch.autograd.grad(y.square().sum() + state.y.sum() + state.p0.sum(), [x, *cell.parameters()])
            results.append([y, *state, *grads])
    for plain, fused in zip(*results):
        torch.testing.assert_close(plain, fused)


class Truths(tc.Neuron):
    """Numbers where truth is asked for, and operations whose adjoint makes constants of a shape."""

    v: tc.State

    @staticmethod
    def dynamics(x, s, p):
        v = 0.5 * s.v + x
        both = torch.logical_and(x.round(), s.v)
        y = torch.where(both, v, torch.sgn(v) * v) + torch.logical_not(x.round()) * x + x.bool().to(x.dtype)
        return y + torch.div(v, 0.3, rounding_mode="floor"), s._replace(v=v)


def test_numbers_as_truths():
    x, blame = torch.randn(2, 6, 3), torch.randn(2, 6, 3)
    seen = []
    for backend in ("plain", "fused"):
        given = x.clone().requires_grad_()
        with fuse.backend(backend):
            y, _ = Truths(3)(given)
        y.backward(blame)
        seen.append((y, given.grad))
    for a, b in zip(*seen):
        torch.testing.assert_close(a, b)
