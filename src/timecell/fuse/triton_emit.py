"""Emit a traced instant as readable Triton source: one kernel walks over time, states in registers.

The emitted module has one function, ``forward`` or ``adjoint``. Each of its lanes is one unit of one row and goes
through that unit's whole time alone:

    i = row * units + unit      the lane; a program is a block of them, whatever the number of units
    now                         where instant t of the lane stands in an array [B, T, N]
    before                      where the state before instant t stands in a course [B, T + 1, N]
    alive                       whether the lane's sample still runs at instant t

so neighbouring lanes read neighbouring memory, no lane is idle at any width, and a value that is carried through time
(a state, the blame of one, the blame of a parameter) costs no memory traffic at all. ``num_stages`` asks Triton to
fetch the arrays of later instants while this one is computed.

From graph to source it is the road of `emit.py` (hoisted parameters, constants in ``c``, a closed table); the table is
Triton's, where all functions beyond arithmetic are those of CUDA's libdevice, which are torch's own on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx

from timecell.fuse import emit
from timecell.fuse.emit import KEPT, Program, kept_names, wanted_results
from timecell.fuse.trace import Step, blame_of, is_truth, results

STAGES = 4  # instants under way at once: what is computed, and three whose arrays are being fetched
SIZES = ("lanes", "steps", "units", "param_row")  # param_row: 0, or units where each row has parameters of its own
LITERALS = {"ZERO": 0.0, "HALF": 0.5, "ONE": 1.0, "TWO": 2.0}
REALS = {torch.float32: "tl.float32", torch.float64: "tl.float64"}
LIBDEVICE = (
    "exp", "exp2", "expm1", "log", "log1p", "tanh", "sin", "cos", "sinh", "cosh", "asin", "acos", "atan", "erf", "trunc",
)  # fmt: skip
BOTH = "propagate_nan=tl.PropagateNan.ALL"

# As in `emit.TABLE`: torch's name -> expression of its operands.
TABLE: dict[str, str] = {
    **{name: f"libdevice.{name}({{0}})" for name in LIBDEVICE}, "round": "libdevice.rint({0})",
    **{name: f"libdevice.{name}({{0}}, {{1}})" for name in ("atan2", "hypot", "pow")},
    **{name: emit.TABLE[name] for name in ("add", "sub", "mul", "div", "neg", "reciprocal", "square")},
    **{name: emit.TABLE[name] for name in ("eq", "ne", "lt", "le", "gt", "ge", "isnan", "logical_xor")},
    "abs": "tl.abs({0})", "sqrt": "tl.sqrt({0})", "rsqrt": "ONE / tl.sqrt({0})", "floor": "tl.floor({0})", "ceil": "tl.ceil({0})",
    "sigmoid": "ONE / (ONE + libdevice.exp(-{0}))",
    "at_least": "tl.where({0} < {1}, {1}, {0})", "at_most": "tl.where({0} > {1}, {1}, {0})",
    "maximum": f"tl.maximum({{0}}, {{1}}, {BOTH})", "minimum": f"tl.minimum({{0}}, {{1}}, {BOTH})",
    "relu": "tl.where({0} < ZERO, ZERO, {0})", "threshold_backward": "tl.where({1} > {2}, {0}, ZERO)",
    "sign": "tl.where({0} > ZERO, ONE, tl.where({0} < ZERO, -ONE, {0}))",
    "sgn": "tl.where({0} > ZERO, ONE, tl.where({0} < ZERO, -ONE, {0}))",
    "logical_and": "{0} & {1}", "logical_or": "{0} | {1}", "logical_not": "~{0}",
    "bitwise_and": "{0} & {1}", "bitwise_or": "{0} | {1}", "bitwise_not": "~{0}",
    "where": "tl.where({0}, {1}, {2})", "masked_fill": "tl.where({1}, {2}, {0})",
}  # fmt: skip


class _Body(emit._Body):
    """The lines of one instant, in Triton."""

    table = TABLE

    def choose(self, condition: str, yes: str, no: str) -> str:
        return f"tl.where({condition}, {yes}, {no})"

    def value(self, wanted: fx.Node | None) -> str:
        """A result as a number."""
        return "ZERO" if wanted is None else self.operand(wanted, True)

    @property
    def rows(self) -> list[str]:
        """The arrays of what depends on parameters alone."""
        return [f"p{i}" for i in range(len(self.given))]

    def made(self, source: str, arguments: tuple[str, ...], outputs: tuple[str, ...]) -> Program:
        """The program of a source."""
        return Program(source, arguments, self.hoisted, self.given, tuple(self.constants), outputs)


PLACE = ("alive = t < length", "now = first + t * units", "before = now + row * units")


def emit_forward(step: Step, graph: fx.Graph, dtype: torch.dtype) -> Program:
    """Source of the kernel forward in time; arguments as in `emit.emit_forward`.

    The courses [B, T + 1, N] of states and the values [B, T, N] kept for the adjoint are written where ``KEEP_...`` says so.
    """
    outs, n_s = results(graph), len(step.states)
    kept = kept_names(len(outs) - 1 - n_s)
    body = _Body(step, graph, outs, dtype)
    reads = [n for n in body.reads if n in step.inputs]
    y, *after = map(body.value, outs[: 1 + n_s])
    begin = [f"at_{s} = tl.load(s_{s} + i, inside, 0)" for s in step.states]
    begin += [f"if KEEP_{s}: tl.store(course_{s} + first + row * units, at_{s}, inside)" for s in step.states]
    instant = [*PLACE, *(f"{n}_ = tl.load(in_{n} + now, alive, 0)" for n in reads)]
    instant += [f"{s}_ = at_{s}" for s in step.states]
    instant += body.lines
    instant += [f"tl.store(y + now, tl.where(alive, {y}, ZERO), inside)"]
    instant += [f"at_{s} = tl.where(alive, {value}, {s}_)" for s, value in zip(step.states, after)]
    instant += [f"if KEEP_{s}: tl.store(course_{s} + before + units, at_{s}, inside)" for s in step.states]
    for name, node in zip(kept, outs[1 + n_s :]):
        instant += [f"if KEEP_{name}: tl.store({name} + now, {body.operand(node, not is_truth(node))}, alive)"]
    end = [f"tl.store(last_{s} + i, at_{s}, inside)" for s in step.states]
    arrays = [*(f"in_{n}" for n in reads), *(f"s_{s}" for s in step.states), *body.rows, "c", "y"]
    arrays += [*(f"last_{s}" for s in step.states), *(f"course_{s}" for s in step.states), *kept]
    flags = [f"KEEP_{n}" for n in (*step.states, *kept)]
    source = _module(f"{step.name} forward", body, "forward", arrays, flags, begin, "t", instant, end)
    return body.made(source, (*reads, *step.states), ("y", *(f"next_{s}" for s in step.states), *kept))


def emit_adjoint(
    step: Step, graph: fx.Graph, dtype: torch.dtype, learn: Sequence[bool], recorded: Sequence[bool]
) -> Program:
    """Source of the kernel backward in time; arguments as in `emit.emit_adjoint`.

    The blame ``g_...`` [B, N] of the last states is read, and the blame of the first states written in its place.
    """
    params = [p for p, need in zip(step.params, learn) if need]
    traces = {s: f" + tl.load(r_{s} + now, alive, 0)" for s, r in zip(step.states, recorded) if r}
    wanted = wanted_results(step, graph, learn)
    body = _Body(step, graph, wanted, dtype)
    kept = [n.name for n in graph.find_nodes(op="placeholder") if n.name.startswith(KEPT)]
    reads = {n: (f"in_{n}", "now") for n in body.reads if n in step.inputs}
    reads |= {s: (f"s_{s}", "before") for s in body.reads if s in step.states}
    reads |= {k: (k, "now") for k in kept} | {blame_of(): ("blame", "now")}
    value = dict(zip([*step.inputs, *step.states, *params], map(body.value, wanted)))
    begin = [f"at_{s} = tl.load(g_{s} + i, inside, 0)" for s in step.states]
    begin += [f"sum_{p} = ZERO" for p in params]
    instant = ["t = steps - 1 - back", *PLACE]
    instant += [f"{n}_ = tl.load({array} + {at}, alive, 0)" for n, (array, at) in reads.items()]
    instant += [f"{blame_of(s)}_ = at_{s}{traces.get(s, '')}" for s in step.states]
    instant += body.lines
    instant += [f"tl.store(b_{n} + now, tl.where(alive, {value[n]}, ZERO), inside)" for n in step.inputs]
    instant += [f"at_{s} = tl.where(alive, {value[s]} if CARRY else ZERO, at_{s})" for s in step.states]
    instant += [f"sum_{p} += tl.where(alive, {value[p]}, ZERO)" for p in params]
    end = [f"tl.store(g_{s} + i, at_{s}, inside)" for s in step.states]
    end += [f"tl.store(b_{p} + i, sum_{p}, inside)" for p in params]
    gives = [*(f"b_{n}" for n in step.inputs), *(f"g_{s}" for s in step.states), *(f"b_{p}" for p in params)]
    arrays = [*(array for array, _ in reads.values()), *(f"r_{s}" for s in traces), *body.rows, "c", *gives]
    source = _module(f"{step.name} adjoint", body, "adjoint", arrays, ["CARRY"], begin, "back", instant, end)
    return body.made(source, tuple(n for n in reads if n != blame_of()), tuple(gives))


def _module(
    title: str, body: _Body, name: str, arrays: Sequence[str], flags: Sequence[str], begin: Sequence[str], count: str,
    instant: Sequence[str], end: Sequence[str],
) -> str:  # fmt: skip
    """The kernel: what a lane has before its time begins, the loop over instants, what it writes at the end.

    Sizes are 64-bit (an array may have more than 2^31 values), and none of them makes a kernel of its own.
    """
    text = " ".join([*begin, *instant])
    held = [f"{n} = tl.full([BLOCK], {v}, {REALS[body.dtype]})" for n, v in LITERALS.items() if n in text]
    held += [f"c{i} = tl.load(c + {i})" for i in range(len(body.constants))]
    held += [f"p_{i} = tl.load({row} + row * param_row + unit, inside, 0)" for i, row in enumerate(body.rows)]
    return f'''"""{title}, {body.dtype}. Emitted by timecell; see timecell.fuse.triton_emit."""

import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit(do_not_specialize=[{", ".join(f'"{n}"' for n in SIZES)}])
def {name}(
    {", ".join(arrays)}, lengths,
    {", ".join(f"{n}: tl.int64" for n in SIZES)},
    {", ".join(f"{flag}: tl.constexpr" for flag in [*flags, "BLOCK"])},
):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)  # a lane: one unit of one row
    inside = i < lanes
    row, unit = i // units, i % units
    length = tl.load(lengths + row, inside, 0)
    first = row * steps * units + unit
    {_lines(4, [*held, *begin])}

    for {count} in tl.range(0, steps, num_stages={STAGES}):
        {_lines(8, instant)}

    {_lines(4, end)}
'''


def _lines(depth: int, lines: Sequence[str]) -> str:
    return ("\n" + " " * depth).join(lines)
