"""Dynamics of single units, each a few lines."""

from timecell.neurons.integrator import LeakyIntegrator
from timecell.neurons.lif import LIF, AdaptiveLIF
from timecell.neurons.surrogate import (
    SURROGATES,
    ATan,
    Exponential,
    FastSigmoid,
    Sigmoid,
    Surrogate,
    Triangle,
    smooth,
    spike,
)

__all__ = [
    "LIF", "SURROGATES", "ATan", "AdaptiveLIF", "Exponential", "FastSigmoid", "LeakyIntegrator", "Sigmoid", "Surrogate",
    "Triangle", "smooth", "spike",
]  # fmt: skip
