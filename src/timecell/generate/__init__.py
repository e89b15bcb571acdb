"""Processes that make data: point processes that can be fitted and sampled."""

from timecell.generate.attentive_hawkes import AttentiveHawkes
from timecell.generate.point_process import DecodedProcess, IntensityProcess, PointProcess, generate, thinning

__all__ = [
    "AttentiveHawkes",
    "DecodedProcess",
    "IntensityProcess",
    "PointProcess",
    "generate",
    "thinning",
]
