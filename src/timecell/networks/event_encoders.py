"""What nets read of marked events: a vector for each row of a batch, and histories made of them.

Rows are those of `timecell.data.event_sequences`: the gap to the row before and the mark as one-hot, both zero at the
start. Gaps are in units in which a typical one is about 1.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.combine import Sequential
from timecell.memory import GRU
from timecell.networks.transformer import TransformerEncoder
from timecell.rhythm.time_encoding import TimeEncoding

SHORTEST = 1e-4  # gap that is told from none, in typical ones
REACH = 512  # rows that attention sees at most


class EventEmbedding(nn.Module):
    """A row as a vector: W [log gap; mark] + b. Gaps span orders of magnitude, so their logarithm is what is read.

    Args:
        marks: K.
        size: D.

    Shapes: x [..., 1 + K] -> [..., D].

    Example:
        >>> EventEmbedding(marks=2, size=8)(torch.zeros(3, 5, 3)).shape
        torch.Size([3, 5, 8])
    """

    def __init__(self, marks: int, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(1 + marks, size)

    def forward(self, x: Float[Tensor, "... C"]) -> Float[Tensor, "... D"]:
        """The start, which has no mark, has no gap either."""
        happened = x[..., 1:].sum(-1, keepdim=True)
        return self.linear(torch.cat([(x[..., :1] + SHORTEST).log() * happened, x[..., 1:]], -1))


def gated_encoder(marks: int, size: int, outputs: int) -> Sequential:
    """Events, a gated recurrent layer, a linear readout: x [B, T, 1 + K] -> [B, T, outputs].

    Example:
        >>> gated_encoder(marks=2, size=8, outputs=5)(torch.zeros(3, 5, 3))[0].shape
        torch.Size([3, 5, 5])
    """
    return Sequential(EventEmbedding(marks, size), GRU(size, size), nn.Linear(size, outputs))


class AttentiveEncoder(nn.Module):
    """Events, each with a code of when it was, and causal self-attention over them.

    Args:
        marks: K.
        size: D.
        layers: of attention.
        heads: H.

    Shapes: x [B, T, 1 + K] -> [B, T, D]; row i is made of rows 0 ... i.

    Example:
        >>> AttentiveEncoder(marks=2, size=8)(torch.zeros(3, 5, 3)).shape
        torch.Size([3, 5, 8])
    """

    def __init__(self, marks: int, size: int, layers: int = 2, heads: int = 2) -> None:
        super().__init__()
        self.event = EventEmbedding(marks, size)
        self.moment = TimeEncoding(size, slowest=1e-3)
        self.attention = TransformerEncoder(size, layers, heads, context=REACH, expand=2)

    def forward(self, x: Float[Tensor, "B T C"], lengths: Int[Tensor, "B"] | None = None) -> Float[Tensor, "B T D"]:
        """What is known after each row. Moments count from the start of the sequence."""
        rows = self.event(x) + self.moment(x[..., 0].cumsum(1))
        return self.attention(rows, lengths=lengths)[0]
