"""What comes in: containers, readers, real and generated sets, splits, scaling, spike encoders."""

from timecell.data.binning import bin_spikes
from timecell.data.containers import Batch, Data, Schema, Sequences, Series, Windows, fill_forward, fingerprint
from timecell.data.datasets import files, spoken_digits, taxi
from timecell.data.encoders import delta, direct, filterbank_spikes, latency, rate
from timecell.data.readers import describe, load
from timecell.data.scaling import Standardise
from timecell.data.splits import Splits, by_sample, by_time
from timecell.data.synthetic import Motifs, motifs, poisson

__all__ = [
    "Batch", "Data", "Motifs", "Schema", "Sequences", "Series", "Splits", "Standardise", "Windows", "bin_spikes",
    "by_sample", "by_time", "delta", "describe", "direct", "files", "fill_forward", "filterbank_spikes", "fingerprint",
    "latency", "load", "motifs", "poisson", "rate", "spoken_digits", "taxi",
]  # fmt: skip
