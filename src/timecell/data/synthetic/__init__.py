"""Seeded generators that return the truth with their data."""

from timecell.data.synthetic.event_camera import Rendered, render_events
from timecell.data.synthetic.spikes import Motifs, Randman, motifs, poisson, randman

__all__ = ["Motifs", "Randman", "Rendered", "motifs", "poisson", "randman", "render_events"]
