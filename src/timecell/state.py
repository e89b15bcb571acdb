"""State is data: what a net remembers between two instants, as plain tensors that you hold.

The state of a leaf cell is a NamedTuple of `[B, ...]` tensors, that of a container a dict keyed by child name, and
None where there is nothing to remember (or nothing remembered yet). These functions work on any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import torch
from jaxtyping import Bool, Int
from torch import Tensor

StateTree: TypeAlias = Any  # None | NamedTuple of [B, ...] tensors | dict[str, StateTree]

State: TypeAlias = Annotated[Tensor, "state"]
"""Marks a state variable in the body of a `Neuron`: ``v: tc.State``."""


def map_state(function: Callable[..., Tensor], state: StateTree, *others: StateTree) -> StateTree:
    """Apply a function to every tensor of a state (and to the matching tensors of others of the same structure).

    Example:
        >>> map_state(lambda t: t + 1, {"a": None, "b": torch.zeros(2)})["b"].tolist()
        [1.0, 1.0]
    """
    if state is None:
        return None
    if isinstance(state, Tensor):
        return function(state, *others)
    if isinstance(state, dict):
        return {k: map_state(function, v, *(o[k] for o in others)) for k, v in state.items()}
    parts = (map_state(function, v, *(o[i] for o in others)) for i, v in enumerate(state))
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


def detach(state: StateTree) -> StateTree:
    """The same values without their history: where truncated credit cuts."""
    return map_state(Tensor.detach, state)


def to(state: StateTree, *args: Any, **kwargs: Any) -> StateTree:
    """Moved or cast like `torch.Tensor.to`; whole numbers (counters, seeds) are moved and keep their type.

    Example:
        >>> to({"v": torch.zeros(1), "step": torch.zeros(1, dtype=torch.int64)}, torch.float64)["step"].dtype
        torch.int64
    """
    return map_state(lambda t: t.to(*args, **kwargs) if t.is_floating_point() else _moved(t, *args, **kwargs), state)


def _moved(t: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return t.to(device=t.new_empty(0, dtype=torch.float32).to(*args, **kwargs).device)


def index(state: StateTree, rows: Int[Tensor, "b"] | Bool[Tensor, "B"] | slice) -> StateTree:
    """The state of some of the samples.

    Example:
        >>> index({"v": torch.arange(3.0)}, torch.tensor([2, 0]))["v"].tolist()
        [2.0, 0.0]
    """
    return map_state(lambda t: t[rows], state)


def reset(state: StateTree, mask: Bool[Tensor, "B"], fresh: StateTree) -> StateTree:
    """Start some samples anew: rows where `mask` is True are taken from `fresh` (see `Cell.initial_state`).

    Example:
        >>> reset(torch.ones(2), torch.tensor([True, False]), torch.zeros(2)).tolist()
        [0.0, 1.0]
    """
    return map_state(
        lambda old, new: torch.where(mask.view(-1, *([1] * (old.ndim - 1))), new, old), state, fresh
    )  # fmt: skip


def flatten(state: StateTree, prefix: str = "") -> dict[str, Tensor]:
    """Dotted names to tensors: the form in which a state is written to a file.

    Example:
        >>> list(flatten({"0": {"v": torch.zeros(1)}, "1": None}))
        ['0.v']
    """
    if state is None:
        return {}
    if isinstance(state, Tensor):
        return {prefix: state}
    items = state.items() if isinstance(state, dict) else zip(state._fields, state)
    flat: dict[str, Tensor] = {}
    for name, value in items:
        flat |= flatten(value, f"{prefix}.{name}" if prefix else name)
    return flat


def unflatten(flat: dict[str, Tensor], like: StateTree, prefix: str = "") -> StateTree:
    """The inverse of `flatten`, given a state of the same structure."""
    if like is None:
        return None
    if isinstance(like, Tensor):
        return flat[prefix]

    def child(name: str, value: StateTree) -> StateTree:
        return unflatten(flat, value, f"{prefix}.{name}" if prefix else name)

    if isinstance(like, dict):
        return {name: child(name, value) for name, value in like.items()}
    return type(like)(*(child(name, value) for name, value in zip(like._fields, like)))
