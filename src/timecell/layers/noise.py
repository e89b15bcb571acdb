"""Noise that depends on nothing but where it stands: on the sample's seed, the step and the unit.

A generator that is asked in some order gives other numbers when a sequence is split, streamed or batched otherwise.
These numbers are a hash of their place, so there is no order, and the state that a cell has to carry is a seed and a
count of steps.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class NoiseState(NamedTuple):
    """What noise remembers: each sample's seed [B] in [0, 2^32) and how many steps it has taken [B]."""

    seed: Tensor
    step: Tensor


def start(batch: int, device: torch.device) -> NoiseState:
    """Fresh seeds from torch's generator, at step 0.

    Example:
        >>> start(3, torch.device("cpu")).step.tolist()
        [0, 0, 0]
    """
    seed = torch.randint(1 << 32, (batch,), device=device)
    return NoiseState(seed, torch.zeros_like(seed))


def uniform(seed: Int[Tensor, "B"], step: Int[Tensor, "B T"], units: tuple[int, ...]) -> Float[Tensor, "B T ..."]:
    """Uniform numbers in [0, 1), one for each sample, step and unit, with 24 random bits each.

    Example:
        >>> seed, steps = torch.tensor([7]), torch.arange(6)[None]
        >>> whole = uniform(seed, steps, (3,))
        >>> torch.equal(whole[:, 4:], uniform(seed, steps[:, 4:], (3,)))
        True
    """
    unit = torch.arange(math.prod(units), device=seed.device)
    word = _hash(_hash(_hash(seed)[:, None] ^ step)[..., None] ^ unit)
    return ((word >> 8).float() * 2.0**-24).unflatten(-1, units)


def _hash(word: Tensor) -> Tensor:
    """A 32-bit integer hash (`lowbias32`, C. Wellons, 2018), in the lower half of 64 bits."""
    word = word ^ (word >> 16)
    word = (word * 0x7FEB352D) & 0xFFFFFFFF
    word = word ^ (word >> 15)
    word = (word * 0x846CA68B) & 0xFFFFFFFF
    return word ^ (word >> 16)
