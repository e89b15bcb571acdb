"""NIR graphs, the Neuromorphic Intermediate Representation: nets that many simulators and chips read.

    graph = to_nir(net, x[:1])                  # nir.write("net.nir", graph) makes it a file
    net = from_nir("net.nir")                   # or the graph itself

NIR's equations are continuous in time (Pedersen et al., 2024); we take Euler's step of `dt` seconds, as its simulators
do. With tau in steps of dt, s = input, H the spike:

    LIF, LI    tau dv/dt = (v_leak - v) + r s         v <- v + ((v_leak - v) + r s) / tau
    CubaLIF    tau_syn di/dt = -i + w_in s            i <- i + (w_in s - i) / tau_syn, then v with r i
    IF, I      dv/dt = r s                            v <- v + dt r s
    spike      v > v_threshold, then v = v_reset      a threshold just above, or just below, our v >= threshold

Potentials begin at v_leak and are measured from there. Which step the exporting tool had in mind is not in the graph:
snnTorch and SpikingJelly mean dt = 1e-4, the default here. Norse's exporter multiplies where it should divide, so what
it made of its own step of 1e-3 is read with dt = 1e-6; its IF, without time, with dt = 1.

NIR has one reset, to v_reset. A soft or a late reset cannot be said: `to_nir` refuses it, or with ``notes=True`` writes
it into the node's metadata, where `from_nir` finds it and other tools see a reset to v_reset. snnTorch's exporter drops
it silently: read its graphs with ``reset="soft", reset_delay=True`` if that was its default. Slopes of spikes are not
part of NIR either, nor which parameters are trained. v_reset must be v_leak.
"""

from timecell.exchange.nir_common import Scale
from timecell.exchange.nir_reading import from_nir
from timecell.exchange.nir_writing import to_nir

__all__ = ["Scale", "from_nir", "to_nir"]
