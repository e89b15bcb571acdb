"""What keeps the past."""

from timecell.memory.gated import GRU

__all__ = ["GRU"]
