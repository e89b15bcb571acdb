"""What keeps the past."""

from timecell.memory.diagonal import DiagonalSSM
from timecell.memory.gated import GRU, LSTM, Elman
from timecell.memory.linear_ssm import LinearSSM
from timecell.memory.node_memory import NeighborCache, NodeMemory
from timecell.memory.prompt_pool import PromptPool
from timecell.memory.reservoir import Reservoir
from timecell.memory.synchronisation import Synchronisation

__all__ = [
    "GRU",
    "LSTM",
    "DiagonalSSM",
    "Elman",
    "LinearSSM",
    "NeighborCache",
    "NodeMemory",
    "PromptPool",
    "Reservoir",
    "Synchronisation",
]
