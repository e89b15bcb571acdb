"""Whole small networks that several systems share."""

from timecell.networks.adapters import set_trainable
from timecell.networks.causal_lm import CausalLM, TinyCausal
from timecell.networks.cnn import SmallCNN
from timecell.networks.decoding import sample
from timecell.networks.forecasters import DLinear
from timecell.networks.pretrained import PretrainedLM, load_pretrained
from timecell.networks.speaker import Speaker
from timecell.networks.transformer import TransformerDecoder, TransformerEncoder

__all__ = [
    "CausalLM",
    "DLinear",
    "PretrainedLM",
    "SmallCNN",
    "Speaker",
    "TinyCausal",
    "TransformerDecoder",
    "TransformerEncoder",
    "load_pretrained",
    "sample",
    "set_trainable",
]
