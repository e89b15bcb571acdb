"""Nets made of cells: what each combinator promises beyond the common contract (which runs on all of them elsewhere)."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import timecell as tc
from timecell.combine import Bidirectional, Every, Instant, Loop, Recurrent, Sequential, Ticks, announce_loop, silence
from timecell.combine.bidirectional import reverse
from timecell.errors import TimecellError
from timecell.memory import GRU, LSTM
from timecell.state import flatten
from timecell.testing import check

SIZES = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(0, 1000))


def doubles(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some_lengths(batch, steps, seed):
    return torch.randint(0, steps + 1, (batch,), generator=torch.Generator().manual_seed(seed))


def same_states(a, b):
    one, other = flatten(a), flatten(b)
    return one.keys() == other.keys() and all(torch.allclose(one[n], other[n], atol=1e-12) for n in one)


def split_equals_whole(cell, x, lengths, cut):
    """Two stretches, the second from the first one's state, are the whole; a sample may end in the first."""
    whole, end = cell(x, lengths=lengths)
    left, state = cell(x[:, :cut], lengths=lengths.clamp(max=cut))
    right, state = cell(x[:, cut:], state, lengths=(lengths - cut).clamp(min=0))
    return torch.allclose(torch.cat([left, right], 1), whole, atol=1e-12) and same_states(state, end)


# --- both directions ---------------------------------------------------------------------------------------------


@given(SIZES)
def test_reversal_honours_lengths_and_is_its_own_inverse(sizes):
    batch, steps, seed = sizes
    x, lengths = doubles(batch, steps, 2, seed=seed), some_lengths(batch, steps, seed)
    back = reverse(x, lengths)
    for b, n in enumerate(lengths.tolist()):
        assert torch.equal(back[b, :n], x[b, :n].flip(0)) and torch.equal(back[b, n:], x[b, n:])
    assert torch.equal(reverse(back, lengths), x)


@pytest.mark.parametrize("lengths", [None, torch.tensor([6, 2, 1])])
def test_bidirectional_lstm_equals_torch(lengths):
    ours, theirs = Bidirectional(LSTM(4, 3)).double(), nn.LSTM(4, 3, batch_first=True, bidirectional=True).double()
    for name, value in theirs.named_parameters():
        direction = ours["backwards"] if name.endswith("_reverse") else ours["forwards"]
        direction.rnn.get_parameter(name.removesuffix("_reverse")).data.copy_(value.data)
    x = doubles(3, 6, 4)
    y, state = ours(x, lengths=lengths)
    if lengths is None:
        expected, (h, _) = theirs(x)
    else:
        packed, (h, _) = theirs(nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True))
        expected, _ = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)
    assert torch.allclose(y, expected, atol=1e-12)
    assert torch.allclose(torch.stack([state["forwards"].h, state["backwards"].h]), h, atol=1e-12)


def test_bidirectional_merges_and_says_what_it_is():
    x = doubles(2, 5, 3)
    cat, add = Bidirectional(GRU(3, 4)).double(), Bidirectional(GRU(3, 4), merge="add").double()
    add.load_state_dict(cat.state_dict())
    assert torch.allclose(cat(x)[0].unflatten(-1, (2, 4)).sum(-2), add(x)[0])
    net = Sequential(nn.Linear(3, 3), cat)
    assert (net.causal, net.streams) == (False, False)
    cat["backwards"].rnn.weight_ih_l0.data.zero_()
    assert cat["forwards"].rnn.weight_ih_l0.abs().sum() > 0  # two cells, not one


# --- feedback ----------------------------------------------------------------------------------------------------


def layers():
    return Sequential(nn.Linear(4, 5), tc.LeakyIntegrator(5, tau=3.0, learn=("tau",)), nn.Tanh(), nn.Linear(5, 2))


@given(SIZES, st.integers(0, 9))
def test_a_loop_may_be_cut_anywhere(sizes, cut):
    batch, steps, seed = sizes
    torch.manual_seed(seed)
    loop = Loop(layers(), feedback=tc.Delayed(2, 4, max_delay=2)).double().eval()
    x, lengths = doubles(batch, steps, 4, seed=seed), some_lengths(batch, steps, seed)
    assert split_equals_whole(loop, x, lengths, min(cut, steps))


def test_gradients_through_a_loop_equal_the_unrolled_ones():
    loop, x = Loop(layers(), feedback=nn.Linear(2, 4)).double(), doubles(2, 6, 4).requires_grad_()
    inputs = [x, *loop.parameters()]
    y, state, outputs = torch.zeros(2, 2, dtype=torch.float64), None, []
    for t in range(6):
        y, state = loop.block.step(x[:, t] + loop.feedback(y), state)
        outputs.append(y)
    expected = torch.stack(outputs, 1)
    assert torch.allclose(loop(x)[0], expected, atol=1e-14)
    by_hand = torch.autograd.grad((expected**2).sum(), inputs)
    for ours, hand in zip(torch.autograd.grad((loop(x)[0] ** 2).sum(), inputs), by_hand):
        assert torch.allclose(ours, hand, atol=1e-12)


def test_a_loop_around_a_plain_module_is_an_elman_net():
    x = doubles(2, 7, 3)
    ours, theirs = Loop(nn.Tanh(), feedback=nn.Linear(3, 3)).double(), nn.RNN(3, 3, batch_first=True).double()
    theirs.weight_ih_l0.data = torch.eye(3, dtype=torch.float64)
    theirs.weight_hh_l0.data, theirs.bias_hh_l0.data = ours.feedback.weight.data, ours.feedback.bias.data
    theirs.bias_ih_l0.data.zero_()
    assert torch.allclose(ours(x)[0], theirs(x)[0], atol=1e-12)


def test_a_loop_around_feature_maps_and_what_is_recorded_in_it():
    block = Sequential(nn.Conv2d(2, 3, 3, padding=1), tc.LIF((3, 1, 1)), nn.BatchNorm2d(3))
    loop, x = Loop(block, feedback=nn.Conv2d(3, 2, 1)), torch.rand(2, 4, 2, 5, 5)
    statistics = copy.deepcopy(block[2])
    with tc.record(loop, "block.1.v") as r:
        y, _ = loop(x)
    assert y.shape == (2, 4, 3, 5, 5) and r["block.1.v"].shape == (2, 4, 3, 5, 5)
    assert block[2].num_batches_tracked == statistics.num_batches_tracked + 4  # asking for the shape left none behind


def test_recurrent_is_the_loop_of_one_neuron():
    x, synapse = doubles(3, 8, 4), nn.Linear(4, 4)
    neuron = tc.LIF(4, tau=3.0)
    one, other = Recurrent(neuron, synapse).double(), Loop(neuron, synapse).double()
    lengths = torch.tensor([8, 3, 0])
    assert torch.equal(one(x, lengths=lengths)[0], other(x, lengths=lengths)[0])


def test_python_loops_are_announced_once(capsys):
    for steps in (1, 5, 7):
        announce_loop("Snail", steps)
    assert capsys.readouterr().err == "timecell: Snail runs as a Python loop over time (slow)\n"


# --- clocks ------------------------------------------------------------------------------------------------------


def cell_with_memory():
    return Sequential(nn.Linear(3, 4), tc.LeakyIntegrator(4, tau=5.0)).double()


@given(SIZES, st.integers(1, 4))
def test_ticks_are_inner_steps_with_the_input_held(sizes, n):
    batch, steps, seed = sizes
    cell, x = cell_with_memory(), doubles(batch, steps, 3, seed=seed)
    state, outputs = None, []
    for t in range(steps):
        for _ in range(n):
            y, state = cell.step(x[:, t], state)
            outputs.append(y)
    expected = torch.stack(outputs, 1).unflatten(1, (steps, n))
    assert torch.allclose(Ticks(cell, n, keep="all")(x)[0], expected, atol=1e-12)
    assert torch.allclose(Ticks(cell, n)(x)[0], expected[:, :, -1], atol=1e-12)


@given(SIZES, st.integers(1, 4), st.integers(0, 9))
def test_ticks_may_be_cut_anywhere(sizes, n, cut):
    batch, steps, seed = sizes
    x, lengths = doubles(batch, steps, 3, seed=seed), some_lengths(batch, steps, seed)
    for keep in ("last", "all"):
        cell = Ticks(cell_with_memory(), n, keep)
        cut = min(cut, steps - 1) or steps
        if cut < steps:
            assert split_equals_whole(cell, x, lengths, cut)
        assert not cell(x, lengths=lengths)[0][torch.arange(steps) >= lengths[:, None]].any()


@given(SIZES, st.integers(1, 5))
def test_a_slow_clock_runs_at_every_kth_step_and_holds(sizes, k):
    batch, steps, seed = sizes
    cell, x = cell_with_memory(), doubles(batch, steps, 3, seed=seed)
    state, outputs = None, []
    for t in range(steps):
        if t % k == 0:
            y, state = cell.step(x[:, t], state)
        outputs.append(y)
    ours, end = Every(k, cell)(x)
    assert torch.allclose(ours, torch.stack(outputs, 1), atol=1e-12)
    assert same_states(end["cell"], state) and end["phase"].tolist() == [steps % k] * batch


@given(SIZES, st.integers(1, 5), st.integers(0, 9))
def test_a_slow_clock_may_be_cut_anywhere(sizes, k, cut):
    batch, steps, seed = sizes
    x, lengths = doubles(batch, steps, 3, seed=seed), some_lengths(batch, steps, seed)
    cut = min(cut, steps - 1)
    if cut > 0:
        assert split_equals_whole(Every(k, cell_with_memory()), x, lengths, cut)


def test_a_slow_cell_takes_part_in_streaming_and_slow_statistics():
    cell = Every(2, nn.BatchNorm1d(3)).double()
    x, state = doubles(4, 6, 3), None
    for t in range(6):
        _, state = cell.step(x[:, t], state)
    assert cell["cell"].num_batches_tracked == 3 and not cell["cell"].running_mean.isnan().any()


class Peek(tc.Cell):
    """Sees two steps ahead."""

    lookahead, streams = 2, False

    def forward(self, x, state=None, *, lengths=None):
        return silence(torch.nn.functional.pad(silence(x, lengths), (0, 0, 0, 2))[:, 2:], lengths), None


def test_lookahead_is_counted_in_the_steps_of_the_data():
    assert [Ticks(Peek(), n).lookahead for n in (1, 2, 3)] == [2, 1, 1]
    assert Every(3, Peek()).lookahead == 6
    assert not Ticks(Peek(), 2).streams and not Every(2, Peek()).streams
    for cell in (Ticks(Peek(), 3), Ticks(Peek(), 3, keep="all"), Every(3, Peek()), Sequential(Peek(), Peek())):
        failed = [r.name for r in check(cell) if not r.passed]
        assert not failed, failed


# --- nesting -----------------------------------------------------------------------------------------------------


NESTS = {
    "slow ticks": lambda: Every(2, Ticks(LSTM(4, 3), 2)),
    "ticks of a slow loop": lambda: Ticks(Every(3, Loop(nn.Linear(4, 4), feedback=nn.Linear(4, 4, bias=False))), 2),
    "a loop through clocks": lambda: Loop(Every(2, LSTM(4, 4)), feedback=Ticks(nn.Linear(4, 4), 2)),
    "both directions twice": lambda: Bidirectional(Every(2, Bidirectional(GRU(4, 2)))),
    "a slow layer": lambda: Sequential(Every(2, nn.Linear(4, 3)), nn.LayerNorm(3)),
}


@pytest.mark.parametrize("make", NESTS.values(), ids=NESTS.keys())
def test_combinators_nest(make):
    failed = [f"{r.name}: {r.reason}" for r in check(make()) if not r.passed and r.name != "gradients"]
    assert not failed, "\n".join(failed)


# --- errors ------------------------------------------------------------------------------------------------------

X = torch.ones(2, 5, 3)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Bidirectional(GRU(3, 2)).step(X[:, 0]), ["Bidirectional.step", "needs the future", "whole sequence"]),
        (
            lambda: Bidirectional(GRU(3, 2))(X, Bidirectional(GRU(3, 2))(X)[1]),
            ["Bidirectional(state)", "earlier stretch"],
        ),
        (lambda: Bidirectional(GRU(3, 2), merge="mean"), ["Bidirectional(merge)", "'mean'", "add, cat"]),
        (lambda: Loop(Bidirectional(GRU(3, 3)), nn.Linear(6, 3)), ["Loop(block)", "Bidirectional", "future"]),
        (lambda: Loop(nn.Linear(3, 2), Peek()), ["Loop(feedback)", "Peek"]),
        (lambda: Loop(nn.Linear(3, 2), nn.Linear(2, 4))(X), ["Loop(x)", "[3]", "[4]", "feedback"]),
        (lambda: Recurrent(GRU(3, 3), nn.Linear(3, 3)), ["Recurrent", "GRU", "Loop"]),
        (lambda: Ticks(GRU(3, 3), 0), ["Ticks(n)", "0", "from 1"]),
        (lambda: Ticks(GRU(3, 3), 2, keep="lats"), ["Ticks(keep)", "did you mean 'last'"]),
        (lambda: Every(2.0, GRU(3, 3)), ["Every(k)", "2.0"]),
        (lambda: Every(GRU(3, 3), 2), ["Every(k)", "GRU"]),
        (lambda: Every(2, GRU(3, 3))(X, {"cell": None}), ["Every(state)", "phase"]),
        (lambda: Sequential(nn.Sequential(nn.Linear(3, 3), tc.LIF(3))), ["Sequential", "LIF", "timecell.Sequential"]),
        (lambda: Instant(nn.Conv2d(3, 3, 1))(torch.ones(2, 5, 3, 4)), ["Conv2d", "[2, 5, 3, 4]", "height, width"]),
        (lambda: Instant(nn.MaxPool2d(2))(torch.ones(2, 5, 4, 4)), ["MaxPool2d", "[B, T, channels, height, width]"]),
        (lambda: Instant(nn.Dropout1d())(X), ["Dropout1d", "Delayed"]),
    ],
)
def test_errors_name_the_argument_what_was_found_and_the_remedy(make, names):
    with pytest.raises(TimecellError) as error:
        make()
    for name in [*names, "Remedy"]:
        assert name in str(error.value), str(error.value)
