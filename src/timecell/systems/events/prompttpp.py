"""draft."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.generate.attentive_hawkes import AttentiveHawkes, History, Prompts
from timecell.memory.prompt_pool import PromptPool


class PromptedHawkes(AttentiveHawkes):
    def __init__(self, marks: int, *, prompts: int = 10, length: int = 3, chosen: int = 3, **base) -> None:
        super().__init__(marks, **base)
        self.length, blocks = length, len(self.stack) * self.heads
        code = 2 * len(self.frequency)
        self.pool = PromptPool(prompts, blocks * length, self.width, marks + code, chosen)

    def query(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T Q"]:
        what = (x[..., 1:] - 1 / (x.shape[2] - 1)) * x[..., 1:].sum(-1, keepdim=True)
        w = self.frequency
        when = self.code(x[..., 0]) - torch.cat([w, torch.ones_like(w)]) / (1 + w * w).repeat(2)
        when = when * (x[..., 1:].sum(-1, keepdim=True))
        token = torch.cat([what, when], -1)
        return token.cumsum(1) / torch.arange(1, x.shape[1] + 1, device=x.device)[:, None]

    def shown(self, x):
        T = x.shape[1]
        found = self.pool(self.query(x))
        seen = torch.zeros(*x.shape[:2], len(self.pool.keys), dtype=torch.bool).scatter(2, found.chosen, True)
        vectors = self.pool.prompts.unflatten(1, (len(self.stack), self.heads, self.length))
        vectors = vectors.permute(1, 2, 0, 3, 4).flatten(2, 3)
        now = x[..., 0].cumsum(1)
        expected = now + now / torch.arange(T).clamp(min=1)
        return found, Prompts(vectors, seen.repeat_interleave(self.length, -1), self.code(expected))

    def remember(self, x, lengths=None, prompts=None) -> History:
        return super().remember(x, lengths, self.shown(x)[1] if prompts is None else prompts)
