"""Four shapes of a rhythm (sine, square, triangle, sawtooth) on a trend, in noise: what a series looks like, as a label."""

from __future__ import annotations

import numpy as np

from timecell.data.containers import Sequences

SHAPES = {
    "sine": lambda phase: np.sin(2 * np.pi * phase),
    "square": lambda phase: np.where(phase % 1 < 0.5, 1.0, -1.0),
    "triangle": lambda phase: 4 * np.abs(phase % 1 - 0.5) - 1,
    "sawtooth": lambda phase: 2 * (phase % 1) - 1,
}


def shapes(samples: int = 800, steps: int = 64, noise: float = 0.2, seed: int = 0) -> Sequences:
    """Series whose class is the form of their cycle; cycles, phase, height and trend are drawn anew for each.

    Args:
        samples: N, of the four classes in turn.
        steps: T.
        noise: standard deviation of white noise; a cycle's height is 0.7 to 1.5.
        seed: of all draws.

    Returns:
        Samples [T, 1] with 1 to 4 cycles and a trend of at most 2 from end to end.

    Example:
        >>> data = shapes(8, steps=32)
        >>> data.schema.classes, data.target.tolist(), data[0].shape
        (('sine', 'square', 'triangle', 'sawtooth'), [0, 1, 2, 3, 0, 1, 2, 3], (32, 1))
    """
    rng = np.random.default_rng(seed)
    label, t = np.arange(samples) % len(SHAPES), np.linspace(0, 1, steps)
    cycles, first, height, trend = (
        rng.uniform(low, high, samples) for low, high in ((1, 4), (0, 1), (0.7, 1.5), (-2, 2))
    )
    forms = list(SHAPES.values())
    x = [
        height[i] * forms[label[i]](cycles[i] * t + first[i]) + trend[i] * (t - 0.5) + noise * rng.normal(size=steps)
        for i in range(samples)
    ]
    return Sequences.of([series[:, None].astype(np.float32) for series in x], label, classes=tuple(SHAPES))
