"""The baselines: they reach what is known to be reachable, see no future, do not care how data are cut, and come back
from disk the same."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from timecell.data.containers import Schema, Sequences, Series, Windows
from timecell.errors import DataError, InputError
from timecell.system import Run, Splits, System
from timecell.tasks import Classify, FittedArrays, Forecast
from timecell.tasks.classifiers import (
    LinearClassifier,
    Majority,
    RandomConvolutions,
    SummaryClassifier,
    SummaryLogistic,
)
from timecell.tasks.features import RandomKernels, summaries
from timecell.tasks.forecasters import Naive, RidgeLags, SeasonalNaive
from timecell.tasks.ridge import Scaling, ridge_path
from timecell.tasks.truth import future

CLASSIFIERS: list[System] = [Majority(), SummaryLogistic(), RandomConvolutions(kernels=60)]
FORECASTERS: list[System] = [Naive(), SeasonalNaive(), RidgeLags()]
RUN = Run(seed=3)


def slug(system: System) -> str:
    return system.card.slug


def waves(n: int = 240, seed: int = 0) -> Sequences:
    """Three classes of ragged noisy waves that differ in frequency; phase and length say nothing."""
    rng = np.random.default_rng(seed)
    samples = []
    for i in range(n):
        t = np.arange(rng.integers(30, 50))[:, None]
        wave = np.sin((0.3 + 0.3 * (i % 3)) * t + rng.uniform(0, 6, size=2))
        samples.append(wave + 0.3 * rng.normal(size=wave.shape))
    return Sequences.of(samples, target=np.arange(n) % 3)


def seasonal(T: int = 600, noise: float = 0.0, seed: int = 0) -> Series:
    rng = np.random.default_rng(seed)
    pattern = rng.normal(size=(12, 2)) * [1, 50] + [0, 300]
    values = pattern[np.arange(T) % 12] + noise * rng.normal(size=(T, 2))
    return Series(values, Schema("series", ("a", "b"), period=12))


def accuracy(system: System, parts: Splits) -> float:
    return Classify().score(system.fit(parts.train, parts.valid, Classify(), RUN).predict(parts.test), parts.test).value


def mase(system: System, parts: Splits, task: Forecast) -> float:
    return task.score(system.fit(parts.train, parts.valid, task, RUN).predict(parts.test), parts.test).value


# --- classification ---------------------------------------------------------------------------------------------


def test_who_can_tell_frequencies_apart():
    parts = Classify().split(waves())
    assert accuracy(Majority(), parts) == pytest.approx(1 / 3, abs=0.1)
    assert accuracy(RandomConvolutions(kernels=100), parts) > 0.95


def test_who_can_tell_levels_apart():
    rng = np.random.default_rng(0)
    data = Sequences.of([rng.normal(size=(20, 1)) + 2 * (i % 3) for i in range(150)], target=np.arange(150) % 3)
    assert accuracy(SummaryLogistic(), Classify().split(data)) > 0.95


@pytest.mark.parametrize("system", CLASSIFIERS, ids=slug)
def test_shuffled_labels_bring_it_to_chance(system):
    data = waves(450)
    shuffled = replace(data, target=np.random.default_rng(5).permutation(data.target))
    assert accuracy(system, Classify().split(shuffled)) == pytest.approx(1 / 3, abs=0.15)


@pytest.mark.parametrize("system", CLASSIFIERS, ids=slug)
def test_predictions_do_not_depend_on_batch_mates_and_order(system):
    parts = Classify().split(waves())
    fitted = system.fit(parts.train, parts.valid, Classify(), RUN)
    whole = fitted.predict(parts.test).probabilities
    order = np.random.default_rng(0).permutation(len(parts.test))
    np.testing.assert_allclose(fitted.predict(parts.test.select(order)).probabilities, whole[order], atol=1e-9)
    alone = [fitted.predict(parts.test.select(np.array([i]))).probabilities for i in range(5)]
    np.testing.assert_allclose(np.concatenate(alone), whole[:5], atol=1e-9)


@pytest.mark.parametrize("system", CLASSIFIERS, ids=slug)
def test_a_fit_is_repeatable(system):
    parts = Classify().split(waves(90))
    first, second = (system.fit(parts.train, parts.valid, Classify(), RUN).predict(parts.test) for _ in range(2))
    assert np.array_equal(first.probabilities, second.probabilities)


@pytest.mark.parametrize("system", CLASSIFIERS, ids=slug)
def test_a_classifier_comes_back_from_disk(system, tmp_path):
    parts = Classify().split(waves(90))
    fitted = system.fit(parts.train, parts.valid, Classify(), RUN)
    fitted.save(tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["README.md", "config.json", "model.safetensors"]
    again = FittedArrays.load(tmp_path / "model")
    assert type(again) is type(fitted) and again.card == fitted.card
    assert np.array_equal(again.predict(parts.test).probabilities, fitted.predict(parts.test).probabilities)
    assert again.report == fitted.report and json.dumps(dict(fitted.report))


@pytest.mark.parametrize("system", CLASSIFIERS, ids=slug)
def test_two_classes_and_a_class_absent_from_training(system):
    data = waves(60)
    two = replace(data, target=data.target % 2, schema=replace(data.schema, classes=("a", "b")))
    assert accuracy(system, Splits(two, two, two)) > 0.5
    odd = data.select(np.flatnonzero(data.target != 1))
    p = system.fit(odd, odd, Classify(), RUN).predict(data).probabilities
    assert p.shape == (60, 3) and (p.argmax(axis=1) != 1).all()


def test_logistic_regression_is_scikit_learns():
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    parts = Classify().split(waves(120))
    fitted = SummaryLogistic(C=0.1).fit(parts.train, parts.valid, Classify(), RUN)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    model.fit(summaries(parts.train), parts.train.target)
    expected = model.predict_proba(summaries(parts.test))
    np.testing.assert_allclose(fitted.predict(parts.test).probabilities, expected, atol=1e-6)


def test_random_kernel_features_are_those_of_one_kernel_at_a_time():
    data = waves(6)
    kernels = RandomKernels.draw(data, 8, np.random.default_rng(0))
    features = kernels(data)
    assert len(set(kernels.dilation)) > 1
    for i in range(len(data)):
        x = (data[i].astype(np.float32) - kernels.mean) / kernels.spread
        for k, (w, d, threshold) in enumerate(zip(kernels.weight, kernels.dilation, kernels.threshold)):
            padded = np.pad(x, ((4 * d, 4 * d), (0, 0)))
            y = sum(padded[j * d : j * d + len(x)] @ w[:, j] for j in range(9))
            np.testing.assert_allclose(features[i, [k, 8 + k]], [(y > threshold).mean(), y.max()], atol=1e-12)


def test_random_kernels_take_spike_counts_and_short_samples():
    rng = np.random.default_rng(0)
    counts = [(rng.random((n, 5)) < 0.1).astype(np.uint8) for n in (1, 3, 40)]
    data = Sequences.of(counts, target=[0, 1, 0])
    assert np.isfinite(RandomKernels.draw(data, 20, rng)(data)).all()
    assert np.isfinite(summaries(data)).all()


def test_kernels_are_fewer_where_data_are_large(monkeypatch):
    monkeypatch.setattr("timecell.tasks.classifiers.OPERATIONS", 0)
    data = waves(30)
    assert len(RandomConvolutions(kernels=500).fit(data, data, Classify(), RUN).kernels) == 100
    assert len(RandomConvolutions(kernels=50).fit(data, data, Classify(), RUN).kernels) == 50


# --- forecasting ------------------------------------------------------------------------------------------------


def test_the_last_season_is_exact_on_a_pure_season():
    task = Forecast(horizon=15)
    parts = task.split(seasonal())
    assert mase(SeasonalNaive(), parts, task) == 0
    assert mase(RidgeLags(), parts, task) < 1e-2
    assert mase(Naive(), parts, task) > 0.5


def test_the_last_value_is_what_naive_says():
    windows = Forecast(horizon=3, targets=("b",)).split(seasonal(noise=1)).test
    fitted = Naive().fit(windows, windows, Forecast(), RUN)
    last = windows.series.values[windows.starts + windows.history - 1, 0]
    assert (fitted.predict(windows).values == last[:, None, None]).all()


def test_ridge_reaches_the_best_possible_error_of_an_autoregressive_process():
    rng = np.random.default_rng(0)
    x, noise = np.zeros(6000), rng.normal(size=6000)
    for t in range(2, 6000):
        x[t] = 1.5 * x[t - 1] - 0.7 * x[t - 2] + noise[t]
    task = Forecast(horizon=3, history=20)
    parts = task.split(Series(x[:, None], Schema("series", ("x",))))
    fitted = RidgeLags().fit(parts.train, parts.valid, task, RUN)
    error = fitted.predict(parts.test).values - future(parts.test)
    impulse = np.array([1, 1.5, 1.5**2 - 0.7])  # the process's answer to a unit of noise
    np.testing.assert_allclose(error[:, :, 0].std(axis=0), np.sqrt(np.cumsum(impulse**2)), rtol=0.05)


def test_ridge_uses_other_channels_and_the_phase():
    rng = np.random.default_rng(0)
    lead = rng.normal(size=1000)
    both = np.stack([np.roll(lead, 3), lead], axis=1)
    task = Forecast(horizon=3, history=6, targets=("late",))
    parts = task.split(Series(both, Schema("series", ("late", "lead"))))
    assert mase(RidgeLags(), parts, task) < 0.02
    season = np.sin(2 * np.pi * np.arange(600) / 48)[:, None] + 0.5 * rng.normal(size=(600, 1))
    task = Forecast(horizon=24, history=3)
    known, unknown = (
        mase(RidgeLags(), task.split(Series(season, Schema("series", ("x",), period=p))), Forecast(horizon=24))
        for p in (48, None)
    )
    # The two are scaled by different naive errors, both of which are nearly those of the noise alone.
    assert known < 0.8 * unknown


def test_the_phase_follows_the_clock_where_there_is_one():
    data = seasonal(noise=0.1)
    clocked = replace(data, time=3600.0 * np.arange(600), schema=replace(data.schema, rate=1 / 3600))
    task = Forecast(horizon=6, history=3)
    parts = task.split(clocked)
    fitted = RidgeLags().fit(parts.train, parts.valid, task, RUN)
    part = Windows(clocked.cut(407, 600), 3, 6, np.arange(20), targets=(0, 1))
    whole = Windows(clocked, 3, 6, 407 + np.arange(20), targets=(0, 1))
    np.testing.assert_allclose(fitted.predict(part).values, fitted.predict(whole).values, atol=1e-6)
    with pytest.raises(InputError, match=r"data\.series\.time: found None"):
        fitted.predict(replace(part, series=data))


@pytest.mark.parametrize("system", FORECASTERS, ids=slug)
def test_the_future_does_not_change_a_forecast(system):
    task = Forecast(horizon=6)
    parts = task.split(seasonal(noise=1))
    fitted = system.fit(parts.train, parts.valid, task, RUN)
    test = parts.test
    first = int(test.starts[0]) + test.history
    later = test.series.values.copy()
    later[first:] += 1000
    changed = replace(test.select(np.array([0])), series=replace(test.series, values=later))
    np.testing.assert_allclose(fitted.predict(changed).values[0], fitted.predict(test).values[0], rtol=1e-12)


@pytest.mark.parametrize("system", FORECASTERS, ids=slug)
def test_the_test_part_does_not_change_a_fit(system):
    task, data = Forecast(horizon=6), seasonal(noise=1)
    parts = task.split(data)
    first = int(parts.test.starts.min()) + parts.test.history
    values = data.values.copy()
    values[first:] = np.random.default_rng(1).normal(size=values[first:].shape)
    other = task.split(replace(data, values=values))
    one, two = (system.fit(p.train, p.valid, task, RUN) for p in (parts, other))
    assert np.array_equal(one.predict(parts.valid).values, two.predict(parts.valid).values)


@pytest.mark.parametrize("system", FORECASTERS, ids=slug)
def test_gaps_neither_break_nor_mislead(system):
    rng = np.random.default_rng(0)
    smooth = 5 * np.sin(2 * np.pi * np.arange(900) / 24)[:, None] + rng.normal(size=(900, 2))
    values = smooth.copy()
    values[rng.random(values.shape) < 0.05] = np.nan
    values[300:330] = np.nan
    task, schema = Forecast(horizon=6), Schema("series", ("a", "b"), period=24)
    whole, gappy = (mase(system, task.split(Series(v, schema)), task) for v in (smooth, values))
    assert gappy == pytest.approx(whole, rel=0.1)


def test_a_gap_in_the_last_season_is_filled_from_the_one_before():
    values = np.arange(12.0)[:, None] % 3
    values[[6, 8], 0] = np.nan
    values[[1, 4, 7], 0] = np.nan  # a phase that was never seen: the last value before it
    windows = Windows(Series(values, Schema("series", ("x",), period=3)), 9, 3, np.array([0]))
    fitted = SeasonalNaive().fit(windows, windows, Forecast(), RUN)
    assert fitted.predict(windows).values[0, :, 0].tolist() == [0, 2, 2]


@pytest.mark.parametrize("system", FORECASTERS, ids=slug)
def test_a_forecaster_comes_back_from_disk(system, tmp_path):
    task = Forecast(horizon=6, targets=("b",))
    parts = task.split(seasonal(noise=1))
    fitted = system.fit(parts.train, parts.valid, task, RUN)
    fitted.save(tmp_path)
    again = FittedArrays.load(tmp_path)
    assert np.array_equal(again.predict(parts.test).values, fitted.predict(parts.test).values)
    order = np.arange(len(parts.test))[::-1]
    np.testing.assert_allclose(
        again.predict(parts.test.select(order)).values[order], again.predict(parts.test).values, rtol=1e-9
    )


# --- ridge regression -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", [Naive(), SeasonalNaive(), RidgeLags()])
def test_every_forecast_has_quantiles_of_the_validation_errors(system):
    task = Forecast(horizon=4)
    splits = task.split(seasonal(noise=1))
    fitted = system.fit(splits.train, splits.valid, task, RUN)
    prediction = fitted.predict(splits.test)
    errors = future(splits.valid) - fitted.predict(splits.valid).values
    offsets = prediction.quantiles - prediction.values[..., None]
    np.testing.assert_allclose(offsets[0], np.moveaxis(np.quantile(errors, prediction.levels, axis=0), 0, -1))
    assert 0.6 < task.score(prediction, splits.test).metrics["coverage"] < 0.95  # 0.8 is what they promise
    other = replace(splits.test, horizon=3)
    with pytest.raises(InputError, match=r"(?s)data: found windows of .*3.*as (in|for) "):
        fitted.predict(other)


def test_ridge_is_scikit_learns_also_with_missing_targets():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 5)) * [1, 10, 0.1, 1, 1] + 3
    y = x @ rng.normal(size=(5, 3)) + rng.normal(size=(80, 3))
    y[:30, 1], y[rng.random(80) < 0.2, 2] = np.nan, np.nan
    z = Scaling.of(x)(x)
    for alpha, linear in zip((1.0, 0.1, 0.001), ridge_path(x, y, (1.0, 0.1, 0.001))):
        for k in range(3):
            seen = ~np.isnan(y[:, k])
            oracle = Ridge(alpha=alpha * 80).fit(z[seen], y[seen, k])
            np.testing.assert_allclose(linear(x)[:, k], oracle.predict(z), atol=2e-3)


def test_ridge_takes_more_features_than_rows_and_constant_ones():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(10, 30)), np.full((10, 2), 7.0)], axis=1)
    for linear in ridge_path(x, rng.normal(size=(10, 2))):
        assert np.isfinite(linear(x)).all()


# --- what is refused --------------------------------------------------------------------------------------------


def test_accepts_says_why_not():
    sequences, windows = waves(9).schema, Forecast(horizon=6).split(seasonal()).train.schema
    for system in CLASSIFIERS:
        assert system.accepts(sequences, Classify()) is None
        assert "the task is forecast" in system.accepts(windows, Forecast())
        assert "fewer than two" in system.accepts(replace(sequences, classes=("a",)), Classify())
    for system in FORECASTERS:
        assert system.accepts(windows, Forecast()) is None
        assert "the task is classify" in system.accepts(sequences, Classify())
    assert "unknown" in SeasonalNaive().accepts(replace(windows, period=None), Forecast())
    assert "longer than the 5 steps" in SeasonalNaive().accepts(replace(windows, lengths=(5, 5)), Forecast())


@pytest.mark.parametrize("system", CLASSIFIERS + FORECASTERS, ids=slug)
def test_every_hyperparameter_of_the_space_can_be_set(system):
    assert system.card.family == "baseline"
    for name, values in system.space().items():
        assert {getattr(replace(system, **{name: value}), name) for value in values} == set(values)


def test_ridge_refuses_windows_of_another_shape():
    task = Forecast(horizon=6)
    parts = task.split(seasonal(noise=1))
    fitted = RidgeLags(lags=10).fit(parts.train, parts.valid, task, RUN)
    with pytest.raises(InputError, match=r"data: found windows of 24 \+ 5 steps.*exactly 6 steps"):
        fitted.predict(replace(parts.test, horizon=5))
    with pytest.raises(InputError, match=r"data\.history: found 2, expected at least one season, 12"):
        seasons = SeasonalNaive().fit(parts.train, parts.valid, task, RUN)
        seasons.predict(replace(parts.test, history=2))


def test_bad_data_and_hyperparameters_are_named():
    data = waves(30)
    for system in CLASSIFIERS:
        fitted = system.fit(data, data, Classify(), RUN)
        with pytest.raises(InputError, match="data: found 1 channels, expected the 2 of the training data"):
            fitted.predict(replace(data, values=data.values[:, :1]))
        with pytest.raises(InputError, match="data: found Windows, expected Sequences"):
            fitted.predict(Windows(seasonal(), 6, 3, np.arange(4)))
        unlabelled = replace(data, target=None)
        assert len(fitted.predict(unlabelled).probabilities) == 30
        with pytest.raises(InputError, match=r"data\.target: found no labels"):
            system.fit(unlabelled, data, Classify(), RUN)
    with pytest.raises(InputError, match="train: found samples of one class only"):
        SummaryLogistic().fit(replace(data, target=data.target * 0), data, Classify(), RUN)
    with pytest.raises(InputError, match="kernels: found 0"):
        RandomConvolutions(kernels=0)
    with pytest.raises(InputError, match="lags: found 0"):
        RidgeLags(lags=0)


def test_a_damaged_folder_is_named(tmp_path):
    data = waves(9)
    Majority().fit(data, data, Classify(), RUN).save(tmp_path)
    with pytest.raises(InputError, match=r"model in .*config\.json: found 'LinearClassifier'"):
        SummaryClassifier.load(tmp_path)
    assert isinstance(LinearClassifier.load(tmp_path), LinearClassifier)
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=str(tmp_path)):
        FittedArrays.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(DataError, match=r"AttributeError|TypeError"):
        FittedArrays.load(tmp_path)
    with pytest.raises(DataError, match="No such file"):
        FittedArrays.load(tmp_path / "elsewhere")


def test_importing_tasks_stays_light():
    import subprocess
    import sys

    code = "import sys, timecell.tasks; print([m for m in ('sklearn', 'scipy', 'torchmetrics') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_torch_random_state_is_left_alone():
    before = torch.random.get_rng_state()
    parts = Classify().split(waves(60))
    RandomConvolutions(kernels=20).fit(parts.train, parts.valid, Classify(), RUN)
    assert torch.equal(before, torch.random.get_rng_state())
