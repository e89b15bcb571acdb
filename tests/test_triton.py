"""The fused loop on a GPU: its kernels in Triton's interpreter, compiled without a device, and on one where there is one."""

import math
import os
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from scipy import special

import timecell as tc
from timecell import fuse
from timecell.errors import MissingExtra
from timecell.fuse import cache, emit, gpu, plans, triton_emit
from timecell.fuse.trace import Step
from timecell.testing import walk

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason='no Triton here: pip install "timecell[gpu]"')
full = os.environ.get("TIMECELL_HYPOTHESIS") == "full"


class Three(tc.Neuron):
    """Three states, a branch, functions of libdevice, a parameter for each unit, one with blame even in silence."""

    v: tc.State
    w: tc.State
    trace: tc.State
    tau = tc.param(8.0, unit="steps", range=(1, None), per="unit")
    gain = tc.param(0.7)
    rate = tc.param(0.3, range=(0, 1))
    bias = tc.param(0.1)

    @staticmethod
    def dynamics(x, s, p):
        u = s.v * torch.exp(-1 / p.tau) + p.gain * x - s.w + p.bias
        z = tc.spike(u - 1.0 - 0.5 * torch.tanh(s.trace))
        w = torch.where(u > 0.5, s.w + p.rate * (u - s.w), 0.9 * s.w)
        trace = torch.clamp(s.trace * 0.8 + z, max=3.0)
        return z * torch.sigmoid(u) + torch.relu(s.w), s._replace(v=u * (1 - z), w=w, trace=trace)


# --- where the kernels run ------------------------------------------------------------------------------------------

NUMPY = {
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "atan2": np.arctan2, "erf": special.erf, "pow": np.power,
}  # fmt: skip


def elementwise(name):
    """A function of libdevice, which the interpreter lacks, as numpy has it."""
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    function = NUMPY.get(name) or getattr(np, name)

    def call(*operands):
        data = function(*(a.handle.data for a in operands))
        return tl.tensor(TensorHandle(data.astype(operands[0].handle.data.dtype), operands[0].dtype), operands[0].type)

    return call


@pytest.fixture(
    params=[
        pytest.param("cpu", marks=needs_triton, id="interpreted"),
        pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")),
    ]
)
def device(request, monkeypatch):
    """The device whose fused loops are Triton's: a GPU, or this machine through Triton's interpreter."""
    monkeypatch.setattr(plans, "Plan", gpu.GPUPlan)
    for known in ("_plans", "_keys"):
        monkeypatch.setattr(plans, known, {})
    monkeypatch.setattr(cache, "_loaded", {})
    if request.param == "cpu":
        from triton.language.extra import libdevice

        monkeypatch.setenv("TRITON_INTERPRET", "1")
        for name in {*triton_emit.LIBDEVICE, "rint", "atan2", "hypot", "pow"}:
            monkeypatch.setattr(libdevice, name, elementwise(name))
    with np.errstate(all="ignore"):
        yield request.param


# --- numbers --------------------------------------------------------------------------------------------------------


def both(cell, x, lengths=None, carry="full", record=(), state=None):
    """(y, *states, *courses, *gradients) fused and plain."""
    results = []
    for name in ("fused", "plain"):
        with fuse.backend(name), fuse.carry(carry), tc.record(cell, *record) as r:
            z = x.clone().requires_grad_()
            y, after = cell(z, state, lengths=lengths)
            courses = [r[n] for n in record]
            loss = (y * torch.arange(1, y.numel() + 1, device=y.device).view_as(y) / y.numel()).sum()
            loss = loss + sum((s**2).sum() for s in after) + sum((c**2).sum() for c in courses)
            results.append(
                [
                    y,
                    *after,
                    *courses,
                    *torch.autograd.grad(loss, [z, *(p for p in cell.parameters() if p.requires_grad)]),
                ]
            )
    return zip(*results)


@pytest.mark.parametrize(
    ("dtype", "ragged", "carry", "record"),
    [
        (torch.float64, False, "full", ()),
        (torch.float64, True, "full", ("w", "trace")),
        (torch.float64, True, "none", ("v",)),
        (torch.float32, True, "full", ()),
    ],
)
def test_fused_equals_plain(device, dtype, ragged, carry, record):
    torch.manual_seed(0)
    rows, steps, units = 4, 9, 37  # 148 lanes: two programs, the second not full
    cell = Three(units, tau=torch.rand(units) * 10 + 1.5).to(device, dtype)
    x = torch.randn(rows, steps, units, dtype=dtype, device=device)
    lengths = torch.tensor([9, 0, 4, 1], device=device) if ragged else None
    state = cell.StateType(*torch.randn(3, rows, units, dtype=dtype, device=device))
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    for a, b in both(cell, x, lengths, carry, record, state):
        assert torch.allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("memory", ["full", "sqrt"])
def test_values_kept_for_the_adjoint(device, memory):
    """With fixed parameters the forward kernel of this neuron writes a number and a truth value of every instant."""
    cell = Three(6).to(device, torch.float64).requires_grad_(False)
    x = torch.randn(3, 7, 6, dtype=torch.float64, device=device)
    with fuse.memory(memory):
        for a, b in both(cell, x, torch.tensor([7, 2, 5], device=device), record=("v",)):
            assert torch.allclose(a, b, rtol=1e-10, atol=1e-10)
    (this,) = plans._plans.values()
    assert torch.bool in this.pair((False,) * 4, (True, False, False)).types


def test_no_gradient_wanted(device):
    cell = Three(5).to(device, torch.float64)
    x = torch.randn(2, 6, 5, dtype=torch.float64, device=device)
    with torch.no_grad():
        y, state = cell(x)
        with fuse.backend("plain"):
            expected, after = cell(x)
    assert torch.allclose(y, expected, atol=1e-12) and torch.allclose(state.w, after.w, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 0, 3), (0, 4, 3)])
def test_nothing_to_do(device, shape):
    cell = tc.LIF(3, learn=("tau",)).to(device)
    with fuse.backend("fused"):
        y, state = cell(torch.ones(shape, device=device))
    (blame,) = torch.autograd.grad(y.sum() + state.v.sum(), list(cell.parameters()))
    assert y.shape == shape and not state.v.any() and not blame.any()


def test_parameters_of_their_own_for_each_sample(device):
    cell = Three(4).to(device, torch.float64)
    x = torch.randn(3, 5, 4, dtype=torch.float64, device=device)
    parameters = {k: torch.stack([v, v + 0.1, v - 0.1]) for k, v in cell.named_parameters()}

    def loss(p, x):
        return (torch.func.functional_call(cell, p, (x[None],))[0] ** 2).sum()

    each = torch.func.vmap(torch.func.grad(loss))
    with fuse.backend("fused"):
        found = each(parameters, x)
    with fuse.backend("plain"):
        expected = each(parameters, x)
    for name in expected:
        assert torch.allclose(found[name], expected[name], atol=1e-10), name


PAIRS = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "atan2": torch.atan2, "hypot": torch.hypot,
    "pow": torch.pow, "maximum": torch.maximum, "minimum": torch.minimum, "eq": torch.eq, "ne": torch.ne, "lt": torch.lt,
    "le": torch.le, "gt": torch.gt, "ge": torch.ge, 
    "logical_and": lambda a, b: torch.logical_and(a > 0, b > 0), "logical_or": lambda a, b: torch.logical_or(a > 0, b > 0),
    "logical_xor": lambda a, b: torch.logical_xor(a > 0, b > 0),
    "floored": lambda a, b: torch.div(a, b, rounding_mode="floor"),
    "truncated": lambda a, b: torch.div(a, b, rounding_mode="trunc"),
    "chosen": lambda a, b: torch.where((a > b) & ~(b == 0.5), a, b),
    "filled": lambda a, b: torch.masked_fill(a, (a > b) | (a < -1), 7.5),
    "scaled": lambda a, b: torch.add(a, b, alpha=0.3),
}  # fmt: skip
SINGLE = {
    name: getattr(torch, name)
    for name in (
        "neg", "reciprocal", "abs", "sqrt", "rsqrt", "exp", "log", "tanh", "sigmoid", "sin", "cos", "sinh", "cosh", "asin",
        "acos", "atan", "erf", "exp2", "square", "expm1", "log1p", "floor", "ceil", "trunc", "round", "relu", "sign",
        "isnan",
    )
} | {
    "logical_not": lambda a: torch.logical_not(a > 0),
    "cubed": lambda a: a**3, "root": lambda a: a**0.5, "clamped": lambda a: torch.clamp(a, -0.7, 1.2),
    "capped": lambda a: torch.clamp(a, max=0.3), "constant": lambda a: torch.full_like(a, 0.1),
}  # fmt: skip
VALUES = [0.0, -0.0, 0.5, -0.5, 1.0, 1.5, 2.5, -1.5, -2.0, 3.2, 30.0, -30.0, math.inf, -math.inf, math.nan]


def differs(name, a, b):
    """Where a kernel does not do as torch: NaN has no sign (torch: 0); a quotient is rounded down as it is."""
    if name == "sign":
        return a.isnan()
    return a.isinf() | b.isinf() if name == "floored" else torch.zeros_like(a, dtype=torch.bool)


def function(a, b, *states):
    results = [*(f(a, b) for f in PAIRS.values()), *(f(a) for f in SINGLE.values())]
    return (a + b, *(r.to(a.dtype) for r in results))


EVERYTHING = Step(
    "Everything", function, ("a", "b"), tuple(f"s_{n}" for n in (*PAIRS, *SINGLE)), (), function, "everything"
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_operation_agrees_with_torch(device, dtype):
    """All operations as the states of one step, on all pairs of values that are special to one of them."""
    a, b = (
        t.reshape(1, 1, -1)
        for t in torch.meshgrid(*[torch.tensor(VALUES, dtype=dtype, device=device)] * 2, indexing="ij")
    )
    with fuse.backend("fused"):
        _, finals, _ = fuse.run(EVERYTHING, [a, b], [torch.zeros_like(a[:, 0])] * len(EVERYTHING.states), [])
    wrong = {}
    for name, found, expected in zip((*PAIRS, *SINGLE), finals, function(a[:, 0], b[:, 0])[1:]):
        good = torch.isclose(found, expected, rtol=4e-7 if dtype == torch.float32 else 1e-14, atol=0, equal_nan=True)
        good |= differs(name, a[:, 0], b[:, 0])
        if not good.all():
            at = [t[0, ~good[0]][:3].tolist() for t in (a[:, 0], b[:, 0], found, expected)]
            wrong[name] = dict(zip(("a", "b", "found", "torch"), at))
    assert not wrong


# --- source and machine code ----------------------------------------------------------------------------------------


def test_the_table_has_what_the_other_one_has():
    assert triton_emit.TABLE.keys() == emit.TABLE.keys()


def steps():
    """Everything the table has, and a few neurons or all there are."""
    few = [tc.LIF, tc.Izhikevich, Three]
    cells = few if not full else [Three, *(c for c in walk(tc.Neuron) if c.example().instant.shapes is None)]
    return [EVERYTHING, *(cell.example().instant for cell in cells)]


@needs_triton
@pytest.mark.parametrize("step", steps(), ids=lambda s: s.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64] if full else [torch.float32])
def test_kernels_compile_for_a_gpu_that_is_not_here(step, dtype, monkeypatch, tmp_path):
    """Down to the machine code of an H100, by the assembler that comes with Triton."""
    from triton import compile
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "_loaded", {})
    recorded = tuple(i == 0 for i in range(len(step.states)))
    this = gpu.GPUPlan(step, dtype, "compiled")
    pair = this.pair((True,) * len(step.params), recorded)
    types = dict(zip(emit.kept_names(len(pair.types)), pair.types))
    for name, program in (("forward", this.inference), ("forward", pair.forward), ("adjoint", pair.adjoint)):
        kernel = getattr(cache.load(program.source), name)
        sizes = {p.name for p in kernel.params if p.annotation}
        flags = {n: 128 if n == "BLOCK" else True for n in kernel.arg_names if n.isupper() or n.startswith("KEEP")}
        signature = {n: "*i1" if types.get(n) == torch.bool else "*fp32" if dtype == torch.float32 else "*fp64"
                     for n in kernel.arg_names}  # fmt: skip
        signature |= {"lengths": "*i64"} | dict.fromkeys(sizes, "i64") | dict.fromkeys(flags, "constexpr")
        compiled = compile(ASTSource(kernel, signature, flags), target=GPUTarget("cuda", 90, 32))
        assert compiled.asm["cubin"]
        in_registers = ".local" not in compiled.asm["ptx"]
        assert in_registers or step is EVERYTHING  # the sine of a large angle needs an array of its own


def test_without_triton(monkeypatch):
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"timecell\[gpu\]"):
        gpu.GPUPlan(tc.LIF(2).instant, torch.float32, "never")
