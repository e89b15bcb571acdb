"""What computes within an instant, and the noise that goes with it."""

from timecell.layers.dropout import Dropout
from timecell.layers.norms import PerStep
from timecell.layers.temporal_conv import CausalConv, TemporalConv

__all__ = ["CausalConv", "Dropout", "PerStep", "TemporalConv"]
