"""`Speaker`: a causal language model that reads pictures and words in one sequence, and answers.

    rows     [-1, pixels of a strip]  or  [id of a word, 0 ... 0]         [B, L, 1 + S]
    reads    strip -> MLP, word -> the model's embedding                  [B, L, D]
    says     scores of the next word                                      [B, L, V]

A prompt is read once, however many answers are drawn to it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.layers.mlp import MLP
from timecell.networks.causal_lm import CausalLM
from timecell.networks.decoding import sample
from timecell.state import StateTree, index

SILENT = -1
"""What stands in an answer after its end."""


class Speaker(nn.Module):
    """A language model with eyes and a voice.

    Args:
        language: the model.
        words: V, how many of its words are spoken here.
        pixels: S, numbers of a strip.
        first: id of the first of these words in the model's vocabulary.
        end: the word that ends an answer.
        longest: words of an answer at most.

    Shapes: rows [B, L, 1 + S] -> scores of the next word [B, L, V], as a cell: it reads on from the state it returned.

    Example:
        >>> from timecell.networks.causal_lm import TinyCausal
        >>> speaker = Speaker(TinyCausal(5, size=8, layers=1, heads=2), words=5, pixels=3, longest=4)
        >>> prompt = torch.tensor([[[-1.0, 0.2, 0.7, 0.1], [2.0, 0.0, 0.0, 0.0]]])  # a strip, and the word 2
        >>> answers = speaker.sample(prompt, group=6)
        >>> len(answers), answers.shape[1] <= 4, bool((speaker.log_p(prompt, answers) <= 0).all())
        (6, True, True)
    """

    def __init__(
        self, language: CausalLM, words: int, pixels: int, *, first: int = 0, end: int = 0, longest: int = 16
    ) -> None:
        super().__init__()
        self.language, self.words, self.first, self.end, self.longest = language, words, first, end, longest
        self.look = MLP(pixels, (language.hidden_size,), language.hidden_size)

    def forward(
        self, x: Float[Tensor, "B L R"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B L V"], StateTree]:
        """Scores of the next word at each place."""
        word = x[..., 0].long()
        spoken = self.language.embed(word.clamp(min=0) + self.first)
        seen = torch.where(word[..., None] < 0, self.look(x[..., 1:]), spoken)
        hidden, state = self.language(seen, state, lengths=lengths)
        return self.language.head(hidden)[..., self.first : self.first + self.words], state

    def rows(self, ids: Int[Tensor, "B L"], like: Float[Tensor, "B P R"]) -> Float[Tensor, "B L R"]:
        """Words as rows; a silent place is some word, which nobody listens to."""
        return nn.functional.pad(ids.clamp(min=0)[..., None].to(like), (0, like.shape[-1] - 1))

    @torch.no_grad()
    def sample(self, prompt: Float[Tensor, "B P R"], group: int, greedy: bool = False) -> Int[Tensor, "B*group A"]:
        """Answers word by word; `SILENT` after the end."""
        logits, state = self._asked(prompt, group)
        answers = [torch.full((len(logits),), SILENT, device=prompt.device)]
        ended = torch.zeros_like(answers[0], dtype=torch.bool)
        for _ in range(self.longest):
            word = logits[:, -1].argmax(-1) if greedy else sample(logits[:, -1])
            answers.append(word.masked_fill(ended, SILENT))
            ended |= word == self.end
            if ended.all():
                break
            logits, state = self(self.rows(word[:, None], prompt), state)
        return torch.stack(answers[1:], 1)

    def scores(self, prompt: Float[Tensor, "B P R"], answers: Int[Tensor, "B*group A"]) -> Float[Tensor, "B*group A V"]:
        """What could have been said at each place of the answers."""
        first, state = self._asked(prompt, len(answers) // len(prompt))
        rest, _ = self(self.rows(answers[:, :-1], prompt), state) if answers.shape[1] > 1 else (first[:, :0], None)
        return torch.cat([first, rest], 1)

    def log_p(self, prompt: Float[Tensor, "B P R"], answers: Int[Tensor, "B*group A"]) -> Float[Tensor, "B*group A"]:
        """Log-probability of each word, 0 where `SILENT`."""
        log_p = self.scores(prompt, answers).log_softmax(-1)
        return log_p.gather(2, answers.clamp(min=0)[..., None])[..., 0].masked_fill(answers == SILENT, 0.0)

    def _asked(self, prompt: Tensor, group: int) -> tuple[Float[Tensor, "B*group 1 V"], StateTree]:
        """A prompt is read once for all its answers."""
        logits, state = self(prompt)
        rows = torch.arange(len(prompt), device=prompt.device).repeat_interleave(group)
        return logits[rows, -1:], index(state, rows)
