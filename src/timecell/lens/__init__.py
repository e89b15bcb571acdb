"""What is going on inside a net."""

from timecell.lens.operations import synaptic_operations

__all__ = ["synaptic_operations"]
