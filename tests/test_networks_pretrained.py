"""Language models of others behind the plug; transformers itself is tried where it is installed."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from timecell.checkpoint import seeded
from timecell.errors import DataError, InputError, MissingExtra
from timecell.networks.adapters import set_trainable
from timecell.networks.causal_lm import TinyCausal
from timecell.networks.pretrained import load_pretrained

IDS = torch.randint(11, (3, 9), generator=torch.Generator().manual_seed(1))


class Body(nn.Module):
    """As the body of a model of transformers: takes `inputs_embeds`, knows places by `position_ids`."""

    def __init__(self):
        super().__init__()
        tiny = TinyCausal(11, size=8, layers=1, heads=2, context=32)
        self.wpe, self.blocks = tiny.positions, tiny.blocks

    def forward(self, inputs_embeds, attention_mask, use_cache, position_ids=None):
        assert not use_cache
        places = torch.arange(inputs_embeds.shape[1])[None] if position_ids is None else position_ids
        x, out = inputs_embeds + self.wpe(places), torch.zeros_like(inputs_embeds)
        for row, alive in enumerate(attention_mask.bool()):
            out[row, alive] = self.blocks(x[row : row + 1, alive])[0][0]
        return (out,)


class StandIn(nn.Module):
    """The interface of a causal model of transformers."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(hidden_size=8)
        self.base_model, self.wte, self.lm_head = Body(), nn.Embedding(11, 8), nn.Linear(8, 11, bias=False)

    def get_input_embeddings(self):
        return self.wte

    def get_output_embeddings(self):
        return self.lm_head

    def resize_token_embeddings(self, tokens):
        old, self.wte, self.lm_head = self.wte, nn.Embedding(tokens, 8), nn.Linear(8, tokens, bias=False)
        self.wte.weight.data[: len(old.weight)] = old.weight.data

    def logits(self, ids):
        return self.lm_head(self.base_model(self.wte(ids), torch.ones_like(ids), False)[0])


def stand_in():
    with seeded(0):
        return StandIn()


def gpt2():
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    config = transformers.GPT2Config(
        vocab_size=11, n_positions=32, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    with seeded(0):
        return transformers.GPT2LMHeadModel(config).eval()


MODELS = pytest.mark.parametrize("make", [stand_in, gpt2])


@MODELS
def test_it_says_what_the_model_says_and_reads_on(make):
    model = make()
    lm = load_pretrained(model)
    hidden, _ = lm(lm.embed(IDS))
    expected = model.logits(IDS) if make is stand_in else model(IDS).logits
    torch.testing.assert_close(lm.head(hidden), expected)
    first, state = lm(lm.embed(IDS[:, :4]))
    rest, _ = lm(lm.embed(IDS[:, 4:]), state)
    torch.testing.assert_close(torch.cat([first, rest], 1), hidden, rtol=1e-4, atol=1e-5)


@MODELS
def test_padding_takes_no_place(make):
    lm = load_pretrained(make())
    y, state = lm(lm.embed(IDS[:, :4]), lengths=torch.tensor([4, 2, 3]))
    assert (y[1, 2:] == 0).all()
    on, _ = lm(lm.embed(IDS[:, 4:]), state)
    alone, _ = lm(lm.embed(torch.cat([IDS[1:2, :2], IDS[1:2, 4:]], 1)))
    torch.testing.assert_close(on[1], alone[0, 2:], rtol=1e-4, atol=1e-5)


@MODELS
def test_words_of_ones_own(make):
    lm = load_pretrained(make())
    set_trainable(lm, "norm+pos")
    before = lm.embed(IDS).detach().clone()
    assert (lm.tokens, lm.hidden_size, lm.add_tokens(5), lm.tokens) == (11, 8, 11, 16)
    assert torch.equal(lm.embed(IDS), before) and lm.embed(IDS).requires_grad
    assert lm.head(lm(lm.embed(IDS))[0]).shape == (3, 9, 16)


def test_a_folder(tmp_path):
    model = gpt2()
    model.save_pretrained(tmp_path)
    lm = load_pretrained(tmp_path)
    torch.testing.assert_close(lm.head(lm(lm.embed(IDS))[0]), model(IDS).logits)


def test_errors(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="model: found Linear without base_model, config"):
        load_pretrained(nn.Linear(2, 2))
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"timecell\[hf\]"):
        load_pretrained(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "transformers", SimpleNamespace(AutoModelForCausalLM=None))
    with pytest.raises(DataError, match=r"found no config\.json"):
        load_pretrained(tmp_path)
