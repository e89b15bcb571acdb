"""What comes in: containers, readers, real and generated sets, splits, scaling, spike encoders."""

from timecell.data.binning import bin_spikes
from timecell.data.containers import Batch, Data, Schema, Sequences, Series, Windows, fill_forward, fingerprint
from timecell.data.datasets import files, spoken_digits, taxi
from timecell.data.encoders import (
    delta,
    direct,
    filterbank_spikes,
    latency,
    level_crossing,
    log_latency,
    population,
    rate,
)
from timecell.data.events import EventStream
from timecell.data.folders import join
from timecell.data.images import Images, load_digits
from timecell.data.read_edf import read_edf
from timecell.data.read_nwb import read_nwb
from timecell.data.read_wav import read_wav
from timecell.data.readers import describe, load, read_events
from timecell.data.recordings import Annotation, Recording
from timecell.data.scaling import Standardise
from timecell.data.sounds import Sound, cochleagram
from timecell.data.splits import Splits, by_sample, by_time
from timecell.data.synthetic import Motifs, Randman, Rendered, motifs, poisson, randman, render_events

__all__ = [
    "Annotation", "Batch", "Data", "EventStream", "Images", "Motifs", "Randman", "Recording", "Rendered", "Schema", "Sequences",
    "Series", "Sound", "Splits", "Standardise", "Windows", "bin_spikes", "by_sample", "by_time", "cochleagram", "delta",
    "describe", "direct", "files", "fill_forward", "filterbank_spikes", "fingerprint", "join", "latency",
    "level_crossing", "load", "load_digits", "log_latency", "motifs", "poisson", "population", "randman", "rate", "read_edf",
    "read_events", "read_nwb", "read_wav", "render_events", "spoken_digits", "taxi",
]  # fmt: skip
