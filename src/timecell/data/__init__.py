"""What comes in: containers, readers, real and generated sets, splits, scaling, spike encoders."""

from timecell.data.binning import bin_spikes
from timecell.data.containers import Batch, Data, Schema, Sequences, Series, Windows, fill_forward, fingerprint
from timecell.data.datasets import badges, files, spoken_digits, taxi
from timecell.data.edge_files import enron
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
from timecell.data.event_sequences import EventSequences
from timecell.data.events import EventStream
from timecell.data.folders import join
from timecell.data.images import Images, load_digits, load_mnist
from timecell.data.labelled_series import LabelledSeries
from timecell.data.labelled_steps import LabelledSteps
from timecell.data.masked import MaskedWindows
from timecell.data.read_edf import read_edf
from timecell.data.read_nwb import read_nwb
from timecell.data.read_wav import read_wav
from timecell.data.readers import describe, load, read_events
from timecell.data.recordings import Annotation, Recording
from timecell.data.render import render_series
from timecell.data.scaling import Standardise
from timecell.data.sounds import Sound, cochleagram
from timecell.data.spikes import SpikeTrains
from timecell.data.splits import Splits, by_sample, by_time
from timecell.data.stretches import Stretches
from timecell.data.synthetic import Motifs, Randman, Rendered, motifs, poisson, randman, render_events
from timecell.data.temporal_edges import TemporalEdges

__all__ = [
    "Annotation",
    "Batch",
    "Data",
    "EventSequences",
    "EventStream",
    "Images",
    "LabelledSeries",
    "LabelledSteps",
    "MaskedWindows",
    "Motifs",
    "Randman",
    "Recording",
    "Rendered",
    "Schema",
    "Sequences",
    "Series",
    "Sound",
    "SpikeTrains",
    "Splits",
    "Standardise",
    "Stretches",
    "TemporalEdges",
    "Windows",
    "badges",
    "bin_spikes",
    "by_sample",
    "by_time",
    "cochleagram",
    "delta",
    "describe",
    "direct",
    "enron",
    "files",
    "fill_forward",
    "filterbank_spikes",
    "fingerprint",
    "join",
    "latency",
    "level_crossing",
    "load",
    "load_digits",
    "load_mnist",
    "log_latency",
    "motifs",
    "poisson",
    "population",
    "randman",
    "rate",
    "read_edf",
    "read_events",
    "read_nwb",
    "read_wav",
    "render_events",
    "render_series",
    "spoken_digits",
    "taxi",
]
