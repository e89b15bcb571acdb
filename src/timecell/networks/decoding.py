"""Decoding: from the scores of the next token to a token.

Source of top-p (nucleus) sampling: Holtzman et al., "The curious case of neural text degeneration" (2019),
arXiv:1904.09751.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from timecell.errors import InputError


def sample(
    logits: Float[Tensor, "... K"],
    temperature: float = 1.0,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "..."]:
    """Draw a token each.

    Args:
        logits: scores of K tokens; -inf = never.
        temperature: the scores are divided by it; towards 0 the best token is always taken.
        top_p: draw from the fewest tokens whose probabilities sum to this share at least.
        generator: of the draws; None = torch's own.

    Raises:
        InputError: temperature or top_p out of range, or logits that leave no token.

    Example:
        >>> logits = torch.tensor([[2.0, 1.0, -3.0], [0.0, 5.0, 0.0]])
        >>> sample(logits, top_p=0.5).tolist(), sample(logits, temperature=0.01).tolist()
        ([0, 1], [0, 1])
    """
    if not temperature > 0:
        raise InputError("temperature", found=temperature, expected="above zero", remedy="pass 0.01 for the best token")
    if not 0 < top_p <= 1:
        raise InputError("top_p", found=top_p, expected="a share in (0, 1]", remedy="pass 1.0 to draw from all tokens")
    if logits.isnan().any() or logits.isneginf().all(-1).any():
        raise InputError(
            "logits", found="NaN, or -inf for every token", expected="at least one token that may be drawn",
            remedy="see why the net gave such scores",
        )  # fmt: skip
    p, token = (logits / temperature).softmax(-1).sort(-1, descending=True)
    nucleus = p * (p.cumsum(-1) - p < top_p)  # the best token is always in it
    drawn = torch.multinomial(nucleus.flatten(0, -2), 1, generator=generator).view(*logits.shape[:-1], 1)
    return token.gather(-1, drawn).squeeze(-1)
