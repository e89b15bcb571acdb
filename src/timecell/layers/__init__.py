"""What computes within an instant, and the noise that goes with it."""

from timecell.layers.dropout import Dropout
from timecell.layers.norms import PerStep

__all__ = ["Dropout", "PerStep"]
