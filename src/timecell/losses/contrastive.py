"""Contrast: what belongs together shall look alike, and unlike everything else in the batch.

Source: van den Oord, Li & Vinyals (2018), arXiv:1807.03748; in both directions: Radford et al., CLIP (2021),
arXiv:2103.00020.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from timecell.errors import InputError


def info_nce(
    a: Float[Tensor, "B D"],
    b: Float[Tensor, "B D"],
    temperature: float | Float[Tensor, ""] = 0.5,
    positives: Bool[Tensor, "B B"] | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy of finding each a's partners among all b, and each b's among all a, by cosine similarity.

    Args:
        a: features of one view.
        b: features of the other view; row i belongs to row i of a.
        temperature: the similarities are divided by it.
        positives: which b belong to which a, at least one each; None = the same row alone. Name here what a batch holds
            twice, or a sample's twin counts as a stranger.

    Raises:
        InputError: shapes that do not match, or a row without a partner.

    Example:
        >>> same = info_nce(torch.eye(3), torch.eye(3), temperature=0.1)
        >>> other = info_nce(torch.eye(3), torch.eye(3).roll(1, 0), temperature=0.1)
        >>> round(same.item(), 3), round(other.item(), 3)
        (0.0, 10.0)
    """
    if a.ndim != 2 or a.shape != b.shape:
        raise InputError(
            "b", found=f"shape {list(b.shape)}", expected=f"[B, D] as a, {list(a.shape)}", remedy="project both alike"
        )
    belongs = torch.eye(len(a), dtype=torch.bool, device=a.device) if positives is None else positives
    if belongs.shape != (len(a), len(a)) or not (belongs.any(0).all() and belongs.any(1).all()):
        raise InputError(
            "positives", found=f"shape {list(belongs.shape)}, or a row or column without any",
            expected=f"[{len(a)}, {len(a)}] with a partner for each", remedy="mark at least the diagonal",
        )  # fmt: skip
    similar = normalize(a, dim=1) @ normalize(b, dim=1).T / temperature
    return (_finding(similar, belongs) + _finding(similar.T, belongs.T)) / 2


def _finding(scores: Float[Tensor, "B B"], belongs: Bool[Tensor, "B B"]) -> Float[Tensor, ""]:
    """Mean over rows and over their partners of -log softmax."""
    found = -scores.log_softmax(1) * belongs
    return (found.sum(1) / belongs.sum(1)).mean()
