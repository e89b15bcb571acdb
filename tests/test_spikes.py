"""Spike trains, generated networks, tokens, contrast, and recovered edges."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timecell.data.spikes import SpikeTrains
from timecell.data.synthetic.glm_network import glm_network
from timecell.errors import InputError
from timecell.lens.edges import edge_recovery
from timecell.losses.contrastive import info_nce
from timecell.rhythm.tokenizers import SpikeTokenizer, SpikeWindows


def trains(seed=0, trials=3, units=4, seconds=1.0, rate=20.0):
    rng = np.random.default_rng(seed)
    end = seconds * rng.uniform(0.5, 1.0, trials)
    times = [[rng.uniform(0, e, rng.poisson(rate * e)) for _ in range(units)] for e in end]
    return SpikeTrains.of(times, end)


# --- trains ----------------------------------------------------------------------------------------------------------


def test_units_keep_their_times():
    rng = np.random.default_rng(0)
    times = [[rng.uniform(0, 1, n) for n in (3, 0, 5)], [rng.uniform(0, 1, n) for n in (0, 0, 1)]]
    made = SpikeTrains.of(times, [1.0, 2.0], ("a", "b", "c"))
    for trial in range(2):
        for unit in range(3):
            assert made.of_unit(trial, unit).tolist() == sorted(times[trial][unit])
    assert made.rates.tolist() == [1.0, 0.0, 2.0]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=3), min_size=1, max_size=9), min_size=1, max_size=4),
    st.sampled_from([0.001, 0.01, 0.02, 0.3]),
)  # fmt: skip
def test_counts_come_back(trials, dt):
    counts = [np.array(c) for c in trials]
    back = SpikeTrains.from_counts(counts, dt).counts(dt)
    assert len(back) == len(counts) and all((a == b).all() for a, b in zip(back, counts))


def test_every_spike_is_counted_once_and_silence_too():
    made = trains()
    for dt in (0.001, 0.01, 0.25):
        counts = made.counts(dt)
        assert [len(c) for c in counts] == [int(np.ceil(e / dt - 1e-6)) for e in made.end]
        assert sum(int(c.sum()) for c in counts) == len(made.times)
    assert made.sequences(0.01).schema.rate == 100.0 and made.sequences(0.01).schema.spikes
    series = made.series(0.01, trial=1)
    assert (series.values == made.counts(0.01)[1]).all() and series.schema.kind == "series"


def test_trials_are_selected():
    made = trains()
    some = made.select(np.array([2, 0]))
    assert some.end.tolist() == made.end[[2, 0]].tolist()
    assert some.of_unit(0, 1).tolist() == made.of_unit(2, 1).tolist()
    assert some.fingerprint != made.fingerprint == trains().fingerprint


@pytest.mark.parametrize(
    "change, names",
    [
        ({"times": np.array([0.2, 0.1])}, ["times[1]", "0.1 s", "not before"]),
        ({"times": np.array([0.1, 1.5])}, ["times[1]", "1.5 s", "within its trial"]),
        ({"times": np.array([0.1, np.nan])}, ["times[1]", "nan"]),
        ({"times": np.array([-0.1, 0.5])}, ["times[0]"]),
        ({"units": np.array([0, 2])}, ["units[1]", "found 2", "0 to 1"]),
        ({"units": np.array([0])}, ["1 units", "2 times"]),
        ({"offsets": np.array([0, 1])}, ["offsets", "0 to 1"]),
    ],
)
def test_broken_trains_are_refused(change, names):
    fine = {"times": np.array([0.1, 0.2]), "units": np.array([0, 1]), "offsets": np.array([0, 2])}
    SpikeTrains(**fine, end=np.array([1.0]), names=("a", "b"))
    with pytest.raises(InputError) as error:
        SpikeTrains(**fine | change, end=np.array([1.0]), names=("a", "b"))
    assert all(name in str(error.value) for name in names)


def test_a_trial_may_begin_before_the_last_one_ended():
    SpikeTrains(np.array([0.9, 0.1]), np.array([0, 0]), np.array([0, 1, 2]), np.ones(2), ("a",))


@pytest.mark.parametrize("bad", [[np.zeros(3)], [np.array([[-1]])], [np.array([[0.5]])], [np.array([[np.nan]])]])
def test_broken_counts_are_refused(bad):
    with pytest.raises(InputError, match=r"^counts\[0\]"):
        SpikeTrains.from_counts(bad, 0.01)
    with pytest.raises(InputError, match=r"^trials: found trials of \[1, 2\] units"):
        SpikeTrains.of([[np.zeros(0)], [np.zeros(0), np.zeros(0)]], [1.0, 1.0])


# --- a network whose wires are known ---------------------------------------------------------------------------------


def test_wires_are_what_was_asked_for():
    net = glm_network(trials=1, seconds=0.5, inhibitory=0.5, wiring_seed=3)
    wires = net.weights != 0
    assert not (wires & wires.T).any() and not wires.diagonal().any()
    assert (wires[4:, :4].sum(1) == 2).all() and not wires[:4].any()
    assert wires[4:, 4:].sum() == round(2 * 0.04 * 190) and (net.weights < 0).any()
    assert ((net.delays > 0) == wires).all() and net.delays[wires].min() >= 0.010 and net.delays.max() <= 0.040


def test_a_spike_acts_after_its_delay_and_only_then():
    net = glm_network(6, 1, parents=1, extra=0.0, strength=4.0, trials=20, seconds=20.0, wiring_seed=1)
    counts = np.stack(net.spikes.counts(net.dt)).astype(float)
    for i in range(1, 6):
        lag = round(net.delays[i, 0] / net.dt)
        follows = [(counts[:, k:, i] * counts[:, : counts.shape[1] - k, 0]).mean() for k in range(1, 11)]
        others = [f for k, f in enumerate(follows, 1) if k != lag]
        assert int(np.argmax(follows)) + 1 == lag and follows[lag - 1] > 4 * np.mean(others)


def test_rates_and_speed():
    net = glm_network(trials=20, seconds=20.0, gain=0.8)
    assert (net.spikes.rates > 0.7 * 5).all() and (net.spikes.rates < 1.1 * 8).all()
    assert abs(net.speed.mean()) < 0.15 and 0.9 < net.speed.std() < 1.1
    assert ((net.gains != 0).sum(), net.gains.sum()) == (12, 0.0)
    counts = np.stack(net.spikes.counts(net.dt))
    steps = np.stack([np.corrcoef(counts[..., u].ravel(), net.speed.ravel())[0, 1] for u in range(24)])
    assert (steps[net.gains > 0] > 0.05).all() and (steps[net.gains < 0] < -0.05).all()


def test_one_seed_one_network():
    one, two, other = (glm_network(trials=2, seconds=1.0, seed=s, wiring_seed=1) for s in (5, 5, 6))
    assert one.spikes.fingerprint == two.spikes.fingerprint != other.spikes.fingerprint
    assert (one.weights == other.weights).all() and (one.speed != other.speed).any()


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("hubs", {"hubs": 24}), ("parents", {"parents": 5}), ("extra", {"extra": 1.5}), ("rates", {"rates": (9.0, 5.0)}),
        ("delays", {"delays": (0.001, 0.04)}), ("trials", {"trials": 0}), ("seconds", {"seconds": 0.0}),
    ],
)  # fmt: skip
def test_networks_that_cannot_be(name, arguments):
    with pytest.raises(InputError, match=f"^{name}: "):
        glm_network(**arguments)


# --- tokens ----------------------------------------------------------------------------------------------------------

TOKENIZER = SpikeTokenizer(4, window=0.05, dt=0.01)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.01, 0.02, 0.05, 0.1]), st.integers(1, 5))
def test_tokens_come_back_up_to_the_bin(seed, dt, bins):
    tokenizer = SpikeTokenizer(4, window=bins * dt, dt=dt)
    made = trains(seed)
    tokens = tokenizer.encode(made, seed)
    back = tokenizer.decode(tokens)
    assert all((a == b).all() for a, b in zip(back.counts(dt), made.counts(dt)))
    for trial in range(len(made)):
        for unit in range(4):
            gap = np.abs(back.of_unit(trial, unit) - made.of_unit(trial, unit))
            assert (gap <= dt).all()


def test_every_window_is_opened_and_closed():
    tokens = TOKENIZER.encode(trains())
    eos, sos, pad = TOKENIZER.special
    assert (tokens.ids[:, 0] == sos[0]).all() and ((tokens.ids == eos[0]).sum(1) == 1).all()
    assert ((tokens.ids == eos[0]) == (tokens.steps == eos[1])).all()
    for ids, steps in zip(tokens.ids, tokens.steps):
        close = int((ids == eos[0]).argmax())
        assert (ids[1:close] < 4).all() and (np.diff(steps[1:close]) >= 0).all() and (ids[close + 1 :] == pad[0]).all()


def test_spikes_at_one_time_come_in_random_order():
    made = SpikeTrains.of([[np.array([0.012])] * 4], [0.05])
    orders = {tuple(TOKENIZER.encode(made, seed).ids[0, 1:5]) for seed in range(30)}
    assert len(orders) > 10
    assert (TOKENIZER.encode(made, 3).ids == TOKENIZER.encode(made, 3).ids).all()


def test_the_past_never_overlaps_the_window():
    made = trains(trials=2, rate=40.0)
    windows = SpikeWindows.of(made, TOKENIZER, history=2)
    tokens = windows.tokens
    assert (tokens.window[windows.index] >= 2).all()
    for row, b in zip(windows.index[:20], range(20)):
        batch = windows.batch(np.array([b]))
        counts = made.counts(0.01)[tokens.trial[row]]
        start = 5 * tokens.window[row]
        assert (batch.x[0, :10, :4].numpy() == counts[start - 10 : start]).all()
        spikes = batch.target[0][:-1]
        assert len(spikes) == counts[start : start + 5].sum() and batch.target[0, -1].tolist() == [4, 5]
        assert torch.equal(batch.x[0, 11:, :2].long(), spikes) and batch.x[0, 10, :2].tolist() == [5, 6]


def test_what_is_known_beside_and_labels():
    made = trains(trials=2)
    n = len(TOKENIZER.encode(made))
    windows = SpikeWindows.of(made, TOKENIZER, beside=np.arange(n)[:, None] * np.ones(3))
    batch = windows.batch(np.arange(3))
    assert (batch.x[:, 5:, 2:5] == torch.from_numpy(windows.index[:3])[:, None, None]).all()
    assert windows.of_trials(np.array([1])).tokens.trial[windows.of_trials(np.array([1])).index].tolist().count(0) == 0


@pytest.mark.parametrize(
    "call, names",
    [
        (lambda: SpikeTokenizer(4, 0.05, 0.02), ["window", "0.05 s in bins of 0.02 s"]),
        (lambda: SpikeTokenizer(0), ["units"]),
        (lambda: SpikeTokenizer(3).encode(trains()), ["trains", "4 units", "3"]),
        (lambda: SpikeWindows.of(trains(), TOKENIZER, history=40), ["trains", "41 or more"]),
        (lambda: SpikeWindows.of(trains(), TOKENIZER, beside=np.zeros((2, 1))), ["beside", "2 rows"]),
    ],
)
def test_tokens_that_cannot_be(call, names):
    with pytest.raises(InputError) as error:
        call()
    assert all(name in str(error.value) for name in names)


def test_sentences_that_are_none_are_refused():
    tokens = TOKENIZER.encode(trains())
    tokens.ids[3, tokens.ids[3] == 4] = 6
    with pytest.raises(InputError, match="tokens, window 3"):
        TOKENIZER.decode(tokens)


# --- contrast --------------------------------------------------------------------------------------------------------


def test_contrast_is_the_cross_entropy_of_finding_the_partner():
    a, b = torch.randn(5, 3), torch.randn(5, 3)
    similar = torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=2) / 0.3
    truth = torch.arange(5)
    cross = torch.nn.functional.cross_entropy
    torch.testing.assert_close(info_nce(a, b, 0.3), (cross(similar, truth) + cross(similar.T, truth)) / 2)
    torch.testing.assert_close(info_nce(a, b, 0.3), info_nce(7 * a, b, 0.3))


def test_twins_are_no_strangers():
    a = torch.eye(3)[[0, 0, 1]]
    twins = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    assert info_nce(a, a, 0.05, twins) < info_nce(a, a, 0.05) + 0.1
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(info_nce(a[order], a[order], 0.05, twins[order][:, order]), info_nce(a, a, 0.05, twins))
    with pytest.raises(InputError, match=r"^positives: "):
        info_nce(a, a, positives=torch.zeros(3, 3, dtype=torch.bool))
    with pytest.raises(InputError, match=r"^b: found shape \[2, 3\]"):
        info_nce(a, a[:2])


# --- edges -----------------------------------------------------------------------------------------------------------


def test_recovery_of_edges_by_hand():
    truth = np.array([[0, 1, 0], [0, 0, 0], [1, 0, 0]], bool)  # 1 -> 0 and 0 -> 2
    scores = np.array([[9.0, 5.0, 1.0], [2.0, 9.0, 4.0], [1.0, 3.0, 9.0]])
    found = edge_recovery(scores, truth)
    assert found.auc == pytest.approx((4 + 0.5) / 8) and found.precision == 0.5 and found.chance == pytest.approx(1 / 3)
    assert found.direction == pytest.approx((1 + 0.5) / 2)


def test_chance_and_the_unknown():
    rng = np.random.default_rng(0)
    truth = rng.random((60, 60)) < 0.1
    assert abs(edge_recovery(rng.random((60, 60)), truth).auc - 0.5) < 0.05
    assert edge_recovery(np.ones((60, 60)), truth).auc == 0.5
    assert edge_recovery(np.where(truth, np.nan, 0.0), truth).auc == 0.0
    with pytest.raises(InputError, match=r"^edges: found 0 edges among 6 pairs"):
        edge_recovery(np.ones((3, 3)), np.eye(3, dtype=bool))
    with pytest.raises(InputError, match=r"^scores: "):
        edge_recovery(np.ones((3, 2)), np.eye(3, dtype=bool))
