"""Streams of bits whose label needs the last n of them: memory as a number.

`parity`: is the number of ones among the last n odd? `dms` (delayed match to sample): is the n-th bit from the end, the
sample, the same as the last one, the probe? Sequences are longer than n, so what came before must be forgotten, and no
step says that it is one of the last n. (`cumulative_parity` forgets nothing: it asks for the parity so far at every step.)

In `parity` each sequence has a share of ones of its own, drawn evenly from 0 to 1; with fair bits a net could be right
half of the time at no cost and hardly better for knowing all bits but one. In `dms` bits are fair.

Source of the tasks in this form: Khajehabdollahi et al. (2024), arXiv:2309.12927.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from timecell.data.containers import Sequences
from timecell.data.labelled_steps import LabelledSteps
from timecell.errors import InputError, unknown_name

Rule = Literal["parity", "dms"]
RULES: tuple[Rule, ...] = ("parity", "dms")


def parity(n: int, steps: tuple[int, int] | None = None, *, samples: int = 1000, seed: int = 0) -> Sequences:
    """Streams of bits with the parity of their last n.

    Args:
        n: bits to be known at the end.
        steps: (shortest, longest) length of a stream, each drawn evenly between them; None: n + 2 and 4 n + 1.
        samples: streams.
        seed: of all draws.

    Returns:
        Samples [T, 1] of 0 and 1; class 1 is "odd".

    Raises:
        InputError: n is below 1, or a stream could be shorter than n.

    Example:
        >>> data = parity(3, samples=5)
        >>> [int(data[i][-3:].sum()) % 2 for i in range(5)] == data.target.tolist()
        True
    """
    return _labelled("parity", n, steps, samples, seed)


def dms(n: int, steps: tuple[int, int] | None = None, *, samples: int = 1000, seed: int = 0) -> Sequences:
    """Streams of bits and whether the n-th from the end is the same as the last; arguments as in `parity`.

    Returns:
        Samples [T, 1] of 0 and 1; class 1 is "match".

    Example:
        >>> data = dms(3, samples=5)
        >>> [int(data[i][-3, 0] == data[i][-1, 0]) for i in range(5)] == data.target.tolist()
        True
    """
    return _labelled("dms", n, steps, samples, seed)


def cumulative_parity(longest: int, shortest: int = 1, *, most: int = 256, seed: int = 0) -> LabelledSteps:
    """Strings of bits, each once, with the parity so far as the class of every step.

    Args:
        longest: bits of the longest strings; shorter ones are followed by blanks, over which the parity stays.
        shortest: bits of the shortest.
        most: strings of each length at most; where there are more, they are drawn.
        seed: of the draws.

    Returns:
        Samples [longest, 1] of -1 (one), 1 (zero) and 0 (blank), in random order; classes "even" and "odd".

    Raises:
        InputError: the lengths are no range.

    Example:
        >>> data = cumulative_parity(3, most=2)
        >>> len(data), data[0].shape, all((np.cumprod(np.where(x, x, 1)) < 0).tolist() == (row == 1).tolist()
        ...     for x, row in zip([data[i] for i in range(6)], data.labels.reshape(6, 3)))
        (6, (3, 1), True)
    """
    if not 1 <= shortest <= longest:
        raise InputError("shortest", found=f"{shortest} to {longest} bits", expected="1 <= shortest <= longest",
                         remedy="say longest=8, shortest=4")  # fmt: skip
    rng, strings = np.random.default_rng(seed), []
    for n in range(shortest, longest + 1):
        numbers = rng.choice(2**n, size=min(most, 2**n), replace=False)
        signs = 1.0 - 2.0 * (numbers[:, None] >> np.arange(n) & 1)
        strings.append(np.pad(signs, ((0, 0), (0, longest - n))))
    x = rng.permutation(np.concatenate(strings))
    odd = np.cumprod(np.where(x == 0, 1, x), axis=1) < 0
    return LabelledSteps.labelled(Sequences.of(x[..., None]), odd, ("even", "odd"))


def bits(rule: Rule, steps: tuple[int, int], *, samples: int = 1000, seed: int = 0) -> Sequences:
    """The streams alone, without a label: what several n are asked of (`label`).

    Raises:
        InputError: there is no such rule, or the lengths are not 1 <= shortest <= longest.

    Example:
        >>> sorted(set(bits("dms", (4, 6), samples=50).lengths.tolist()))
        [4, 5, 6]
    """
    if rule not in RULES:
        raise unknown_name("rule", rule, RULES)
    if not 1 <= steps[0] <= steps[1] or samples < 1:
        raise InputError("steps, samples", found=(steps, samples), expected="1 <= shortest <= longest, and a sample",
                         remedy="order the lengths")  # fmt: skip
    rng = np.random.default_rng(seed)
    lengths = rng.integers(steps[0], steps[1] + 1, samples)
    share = rng.random(samples) if rule == "parity" else np.full(samples, 0.5)
    ones = rng.random(lengths.sum()) < np.repeat(share, lengths)
    return Sequences.of(np.split(ones[:, None].astype(np.float32), np.cumsum(lengths)[:-1]))


def label(rule: Rule, n: int, x: Float[Tensor, "B T 1"], lengths: Int[Tensor, "B"] | None = None) -> Int[Tensor, "B"]:
    """The label of each stream at its end: 1 for odd, or for a match.

    Raises:
        InputError: a stream is shorter than n.

    Example:
        >>> x = torch.tensor([[1.0, 0.0, 1.0, 1.0]])[..., None]
        >>> label("parity", 3, x).tolist(), label("dms", 3, x).tolist(), label("dms", 3, x, torch.tensor([3])).tolist()
        ([0], [0], [1])
    """
    ends = torch.full((len(x),), x.shape[1], device=x.device) if lengths is None else lengths
    if n < 1 or bool((ends < n).any()):
        raise InputError(
            "n", found=n, expected=f"1 to {int(ends.min())}, the shortest stream", remedy="lengthen the streams"
        )
    window = x[..., 0].gather(1, ends[:, None] - n + torch.arange(n, device=x.device))
    return window.sum(1).long() % 2 if rule == "parity" else (window[:, 0] == window[:, -1]).long()


def _labelled(rule: Rule, n: int, steps: tuple[int, int] | None, samples: int, seed: int) -> Sequences:
    span = (n + 2, 4 * n + 1) if steps is None else steps
    if not 1 <= n <= span[0]:
        raise InputError(
            "n, steps", found=(n, span), expected="1 <= n <= the shortest stream", remedy="lengthen the streams"
        )
    streams = bits(rule, span, samples=samples, seed=seed)
    whole = streams.batch(np.arange(samples))
    classes = ("even", "odd") if rule == "parity" else ("other", "match")
    target = label(rule, n, whole.x, whole.lengths).numpy()
    return Sequences.of([streams[i] for i in range(samples)], target, classes=classes, channels=("bit",))
