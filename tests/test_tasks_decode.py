"""Decoding and co-smoothing: every step scored once, nothing from the future, honest zero points, baselines that find what is there."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timecell.data.containers import Schema, Series
from timecell.data.scaling import Standardise
from timecell.data.stretches import Stretches, by_stretches
from timecell.errors import InputError
from timecell.system import Run
from timecell.tasks.decode import Decode
from timecell.tasks.decoders import MeanRate, MeanTarget, PoissonRegression, WienerFilter
from timecell.tasks.likelihood import CoSmoothing
from timecell.tasks.predictions import Decoded, Rates

RUN = Run(device="cpu")


def reach(steps=800, seed=0):
    """A position, and two noisy sensors of it of which one is late."""
    rng = np.random.default_rng(seed)
    position = np.convolve(rng.normal(size=steps + 20), np.ones(20) / 20, "valid")[:steps]
    sensors = [position + 0.1 * rng.normal(size=steps), np.roll(position, 3) + 0.1 * rng.normal(size=steps)]
    values = np.stack([sensors[0], 40 + 10 * position, sensors[1]], axis=1)
    return Series(values, Schema("series", ("s0", "position", "s1"), rate=100.0))


def population(steps=3000, seed=0):
    """Unit b follows unit a by one bin; unit c fires on its own."""
    rng = np.random.default_rng(seed)
    a = rng.random(steps) < 0.2
    b = np.roll(a, 1) & (rng.random(steps) < 0.8)
    c = rng.random(steps) < 0.1
    return Series(np.stack([a, b, c], axis=1).astype(float), Schema("series", ("a", "b", "c"), spikes=True))


# --- stretches --------------------------------------------------------------------------------------------------------


@given(st.integers(40, 300), st.integers(1, 8), st.integers(0, 9), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_every_step_is_the_target_of_one_stretch(steps, length, warm, lag):
    series = Series(np.arange(2.0 * steps).reshape(steps, 2), Schema("series", ("x", "y")))
    try:
        parts = by_stretches(series, (0,), (1,), length, warm=warm, lag=lag)
    except InputError:
        return
    found = []
    for part in (parts.train, parts.valid, parts.test):
        batch = part.batch(np.arange(len(part)))
        assert batch.x.shape[1] == batch.target.shape[1] == warm + length
        counted = ~batch.target.isnan()
        found += batch.target[counted].tolist()
        assert batch.target[counted].numpy() == pytest.approx(part.truth()[~np.isnan(part.truth())])
        seen = batch.x[counted & (batch.x != 0)]
        target = batch.target[counted & (batch.x != 0)]
        assert (target - seen == 1 + 2 * lag).all()  # the input is the step that lies `lag` before the target
    assert found == series.values[:, 1].tolist()


def test_a_part_knows_nothing_of_what_comes_after_it():
    series = reach()
    parts = Decode(("position",)).split(series)
    changed = series.values.copy()
    changed[parts.valid.covered.stop :] = np.nan
    again = Decode(("position",)).split(Series(np.nan_to_num(changed, nan=7.0), series.schema))
    assert again.valid.fingerprint == parts.valid.fingerprint and again.train.fingerprint == parts.train.fingerprint


def test_gaps_are_filled_in_inputs_and_not_scored_in_targets():
    values = np.arange(12.0).reshape(6, 2)
    values[2, 0] = values[3, 1] = np.nan
    data = Stretches(Series(values, Schema("series", ("x", "y"))), (0,), (1,), np.array([0]), length=6, stop=6)
    batch = data.batch(np.array([0]))
    assert batch.x[0, :, 0].tolist() == [0, 2, 2, 6, 8, 10] and batch.target[0, 3, 0].isnan()
    assert np.isfinite(Decode(("y",)).score(Decoded(np.zeros((1, 6, 1))), data).value)


def test_the_scale_is_measured_on_the_part_alone():
    series = reach()
    parts = Decode(("position",)).split(series)
    scale = Standardise.fit(parts.train)
    assert scale.mean == pytest.approx(parts.train.series.values[parts.train.covered].mean(0))
    batch = scale.data(parts.test).batch(np.arange(1))
    assert abs(float(batch.x.mean())) < 3 and batch.x.shape[2] == 2


# --- decode -----------------------------------------------------------------------------------------------------------


def test_r2_has_its_zero_at_the_mean_and_its_one_at_the_truth():
    parts = Decode(("position",)).split(reach())
    task, truth = Decode(("position",)), parts.test.truth()
    mean = np.full(truth.shape, np.nanmean(truth))
    assert task.score(Decoded(np.nan_to_num(truth)), parts.test).value == pytest.approx(1)
    assert task.score(Decoded(mean), parts.test).value == pytest.approx(0, abs=1e-9)
    scores = task.score(Decoded(mean + np.random.default_rng(0).normal(size=truth.shape)), parts.test)
    assert np.mean(scores.items) == pytest.approx(scores.value) and scores.value < 0


def test_the_wiener_filter_finds_what_the_mean_does_not():
    task = Decode(("position",))
    parts = task.split(reach())
    score = {
        type(system): task.score(system.fit(parts.train, parts.valid, task, RUN).predict(parts.test), parts.test).value
        for system in task.baselines()
    }
    assert score[MeanTarget] < 0.05 and score[WienerFilter] > 0.7


def test_a_causal_answer_does_not_change_when_the_future_does(tmp_path):
    task = Decode(("position",))
    series = reach()
    parts = task.split(series)
    fitted = WienerFilter().fit(parts.train, parts.valid, task, RUN)
    before = fitted.predict(parts.test).values
    later = series.values.copy()
    later[-10:] += 100
    after = fitted.predict(task.split(Series(later, series.schema)).test).values
    flat, changed = before.reshape(-1), after.reshape(-1)
    T = len(series) - parts.test.covered.start
    assert (flat[: T - 10] == changed[: T - 10]).all() and (flat[T - 10 : T] != changed[T - 10 : T]).all()
    fitted.save(tmp_path)
    assert (type(fitted).load(tmp_path).predict(parts.test).values == before).all()


def test_networks_decode_in_the_units_of_the_series():
    from timecell.controls import GatedNet

    task = Decode(("position",))
    parts = task.split(reach())
    fitted = GatedNet(hidden=8).fit(parts.train, parts.valid, task, Run(updates=150, device="cpu"))
    assert task.score(fitted.predict(parts.test), parts.test).value > 0.3


def test_slices_of_the_loss_add_up():
    for task, series in ((Decode(("position",)), reach()), (CoSmoothing(), population())):
        train = task.split(series).train
        batch = train.batch(np.arange(3))
        y = torch.randn(3, batch.x.shape[1], task.outputs(train), generator=torch.Generator().manual_seed(0))
        cut = batch.x.shape[1] // 2 + 3
        whole = task.loss(y, batch, slice(0, y.shape[1]))
        parts = task.loss(y[:, :cut], batch, slice(0, cut)) + task.loss(y[:, cut:], batch, slice(cut, y.shape[1]))
        assert parts.item() == pytest.approx(whole.item(), rel=1e-5)


@pytest.mark.parametrize(("targets", "found"), [((), "none"), (("s0", "position", "s1"), "s0, position, s1")])
def test_some_channels_must_be_targets_and_some_inputs(targets, found):
    with pytest.raises(InputError, match=found):
        Decode(targets).split(reach())
    with pytest.raises(InputError, match="did you mean 'position'"):
        Decode(("positon",)).split(reach())


# --- co-smoothing -----------------------------------------------------------------------------------------------------


def test_bits_per_spike_against_a_hand_count():
    series = Series(np.array([[1.0], [0.0], [0.0], [1.0]]), Schema("series", ("a",), spikes=True))
    data = Stretches(series, (0,), (0,), np.array([0]), length=4, stop=4, lag=1)
    rates = np.array([[[0.9], [0.1], [0.1], [0.9]]])
    hand = sum(np.log(r) for r in (0.9, 0.9)) - rates.sum() - (2 * np.log(0.5) - 4 * 0.5)
    scores = CoSmoothing().score(Rates(rates), data)
    assert scores.value == pytest.approx(hand / (2 * np.log(2)))
    assert scores.metrics["log_likelihood"] == pytest.approx((2 * np.log(0.9) - 2.0) / 4)
    assert CoSmoothing().score(Rates(np.full((1, 4, 1), 0.5)), data).value == pytest.approx(0, abs=1e-12)


def test_the_regression_finds_who_follows_whom_and_the_mean_rate_scores_nothing():
    task = CoSmoothing()
    parts = task.split(population())
    score = {
        type(system): task.score(system.fit(parts.train, parts.valid, task, RUN).predict(parts.test), parts.test).value
        for system in task.baselines()
    }
    assert abs(score[MeanRate]) < 0.02 and score[PoissonRegression] > 0.3


def test_a_network_that_says_zero_says_the_mean_rate():
    task = CoSmoothing()
    parts = task.split(population())
    batch = parts.test.batch(np.arange(len(parts.test)))
    zero = torch.zeros(len(parts.test), batch.x.shape[1], 3)
    rates = task.prediction(task.scores_from_outputs(zero, batch), parts.test)
    mean = MeanRate().fit(parts.train, parts.valid, task, RUN).predict(parts.test)
    assert rates.values == pytest.approx(mean.values, rel=1e-5)


def test_held_out_units_are_seen_by_nobody():
    task = CoSmoothing(held_out=("b",))
    parts = task.split(population())
    assert parts.train.schema.channels == ("a", "c") and parts.train.batch(np.arange(1)).target.shape[2] == 2
    fitted = PoissonRegression().fit(parts.train, parts.valid, task, RUN)
    assert task.score(fitted.predict(parts.test), parts.test).value > 0.5


def test_a_silent_unit_costs_nothing_and_an_impossible_rate_is_refused():
    counts = population().values.copy()
    counts[:, 2] = 0
    series = Series(counts, Schema("series", ("a", "b", "c"), spikes=True))
    task = CoSmoothing()
    parts = task.split(series)
    fitted = PoissonRegression().fit(parts.train, parts.valid, task, RUN)
    assert task.score(fitted.predict(parts.test), parts.test).value > 0.3
    with pytest.raises(InputError, match="above zero"):
        Rates(np.zeros((1, 2, 1)))
    with pytest.raises(InputError, match=r"channel 's0', step 0"):
        task.split(reach())
