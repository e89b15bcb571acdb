"""The data that ship, and generated data, are what their descriptions say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from timecell.data import (
    Sequences,
    describe,
    files,
    load,
    motifs,
    poisson,
    randman,
    render_events,
    spoken_digits,
    taxi,
)
from timecell.errors import InputError


def accuracy(features: np.ndarray, target: np.ndarray, test: np.ndarray) -> float:
    """Test accuracy of logistic regression."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    return model.fit(features[~test], target[~test]).score(features[test], target[test])


def blocks(data: Sequences, width: int, number: int) -> np.ndarray:
    """[N, number * C] spikes in blocks of so many steps, from the start."""
    x = np.zeros((len(data), max(data.schema.lengths[1], width * number), data.values.shape[1]))
    for i in range(len(data)):
        x[i, : data.lengths[i]] = data[i]
    return x[:, : width * number].reshape(len(data), number, width, -1).sum(2).reshape(len(data), -1)


def test_spoken_digits():
    data = spoken_digits()
    assert describe(data) == (
        "3,000 sequences of 9 to 78 steps of 10 ms, 40 channels of spike counts, 10 classes, 6 groups, "
        "split as given (2,700 train, 300 test); labels from 'labels'"
    )
    for digit in range(10):
        for speaker in range(6):
            own = (data.target == digit) & (data.group == speaker)
            assert own.sum() == 50 and (data.part[own] == "test").sum() == 5
    assert 0.02 < (data.values > 0).mean() < 0.05
    assert data.values.any(axis=0).all()
    assert spoken_digits(dt=0.005).values.sum() == data.values.sum()


def test_spoken_digits_say_more_in_time_than_in_counts():
    data = spoken_digits()
    test = data.part == "test"
    counts = accuracy(blocks(data, 100, 1), data.target, test)
    timed = accuracy(blocks(data, 10, 8), data.target, test)
    assert 0.7 < counts < 0.9 and timed > counts + 0.05


def test_taxi():
    series = taxi()
    assert series.values.shape == (10320, 1) and series.schema.channels == ("passengers",)
    assert (series.schema.period, series.values.min(), series.values.max()) == (48, 8, 39197)


def test_shipped_files_are_found_by_name_and_licensed():
    for name, path in files().items():
        text = (path.parent / f"{name}.LICENSE.txt").read_text()
        assert path.name in text and "http" in text and "Changes" in text and len(load(path)) >= 400
    assert sum(path.stat().st_size for path in files().values()) < 1_500_000


@given(st.integers(2, 5), st.integers(1, 8), st.integers(25, 60), st.floats(0, 3), st.integers(0, 99))
def test_without_noise_every_unit_spikes_once_at_its_time(classes, units, steps, jitter, seed):
    data, times = motifs(classes, units, steps, jitter=jitter, noise=0, drop=0, samples=12, seed=seed)
    assert (data.values.reshape(12, steps, units).sum(1) == 1).all()
    assert times.min() >= 0 and times.max() < steps * 2 // 3
    for i in range(12):
        shift = data[i].argmax(0) - times[data.target[i]]
        assert jitter > 0 or (shift.min() == shift.max() and 0 <= shift[0] < 10)


def test_templates_are_shared_between_sets_and_samples_are_not():
    train, test = motifs(samples=50, seed=1), motifs(samples=50, seed=2)
    assert (train.times == test.times).all() and train.data.fingerprint != test.data.fingerprint
    assert motifs(samples=50, seed=1).data.fingerprint == train.data.fingerprint
    assert (motifs(samples=50, template_seed=5).times != train.times).any()


def test_counts_of_motifs_say_nothing_and_times_do():
    data, _ = motifs(classes=4, samples=2000, jitter=1.0)
    test = np.arange(2000) >= 1500
    assert accuracy(blocks(data, 60, 1), data.target, test) < 0.25 + 4 * (0.25 * 0.75 / 500) ** 0.5
    assert accuracy(blocks(data, 6, 10), data.target, test) > 0.7


def test_noise_and_drop_have_their_rates():
    data, _ = motifs(units=50, steps=100, noise=0.05, drop=0.3, samples=400)
    expected = 0.05 + 0.95 * 0.7 / 100
    assert data.values.mean() == pytest.approx(expected, rel=0.01) and data.values.max() == 1
    assert np.bincount(data.target).tolist() == [40] * 10


def test_poisson_has_its_rates_and_no_time_course():
    rates = np.array([[0.1, 2.0], [0.5, 0.0]])
    data = poisson(rates, steps=200, samples=200, seed=4)
    for k in range(2):
        x = np.stack([data[i] for i in np.flatnonzero(data.target == k)])
        assert np.allclose(x.mean((0, 1)), rates[k], atol=0.05)
        assert np.allclose(x.var((0, 1)), rates[k], atol=0.1)
        assert np.allclose(x[:, :100].mean((0, 1)), x[:, 100:].mean((0, 1)), atol=0.1)


@given(st.integers(1, 3), st.integers(0, 99))
def test_randman_spikes_once_and_smoothly_in_its_place(dimensions, seed):
    data, place = randman(
        classes=3, units=6, steps=200, dimensions=dimensions, roughness=2, samples=90, seed=seed, manifold_seed=seed
    )
    x = data.values.reshape(90, 200, 6)
    assert (x.sum(1) == 1).all() and place.shape == (90, dimensions) and place.min() >= 0 and place.max() <= 1
    assert np.bincount(data.target).tolist() == [30] * 3
    time = x.argmax(1) / 200
    apart = np.linalg.norm(place[:, None] - place[None], axis=-1)
    near = (apart < 0.02) & (data.target[:, None] == data.target)
    assert np.abs(time[:, None] - time[None])[near].max() < 0.5


def test_randman_is_seeded_and_its_classes_differ_in_time_only():
    train, test = randman(samples=50, seed=1), randman(samples=50, seed=2)
    assert train.data.fingerprint == randman(samples=50, seed=1).data.fingerprint != test.data.fingerprint
    data, _ = randman(classes=4, samples=2000, smoothness=3.0)
    held = np.arange(2000) >= 1500
    assert accuracy(blocks(data, 50, 1), data.target, held) < 0.25 + 4 * (0.25 * 0.75 / 500) ** 0.5
    assert accuracy(blocks(data, 5, 10), data.target, held) > 0.7


@given(st.integers(2, 6), st.floats(0.05, 2.0), st.integers(0, 99))
def test_rendered_events_stand_for_the_film_within_a_threshold(steps, threshold, seed):
    film = np.random.default_rng(seed).uniform(0, 1, (steps, 3, 4)) ** 3
    film[1, 0, 0] = 100.0  # at least one event
    stream, level = render_events(film, rate=50.0, threshold=threshold)
    log = np.log(film + 1e-3)
    assert np.abs(level - log).max() < threshold * (1 + 1e-9)
    again = log[0].copy()
    for x, y, p in zip(stream.x, stream.y, stream.p):
        again[y, x] += threshold * (2 * p - 1)
    np.testing.assert_allclose(again, level[-1], atol=1e-9)
    assert stream.t.min() >= 0 and stream.t.max() <= (steps - 1) / 50.0 * 1e6 and stream.size == (3, 4)
    assert stream.frames(dt=0.01).sum() == len(stream)


def test_an_event_lies_where_a_steady_change_crosses_its_level():
    film = np.exp(np.linspace(0, 1, 11))[:, None, None] - 1e-3
    stream, _ = render_events(film, rate=10.0, threshold=0.25)
    np.testing.assert_allclose(stream.t[:3], [250_000, 500_000, 750_000], atol=2)
    rested, _ = render_events(film, rate=10.0, threshold=0.25, refractory=0.4)
    np.testing.assert_allclose(rested.t[:2], [250_000, 750_000], atol=2)


def test_noise_of_a_camera_has_its_rate():
    film = np.ones((11, 20, 20))
    stream, level = render_events(film, rate=10.0, noise=5.0, seed=3)
    assert len(stream) == pytest.approx(2000, abs=4 * 2000**0.5) and not np.ptp(level)
    assert len(render_events(film, rate=10.0, noise=5.0, seed=3).stream) == len(stream)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: randman(dimensions=0), "dimensions"),
        (lambda: randman(steps=1), "steps"),
        (lambda: render_events(np.ones((1, 2, 2)), 10.0), "frames"),
        (lambda: render_events(-np.ones((2, 2, 2)), 10.0), "frames"),
        (lambda: render_events(np.ones((2, 2, 2)), 10.0), "threshold"),
        (lambda: render_events(np.ones((2, 2, 2)), 0.0), "rate"),
        (lambda: render_events(np.ones((2, 2, 2)), 1.0, noise=-1.0), "noise"),
        (lambda: motifs(steps=24), "steps"),
        (lambda: motifs(classes=1), "classes"),
        (lambda: motifs(drop=1.5), "drop"),
        (lambda: motifs(jitter=-1.0), "jitter"),
        (lambda: poisson(np.array([[-1.0]])), "rates"),
        (lambda: poisson(np.ones((1, 1)), steps=0), "steps"),
    ],
)
def test_generators_check_their_arguments(call, word):
    with pytest.raises(InputError, match=word):
        call()


@pytest.mark.parametrize(
    ("samples", "target", "named"),
    [
        ([np.ones((3, 1)), np.ones((0, 1))], [0, 1], "samples[1]"),
        ([np.ones((3, 1))] * 2, ["yes", "no"], "class indices"),
        ([np.ones((3, 1))] * 2, [-1, 0], "class indices"),
        ([np.ones((3, 1))] * 2, [0], "1 labels"),
    ],
)
def test_samples_without_steps_and_labels_that_are_no_indices_are_refused(samples, target, named):
    with pytest.raises(InputError) as error:
        Sequences.of(samples, target)
    assert named in str(error.value)
