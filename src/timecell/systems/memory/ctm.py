"""Continuous thought machines: a net that thinks in ticks of its own, and speaks by how its neurons move together.

The idea. The data are there all at once; time is the net's own. At every tick it looks at the data again, guided by what
it has thought so far, and answers. Two things make the ticks count. Each neuron has a private network that reads the
history of what *it* received, so that neurons have courses, not only values. And what is read off, for looking as for
answering, is not the neurons' activity but the *synchronisation* of pairs of them: how they have gone together so far.

At tick t, with D neurons z, their inputs A of the last M ticks, and data features kv = LayerNorm(Linear(x) + position):

    q = Linear(S_look(z_1 .. z_t)),   o = Attention(q, kv)                       look
    a = LayerNorm(GLU(Linear(dropout([o, z])))),  A <- drop the oldest, add a    synapses
    z = private network of each neuron over its row of A                         neurons (`NeuronLevelModel`)
    y_t = Linear(S_speak(z_0 .. z_t))                                            answer

S is `Synchronisation`: alpha / sqrt(beta) over pairs, each with a rate of forgetting of its own. The pairs are the upper
triangle of two random lists of neurons. z_0 and the first A are learnt. No tick is told to answer: each sample trains
its best and its most certain tick (`tasks.stopping.Thinking`), so that the net may be done early with what is easy.

Where we differ: positions are a fixed cosine code, the synapses are the paper's shallow ones (no U-Net), sizes are small.

What it is not. On parity, which the checks ask for, the same loop without private histories or without synchronisation is
as good (`histories_matter`, `synchronisation_matters`): what counts there is the time to think. The paper takes the two out
in its mazes, which take more than minutes.

Source: Darlow, Regan, Risi, Seely & Jones, "Continuous thought machines" (2025), arXiv:2505.05522.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell import fuse
from timecell.card import Card
from timecell.data.containers import Schema
from timecell.layers.attention import MultiHeadAttention, padding_mask
from timecell.memory.synchronisation import Synchronisation, dense_pairs
from timecell.network_system import NetworkSystem
from timecell.neurons.history import History, NeuronLevelModel
from timecell.recipe import Recipe, Stage
from timecell.rhythm.time_encoding import TimeEncoding
from timecell.system import Task
from timecell.tasks import Classify
from timecell.tasks.stopping import Thinking

CARD = Card(
    slug="ctm",
    title="Continuous Thought Machines",
    summary="Neurons with private histories think in ticks of their own; their synchronisation looks and answers.",
    family="memory",
    paper="arXiv:2505.05522",
    n=3,
)


@dataclass(frozen=True)
class CTM(NetworkSystem):
    """A continuous thought machine, and what is left of it when a part of the idea is taken out.

    Attributes:
        neurons: D.
        features: width of the data's features.
        heads: of the attention.
        ticks: T.
        history: M, ticks that a neuron remembers.
        hidden: hidden units of each neuron's private network.
        synchronised: neurons in each of the two lists that pairs are made of, for looking and for answering alike.
        synchrony: False: what looks and answers reads z itself.
        private: False: no private networks, z = tanh(a).
        lstm: an LSTM in place of synapses, neurons and synchronisation, in the same loop of ticks.
        dropout: on what the synapses read.
        lr: highest learning rate.
        batch: samples an update.
    """

    card: ClassVar[Card] = CARD
    made_for: ClassVar[tuple[str, ...]] = ("classify",)
    neurons: int = 128
    features: int = 64
    heads: int = 4
    ticks: int = 16
    history: int = 10
    hidden: int = 4
    synchronised: int = 16
    synchrony: bool = True
    private: bool = True
    lstm: bool = False
    dropout: float = 0.0
    lr: float = 2e-3
    batch: int = 64

    def build(self, schema: Schema, outputs: int) -> nn.Module:
        """Reads [B, N, C] at once, answers [B, ticks, outputs]."""
        return Thought(len(schema.channels), outputs, self)

    def recipe(self) -> Recipe:
        """Up during the first 30 % of the updates, down to zero after."""
        return Recipe((Stage(lr=self.lr, schedule="onecycle"),), batch=self.batch, validate_every=100)

    def space(self) -> Mapping[str, Sequence[Any]]:
        """What comparisons tune."""
        return {"lr": (1e-3, 2e-3, 5e-3), "ticks": (8, 16), "neurons": (64, 128)}

    def asked(self, task: Task) -> Task:
        """The question is put to every tick."""
        return Thinking(task) if isinstance(task, Classify) else task


class Thought(nn.Module):
    """The loop of ticks: x [B, N, C] -> y [B, T, outputs]. It has no state between calls: each is one thought."""

    def __init__(self, inputs: int, outputs: int, c: CTM) -> None:
        super().__init__()
        D, d = c.neurons, c.features
        self.ticks, self.private, self.synchrony = c.ticks, c.private, c.synchrony and not c.lstm
        self.embed, self.position, self.norm = nn.Linear(inputs, d), TimeEncoding(d, slowest=1e-3), nn.LayerNorm(d)
        self.attention = MultiHeadAttention(d, c.heads)
        self.first = nn.Parameter((2 * torch.rand(D) - 1) / D**0.5)
        if c.lstm:
            self.cell = nn.LSTMCell(d, D)
        else:
            self.synapses = nn.Sequential(nn.Dropout(c.dropout), nn.Linear(d + D, 2 * D), nn.GLU(), nn.LayerNorm(D))
        if c.private and not c.lstm:
            self.neurons = NeuronLevelModel(D, c.history, c.hidden)
            self.past = nn.Parameter((2 * torch.rand(D, c.history - 1) - 1) / (D + c.history) ** 0.5)
        if self.synchrony:
            self.looking, self.speaking = (
                Synchronisation(D, *dense_pairs(*torch.randint(D, (2, c.synchronised)))) for _ in range(2)
            )
        width = len(self.looking.left) if self.synchrony else D
        self.look, self.speak = nn.Linear(width, d), nn.Linear(width, outputs)
        self.lstm = c.lstm

    def forward(
        self, x: Float[Tensor, "B N C"], state: None = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T K"], None]:
        """One thought."""
        B, N, _ = x.shape
        data = self.norm(self.embed(x) + self.position(torch.arange(float(N), device=x.device)))
        keys, values = self.attention.key(data), self.attention.value(data)
        mask = None if lengths is None else padding_mask(lengths, N)

        z = self.first.expand(B, -1)
        kept = torch.zeros_like(z)  # of the LSTM
        history = History(self.past.expand(B, -1, -1)) if hasattr(self, "past") else None
        course, guide, seen = [z], z, None
        for _ in range(self.ticks):
            if self.synchrony:
                with fuse.backend("plain"):  # for a single instant faster than a call of the fused loop
                    guide, seen = self.looking.step(z, seen)
            query = self.attention.query(self.look(guide))[:, None]
            o = self.attention.read(query, keys, values, mask)[:, 0]
            if self.lstm:
                z, kept = self.cell(o, (z, kept))
            else:
                a = self.synapses(torch.cat([o, z], 1))
                if self.private:
                    z, history = self.neurons.step(a, history)
                else:
                    z = a.tanh()
            course.append(z)
            guide = z
        whole = torch.stack(course, 1)
        said = self.speaking(whole)[0] if self.synchrony else whole  # nothing hears it: all of time at once
        return self.speak(said[:, 1:]), None
