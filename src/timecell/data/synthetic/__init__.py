"""Seeded generators that return the truth with their data."""

from timecell.data.synthetic.spikes import Motifs, motifs, poisson

__all__ = ["Motifs", "motifs", "poisson"]
