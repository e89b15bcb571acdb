"""What a loop keeps for its adjoint: the cheapest values, or checkpoints; the numbers are the same."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import timecell as tc
from timecell import fuse
from timecell.credit import BPTT
from timecell.data import Batch
from timecell.errors import InputError
from timecell.fuse.partition import Kept
from timecell.fuse.plans import plan, plan_key
from timecell.state import flatten
from timecell.tasks import Classify


class Clock(tc.Neuron):
    """Two states, one of which decides by a truth value."""

    u: tc.State
    n: tc.State

    @staticmethod
    def dynamics(x, s, p):
        late = s.n > 2.0
        u = torch.where(late, torch.tanh(s.u + x), 0.5 * s.u + x)
        return u * u, s._replace(u=u, n=torch.where(late, torch.zeros_like(s.n), s.n + 1.0))


def kept(cell, *learnt):
    step = cell.instant
    learn = tuple(name in learnt for name in step.params)
    return plan(plan_key(step, torch.float32)).pair(learn, (False,) * len(step.states)).kept


def saved_bytes(cell, x):
    sizes = {}

    def pack(t):
        sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        cell(x)
    return sum(sizes.values())


def test_a_spiking_neuron_keeps_one_value():
    for cell in (tc.LIF(3), tc.LIF(3, reset="hard"), tc.SynapticLIF(3)):
        found = kept(cell)
        assert (found.inputs, found.states, len(found.values)) == ((), (), 1)
    x = torch.randn(4, 50, 300)
    assert saved_bytes(tc.LIF(300), x.requires_grad_()) < 1.1 * x.nbytes


def test_learnt_parameters_need_more():
    assert kept(tc.LIF(3), "tau") == Kept(("x",), ("v",))


def test_a_linear_step_keeps_nothing():
    assert kept(tc.LeakyIntegrator(3)) == Kept((), ())


def test_truth_is_kept_in_bytes():
    pair = plan(plan_key(Clock(3).instant, torch.float32)).pair((), (False, False))
    assert torch.bool in pair.types


def run(cell, x, lengths, mode):
    cell.zero_grad()
    x, name = x.clone().requires_grad_(), cell.states[0]
    backend = "plain" if mode == "plain" else "fused"
    with tc.record(cell, name) as seen, fuse.memory("full" if mode == "plain" else mode), fuse.backend(backend):
        y, state = cell(x, lengths=lengths)
    (y.sin().sum() + seen[name].cos().sum() + sum(s.sin().sum() for s in state)).backward()
    return [y, *state, seen[name], x.grad, *(p.grad for p in cell.parameters())]


class Mean(tc.Circuit):
    """Units that mix: the row grain has memory modes too."""

    v: tc.State
    decay = tc.param(0.9, range=(0, 1))

    def __init__(self, size, **values):
        super().__init__({"N": size}, **values)

    @staticmethod
    def dynamics(x, s, p):
        v = p.decay * s.v + x - s.v.mean()
        return torch.tanh(v), s._replace(v=v)


CELLS = [tc.LIF(3, learn=("tau",)), Clock(3), tc.AdaptiveLIF(3)]


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: type(c).__name__)
@given(
    mode=st.sampled_from(["full", "sqrt", 1, 3, 100]),
    steps=st.integers(1, 11),
    ragged=st.booleans(),
    seed=st.integers(0, 99),
)
def test_modes_agree(cell, mode, steps, ragged, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, steps, 3, generator=generator) * 2
    lengths = torch.randint(0, steps + 1, (3,), generator=generator) if ragged else None
    for a, b in zip(run(cell, x, lengths, "plain"), run(cell, x, lengths, mode)):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_checkpoints_keep_less():
    x = torch.randn(2, 400, 100).requires_grad_()
    cell = tc.AdaptiveLIF(100, learn=("tau", "tau_a"))
    everything = saved_bytes(cell, x)
    with fuse.memory("sqrt"):
        assert saved_bytes(cell, x) < 0.5 * everything


@pytest.mark.parametrize("mode", ["half", 0, 2.5, True, None])
def test_unknown_modes(mode):
    with pytest.raises(InputError, match="memory"), fuse.memory(mode):
        pass
    with pytest.raises(InputError, match="BPTT"):
        BPTT(memory=mode)


# --- a whole net ------------------------------------------------------------------------------------------------------


def gradients(net, batch, rule):
    net.zero_grad()
    (steps,) = rule.slices(batch.x.shape[1])
    loss, state = rule.backward(net, batch, steps, None, Classify("every").loss)
    return [loss, *flatten(state).values(), *(p.grad for p in net.parameters())]


def test_a_net_in_stretches_has_the_same_gradient():
    torch.manual_seed(0)
    net = tc.Sequential(
        nn.Linear(3, 5), tc.LIF(5), tc.Recurrent(tc.LIF(5), nn.Linear(5, 5)), nn.Linear(5, 2), tc.LeakyIntegrator(2)
    )
    batch = Batch(torch.randn(4, 23, 3) * 2, torch.tensor([0, 1, 1, 0]), torch.tensor([23, 5, 17, 9]))
    for memory in ("sqrt", 4, 1000):
        for a, b in zip(gradients(net, batch, BPTT()), gradients(net, batch, BPTT(memory=memory))):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_batch_norms_cannot_go_in_stretches():
    net = tc.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), tc.LeakyIntegrator(2))
    batch = Batch(torch.randn(4, 9, 3), torch.tensor([0, 1, 1, 0]))
    with pytest.raises(InputError, match=r"1 \(BatchNorm1d\)"):
        gradients(net, batch, BPTT(memory="sqrt"))
    gradients(net.eval(), batch, BPTT(memory="sqrt"))
