"""What keeps the past."""

from timecell.memory.diagonal import DiagonalSSM
from timecell.memory.gated import GRU, LSTM, Elman
from timecell.memory.reservoir import Reservoir

__all__ = ["GRU", "LSTM", "DiagonalSSM", "Elman", "Reservoir"]
