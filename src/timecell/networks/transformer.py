"""Transformers: stacks of attention and small nets, each added to what came in (pre-norm).

    x <- x + attention(norm x)                 to itself
    x <- x + attention(norm x, memory)         in a decoder: to what it is told
    x <- x + W_2 gelu(W_1 norm x)              at the end of the stack one more norm

They do not know what comes first: give x a code of its place (an embedding, a `TimeEncoding`) before it goes in.

Source: Vaswani et al. (2017), arXiv:1706.03762; pre-norm: Xiong et al. (2020), arXiv:2002.04745.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from timecell.cell import check_channels
from timecell.combine import Residual, Sequential
from timecell.errors import InputError
from timecell.layers.attention import Mask, Memory, MultiHeadAttention, Queries, SelfAttention, causal_mask


def feed_forward(size: int, expand: int, dropout: float) -> list[nn.Module]:
    """The net of two layers that every block ends with, its norm before it."""
    return [
        nn.LayerNorm(size), nn.Linear(size, expand * size), nn.GELU(), nn.Linear(expand * size, size),
        nn.Dropout(dropout),
    ]  # fmt: skip


class TransformerEncoder(Sequential):
    """A stack of self-attention over time, as a cell.

    Args:
        size: D.
        layers: their number.
        heads: H.
        context: None: every step sees all steps. A number: a step sees itself and, in each layer, the ``context - 1``
            steps before it; then the net is causal, streams, and keeps keys and values as its state.
        expand: width of the nets between, in multiples of D.
        dropout: share of weights and of outputs that training drops.

    Shapes: x [B, T, D] -> y [B, T, D].

    Example:
        >>> import torch
        >>> net = TransformerEncoder(8, layers=2, heads=2, context=16)
        >>> x = torch.rand(3, 5, 8)
        >>> y, state = net(x)
        >>> y_t, state = net.step(torch.rand(3, 8), state)
        >>> tuple(y.shape), tuple(y_t.shape), net.causal
        ((3, 5, 8), (3, 8), True)
    """

    @classmethod
    def example(cls) -> TransformerEncoder:
        """For the checks."""
        return cls(4, layers=2, heads=2, context=5, expand=2)

    def __init__(
        self,
        size: int,
        layers: int = 2,
        heads: int = 4,
        *,
        context: int | None = None,
        expand: int = 4,
        dropout: float = 0.0,
    ) -> None:
        check_layers("TransformerEncoder", layers)
        blocks: list[nn.Module] = []
        for _ in range(layers):
            attention = SelfAttention(size, heads, context, dropout)
            blocks += [
                Residual(nn.LayerNorm(size), attention, nn.Dropout(dropout)),
                Residual(*feed_forward(size, expand, dropout)),
            ]
        super().__init__(*blocks, nn.LayerNorm(size))


class Attend(nn.Module):
    """One pre-norm attention: x + attention(norm x, memory); without a memory, to itself.

    Shapes: x [B, Q, D], memory [B, K, memory_size] -> [B, Q, D]; masks as for `MultiHeadAttention`.

    Example:
        >>> import torch
        >>> tuple(Attend(8, heads=2)(torch.rand(2, 3, 8), torch.rand(2, 5, 8)).shape)
        (2, 3, 8)
    """

    def __init__(self, size: int, heads: int = 4, *, memory_size: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm, self.drop = nn.LayerNorm(size), nn.Dropout(dropout)
        self.attention = MultiHeadAttention(size, heads, memory_size=memory_size, dropout=dropout)

    def forward(self, x: Queries, memory: Memory = None, mask: Mask = None) -> Queries:
        """x and what it read."""
        return x + self.drop(self.attention(self.norm(x), memory, mask))

    def weights(self, x: Queries, memory: Memory = None, mask: Mask = None) -> Float[Tensor, "B H Q K"]:
        """How much of each key each query reads."""
        return self.attention.weights(self.norm(x), memory, mask)


class Block(nn.Module):
    """One pre-norm attention, to itself or to a memory, and the net of two layers after it.

    Shapes: as `Attend`.

    Example:
        >>> import torch
        >>> tuple(Block(8, heads=2)(torch.rand(2, 3, 8)).shape)
        (2, 3, 8)
    """

    def __init__(
        self, size: int, heads: int = 4, *, memory_size: int | None = None, expand: int = 4, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.attend = Attend(size, heads, memory_size=memory_size, dropout=dropout)
        self.between = nn.Sequential(*feed_forward(size, expand, dropout))

    def forward(self, x: Queries, memory: Memory = None, mask: Mask = None) -> Queries:
        """x, what it read, and what was made of both."""
        x = self.attend(x, memory, mask)
        return x + self.between(x)


class TransformerDecoder(nn.Module):
    """A stack of causal self-attention and attention to a memory.

    Args:
        size: D.
        layers: their number.
        heads: H.
        memory_size: width of the memory; D if not given.
        expand: width of the nets between, in multiples of D.
        dropout: share of weights and of outputs that training drops.

    Shapes: x [B, Q, D], memory [B, K, memory_size] -> [B, Q, D]; `mask` says which of the memory may be seen
    (`padding_mask`). Output q depends on x up to q and on all of the memory.

    Example:
        >>> import torch
        >>> net = TransformerDecoder(8, layers=2, heads=2, memory_size=6)
        >>> tuple(net(torch.rand(3, 5, 8), torch.rand(3, 7, 6)).shape)
        (3, 5, 8)
    """

    def __init__(
        self,
        size: int,
        layers: int = 2,
        heads: int = 4,
        *,
        memory_size: int | None = None,
        expand: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_layers("TransformerDecoder", layers)
        self.size = size
        self.to_itself = nn.ModuleList(Attend(size, heads, dropout=dropout) for _ in range(layers))
        self.to_memory = nn.ModuleList(
            Block(size, heads, memory_size=memory_size, expand=expand, dropout=dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(size)

    def forward(self, x: Queries, memory: Float[Tensor, "B K M"], mask: Mask = None) -> Queries:
        """Whole sequences."""
        check_channels("TransformerDecoder(x)", x, self.size)
        past = causal_mask(x.shape[1], x.shape[1], device=x.device)
        for to_itself, to_memory in zip(self.to_itself, self.to_memory):
            x = to_memory(to_itself(x, mask=past), memory, mask)
        return self.norm(x)


def check_layers(name: str, layers: int) -> None:
    """Refuse a stack of nothing."""
    if layers < 1:
        raise InputError(f"{name}(layers)", found=layers, expected="at least 1", remedy="pass 1 or more")
