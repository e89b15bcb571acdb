"""`Forecast`: slices add up, gaps have no part, metrics equal their oracles, targets keep their channels."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st

from timecell.data.containers import Batch, Schema, Sequences, Series, Windows
from timecell.errors import InputError
from timecell.system import Run, Task
from timecell.tasks import Forecast, Forecasted, residual_quantiles
from timecell.tasks.forecasters import SeasonalNaive
from timecell.tasks.metrics import forecasting
from timecell.tasks.truth import future, naive_scale, past


def series(T: int = 400, period: int | None = 12, seed: int = 0) -> Series:
    rng = np.random.default_rng(seed)
    t = np.arange(T)[:, None]
    values = 10 * np.sin(2 * np.pi * t / 12 + np.arange(3)) + rng.normal(size=(T, 3)) + [0, 100, 1000]
    return Series(values, Schema("series", ("a", "b", "c"), period=period))


def batches(seed: int = 0) -> tuple[torch.Tensor, Batch]:
    """Outputs of 6 steps for 2 steps ahead of 2 channels, and a batch of 3 channels with a gap in its targets."""
    g = torch.Generator().manual_seed(seed)
    target = torch.randn(4, 2, 2, generator=g)
    target[1, 0, 1] = torch.nan
    return torch.randn(4, 6, 4, generator=g), Batch(torch.randn(4, 6, 3, generator=g), target)


def test_it_is_a_task():
    task: Task = Forecast(horizon=6, targets=("c", "a"))
    assert (task.name, task.needs_whole) == ("forecast", None)
    assert task.outputs(task.split(series()).train) == 12
    assert [b.card.slug for b in task.baselines()] == ["naive", "seasonal-naive", "ridge-lags"]


@given(seed=st.integers(0, 1000), cuts=st.sets(st.integers(1, 5)), error=st.sampled_from(["absolute", "huber"]))
def test_slices_add_up_to_the_whole(seed, cuts, error):
    y, batch = batches(seed)
    batch = replace(batch, lengths=torch.tensor([6, 3, 1, 5]))
    task = Forecast(horizon=2, error=error)
    borders = [0, *sorted(cuts), 6]
    parts = sum(task.loss(y[:, a:b], batch, slice(a, b)) for a, b in pairwise(borders))
    torch.testing.assert_close(parts, task.loss(y, batch, slice(0, 6)))


def test_loss_is_the_mean_error_of_the_observed_changes():
    y, batch = batches()
    forecast = batch.x[:, -1, None, :2] + y[:, -1].reshape(4, 2, 2)
    error = (forecast - batch.target).abs().nan_to_num()
    torch.testing.assert_close(Forecast(horizon=2).loss(y, batch, slice(0, 6)), error.sum() / 16)
    torch.testing.assert_close(Forecast(horizon=2).scores_from_outputs(y, batch), forecast)


def test_a_net_that_says_zero_makes_the_seasonal_naive_forecast():
    for period, horizon in ((12, 5), (12, 30), (5, 7)):
        data = series(period=period)
        task = Forecast(horizon=horizon, targets=("c", "a")).seasonal(data)
        test = task.split(data).test
        batch = test.batch(np.arange(len(test)))
        zero = torch.zeros(len(test), batch.x.shape[1], 2 * horizon)
        naive = SeasonalNaive().fit(test, test, task, Run()).predict(test).values
        assert task.season == period
        np.testing.assert_allclose(task.scores_from_outputs(zero, batch).numpy(), naive, rtol=1e-6)
        last_step = task.loss(zero[:, -2:], batch, slice(batch.x.shape[1] - 2, batch.x.shape[1]))
        torch.testing.assert_close(last_step, task.loss(zero, batch, slice(0, batch.x.shape[1])))
        assert last_step.item() == pytest.approx(np.abs(naive - future(test)).mean(), rel=1e-5)


def test_a_season_must_fit_into_the_history():
    assert Forecast(history=11).seasonal(series()).season == 1 and Forecast().seasonal(series(period=None)).season == 1
    for make in (
        lambda: Forecast(history=11, season=12),
        lambda: Forecast(season=200).split(series()),
        lambda: Forecast(horizon=2, season=7).loss(batches()[0], batches()[1], slice(0, 6)),
    ):
        with pytest.raises(
            InputError, match=r"(?s)season: found \d+, expected at most the history, \d+ steps.*season=1"
        ):
            make()
    with pytest.raises(InputError, match="season: found 0"):
        Forecast(season=0)


def test_a_missing_target_has_no_gradient():
    y, batch = batches()
    y.requires_grad_()
    Forecast(horizon=2).loss(y, batch, slice(0, 6)).backward()
    assert torch.isfinite(y.grad).all()
    assert y.grad[1, -1].reshape(2, 2)[0, 1] == 0
    assert (y.grad[:, -1] != 0).sum() == 15 and (y.grad[:, :-1] == 0).all()


def test_batches_of_validation_add_up():
    y, batch = batches()
    task = Forecast(horizon=2)
    halves = [replace(batch, x=batch.x[i], target=batch.target[i]) for i in (slice(0, 3), slice(3, 4))]
    split = 3 * task.loss(y[:3], halves[0], slice(0, 6)) + task.loss(y[3:], halves[1], slice(0, 6))
    torch.testing.assert_close(split / 4, task.loss(y, batch, slice(0, 6)))


def test_targets_come_first_and_keep_their_values():
    data = series()
    parts = Forecast(horizon=4, targets=("c",)).split(data)
    assert parts.train.schema.channels == ("c", "a", "b")
    batch = parts.train.batch(np.array([0, 5]))
    start = int(parts.train.starts[5])
    L = parts.train.history
    expected = data.values[start + L : start + L + 4, 2]
    np.testing.assert_allclose(batch.target[1, :, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(batch.x[1, -1], data.values[start + L - 1, [2, 0, 1]], rtol=1e-6)


def test_default_history():
    assert Forecast(horizon=4).split(series()).train.history == 24
    assert Forecast(horizon=4).split(series(period=None)).train.history == 32
    assert Forecast(horizon=20).split(series(period=None)).train.history == 40
    assert Forecast(horizon=2).split(series(T=60)).train.history == 15
    assert Forecast(horizon=2, history=7).split(series(T=60)).train.history == 7


def test_parts_follow_each_other_in_time():
    parts = Forecast(horizon=4).split(series())
    ends = [int(p.starts.max()) + p.history + p.horizon for p in (parts.train, parts.valid)]
    firsts = [int(p.starts.min()) + p.history for p in (parts.valid, parts.test)]
    assert ends[0] <= firsts[0] and ends[1] <= firsts[1]


def test_metrics_equal_their_definitions():
    rng = np.random.default_rng(0)
    truth, values = rng.normal(size=(2, 50, 4, 2))
    quantiles = np.sort(rng.normal(size=(50, 4, 2, 3)), axis=-1)
    m, items = forecasting(Forecasted(values, quantiles, (0.1, 0.5, 0.9)), truth, np.array([0.5, 2.0]))
    assert m["mae"] == pytest.approx(sklearn.metrics.mean_absolute_error(truth.ravel(), values.ravel()))
    assert m["rmse"] == pytest.approx(sklearn.metrics.root_mean_squared_error(truth.ravel(), values.ravel()))
    assert m["mase"] == pytest.approx((np.abs(truth - values) / [0.5, 2.0]).mean())
    assert items == pytest.approx((np.abs(truth - values) / [0.5, 2.0]).mean(axis=(1, 2)))
    miss = truth[..., None] - quantiles
    assert m["pinball"] == pytest.approx(np.maximum(miss * [0.1, 0.5, 0.9], -miss * [0.9, 0.5, 0.1]).mean())
    assert m["coverage"] == pytest.approx(((quantiles[..., 0] <= truth) & (truth <= quantiles[..., 2])).mean())


def test_what_is_missing_is_not_scored():
    rng = np.random.default_rng(1)
    truth, values = rng.normal(size=(2, 20, 4, 2))
    truth[3], truth[5, 1, 0] = np.nan, np.nan
    m, items = forecasting(Forecasted(values), truth, np.ones(2))
    assert m["mase"] == pytest.approx(np.nanmean(np.abs(truth - values))) == pytest.approx(m["mae"])
    assert np.flatnonzero(np.isnan(items)).tolist() == [3]
    assert np.nanmean(items) == pytest.approx(m["mase"])


def test_mase_scale_is_the_seasonal_naive_error_before_the_first_target():
    data = series()
    windows = Windows(data, 24, 6, np.arange(200, 300), targets=(1,))
    known = data.values[:224, 1]
    assert naive_scale(windows) == pytest.approx(np.abs(known[12:] - known[:-12]).mean())
    later = data.values.copy()
    later[224:] *= 7
    assert naive_scale(replace(windows, series=replace(data, values=later))) == naive_scale(windows)


def test_mase_scale_of_odd_channels():
    t = np.arange(100.0)
    values = np.stack([t % 12, np.full(100, 5.0), t], axis=1)
    data = Series(values, Schema("series", ("exact", "constant", "trend"), period=12))
    scale = naive_scale(Windows(data, 24, 6, np.array([50])))
    steps = np.abs(np.diff(t[:74] % 12)).mean()
    np.testing.assert_allclose(scale, [steps, np.nan, 12.0])
    constant = Series(values[:, 1:2], Schema("series", ("constant",)))
    with pytest.raises(InputError, match="no change in constant before step 65"):
        Forecast(horizon=2, history=8).split(constant)


def test_scores_do_not_depend_on_order_of_windows():
    windows = Forecast(horizon=6).split(series()).test
    rng = np.random.default_rng(0)
    values, order = rng.normal(size=future(windows).shape), rng.permutation(len(windows))
    one = Forecast(horizon=6).score(Forecasted(values), windows)
    other = Forecast(horizon=6).score(Forecasted(values[order]), windows.select(order))
    assert one.metrics == pytest.approx(other.metrics)
    assert (one.primary, one.higher_is_better) == ("mase", False)
    np.testing.assert_allclose(one.items[order], other.items)


def test_past_and_future_are_what_a_batch_holds():
    windows = replace(Forecast(horizon=6, targets=("b",)).split(series()).test)
    batch = windows.batch(np.arange(len(windows)))
    np.testing.assert_allclose(past(windows), batch.x, rtol=1e-6)
    np.testing.assert_allclose(future(windows), batch.target, rtol=1e-6)


def test_residual_quantiles_cover_what_they_promise():
    rng = np.random.default_rng(0)
    spread = np.array([[1.0], [5.0]])
    valid, test = rng.normal(size=(2, 4000, 2, 1)) * spread
    levels = (0.1, 0.5, 0.9)
    offsets = residual_quantiles(np.zeros_like(valid), valid, levels)
    np.testing.assert_allclose(offsets[:, 0, 2], 1.2816 * spread[:, 0], rtol=0.1)
    m, _ = forecasting(Forecasted(np.zeros_like(test)).widened(offsets, levels), test, np.ones(1))
    assert m["coverage"] == pytest.approx(0.8, abs=0.02)


def test_bad_input_is_named():
    with pytest.raises(InputError, match=r"targets: found 'd', expected one of a, b, c"):
        Forecast(targets=("d",)).split(series())
    with pytest.raises(InputError, match="horizon: found 0"):
        Forecast(horizon=0)
    with pytest.raises(InputError, match=r"error: found 'absolut'.*\n.*did you mean 'absolute'"):
        Forecast(error="absolut")
    with pytest.raises(InputError, match="data: found Sequences, expected a Series"):
        Forecast().split(Sequences.of(np.zeros((2, 3, 1)), target=[0, 1]))
    with pytest.raises(InputError, match=r"data\.targets: found \[1\], expected the first channels"):
        Forecast(horizon=2).outputs(Windows(series(), 5, 2, np.array([0]), targets=(1,)))
    with pytest.raises(InputError, match=r"prediction: found shape \(1, 1, 1\)"):
        Forecast(horizon=6).score(Forecasted(np.zeros((1, 1, 1))), Forecast(horizon=6).split(series()).test)
    with pytest.raises(InputError, match=r"values\[0, 1, 0\]: found nan"):
        Forecasted(np.array([[[0.0], [np.nan]]]))
    with pytest.raises(InputError, match="levels"):
        Forecasted(np.zeros((1, 1, 1)), np.zeros((1, 1, 1, 2)), (0.9, 0.1))
    with pytest.raises(InputError, match="quantiles: found shape None for 1 levels"):
        Forecasted(np.zeros((1, 1, 1)), None, (0.5,))
    with pytest.raises(InputError, match=r"truth\[:, 1, 0\]: found no observed value"):
        residual_quantiles(np.zeros((2, 2, 1)), np.array([[[1.0], [np.nan]]] * 2), (0.5,))
    with pytest.raises(InputError, match="no observed target"):
        forecasting(Forecasted(np.zeros((1, 1, 1))), np.full((1, 1, 1), np.nan), np.ones(1))


def test_a_short_series_is_refused_with_the_steps_it_needs():
    with pytest.raises(InputError, match="series: found 40 steps") as e:
        Forecast(horizon=24).split(series(T=40))
    needed = int(re.search(r"at least (\d+)", str(e.value))[1])
    Forecast(horizon=24).split(series(T=needed))
    with pytest.raises(InputError):
        Forecast(horizon=24).split(series(T=needed - 1))
    with pytest.raises(InputError, match="series: found 2 steps"):
        Forecast().split(series(T=2))
