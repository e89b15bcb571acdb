"""`prompttpp`: histories find prompts by their past, prompts keep what was learnt, and a user's own events go in."""

import numpy as np
import pytest
import torch

from timecell import catalog
from timecell.checkpoint import seeded
from timecell.claims import Trial, load_claims, quick
from timecell.credit.continual import Replay, joined
from timecell.data.containers import Schema
from timecell.data.event_sequences import EventSequences
from timecell.data.splits import Splits
from timecell.data.synthetic.event_regimes import event_regimes
from timecell.data.synthetic.point_processes import hawkes, log_likelihood
from timecell.errors import InputError
from timecell.generate.attentive_hawkes import Prompts
from timecell.inference import evaluate
from timecell.point_process_system import FittedPointProcess
from timecell.system import Run
from timecell.systems.events.claims.prompttpp import found_shares, learnt, stream
from timecell.systems.events.prompttpp import TASK, PromptedHawkes, PromptTPP
from timecell.tasks import Classify
from timecell.tasks.next_event import NextEvent

CLAIMS = load_claims("prompttpp")
QUICK = Trial(seed=0, quick=True)


def prompted(**sizes):
    with seeded(0):
        return PromptedHawkes(2, width=8, **sizes)


def batch(sequences=6, seed=0):
    data = hawkes(sequences=sequences, end=12.0, seed=seed).data
    return data.scaled(data.mean_gap).batch(np.arange(sequences))


# --- prompts ----------------------------------------------------------------------------------------------------------


def test_without_prompts_it_is_its_base():
    net = PromptTPP(prompts=0).build(Schema("events", ("gap", "a"), ("a",)))
    assert not isinstance(net, PromptedHawkes)
    base, b = prompted().eval(), batch()
    nothing = Prompts(torch.zeros(2, 2, 0, 8), torch.zeros(*b.x.shape[:2], 0, dtype=torch.bool), base.code(b.x[..., 0]))
    plain = super(PromptedHawkes, base).remember(b.x)
    row, tau = torch.zeros(6, 3, dtype=torch.long) + 2, torch.rand(6, 3)
    shown = base.log_intensity(base.remember(b.x, prompts=nothing), row, tau)
    assert torch.allclose(shown, base.log_intensity(plain, row, tau), atol=1e-6)


@torch.no_grad()
def test_permuting_the_pool_changes_nothing():
    net, b = prompted(prompts=5, chosen=2).eval(), batch()
    before = net(b.x, lengths=b.lengths)[0]
    order = torch.tensor([4, 2, 0, 1, 3])
    for parameter in (net.pool.prompts, net.pool.keys):
        parameter.copy_(parameter[order].clone())
    assert torch.allclose(net(b.x, lengths=b.lengths)[0], before, atol=1e-5)


@torch.no_grad()
def test_what_a_unit_poisson_process_of_equal_marks_is_like_is_nothing():
    net, rng = prompted(), np.random.default_rng(0)
    x = torch.zeros(40, 1000, 3)
    x[:, 1:, 0] = torch.from_numpy(rng.exponential(size=(40, 999)))
    x[:, 1:, 1:] = torch.eye(2)[torch.from_numpy(rng.integers(2, size=(40, 999)))]
    assert net.query(x)[:, -1].mean(0).abs().max() < 0.02


def test_the_matching_loss_moves_the_chosen_keys_and_not_the_likelihood():
    net, b = prompted(chosen=1), batch()
    with seeded(1):
        y = net.train()(b.x, lengths=b.lengths)[0]
    with seeded(1):
        plain = super(PromptedHawkes, net).forward(b.x, lengths=b.lengths)[0]
    assert torch.equal(y, plain)
    TASK.loss(y, b, slice(0, b.x.shape[1])).backward()
    known = torch.arange(b.x.shape[1]) < b.lengths[:, None] - 1
    found = net.find(b.x)
    chosen = set(found.chosen[known].flatten().tolist())
    assert {m for m, g in enumerate(net.pool.keys.grad) if g.abs().sum() > 0} == chosen
    (expected,) = torch.autograd.grad(-net.alpha * found.similarity[known].sum() / len(b), net.pool.keys)
    assert torch.allclose(net.pool.keys.grad, expected, atol=1e-6)


def test_without_alpha_keys_stay():
    net, b = prompted(alpha=0.0), batch()
    net.train()(b.x, lengths=b.lengths)[0].sum().backward()
    assert not net.pool.keys.grad.any()
    assert net.pool.prompts.grad.any()


# --- streams ----------------------------------------------------------------------------------------------------------


def test_at_rate_zero_a_later_period_teaches_prompts_only():
    parts = stream(QUICK).parts
    system, run = PromptTPP(base_rate=0.0), Run(updates=3, device="cpu")
    with seeded(0):
        net = system.build(parts[0].train.schema)
    system.learn(net, 0, parts[0], run)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    system.learn(net, 1, parts[1], run)
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed <= {"pool.prompts", "pool.keys"}
    assert "pool.prompts" in changed


def test_nothing_is_kept_of_a_period_but_weights():
    """What the system holds after a stream is what it held before it: parameters of the same sizes."""
    one = learnt(PromptTPP(), QUICK)
    fresh = PromptTPP().build(stream(QUICK).parts[0].train.schema)
    sizes = {name: value.shape for name, value in fresh.state_dict().items()}
    assert {name: value.shape for name, value in one.network.state_dict().items()} == sizes
    pool = one.network.pool
    assert pool.prompts.numel() == 8 * 2 * 2 * 3 * 16  # M, layers, heads, length, width


def test_the_last_row_of_the_matrix_is_made_of_the_items():
    one = learnt(PromptTPP(), QUICK)
    assert one.items.mean() == pytest.approx(one.matrix.average)
    assert one.matrix.values.shape == (4, 4)


def test_shares_of_found_prompts_do_not_see_padding():
    net, data = prompted().eval(), hawkes(sequences=8, end=12.0).data
    shares = found_shares(net, data)
    rows = [found_shares(net, data.select(np.array([i]))) * (n + 1) for i, n in enumerate(data.counts)]
    assert np.allclose(shares, np.sum(rows, 0) / (data.counts + 1).sum(), atol=1e-6)


def test_regimes_differ_come_back_and_know_their_likelihood():
    A, B, a = event_regimes("ABa", sequences=(60, 5, 60), seed=3)
    own = log_likelihood(A.truth, event_sequences_of(A.parts.test)).sum()
    assert own > log_likelihood(B.truth, event_sequences_of(A.parts.test)).sum()
    assert (
        log_likelihood(a.truth, event_sequences_of(A.parts.test)).sum()
        > log_likelihood(B.truth, event_sequences_of(A.parts.test)).sum()
    )
    for regime in (A, B):
        assert event_sequences_of(regime.parts.train).mean_gap == pytest.approx(1.0, rel=0.15)
    same, again = event_regimes("A", seed=3), event_regimes("A", seed=3)
    assert same[0].parts.test.fingerprint == again[0].parts.test.fingerprint


def event_sequences_of(data):
    assert isinstance(data, EventSequences)
    return data


def test_a_regime_that_never_was_cannot_come_back():
    with pytest.raises(InputError, match=r"order\[1\]: found 'b'"):
        event_regimes("Ab")


def test_replay_keeps_a_share_of_each_task_and_mixes_it_in():
    tasks = [hawkes(sequences=20, end=10.0, seed=seed).data for seed in range(3)]
    memory = Replay(share=0.25).keeping(tasks[0], seed=1).keeping(tasks[1], seed=2)
    mixed = memory.mixed(tasks[2])
    assert len(mixed) == 30
    assert mixed.select(np.arange(20)).fingerprint == tasks[2].fingerprint
    old = mixed.select(np.arange(20, 25))
    assert all(
        any(np.array_equal(old.times[a:b], t) for t in times_of(tasks[0])) for a, b in zip(old.offsets, old.offsets[1:])
    )
    assert mixed.schema.lengths[1] == max(task.schema.lengths[1] for task in (tasks[2], *memory.kept))


def times_of(data):
    return [data.times[a:b] for a, b in zip(data.offsets, data.offsets[1:])]


def test_only_sequences_of_the_same_marks_are_joined():
    one = EventSequences.of([[1.0]], [[0]], end=2.0, classes=("a", "b"))
    other = EventSequences.of([[1.0]], [[0]], end=2.0, classes=("a",))
    with pytest.raises(InputError, match=r"parts\[1\]: found marks \('a',\), expected \('a', 'b'\)"):
        joined([one, other])
    with pytest.raises(InputError, match="parts: found none"):
        joined([])


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_out_of_range(share):
    with pytest.raises(InputError, match=r"Replay\(share\)"):
        Replay(share=share)


# --- a user's events --------------------------------------------------------------------------------------------------


def test_it_accepts_events_and_says_why_nothing_else():
    system = catalog.load_system("prompttpp")
    events = Schema("events", ("gap", "a"), ("a",))
    assert system.accepts(events, NextEvent()) is None
    assert "next event" in system.accepts(events, Classify())


def test_fit_predict_save_load(tmp_path):
    data, task = hawkes(sequences=30, end=20.0).data, NextEvent()
    parts = task.split(data)
    assert isinstance(parts, Splits)
    fitted = PromptTPP().fit(parts.train, parts.valid, task, Run(updates=20, device="cpu"))
    assert {"parameters", "updates", "seconds"} <= fitted.report.keys()
    said = fitted.predict(parts.test)
    fitted.save(tmp_path)
    again = FittedPointProcess.load(tmp_path).predict(parts.test)
    for name, values in said.arrays().items():
        assert np.array_equal(values, again.arrays()[name]), name
    assert task.score(said, parts.test).value == pytest.approx(
        evaluate(fitted.network, parts.test.scaled(fitted.unit), TASK).value - np.log(fitted.unit), abs=1e-3
    )


def test_another_unit_of_time_shifts_the_log_likelihood_by_its_logarithm():
    data, task = hawkes(sequences=30, end=20.0).data, NextEvent()
    scores = []
    for unit in (1.0, 60.0):
        parts = task.split(data.scaled(unit))
        fitted = PromptTPP().fit(parts.train, parts.valid, task, Run(updates=5, device="cpu"))
        scores.append(task.score(fitted.predict(parts.test), parts.test).metrics["time_log_likelihood"])
    assert scores[1] - scores[0] == pytest.approx(np.log(60.0), abs=1e-3)


@pytest.mark.parametrize("name", CLAIMS)
def test_claims_run(name):
    assert set(CLAIMS[name].shows.arms) <= quick(CLAIMS[name]).keys()
