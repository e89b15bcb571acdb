"""Dynamics of single units, each a few lines."""

from timecell.neurons.elm import ELM
from timecell.neurons.history import NeuronLevelModel
from timecell.neurons.integrator import LeakyIntegrator
from timecell.neurons.izhikevich import IZHIKEVICH_2003, IZHIKEVICH_2007, Izhikevich
from timecell.neurons.lif import IF, LIF, AdaptiveLIF
from timecell.neurons.rate import LeakyRate
from timecell.neurons.refractory import RefractoryLIF
from timecell.neurons.surrogate import (
    SURROGATES,
    ATan,
    Exponential,
    FastSigmoid,
    Gate,
    Gaussian,
    Rectangle,
    Sigmoid,
    Surrogate,
    Triangle,
    smooth,
    spike,
)
from timecell.neurons.synaptic import ConductanceLIF, RefractorySynapticLIF, SynapticLIF

__all__ = [
    "ELM",
    "IF",
    "IZHIKEVICH_2003",
    "IZHIKEVICH_2007",
    "LIF",
    "SURROGATES",
    "ATan",
    "AdaptiveLIF",
    "ConductanceLIF",
    "Exponential",
    "FastSigmoid",
    "Gate",
    "Gaussian",
    "Izhikevich",
    "LeakyIntegrator",
    "LeakyRate",
    "NeuronLevelModel",
    "Rectangle",
    "RefractoryLIF",
    "RefractorySynapticLIF",
    "Sigmoid",
    "Surrogate",
    "SynapticLIF",
    "Triangle",
    "smooth",
    "spike",
]
