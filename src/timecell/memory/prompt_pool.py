"""`PromptPool`: a small store of learned prompts that are looked up by what is being seen.

Each prompt is a few vectors that a net is shown beside its input, and each has a key in the space of queries. A query
finds the N prompts whose keys point most nearly where it points. The choice itself has no gradient: prompts learn from
what the net makes of them, and keys are drawn towards the queries that found them by the matching loss

    - alpha * mean over queries of  sum over the chosen of  cos(query, key)

so that prompts specialise: what one kind of input has taught a prompt stays there while other kinds use other prompts.

Source: Wang et al., "Learning to prompt for continual learning" (2022), arXiv:2112.08654, equations 3-5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.errors import InputError


class Found(NamedTuple):
    """What queries found, the nearest first.

    Attributes:
        chosen: [..., N] numbers of the prompts.
        similarity: [..., N] cosine of the query and their keys; minus its sum is the matching loss of a query.
    """

    chosen: Int[Tensor, "... N"]
    similarity: Float[Tensor, "... N"]


class PromptPool(nn.Module):
    """M prompts of L vectors, found by the cosine of a query and their keys.

    A query finds its prompts by itself: what else is in the batch does not matter.

    Args:
        prompts: M, how many there are.
        length: L vectors in each.
        width: D of each vector.
        query: Q, width of queries and keys.
        chosen: N, how many a query finds.

    Shapes: query [..., Q] -> `Found`; ``pool.prompts[found.chosen]`` is [..., N, L, D]. Prompts and keys start uniform in (-1, 1) and have the role "prompt", so that
    a recipe can give them a learning rate of their own.

    Raises:
        InputError: more are to be found than there are, or a query has another width.

    Example:
        >>> pool = PromptPool(prompts=5, length=3, width=4, query=2, chosen=2)
        >>> found = pool(torch.ones(7, 2))
        >>> tuple(found.chosen.shape), tuple(pool.prompts[found.chosen].shape)
        ((7, 2), (7, 2, 3, 4))
    """

    roles: ClassVar[Mapping[str, str]] = {"prompts": "prompt", "keys": "prompt"}

    def __init__(self, prompts: int, length: int, width: int, query: int, chosen: int) -> None:
        super().__init__()
        if not 1 <= chosen <= prompts:
            raise InputError(
                "PromptPool(chosen)", found=chosen, expected=f"1 to {prompts}, the prompts there are",
                remedy="choose fewer, or make the pool larger",
            )  # fmt: skip
        self.chosen = chosen
        self.prompts = nn.Parameter(torch.empty(prompts, length, width).uniform_(-1, 1))
        self.keys = nn.Parameter(torch.empty(prompts, query).uniform_(-1, 1))

    def similarity(self, query: Float[Tensor, "... Q"]) -> Float[Tensor, "... M"]:
        """Cosine of each query and each key, in [-1, 1]."""
        if query.shape[-1] != self.keys.shape[1]:
            raise InputError(
                "PromptPool(query)", found=f"width {query.shape[-1]}", expected=f"{self.keys.shape[1]}, the keys' width",
                remedy="ask with the queries that the pool was made for",
            )  # fmt: skip
        unit = nn.functional.normalize
        return unit(query, dim=-1) @ unit(self.keys, dim=-1).T

    def forward(self, query: Float[Tensor, "... Q"]) -> Found:
        """The N prompts nearest to each query."""
        similarity, chosen = self.similarity(query).topk(self.chosen, dim=-1)
        return Found(chosen, similarity)
