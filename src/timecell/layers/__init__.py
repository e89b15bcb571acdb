"""What computes within an instant, and the noise that goes with it."""

from timecell.layers.attention import MultiHeadAttention, SelfAttention, causal_mask, padding_mask
from timecell.layers.conv import Inception2d
from timecell.layers.dropout import Dropout
from timecell.layers.event_decoders import Exponential, Gompertz, LogNormalMixture
from timecell.layers.mlp import MLP
from timecell.layers.norms import PerStep
from timecell.layers.pool import AttentivePool
from timecell.layers.positions import sinusoidal_positions
from timecell.layers.temporal_conv import CausalConv, TemporalConv

__all__ = [
    "MLP",
    "AttentivePool",
    "CausalConv",
    "Dropout",
    "Exponential",
    "Gompertz",
    "Inception2d",
    "LogNormalMixture",
    "MultiHeadAttention",
    "PerStep",
    "SelfAttention",
    "TemporalConv",
    "causal_mask",
    "padding_mask",
    "sinusoidal_positions",
]
