"""Models of spikes: the next token of a window (`TokenModel`), the rates of the next bin (`RateModel`).

Both attend to the spikes before now. `PastSpikes` holds them as a table of all tokens there can be, (bin, unit) pairs
with the embedding e_bin + e_unit. A token that fired n times gets log n added to its score and a silent one -inf: the
same numbers as attention to a list of the spikes, and what attention pays comes out as bins x units.

Source: Antoniades et al., "Neuroformer" (2023), arXiv:2311.00136.
"""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.cell import Cell, check_channels, check_sequence
from timecell.combine import silence
from timecell.errors import InputError
from timecell.layers.attention import causal_mask
from timecell.networks.transformer import Block
from timecell.state import StateTree


def start_small(net: nn.Module, spread: float = 0.1) -> None:
    """Small first embeddings: those of torch (spread 1) drown what the blocks add to them, and learning takes longer."""
    for module in net.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=spread)


class PastSpikes(nn.Module):
    """A memory of the spikes before now: all (bin, unit) tokens, of which those with spikes may be seen.

    Shapes: () -> table [1, bins units + 1, size]; the last row is there when nothing fired.
    """

    def __init__(self, units: int, bins: int, size: int) -> None:
        super().__init__()
        self.bin, self.unit = nn.Embedding(bins, size), nn.Embedding(units, size)
        self.nothing, self.norm = nn.Parameter(torch.zeros(1, size)), nn.LayerNorm(size)
        start_small(self)

    def forward(self) -> Float[Tensor, "1 K D"]:
        """The table."""
        tokens = (self.bin.weight[:, None] + self.unit.weight).flatten(0, 1)
        return self.norm(torch.cat([tokens, self.nothing])).unsqueeze(0)

    @staticmethod
    def mask(counts: Float[Tensor, "*N P C"]) -> Float[Tensor, "*N K"]:
        """What is added to the scores: the logarithm of the counts; -inf where nothing fired."""
        silent = counts <= 0
        seen = torch.where(silent, 1.0, counts).log().masked_fill(silent, -torch.inf).flatten(-2)
        return torch.cat([seen, torch.zeros_like(seen[..., :1])], -1)


class TokenModel(nn.Module):
    """Scores of the next token, from those before it in the window, the past, and what is known beside.

    Args:
        units: C.
        bins: of a window.
        history: windows of the past.
        beside: values V that are known beside the spikes.
        size: width.
        heads: of every attention.
        blocks: how many, at each of the four stages.
        longest: tokens of a window at most.

    Shapes: x as `SpikeWindows` makes it -> [B, L, C + 1 + bins + 1]: scores of the units and EOS, of the bins and EOS.
    """

    def __init__(
        self,
        units: int,
        bins: int,
        history: int = 1,
        beside: int = 0,
        *,
        size: int = 32,
        heads: int = 4,
        blocks: int = 1,
        longest: int = 128,
    ) -> None:
        super().__init__()
        self.units, self.bins, self.past_bins, self.known = units, bins, bins * history, beside
        self.id, self.step, self.place = (nn.Embedding(n, size) for n in (units + 3, bins + 3, longest))
        self.past = PastSpikes(units, self.past_bins, size)
        self.value, self.which = nn.Embedding(beside, size), nn.Embedding(beside, size)
        self.first, self.to_past, self.to_beside, self.last = (
            nn.ModuleList(Block(size, heads, expand=2) for _ in range(n))
            for n in (blocks, blocks, blocks if beside else 0, blocks)
        )
        self.norm = nn.LayerNorm(size)
        self.next_id, self.next_step = nn.Linear(size, units + 1), nn.Linear(size, bins + 1)
        start_small(self)

    def forward(
        self, x: Float[Tensor, "B T F"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B L K"], StateTree]:
        """The scores at every position of the window; a window is read whole, so there is no state."""
        h, step = self.features(x), x[:, self.past_bins :, 1]
        behind = torch.arange(self.bins + 1, device=x.device) < step[..., None]
        steps = self.next_step(h).masked_fill(behind & (step < self.bins)[..., None], -1e4)  # time does not run back
        return torch.cat([self.next_id(h), steps], -1), state

    def features(self, x: Float[Tensor, "B T F"]) -> Float[Tensor, "B L D"]:
        """What the model knows at every position of the window."""
        return self._read(x)[0]

    def attention(self, x: Float[Tensor, "B T F"]) -> Float[Tensor, "B L P C"]:
        """How much each position attends to each past bin and unit, summed over heads and blocks."""
        seen = torch.stack([weights.sum(1) for weights in self._read(x, look=True)[1]]).sum(0)
        return seen[..., :-1].unflatten(-1, (self.past_bins, self.units))

    def _read(self, x: Tensor, look: bool = False) -> tuple[Tensor, list[Tensor]]:
        counts, rows = x[:, : self.past_bins, : self.units], x[:, self.past_bins :]
        if rows.shape[1] > self.place.num_embeddings:
            raise InputError(
                "x", found=f"{rows.shape[1]} tokens in a window", expected=f"at most {self.place.num_embeddings}",
                remedy="pass a larger longest, or cut time into shorter windows",
            )  # fmt: skip
        ids, steps = rows[..., 0].long(), rows[..., 1].long()
        h = self.id(ids) + self.step(steps) + self.place.weight[: rows.shape[1]]
        before = causal_mask(rows.shape[1], rows.shape[1], device=x.device)
        past, seen = self.past().expand(len(x), -1, -1), self.past.mask(counts)[:, None]
        weights = []
        for block in self.first:
            h = block(h, mask=before)
        for block in self.to_past:
            if look:
                weights.append(cast(Block, block).attend.weights(h, past, seen))
            h = block(h, past, seen)
        if self.known:
            values = rows[:, 0, 2 : 2 + self.known, None]
            beside = values * self.value.weight + self.which.weight
            for block in self.to_beside:
                h = block(h, beside)
        for block in self.last:
            h = block(h, mask=before)
        return self.norm(h), weights


class Decoder(nn.Module):
    """A model of tokens turned to another use: the mean of its features over the window, and one linear layer."""

    def __init__(self, model: TokenModel, outputs: int) -> None:
        super().__init__()
        self.model, self.readout = model, nn.Linear(model.norm.normalized_shape[0], outputs)

    def forward(
        self, x: Float[Tensor, "B T F"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B K"], StateTree]:
        """One answer a window."""
        features = self.model.features(x)
        ids = x[:, self.model.past_bins :, 0]
        real = ((ids < self.model.units) | (ids == self.model.units + 1))[..., None]  # spikes and SOS
        return self.readout((features * real).sum(1) / real.sum(1)), state


class RateModel(Cell):
    """Log rates of units in the next bin from the spikes of the last bins: the attention to the past, without tokens.

    Args:
        units: C.
        outputs: K.
        bins: how many it looks back, the present one among them.
        size: width.
        heads: of every attention.
        blocks: of attention.

    Shapes: x [B, T, C] counts -> y [B, T, K]; state: the last ``bins - 1`` inputs.

    Example:
        >>> net = RateModel(3, 2, bins=5)
        >>> tuple(net(torch.ones(4, 7, 3))[0].shape)
        (4, 7, 2)
    """

    @classmethod
    def example(cls) -> RateModel:
        """For the checks."""
        return cls(4, 3, bins=3, size=4, heads=2)

    def __init__(
        self, units: int, outputs: int, bins: int = 10, *, size: int = 32, heads: int = 4, blocks: int = 1
    ) -> None:
        super().__init__()
        self.units, self.bins = units, bins
        self.past, self.start = PastSpikes(units, bins, size), nn.Parameter(torch.zeros(1, size))
        self.to_past = nn.ModuleList(Block(size, heads, expand=2) for _ in range(blocks))
        self.norm, self.log_rate = nn.LayerNorm(size), nn.Linear(size, outputs)
        nn.init.constant_(self.log_rate.bias, -3.0)  # spikes are rare

    def initial_state(self, batch: int, like: Tensor) -> StateTree:
        """Silence."""
        return like.new_zeros(batch, self.bins - 1, self.units)

    def forward(
        self, x: Float[Tensor, "B T C"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T K"], StateTree]:
        """Whole sequences."""
        check_sequence("RateModel(x)", x, lengths)
        check_channels("RateModel(x)", x, self.units)
        x = torch.cat([self.initial_state(len(x), x) if state is None else state, silence(x, lengths)], 1)
        counts = x.unfold(1, self.bins, 1).transpose(2, 3)  # [B, T, bins, C]
        h, seen = self.start.expand(1, counts.shape[0] * counts.shape[1], -1), self.past.mask(counts).flatten(0, 1)
        for block in self.to_past:
            h = block(h, self.past(), seen)
        y = self.log_rate(self.norm(h)).view(*counts.shape[:2], self.log_rate.out_features)
        ends = torch.full((len(x),), counts.shape[1], device=x.device) if lengths is None else lengths
        kept = ends[:, None] + torch.arange(self.bins - 1, device=x.device)
        return silence(y, lengths), x.gather(1, kept[..., None].expand(-1, -1, self.units))
