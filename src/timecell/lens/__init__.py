"""What is going on inside a net."""

from timecell.lens.diagnosis import Diagnosis, Finding, Limits, diagnose
from timecell.lens.edges import edge_recovery
from timecell.lens.operations import PRICES, Operations, Prices, operations, synaptic_operations
from timecell.lens.timescales import timescales

__all__ = [
    "PRICES",
    "Diagnosis",
    "Finding",
    "Limits",
    "Operations",
    "Prices",
    "diagnose",
    "edge_recovery",
    "operations",
    "synaptic_operations",
    "timescales",
]
