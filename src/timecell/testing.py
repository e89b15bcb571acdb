"""The contract of cells, as checks that run on every cell of timecell and on yours.

    timecell check mine.py:Resonator            # or, in Python: tc.testing.check(Resonator)

Each check is a function whose first line of docstring is the promise. A cell that cannot keep one says why in
``exempt = {"causal": "reads the whole sequence"}``; the reason is printed beside it.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from timecell import fuse
from timecell.cell import Cell, Neuron, Stepped
from timecell.circuit import Circuit
from timecell.errors import InputError, TimecellError
from timecell.neurons.surrogate import smooth
from timecell.state import StateTree, flatten, map_state

B, T, C = 3, 24, 4
Check = Callable[[Cell], None]


@dataclass(frozen=True)
class Result:
    """Outcome of one check: passed, failed, or exempt; `reason` says why."""

    name: str
    promise: str
    passed: bool
    reason: str = ""


def check(cell: type[Cell] | Cell) -> list[Result]:
    """Run every check on a cell class (through its `example`) or on an instance that takes [B, T, 4].

    Example:
        >>> from timecell import LeakyIntegrator
        >>> all(r.passed for r in check(LeakyIntegrator))
        True
    """
    exempt: dict[str, str] = getattr(cell, "exempt", {})
    return checked(CHECKS, lambda: cell.example() if isinstance(cell, type) else copy.deepcopy(cell), exempt)


def checked(
    checks: Mapping[str, Callable[[Any], None]], thing: Callable[[], Any], exempt: Mapping[str, str]
) -> list[Result]:
    """Run checks, each on a thing of its own, and report on every one.

    Args:
        checks: by name; the first line of a check's docstring is the promise, and it raises where that is not kept.
        thing: makes what is checked.
        exempt: names of checks that are left out, and why.

    Example:
        >>> def positive(x):
        ...     "It is above zero."
        ...     assert x > 0, "it is not"
        >>> checked({"positive": positive}, lambda: -1, {})
        [Result(name='positive', promise='It is above zero.', passed=False, reason='AssertionError: it is not')]
    """
    results = []
    for name, function in checks.items():
        promise = (inspect.getdoc(function) or "").splitlines()[0]
        if name in exempt:
            results.append(Result(name, promise, True, f"exempt: {exempt[name]}"))
            continue
        try:
            torch.manual_seed(0)
            function(thing())
            results.append(Result(name, promise, True))
        except TimecellError as error:
            results.append(Result(name, promise, False, str(error)))
        except Exception as error:  # a check must report, never crash the table
            results.append(Result(name, promise, False, f"{type(error).__name__}: {str(error).strip()[:500]}"))
    return results


ABSTRACT = (Cell, Stepped, Neuron, Circuit)  # what others are written from


def walk(kind: type, package: str = "timecell") -> Iterator[type]:
    """Every public class of this kind that the package defines, found by importing all of its modules."""
    root = importlib.import_module(package)
    seen: set[type] = set()
    for info in pkgutil.walk_packages(root.__path__, f"{package}."):
        if info.name.rsplit(".", 1)[-1].startswith("__"):
            continue
        for found in vars(importlib.import_module(info.name)).values():
            if (
                isinstance(found, type) and issubclass(found, kind) and found not in seen
                and found.__module__ == info.name and not found.__name__.startswith("_") 
                and found not in ABSTRACT
            ):  # fmt: skip
                seen.add(found)
                yield found


# --- helpers -----------------------------------------------------------------------------------------------------


def _input(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(B, T, C, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype) * 0.7 + 0.2


def _same(place: str, a: Tensor, b: Tensor, tolerance: float) -> None:
    gap = (a - b).abs().max().item() if a.numel() else 0.0
    scale = max(1.0, b.abs().max().item()) if b.numel() else 1.0
    if not gap <= tolerance * scale:
        raise InputError(
            place, found=f"a difference of {gap:.3g}", expected=f"at most {tolerance:g} (times {scale:.3g})",
            remedy="see the promise of this check",
        )  # fmt: skip


def _same_state(place: str, a: StateTree, b: StateTree, tolerance: float) -> None:
    one, other = flatten(a), flatten(b)
    if one.keys() != other.keys():
        raise InputError(place, found=sorted(one), expected=f"{sorted(other)}", remedy="keep the state's structure")
    for name in one:
        _same(f"{place}.{name}", one[name], other[name], tolerance)


def _gradients(cell: Cell, x: Tensor, lengths: Tensor | None) -> list[Tensor]:
    x = x.clone().requires_grad_()
    y, state = cell(x, lengths=lengths)
    weights = torch.linspace(0.5, 1.5, y[0].numel(), dtype=y.dtype).view(y.shape[1:])
    loss = (y * weights).sum() + sum((s * s).sum() for s in flatten(state).values())
    inputs = [x, *(p for p in cell.parameters() if p.requires_grad)]
    return [
        g if g is not None else torch.zeros_like(i)
        for g, i in zip(torch.autograd.grad(loss, inputs, allow_unused=True), inputs)
    ]


def _neurons(cell: Cell) -> list[Stepped]:
    return [m for m in cell.modules() if isinstance(m, Stepped)]


# --- the checks --------------------------------------------------------------------------------------------------


def fused(cell: Cell) -> None:
    """The fused loop equals the plain one in float64, values and gradients, to 1e-10."""
    lengths = torch.tensor([T, T // 3, 1])
    for variant in _variants(cell):
        variant = variant.double()
        variant.eval()
        with fuse.backend("plain"):
            y, state = variant(_input(), lengths=lengths)
            truth = _gradients(variant, _input(), lengths)
        for neuron in _neurons(variant):
            reason = fuse.why_plain(neuron.instant, torch.float64)
            if reason is not None:
                print(f"timecell: {type(neuron).__name__} has only the plain loop: {reason}")
        y2, state2 = variant(_input(), lengths=lengths)
        _same("y", y2, y, 1e-10)
        _same_state("state", state2, state, 1e-10)
        for i, (a, b) in enumerate(zip(_gradients(variant, _input(), lengths), truth)):
            _same(f"gradient {i}", a, b, 1e-10)


def _variants(cell: Cell) -> Iterator[Cell]:
    """The cell itself; for one written as an instant also with everything learnt, and with each other choice of each option."""
    yield cell
    if isinstance(cell, Stepped):
        kind = type(cell)
        chosen = {n: getattr(cell, n) for n in kind.options}
        values = {n: q.value(cell).detach() for n, q in kind.params.items()}
        inner = {n: _inside(kind.params[n].range, v) for n, v in values.items()}
        yield kind(*cell.widths, learn=tuple(kind.params), **inner, **chosen)
        for name, o in kind.options.items():
            for choice in o.choices or ():
                if choice != chosen[name]:
                    yield kind(*cell.widths, **values, **{**chosen, name: choice})


def _inside(bounds: tuple[float | None, float | None], value: Tensor) -> Tensor:
    """A learnt value may not lie on its bound."""
    low, high = bounds
    if low is not None and high is not None:
        return value.clamp(low + 0.01 * (high - low), high - 0.01 * (high - low))
    if low is not None:
        return value.clamp(min=low + 0.01)
    return value if high is None else value.clamp(max=high - 0.01)


def single_precision(cell: Cell) -> None:
    """In float32 the fused and the plain loop agree but for rare spikes that rounding flips at threshold."""
    cell.float().eval()
    x = _input(torch.float32)
    y, _ = cell(x)
    with fuse.backend("plain"):
        truth, _ = cell(x)
    differs = (y - truth).abs() > 1e-4 * max(1.0, truth.abs().max().item())
    first = differs.flatten(2).any(-1).float().mean().item()
    if first > 0.05:
        raise InputError(
            "y", found=f"{first:.1%} of instants differ", expected="rounding only", remedy="compare in float64"
        )


def streaming(cell: Cell) -> None:
    """Splitting time changes nothing, and step is forward at T = 1 (in eval)."""
    cell.double().eval()
    if not cell.streams:
        return
    x = _input()
    with torch.no_grad():
        whole, end = cell(x)
        for cut in (0, 1, T // 2, T - 1):
            left, state = cell(x[:, :cut]) if cut else (whole[:, :0], None)
            right, state = cell(x[:, cut:], state)
            _same(f"y, split at {cut}", torch.cat([left, right], 1), whole, 1e-10)
            _same_state(f"state, split at {cut}", state, end, 1e-10)
        state, outputs = None, []
        for t in range(T):
            y, state = cell.step(x[:, t], state)
            outputs.append(y)
        _same("y, step by step", torch.stack(outputs, 1), whole, 1e-10)
        _same_state("state, step by step", state, end, 1e-10)


def causal(cell: Cell) -> None:
    """What comes after t (and the declared look-ahead) does not change the output up to t."""
    cell.double().eval()
    if not cell.causal:
        return
    x = _input()
    with torch.no_grad():
        whole, _ = cell(x)
        for t in (0, T // 2, T - 2):
            changed = x.clone()
            changed[:, t + cell.lookahead + 1 :] += 3.0
            _same(f"y up to {t}", cell(changed)[0][:, : t + 1], whole[:, : t + 1], 0.0)


def batching(cell: Cell) -> None:
    """Batch mates, their order and padding do not matter; padding has exactly zero gradient."""
    cell.double().eval()
    x, lengths = _input(), torch.tensor([T, T // 2, 2])
    with torch.no_grad():
        together, states = cell(x, lengths=lengths)
        order = torch.tensor([2, 0, 1])
        shuffled, _ = cell(x[order], lengths=lengths[order])
        _same("y, other order", shuffled, together[order], 1e-12)
        for b, n in enumerate(lengths.tolist()):
            alone, state = cell(x[b : b + 1, :n])
            _same(f"y of sample {b} alone", alone, together[b : b + 1, :n], 1e-10)
            _same_state(f"state of sample {b} alone", state, map_state(lambda s, b=b: s[b : b + 1], states), 1e-10)
            _same("y after a sample's end", together[b, n:], torch.zeros_like(together[b, n:]), 0.0)
    garbage = x.clone()
    garbage[1, T // 2 :], garbage[2, 2:] = 1e3, -1e3
    _same("y with other padding", cell(garbage, lengths=lengths)[0], together, 0.0)
    pad = _gradients(cell, x, lengths)[0]
    _same("gradient of padding", torch.cat([pad[1, T // 2 :], pad[2, 2:]]), torch.zeros(T - T // 2 + T - 2, C), 0.0)


def gradients(cell: Cell) -> None:
    """Gradients equal finite differences, with every spike replaced by its surrogate's primitive."""
    cell.double().train()
    for m in cell.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.eval()
    x = _input()[:2, :5].clone().requires_grad_()
    parameters = [p for p in cell.parameters() if p.requires_grad]

    def outputs(x: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        torch.manual_seed(0)
        y, state = cell(x)
        return (y, *(s for s in flatten(state).values() if s.is_floating_point()))

    with fuse.backend("plain"), smooth():
        torch.autograd.gradcheck(outputs, (x, *parameters), atol=1e-5, rtol=1e-3)


def parameters(cell: Cell) -> None:
    """A parameter changed between two calls changes the result as the plain loop says: none is frozen in."""
    cell.double().eval()
    cell(_input())
    with torch.no_grad():
        for name, value in [*cell.named_parameters(), *cell.named_buffers()]:
            if not value.is_floating_point():
                continue
            before = value.clone()
            value.mul_(0.97).add_(0.02)  # small, so that it stays in range
            y, state = cell(_input())
            with fuse.backend("plain"):
                truth, truth_state = cell(_input())
            _same(f"y after a change of {name}", y, truth, 1e-10)
            _same_state(f"state after a change of {name}", state, truth_state, 1e-10)
            value.copy_(before)


def types(cell: Cell) -> None:
    """Outputs have the input's type, states at least float32; bfloat16 and autocast work."""
    cell.float().eval()
    with torch.no_grad():
        y, state = cell(_input(torch.float32))
        if y.dtype != torch.float32:
            raise InputError("y", found=y.dtype, expected="float32 for a float32 input", remedy="keep the input's type")
        with torch.autocast("cpu", torch.bfloat16):
            _, state = cell(_input(torch.float32))
        if isinstance(cell, Stepped):
            y, state = cell(_input(torch.bfloat16))
            if y.dtype != torch.bfloat16 or any(s.dtype != torch.float32 for s in flatten(state).values()):
                raise InputError("y, state", found=(y.dtype, *(s.dtype for s in flatten(state).values())),
                                 expected="bfloat16 out, float32 state", remedy="cast at the border only")  # fmt: skip


def nothing_hidden(cell: Cell) -> None:
    """Two equal runs give equal results and leave nothing behind; a copy with the same state_dict computes the same."""
    cell.double().eval()
    before = {k: v.clone() for k, v in cell.state_dict().items()}
    attributes = {n: set(vars(m)) for n, m in cell.named_modules()}
    with torch.no_grad():
        one, state_one = cell(_input())
        two, state_two = cell(_input())
    _same("y of a second run", two, one, 0.0)
    _same_state("state of a second run", state_two, state_one, 0.0)
    after = cell.state_dict()
    for k, v in before.items():
        _same(f"state_dict[{k}]", after[k].double(), v.double(), 0.0)
    for n, m in cell.named_modules():
        left = set(vars(m)) - attributes[n]
        if left:
            raise InputError(f"attributes of {n or 'the cell'}", found=sorted(left), expected="nothing new after a run",
                             remedy="keep what a run remembers in its state")  # fmt: skip
    twin = copy.deepcopy(cell)
    for p in twin.parameters():
        nn.init.normal_(p)
    twin.load_state_dict(before)
    with torch.no_grad():
        _same("y of a copy", twin(_input())[0], one, 0.0)


def borders(cell: Cell) -> None:
    """One sample, one step and no sample at all work."""
    cell.float().eval()
    for batch, steps in ((1, 1), (1, T), (B, 1), (0, T)):
        y, _ = cell(_input(torch.float32)[:batch, :steps])
        if y.shape[:2] != (batch, steps):
            raise InputError(
                "y", found=list(y.shape), expected=f"[{batch}, {steps}, ...]", remedy="keep batch and time"
            )


def not_a_number(cell: Cell) -> None:
    """NaN in one sample stays as visible as in the plain loop, and does not reach the other samples."""
    cell.float().eval()
    x = _input(torch.float32)
    clean, _ = cell(x)
    x[1, T // 2] = float("nan")
    y, state = cell(x)
    with fuse.backend("plain"):
        truth, truth_state = cell(x)
    _same("y of the other samples", y[[0, 2]], clean[[0, 2]], 1e-6)
    _same("where y is NaN", y.isnan().float(), truth.isnan().float(), 0.0)
    ours, plain = (map_state(lambda t: t.isnan().float(), s) for s in (state, truth_state))
    _same_state("where the state is NaN", ours, plain, 0.0)


def messages(cell: Cell) -> None:
    """Wrong inputs are refused with an error that names the argument, what was found, and the remedy."""
    cell.float()
    wrong: list[tuple[str, Callable[[], Any]]] = [
        ("a missing axis", lambda: cell(torch.zeros(C))),
        ("whole numbers", lambda: cell(torch.zeros(B, T, C, dtype=torch.long))),
        ("lengths beyond T", lambda: cell(torch.zeros(B, T, C), lengths=torch.tensor([1, 2, T + 1]))),
        ("lengths of another batch", lambda: cell(torch.zeros(B, T, C), lengths=torch.tensor([1]))),
    ]
    for what, call in wrong:
        try:
            call()
        except TimecellError:
            continue
        except Exception as error:
            raise InputError(
                what, found=type(error).__name__, expected="an InputError", remedy="check arguments first"
            ) from error
        raise InputError(what, found="no error", expected="an InputError", remedy="call check_sequence in forward")


CHECKS: dict[str, Check] = {
    f.__name__: f
    for f in (
        fused, single_precision, streaming, causal, batching, gradients, parameters, types, nothing_hidden, borders,
        not_a_number, messages,
    )
}  # fmt: skip
