"""Neuroformer: a language model of spikes. Which neuron fires next, and when?

The idea. Read the activity of a population as a sentence: the tokens of a short window are its spikes in the order of
time, each two symbols, which neuron and how far into the window. A causal transformer writes the next token from those
before it, from the spikes of the time before the window, to which it attends, and from what else is known, such as
behaviour. What it learns that way is of use beyond prediction: it generates activity, its attention to the past says who
drives whom, and its features need few labels to tell what the animal does.

    h_k = e_id(i_k) + e_step(s_k) + e_place(k)           tokens of the window: SOS, spikes, EOS
    h   <- causal attention to itself -> to the past -> to behaviour -> to itself; each with a net of two layers after it
    P(i_{k+1}), P(s_{k+1}) = softmax(W_id h_k), softmax(W_step h_k)      loss: 0.6 CE of ids + 0.4 CE of steps

The past is a table of all tokens there can be, (bin, neuron) pairs with the embedding e_bin + e_neuron. A token that fired
n times gets log n added to its score: the same numbers as attention to a list of n tokens, and attention to the past
comes out as bins x neurons. Wiring: the mean attention that the position which predicts neuron i pays to a past spike of
neuron j (`wiring`), over all pairs of such positions and spikes.

Where we differ. Small: width 32 and one block a stage for 256 and six; windows of 50 ms and a past of as much or a little
more, as in the paper; AdamW along a cycle. Time cannot run back within a window, so the model may not say so. No video
frames and no contrastive loss between modalities (`losses.contrastive.info_nce` is there for it): behaviour is attended
to. On counts in bins (task co-smooth) there are no tokens to write: `RateModel` keeps the attention to the past and
answers with the rates of the next bin.

Source: Antoniades, Yu, Canzano, Wang & Smith, "Neuroformer: multimodal and multitask generative pretraining for brain
data" (2023), arXiv:2311.00136.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, one_hot

from timecell.card import Card
from timecell.cell import Cell, check_channels, check_sequence
from timecell.checkpoint import seeded
from timecell.claims import Absent, AtChance, Measured, Ordering, Trial, claim
from timecell.combine import silence
from timecell.data.containers import Batch, Data, Schema
from timecell.data.spikes import SpikeTrains
from timecell.data.synthetic.glm_network import GLMNetwork, glm_network
from timecell.errors import InputError
from timecell.inference import evaluating
from timecell.layers.attention import causal_mask
from timecell.lens.edges import edge_recovery
from timecell.network_system import NetworkSystem
from timecell.networks.decoding import sample
from timecell.networks.transformer import Block
from timecell.recipe import Recipe, Stage
from timecell.rhythm.tokenizers import SpikeTokenizer, SpikeTokens, SpikeWindows
from timecell.state import StateTree
from timecell.system import Run, Scores, Task
from timecell.train import fit

CARD = Card(
    slug="neuroformer",
    title="Neuroformer: multimodal and multitask generative pretraining for brain data",
    summary="A language model of spikes; its attention to the past says who drives whom.",
    family="recordings",
    paper="arXiv:2311.00136",
    n=24,
)


# --- the nets ---------------------------------------------------------------------------------------------------------


class PastSpikes(nn.Module):
    """A memory of the spikes before now: all (bin, unit) tokens, of which those with spikes may be seen.

    Shapes: () -> table [1, bins units + 1, size]; the last row is there when nothing fired.
    """

    def __init__(self, units: int, bins: int, size: int) -> None:
        super().__init__()
        self.bin, self.unit = nn.Embedding(bins, size), nn.Embedding(units, size)
        self.nothing, self.norm = nn.Parameter(torch.zeros(1, size)), nn.LayerNorm(size)

    def forward(self) -> Float[Tensor, "1 K D"]:
        """The table."""
        tokens = (self.bin.weight[:, None] + self.unit.weight).flatten(0, 1)
        return self.norm(torch.cat([tokens, self.nothing]))[None]

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
        longest: int = 64,
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
                weights.append(block.weights(h, past, seen))
            h = block(h, past, seen)
        if self.known:
            values = rows[:, 0, 2 : 2 + self.known, None]
            beside = values * self.value.weight + self.which.weight
            for block in self.to_beside:
                h = block(h, beside)
        for block in self.last:
            h = block(h, mask=before)
        return self.norm(h), weights


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
        y = self.log_rate(self.norm(h)).view(*counts.shape[:2], -1)
        ends = torch.full((len(x),), counts.shape[1], device=x.device) if lengths is None else lengths
        kept = ends[:, None] + torch.arange(self.bins - 1, device=x.device)
        return silence(y, lengths), x.gather(1, kept[..., None].expand(-1, -1, self.units))


@dataclass(frozen=True)
class Neuroformer(NetworkSystem):
    """The model of rates on a user's spike counts; tokens are learnt with `fit_tokens`.

    Attributes:
        bins: how many bins it looks back.
        size: width.
        heads: of every attention.
        blocks: of attention.
        lr: highest learning rate.
        batch: samples an update.
    """

    card: ClassVar[Card] = CARD
    bins: int = 10
    size: int = 32
    heads: int = 4
    blocks: int = 1
    lr: float = 1e-2
    batch: int = 16

    def build(self, schema: Schema, outputs: int) -> nn.Module:
        """Counts of all units in, log rates out."""
        units = len(schema.channels)
        return RateModel(units, outputs, self.bins, size=self.size, heads=self.heads, blocks=self.blocks)

    def recipe(self) -> Recipe:
        """One cycle."""
        return Recipe((Stage(lr=self.lr, schedule="onecycle"),), batch=self.batch)

    def space(self) -> Mapping[str, Sequence[Any]]:
        """What comparisons tune."""
        return {"bins": (5, 10, 20), "lr": (3e-3, 1e-2), "blocks": (1, 2)}

    def accepts(self, schema: Schema, task: Task) -> str | None:
        """Spike counts whose next bin is asked for."""
        if task.name != "co-smooth":
            return f"it predicts spike counts (co-smooth); the task is {task.name}"
        return super().accepts(schema, task)


# --- tokens: learning, and what comes of it ---------------------------------------------------------------------------


@dataclass(frozen=True)
class NextToken:
    """The next token of a window; a prediction is its cost in nats, of the id and of the step, and how many tokens.

    Attributes:
        units: C, by which scores of ids and of steps are told apart.
        ids: weight of the ids in what is minimised; the score counts both in full.
    """

    units: int
    ids: float = 0.6

    name: ClassVar[str] = "next-token"
    kind: ClassVar[Literal["sequences"]] = "sequences"
    needs_whole: ClassVar[str | None] = "a window and its past are one sample"

    def loss(self, y: Float[Tensor, "B L K"], batch: Batch, steps: slice) -> Float[Tensor, ""]:
        """Mean over tokens."""
        of_id, of_step, tokens = self.scores_from_outputs(y, batch).sum(0)
        return (self.ids * of_id + (1 - self.ids) * of_step) / tokens

    def scores_from_outputs(self, y: Float[Tensor, "B L K"], batch: Batch) -> Float[Tensor, "B 3"]:
        """Of each window: nats of its ids, nats of its steps, tokens (spikes and EOS)."""
        assert batch.target is not None
        ids, steps = batch.target.unbind(-1)
        counts = ids <= self.units
        costs = [
            cross_entropy(scores.transpose(1, 2), truth.where(counts, -100), reduction="none").sum(1)
            for scores, truth in zip(y.split([self.units + 1, y.shape[2] - self.units - 1], 2), (ids, steps))
        ]
        return torch.stack([*costs, counts.sum(1).to(y.dtype)], 1)

    def prediction(self, answers: Float[Tensor, "N 3"], data: Data) -> Float[np.ndarray, "N 3"]:
        """As they are."""
        return answers.double().cpu().numpy()

    def score(self, prediction: Float[np.ndarray, "N 3"], data: Data) -> Scores:
        """Nats per token; the items are what each window adds to it."""
        of_id, of_step, tokens = prediction.T
        items = (of_id + of_step) / tokens.mean()
        metrics = {
            "nats": items.mean(),
            "nats_id": of_id.sum() / tokens.sum(),
            "nats_step": of_step.sum() / tokens.sum(),
        }
        return Scores({k: float(v) for k, v in metrics.items()}, "nats", False, items)


def fit_tokens(net: nn.Module, data: SpikeWindows, run: Run, task: Any = None, lr: float = 1e-2) -> nn.Module:
    """Train a model of tokens (or what `task` asks for), in place."""
    recipe = Recipe((Stage(lr=lr, schedule="onecycle"),), batch=64)
    return fit(net, data, task or NextToken(data.past.shape[2]), recipe=recipe, run=run).network


def wiring(net: TokenModel, data: SpikeWindows, windows: int = 4000) -> Float[np.ndarray, "C C"]:
    """Who drives whom: mean attention of the positions that predict unit i (row) to past spikes of unit j (column).

    NaN where the two never met.

    Args:
        net: after training.
        data: windows to look at; the training data will do.
        windows: how many of them.
    """
    units = net.units
    paid, met = torch.zeros(units, units), torch.zeros(units, units)
    with evaluating(net):
        for rows in np.array_split(np.arange(min(windows, len(data))), max(1, windows // 256)):
            batch = data.batch(rows)
            assert batch.target is not None
            ids = batch.target[..., 0]
            fires = one_hot(ids.clamp(max=units), units + 1)[..., :units].float()  # EOS and PAD are no units
            paid += torch.einsum("blpj,bli->ij", net.attention(batch.x), fires)
            met += torch.einsum("bpj,bli->ij", batch.x[:, : net.past_bins, :units], fires)
    return (paid / met).numpy()


def generate(
    net: TokenModel, data: SpikeWindows, tokenizer: SpikeTokenizer, windows: int, seed: int = 0, top_p: float = 1.0
) -> SpikeTrains:
    """Write on: one trial for each window of the data, which lends its past and nothing else.

    Args:
        net: after training, without anything beside the spikes.
        data: where each trial begins.
        tokenizer: of the data.
        windows: how many to write.
        seed: of the draws.
        top_p: see `timecell.networks.decoding.sample`.
    """
    eos, sos, pad = (torch.tensor(row, dtype=torch.float32) for row in tokenizer.special)
    units, longest = net.units, net.place.num_embeddings
    past = torch.from_numpy(data.past[data.index]).float()
    draws, made = torch.Generator().manual_seed(seed), []
    with evaluating(net):
        for _ in range(windows):
            tokens, writing = sos.repeat(len(past), 1, 1), torch.arange(len(past))
            while len(writing) and tokens.shape[1] < longest:
                drawn = pad.repeat(len(past), 1)
                drawn[writing] = next_token(net, past[writing], tokens[writing], draws, top_p)
                tokens = torch.cat([tokens, drawn[:, None]], 1)
                writing = writing[drawn[writing, 0] < units]
            tokens[writing, -1] = eos  # the longest windows are closed
            made.append(tokens)
            row, place = (tokens[..., 0] < units).nonzero(as_tuple=True)
            ids, steps = tokens[row, place].long().unbind(-1)
            now = torch.zeros(len(past), net.bins, units)
            now.index_put_((row, steps, ids), torch.ones(len(row)), accumulate=True)
            past = torch.cat([past, now], 1)[:, -net.past_bins :]
    return tokenizer.decode(_as_tokens(made, data, tokenizer, pad))


def next_token(
    net: TokenModel, past: Float[Tensor, "B P C"], tokens: Float[Tensor, "B L 2"], draws: torch.Generator, top_p: float
) -> Float[Tensor, "B 2"]:
    """Draw the token that comes after these."""
    x = past.new_zeros(len(past), net.past_bins + tokens.shape[1], max(net.units, 2))
    x[:, : net.past_bins, : net.units], x[:, net.past_bins :, :2] = past, tokens
    of_id, of_step = net(x)[0][:, -1].split([net.units + 1, net.bins + 1], -1)
    ids = sample(of_id, top_p=top_p, generator=draws)
    steps = sample(of_step[:, : net.bins], top_p=top_p, generator=draws)
    return torch.stack([ids, steps.where(ids < net.units, net.bins)], -1).float()


def _as_tokens(made: list[Tensor], data: SpikeWindows, tokenizer: SpikeTokenizer, pad: Tensor) -> SpikeTokens:
    longest, trials = max(t.shape[1] for t in made), len(data)
    whole = torch.stack([torch.cat([t, pad.expand(trials, longest - t.shape[1], 2)], 1) for t in made], 1)
    ids, steps = whole.flatten(0, 1).long().numpy().transpose(2, 0, 1)
    trial, window = np.divmod(np.arange(trials * len(made)), len(made))
    end = np.full(trials, len(made) * tokenizer.window)
    return SpikeTokens(ids, steps, trial, window, end, data.tokens.names)
