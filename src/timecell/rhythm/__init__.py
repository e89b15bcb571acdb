"""What repeats and what belongs together: periods, frequencies, phases, connectivity over time."""

from timecell.rhythm.autocorrelation import autocorrelation
from timecell.rhythm.connectivity import functional_connectivity
from timecell.rhythm.decomposition import moving_average
from timecell.rhythm.factorisation import factorise
from timecell.rhythm.fold import fold, unfold
from timecell.rhythm.instance_norm import ReversibleInstanceNorm
from timecell.rhythm.periods import fft_periods
from timecell.rhythm.time_encoding import Time2Vec, TimeEncoding
from timecell.rhythm.tokenizers import SpikeTokenizer, SpikeTokens

__all__ = [
    "ReversibleInstanceNorm",
    "SpikeTokenizer",
    "SpikeTokens",
    "Time2Vec",
    "TimeEncoding",
    "autocorrelation",
    "factorise",
    "fft_periods",
    "fold",
    "functional_connectivity",
    "moving_average",
    "unfold",
]
