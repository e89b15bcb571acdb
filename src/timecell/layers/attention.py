"""Attention: every query reads a weighted mean of values, the more of one the better its key fits the query.

    weights = softmax(Q K' / sqrt(D / H) + mask)        Q from x, K and V from a memory (or from x itself), H heads
    y = W_o [weights V, head by head]

`MultiHeadAttention` is the operator, for sets as for sequences; what may be seen is a mask (`causal_mask`,
`padding_mask`). `SelfAttention` is the same as a `Cell`, for nets over time. Over torch's scaled_dot_product_attention.

Source: Vaswani et al., "Attention is all you need" (2017), arXiv:1706.03762.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from timecell.cell import Cell, check_channels, check_sequence
from timecell.combine import silence
from timecell.errors import InputError
from timecell.state import StateTree

Queries: TypeAlias = Float[Tensor, "B Q D"]
"""What asks, and what it got to know."""
Memory: TypeAlias = Float[Tensor, "B K M"] | None
"""What is read; None: the queries themselves."""
Mask: TypeAlias = Shaped[Tensor, "..."] | None
"""What may be seen; None: everything. See `MultiHeadAttention`."""


def causal_mask(
    queries: int, keys: int, context: int | None = None, device: torch.device | None = None
) -> Bool[Tensor, "Q K"]:
    """A query sees its own key and those before it, the last query the last key; at most `context` keys in all.

    Example:
        >>> causal_mask(3, 4, context=2).int().tolist()
        [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    """
    age = torch.arange(keys - queries, keys, device=device)[:, None] - torch.arange(keys, device=device)
    return (age >= 0) if context is None else (age >= 0) & (age < context)


def padding_mask(lengths: Int[Tensor, "B"], keys: int) -> Bool[Tensor, "B 1 K"]:
    """Every query of sample b sees its first ``lengths[b]`` keys.

    Example:
        >>> padding_mask(torch.tensor([1, 3]), 3).int().tolist()
        [[[1, 0, 0]], [[1, 1, 1]]]
    """
    return (torch.arange(keys, device=lengths.device) < lengths[:, None])[:, None]


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention in several heads.

    Args:
        size: D, width of the queries and of the output.
        heads: H, which D is a multiple of.
        memory_size: width of what is read; D if not given.
        dropout: share of the weights that training drops.

    Shapes: x [B, Q, D], memory [B, K, memory_size] -> [B, Q, D]. A mask is [Q, K], [B, Q, K] or [B, H, Q, K] (or
    broadcasts to it): bool, True where a query may look, or numbers that are added to the scores. A query that may look
    nowhere reads zeros.

    Raises:
        InputError: widths, heads or the shape of the mask do not fit.

    Example:
        >>> attention = MultiHeadAttention(8, heads=2)
        >>> x, memory = torch.rand(3, 5, 8), torch.rand(3, 7, 8)
        >>> tuple(attention(x, memory).shape), tuple(attention.weights(x, memory).shape)
        ((3, 5, 8), (3, 2, 5, 7))
        >>> sees = attention.weights(x, mask=causal_mask(5, 5))
        >>> bool((sees.triu(1) == 0).all()), bool(torch.allclose(sees.sum(-1), torch.ones(3, 2, 5)))
        (True, True)
    """

    def __init__(self, size: int, heads: int = 4, *, memory_size: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        if heads < 1 or size < 1 or size % heads:
            raise InputError(
                "MultiHeadAttention(heads)", found=f"{heads} heads for a width of {size}",
                expected="a number of heads that divides the width", remedy="choose another width or number of heads",
            )  # fmt: skip
        self.size, self.heads, self.dropout = size, heads, dropout
        self.memory_size = size if memory_size is None else memory_size
        self.query, self.output = nn.Linear(size, size), nn.Linear(size, size)
        self.key, self.value = nn.Linear(self.memory_size, size), nn.Linear(self.memory_size, size)

    def forward(self, x: Queries, memory: Memory = None, mask: Mask = None) -> Queries:
        """What each query reads; without a memory the queries read one another."""
        memory = self._checked(x, memory)
        return self.read(self.query(x), self.key(memory), self.value(memory), mask)

    def weights(self, x: Queries, memory: Memory = None, mask: Mask = None) -> Float[Tensor, "B H Q K"]:
        """How much of each key each query reads, in each head; a row sums to 1, or to 0 where nothing may be seen."""
        memory = self._checked(x, memory)
        q, k = self._split(self.query(x)), self._split(self.key(memory))
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        mask = self._per_head(mask, scores.shape)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        sees_nothing = scores.isneginf().all(-1, keepdim=True)
        return scores.softmax(-1).masked_fill(sees_nothing, 0.0)

    def read(
        self,
        q: Float[Tensor, "B Q D"],
        k: Float[Tensor, "B K D"],
        v: Float[Tensor, "B K D"],
        mask: Mask = None,
    ) -> Float[Tensor, "B Q D"]:
        """What projected queries read from projected keys and values; for whoever keeps keys and values."""
        q, k, v = self._split(q), self._split(k), self._split(v)
        mask = self._per_head(mask, (*q.shape[:3], k.shape[2]))
        y = scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0)
        return self.output(y.transpose(1, 2).flatten(2))

    def _checked(self, x: Tensor, memory: Tensor | None) -> Tensor:
        memory = x if memory is None else memory
        check_channels("MultiHeadAttention(x)", x, self.size)
        check_channels("MultiHeadAttention(memory)", memory, self.memory_size)
        return memory

    def _split(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B H L D/H"]:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _per_head(self, mask: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
        """The mask with an axis for heads."""
        if mask is None:
            return None
        wide = mask[:, None] if mask.ndim == 3 else mask
        try:
            fits = mask.ndim >= 2 and torch.broadcast_shapes(wide.shape, shape) == tuple(shape)
        except RuntimeError:
            fits = False
        if not fits:
            raise InputError(
                "mask", found=f"shape {list(mask.shape)}",
                expected=f"[Q, K], [B, Q, K] or [B, H, Q, K] with B, H, Q, K = {list(shape)}",
                remedy="make it with causal_mask or padding_mask",
            )  # fmt: skip
        return wide

    def extra_repr(self) -> str:
        """Width and heads."""
        return f"{self.size}, heads={self.heads}"


class KeysValues(NamedTuple):
    """What causal self-attention remembers: the last context - 1 keys and values [B, P, D], and how many are filled."""

    keys: Tensor
    values: Tensor
    filled: Tensor


class SelfAttention(Cell):
    """Multi-head attention of a sequence to itself.

    Args:
        size: D.
        heads: H.
        context: None: every step sees all steps, so the cell needs the whole sequence. A number: a step sees itself
            and the ``context - 1`` steps before it, so the cell is causal and streams.
        dropout: share of the weights that training drops.

    Shapes: x [B, T, D] -> y [B, T, D]; state of a causal one: `KeysValues`.

    Example:
        >>> attention = SelfAttention(8, heads=2, context=4)
        >>> x = torch.rand(1, 6, 8)
        >>> whole, _ = attention(x)
        >>> first, state = attention(x[:, :5])
        >>> last, _ = attention.step(x[:, 5], state)
        >>> bool(torch.allclose(last, whole[:, 5], atol=1e-6))
        True
    """

    @classmethod
    def example(cls) -> SelfAttention:
        """For the checks."""
        return cls(4, heads=2, context=5)

    def __init__(self, size: int, heads: int = 4, context: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        if context is not None and context < 1:
            raise InputError(
                "SelfAttention(context)", found=context, expected="at least 1, or None", remedy="choose a longer one"
            )
        self.attention = MultiHeadAttention(size, heads, dropout=dropout)
        self.context = context
        self.causal = self.streams = context is not None

    def initial_state(self, batch: int, like: Tensor) -> StateTree:
        """Nothing seen yet."""
        if self.context is None:
            return None
        nothing = like.new_zeros(batch, self.context - 1, self.attention.size)
        return KeysValues(nothing, nothing, torch.zeros(batch, dtype=torch.int64, device=like.device))

    def forward(
        self, x: Float[Tensor, "B T D"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T D"], StateTree]:
        """Whole sequences."""
        check_sequence("SelfAttention(x)", x, lengths)
        check_channels("SelfAttention(x)", x, self.attention.size)
        x = silence(x, lengths)
        if self.context is None:
            mask = None if lengths is None else padding_mask(lengths, x.shape[1])
            return silence(self.attention(x, mask=mask), lengths), None
        return self._causal(x, self.context, state, lengths)

    def _causal(self, x: Tensor, context: int, state: StateTree, lengths: Tensor | None) -> tuple[Tensor, StateTree]:
        heads, (batch, steps, _) = self.attention, x.shape
        k, v, mask = heads.key(x), heads.value(x), causal_mask(steps, steps, context, x.device)
        if state is None:  # a sequence begins: what is not there need not be read
            y, filled = heads.read(heads.query(x), k, v, mask), 0
            k, v = (pad(a, (0, 0, context - 1, 0)) for a in (k, v))
        else:
            self._check_state(state, batch, context)
            filled = state.filled
            k, v = torch.cat([state.keys, k], 1), torch.cat([state.values, v], 1)
            there = torch.arange(k.shape[1], device=x.device) >= context - 1 - filled[:, None]
            y = heads.read(heads.query(x), k, v, causal_mask(steps, k.shape[1], context, x.device) & there[:, None])
        ends = torch.full((batch,), steps, device=x.device) if lengths is None else lengths
        if lengths is None:
            k, v = k[:, steps:], v[:, steps:]
        else:
            last = (ends[:, None] + torch.arange(context - 1, device=x.device))[..., None].expand(-1, -1, heads.size)
            k, v = k.gather(1, last), v.gather(1, last)
        return silence(y, lengths), KeysValues(k, v, (filled + ends).clamp(max=context - 1))

    def _check_state(self, state: StateTree, batch: int, context: int) -> None:
        shape = (batch, context - 1, self.attention.size)
        if not isinstance(state, KeysValues) or state.keys.shape != shape:
            found = f"keys of shape {list(state.keys.shape)}" if isinstance(state, KeysValues) else type(state).__name__
            raise InputError(
                "SelfAttention(state)", found=found, expected=f"KeysValues of shape {list(shape)}",
                remedy="pass the state this cell returned for a batch of this size, or None to start anew",
            )  # fmt: skip

    def extra_repr(self) -> str:
        """How far it sees."""
        return f"context={self.context}"
