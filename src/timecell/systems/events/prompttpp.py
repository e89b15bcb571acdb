"""PromptTPP: a stream of event sequences is learnt period by period, and prompts keep what the earlier ones taught.

The idea. A point process that is fine-tuned on one period after the other forgets the periods before. Past events may
not be stored, and nobody says which period a new sequence is like. So let a base model learn the first period, and
later ones mostly write into a pool of small prompts: vectors that attention reads as if they were events. Each history
looks up its prompts by what it is like itself, so what one period wrote is left alone by sequences that are not like it,
and is found again by those that are.

    q_i = mean over rows j <= i of [marks - 1 / K; z(gap) - E z(gap of a unit Poisson process)]      what it is like
    N prompts m with the largest cos(q_i, key_m)                                                      what it finds
    token [P_m; z(t')],  t' = t_i + mean gap so far                                                   when it expects more
    intensity after row i: attention to the events up to i and to these tokens (`AttentiveHawkes`)
    loss: -log likelihood - alpha sum over the chosen of cos(q_i, key_m)                              keys go to queries

q_i holds events up to row i only, and each history finds its prompts by itself. (The public code asks with the whole
window, which lets the future choose, and takes what the majority of a batch wants, which lets strangers choose.)

Where this differs from the paper, and why:
- The query is made of marks and gap codes, less those of a process that says nothing. The paper's mean of embedded
  tokens changes its meaning while embeddings are learnt, so that old keys go stale, and it has so large a part that
  never changes that, as measured here, all histories found the same prompts.
- One choice holds for all layers and heads, each of which has vectors of its own in every prompt; keys and values are
  made of the same vectors. The paper has a pool in each head of each layer, and for keys and values.
- After the first period the base learns at `base_rate` of its rate; 0 is the paper's variant that learns prompts only.
  In the paper's main variant both learn alike, which here forgot nearly as much as fine-tuning.
- No auxiliary regression of time codes.

What it is not. In the streams of the checks a base that goes on learning slowly, without prompts, ends about as well
(`better_than_slow`), and so do prompts that all histories share (`finding_matters`): with few events a history cannot
tell yet what it is like, so prompts of different periods meet there. Training on all events at once is far better.

Source: Xue, Wang, Chu, Shi, Jiang, Hao, Jiang, Feng, Zhang & Zhou, "Prompt-augmented temporal point process for
streaming event sequence" (2023), arXiv:2310.04993.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.card import Card
from timecell.data.containers import Schema
from timecell.data.event_sequences import next_rows
from timecell.data.splits import Splits
from timecell.generate.attentive_hawkes import AttentiveHawkes, History, Prompts
from timecell.generate.point_process import PointProcess
from timecell.memory.prompt_pool import Found, PromptPool
from timecell.point_process_system import MaximumLikelihood, PointProcessSystem
from timecell.recipe import Recipe, Stage
from timecell.system import Run, Task
from timecell.train import fit

CARD = Card(
    slug="prompttpp",
    title="Prompt-augmented temporal point process for streaming event sequence",
    summary="Event streams learnt period by period: histories find prompts that keep what earlier periods taught.",
    family="events",
    paper="arXiv:2310.04993",
    n=47,
)

TASK = cast(Task, MaximumLikelihood())


class PromptedHawkes(AttentiveHawkes):
    """An attentive Hawkes process whose histories are shown prompts that they find by what they are like.

    Args:
        marks: K.
        prompts: M in the pool.
        length: vectors of each in every layer and head.
        chosen: N that a history finds.
        alpha: weight of the matching loss. Only the keys feel it, so with Adam it matters whether it is 0.
        base: sizes of `AttentiveHawkes`.

    Shapes: as of `PointProcess`.
    """

    def __init__(
        self, marks: int, *, prompts: int = 8, length: int = 3, chosen: int = 3, alpha: float = 0.1, **base: int
    ) -> None:
        super().__init__(marks, **base)  # type: ignore[arg-type]
        vectors = len(self.stack) * self.heads * length
        self.pool = PromptPool(prompts, vectors, self.width, marks + 2 * len(self.frequency), chosen)
        self.length, self.alpha = length, alpha

    def query(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T Q"]:
        """What the history up to each row is like; zero where it is like a unit Poisson process of equal marks."""
        w = self.frequency
        poisson = torch.cat([w, torch.ones_like(w)]) / (1 + w * w).repeat(2)  # E sin(w gap) and E cos(w gap)
        token = torch.cat([x[..., 1:] - 1 / (x.shape[2] - 1), self.code(x[..., 0]) - poisson], -1)
        return token.cumsum(1) / torch.arange(1, x.shape[1] + 1, device=x.device)[:, None]

    def find(self, x: Float[Tensor, "B T C"]) -> Found:
        """The prompts of the history up to each row."""
        return self.pool(self.query(x))

    def prompts(self, x: Float[Tensor, "B T C"], found: Found) -> Prompts:
        """These prompts as attention reads them, at the time at which each history expects its next event."""
        stack = (len(self.stack), self.heads, self.length)
        vectors = self.pool.prompts.unflatten(1, stack).permute(1, 2, 0, 3, 4).flatten(2, 3)
        seen = torch.zeros(*x.shape[:2], len(self.pool.keys), dtype=torch.bool, device=x.device)
        seen = seen.scatter(2, found.chosen, True).repeat_interleave(self.length, -1)
        now, events = x[..., 0].cumsum(1), torch.arange(x.shape[1], device=x.device)
        return Prompts(vectors, seen, self.code(now + now / events.clamp(min=1)))

    def remember(
        self, x: Float[Tensor, "B T C"], lengths: Int[Tensor, "B"] | None = None, prompts: Prompts | None = None
    ) -> History:
        """Events, and the prompts that each history finds unless it is given others."""
        return super().remember(x, lengths, self.prompts(x, self.find(x)) if prompts is None else prompts)

    def forward(
        self, x: Float[Tensor, "B T C"], state: None = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T 2"], None]:
        """The log-likelihoods; in training they carry the gradient of the matching loss too, and not its value."""
        y, _ = super().forward(x, state, lengths=lengths)
        if self.training:
            _, _, event, tail = next_rows(x, lengths)
            match = self.alpha * self.find(x).similarity.sum(-1)[:, :-1] * (event | tail)
            y = y + nn.functional.pad(match - match.detach(), (0, 1))[..., None] / 2
        return y, None


@dataclass(frozen=True)
class PromptTPP(PointProcessSystem):
    """Prompts beside an attentive Hawkes process. With one period to learn it is a plain model of the next event.

    Attributes:
        width: units of each head.
        prompts: in the pool; 0 = the base model alone, for comparison.
        length: vectors of each prompt in every layer and head.
        chosen: prompts that a history finds.
        alpha: weight of the matching loss.
        base_rate: learning rate of the base model after the first period, as a share of its rate in the first.
        lr: highest learning rate of the base model in the first period; prompts have twice as much, in all periods.
        batch: sequences an update.
    """

    card: ClassVar[Card] = CARD
    width: int = 16
    prompts: int = 8
    length: int = 3
    chosen: int = 3
    alpha: float = 0.1
    base_rate: float = 0.03
    lr: float = 2e-2
    batch: int = 12

    def build(self, schema: Schema) -> AttentiveHawkes:
        """Two layers of two heads."""
        marks = len(schema.classes or ())
        if self.prompts == 0:
            return AttentiveHawkes(marks, width=self.width)
        return PromptedHawkes(
            marks, prompts=self.prompts, length=self.length, chosen=self.chosen, alpha=self.alpha, width=self.width
        )

    def recipe(self, period: int = 0) -> Recipe:
        """Of the first period, or of a later one."""
        rates = {"weight": 1.0 if period == 0 else self.base_rate} | ({"prompt": 2.0} if self.prompts else {})
        return Recipe((Stage(lr=self.lr, rates=rates),), batch=self.batch, validate_every=50)

    def space(self) -> Mapping[str, Sequence[Any]]:
        """Rate, width and prompts."""
        return {"lr": (5e-3, 1e-2, 2e-2), "width": (16, 32), "prompts": (0, 8)}

    def learn(self, net: PointProcess, period: int, parts: Splits, run: Run) -> None:
        """One more period, in units of the first one's mean gap; nothing of the others is looked at."""
        fit(net, parts.train, TASK, valid=parts.valid, recipe=self.recipe(period), run=run)
