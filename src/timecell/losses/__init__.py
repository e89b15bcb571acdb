"""What is minimised: pure functions of what output units did and of what they should have done."""

from timecell.losses.contrastive import info_nce
from timecell.losses.preference import dpo, grpo, kl_estimate
from timecell.losses.spiking import (
    activity_bounds,
    activity_l1,
    first_spike_ce,
    first_spike_time,
    membrane_ce,
    membrane_mse,
    membrane_peak,
    rate_ce,
    rate_mse,
    spike_count,
    step_ce,
    tet,
)

__all__ = [
    "activity_bounds",
    "activity_l1",
    "dpo",
    "first_spike_ce",
    "first_spike_time",
    "grpo",
    "info_nce",
    "kl_estimate",
    "membrane_ce",
    "membrane_mse",
    "membrane_peak",
    "rate_ce",
    "rate_mse",
    "spike_count",
    "step_ce",
    "tet",
]
