"""A set of vectors becomes one.

`AttentivePool`: a weighted mean whose weights each member earns by itself, through a softmax over the set.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from timecell.errors import InputError


class AttentivePool(nn.Module):
    """Weighted means of a set, one a head: sum_i softmax_i(a . leaky(W x_i)) W x_i.

    The weights are those of graph attention (Velickovic et al. 2018, arXiv:1710.10903) with the set as neighbourhood.

    Args:
        inputs: width C of a member.
        outputs: width of the result, a multiple of `heads`.
        heads: weighted means, concatenated.

    Raises:
        InputError: the heads do not divide the outputs.

    Example:
        >>> pool = AttentivePool(3, 8, heads=2)
        >>> x, there = torch.rand(5, 7, 3), torch.arange(7) < 4
        >>> torch.equal(pool(x, there.expand(5, 7)), pool(x[:, :4], torch.ones(5, 4, dtype=torch.bool)))
        True
    """

    def __init__(self, inputs: int, outputs: int, *, heads: int = 1) -> None:
        super().__init__()
        if heads < 1 or outputs % heads:
            raise InputError(
                "AttentivePool(outputs, heads)", found=f"{outputs} and {heads}", expected="a multiple of the heads",
                remedy=f"try outputs={max(heads, 1) * max(1, outputs // max(heads, 1))}",
            )  # fmt: skip
        self.heads = heads
        self.values = nn.Linear(inputs, outputs, bias=False)
        self.attention = nn.Parameter(torch.randn(heads, outputs // heads) / (outputs // heads) ** 0.5)

    def forward(self, x: Float[Tensor, "B L C"], mask: Bool[Tensor, "B L"]) -> Float[Tensor, "B D"]:
        """One vector a set; members outside the mask have no part, and a set without members is zero."""
        hidden = F.leaky_relu(self.values(x[mask]), 0.2).unflatten(-1, (self.heads, -1))
        score = x.new_full((*mask.shape, self.heads), -torch.inf)
        score = score.index_put((mask,), torch.einsum("nhd,hd->nh", hidden, self.attention))
        empty = ~mask.any(1)[:, None, None]
        weight = score.masked_fill(empty, 0.0).softmax(1).masked_fill(empty, 0.0)
        mean = weight.transpose(1, 2) @ x  # [B, H, C]: the mean first, then W, since L is the long axis
        return torch.einsum("bhc,hdc->bhd", mean, self.values.weight.unflatten(0, (self.heads, -1))).flatten(1)
