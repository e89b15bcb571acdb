"""Pictures of what a net does and has learnt, on matplotlib (the extra `plot`).

    tc.plot.raster(spikes).figure.savefig("raster.png")

Every function draws on the axes it is given, or on those of a new figure, and returns them. Nothing here touches
pyplot: no window opens, and no figure is kept alive behind your back.
"""

from timecell.plot.activity import raster, traces
from timecell.plot.learning import gradients, learning_curves
from timecell.plot.parameters import delays, time_constants, weights

__all__ = ["delays", "gradients", "learning_curves", "raster", "time_constants", "traces", "weights"]
