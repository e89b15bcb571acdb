"""Whole small networks that several systems share."""

from timecell.networks.cnn import SmallCNN
from timecell.networks.decoding import sample
from timecell.networks.forecasters import DLinear
from timecell.networks.transformer import TransformerDecoder, TransformerEncoder

__all__ = [
    "DLinear",
    "SmallCNN",
    "TransformerDecoder",
    "TransformerEncoder",
    "sample",
]
