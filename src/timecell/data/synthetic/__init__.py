"""Seeded generators that return the truth with their data."""

from timecell.data.synthetic.calcium import Calcium, calcium
from timecell.data.synthetic.edge_stream import EdgeStream, edge_stream
from timecell.data.synthetic.event_camera import Rendered, render_events
from timecell.data.synthetic.event_regimes import event_regimes
from timecell.data.synthetic.glm_network import GLMNetwork, glm_network
from timecell.data.synthetic.memory_tasks import dms, parity
from timecell.data.synthetic.neural import DendriticNeuron, dendritic_neuron
from timecell.data.synthetic.point_processes import hawkes, markov_renewal, renewal, self_correcting
from timecell.data.synthetic.shapes import shapes
from timecell.data.synthetic.spikes import Motifs, Randman, motifs, poisson, randman

__all__ = [
    "Calcium",
    "DendriticNeuron",
    "EdgeStream",
    "GLMNetwork",
    "Motifs",
    "Randman",
    "Rendered",
    "calcium",
    "dendritic_neuron",
    "dms",
    "edge_stream",
    "event_regimes",
    "glm_network",
    "hawkes",
    "markov_renewal",
    "motifs",
    "parity",
    "poisson",
    "randman",
    "render_events",
    "renewal",
    "self_correcting",
    "shapes",
]
