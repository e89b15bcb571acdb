"""`fit`: it learns, keeps to its budget and its recipe, chooses on validation data, and says what is wrong."""

import math
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from timecell import GRU, LIF, Delayed, LeakyIntegrator, Sequential, checkpoint
from timecell.credit import BPTT, SLTT, TruncatedBPTT
from timecell.data.containers import Schema, Sequences, Series
from timecell.errors import InputError, TimecellError
from timecell.inference import assess
from timecell.interrupt import noted
from timecell.recipe import Anneal, Recipe, Stage, Staged
from timecell.system import Run, Splits
from timecell.tasks import Classify, Forecast
from timecell.train import evaluate, fit, predict

CPU = Run(device="cpu")


def ring(n=240, seed=0, ragged=False):
    """Which of two channels rang first? Both ring once; noise everywhere. It takes memory, and learns in a minute."""
    rng = np.random.default_rng(seed)
    label = rng.integers(2, size=n)
    samples = []
    for k in label:
        x = 0.1 * rng.standard_normal((rng.integers(10, 16) if ragged else 12, 2)).astype(np.float32)
        x[2, k] += 2
        x[7, 1 - k] += 2
        samples.append(x)
    return Sequences.of(samples, label)


def loud(n=240, seed=0, ragged=False):
    """Which of two channels is louder? No single step says it for sure, and no gradient has to cross time."""
    rng = np.random.default_rng(seed)
    label = rng.integers(2, size=n)
    lengths = rng.integers(10, 16, size=n) if ragged else np.full(n, 12)
    channel = np.arange(2) == label[:, None]
    return Sequences.of([rng.standard_normal((T, 2)).astype(np.float32) + c for T, c in zip(lengths, channel)], label)


def gru(seed=0, size=12, dropout=0.0):
    torch.manual_seed(seed)
    return Sequential(GRU(2, size), nn.Dropout(dropout), nn.Linear(size, 2))


def weights(net):
    return {k: v.clone() for k, v in net.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


LAST = Classify("last")
FAST = Recipe((Stage(lr=1e-2),), batch=40)


# --- learning ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("credit", "question"),
    [(BPTT(), ring), (TruncatedBPTT(5), loud)],
    ids=lambda v: getattr(v, "__name__", type(v).__name__),
)
@pytest.mark.parametrize("ragged", [False, True])
def test_it_learns(credit, question, ragged):
    train, valid, unseen = (question(n, seed, ragged) for seed, n in enumerate((240, 60, 100)))
    task = Classify("every")
    net = gru()
    before = evaluate(net, unseen, task).value
    trained = fit(net, train, task, valid=valid, credit=credit, recipe=FAST, run=replace(CPU, updates=120))
    after = evaluate(trained, unseen, task)
    assert before < 0.8 and after.value > 0.9 and after.primary == "accuracy"
    assert trained.history[-1]["train_loss"] < trained.history[0]["train_loss"]
    assert np.mean(predict(net, unseen, task).predicted == unseen.target) == after.value


def test_a_spiking_net_learns_without_blame_through_time():
    torch.manual_seed(0)
    net = Sequential(nn.Linear(2, 32), LIF(32, tau=8.0), nn.Linear(32, 2), LeakyIntegrator(2, tau=20.0))
    task, recipe = Classify("every"), Recipe((Stage(lr=1e-2),), batch=40)
    trained = fit(net, loud(), task, valid=loud(60, 1), credit=SLTT(4), recipe=recipe, run=replace(CPU, updates=80))
    assert evaluate(trained, loud(100, 2), task).value > 0.9


def test_a_forecast_beats_the_last_value():
    wave = np.sin(np.arange(300) * 0.4)[:, None] + 0.01 * np.random.default_rng(0).standard_normal((300, 1))
    task = Forecast(history=16, horizon=4)
    splits = task.split(Series(wave, Schema("series", ("x",))))
    torch.manual_seed(0)
    net = Sequential(GRU(1, 16), nn.Linear(16, 4))
    nn.init.zeros_(net[1].weight), nn.init.zeros_(net[1].bias)
    naive = evaluate(net, splits.test, task).value
    trained = fit(net, splits, task, recipe=FAST, run=replace(CPU, updates=150))
    assert evaluate(trained, splits.test, task).value < 0.3 * naive


# --- budget, batches, randomness ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counting(Classify):
    """A task that counts how often its loss is asked for in training."""

    def loss(self, y, batch, steps):
        if y.requires_grad:
            CALLS.append(batch.x[:, 0, 0].tolist())
        return super().loss(y, batch, steps)


CALLS: list = []


@pytest.mark.parametrize("updates", [0, 1, 7, 13])
def test_the_budget_is_exact(updates):
    CALLS.clear()
    stages = (Stage(share=2), Stage(share=1), Stage(share=1))
    recipe = Recipe(stages, batch=30)
    trained = fit(gru(), ring(100), Counting("last"), recipe=recipe, run=replace(CPU, updates=updates))
    assert trained.updates == updates == len(CALLS) and not trained.hit_time_cap


def test_an_epoch_sees_every_sample_once_in_even_batches():
    CALLS.clear()
    data = ring(100)
    run = replace(CPU, updates=8)
    fit(gru(), data, Counting("last"), recipe=Recipe(batch=30), run=run)
    assert [len(c) for c in CALLS] == [25] * 8
    first, second = list(chain(*CALLS[:4])), list(chain(*CALLS[4:]))
    firsts = [float(data[i][0, 0]) for i in range(100)]
    assert sorted(first) == sorted(second) == sorted(firsts) and first != second and first != firsts


def test_the_same_seed_gives_the_same_bits_and_another_one_others():
    nets = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        net = gru(dropout=0.3)
        torch.manual_seed(noise)  # what was drawn before does not matter
        fit(net, ring(100), LAST, valid=ring(30, 1), recipe=FAST, run=replace(CPU, updates=6, seed=seed))
        nets.append(weights(net))
    assert equal(nets[0], nets[1]) and not equal(nets[0], nets[2])


def test_the_callers_random_numbers_are_left_alone():
    net = gru(dropout=0.5)
    torch.manual_seed(5), np.random.seed(5), random.seed(5)  # noqa: NPY002
    expected = torch.rand(3).tolist(), np.random.rand(), random.random()  # noqa: NPY002
    torch.manual_seed(5), np.random.seed(5), random.seed(5)  # noqa: NPY002
    fit(net, ring(40), LAST, run=replace(CPU, updates=3))
    assert (torch.rand(3).tolist(), np.random.rand(), random.random()) == expected  # noqa: NPY002


def test_checkpoints_change_nothing(tmp_path):
    results = []
    for folder, every in ((None, 30.0), (tmp_path / "a", 0.0), (tmp_path / "b", 30.0)):
        net = gru(dropout=0.3)
        run = replace(CPU, updates=12, folder=folder, checkpoint_every=every)
        trained = fit(net, ring(100), LAST, valid=ring(30, 1), recipe=FAST, run=run)
        results.append((weights(net), trained.history, trained.best))
    for other in results[1:]:
        assert equal(results[0][0], other[0]) and results[0][1:] == other[1:]


# --- choosing on validation data ---------------------------------------------------------------------------------------


def test_early_stopping_gives_back_the_best_weights():
    valid = ring(60, 1)
    recipe = Recipe((Stage(lr=0.3, schedule="constant", clip=None),), batch=40, patience=3)  # a rate that overshoots
    net = gru()
    trained = fit(net, ring(120), LAST, valid=valid, recipe=recipe, run=replace(CPU, updates=300))
    assert trained.stopped_early and trained.updates < 300 and not trained.hit_time_cap
    assert trained.history.index(trained.best) == len(trained.history) - 4
    assert trained.best["valid_score"] == max(row["valid_score"] for row in trained.history)
    loss, scores = assess(net, valid, LAST)
    assert (loss, scores.value) == (trained.best["valid_loss"], trained.best["valid_score"])
    assert loss != trained.history[-1]["valid_loss"]


def test_ties_in_the_score_are_broken_by_the_loss():
    valid = ring(60, 1)
    trained = fit(gru(), ring(), LAST, valid=valid, recipe=FAST, run=replace(CPU, updates=120))
    tied = [row for row in trained.history if row["valid_score"] == trained.best["valid_score"]]
    assert len(tied) > 1 and trained.best["valid_loss"] == min(row["valid_loss"] for row in tied)


class Sealed:
    """A test set that must not be touched."""

    def __getattribute__(self, name):
        raise AssertionError(f"training reached for test.{name}")

    def __len__(self):
        raise AssertionError("training asked for the size of the test set")


def test_the_test_set_stays_sealed(tmp_path):
    splits = Splits(ring(60), ring(30, 1), Sealed())
    run = replace(CPU, updates=4, folder=tmp_path, checkpoint_every=0.0)
    assert fit(gru(), splits, LAST, run=run).best is not None


def test_without_validation_data_the_last_weights_stay():
    trained = fit(gru(), ring(60), LAST, run=replace(CPU, updates=4))
    assert trained.best is None and [row["update"] for row in trained.history] == [1, 2, 3, 4]
    assert not trained.network.training and "valid_loss" not in trained.history[0]


def test_validation_happens_when_asked():
    recipe = Recipe(batch=40, validate_every=5)
    trained = fit(gru(), ring(100), LAST, valid=ring(30, 1), recipe=recipe, run=replace(CPU, updates=12))
    assert [row["update"] for row in trained.history] == [5, 10, 12]


def test_evaluating_puts_each_module_back_into_its_mode():
    net = gru(dropout=0.5)
    net.train()
    net[1].eval()
    first, second = (predict(net, ring(20), LAST).probabilities for _ in range(2))
    assert np.array_equal(first, second)
    assert net.training and not net[1].training and net[0].training


def test_batches_of_prediction_do_not_matter():
    data, net = ring(30, ragged=True), gru()
    whole, parts = (predict(net, data, LAST, batch=b).probabilities for b in (256, 7))
    assert np.allclose(whole, parts, atol=1e-6)


# --- stages, rates, annealed values ------------------------------------------------------------------------------------


def delayed(seed=0):
    torch.manual_seed(seed)
    return Sequential(Delayed(2, 8, max_delay=6), LIF(8), nn.Linear(8, 2), LeakyIntegrator(2))


SIGMA = Anneal("sigma", start=3.0, end=0.5, share=0.5)
TWO_STAGES = Recipe(
    (Stage(share=3, rates={"delay": 30.0}, anneal=(SIGMA,)), Stage(share=1, prepare="harden")), batch=50
)


def test_stages_prepare_anneal_and_choose_among_the_last():
    net = delayed()
    first_delays = net[0].delay.detach().clone()
    trained = fit(net, ring(100), LAST, valid=ring(30, 1), recipe=TWO_STAGES, run=replace(CPU, updates=16))
    assert net[0].hard and net[0].sigma == 0.5
    assert torch.equal(net[0].delay, net[0].delay.round()) and not torch.equal(net[0].delay, first_delays.round())
    assert [row["stage"] for row in trained.history] == [0] * 6 + [1] * 2
    assert [row["candidate"] for row in trained.history] == [False] * 6 + [True] * 2
    assert trained.best["update"] > 12


def test_weights_are_candidates_once_annealed_values_have_settled():
    recipe = Recipe((Stage(anneal=(SIGMA,)),), batch=50)
    trained = fit(delayed(), ring(100), LAST, valid=ring(30, 1), recipe=recipe, run=replace(CPU, updates=8))
    assert [(row["update"], row["candidate"]) for row in trained.history] == [
        (2, False),
        (4, True),
        (6, True),
        (8, True),
    ]


def test_delays_stay_in_range_and_have_a_rate_of_their_own():
    net = delayed()
    before = weights(net)
    recipe = Recipe((Stage(lr=1e-3, schedule="constant", rates={"delay": 5000.0}),), batch=50)
    fit(net, ring(100), LAST, recipe=recipe, run=replace(CPU, updates=6))
    assert net[0].delay.min() >= 0 and net[0].delay.max() <= 6
    moved = {k: float((v - before[k]).abs().max()) for k, v in net.state_dict().items()}
    assert moved["0.delay"] > 1 and 0 < moved["2.weight"] < 0.01


def test_weight_decay_spares_delays_and_neurons():
    net = Sequential(Delayed(2, 8, max_delay=6), LIF(8, tau=5.0, learn=("tau",)), nn.Linear(8, 2))
    decay = {role: g["weight_decay"] for g in Stage(weight_decay=0.1).groups(net) for role in [_role(net, g)]}
    assert decay == {"weight": 0.1, "delay": 0.0, "neuron": 0.0}


def _role(net, group):
    from timecell import parameter_groups

    return next(r for r, ps in parameter_groups(net).items() if ps[0] is group["params"][0])


def test_a_time_cap_is_reported_and_the_net_is_still_finished():
    net = delayed()
    run = replace(CPU, updates=10_000, seconds=0.3)
    trained = fit(net, ring(100), LAST, valid=ring(30, 1), recipe=TWO_STAGES, run=run)
    assert trained.hit_time_cap and not trained.stopped_early and trained.updates < 7000 and trained.seconds < 5
    assert net[0].hard and trained.best["candidate"] and trained.best["update"] == trained.updates


def test_the_cap_may_be_so_low_that_nothing_is_learnt():
    trained = fit(gru(), ring(60), LAST, valid=ring(30, 1), run=replace(CPU, seconds=1e-9))
    assert trained.updates == 0 and trained.hit_time_cap and trained.best["train_loss"] is None


@given(
    shares=st.lists(st.floats(0.01, 10), min_size=1, max_size=4),
    updates=st.integers(0, 1000),
)
def test_stages_share_the_updates_out(shares, updates):
    ends = Recipe(tuple(Stage(share=s) for s in shares)).ends(updates)
    assert ends[-1] == updates and all(0 <= a <= b for a, b in zip((0, *ends), ends))


@given(done=st.floats(0, 1), schedule=st.sampled_from(["constant", "cosine", "onecycle"]))
def test_rates_are_fractions(done, schedule):
    assert 0 <= Stage(schedule=schedule).rate(done) <= 1


def test_schedules_begin_and_end_as_they_should():
    rate = lambda name, done: Stage(schedule=name).rate(done)  # noqa: E731
    assert [rate("cosine", d) for d in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert [rate("onecycle", d) for d in (0, 0.3, 1)] == pytest.approx([1 / 25, 1, 0])
    assert rate("onecycle", 0.2999) == pytest.approx(1, abs=1e-3)


# --- what it says ------------------------------------------------------------------------------------------------------


class Exploding(nn.Module):
    def __init__(self, at):
        super().__init__()
        self.out, self.at, self.calls = nn.Linear(2, 2), at, 0

    def forward(self, x, state=None, *, lengths=None):
        self.calls += 1
        return self.out(x) * (math.nan if self.calls == self.at else 1.0), None


def test_a_loss_that_is_not_finite_names_the_update_and_the_last_good_loss():
    with pytest.raises(TimecellError) as e:
        fit(Exploding(at=4), ring(100), LAST, recipe=Recipe(batch=100), run=replace(CPU, updates=10))
    text = str(e.value)
    assert "loss of update 4" in text and "found nan" in text and "last finite loss was 0." in text
    assert "lower lr (0.003)" in text and "data" in text


class Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y):
        return y.clone()

    @staticmethod
    def backward(ctx, g):
        return g * math.inf


class BadGradient(Exploding):
    def forward(self, x, state=None, *, lengths=None):
        return Scaled.apply(self.out(x)), None


def test_a_gradient_that_is_not_finite_is_never_stepped_on():
    net = BadGradient(at=0)
    before = weights(net)
    with pytest.raises(TimecellError, match="gradient norm of update 1"):
        fit(net, ring(100), LAST, run=replace(CPU, updates=10))
    assert equal(before, weights(net))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: fit(gru(), ring(40), Classify("mean"), credit=TruncatedBPTT(5), run=CPU), "TruncatedBPTT.*classify"),
        (lambda: fit(gru(), ring(40), LAST, run=replace(CPU, device="tpu")), "run.device.*found 'tpu'.*auto, cpu, cuda"),
        (lambda: fit(gru(), ring(40), LAST, run=replace(CPU, resume=True)), "run.resume.*no folder"),
        (lambda: fit(gru(), ring(40), LAST, recipe=Recipe((Stage(rates={"delays": 3.0}),)), run=CPU), "did you mean 'delay'"),
        (lambda: fit(gru(), ring(40), LAST, recipe=Recipe((Stage(prepare="harden"),)), run=CPU), "prepare.*'harden'"),
        (lambda: fit(gru(), ring(40), LAST, recipe=Recipe((Stage(anneal=(SIGMA,)),)), run=CPU), "attribute.*'sigma'"),
        (lambda: fit(gru(), ring(40), LAST, valid=ring(40).select(np.arange(0)), run=CPU), "valid: found no samples"),
        (lambda: fit(nn.Identity(), ring(40), LAST, run=CPU), "no parameter to train"),
        (lambda: Stage(schedule="cosin"), "did you mean 'cosine'"),
        (lambda: Stage(lr=0.0), r"Stage\(lr\): found 0.0"),
        (lambda: Anneal("sigma", 1.0, 0.0), r"Anneal\(end\): found 0.0"),
        (lambda: Anneal("sigma", 1.0, 0.5, share=2.0), r"Anneal\(share\): found 2.0.*at most 1"),
        (lambda: Anneal("p", 0.0, math.nan, course="linear"), r"Anneal\(end\): found nan"),
        (lambda: Anneal("p", 0.1, 0.5, course="linaer"), "did you mean 'linear'"),
        (lambda: Staged("ticks", (4,)), r"Staged\(values\): found \(4,\), expected two or more"),
        (lambda: Anneal("surrogate", 1.0, 2.0).set(LIF(2), 0.0), "'surrogate', a choice of LIF.*use Staged"),
        (lambda: Anneal("tau", 2.0, 4.0).set(LIF(2, learn=("tau",)), 0.0), "'tau', which LIF learns.*learn="),
        (lambda: Anneal("threshold", 1.0, -1.0, course="linear").set(LIF(2), 1.0), r"LIF\(threshold\): found -1.0"),
        (lambda: Staged("reset", ("soft", "hart")).set(LIF(2), 1.0), r"Staged\(reset\).*did you mean 'hard'"),
        (lambda: Recipe(()), "at least one stage"),
        (lambda: Recipe(batch=0), r"Recipe\(batch\): found 0"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_training(make, says):
    with pytest.raises(InputError, match=f"(?s){says}"):
        make()


def test_lines_where_there_is_no_terminal_and_nothing_when_not_asked(capfd):
    fit(gru(), ring(100), LAST, valid=ring(30, 1), recipe=Recipe(batch=50), run=replace(CPU, updates=4, progress=True))
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[0].startswith("update 2/4: train loss") and "accuracy" in lines[0]
    fit(gru(), ring(100), LAST, run=replace(CPU, updates=4))
    assert capfd.readouterr() == ("", "")


def test_a_bar_on_a_terminal(monkeypatch, capfd):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    fit(gru(), ring(100), LAST, valid=ring(30, 1), recipe=Recipe(batch=50), run=replace(CPU, updates=4, progress=True))
    assert "4/4" in capfd.readouterr().err


@dataclass(frozen=True)
class Interrupting(Classify):
    """A task in whose third training loss somebody presses Ctrl-C."""

    def loss(self, y, batch, steps):
        if y.requires_grad:
            CALLS.append(None)
            if len(CALLS) == 3:
                signal.raise_signal(signal.SIGINT)
        return super().loss(y, batch, steps)


def test_ctrl_c_finishes_the_update_and_loses_nothing(tmp_path, capfd):
    CALLS[:] = [None] * 3  # nobody presses this time
    straight = gru()
    expected = fit(
        straight, ring(100), Interrupting("last"), valid=ring(30, 1), recipe=FAST, run=replace(CPU, updates=8)
    )
    CALLS.clear()
    net, run = gru(), replace(CPU, updates=8, folder=tmp_path, resume=True)
    with pytest.raises(KeyboardInterrupt):
        fit(net, ring(100), Interrupting("last"), valid=ring(30, 1), recipe=FAST, run=run)
    said = capfd.readouterr().err
    assert "Stopped after update 3" in said and str(tmp_path) in said and said.count("\n") == 1
    assert checkpoint.latest(tmp_path).name == "checkpoint-000000003"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = fit(gru(1), ring(100), Interrupting("last"), valid=ring(30, 1), recipe=FAST, run=run)
    assert equal(weights(straight), weights(resumed.network)) and resumed.history == expected.history


def test_ctrl_c_without_a_folder_says_that_nothing_is_kept(capfd):
    CALLS.clear()
    with pytest.raises(KeyboardInterrupt):
        fit(gru(), ring(100), Interrupting("last"), run=replace(CPU, updates=8))
    assert "nothing was kept" in capfd.readouterr().err


def test_a_signal_waits_and_then_does_what_it_always_does():
    code = (
        "import signal, sys; from timecell.interrupt import noted\n"
        "with noted() as caught:\n"
        "    signal.raise_signal(signal.SIGTERM); print(caught, flush=True)\n"
        "print('not reached')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (-signal.SIGTERM, "[15]\n")


def test_a_second_ctrl_c_acts_at_once():
    with pytest.raises(KeyboardInterrupt), noted():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second one was kept back too")


def test_a_program_that_handles_signals_keeps_its_handlers():
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with noted() as caught:
            signal.raise_signal(signal.SIGTERM)
        assert seen == [signal.SIGTERM] and caught == []
    finally:
        signal.signal(signal.SIGTERM, before)


def test_training_in_a_thread_leaves_signals_alone():
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(fit, gru(), ring(40), LAST, run=replace(CPU, updates=2)).result().updates == 2
