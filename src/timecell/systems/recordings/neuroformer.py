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
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, one_hot

from timecell.card import Card
from timecell.data.containers import Batch, Data, Schema
from timecell.inference import evaluating
from timecell.network_system import NetworkSystem
from timecell.networks.spike_models import RateModel, TokenModel
from timecell.recipe import Recipe, Stage
from timecell.rhythm.tokenizers import SpikeWindows
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


@dataclass(frozen=True)
class Behaviour(NextToken):
    """What the animal does during a window, from a `Decoder`: the labels of the windows, by squared error and R²."""

    name: ClassVar[str] = "behaviour"

    def loss(self, y: Float[Tensor, "B K"], batch: Batch, steps: slice) -> Float[Tensor, ""]:
        """Mean squared error."""
        assert batch.target is not None
        return mse_loss(y, batch.target)

    def scores_from_outputs(self, y: Float[Tensor, "B K"], batch: Batch) -> Float[Tensor, "B K"]:
        """As they are."""
        return y

    def score(self, prediction: Float[np.ndarray, "N K"], data: Data) -> Scores:
        """R² over all values; the items are what each window adds to it."""
        labels = cast(SpikeWindows, data).labels
        assert labels is not None
        truth = labels[cast(SpikeWindows, data).index]
        items = 1 - ((truth - prediction) ** 2).mean(1) / truth.var()
        return Scores({"r2": float(items.mean())}, "r2", True, items)


def fit_tokens(net: nn.Module, data: SpikeWindows, run: Run, lr: float = 2e-2) -> nn.Module:
    """Train a model of tokens, in place."""
    recipe = Recipe((Stage(lr=lr, schedule="onecycle"),), batch=64)
    return fit(net, data, cast(Task, NextToken(data.past.shape[2])), recipe=recipe, run=run).network


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
