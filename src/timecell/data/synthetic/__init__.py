"""Seeded generators that return the truth with their data."""

from timecell.data.synthetic.event_camera import Rendered, render_events
from timecell.data.synthetic.neural import DendriticNeuron, dendritic_neuron
from timecell.data.synthetic.spikes import Motifs, Randman, motifs, poisson, randman

__all__ = [
    "DendriticNeuron",
    "Motifs",
    "Randman",
    "Rendered",
    "dendritic_neuron",
    "motifs",
    "poisson",
    "randman",
    "render_events",
]
