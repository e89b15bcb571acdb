"""What keeps the past."""

from timecell.memory.gated import GRU, LSTM, Elman

__all__ = ["GRU", "LSTM", "Elman"]
