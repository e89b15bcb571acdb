"""What the forward loop keeps for the adjoint: the cheapest set of values from which the rest can be computed again.

The adjoint of an instant needs values of the instant itself: the membrane before the reset, whether there was a spike.
They could all be computed again from the inputs and the states before; but an LIF neuron needs nothing but its membrane
before the reset, one array in place of two. So the values that separate what was given (inputs and states) from what the
blame is multiplied with are chosen by a minimum cut, where a value costs the bytes that its keeping moves (as
Chen et al., 2022, choose what to compute again; here a whole instant is one graph, and its cut is exact).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import fx

from timecell.fuse.emit import kept_names
from timecell.fuse.graphs import ancestors, operands, param_only, share
from timecell.fuse.trace import Step, blame_of, is_truth, operations

READ, WRITTEN_TOO, TRUTH = 4.0, 8.0, 2.0  # bytes a value: read once; written and read; the same of a single byte


@dataclass(frozen=True)
class Kept:
    """Values of every instant that the adjoint reads.

    Attributes:
        inputs: names of inputs, which are there anyway.
        states: names of states, whose trajectories are kept.
        values: nodes of the adjoint's graph, which the forward loop writes down.
    """

    inputs: tuple[str, ...]
    states: tuple[str, ...]
    values: tuple[fx.Node, ...] = ()


def cheapest(step: Step, graph: fx.Graph, wanted: Sequence[fx.Node], recorded: Collection[str] = ()) -> Kept:
    """The cheapest values from which an adjoint can be computed.

    Args:
        step: the instant.
        graph: its traced vector-Jacobian product.
        wanted: the results that are asked for.
        recorded: states whose trajectories are there anyway.
    """
    needed, alone = ancestors(wanted), param_only(graph, step.params)
    blame = _descendants(graph, {blame_of(), *map(blame_of, step.states)})
    given = {n for n in graph.find_nodes(op="placeholder") if n in needed and n.name in step.inputs + step.states}
    own = {n for n in needed if n not in blame and n not in alone and (n in given or operands(n))}
    edges: dict[object, dict[object, float]] = {}
    for node in own:  # a node is an edge of its cost: cutting it is keeping it
        cost = READ if node.name in (*step.inputs, *recorded) else TRUTH if is_truth(node) else WRITTEN_TOO
        edges.setdefault((node, "in"), {})[node, "out"] = cost
        if node in given:
            edges.setdefault("given", {})[node, "in"] = float("inf")
        if any(user in needed and user in blame for user in node.users) or node in wanted:
            edges.setdefault((node, "out"), {})["blame"] = float("inf")
        for user in node.users:
            if user in own and node in operands(user):
                edges.setdefault((node, "out"), {})[user, "in"] = float("inf")
    reached = _reachable(edges)
    cut = [n for n in graph.nodes if n in own and (n, "in") in reached and (n, "out") not in reached]
    names = [n.name for n in cut if n in given]
    return Kept(
        tuple(n for n in step.inputs if n in names),
        tuple(n for n in step.states if n in names),
        tuple(n for n in cut if n not in given),
    )


def joined(step: Step, forward: fx.Graph, adjoint: fx.Graph, kept: Kept) -> fx.Graph:
    """The forward graph with the kept values as further results; what both graphs compute is computed once."""
    graph = fx.Graph()
    places: dict[fx.Node, fx.Node] = {}
    outputs = graph.graph_copy(forward, places)
    by_name = {n.name: places[n] for n in forward.find_nodes(op="placeholder")}
    from_adjoint = {n: by_name[n.name] for n in adjoint.find_nodes(op="placeholder") if n.name in by_name}
    wanted = ancestors(kept.values)
    for node in operations(adjoint):
        if node in wanted:
            for source in node.all_input_nodes:  # a constant may take its shape from anything: from the input then
                from_adjoint.setdefault(source, by_name[step.inputs[0]])
            from_adjoint[node] = graph.node_copy(node, lambda n: from_adjoint[n])
    graph.output((*outputs, *(from_adjoint[n] for n in kept.values)))  # type: ignore[misc]
    share(graph)
    return graph


def without(graph: fx.Graph, kept: Kept) -> fx.Graph:
    """The adjoint's graph with its kept values as given ones, named ``kept_0``, ``kept_1``, ..."""
    out = fx.Graph()
    places: dict[fx.Node, fx.Node] = {}
    out.output(out.graph_copy(graph, places))
    first = next(iter(out.nodes))
    for name, node in zip(kept_names(len(kept.values)), kept.values):
        with out.inserting_before(first):
            given = out.placeholder(name)
        given.meta["val"] = node.meta["val"]
        places[node].replace_all_uses_with(given)
    return out


def _descendants(graph: fx.Graph, names: Collection[str]) -> set[fx.Node]:
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if node.name in names if node.op == "placeholder" else any(n in found for n in operands(node)):
            found.add(node)
    return found


def _reachable(edges: dict[object, dict[object, float]]) -> set[object]:
    """The source's side of a minimum cut between "given" and "blame" (Edmonds & Karp, 1972); uses up `edges`."""
    while True:
        came_from: dict[object, object] = {"given": None}
        queue: list[object] = ["given"]
        for place in queue:
            for to, room in edges.get(place, {}).items():
                if room > 0 and to not in came_from:
                    came_from[to] = place
                    queue.append(to)
        if "blame" not in came_from:
            return set(came_from)
        path: list[object] = ["blame"]
        while (before := came_from[path[-1]]) is not None:
            path.append(before)
        steps = list(zip(path[1:], path))
        flow = min(edges[a][b] for a, b in steps)
        for a, b in steps:
            edges[a][b] -= flow
            edges.setdefault(b, {}).setdefault(a, 0.0)
            edges[b][a] += flow
