"""What connects units."""

from timecell.synapses.branched import BranchSynapses
from timecell.synapses.delayed import Delayed
from timecell.synapses.linear import Linear
from timecell.synapses.plastic import PlasticSynapse
from timecell.synapses.plasticity import STDP, Hebb, Oja, Plasticity, ThreeFactor, TripletSTDP
from timecell.synapses.trace import DoubleTrace, Trace

__all__ = [
    "STDP", "BranchSynapses", "Delayed", "DoubleTrace", "Hebb", "Linear", "Oja", "PlasticSynapse", "Plasticity", "ThreeFactor",
    "Trace", "TripletSTDP",
]  # fmt: skip
