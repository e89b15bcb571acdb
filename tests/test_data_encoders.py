"""Each code can be read back: rates in the limit, latencies and level crossings within their resolution."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from timecell.data import delta, direct, filterbank_spikes, latency, level_crossing, log_latency, population, rate
from timecell.errors import InputError

values = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=8)
walks = st.lists(st.floats(-100, 100), min_size=1, max_size=30)


def tone(frequency: float, seconds: float = 0.3, silence: float = 0.1, hz: int = 8000) -> np.ndarray:
    wave = np.sin(2 * np.pi * frequency * np.arange(int(seconds * hz)) / hz)
    return np.concatenate([np.zeros(int(silence * hz)), wave, np.zeros(int(silence * hz))])


@given(values, st.integers(1, 5))
def test_direct_repeats(x, steps):
    x = torch.tensor([x])
    assert torch.equal(direct(x, steps), torch.stack([x] * steps, dim=1))


def test_rate_tends_to_the_value_and_repeats_with_its_generator():
    x = torch.linspace(0, 1, 11)[None]
    draw = lambda seed: rate(x, 20_000, torch.Generator().manual_seed(seed))  # noqa: E731
    spikes = draw(0)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(spikes.mean(1), x, atol=5 * 0.5 / 20_000**0.5, rtol=0)
    assert torch.equal(spikes, draw(0)) and not torch.equal(spikes, draw(1))


@given(values, st.integers(2, 40))
def test_latency_decodes_to_within_half_a_step(x, steps):
    x = torch.tensor([x])
    spikes = latency(x, steps)
    assert ((spikes.sum(1) == 1) == (x > 0)).all()
    decoded = torch.where(x > 0, 1 - spikes.argmax(1) / (steps - 1), 0.0)
    assert (decoded - x).abs().max() <= 0.5 / (steps - 1) + 1e-5


def test_latency_is_earlier_for_larger_values():
    first = latency(torch.tensor([[0.2, 0.5, 1.0]]), 11).argmax(1)[0]
    assert first.tolist() == [8, 5, 0]


@given(walks, st.floats(0.1, 50))
def test_delta_reconstructs_within_one_threshold(walk, threshold):
    x = torch.tensor(walk, dtype=torch.float64)[:, None]
    code = delta(x, threshold)
    on, off = code.chunk(2, dim=-1)
    assert (code >= 0).all() and (on * off == 0).all() and (code == code.round()).all()
    again = x[0] + threshold * (on - off).cumsum(0)
    assert (again - x).abs().max() < threshold * (1 + 1e-6) + 1e-9


def test_delta_handles_batches_and_channels_apart():
    x = torch.randn(3, 7, 2, generator=torch.Generator().manual_seed(0))
    code = delta(x, 0.5)
    assert code.shape == (3, 7, 4)
    assert torch.equal(code[1, :, [1, 3]], delta(x[1, :, 1:], 0.5))


@given(walks, st.floats(0.1, 50))
def test_level_crossings_tell_between_which_levels_the_signal_is(walk, spacing):
    x = torch.tensor(walk, dtype=torch.float64)[:, None]
    levels = spacing * torch.arange(-1002, 1003, dtype=torch.float64)
    code = level_crossing(x, levels)
    on, off = code.chunk(2, dim=-1)
    assert (code >= 0).all() and (on * off == 0).all() and not code[0].any()
    at = ((levels <= x[0]).sum() + (on - off).cumsum(0) - 1).long()
    assert (levels[at] <= x).all() and (x < levels[at + 1]).all()
    assert ((x - levels[at]) < spacing * (1 + 1e-9)).all()


def test_level_crossing_handles_batches_uneven_levels_and_touches():
    x = torch.tensor([[[0.0, 5.0], [1.0, 0.0]], [[9.0, 1.0], [0.9, 1.0]]])
    code = level_crossing(x, torch.tensor([1.0, 4.0]))
    assert code.tolist() == [[[0, 0, 0, 0], [1, 0, 0, 2]], [[0, 0, 0, 0], [0, 0, 2, 0]]]


@given(values, st.integers(1, 40), st.floats(0.5, 20), st.floats(0.001, 0.3))
@example([0.21387800574302673], 19, 1.0, 0.21387800309929023)  # a crossing 3e-9 above the threshold
def test_log_latency_is_the_first_passage_of_a_leaky_integrator(x, steps, tau, threshold):
    x = torch.tensor([x], dtype=torch.float64)
    spikes = log_latency(x, steps, tau=tau, threshold=threshold)
    count = spikes.sum(1)
    assert set(spikes.unique().tolist()) <= {0.0, 1.0} and (count <= 1).all() and not count[x <= threshold].any()
    step = spikes.argmax(1).double()  # as exact as the inputs: in single precision 1 - exp(-17.5) is 1
    membrane = lambda t: x * (1 - torch.exp(-t.clamp(min=0) / tau))  # noqa: E731
    fired = count > 0
    assert (membrane(step + 0.5) >= threshold - 1e-9)[fired].all()
    assert ((membrane(step - 0.5) <= threshold + 1e-9) | (step == 0))[fired].all()
    late = (x > threshold) & ~fired
    assert (membrane(torch.full_like(x, steps - 0.5)) <= threshold + 1e-9)[late].all()


def test_population_responses_peak_at_the_nearest_unit():
    x = torch.linspace(0, 1, 21)[:, None]
    code = population(x, 5)
    assert code.shape == (21, 5) and code.min() >= 0 and code.max() == 1
    assert code.argmax(1)[::5].tolist() == [0, 1, 2, 3, 4]
    two = population(torch.tensor([[0.1, 0.9]]), 4)
    assert torch.allclose(two[0, :4], two[0, 4:].flip(0))


def test_the_ear_hears_pitch_onset_and_silence():
    low, high = (filterbank_spikes(tone(f), 8000) for f in (300.0, 2500.0))
    for times, units in (low, high):
        assert len(times) > 5 and (np.diff(times) >= 0).all() and times.min() >= 0.09 and times.max() < 0.5
        assert units.min() >= 0 and units.max() < 40
    assert np.median(low[1]) < 15 < 25 < np.median(high[1])
    assert len(filterbank_spikes(np.zeros(4000), 8000)[0]) == 0


def test_the_ear_adapts_and_ignores_loudness():
    times, units = filterbank_spikes(tone(1000.0, seconds=0.6), 8000)
    interval = np.diff(times[units == np.bincount(units).argmax()])
    assert interval[0] < 0.5 * interval[-1]
    loud = filterbank_spikes(1000 * tone(1000.0, seconds=0.6), 8000)
    assert all(np.array_equal(a, b) for a, b in zip((times, units), loud))


def test_more_channels_and_another_rate():
    times, units = filterbank_spikes(tone(5000.0, hz=16000), 16000, channels=64)
    assert 40 < np.median(units) < 64 and np.allclose(times * 1000, np.round(times * 1000))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: rate(torch.tensor([[1.5]]), 3), ["x", "1.5 to 1.5", "0 to 1"]),
        (lambda: latency(torch.tensor([[-0.5]]), 3), ["x", "-0.5"]),
        (lambda: rate(torch.tensor([[float("nan")]]), 3), ["x", "nan"]),
        (lambda: latency(torch.tensor([[0.5]]), 1), ["steps", "1"]),
        (lambda: direct(torch.zeros(1, 1), 0), ["steps", "0"]),
        (lambda: delta(torch.zeros(3, 1), 0.0), ["threshold", "0.0"]),
        (lambda: delta(torch.tensor([[float("nan")]]), 1.0), ["x", "not finite"]),
        (lambda: level_crossing(torch.zeros(3, 1), torch.tensor([1.0, 1.0])), ["levels", "[1.0, 1.0]", "ascending"]),
        (lambda: level_crossing(torch.tensor([[float("inf")]]), torch.tensor([1.0])), ["x", "not finite"]),
        (lambda: log_latency(torch.tensor([[1.5]]), 3), ["x", "1.5"]),
        (lambda: log_latency(torch.tensor([[0.5]]), 3, tau=0.0), ["tau", "0.0"]),
        (lambda: population(torch.tensor([[0.5]]), 1), ["units", "1"]),
        (lambda: population(torch.tensor([[-0.5]]), 3), ["x", "-0.5"]),
        (lambda: filterbank_spikes(np.zeros((2, 100)), 8000), ["wave", "(2, 100)", "one axis"]),
        (lambda: filterbank_spikes(np.zeros(3), 8000), ["wave", "millisecond"]),
    ],
)
def test_what_cannot_be_encoded_is_refused(call, words):
    with pytest.raises(InputError) as caught:
        call()
    assert all(word in str(caught.value) for word in [*words, "Remedy: "])
