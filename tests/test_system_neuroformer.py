"""`neuroformer`: tokens are read in order, the past is attended to, and counts of one's own go in."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from timecell import catalog
from timecell.checkpoint import seeded
from timecell.claims import load_claims, quick, read_terms, terms_file
from timecell.data.containers import Schema, Series
from timecell.data.spikes import SpikeTrains
from timecell.data.synthetic.glm_network import glm_network
from timecell.errors import InputError
from timecell.generate.spikes import write_spikes
from timecell.inference import predict
from timecell.network_system import FittedNetwork
from timecell.networks.spike_models import Decoder, PastSpikes, RateModel, TokenModel
from timecell.rhythm.tokenizers import SpikeTokenizer, SpikeWindows
from timecell.system import Run
from timecell.systems.recordings.claims.neuroformer import mean_rates
from timecell.systems.recordings.neuroformer import Behaviour, Neuroformer, NextToken, fit_tokens, wiring
from timecell.tasks.classify import Classify
from timecell.tasks.likelihood import CoSmoothing
from timecell.testing import check

C, BINS = 24, 5
TOKENIZER = SpikeTokenizer(C)
CLAIMS = load_claims("neuroformer")


@pytest.fixture(scope="module")
def windows():
    return SpikeWindows.of(glm_network(trials=4, seconds=5.0).spikes, TOKENIZER)


def model(history=1, beside=0, units=C, **settings):
    with seeded(0):
        return TokenModel(units, BINS, history, beside, **settings).double().eval()


# --- the model of tokens ---------------------------------------------------------------------------------------------


def test_later_tokens_do_not_change_earlier_scores(windows):
    net, x = model(), windows.batch(np.arange(8)).x.double()
    y, _ = net(x)
    for k in range(1, y.shape[1]):
        later = x.clone()
        later[:, BINS + k :, :2] = 0.0
        assert torch.equal(net(later)[0][:, :k], y[:, :k])
    assert not torch.equal(net(later)[0], y)


def test_the_past_matters_and_its_silence_does_not(windows):
    net, x = model(), windows.batch(np.arange(8)).x.double()
    table = net.past()
    silent = x[:, :BINS, :C].flatten(1) == 0
    changed = net.attention(x).flatten(2)
    assert (changed.masked_select(silent[:, None].expand_as(changed)) == 0).all()
    other = x.clone()
    other[0, :BINS] = 0.0
    other[0, 2, 3] = 1.0
    assert (net(other)[0][0] != net(x)[0][0]).any() and torch.equal(net(other)[0][1:], net(x)[0][1:])
    assert table.shape == (1, BINS * C + 1, 32)


def test_a_count_of_two_is_two_tokens():
    net = model(units=3)
    table = net.past()
    counts = torch.tensor([[[0, 2, 0], [1, 0, 0], *[[0, 0, 0]] * 3]]).double()
    twice = torch.tensor([1, 1, 3, 3 * BINS])  # bin 0 unit 1, twice; bin 1 unit 0; the last row, always there
    block, query = net.to_past[0], torch.randn(1, 4, 32).double()
    one = block(query, table, PastSpikes.mask(counts)[:, None])
    torch.testing.assert_close(one, block(query, table[:, twice]))


def test_units_have_no_order(windows):
    """Renamed units with their embeddings and scores moved along give the same, renamed."""
    net, other = model(), model()
    order = torch.randperm(C, generator=torch.Generator().manual_seed(0))
    back = torch.argsort(order)  # new number of each unit
    with torch.no_grad():
        other.id.weight[:C] = net.id.weight[order]
        other.past.unit.weight.copy_(net.past.unit.weight[order])
        other.next_id.weight[:C], other.next_id.bias[:C] = net.next_id.weight[order], net.next_id.bias[order]
    x = windows.batch(np.arange(8)).x.double()
    renamed = x.clone()
    renamed[:, :BINS] = x[:, :BINS][..., order]
    ids = x[:, BINS:, 0].long()
    renamed[:, BINS:, 0] = torch.where(ids < C, back[ids.clamp(max=C - 1)], ids).double()
    y, z = net(x)[0], other(renamed)[0]
    torch.testing.assert_close(z[..., :C], y[..., :C][..., order])
    torch.testing.assert_close(z[..., C:], y[..., C:])


def test_time_does_not_run_back(windows):
    net, x = model(), windows.batch(np.arange(8)).x.double()
    steps = x[:, BINS:, 1].long()
    probabilities = net(x)[0][..., C + 1 :].softmax(-1)
    for step in range(BINS):
        behind = probabilities[steps == step][:, :step]
        assert (behind == 0).all()
    assert (probabilities[:, 0] > 0).all()


def test_what_is_known_beside_is_heard():
    trains = glm_network(trials=2, seconds=3.0).spikes
    n = len(TOKENIZER.encode(trains))
    windows = SpikeWindows.of(trains, TOKENIZER, beside=np.random.default_rng(0).normal(size=(n, 2)))
    net, x = model(beside=2), windows.batch(np.arange(4)).x.double()
    other = x.clone()
    other[:, BINS:, 3] += 1.0
    assert (net(other)[0] != net(x)[0]).any()


def test_a_window_with_too_many_tokens_is_refused(windows):
    with pytest.raises(InputError, match=r"tokens in a window, expected at most 3"):
        model(longest=3)(windows.batch(np.arange(8)).x.double())


# --- costs -----------------------------------------------------------------------------------------------------------


def test_costs_are_those_of_the_tokens_and_padding_is_free(windows):
    net, task = model().float(), NextToken(C)
    together = predict(net, windows.select(np.arange(12)), task)
    for i in range(12):
        alone = predict(net, windows.select(np.array([i])), task)
        np.testing.assert_allclose(alone[0], together[i], rtol=1e-4)
    ids = windows.tokens.ids[windows.index[:12]]
    assert (together[:, 2] == (ids < C).sum(1) + 1).all()
    score = task.score(together, windows)
    assert score.value == pytest.approx(together[:, :2].sum() / together[:, 2].sum()) and not score.higher_is_better
    assert score.items.mean() == pytest.approx(score.value)


def test_mean_rates_are_the_entropy_of_independent_spikes():
    """On Poisson spikes no model of tokens with this split into ids and steps does better than the tables."""
    rng = np.random.default_rng(0)
    trains = SpikeTrains.of(
        [[rng.uniform(0, 60, rng.poisson(60 * 6.0)) for _ in range(C)] for _ in range(4)], [60.0] * 4
    )
    windows = SpikeWindows.of(trains, TOKENIZER)
    costs = mean_rates(windows.of_trials(np.arange(2)), windows.of_trials(np.arange(2, 4)))
    spikes = 24 * 6.0 * 0.05
    close = 1 / (1 + spikes)
    split = -close * np.log(close) - (1 - close) * np.log((1 - close) / C)  # units at equal rates, EOS at some time
    per_token = costs[:, 0].sum() / costs[:, 2].sum()
    assert split - 0.25 < per_token < split + 0.01  # knowing the bin tells how near the end is


# --- what comes of it ------------------------------------------------------------------------------------------------


def test_learning_lowers_the_cost(windows):
    net, task = model().float(), NextToken(C)
    before = task.score(predict(net, windows, task), windows).value
    fit_tokens(net, windows, Run(updates=25, device="cpu"))
    assert task.score(predict(net, windows, task), windows).value < before - 0.1


def test_wiring_is_the_mean_attention(windows):
    net, some = model().float(), windows.select(np.arange(30))
    found = wiring(net, some)
    batch = some.batch(np.arange(30))
    seen, ids = net.attention(batch.x).detach(), batch.target[..., 0]
    paid, met = np.zeros((C, C)), np.zeros((C, C))
    for b in range(30):
        for k, i in enumerate(ids[b].tolist()):
            for p, j in batch.x[b, :BINS, :C].nonzero().tolist() if i < C else ():
                paid[i, j] += seen[b, k, p, j].item()
                met[i, j] += batch.x[b, p, j].item()
    np.testing.assert_allclose(found[met > 0], (paid / np.maximum(met, 1))[met > 0], rtol=1e-3)
    assert np.isnan(found[met == 0]).all()


def test_what_is_written_is_spikes(windows):
    net, start = model().float(), windows.select(np.arange(6))
    made, again = (write_spikes(net, start, TOKENIZER, windows=4, seed=3) for _ in range(2))
    assert len(made) == 6 and made.end.tolist() == pytest.approx([0.2] * 6) and made.fingerprint == again.fingerprint
    assert write_spikes(net, start, TOKENIZER, windows=4, seed=4).fingerprint != made.fingerprint
    longest = model(longest=5).float()
    counts = [c.reshape(4, BINS, C).sum((1, 2)) for c in write_spikes(longest, start, TOKENIZER, 4).counts(0.01)]
    assert max(c.max() for c in counts) <= 3  # SOS and EOS are two of the five


def test_a_decoder_reads_spikes_only(windows):
    with seeded(0):
        net = Decoder(model().float(), 2).eval()
    labelled = replace(windows, labels=np.zeros((len(windows.tokens), 2)))
    task, some = Behaviour(C), labelled.select(np.arange(10))
    together = predict(net, some, task)
    for i in range(10):
        np.testing.assert_allclose(predict(net, some.select(np.array([i])), task)[0], together[i], rtol=1e-4, atol=1e-6)
    known = replace(some, labels=np.random.default_rng(0).normal(size=(len(windows.tokens), 2)))
    truth = known.labels[known.index]
    assert task.score(truth, known).value == 1.0
    assert task.score(np.full_like(truth, truth.mean()), known).value == pytest.approx(0.0)


# --- counts of one's own ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [RateModel, RateModel(4, 2, bins=1, size=4, heads=1)])
def test_the_model_of_rates_keeps_the_contract_of_cells(cell):
    assert [f"{r.name}: {r.reason}" for r in check(cell) if not r.passed] == []


def driven(steps=3000, seed=0):
    """Unit 1 fires two bins after unit 0; unit 2 for itself."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.1, (steps, 3)).astype(float)
    counts[2:, 1] = rng.poisson(0.02 + 0.9 * counts[:-2, 0])
    return Series(counts, Schema("series", ("a", "b", "c"), spikes=True, lengths=(steps, steps)))


def test_it_predicts_the_next_bin(tmp_path):
    task = CoSmoothing(history=50)
    parts = task.split(driven())
    system = Neuroformer(bins=4, size=8, heads=2)
    fitted = system.fit(parts.train, parts.valid, task, Run(updates=120, device="cpu"))
    scores = task.score(fitted.predict(parts.test), parts.test)
    assert scores.value > 0.3
    assert {"parameters", "updates", "seconds"} <= fitted.report.keys()
    fitted.save(tmp_path)
    again = FittedNetwork.load(tmp_path).predict(parts.test)
    np.testing.assert_array_equal(again.values, fitted.predict(parts.test).values)


def test_it_says_what_it_accepts():
    counts, system = driven().schema, Neuroformer()
    assert system.accepts(counts, CoSmoothing()) is None
    assert system.accepts(counts, Classify()) == "it predicts spike counts (co-smooth); the task is classify"
    assert "the data are sequences" in system.accepts(replace(counts, kind="sequences"), CoSmoothing())
    assert set(system.space()) <= set(Neuroformer.__dataclass_fields__)


# --- its claims ------------------------------------------------------------------------------------------------------


def test_the_card():
    card = catalog.read_card(catalog.find("neuroformer"))
    assert card == Neuroformer.card and (card.n, card.family) == (24, "recordings")


def test_every_claim_has_its_terms():
    for name, claim in CLAIMS.items():
        terms = read_terms(terms_file(catalog.find("neuroformer")), name)
        assert set(terms.margins) == set(claim.margins)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_runs(name):
    assert set(CLAIMS[name].shows.arms) <= quick(CLAIMS[name]).keys()
