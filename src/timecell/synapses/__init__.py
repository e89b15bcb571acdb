"""What connects units."""

from timecell.synapses.delayed import Delayed

__all__ = ["Delayed"]
