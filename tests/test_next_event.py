"""The next-event task: honest scores, for closed forms, point processes and plain networks alike."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from timecell.card import Card
from timecell.compare import Settings, compare
from timecell.data.event_sequences import EventSequences
from timecell.data.synthetic.point_processes import hawkes, log_likelihood, markov_renewal, renewal
from timecell.errors import DataError, InputError
from timecell.event_models import RMTPP, GatedMixture
from timecell.generate.point_process import DecodedProcess
from timecell.layers.event_decoders import Exponential, Gompertz, LogNormalMixture
from timecell.memory import GRU
from timecell.network_system import FittedNetwork, NetworkSystem
from timecell.point_process_system import FittedPointProcess, MaximumLikelihood
from timecell.system import Run
from timecell.tasks.calibration import expected_calibration_error, pit_error
from timecell.tasks.event_baselines import HawkesMLE, LogNormalRenewal, PoissonRates, maximum_likelihood
from timecell.tasks.event_predictions import NextEvents
from timecell.tasks.fitted import FittedArrays
from timecell.tasks.next_event import NextEvent

TASK = NextEvent()
CPU = Run(updates=3, device="cpu")


def few(make=hawkes, seed=0, **options):
    return make(sequences=20, end=20.0, seed=seed, **options).data


@dataclass(frozen=True)
class Plain(NetworkSystem):
    card = Card("plain", "Plain", "A gated net over rows.", "example")

    def build(self, schema, outputs):
        return DecodedNet(len(schema.channels), outputs)


class DecodedNet(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.gru, self.readout = GRU(inputs, 8), nn.Linear(8, outputs)

    def forward(self, x, state=None, *, lengths=None):
        h, state = self.gru(x, state, lengths=lengths)
        return self.readout(h), state


SYSTEMS = [PoissonRates(), LogNormalRenewal(), HawkesMLE(), RMTPP(hidden=4), GatedMixture(hidden=4), Plain()]
every_system = pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: s.card.slug)


@pytest.fixture(scope="module")
def fits():
    data = few()
    return {s.card.slug: s.fit(data, data, TASK, CPU) for s in SYSTEMS}


# --- scores ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [hawkes, markov_renewal, renewal])
def test_the_score_of_the_truth_is_its_likelihood(make):
    generated = make(sequences=30)
    prediction = NextEvents.of_process(generated.truth, generated.data)
    scores = TASK.score(prediction, generated.data)
    exact = log_likelihood(generated.truth, generated.data)
    assert scores.value == pytest.approx(exact.sum() / len(generated.data.times))
    assert scores.items.mean() == pytest.approx(scores.value) and len(scores.items) == 30
    parts = scores.metrics["time_log_likelihood"] + scores.metrics["mark_log_likelihood"]
    assert parts == pytest.approx(scores.value)
    assert scores.metrics["time_calibration_error"] < 0.02 and scores.metrics["mark_calibration_error"] < 0.04
    below = prediction.median[generated.data.happened] > generated.data.waits[generated.data.happened]
    assert 0.45 < below.mean() < 0.57  # a median; waits that the end cut off are long ones


def test_the_tail_counts():
    data = EventSequences.of([[1.0]], end=2.0)
    longer = EventSequences.of([[1.0]], end=100.0)
    fitted = PoissonRates().fit(data, data, TASK, CPU)
    assert TASK.score(fitted.predict(data), data).value == pytest.approx(np.log(0.5) - 1.0)
    assert TASK.score(fitted.predict(longer), longer).value == pytest.approx(np.log(0.5) - 50.0)


@every_system
def test_scores_shift_by_the_logarithm_of_the_unit(system):
    data, c = few(), 86400.0
    here, there = (system.fit(d, d, TASK, CPU).predict(d) for d in (data, data.scaled(1 / c)))
    np.testing.assert_allclose(there.log_time[data.happened], here.log_time[data.happened] - np.log(c), atol=2e-3)
    np.testing.assert_allclose(there.log_time[~data.happened], here.log_time[~data.happened], atol=2e-3)
    np.testing.assert_allclose(there.median, here.median * c, rtol=2e-3)
    np.testing.assert_allclose(there.pit, here.pit, atol=2e-3)


@every_system
def test_the_future_does_not_change_the_past(system, fits):
    data = few(seed=1)
    half = np.array([np.median(data.times[a:b]) for a, b in zip(data.offsets, data.offsets[1:])])
    sequence = np.repeat(np.arange(len(data)), data.counts)
    late = data.times > half[sequence]
    moved = np.where(late, data.times + 0.3 * (data.times - half[sequence]), data.times)
    changed = replace(data, times=moved, marks=np.where(late, 1 - data.marks, data.marks), end=data.end * 1.5)
    fitted = fits[system.card.slug]
    one, other = fitted.predict(data), fitted.predict(changed)
    early = np.zeros(len(data.waits), bool)
    early[data.happened] = ~late
    assert early.sum() > 100
    for name in ("log_time", "log_mark", "median", "pit"):
        np.testing.assert_allclose(getattr(one, name)[early], getattr(other, name)[early], atol=2e-5, rtol=2e-4)


@every_system
def test_batch_mates_do_not_matter(system, fits):
    data = few(seed=2)
    whole = fits[system.card.slug].predict(data)
    row = np.repeat(np.arange(len(data)), data.counts + 1)
    for i in (0, 7):
        alone = fits[system.card.slug].predict(data.select(np.array([i])))
        np.testing.assert_allclose(alone.log_time, whole.log_time[row == i], atol=2e-5, rtol=2e-4)


@every_system
def test_what_was_saved_says_the_same(system, fits, tmp_path):
    data, fitted = few(seed=3), fits[system.card.slug]
    fitted.save(tmp_path / "model")
    kind = next(k for k in (FittedArrays, FittedPointProcess, FittedNetwork) if isinstance(fitted, k))
    options = {"classes": (Plain,)} if kind is FittedNetwork else {}
    again = kind.load(tmp_path / "model", **options)
    for name, array in fitted.predict(data).arrays().items():
        np.testing.assert_array_equal(again.predict(data).arrays()[name], array)
    assert {"parameters", "seconds"} <= fitted.report.keys()


# --- what is fitted ---------------------------------------------------------------------------------------------------


def test_the_hawkes_fit_finds_the_truth_and_does_not_beat_it():
    generated = hawkes(sequences=150, seed=5)
    parts = TASK.split(generated.data)
    fitted = HawkesMLE().fit(parts.train, parts.valid, TASK, CPU)
    test = parts.test
    exact = log_likelihood(generated.truth, test)
    found = TASK.score(fitted.predict(test), test)
    mine = found.items * len(test.times) / len(test)
    error = (mine - exact).std() * len(test) ** 0.5 / len(test.times)
    assert abs(found.value - exact.sum() / len(test.times)) < max(0.01, 2 * error)
    assert found.value <= exact.sum() / len(test.times) + 2 * error
    assert abs(np.log(fitted.decay.item() / 1.5)) < 0.4


def test_the_maximum_is_one():
    """No small change of a parameter makes the data more likely."""
    data = few()
    best = maximum_likelihood(data, 1.0)
    top = log_likelihood(best, data).sum()
    rng = np.random.default_rng(0)
    for _ in range(20):
        base = best.base * np.exp(0.05 * rng.standard_normal(2))
        branching = best.branching * np.exp(0.05 * rng.standard_normal((2, 2)))
        assert log_likelihood(replace(best, base=base, branching=branching), data).sum() <= top + 1e-6


def test_a_net_without_history_equals_the_renewal_fit():
    data = renewal(log_mean=0.5, log_std=0.7, sequences=60, seed=1).data
    from timecell.generate.point_process import Constant
    from timecell.recipe import Recipe, Stage
    from timecell.train import fit

    unit = data.mean_gap
    net = DecodedProcess(Constant(LogNormalMixture(1).outputs(1)), LogNormalMixture(1))
    recipe = Recipe((Stage(lr=0.05),), batch=60)
    fit(net, data.scaled(unit), MaximumLikelihood(), recipe=recipe, run=Run(updates=150, device="cpu"))
    batch = data.scaled(unit).batch(np.arange(len(data)))
    with torch.no_grad():
        learnt = net(batch.x, lengths=batch.lengths)[0].sum().item() / len(data.times) - np.log(unit)
    closed = TASK.score(LogNormalRenewal().fit(data, data, TASK, CPU).predict(data), data).value
    assert abs(learnt - closed) < 0.01


def test_a_net_learns_what_constant_rates_miss():
    generated = markov_renewal(sequences=60, end=20.0)
    parts = TASK.split(generated.data)
    run = Run(updates=120, device="cpu")
    net, poisson = (
        TASK.score(s.fit(parts.train, parts.valid, TASK, run).predict(parts.test), parts.test).value
        for s in (GatedMixture(lr=1e-2, hidden=16), PoissonRates())
    )
    exact = log_likelihood(generated.truth, parts.test).sum() / len(parts.test.times)
    assert poisson + 0.1 < net < exact


# --- networks that answer with numbers of a decoder -------------------------------------------------------------------


@pytest.mark.parametrize("decoder", [Exponential(), Gompertz(), LogNormalMixture(3)])
def test_a_plain_net_has_the_loss_of_the_point_process(decoder):
    data = few()
    data = data.scaled(data.mean_gap)
    batch, task = data.batch(np.arange(6)), NextEvent(decoder)
    net = DecodedNet(3, task.outputs(data))
    process = DecodedProcess(net, decoder)
    y = net(batch.x, lengths=batch.lengths)[0]
    whole = task.loss(y, batch, slice(0, y.shape[1]))
    torch.testing.assert_close(whole, -process(batch.x, lengths=batch.lengths)[0].sum() / 6)
    pieces = [slice(i, min(i + 7, y.shape[1])) for i in range(0, y.shape[1], 7)]
    torch.testing.assert_close(sum(task.loss(y[:, s], batch, s) for s in pieces), whole)
    part = data.select(np.arange(6))
    said = task.prediction(task.scores_from_outputs(y, batch), part)
    assert TASK.score(said, part).items.mean() * len(part.times) / 6 == pytest.approx(-whole.item(), rel=1e-4)


def test_the_loss_ignores_padding():
    data = few()
    batch = data.batch(np.arange(6))
    y = torch.randn(6, batch.x.shape[1], TASK.outputs(data), requires_grad=True)
    TASK.loss(y, batch, slice(0, y.shape[1])).backward()
    after = torch.arange(y.shape[1]) >= batch.lengths[:, None] - 1  # nothing is foretold from the end on
    assert not y.grad[after].any() and y.grad[~after].any(-1).all()


def test_compare_ranks_all_kinds_of_systems():
    data = hawkes(sequences=30, end=15.0).data
    settings = Settings(trials=1, seeds=1, updates=10, jobs=1, progress=False)
    result = compare(data, TASK, [RMTPP(hidden=4), GatedMixture(hidden=4), Plain()], settings)
    assert not result.failed and not result.rejected
    assert {r.slug for r in result.rows} == {"rmtpp", "gru-mixture", "plain", "poisson", "renewal", "hawkes"}
    assert result.metric == "log_likelihood" and result.rows[0].slug == "hawkes"


# --- what is refused --------------------------------------------------------------------------------------------------


def test_messages(fits, tmp_path):
    data = few()
    other = EventSequences.of([[1.0]], [[0]], classes=("a", "b"))
    for fitted in fits.values():
        with pytest.raises(InputError, match="as in training"):
            fitted.predict(other)
    with pytest.raises(InputError, match="one for each event and each end"):
        TASK.score(fits["poisson"].predict(data), few(seed=9))
    with pytest.raises(InputError, match=r"data: found list, expected EventSequences"):
        TASK.split([1.0, 2.0])
    with pytest.raises(InputError, match="no events"):
        empty = EventSequences.of([[]], end=1.0, classes=("0", "1"))
        TASK.score(fits["poisson"].predict(empty), empty)
    assert "the task is classify" in RMTPP().accepts(data.schema, replace_name("classify"))
    assert "the data are series" in RMTPP().accepts(replace(data.schema, kind="series"), TASK)
    assert "100^2" in HawkesMLE().accepts(replace(data.schema, classes=tuple(map(str, range(101)))), TASK).replace(
        "101", "100"
    )
    fits["rmtpp"].save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(DataError, match=r"model\.safetensors"):
        FittedPointProcess.load(tmp_path)


def replace_name(name):
    class Other:
        pass

    Other.name = name
    return Other()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"log_time": np.array([np.nan, 0.0])}, ["log_time[0]", "nan", "diverged"]),
        ({"median": np.array([1.0])}, ["median", "shape (1,)"]),
        ({"log_mark": np.zeros((2, 2))}, ["log_mark[0]", "sum to one"]),
    ],
)
def test_predictions_that_are_none(change, words):
    good = {
        "happened": np.array([True, False]), "log_time": np.zeros(2), "log_mark": np.full((2, 2), np.log(0.5)),
        "median": np.ones(2), "pit": np.full(2, 0.5), "classes": ("a", "b"),
    }  # fmt: skip
    NextEvents(**good)
    with pytest.raises(InputError) as caught:
        NextEvents(**good | change)
    for word in words:
        assert word in str(caught.value)


def test_a_mark_held_for_impossible():
    data = EventSequences.of([[1.0]], [[1]], end=1.0, classes=("a", "b"))
    with np.errstate(divide="ignore"):
        sure = NextEvents(
            data.happened, np.zeros(2), np.log([[1.0, 0.0], [0.5, 0.5]]), np.ones(2), np.full(2, 0.5), ("a", "b")
        )
    with pytest.raises(InputError, match="probability 0 of 'b'"):
        TASK.score(sure, data)


# --- calibration ------------------------------------------------------------------------------------------------------


def test_calibration_errors():
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1, 1, 1], 20000)
    truth = (rng.random(20000)[:, None] > p.cumsum(1)).sum(1)
    assert expected_calibration_error(p, truth) < 0.02
    assert expected_calibration_error(np.eye(3)[truth], truth) == 0
    assert pit_error(rng.random(20000)) < 0.01
    assert pit_error(rng.random(20000) ** 2) > 0.1
