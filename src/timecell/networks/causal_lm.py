"""Causal language models as a plug: `CausalLM` says what systems ask of one, `TinyCausal` is one that is trained here.

A system embeds what it likes (words, strips of a picture, a series), lets the model read the sequence, and reads words off
what comes out:

    logits = lm.head(lm(lm.embed(ids))[0])

The other plug is `timecell.networks.pretrained.load_pretrained`: any causal model of Hugging Face.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.cell import Cell, check_channels, check_sequence
from timecell.combine import silence
from timecell.errors import InputError
from timecell.networks.transformer import TransformerEncoder
from timecell.state import StateTree


class CausalLM(Protocol):
    """What a system asks of a language model. Sequences are padded behind, so lengths are all the mask there is."""

    @property
    def hidden_size(self) -> int:
        """D."""

    @property
    def tokens(self) -> int:
        """Words of the vocabulary, V."""

    def embed(self, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L D"]:
        """The words as the model reads them."""

    def __call__(
        self, x: Float[Tensor, "B L D"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B L D"], StateTree]:
        """The last hidden layer, after its norm, and what to hand on to go on reading."""

    def head(self, hidden: Float[Tensor, "... D"]) -> Float[Tensor, "... V"]:
        """Scores of the next word."""


class Read(NamedTuple):
    """What a `TinyCausal` remembers: how many places it has read [B], and the keys and values of its layers."""

    place: Tensor
    layers: StateTree


class TinyCausal(Cell):
    """A small decoder: words and places are embedded, pre-norm blocks of causal attention follow; the head is tied.

    Args:
        tokens: V, words of the vocabulary.
        size: D.
        layers: blocks.
        heads: of the attention.
        context: places that it can read, in all.
        expand: width of the nets between, in multiples of D.

    Shapes: x [B, L, D], embedded -> [B, L, D]; state: `Read`, so it reads on from where it stopped.

    Raises:
        InputError: a sequence goes on beyond the context.

    Example:
        >>> lm = TinyCausal(tokens=10, size=8, layers=1, heads=2, context=16)
        >>> ids = torch.tensor([[3, 1, 4, 1, 5]])
        >>> logits = lm.head(lm(lm.embed(ids))[0])
        >>> hidden, state = lm(lm.embed(ids[:, :4]))
        >>> last = lm.head(lm(lm.embed(ids[:, 4:]), state)[0])
        >>> tuple(logits.shape), bool(torch.allclose(last[:, 0], logits[:, 4], atol=1e-5))
        ((1, 5, 10), True)
    """

    @classmethod
    def example(cls) -> TinyCausal:
        """For the checks."""
        return cls(tokens=5, size=4, layers=1, heads=2, context=128, expand=2)

    def __init__(
        self, tokens: int, size: int = 64, layers: int = 2, heads: int = 4, context: int = 128, expand: int = 4
    ) -> None:
        super().__init__()
        if tokens < 1:
            raise InputError("TinyCausal(tokens)", found=tokens, expected="at least 1", remedy="pass the vocabulary's")
        self.tokens, self.hidden_size, self.context = tokens, size, context
        self.words, self.positions = nn.Embedding(tokens, size), nn.Embedding(context, size)
        for table in (self.words, self.positions):
            nn.init.normal_(table.weight, std=0.1)
        self.blocks = TransformerEncoder(size, layers, heads, context=context, expand=expand)

    def embed(self, ids: Int[Tensor, "B L"]) -> Float[Tensor, "B L D"]:
        """The words as the model reads them."""
        return self.words(ids)

    def forward(
        self, x: Float[Tensor, "B L D"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B L D"], StateTree]:
        """Read on."""
        check_sequence("TinyCausal(x)", x, lengths)
        check_channels("TinyCausal(x)", x, self.hidden_size)
        B, L, _ = x.shape
        begun, layers = (torch.zeros(B, dtype=torch.int64, device=x.device), None) if state is None else state
        ends = begun + (L if lengths is None else lengths)
        if (ends > self.context).any():
            raise InputError(
                "TinyCausal(x)", found=f"{int(ends.max())} places", expected=f"at most context = {self.context} in all",
                remedy="make it with a longer context, or cut the sequence",
            )  # fmt: skip
        places = (begun[:, None] + torch.arange(L, device=x.device)).clamp(
            max=self.context - 1
        )  # padding may go beyond
        hidden, layers = self.blocks(silence(x + self.positions(places).to(x), lengths), layers, lengths=lengths)
        return hidden, Read(ends, layers)

    def head(self, hidden: Float[Tensor, "... D"]) -> Float[Tensor, "... V"]:
        """Scores of the next word: how well each word fits what was read."""
        return hidden @ self.words.weight.T
