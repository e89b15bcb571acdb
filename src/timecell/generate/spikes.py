"""Spikes that a model writes: token after token, window after window, its own spikes being the past of the next ones."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from timecell.data.spikes import SpikeTrains
from timecell.inference import evaluating
from timecell.networks.decoding import sample
from timecell.networks.spike_models import TokenModel
from timecell.rhythm.tokenizers import SpikeTokenizer, SpikeTokens, SpikeWindows


def write_spikes(
    net: TokenModel, data: SpikeWindows, tokenizer: SpikeTokenizer, windows: int, seed: int = 0, top_p: float = 1.0
) -> SpikeTrains:
    """Write on: one trial for each window of the data, which lends its past and nothing else.

    Args:
        net: after training, without anything beside the spikes.
        data: where each trial begins.
        tokenizer: of the data.
        windows: how many to write.
        seed: of the draws.
        top_p: see `timecell.networks.decoding.sample`.
    """
    eos, sos, pad = torch.from_numpy(tokenizer.special).float()
    units, longest = net.units, net.place.num_embeddings
    past = torch.from_numpy(data.past[data.index]).float()
    draws, made = torch.Generator().manual_seed(seed), []
    with evaluating(net):
        for _ in range(windows):
            tokens, writing = sos.repeat(len(past), 1, 1), torch.arange(len(past))
            while len(writing) and tokens.shape[1] < longest:
                drawn = pad.repeat(len(past), 1)
                drawn[writing] = next_token(net, past[writing], tokens[writing], draws, top_p)
                tokens = torch.cat([tokens, drawn[:, None]], 1)
                writing = writing[drawn[writing, 0] < units]
            tokens[writing, -1] = eos  # the longest windows are closed
            made.append(tokens)
            row, place = (tokens[..., 0] < units).nonzero(as_tuple=True)
            ids, steps = tokens[row, place].long().unbind(-1)
            now = torch.zeros(len(past), net.bins, units)
            now.index_put_((row, steps, ids), torch.ones(len(row)), accumulate=True)
            past = torch.cat([past, now], 1)[:, -net.past_bins :]
    return tokenizer.decode(_as_tokens(made, data, tokenizer, pad))


def next_token(
    net: TokenModel, past: Float[Tensor, "B P C"], tokens: Float[Tensor, "B L 2"], draws: torch.Generator, top_p: float
) -> Float[Tensor, "B 2"]:
    """Draw the token that comes after these."""
    x = past.new_zeros(len(past), net.past_bins + tokens.shape[1], max(net.units, 2))
    x[:, : net.past_bins, : net.units], x[:, net.past_bins :, :2] = past, tokens
    of_id, of_step = net(x)[0][:, -1].split([net.units + 1, net.bins + 1], -1)
    ids = sample(of_id, top_p=top_p, generator=draws)
    steps = sample(of_step[:, : net.bins], top_p=top_p, generator=draws)
    return torch.stack([ids, steps.where(ids < net.units, net.bins)], -1).float()


def _as_tokens(made: list[Tensor], data: SpikeWindows, tokenizer: SpikeTokenizer, pad: Tensor) -> SpikeTokens:
    longest, trials = max(t.shape[1] for t in made), len(data)
    whole = torch.stack([torch.cat([t, pad.expand(trials, longest - t.shape[1], 2)], 1) for t in made], 1)
    ids, steps = whole.flatten(0, 1).long().numpy().transpose(2, 0, 1)
    trial, window = np.divmod(np.arange(trials * len(made)), len(made))
    end = np.full(trials, len(made) * tokenizer.window)
    return SpikeTokens(ids, steps, trial, window, end, data.tokens.names)
