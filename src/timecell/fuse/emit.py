"""Emit a traced instant as readable numba source: one function for the instant, one for the loop over time.

The emitted module has two functions. ``instant`` computes one step for a row of units; it is the user's equations,
one line an operation. ``forward`` (or ``adjoint``) walks over samples, blocks of units and time. All arrays are
``[row, time, unit]`` (states and inputs), ``[row, unit]`` (parameters, carried blame), contiguous.

Three things happen on the way from graph to source:

* what depends on parameters alone is *hoisted*: torch computes it once per call, outside the loop;
* Python floats become entries of the array ``c``, so that another value needs no new compilation;
* an operation that is not in `TABLE` stops the emission: the step is not of the unit grain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from timecell.fuse.graphs import CONSTANT, ancestors, name_of, param_only
from timecell.fuse.trace import Step, blame_of, is_truth, locate, operations, results

BLOCK = 1024  # units in a block: a few rows of this width stay in first-level cache

# The closed table of pointwise operations: torch's name -> expression of its operands.
TABLE: dict[str, str] = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "div": "{0} / {1}",
    "neg": "-{0}", "reciprocal": "ONE / {0}", "abs": "abs({0})", "sqrt": "math.sqrt({0})", "rsqrt": "ONE / math.sqrt({0})",
    "exp": "exp({0})", "log": "log({0})", "tanh": "tanh({0})", "sigmoid": "sigmoid({0})",
    "sin": "math.sin({0})", "cos": "math.cos({0})", "sinh": "math.sinh({0})", "cosh": "math.cosh({0})",
    "asin": "math.asin({0})", "acos": "math.acos({0})", "atan": "math.atan({0})", "atan2": "math.atan2({0}, {1})",
    "hypot": "math.hypot({0}, {1})", "erf": "math.erf({0})", "exp2": "real(2.0 ** {0})", "pow": "real({0} ** {1})", "square": "{0} * {0}",
    "at_least": "({1} if {0} < {1} else {0})", "at_most": "({1} if {0} > {1} else {0})",
    "expm1": "math.expm1({0})", "log1p": "math.log1p({0})",
    "floor": "np.floor({0})", "ceil": "np.ceil({0})", "trunc": "np.trunc({0})", "round": "np.rint({0})",
    "maximum": "({0} if ({0} >= {1}) | ({0} != {0}) else {1})", "minimum": "({0} if ({0} <= {1}) | ({0} != {0}) else {1})",
    "relu": "(ZERO if {0} < ZERO else {0})", "threshold_backward": "({0} if {1} > {2} else ZERO)",
    "sign": "(ONE if {0} > ZERO else (-ONE if {0} < ZERO else {0}))", "sgn": "(ONE if {0} > ZERO else (-ONE if {0} < ZERO else {0}))",
    "eq": "{0} == {1}", "ne": "{0} != {1}", "lt": "{0} < {1}", "le": "{0} <= {1}", "gt": "{0} > {1}", "ge": "{0} >= {1}",
    "logical_and": "{0} & {1}", "logical_or": "{0} | {1}", "logical_not": "not {0}", "logical_xor": "{0} != {1}",
    "bitwise_and": "{0} & {1}", "bitwise_or": "{0} | {1}", "bitwise_not": "not {0}", "isnan": "{0} != {0}",
    "where": "({1} if {0} else {2})", "masked_fill": "({2} if {1} else {0})",
}  # fmt: skip
SAME = {"alias", "clone", "detach", "_to_copy", "lift_fresh_copy", "expand"}  # a copy, or a change of type
LITERALS = {0.0: "ZERO", 0.5: "HALF", 1.0: "ONE", 2.0: "TWO", -1.0: "-ONE"}
REALS = {torch.float32: "np.float32", torch.float64: "np.float64"}


class NotPointwise(Exception):
    """The step has an operation outside the table: it cannot be of the unit grain. Says which, and where."""


@dataclass(frozen=True)
class Program:
    """Emitted source and what the caller must hand to it.

    Attributes:
        source: the module's text.
        arguments: names of the step's inputs and states that the loop reads, in order.
        hoisted: nodes that depend on parameters alone, to be evaluated by `hoist` before the loop, in order.
        given: the hoisted nodes (or plain parameters) that the loop reads, in order.
        constants: the values of ``c``.
        outputs: names of the outputs, in order.
    """

    source: str
    arguments: tuple[str, ...]
    hoisted: tuple[fx.Node, ...]
    given: tuple[fx.Node, ...]
    constants: tuple[float, ...]
    outputs: tuple[str, ...]

    def hoist(self, params: dict[str, Tensor]) -> list[Tensor]:
        """Evaluate what depends on parameters alone; the results are [1 or rows, units]."""
        env: dict[fx.Node, Tensor] = {}

        def value(a: object) -> object:
            if not isinstance(a, fx.Node):
                return a
            return params[a.name] if a.op == "placeholder" else env[a]

        for node in self.hoisted:
            env[node] = node.target(*map(value, node.args), **{k: value(v) for k, v in node.kwargs.items()})  # type: ignore[operator]
        return [value(n) for n in self.given]  # type: ignore[misc]


def emit_forward(step: Step, graph: fx.Graph, dtype: torch.dtype) -> Program:
    """Source of the loop forward in time: reads inputs and states; writes y, the next states and what the adjoint wants.

    Args:
        step: the instant.
        graph: its trace; results after y and the next states are values to keep for the adjoint.
        dtype: float32 or float64.
    """
    outs, n_s = results(graph), len(step.states)
    kept = kept_names(len(outs) - 1 - n_s)
    outputs = ("y", *(f"next_{s}" for s in step.states), *kept)
    body = _Body(step, graph, outs, dtype)
    reads = [n for n in body.reads if n in step.inputs]  # every state is carried, whether the step reads it or not
    row = "unit0:unit1"
    call = [f"in_{n}[b, t, {row}]" for n in reads]
    call += [f"s_{s}[b, t & keep[{i}], {row}]" for i, s in enumerate(step.states)]
    call += [f"p{i}_b" for i in range(len(body.given))] + ["c", f"y[b, t, {row}]"]
    call += [f"s_{s}[b, (t + 1) & keep[{i}], {row}]" for i, s in enumerate(step.states)]
    call += [f"{k}[b, t & keep[{n_s + i}], {row}]" for i, k in enumerate(kept)]
    hold = "".join(
        f"                s_{s}[b, (t + 1) & keep[{i}], {row}] = s_{s}[b, t & keep[{i}], {row}]\n"
        for i, s in enumerate(step.states)
    )
    instant = body.function(
        [f"in_{n}" for n in reads] + [f"s_{s}" for s in step.states],
        {**{n: f"in_{n}" for n in reads}, **{s: f"s_{s}" for s in step.states}},
        outputs, width="y",
    )  # fmt: skip
    arrays = [f"in_{n}" for n in reads] + [f"s_{s}" for s in step.states] + [f"p{i}" for i in range(len(body.given))]
    rest = ["A1", "A3", *map(_kept_kind, outs[1 + n_s :]), "L1", "L1"]
    loop = f"""
@njit({_signature(["A3"] * (len(reads) + n_s), len(body.given), rest)}, **LOOP)
def forward({", ".join([*arrays, "c", "y", *kept])}, lengths, keep, row0, row1, first, last):
    for b in range(row0, row1):
        for unit0 in range(first, last, {BLOCK}):
            unit1 = min(unit0 + {BLOCK}, last)
{_param_rows(len(body.given))}            for t in range(lengths[b]):
                instant({", ".join(call)})
            for t in range(lengths[b], y.shape[1]):  # after a sample's end: silence, and the state stays
                y[b, t, {row}] = ZERO
{hold}"""
    return body.program(f"{step.name} forward", instant + loop, (*reads, *step.states), outputs)


def emit_adjoint(
    step: Step, graph: fx.Graph, dtype: torch.dtype, learn: Sequence[bool], recorded: Sequence[bool]
) -> Program:
    """Source of the loop backward in time: reads blame of y and of the last state, writes blame of everything before.

    Args:
        step: the instant.
        graph: its traced vector-Jacobian product.
        dtype: float32 or float64.
        learn: which parameters need a gradient; the others cost nothing.
        recorded: which states' trajectories carry blame of their own (they were recorded).
    """
    n_in = len(step.inputs)
    wanted = wanted_results(step, graph, learn)
    params = [p for p, need in zip(step.params, learn) if need]
    body = _Body(step, graph, wanted, dtype)
    kept = {n.name: n for n in graph.find_nodes(op="placeholder") if n.name.startswith(KEPT)}
    reads = [n for n in body.reads if n in step.inputs or n in step.states] + list(kept)
    traces = [s for s, r in zip(step.states, recorded) if r]
    row = "unit0:unit1"

    def array(n: str) -> str:
        return n if n in kept else f"in_{n}" if n in step.inputs else f"s_{n}"

    loads = {n: array(n) for n in reads} | {blame_of(): "blame"} | {blame_of(s): f"g_{s}" for s in step.states}
    takes = [array(n) for n in reads] + ["blame"] + [f"r_{s}" for s in traces]
    gives = [f"b_{n}" for n in step.inputs] + [f"g_{s}" for s in step.states] + [f"b_{p}" for p in params]
    instant = body.function(
        takes, loads, tuple(gives), width="blame", add=tuple(f"b_{p}" for p in params), traces=tuple(traces), down=True
    )
    call = [f"{a}[b, t, {row}]" for a in takes] + [f"p{i}_b" for i in range(len(body.given))] + ["c"]
    call += [f"b_{n}[b, t, {row}]" for n in step.inputs] + [f"g_{s}[b, {row}]" for s in step.states]
    call += [f"b_{p}[b, {row}]" for p in params]
    silence = "".join(f"                b_{n}[b, t, {row}] = ZERO\n" for n in step.inputs) or "                pass\n"
    cut = "".join(f"                    g_{s}[b, {row}] = ZERO\n" for s in step.states) or "                    pass\n"
    arrays = [*takes, *(f"p{i}" for i in range(len(body.given)))]
    kinds = [_kept_kind(kept[n]) if n in kept else "A3" for n in reads] + ["A3"] * (1 + len(traces))
    rest = ["A1"] + ["A3"] * n_in + ["A2"] * (len(step.states) + len(params)) + ["L1", "types.boolean"]
    loop = f"""
@njit({_signature(kinds, len(body.given), rest)}, **LOOP)
def adjoint({", ".join([*arrays, "c", *gives])}, lengths, carry, row0, row1, first, last):
    for b in range(row0, row1):
        for unit0 in range(first, last, {BLOCK}):
            unit1 = min(unit0 + {BLOCK}, last)
{_param_rows(len(body.given))}            for t in range(blame.shape[1] - 1, lengths[b] - 1, -1):
{silence}            for t in range(lengths[b] - 1, -1, -1):
                instant({", ".join(call)})
                if not carry:  # blame does not cross time
{cut}"""
    return body.program(f"{step.name} adjoint", instant + loop, tuple(reads), tuple(gives))


def _param_rows(n: int) -> str:
    """A parameter has one row for all samples, or one row a sample."""
    return "".join(f"            p{i}_b = p{i}[b if p{i}.shape[0] > 1 else 0, unit0:unit1]\n" for i in range(n))


def _signature(time_arrays: Sequence[str], params: int, rest: Sequence[str]) -> str:
    kinds = [*time_arrays, *["A2"] * params, *rest, *["types.intp"] * 4]
    return f"types.void({', '.join(kinds)})"


def _kept_kind(node: fx.Node) -> str:
    return "B3" if is_truth(node) else "A3"


KEPT = "kept_"


def kept_names(n: int) -> tuple[str, ...]:
    """What the values kept for the adjoint are called."""
    return tuple(f"{KEPT}{i}" for i in range(n))


def wanted_results(step: Step, graph: fx.Graph, learn: Sequence[bool]) -> list[fx.Node]:
    """The results of an adjoint's graph that are asked for: blame of inputs, states and the learnt parameters."""
    outs, n = results(graph), len(step.inputs) + len(step.states)
    return [*outs[:n], *(o for o, need in zip(outs[n:], learn) if need)]


class Expressions:
    """From a node of the graph to an expression in the emitted language. Who emits says how a value is read."""

    table: Mapping[str, str] = TABLE

    def __init__(self) -> None:
        self.constants: list[float] = []

    def read(self, node: fx.Node) -> str:
        """The expression of an operand."""
        raise NotImplementedError

    def choose(self, condition: str, yes: str, no: str) -> str:
        """One of two values."""
        return f"({yes} if {condition} else {no})"

    def expression(self, node: fx.Node) -> str:
        """What computes a node."""
        op = name_of(node)
        real = not is_truth(node)
        if op in SAME:
            (source,) = node.all_input_nodes
            return self.operand(source, real)
        if op in CONSTANT:
            at = CONSTANT[op]
            return self.operand(float(op == "ones_like") if at is None else node.args[at], real)
        if op == "pow":
            return self._power(node)
        if op == "clamp":
            return self._clamp(node)
        if op == "div" and "rounding_mode" in node.kwargs:
            quotient = self.table["div"].format(*(self.operand(a, True) for a in node.args))
            return self.table[str(node.kwargs["rounding_mode"])].format(f"({quotient})")
        truth = op.startswith(("logical", "bitwise"))
        mixed = op in ("where", "masked_fill")
        operands = [
            self.operand(a, real=not truth and not (mixed and isinstance(a, fx.Node) and is_truth(a)))
            for a in node.args
        ]
        if node.kwargs.get("alpha", 1) != 1:
            operands[1] = f"{self.operand(node.kwargs['alpha'], True)} * {operands[1]}"
        return self.table[op].format(*operands)

    def operand(self, a: object, real: bool) -> str:
        """An argument of an operation: a node, or a Python number."""
        if isinstance(a, fx.Node):
            if real and is_truth(a):
                return self.choose(self.read(a), "ONE", "ZERO")
            return self.read(a) if real or is_truth(a) else f"({self.read(a)} != ZERO)"
        if isinstance(a, bool):
            return LITERALS[float(a)] if real else str(a)
        if isinstance(a, (int, float)):
            value = float(a)
            if value in LITERALS:
                return LITERALS[value]
            if value not in self.constants:
                self.constants.append(value)
            return f"c{self.constants.index(value)}"
        raise NotPointwise(f"an operand of type {type(a).__name__}")

    def _power(self, node: fx.Node) -> str:
        base, exponent = node.args
        b = self.operand(base, True)
        whole = float(exponent) if isinstance(exponent, (int, float)) else None
        if whole == 1.0:
            return b
        if whole in (2.0, 3.0, 4.0):
            squared = self.table["square"].format(b)
            return {2.0: squared, 3.0: f"{squared} * {b}", 4.0: self.table["square"].format(f"({squared})")}[whole]
        if exponent == 0.5:
            return self.table["sqrt"].format(b)
        return self.table["pow"].format(b, self.operand(exponent, True))

    def _clamp(self, node: fx.Node) -> str:
        low, high = ([*node.args[1:], None, None])[:2]
        low, high = node.kwargs.get("min", low), node.kwargs.get("max", high)
        text = self.operand(node.args[0], True)
        if low is not None:
            text = self.table["at_least"].format(text, self.operand(low, True))
        if high is not None:
            text = self.table["at_most"].format(text, self.operand(high, True))
        return text


class _Body(Expressions):
    """The inside of ``instant``: lines of source for the wanted outputs of a graph."""

    def __init__(self, step: Step, graph: fx.Graph, wanted: Sequence[fx.Node], dtype: torch.dtype) -> None:
        super().__init__()
        self.step, self.dtype, self.wanted = step, dtype, list(wanted)
        self.lines: list[str] = []
        needed = ancestors(wanted)
        alone = param_only(graph, step.params)
        self.names: dict[fx.Node, str] = {}
        loop_nodes = [n for n in operations(graph) if n in needed and n not in alone]
        inputs = [a for n in loop_nodes for a in n.all_input_nodes] + [w for w in wanted if isinstance(w, fx.Node)]
        self.given = tuple(dict.fromkeys(a for a in inputs if a in alone))
        used = ancestors(self.given)
        self.hoisted = tuple(n for n in operations(graph) if n in used and n in alone)
        for i, node in enumerate(self.given):
            self.names[node] = f"p_{i}"
        self.reads = [n.name for n in graph.find_nodes(op="placeholder") if n in needed and n not in alone]
        for node in graph.find_nodes(op="placeholder"):
            self.names.setdefault(node, f"{node.name}_")
        _refuse(step, [name_of(n) for n in loop_nodes])
        for i, node in enumerate(loop_nodes):
            self._line(node, i)

    def _line(self, node: fx.Node, i: int) -> None:
        name = f"{name_of(node).strip('_')}_{i}"
        self.lines.append(f"{name} = {self.expression(node)}")
        self.names[node] = name

    def read(self, node: fx.Node) -> str:
        return self.names[node]

    def function(
        self, takes: Sequence[str], loads: dict[str, str], outputs: Sequence[str], width: str,
        add: Sequence[str] = (), traces: Sequence[str] = (), down: bool = False,
    ) -> str:  # fmt: skip
        """Source of ``instant``: read a unit's values, compute, write.

        Back in time it goes down the units as well: the whole walk is then one descending stream through memory, which
        processors fetch ahead by themselves.
        """
        values = [
            "ZERO" if w is None else self.operand(w, not (o.startswith(KEPT) and is_truth(w)))
            for o, w in zip(outputs, self.wanted)
        ]
        more = {blame_of(s): f" + r_{s}[n]" for s in traces}
        read = [f"{n}_ = {a}[n]{more.get(n, '')}" for n, a in loads.items()]
        read += [f"p_{i} = p{i}[n]" for i in range(len(self.given))]
        write = [f"{o}[n] {'+=' if o in add else '='} {v}" for o, v in zip(outputs, values)]
        heads = [*takes, *(f"p{i}" for i in range(len(self.given))), "c", *outputs]
        consts = "".join(f"    c{i} = c[{i}]\n" for i in range(len(self.constants)))
        lines = "".join(f"        {line}\n" for line in [*read, *self.lines, *write])
        units = f"range({width}.shape[0] - 1, -1, -1)" if down else f"range({width}.shape[0])"
        return f"\n@njit(**INLINE)\ndef instant({', '.join(heads)}):\n{consts}    for n in {units}:\n{lines}"

    def program(self, title: str, text: str, arguments: tuple[str, ...], outputs: tuple[str, ...]) -> Program:
        wide = self.dtype == torch.float64
        suffix = "64" if wide else ""
        fast = "" if wide else ', "fastmath": {"contract", "reassoc", "nsz", "arcp"}'
        source = f'''"""{title}, {self.dtype}. Emitted by timecell; see timecell.fuse.emit."""

import math

import numpy as np
from numba import njit, types

from timecell.fuse.maths import exp{suffix} as exp, log{suffix} as log, sigmoid{suffix} as sigmoid, tanh{suffix} as tanh

real = {REALS[self.dtype]}
ZERO, HALF, ONE, TWO = real(0), real(0.5), real(1), real(2)
INLINE = {{"nogil": True, "error_model": "numpy", "forceinline": True{fast}}}
LOOP = {{"nogil": True, "error_model": "numpy", "cache": True{fast}}}
A1, A2, A3 = (types.Array(types.float{64 if wide else 32}, d, "C") for d in (1, 2, 3))
B3 = types.Array(types.boolean, 3, "C")
L1 = types.Array(types.int64, 1, "C")

{text}'''
        return Program(source, arguments, self.hoisted, self.given, tuple(self.constants), outputs)


def _refuse(step: Step, names: Sequence[str]) -> None:
    """Stop at operations outside the table, naming one whose source line can be found."""
    known = {*TABLE, *SAME, *CONSTANT, "clamp"}
    strange = [n for n in dict.fromkeys(names) if n not in known]
    if strange:
        places = {n: locate(step, (n,)) for n in strange}
        name = next((n for n in strange if "(line" in places[n]), strange[0])
        raise NotPointwise(f"{name} in {places[name]}")
