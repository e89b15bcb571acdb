"""From nodes and edges to a net: any graph of one input and one output, as containers within containers.

What flows into a node is the sum over its edges. Nodes that every path passes lie in a `Sequential`; what lies between
two of them side by side is a `Parallel`, or a `Residual` where an edge leads past it; a cycle is a `Recurrent` or a
`Loop`, whose way back takes one step. A graph that is not made of these is refused, naming the nodes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import nn

from timecell.cell import Cell, Neuron
from timecell.combine import Loop, Parallel, Recurrent, Residual, Sequential
from timecell.errors import InputError

Edge = tuple[str, str]
IN, OUT = "(in)", "(out)"
"""Names of the ends of a part of a graph."""


def wire(nodes: Mapping[str, nn.Module], edges: Iterable[Edge], source: str, sink: str) -> Sequential:
    """The net of a graph.

    Args:
        nodes: name -> module.
        edges: pairs (from, to) of names of nodes, `source` and `sink`.
        source: name of the input, which is no node.
        sink: name of the output.

    Raises:
        InputError: an edge to nowhere, a node beside every way from input to output, or a graph that is not made of
            sequences, parallel branches and loops; it names the nodes.

    Example:
        >>> nodes = {"a": nn.Identity(), "b": nn.Tanh(), "c": nn.ReLU()}
        >>> net = wire(nodes, [("x", "a"), ("a", "b"), ("b", "c"), ("a", "c"), ("c", "y")], "x", "y")
        >>> [type(m).__name__ for m in net]
        ['Identity', 'Residual', 'ReLU']
    """
    ends = {source: IN, sink: OUT}
    links = {(ends.get(a, a), ends.get(b, b)) for a, b in edges}
    unknown = sorted({name for link in links for name in link} - nodes.keys() - {IN, OUT})
    if unknown:
        raise _refused(unknown, "edges to nodes that do not exist", "name every node that an edge names")
    graph = _Graph(dict(nodes), links)
    idle = sorted(nodes.keys() - (graph.after(IN) & graph.before(OUT)))
    if idle:
        raise _refused(idle, "nodes on no way from the input to the output", "connect them, or leave them out")
    return Sequential(OrderedDict(_in_series(_without_loops(_with_sums(graph)))))


@dataclass(frozen=True)
class _Graph:
    nodes: dict[str, nn.Module]
    edges: set[Edge]

    def after(self, name: str) -> set[str]:
        """Nodes that can be reached from this one."""
        return self._reached(name, self.edges)

    def before(self, name: str) -> set[str]:
        """Nodes from which this one can be reached."""
        return self._reached(name, {(b, a) for a, b in self.edges})

    def _reached(self, name: str, edges: set[Edge]) -> set[str]:
        found, waiting = set[str](), [name]
        while waiting:
            here = waiting.pop()
            new = {b for a, b in edges if a == here} - found
            found |= new
            waiting += new
        return found

    def without(self, name: str) -> _Graph:
        return _Graph(self.nodes, {e for e in self.edges if name not in e})

    def part(self, names: Iterable[str], first: str, last: str) -> _Graph:
        """Some nodes with the edges among them; what comes from `first` and goes to `last` are its ends."""
        inside = set(names)
        links = {(IN if a == first else a, OUT if b == last else b) for a, b in self.edges}
        return _Graph(
            {n: m for n, m in self.nodes.items() if n in inside},
            {(a, b) for a, b in links if a in inside | {IN} and b in inside | {OUT}},
        )

    def groups(self, *, directed: bool) -> list[list[str]]:
        """Nodes that reach each other: along the edges, or along them in any direction."""
        names = list(self.nodes)
        place = {name: i for i, name in enumerate(names)}
        inner = [(place[a], place[b]) for a, b in self.edges if a in place and b in place]
        rows, columns = ([e[k] for e in inner] for k in (0, 1))
        matrix = coo_array((np.ones(len(inner)), (rows, columns)), shape=(len(names), len(names)))
        count, label = connected_components(matrix, directed=True, connection="strong" if directed else "weak")
        return [[n for n, k in zip(names, label) if k == group] for group in range(count)]

    def order(self) -> list[str]:
        """From the input to the output."""
        before: dict[str, set[str]] = {name: set() for name in self.nodes}
        for a, b in self.edges:
            if b in before and a in before:
                before[b].add(a)
        try:
            return list(TopologicalSorter(before).static_order())
        except CycleError as e:
            raise _refused(e.args[1][1:], "a loop within a loop", "give each loop one way back") from None


def _with_sums(graph: _Graph) -> _Graph:
    """The graph with a node of its own for each sum that goes to several places, as after one skip and before another."""
    nodes, edges = dict(graph.nodes), set(graph.edges)

    def sources(name: str) -> set[str]:
        return {a for a, b in edges if b == name}

    for name in sorted([*nodes, OUT], key=lambda n: len(sources(n))):
        parts = sources(name)
        targets = [n for n in [*nodes, OUT] if parts <= sources(n)]
        if len(parts) > 1 and len(targets) > 1:
            total = f"sum_{name}"
            nodes[total] = nn.Identity()
            edges -= {(a, b) for a in parts for b in targets}
            edges |= {(a, total) for a in parts} | {(total, b) for b in targets}
    return _Graph(nodes, edges)


# --- series and parallel -----------------------------------------------------------------------------------------


def _in_series(graph: _Graph) -> list[tuple[str, nn.Module]]:
    """A graph without cycles, as parts one after the other."""
    passed = [n for n in graph.order() if OUT not in graph.without(n).after(IN)]
    parts: list[tuple[str, nn.Module]] = []
    for first, last in zip([IN, *passed], [*passed, OUT]):
        between = graph.after(first) & graph.before(last)
        if between:
            parts.append(_side_by_side(graph.part(between, first, last)))
        if last != OUT:
            parts.append((_safe(last), graph.nodes[last]))
    return parts


def _side_by_side(graph: _Graph) -> tuple[str, nn.Module]:
    """A graph in which no node lies on every path."""
    groups = graph.groups(directed=False)
    if len(groups) == 1 and not _past(graph):
        raise _refused(list(graph.nodes), "branches that cross", "rewrite the part as sequences and parallel branches")
    beside = _Graph(graph.nodes, graph.edges - {(IN, OUT)})
    branches = [_as_one(_in_series(beside.part(names, IN, OUT))) for names in groups]
    name = _safe(next(iter(graph.nodes)))
    if not _past(graph):
        return f"parallel_{name}", Parallel(*branches)
    if len(branches) == 1:
        inside = branches[0]
        return f"residual_{name}", Residual(*(inside._modules.values() if type(inside) is Sequential else [inside]))
    return f"parallel_{name}", Parallel(*branches, nn.Identity())


def _past(graph: _Graph) -> bool:
    return (IN, OUT) in graph.edges


def _as_one(parts: list[tuple[str, nn.Module]]) -> nn.Module:
    return parts[0][1] if len(parts) == 1 else Sequential(OrderedDict(parts))


def _safe(name: str) -> str:
    return name.replace(".", "_")  # torch allows no dot in a module's name


# --- loops -------------------------------------------------------------------------------------------------------


def _without_loops(graph: _Graph) -> _Graph:
    """The graph with each cycle as one node, under the name of the node at which it is entered."""
    nodes, edges = dict(graph.nodes), set(graph.edges)
    for names in graph.groups(directed=True):
        inside = set(names)
        if len(inside) == 1 and (names[0], names[0]) not in edges:
            continue
        entries = {b for a, b in graph.edges if a not in inside and b in inside}
        exits = {a for a, b in graph.edges if a in inside and b not in inside}
        if len(entries) > 1 or len(exits) > 1:
            raise _refused(names, "a loop with several ways in or out", "let it have one of each")
        (entry,), (way_out,) = entries, exits
        nodes = {n: m for n, m in nodes.items() if n not in inside} | {entry: _looped(graph, inside, entry, way_out)}
        edges = {(entry if a in inside else a, entry if b in inside else b) for a, b in edges} - {(entry, entry)}
    return _Graph(nodes, edges)


def _looped(graph: _Graph, inside: set[str], entry: str, way_out: str) -> Cell:
    """What leads from the entry to the exit, with what leads back."""
    inner = {(a, b) for a, b in graph.edges if a in inside and b in inside}
    ahead = _Graph(graph.nodes, {(a, b) for a, b in inner if b != entry and a != way_out})
    forward = {entry} if entry == way_out else {entry, way_out} | (ahead.after(entry) & ahead.before(way_out))
    back = inside - forward
    onward = {(a, b) for a, b in inner if {a, b} <= forward and b != entry and a != way_out}
    return_ = {(a, b) for a, b in inner if a in back | {way_out} and b in back | {entry}}
    crossing = inner - onward - return_
    if crossing:
        raise _refused(sorted({n for e in crossing for n in e}), "a loop with several ways back", "let it have one")
    block = _Graph({n: graph.nodes[n] for n in graph.nodes if n in forward}, onward | {(IN, entry), (way_out, OUT)})
    feedback = _Graph(graph.nodes, return_).part(back, way_out, entry)
    body, home = _as_one(_in_series(block)), _as_one(_in_series(feedback) or [("direct", nn.Identity())])
    if isinstance(body, Neuron) and not isinstance(home, Cell):
        return Recurrent(body, home)
    return Loop(body, home)


def _refused(names: list[str], found: str, remedy: str) -> InputError:
    return InputError(
        f"graph, nodes {', '.join(names)}", found=found, expected="sequences, parallel branches and loops from one input to one output",
        remedy=remedy,
    )  # fmt: skip
