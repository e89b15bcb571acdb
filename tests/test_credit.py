"""Credit rules: the slices they visit, the gradients they give, and what they refuse."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from timecell import fuse
from timecell.credit import BPTT, SLTT, TruncatedBPTT
from timecell.credit.rule import require_sliceable, run_slice, slice_lengths
from timecell.data.containers import Batch
from timecell.errors import InputError
from timecell.state import detach
from timecell.tasks import Classify


class Tanh(nn.Module):
    """A recurrent net with nothing of ours inside."""

    def __init__(self, inputs=3, size=5, outputs=2):
        super().__init__()
        self.rnn, self.out = nn.RNN(inputs, size, batch_first=True), nn.Linear(size, outputs)

    def forward(self, x, state=None, *, lengths=None):
        h, last = self.rnn(x, state)
        if lengths is not None:
            before = torch.zeros_like(last) if state is None else state
            ends = torch.cat([before.transpose(0, 1), h], 1)
            last = ends[torch.arange(len(x)), lengths][None]
        return self.out(h), last


def batch(T=12, lengths=None):
    torch.manual_seed(1)
    return Batch(torch.randn(4, T, 3), torch.tensor([0, 1, 1, 0]), None if lengths is None else torch.tensor(lengths))


def gradients(net, rule, b, task):
    net.zero_grad()
    total, state = 0.0, None
    for steps in rule.slices(b.x.shape[1]):
        loss, state = rule.backward(net, b, steps, state, task.loss)
        total, state = total + loss, detach(state)
    return total, [p.grad.clone() for p in net.parameters()]


def same(a, b, atol=1e-6):
    return all(torch.allclose(x, y, atol=atol, rtol=1e-5) for x, y in zip(a, b))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Tanh()


@pytest.mark.parametrize("T", [1, 7, 12])
@pytest.mark.parametrize("k", [1, 5, 12, 30])
def test_slices_cover_time_once_and_in_order(T, k):
    steps = [t for s in TruncatedBPTT(k).slices(T) for t in range(s.start, s.stop)]
    assert steps == list(range(T))
    assert max(s.stop - s.start for s in TruncatedBPTT(k).slices(T)) <= k


@pytest.mark.parametrize("lengths", [None, [12, 3, 7, 1]])
def test_truncation_longer_than_the_sequence_is_bptt(net, lengths):
    b, task = batch(lengths=lengths), Classify("every")
    loss, exact = gradients(net, BPTT(), b, task)
    longer, truncated = gradients(net, TruncatedBPTT(12), b, task)
    assert longer == loss and all(torch.equal(p, q) for p, q in zip(exact, truncated))


@pytest.mark.parametrize("lengths", [None, [12, 3, 7, 1]])
def test_truncated_gradient_is_its_definition(net, lengths):
    """One graph over all of time in which the state is detached at every fifth step."""
    b, task, cut = batch(lengths=lengths), Classify("every"), 5
    loss, got = gradients(net, TruncatedBPTT(cut), b, task)
    outputs, state = [], None
    for t in range(12):
        y, state = run_slice(net, b, slice(t, t + 1), detach(state) if t % cut == 0 else state)
        outputs.append(y)
    net.zero_grad()
    whole = task.loss(torch.cat(outputs, 1), b, slice(0, 12))
    whole.backward()
    assert torch.allclose(loss, whole.detach(), atol=1e-6)
    assert same(got, [p.grad for p in net.parameters()])
    exact = gradients(net, BPTT(), b, task)[1]
    assert not same(got, exact, atol=1e-4)  # it does cut something


def test_the_loss_of_slices_adds_up(net):
    b, task = batch(lengths=[12, 3, 7, 1]), Classify("last")
    whole = gradients(net, BPTT(), b, task)[0]
    assert torch.allclose(whole, gradients(net, TruncatedBPTT(5), b, task)[0], atol=1e-6)


def test_a_sample_that_has_ended_keeps_its_state(net):
    b = batch(lengths=[12, 3, 7, 1])
    assert slice_lengths(b.lengths, slice(4, 8)).tolist() == [4, 0, 3, 0]
    _, whole = run_slice(net, b, slice(0, 12), None)
    state = None
    for steps in TruncatedBPTT(4).slices(12):
        _, state = run_slice(net, b, steps, state)
    assert torch.allclose(whole, state, atol=1e-6)


def spiking():
    from timecell import LIF, LeakyIntegrator, Sequential

    torch.manual_seed(0)
    return Sequential(nn.Linear(3, 8), LIF(8, tau=5.0), nn.Linear(8, 2), LeakyIntegrator(2, tau=5.0)).double()


def test_sltt_gives_the_same_gradient_at_every_slice_length():
    net, task = spiking(), Classify("every")
    b = batch(lengths=[12, 3, 7, 1])
    b = Batch(b.x.double(), b.target, b.lengths)
    with fuse.carry("none"):
        whole = gradients(net, BPTT(), b, task)[1]
    for k in (1, 4, 5, 12):
        assert same(whole, gradients(net, SLTT(k), b, task)[1], atol=1e-10)
    assert not same(whole, gradients(net, BPTT(), b, task)[1], atol=1e-4)


def test_at_one_step_all_rules_agree():
    net, task = spiking(), Classify("every")
    b = batch(T=1)
    b = Batch(3 * b.x.double(), b.target)
    exact = gradients(net, BPTT(), b, task)[1]
    assert max(float(g.abs().max()) for g in exact) > 0
    assert same(exact, gradients(net, SLTT(1), b, task)[1], atol=1e-12)


def saved_bytes(net, rule, T, task):
    """The most bytes that autograd holds for one slice, the inputs (of 3 channels) excluded."""
    b = batch(T)
    b = Batch(b.x.double(), b.target)
    gradients(net, rule, b, task)  # the engine traces its steps at the first call
    peak = held = 0

    def pack(t):
        nonlocal held
        if t.shape[-1:] != (3,):
            held += t.untyped_storage().nbytes()
        return t

    state = None
    for steps in rule.slices(T):
        held = 0
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            _, state = rule.backward(net, b, steps, state, task.loss)
        peak, state = max(peak, held), detach(state)
    return peak


def test_what_sltt_saves_does_not_grow_with_time():
    net, task = spiking(), Classify("last")
    short, longer, long = (saved_bytes(net, SLTT(4), T, task) for T in (4, 16, 64))
    assert short == longer == long > 0
    assert saved_bytes(net, BPTT(), 64, task) > 8 * short


def test_a_task_that_needs_all_steps_is_refused_with_both_names(net):
    with pytest.raises(InputError) as e:
        require_sliceable(TruncatedBPTT(5), net, Classify("mean"), longest=12)
    text = str(e.value)
    assert "TruncatedBPTT(steps=5)" in text and "classify" in text and "mean readout" in text and "BPTT()" in text
    require_sliceable(TruncatedBPTT(12), net, Classify("mean"), longest=12)  # a single slice sees everything
    require_sliceable(TruncatedBPTT(5), net, Classify("last"), longest=12)


def test_a_net_that_needs_the_future_is_refused(net):
    net.out.causal = False
    with pytest.raises(InputError, match=r"SLTT\(steps=4, k=None\)[^$]*out \(Linear\) is not causal"):
        require_sliceable(SLTT(4), net, Classify("last"), longest=12)


def test_a_slice_length_must_be_positive():
    with pytest.raises(InputError, match=r"SLTT\(steps\): found 0"):
        SLTT(0)


def test_a_net_outside_the_contract_is_told_what_to_return():
    with pytest.raises(InputError, match=r"Plain.*found Tensor, expected \(y, state\)"):
        run_slice(Plain(), batch(), slice(0, 12), None)


@dataclass(eq=False)
class Plain(nn.Module):
    def __post_init__(self):
        super().__init__()

    def forward(self, x, state=None, *, lengths=None):
        return x
