"""What is going on inside a net."""

from timecell.lens.diagnosis import Diagnosis, Finding, Limits, diagnose
from timecell.lens.operations import PRICES, Operations, Prices, operations, synaptic_operations

__all__ = [
    "PRICES", "Diagnosis", "Finding", "Limits", "Operations", "Prices", "diagnose", "operations", "synaptic_operations",
]  # fmt: skip
