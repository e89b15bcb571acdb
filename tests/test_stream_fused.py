"""A laid-out net gives the numbers of `forward`, whatever is done to it between two instants."""

import copy

import pytest
import torch
from torch import nn

import timecell as tc
from timecell.cell import Cell, Neuron
from timecell.errors import InputError
from timecell.state import flatten
from timecell.stream import Stream
from timecell.testing import walk

STREAMING = [c for c in walk(Cell) if c.example().streams]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def lif(n=4):
    return tc.LIF(n, tau=3.0, threshold=0.3)


NETS = {
    "one after the other": lambda: tc.Sequential(nn.Linear(4, 4), lif(), nn.LayerNorm(4), lif(), nn.Linear(4, 2)),
    "nested": lambda: tc.Sequential(tc.Residual(nn.Linear(4, 4), lif()), tc.Residual(tc.Sequential(lif()))),
    "side by side": lambda: tc.Parallel(lif(), tc.Sequential(nn.Linear(4, 4), lif()), merge="cat"),
    "added": lambda: tc.Parallel(nn.Identity(), lif()),
    "merged by a function": lambda: tc.Parallel(lif(), nn.Identity(), merge=lambda ys: torch.cat(ys, 2).cumsum(2)),
    "recurrent": lambda: tc.Recurrent(lif(), nn.Linear(4, 4, bias=False)),
    "loop": lambda: tc.Loop(tc.Sequential(nn.Linear(4, 3), lif(3)), feedback=tc.Sequential(nn.Linear(3, 4), lif())),
    "slow clock": lambda: tc.Sequential(lif(), tc.Every(3, tc.Sequential(nn.Linear(4, 4), lif()))),
    "fast clock": lambda: tc.Ticks(lif(), 2),
    "shared weights": lambda: (lambda shared: tc.Sequential(shared, lif(), shared, lif()))(nn.Linear(4, 4)),
    "delays and gates": lambda: tc.Sequential(tc.Delayed(4, 4, max_delay=3), lif(), tc.GRU(4, 4)),
}


def over(stream, x):
    return torch.stack([stream(x_t) for x_t in x.unbind(1)], 1)


def close(a, b):
    """To rounding: a product over a whole sequence adds up in another order than over one instant."""
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("cell", STREAMING, ids=lambda c: c.__name__)
def test_the_numbers_of_forward(cell):
    net, x = cell.example().double().eval(), torch.rand(3, 12, 4, dtype=torch.float64)
    stream = Stream(net)
    y, (whole, end) = over(stream, x), net(x)
    assert close(y, whole) and not y.requires_grad
    assert all(close(value, flatten(stream.state)[name]) for name, value in flatten(end).items())
    if issubclass(cell, Neuron):  # the same kernel
        assert torch.equal(y, whole)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("batch", [1, 3])
def test_nets(name, batch):
    net, x = NETS[name]().double().eval(), 3 * torch.randn(batch, 9, 4, dtype=torch.float64)
    stream = Stream(net)
    y, (whole, end) = over(stream, x), net(x)
    assert close(y, whole) and whole.unique().numel() > 1
    here, there = flatten(stream.state), flatten(end)
    assert here.keys() == there.keys() and all(close(here[k], there[k]) for k in here)


@pytest.mark.parametrize("name", NETS)
def test_some_samples_begin_anew(name):
    net, x = NETS[name]().double().eval(), torch.randn(3, 10, 4, dtype=torch.float64)
    stream, mask = Stream(net), torch.tensor([False, True, False])
    over(stream, x[:, :6])
    stream.reset(mask)
    y = over(stream, x[:, 6:])
    assert close(y[~mask], net(x)[0][~mask, 6:]) and close(y[mask], net(x[:, 6:])[0][mask])


def test_after_the_first_instant_no_loop_is_run(monkeypatch):
    stream = Stream(NETS["nested"]())
    over(stream, torch.rand(1, 2, 4))

    def refuse(*_):
        raise AssertionError("a loop")

    monkeypatch.setattr("timecell.fuse.loop._fused", refuse)
    over(stream, torch.rand(1, 5, 4))
    with pytest.raises(AssertionError, match="a loop"):
        stream.net.step(torch.rand(1, 4), stream.state)


# --- what may happen between two instants -------------------------------------------------------------------------


def faster(net):
    with torch.no_grad():
        net[1].tau_raw.sub_(1.0)


def behind_the_version_counter(net):
    net[1].threshold_value.data.mul_(0.5)
    net[0].weight.data.mul_(2)


def elsewhere(net):
    net[1].tau_raw.data = net[1].tau_raw.data - 1


def another_tensor(net):
    net[1].threshold_value = torch.linspace(0.1, 0.4, 16, dtype=torch.float64)


def other_weights(net):
    net.load_state_dict({k: v * 0.9 for k, v in net.state_dict().items()})


def other_weights_assigned(net):
    net.load_state_dict({k: v * 0.9 for k, v in net.state_dict().items()}, assign=True)


def another_layer(net):
    net.add_module("1", tc.LIF(16, tau=5.0, threshold=0.2).double())


def a_hook_on_a_neuron(net):
    net[1].register_forward_hook(lambda module, x, out: (out[0] * 2, out[1]))


def a_hook_on_the_net(net):
    net.register_forward_pre_hook(lambda module, x: (x[0] * 2, *x[1:]))


def a_hook_on_a_layer(net):
    net[0].register_forward_hook(lambda module, x, out: out + 0.2)


def another_class_of_layer(net):
    nn.utils.parametrizations.weight_norm(net[0])
    net[0].parametrizations.weight.original0.data.mul_(2)


CHANGES = [
    faster, behind_the_version_counter, elsewhere, another_tensor, other_weights, other_weights_assigned, another_layer,
    a_hook_on_a_neuron, a_hook_on_the_net, a_hook_on_a_layer, another_class_of_layer,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.__name__)
def test_changes_are_seen(change):
    net = tc.Sequential(nn.Linear(4, 16), tc.LIF(16, tau=3.0, threshold=0.3, learn=("tau",)), nn.Dropout(0.5)).double()
    net, x = net.eval(), torch.randn(2, 20, 4, dtype=torch.float64)
    stream = Stream(net)
    over(stream, x[:, :5])
    state = net(x[:, :5])[1]
    same, unchanged = net(x[:, 5:], state)[0], copy.deepcopy(stream)
    change(net)
    y = over(stream, x[:, 5:])
    assert close(y, net(x[:, 5:], state)[0]) and not close(y, same)
    assert close(over(unchanged, x[:, 5:]), same)


def test_hooks_that_go_away():
    net, x = NETS["one after the other"](), torch.rand(1, 6, 4)
    stream, seen = Stream(net), []
    handle = net[1].register_forward_hook(lambda module, x, out: seen.append(out[0]))
    y = over(stream, x[:, :3])
    handle.remove()
    y = torch.cat([y, over(stream, x[:, 3:])], 1)
    assert len(seen) == 3 and torch.allclose(y, net(x)[0])


def test_training_and_evaluation():
    net = tc.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), lif()).eval()
    stream, twin, x = Stream(net), copy.deepcopy(net), torch.rand(8, 9, 4)
    state = None
    for t, x_t in enumerate(x.unbind(1)):
        for each in (net, twin):
            each.train(t % 3 == 2)
        torch.manual_seed(t)
        y = stream(x_t)
        torch.manual_seed(t)
        truth, state = twin.step(x_t, state)
        assert torch.equal(y, truth)
    assert torch.equal(net[1].running_mean, twin[1].running_mean)


def test_recording_and_other_ways_to_run():
    net, x = NETS["one after the other"](), torch.rand(2, 9, 4)
    stream = Stream(net)
    first = over(stream, x[:, :3])
    with tc.record(net, "1.v") as r:
        second = over(stream, x[:, 3:6])
    with tc.fuse.backend("plain"):
        third = over(stream, x[:, 6:8])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        last = stream(x[:, 8])
    whole, _ = net(x)
    with tc.record(net, "1.v") as truth:
        net(x)
    assert torch.allclose(torch.cat([first, second, third], 1), whole[:, :8], atol=1e-6)
    assert torch.allclose(r["1.v"], truth["1.v"][:, 3:6], atol=1e-6)
    assert last.dtype == torch.bfloat16


def test_types():
    stream, x = Stream(lif()), torch.rand(2, 6, 4)
    y = over(stream, x.bfloat16())
    assert y.dtype == torch.bfloat16 and torch.equal(y, lif()(x.bfloat16())[0])
    before = stream.state
    with pytest.raises(InputError, match="floating point"):
        stream(torch.ones(2, 4, dtype=torch.long))
    assert torch.equal(stream.state.v, before.v)


def test_wide_inputs_of_a_narrow_net():
    net, x = tc.Sequential(lif(), nn.Identity()), torch.rand(2, 6, 4, dtype=torch.float64)
    assert torch.equal(over(Stream(net), x), net(x)[0])


@pytest.mark.parametrize("name", ["nested", "recurrent", "delays and gates"])
def test_in_and_out_of_inference_mode(name):
    net, x = NETS[name](), torch.rand(2, 9, 4)
    stream, parts = Stream(net), []
    for here, part in zip((True, False, True), x.split(3, 1)):
        with torch.inference_mode(here):
            parts.append(over(stream, part))
    assert torch.allclose(torch.cat(parts, 1), net(x)[0])


def test_inputs_of_any_layout_and_with_a_gradient():
    net, x = lif(), torch.rand(3, 6, 8, requires_grad=True)[:, :, ::2]
    assert torch.equal(over(Stream(net), x), net(x)[0].detach())


# --- what is given away stays as it is -----------------------------------------------------------------------------


@pytest.mark.parametrize("net", [lif(), NETS["recurrent"](), tc.Sequential(lif(), nn.Identity())], ids=["a", "b", "c"])
def test_outputs_and_states_are_the_users(net):
    x = torch.rand(2, 8, 4)
    stream, outputs, states = Stream(net), [], []
    for x_t in x.unbind(1):
        outputs.append(stream(x_t))
        states.append(stream.state)
    whole = net(x)[0]
    assert torch.allclose(torch.stack(outputs, 1), whole)
    stream.state = states[3]
    outputs[-1].fill_(7.0)
    again = stream(x[:, 4])
    assert torch.equal(again, outputs[4])
    again.fill_(7.0)
    assert torch.allclose(over(stream, x[:, 5:]), whole[:, 5:])


def test_an_instant_that_fails_has_not_been():
    class Moody(nn.Module):
        fails = False

        def forward(self, x):
            if self.fails:
                raise RuntimeError("moody")
            return x

    net, x = tc.Sequential(lif(), NETS["recurrent"](), Moody()), torch.rand(2, 6, 4)
    stream = Stream(net)
    over(stream, x[:, :3])
    net[2].fails = True
    with pytest.raises(RuntimeError, match="moody"):
        stream(torch.ones(2, 4))
    net[2].fails = False
    assert torch.equal(over(stream, x[:, 3:]), net(x)[0][:, 3:])


def test_an_output_of_another_width_is_refused():
    class Narrowing(nn.Module):
        width = 4

        def forward(self, x):
            return x[:, : self.width]

    narrowing = Narrowing()
    stream = Stream(tc.Sequential(narrowing, lif()))
    over(stream, torch.rand(2, 3, 4))
    narrowing.width = 1
    with pytest.raises(InputError, match=r"LIF\(.*\[2, 1, 1\]"):
        stream(torch.rand(2, 4))


def test_two_streams_on_one_net_and_copies():
    net, x = NETS["nested"](), torch.rand(2, 6, 4)
    one, two = Stream(net), Stream(net)
    both = [(one(a), two(b)) for a, b in zip(x.unbind(1), x.flip(1).unbind(1))]
    assert torch.allclose(torch.stack([a for a, _ in both], 1), net(x)[0])
    assert torch.allclose(torch.stack([b for _, b in both], 1), net(x.flip(1))[0])
    twin = copy.deepcopy(one)
    assert torch.equal(twin(x[:, 0]), one(x[:, 0])) and torch.equal(twin(x[:, 1]), one(x[:, 1]))
