"""Generated graphs that know their blocks.

`block_model`: nodes of power-law degrees in groups of power-law sizes, with heavier edges within a group than between
groups (a weighted, degree-corrected planted partition, after the benchmark of Lancichinetti & Fortunato 2009).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from timecell.errors import InputError


class BlockModel(NamedTuple):
    """A graph and its blocks.

    Attributes:
        weights: [N, N] symmetric; 0 = no edge.
        block: [N] of each node.
    """

    weights: Float[np.ndarray, "N N"]
    block: Int[np.ndarray, "N"]


def block_model(
    nodes: int = 125,
    *,
    sizes: tuple[int, int] = (20, 50),
    degree: float = 25.0,
    mixing: float = 0.5,
    contrast: float = 0.25,
    seed: int = 0,
) -> BlockModel:
    """A weighted graph of groups that have more and heavier edges within than between them.

    Sizes of groups fall with the power 1.5, degrees with the power 2.5 over a factor of 12. An edge runs within a group
    with probability 1 - mixing, and its two ends are drawn by degree; its weight is exponential.

    Args:
        nodes: N.
        sizes: fewest and most nodes of a group.
        degree: mean number of edges of a node; a little less comes out, where two nodes would need more than one edge.
        mixing: share of edges between groups.
        contrast: mean weight of an edge between groups, where one within a group has mean 1.
        seed: of everything.

    Raises:
        InputError: an argument is out of its range.

    Example:
        >>> weights, block = block_model(seed=0)
        >>> weights.shape, bool(np.bincount(block).min() >= 20), bool((weights == weights.T).all())
        ((125, 125), True, True)
    """
    for name, value, fits, expected in (
        ("sizes", sizes, 1 <= sizes[0] <= sizes[1], "(fewest, most)"),
        ("nodes", nodes, nodes >= 2 * sizes[0], f"at least {2 * sizes[0]}, two groups"),
        ("degree", degree, 0 < degree < nodes, f"above 0, below {nodes}"),
        ("mixing", mixing, 0 <= mixing < 1, "a share below 1"),
        ("contrast", contrast, contrast > 0, "above 0"),
    ):
        if not fits:
            raise InputError(name, found=value, expected=expected, remedy="pass such a value")
    rng = np.random.default_rng(seed)
    groups: list[int] = []
    while nodes - sum(groups) >= 2 * sizes[0]:
        groups.append(min(int(_power(rng, 1.5, sizes, 1)[0]), nodes - sum(groups) - sizes[0]))
    block = np.repeat(np.arange(len(groups) + 1), [*groups, nodes - sum(groups)])
    k = _power(rng, 2.5, (1.0, 12.0), nodes)
    k *= degree / k.mean()

    within = block[:, None] == block
    chance = np.outer(k, k) * np.where(within, (1 - mixing) / (within @ k)[:, None], 0.0)
    between = np.outer(k, k) * ~within
    chance += mixing * k.sum() / between.sum() * between
    edge = np.triu(rng.random((nodes, nodes)) < chance, 1)
    weights = edge * rng.exponential(1.0, (nodes, nodes)) * np.where(within, 1.0, contrast)
    return BlockModel(weights + weights.T, block)


def _power(rng: np.random.Generator, exponent: float, span: tuple[float, float], n: int) -> Float[np.ndarray, "n"]:
    """Draws between two numbers with a density that falls with a power."""
    low, high = (end ** (1 - exponent) for end in span)
    return (low + rng.random(n) * (high - low)) ** (1 / (1 - exponent))
