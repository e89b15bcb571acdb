"""What several stages of the engine ask of a traced graph, and two ways to make it cheaper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from timecell.fuse.trace import is_truth, operations

# Operations that make a constant: name -> which argument is the value; None: the name says it
CONSTANT = {
    "full": 1, "full_like": 1, "scalar_tensor": 0, "zeros_like": None, "ones_like": None, "_efficientzerotensor": None,
}  # fmt: skip


def name_of(node: fx.Node) -> str:
    """The operation's name without its overload."""
    target: Any = node.target
    return target.overloadpacket.__name__ if hasattr(target, "overloadpacket") else target.__name__


def multiply_by_reciprocals(graph: fx.Graph, params: Sequence[str]) -> None:
    """x / p becomes x * (1 / p) where p is made of parameters alone: the division leaves the loop."""
    alone = param_only(graph, params)
    for node in operations(graph):
        if node.target is torch.ops.aten.div.Tensor and node.args[1] in alone and node not in alone:
            with graph.inserting_before(node):
                inverse = graph.call_function(torch.ops.aten.reciprocal.default, (node.args[1],))
                product = graph.call_function(torch.ops.aten.mul.Tensor, (node.args[0], inverse))
            inverse.meta["val"], product.meta["val"] = node.args[1].meta["val"], node.meta["val"]  # type: ignore[union-attr]
            node.replace_all_uses_with(product)
            graph.erase_node(node)


def ancestors(nodes: Sequence[fx.Node]) -> set[fx.Node]:
    """These nodes and everything that they are computed from."""
    found: set[fx.Node] = set()
    stack = [n for n in nodes if isinstance(n, fx.Node)]
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack += operands(node)
    return found


def operands(node: fx.Node) -> list[fx.Node]:
    """What a node is computed from; a constant needs only the shape of its operands."""
    return [] if node.op == "call_function" and name_of(node) in CONSTANT else node.all_input_nodes


def param_only(graph: fx.Graph, params: Sequence[str]) -> set[fx.Node]:
    """Numbers that depend on parameters and on nothing else (pure constants are written in place instead)."""
    alone: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder":
            if node.name in params:
                alone.add(node)
        elif node.op == "call_function":
            sources = node.all_input_nodes
            if sources and all(s in alone for s in sources) and not is_truth(node):
                alone.add(node)
    return alone


def share(graph: fx.Graph) -> None:
    """Compute equal operations on equal operands once."""
    seen: dict[Any, fx.Node] = {}
    for node in operations(graph):
        key = (node.target, _hashable(node.args), _hashable(node.kwargs))
        if key in seen:
            node.replace_all_uses_with(seen[key])
            graph.erase_node(node)
        else:
            seen[key] = node


def _hashable(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return ("list", *map(_hashable, value))
    if isinstance(value, dict):
        return ("dict", *((k, _hashable(v)) for k, v in value.items()))
    return (type(value).__name__, value)


def copied(graph: fx.Graph) -> fx.Graph:
    """A copy, for those who change what they are given."""
    copy = fx.Graph()
    copy.output(copy.graph_copy(graph, {}))
    return copy
