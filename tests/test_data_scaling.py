"""The scale comes from training data alone, ignores gaps, leaves spikes alone and can be undone."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from timecell.data import Schema, Sequences, Series, Standardise, Windows, by_time, motifs
from timecell.errors import DataError, InputError

numbers = st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e-3, 1e-3)), min_size=2, max_size=30)


def series(values) -> Series:
    values = np.asarray(values, dtype=float)
    return Series(values, Schema("series", tuple(f"x{c}" for c in range(values.shape[1]))))


@given(numbers)
def test_mean_zero_variance_one_and_back(rows):
    data = Sequences.of([np.array(rows)])
    scale = Standardise.fit(data)
    scaled = scale.data(data).values
    for c in range(2):
        varies = scale.std[c] != 1.0
        assert abs(scaled[:, c].mean()) < 1e-3
        assert not varies or scaled[:, c].std() == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(scale.invert(scaled), data.values, rtol=1e-9, atol=1e-9 * np.abs(data.values).max())


def test_constant_channels_keep_their_units():
    data = Sequences.of([np.full((1000, 1), 0.1)])
    scale = Standardise.fit(data)
    assert scale.std.tolist() == [1.0]
    assert np.abs(scale.data(data).values).max() < 1e-12


def test_spike_counts_are_left_as_they_are():
    data = motifs(samples=20).data
    scale = Standardise.fit(data)
    assert scale.mean.tolist() == [0.0] * 20 and scale.std.tolist() == [1.0] * 20
    assert scale.data(data) is data


def test_gaps_have_no_part_and_stay_gaps():
    windows = Windows(series([[1, 5], [np.nan, 5], [3, 5]]), history=2, horizon=1, starts=np.array([0]))
    scale = Standardise.fit(windows)
    assert scale.mean.tolist() == [2, 5] and scale.std.tolist() == [1, 1]
    np.testing.assert_array_equal(scale.data(windows).series.values, [[-1, 0], [np.nan, 0], [1, 0]])


def test_only_training_steps_are_seen():
    values = np.random.default_rng(0).normal(size=(200, 1))
    scale = Standardise.fit(by_time(series(values), 8, 4).train)
    later = values.copy()
    later[130:] = 1e6
    np.testing.assert_array_equal(Standardise.fit(by_time(series(later), 8, 4).train).mean, scale.mean)
    whole = Windows(series(later), 8, 4, np.arange(0, 100))
    assert Standardise.fit(whole).mean[0] == pytest.approx(values[:111].mean())


def test_batches_of_scaled_data_are_padded_with_zeros_and_have_scaled_targets():
    data = Sequences.of([np.array([[4.0], [6.0]]), np.array([[5.0]])])
    batch = Standardise.fit(data).data(data).batch(np.array([0, 1]))
    assert batch.x[1, 1].item() == 0.0
    windows = Windows(series(np.arange(10.0)[:, None]), 3, 2, np.arange(6))
    scale = Standardise.fit(windows)
    scaled, raw = (w.batch(np.array([2])).target for w in (scale.data(windows), windows))
    torch.testing.assert_close(scale.invert(scaled), raw)


def test_tensors_keep_type_and_channels_can_be_chosen():
    scale = Standardise(np.array([1.0, 2.0]), np.array([2.0, 4.0]))
    x = torch.tensor([[3.0, 6.0]], dtype=torch.float64)
    assert scale.apply(x).dtype == torch.float64 and scale.apply(x).tolist() == [[1.0, 1.0]]
    assert scale.apply(x.float()).dtype == torch.float32
    assert scale.channels([1]).invert(torch.ones(3, 1)).tolist() == [[6.0]] * 3
    assert scale.apply(np.float32([[3, 6]])).dtype == np.float32


def test_json_round_trip_is_exact():
    scale = Standardise(np.array([0.1, 1e-17]), np.array([1 / 3, 7e8]))
    back = Standardise.from_json(json.loads(json.dumps(scale.to_json())))
    assert (back.mean == scale.mean).all() and (back.std == scale.std).all()


@pytest.mark.parametrize(
    "config",
    [{}, {"mean": [0.0]}, {"mean": [0], "std": [0]}, {"mean": [0, 1], "std": [1]}, {"mean": ["a"], "std": [1]}],
)
def test_a_damaged_scale_is_refused(config):
    with pytest.raises(DataError, match="lists mean and std"):
        Standardise.from_json(config)


def test_a_channel_without_training_values_is_named():
    windows = Windows(series([[1, np.nan]] * 4 + [[1, 5]]), 2, 1, np.array([0, 1]))
    with pytest.raises(InputError, match="no value of channel 'x1'"):
        Standardise.fit(windows)


def test_schema_of_scaled_data_is_unchanged():
    data = Sequences.of([np.ones((3, 1)), np.zeros((2, 1)) + 5], [0, 1])
    assert Standardise.fit(data).data(data).schema == replace(data.schema)
