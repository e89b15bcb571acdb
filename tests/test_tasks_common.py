"""What every task must do, found by walking: keep the future out, score fairly, keep its baselines on disk."""

from dataclasses import replace

import numpy as np
import pytest

from timecell.data.containers import Schema, Sequences, Series
from timecell.data.labelled_series import LabelledSeries
from timecell.data.short_series import ShortSeries
from timecell.data.synthetic.edge_stream import edge_stream
from timecell.data.synthetic.point_processes import hawkes
from timecell.system import Run
from timecell.tasks import FittedArrays, every

RUN = Run(device="cpu")


def sequences(seed=0):
    rng = np.random.default_rng(seed)
    part = np.array(["train"] * 30 + ["valid"] * 8 + ["test"] * 12)
    label = np.arange(50) % 2
    return Sequences.of(rng.normal(size=(50, 12, 2)) + label[:, None, None], label, part=part)


def waves(steps=600, seed=0):
    t, rng = np.arange(steps), np.random.default_rng(seed)
    values = np.stack([np.sin(2 * np.pi * t / 24), np.cos(2 * np.pi * t / 24)], 1) + 0.1 * rng.normal(size=(steps, 2))
    return Series(values, Schema("series", ("a", "b"), rate=1.0, period=24), time=t.astype(float))


def marked():
    series = waves()
    anomalous = np.zeros(600, bool)
    anomalous[[400, 401, 500]] = True
    values = series.values.copy()
    values[anomalous] += 3
    return LabelledSeries(values, series.schema, series.time, anomalous)


def counts():
    rng = np.random.default_rng(0)
    return Series(rng.poisson(0.3, (600, 3)).astype(float), Schema("series", ("u", "v", "w"), spikes=True))


def short():
    rng = np.random.default_rng(0)
    return Sequences.of([10.0**i * (5 + rng.normal(size=(n, 2)).cumsum(0)) for i, n in enumerate((20, 24, 31, 20))])


EXAMPLES = {
    "classify": (sequences, {}),
    "forecast": (waves, {"horizon": 6, "history": 24}),
    "short-term": (short, {"horizon": 3}),
    "impute": (waves, {}),
    "detect": (marked, {}),
    "decode": (waves, {"targets": ("a",)}),
    "co-smooth": (counts, {}),
    "next-event": (lambda: hawkes(sequences=20, end=40.0).data, {}),
    "structure": (waves, {}),
    "link": (lambda: edge_stream(nodes=40, edges=900).data, {}),
}


@pytest.fixture(params=sorted(every()))
def asked(request):
    """A task and data for it; a task without an example here fails."""
    make, options = EXAMPLES[request.param]
    return every()[request.param](**options), make()


def with_another_end(data, test):
    """The same data, but for what only the test part may know."""
    if isinstance(data, Series):
        first = len(data) - len(test) if isinstance(test, Series) else test.first_target
        values = data.values.copy()
        values[first:] = np.flip(values[first:], axis=0) + (0 if data.schema.spikes else 5)
        return replace(data, values=values)
    if isinstance(test, ShortSeries):
        rows = (data.offsets[1:, None] - 1 - np.arange(test.horizon)).ravel()
        values = data.values.copy()
        values[rows] += 100
        return replace(data, values=values)
    if isinstance(data, Sequences):
        rows = np.repeat(data.part == "test", data.lengths)
        return replace(data, values=np.where(rows[:, None], data.values + 100, data.values))
    if hasattr(data, "marks"):
        return replace(data, marks=np.where(np.isin(data.times, test.times), 1 - data.marks, data.marks))
    target = data.target.copy()
    target[test.begin :] = (target[test.begin :] + 1) % len(data.nodes)
    target = np.where(target == data.source, (target + 1) % len(data.nodes), target)
    return type(data).of(data.source, target, data.time, data.features, nodes=data.nodes, channels=data.schema.channels)


def test_it_says_what_it_is(asked):
    task, data = asked
    assert task.kind == data.schema.kind and task.name and task.baselines()
    assert type(task)() or True  # every attribute has a default


def test_training_and_validation_know_nothing_of_the_test_part(asked):
    task, data = asked
    parts = task.split(data, seed=1)
    again = task.split(with_another_end(data, parts.test), seed=1)
    assert again.train.fingerprint == parts.train.fingerprint
    assert again.valid.fingerprint == parts.valid.fingerprint
    assert again.test.fingerprint != parts.test.fingerprint


def test_the_same_split_is_made_again(asked):
    task, data = asked
    first, again = task.split(data, seed=3), task.split(data, seed=3)
    assert [p.fingerprint for p in vars(first).values()] == [p.fingerprint for p in vars(again).values()]
    assert len({p.fingerprint for p in vars(first).values()}) == 3


def test_baselines_fit_score_and_are_kept(asked, tmp_path):
    task, data = asked
    parts = task.split(data)
    for system in task.baselines():
        if system.accepts(parts.train.schema, task):
            continue
        fitted = system.fit(parts.train, parts.valid, task, RUN)
        prediction = fitted.predict(parts.test)
        scores = task.score(prediction, parts.test)
        assert np.isfinite(scores.value), system.card.slug
        if scores.items is not None:
            assert np.nanmean(scores.items) == pytest.approx(scores.value, rel=1e-6)
            assert scores.blocks is None or len(scores.blocks) == len(scores.items)
        fitted.save(tmp_path / system.card.slug)
        same = FittedArrays.load(tmp_path / system.card.slug).predict(parts.test)
        for name, array in prediction.arrays().items():
            np.testing.assert_array_equal(array, same.arrays()[name])


def test_the_best_baseline_beats_the_worst_where_there_is_something_to_find():
    """One of them is a floor: what knows nothing must not be first."""
    for name, floor in {"classify": "majority", "decode": "mean", "impute": "mean", "detect": "random-scores"}.items():
        make, options = EXAMPLES[name]
        task, data = every()[name](**options), make()
        parts = task.split(data)
        value = {}
        for system in task.baselines():
            if not system.accepts(parts.train.schema, task):
                scores = task.score(system.fit(parts.train, parts.valid, task, RUN).predict(parts.test), parts.test)
                value[system.card.slug] = scores.value if scores.higher_is_better else -scores.value
        assert max(value, key=value.get) != floor, value
