"""Source of one instant of the row grain: loop nests over the values of one sample.

From the traced graph of one sample:

* what depends on parameters alone is hoisted, as in the unit grain;
* what only renames indices (view, permute, slice, expand, ...) costs nothing: it is followed back when read;
* a product is a multiplication that is summed; the multiplication is written inside the sum and never stored;
* the rest is pointwise, and written into the expression that uses it, or stored if several do or if a larger loop does.

So each stored value is one loop nest over its indices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, cast

import torch
from torch import fx

from timecell.fuse.emit import REALS, SAME, TABLE, Expressions, NotPointwise, Program
from timecell.fuse.graphs import CONSTANT, ancestors, multiply_by_reciprocals, name_of, param_only, share
from timecell.fuse.trace import Step, is_truth, locate, operations

UNROLL = 8  # terms of a sum on one line: a running sum in a register waits for itself, eight terms do not

Index: TypeAlias = tuple[int | str, ...]

EACH = ("exp", "log", "tanh", "sigmoid", "sin", "cos", "sinh", "cosh", "asin", "acos", "atan", "erf", "expm1", "log1p")
ROW_TABLE = TABLE | {name: f"{name}({{0}}, scratch)" for name in EACH} | {
    "exp2": "power(TWO, {0}, scratch)", "pow": "power({0}, {1}, scratch)",
    "atan2": "atan2({0}, {1}, scratch)", "hypot": "hypot({0}, {1})", "square": "square({0})",
    "abs": "absolute({0})", "sqrt": "root({0})", "rsqrt": "ONE / root({0})",
    "floor": "floor({0})", "ceil": "ceil({0})", "trunc": "trunc({0})", "round": "rint({0})",
    "maximum": "maximum({0}, {1})", "minimum": "minimum({0}, {1})", "at_least": "at_least({0}, {1})",
    "at_most": "at_most({0}, {1})", "relu": "at_least({0}, ZERO)", "threshold_backward": "where({1} > {2}, {0}, ZERO)",
    "sign": "sign({0})", "sgn": "sign({0})", "isnan": "negate({0} == {0})",
    "logical_not": "negate({0})", "bitwise_not": "negate({0})", "logical_xor": "{0} ^ {1}",
    "where": "where({0}, {1}, {2})", "masked_fill": "where({1}, {2}, {0})",
}  # fmt: skip
RENAMING = {"view", "_unsafe_view", "reshape", "permute", "t", "transpose", "unsqueeze", "squeeze", "expand", "slice", "select", "getitem"}  # fmt: skip
PARTS = {"split_with_sizes", "split"}  # read through getitem
REDUCING = {"sum": "{0} + {1}", "mean": "{0} + {1}", "amax": ROW_TABLE["maximum"], "amin": ROW_TABLE["minimum"], "max": ROW_TABLE["maximum"], "min": ROW_TABLE["minimum"]}  # fmt: skip
PIECEWISE = {"cat", "slice_scatter", "select_scatter", "constant_pad_nd"}
KNOWN = {*TABLE, *SAME, *CONSTANT, *RENAMING, *PARTS, *REDUCING, *PIECEWISE, "clamp"}


def indented(lines: Sequence[str], indent: int) -> str:
    """Lines of source at a depth."""
    return "".join(" " * indent + line + "\n" for line in lines)


def shape_of(node: Any) -> tuple[int, ...]:
    """Shape of a node's value in one sample."""
    return tuple(node.meta["val"].shape)


def flat(shape: Sequence[int], index: Index) -> str:
    """Position in a contiguous array."""
    strides = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
    constant = sum(i * s for i, s in zip(index, strides) if isinstance(i, int))
    terms = [f"{i} * {s}" if s != 1 else f"{i}" for i, s in zip(index, strides) if isinstance(i, str)]
    return " + ".join([*terms, *([str(constant)] if constant or not terms else [])])


def _shift(i: int | str, by: int, scale: int = 1) -> int | str:
    if isinstance(i, int):
        return i * scale + by
    text = i if scale == 1 else f"{i} * {scale}"
    return f"({text} + {by})" if by else (text if scale == 1 else f"({text})")


class Nests(Expressions):
    """Loop nests for the wanted outputs of a graph of one sample.

    Attributes:
        lines: source of one instant of one group.
        arrays: placeholder -> (array, name of the row where its first value lies).
        plus: placeholder -> a second array that is added to it.
    """

    table = ROW_TABLE

    def __init__(self, step: Step, graph: fx.Graph, wanted: Sequence[Any], dtype: torch.dtype) -> None:
        super().__init__()
        self.step, self.dtype = step, dtype
        self.wanted = [w for w in wanted if isinstance(w, fx.Node)]
        self.placeholders = {n.name: n for n in graph.find_nodes(op="placeholder")}
        needed, alone = ancestors(self.wanted), param_only(graph, step.params)
        self.nodes = [n for n in operations(graph) if n in needed and n not in alone]
        used = [a for n in self.nodes for a in n.all_input_nodes] + self.wanted
        self.given = tuple(dict.fromkeys(a for a in used if a in alone))
        behind = ancestors(self.given)
        self.hoisted = tuple(n for n in operations(graph) if n in behind and n in alone)
        self.reads = [n for n, node in self.placeholders.items() if node in needed and node not in alone]
        _refuse(step, self.nodes)
        self.given_names = [f"p{i}" for i in range(len(self.given))]
        self.arrays: dict[str, tuple[str, str]] = {}
        self.plus: dict[str, tuple[str, str]] = {}
        self.lines: list[str] = []
        self.stored: dict[fx.Node, str] = {}
        self.indent = 0
        self._index: Index = ()
        self._plan()

    def argument_shape(self, placeholder: str) -> tuple[int, ...]:
        """Shape of an argument in one sample."""
        return shape_of(self.placeholders[placeholder])

    # --- what is stored ----------------------------------------------------------------------------------------------

    def _plan(self) -> None:
        """Decide which values are stored: sums, joined pieces, what several use, and what a larger loop uses."""
        within: dict[fx.Node, list[int]] = {n: [] for n in self.nodes}  # sizes of the loops that read it
        for node in self.wanted:
            if node in within:
                within[node].append(math.prod(shape_of(node)))
        for node in reversed(self.nodes):
            op, sizes = name_of(node), within[node]
            size = math.prod(shape_of(node)) if op not in PARTS else 0
            if op in RENAMING or op in PARTS:
                loops = sizes
            else:
                pointwise = op not in REDUCING and op not in PIECEWISE
                if not pointwise or (op not in CONSTANT and (len(sizes) > 1 or any(s > size for s in sizes))):
                    self.keep(node)
                loops = sizes if node not in self.stored else [size]
                if op in REDUCING:
                    loops = [math.prod(shape_of(node.args[0]))]
            for source in node.all_input_nodes:
                if source in within:
                    within[source] += loops
            if op == "view" and not _only_ones(node):  # another shape altogether: read from memory
                self._keep_behind(node.args[0])

    def _keep_behind(self, node: Any) -> None:
        if isinstance(node, fx.Node) and node.op == "call_function" and node not in self.given:
            self.keep(node)

    def keep(self, node: Any) -> None:
        """Store a value (again is no harm); placeholders, constants and what is hoisted lie in memory anyway."""
        if isinstance(node, fx.Node) and node.op == "call_function" and node not in self.given:
            self.stored.setdefault(node, f"{name_of(node).strip('_')}_{len(self.stored)}")

    # --- reading -------------------------------------------------------------------------------------------------------

    def read(self, node: fx.Node) -> str:
        """At the index of the loop, broadcast as torch does."""
        shape = shape_of(node)
        index = self._index[len(self._index) - len(shape) :]
        return self.at(node, tuple(0 if n == 1 else i for n, i in zip(shape, index)))

    def at(self, node: Any, index: Index) -> str:
        """The expression of a value at an index (None, the blame of what plays no part, is zero)."""
        if node is None:
            return "ZERO"
        if self._in_memory(node):
            return self._fetch(node, flat(shape_of(node), index))
        if name_of(node) in RENAMING:
            if name_of(node) == "view" and not _only_ones(node):
                return self._fetch(node.args[0], flat(shape_of(node), index))
            return self.at(*self._source(node, index))
        outer, self._index = self._index, index
        try:
            text = self.expression(node)
        finally:
            self._index = outer
        return text if text.isidentifier() else f"({text})"

    def _in_memory(self, node: fx.Node) -> bool:
        return node in self.given or node in self.stored or node.op == "placeholder"

    def _fetch(self, node: Any, place: str) -> str:
        """Read a value that lies in memory, at its place in one long list."""
        if node in self.given:
            return f"p{self.given.index(node)}[{place}]"
        if node in self.stored:
            value = f"load({self.stored[node]}, {place})"
            return value if not is_truth(node) else f"({value} != ZERO)"
        array, base = self.arrays[node.name]
        text = f"load({array}, {base} + {place})"
        if node.name in self.plus:
            array, base = self.plus[node.name]
            text = f"({text} + load({array}, {base} + {place}))"
        return text

    def _source(self, node: fx.Node, index: Index) -> tuple[Any, Index]:
        """Where a renamed value really stands."""
        args: Any = node.args
        op, source = name_of(node), args[0]
        if op == "getitem":
            part, number = args
            source, sizes, dim = part.args[0], part.args[1], part.args[2] if len(part.args) > 2 else 0
            sizes = [sizes] * (number + 1) if isinstance(sizes, int) else sizes
            return source, _replaced(index, dim, lambda i: _shift(i, sum(sizes[:number])))
        shape = shape_of(source)
        if op == "permute":
            order = [d % len(shape) for d in args[1]]
            return source, tuple(index[order.index(d)] for d in range(len(shape)))
        if op in ("t", "transpose"):
            a, b = (0, 1) if op == "t" else args[1:3]
            swapped = list(index)
            swapped[a], swapped[b] = swapped[b], swapped[a]
            return source, tuple(swapped)
        if op == "expand":
            back = index[len(index) - len(shape) :]
            return source, tuple(0 if n == 1 else i for n, i in zip(shape, back))
        if op == "slice":
            dim, start = ([*args[1:], 0, 0])[:2]
            step = args[4] if len(args) > 4 else 1
            start = 0 if start is None else start
            start = max(start + shape[dim], 0) if start < 0 else start
            return source, _replaced(index, dim, lambda i: _shift(i, start, step))
        if op == "select":
            dim, number = args[1] % len(shape), args[2] % shape[args[1]]
            return source, (*index[:dim], number, *index[dim:])
        real = iter([i for i, n in zip(index, shape_of(node)) if n != 1])  # only axes of length 1 come or go
        return source, tuple(0 if n == 1 else next(real) for n in shape)

    def factors(self, node: Any) -> tuple[tuple[int, Any], tuple[int, Any]] | None:
        """(length, value at an index) of a column and a row, if a matrix is their outer product; else None."""
        if not isinstance(node, fx.Node) or len(shape_of(node)) != 2 or self._in_memory(node):
            return None
        args: Any = node.args
        if name_of(node) == "permute":
            inner = self.factors(args[0])
            return (inner[1], inner[0]) if inner and list(args[1]) == [1, 0] else inner
        if name_of(node) != "mul" or not all(isinstance(a, fx.Node) for a in args):
            return None
        shapes = [(1,) * (2 - len(shape_of(a))) + shape_of(a) for a in args]
        for column, row in ((0, 1), (1, 0)):
            if shapes[column][1] == 1 and shapes[row][0] == 1:
                left, right = (self._along(args[k], d) for k, d in ((column, 0), (row, 1)))
                return (shapes[column][0], left), (shapes[row][1], right)
        return None

    def _along(self, node: Any, axis: int) -> Any:
        """Reads a matrix of one column or one row at a place along it."""

        def value(i: int | str) -> str:
            index: Index = (i, 0) if axis == 0 else (0, i)
            return self.at(node, index[2 - len(shape_of(node)) :])

        return value

    # --- writing -------------------------------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        """One line at the depth of the loops."""
        self.lines.append("    " * self.indent + text)

    @contextmanager
    def nest(self, shape: Sequence[int], prefix: str = "i") -> Iterator[Index]:
        """Loops over the indices of a shape; an axis of length 1 needs none."""
        index: list[int | str] = []
        depth = self.indent
        for d, n in enumerate(shape):
            if n == 1:
                index.append(0)
            else:
                self.line(f"for {prefix}{d} in range({n}):")
                self.indent += 1
                index.append(f"{prefix}{d}")
        yield tuple(index)
        self.indent = depth

    def compute(self) -> None:
        """Every stored value, in order."""
        for node in self.nodes:
            if node in self.stored:
                op = name_of(node)
                if op in REDUCING:
                    self._reduce(node)
                elif op in PIECEWISE:
                    self._pieces(node)
                else:
                    self._assign(node)

    def _assign(self, node: fx.Node) -> None:
        name = self.stored.pop(node)
        with self.nest(shape_of(node)) as i:
            value = self.at(node, i)
            value = value if not is_truth(node) else f"where({value}, ONE, ZERO)"
            self.line(f"store({name}, {flat(shape_of(node), i)}, {value})")
        self.stored[node] = name

    def _reduce(self, node: fx.Node) -> None:
        """A sum (or the like) over some axes; a few terms on each line, added to a running value."""
        args: Any = node.args
        op, source, name = name_of(node), args[0], self.stored[node]
        shape = shape_of(source)
        given = args[1] if len(args) > 1 else None
        every = range(len(shape)) if given is None or given == [] else [given] if isinstance(given, int) else given
        dims = {d % len(shape) for d in every}
        kept = [n for d, n in enumerate(shape) if d not in dims]
        over = sorted((d for d in dims if shape[d] > 1), key=lambda d: shape[d])
        scale = self.operand(1 / math.prod(shape[d] for d in dims), True) if op == "mean" else None
        pattern = REDUCING[op]
        with self.nest(kept) as k:
            rest = iter(k)
            index: list[int | str] = [0 if d in dims else next(rest) for d in range(len(shape))]
            place = flat(kept, k)
            if not over:  # nothing to add up
                over = [next(iter(dims), 0)] if shape else []
            *outer, last = over or [0]
            index = index or [0]

            def term(number: int | str) -> str:
                index[last] = number
                value = self.at(source, tuple(index[: len(shape)]))
                return f"where({value}, ONE, ZERO)" if is_truth(source) else value

            def total(terms: list[str]) -> str:
                text = terms[0]
                for t in terms[1:]:
                    text = pattern.format(text, t)
                return text

            size = shape[last] if shape else 1
            depth = self.indent
            for d in outer:
                index[d] = 0
            if outer:
                self.line(f"total = spread(scratch, {'-INF' if 'max' in op else 'INF' if 'min' in op else 'ZERO'})")
                for d in outer:
                    self.line(f"for j{d} in range({shape[d]}):")
                    self.indent += 1
                    index[d] = f"j{d}"
                first = 0
            else:
                first = min(UNROLL, size)
                self.line(f"total = {total([term(r) for r in range(first)])}")
            whole = first + (size - first) // UNROLL * UNROLL
            if whole > first:
                self.line(f"for r in range({first}, {whole}, {UNROLL}):")
                terms = total([term("r" if u == 0 else f"(r + {u})") for u in range(UNROLL)])
                self.line(f"    total = {pattern.format('total', f'({terms})')}")
            if whole < size:
                terms = total([term(r) for r in range(whole, size)])
                self.line(f"total = {pattern.format('total', f'({terms})')}")
            self.indent = depth
            self.line(f"store({name}, {place}, total{f' * {scale}' if scale else ''})")

    def _pieces(self, node: fx.Node) -> None:
        """Values joined from pieces: each piece is copied to its place."""
        op, name, shape, args = name_of(node), self.stored[node], shape_of(node), cast(Any, node.args)

        def copy(piece: Any, into: Any) -> None:
            with self.nest(shape_of(piece)) as i:
                self.line(f"store({name}, {flat(shape, into(i))}, {self.at(piece, i)})")

        if op == "cat":
            dim = (args[1] if len(args) > 1 else cast(int, node.kwargs.get("dim", 0))) % len(shape)
            start = 0
            for piece in args[0]:
                copy(piece, lambda i, start=start: _replaced(i, dim, lambda k: _shift(k, start)))
                start += shape_of(piece)[dim]
            return
        if op == "constant_pad_nd":
            value = self.operand(args[2] if len(args) > 2 else 0.0, True)
            with self.nest(shape) as i:
                self.line(f"store({name}, {flat(shape, i)}, {value})")
            sides = dict(zip(reversed(range(len(shape))), zip(args[1][::2], args[1][1::2])))
            before = [sides.get(d, (0, 0))[0] for d in range(len(shape))]  # less than nothing: what is cut off
            common = [n - sum(max(p, 0) for p in sides.get(d, (0, 0))) for d, n in enumerate(shape)]
            with self.nest(common) as i:
                into = tuple(_shift(k, max(b, 0)) for k, b in zip(i, before))
                value = self.at(args[0], tuple(_shift(k, max(-b, 0)) for k, b in zip(i, before)))
                self.line(f"store({name}, {flat(shape, into)}, {value})")
            return
        base, piece = args[:2]
        copy(base, lambda i: i)
        if op == "select_scatter":
            dim, number = args[2] % len(shape), args[3] % shape[args[2]]
            copy(piece, lambda i: (*i[:dim], number, *i[dim:]))
            return
        dim, start = ([*args[2:], 0, 0])[:2]
        step = args[5] if len(args) > 5 else 1
        start = 0 if start is None else start
        start = max(start + shape[dim], 0) if start < 0 else start
        copy(piece, lambda i: _replaced(i, dim, lambda k: _shift(k, start, step)))

    def choose(self, condition: str, yes: str, no: str) -> str:
        """One of two values in every lane."""
        return f"where({condition}, {yes}, {no})"

    def prelude(self) -> str:
        """Constants and scratch memory, once a call."""
        lines = [f"c{i} = c[{i}]" for i in range(len(self.constants))]
        lines += ["scratch = np.empty(2 * LANES, dtype=real)"]
        lines += [f"{name} = np.empty({math.prod(shape_of(n))} * LANES, dtype=real)" for n, name in self.stored.items()]
        return indented(lines, 4)

    def program(self, title: str, text: str, arguments: tuple[str, ...], outputs: tuple[str, ...]) -> Program:
        """The module."""
        wide = self.dtype == torch.float64
        fast = "" if wide else ', "fastmath": {"contract", "reassoc", "nsz", "arcp"}'
        doubles = "".join(f"\nfrom timecell.fuse.lanes import {f}64 as {f}" for f in ("exp", "log", "tanh", "sigmoid"))
        doubles = doubles if wide else ""
        source = f'''"""{title}, {self.dtype}. Emitted by timecell; see timecell.fuse.row."""

import numpy as np
from numba import njit, types

from timecell.fuse.lanes import *{doubles}

real = {REALS[self.dtype]}
ZERO, HALF, ONE, TWO, INF = real(0), real(0.5), real(1), real(2), real(np.inf)
LOOP = {{"nogil": True, "error_model": "numpy", "cache": True{fast}}}
A1 = types.Array(types.float{64 if wide else 32}, 1, "C")
L1 = types.Array(types.int64, 1, "C")

{text}'''
        return Program(source, arguments, self.hoisted, self.given, tuple(self.constants), outputs)


def _replaced(index: Index, dim: Any, change: Any) -> Index:
    d = dim % len(index)
    return (*index[:d], change(index[d]), *index[d + 1 :])


def _only_ones(node: fx.Node) -> bool:
    """Whether a view only adds or drops axes of length 1."""
    return [n for n in shape_of(node) if n != 1] == [n for n in shape_of(node.args[0]) if n != 1]


def tidy(step: Step, graph: fx.Graph) -> None:
    """What changes nodes comes first, so that whoever holds a node afterwards holds it for good."""
    multiply_by_reciprocals(graph, step.params)
    share(graph)
    _copy_placeholders(graph)


def _copy_placeholders(graph: fx.Graph) -> None:
    """What comes out as it came in is copied, so that writing one output cannot change another."""
    output = next(iter(graph.find_nodes(op="output")))
    copies = []
    for node in output.args[0]:
        if isinstance(node, fx.Node) and node.op == "placeholder":
            with graph.inserting_before(output):
                copy = graph.call_function(torch.ops.aten.clone.default, (node,))
            copy.meta["val"] = node.meta["val"]
            node = copy
        copies.append(node)
    output.args = (tuple(copies),)


def _refuse(step: Step, nodes: Sequence[fx.Node]) -> None:
    """Stop at operations that the row grain does not have, naming one whose source line can be found."""
    strange = [name_of(n) for n in nodes if name_of(n) not in KNOWN]
    strange += [name_of(n) for n in nodes if name_of(n) in ("max", "min") and isinstance(n.meta["val"], tuple)]
    if strange:
        places = {n: locate(step, (n,)) for n in dict.fromkeys(strange)}
        name = next((n for n in strange if "(line" in places[n]), strange[0])
        raise NotPointwise(f"{name} in {places[name]}")
