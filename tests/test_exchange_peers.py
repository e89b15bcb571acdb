"""Every line of the migration tables, held against the peer where it is installed: equal outputs, equal gradients."""

import copy
import warnings

import pytest
import torch
from torch import nn

import timecell as tc
from timecell import neurons
from timecell.errors import InputError
from timecell.exchange import norse as from_norse_side
from timecell.exchange import snntorch as from_snntorch_side
from timecell.exchange import spikingjelly as from_spikingjelly_side
from timecell.exchange.norse import from_norse
from timecell.exchange.snntorch import from_snntorch
from timecell.exchange.spikingjelly import from_spikingjelly

N, T, B = 6, 60, 4
OURS = {"n": N, "nn": nn, "Sequential": tc.Sequential, "Recurrent": tc.Recurrent} | {
    name: getattr(neurons, name) for name in neurons.__all__
}


def spikes_in(seed=0, units=N):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(B, T, units, generator=generator) * 0.6 + 0.35


def said(expression, names):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return eval(expression, dict(names))


# --- how each peer is stepped ------------------------------------------------------------------------------------


def snntorch_names():
    snn = pytest.importorskip("snntorch")
    from snntorch import surrogate

    return {"snn": snn, "surrogate": surrogate, "beta": 0.85, "alpha": 0.7, "theta": 0.8, "n": N}


def run_snntorch(module, x):
    recurrent, outputs = hasattr(module, "recurrent"), []
    state = [torch.zeros(B, N)] * (3 if hasattr(module, "alpha") else 2) if recurrent else []
    for x_t in x.unbind(1):
        spikes, *rest = module(x_t, *state)
        state = [spikes, *rest] if recurrent else rest
        outputs.append(spikes)
    return torch.stack(outputs, 1)


def spikingjelly_names():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("spikingjelly.activation_based.neuron", exc_type=ImportError)
        from spikingjelly.activation_based import layer, neuron, surrogate

    return {"neuron": neuron, "layer": layer, "surrogate": surrogate, "tau": 4.0, "theta": 0.8}


def run_spikingjelly(module, x):
    from spikingjelly.activation_based import functional

    functional.reset_net(module)
    if type(module).__name__ == "NonSpikingLIFNode":  # over time
        return torch.stack(list(module(x.transpose(0, 1))), 1)
    return torch.stack([module(x_t) for x_t in x.unbind(1)], 1)


def norse_names():
    norse = pytest.importorskip("norse.torch")
    from norse.torch.functional.leaky_integrator import LIParameters
    from norse.torch.functional.leaky_integrator_box import LIBoxParameters
    from norse.torch.functional.lif import LIFParameters
    from norse.torch.functional.lif_box import LIFBoxParameters
    from norse.torch.functional.reset import reset_subtract

    peer = type("norse", (), {"torch": norse})
    for name in dir(norse):
        setattr(peer, name, getattr(norse, name))
    peer.LIBoxCell = __import__("norse.torch.module.leaky_integrator_box", fromlist=["LIBoxCell"]).LIBoxCell
    peer.IAFCell = __import__("norse.torch.module.iaf", fromlist=["IAFCell"]).IAFCell
    values = {"inv": 150.0, "syn": 250.0, "theta": 0.7, "minus": -0.2}
    return {
        "norse": peer, "LIFParameters": LIFParameters, "LIFBoxParameters": LIFBoxParameters, "LIParameters": LIParameters,
        "LIBoxParameters": LIBoxParameters, "reset_subtract": reset_subtract, "n": N, "third": 0.3,
        **{name: torch.tensor(value) for name, value in values.items()},
    }  # fmt: skip


def run_norse(module, x):
    if type(module).__name__ == "LIF":  # over time
        return module(x.transpose(0, 1))[0].transpose(0, 1)
    state, outputs = None, []
    for x_t in x.unbind(1):
        y, state = module(x_t, state)
        outputs.append(y)
    return torch.stack(outputs, 1)


PEERS = {
    "snntorch": (from_snntorch_side.TABLE, from_snntorch, snntorch_names, run_snntorch),
    "spikingjelly": (from_spikingjelly_side.TABLE, from_spikingjelly, spikingjelly_names, run_spikingjelly),
    "norse": (from_norse_side.TABLE, from_norse, norse_names, run_norse),
}
ROWS = [pytest.param(peer, row, id=f"{peer}: {row.theirs}") for peer, (table, *_) in PEERS.items() for row in table]


def same_weights(ours, theirs):
    """Give our recurrent nets the peer's matrices, which are random."""
    if hasattr(theirs, "recurrent"):
        ours.synapse.load_state_dict(theirs.recurrent.state_dict())
    if hasattr(theirs, "recurrent_weights"):
        ours[0].weight.data = theirs.input_weights.data.clone()
        ours[1].synapse.weight.data = theirs.recurrent_weights.data.clone()


def gradient(run, module, x):
    x = x.clone().requires_grad_()
    y = run(module, x)
    weights = torch.linspace(-1, 1, y[0].numel()).view(y.shape[1:])
    (y * weights).sum().backward()
    return y.detach(), x.grad


@pytest.mark.parametrize(("peer", "row"), ROWS)
@pytest.mark.filterwarnings("ignore")
def test_a_line_of_the_table(peer, row):
    _, convert, names, run = PEERS[peer]
    torch.manual_seed(0)
    names = names()
    theirs = said(row.theirs, names)
    if row.ours is None:
        with pytest.raises(InputError, match=r"from_.*\(module\)"):
            convert(theirs, size=N)
        return
    converted, ours = convert(theirs, size=N), said(row.ours, {**names, **OURS})
    same_weights(ours, theirs)
    x = spikes_in() * (1 if peer == "snntorch" else 4)
    truth, slope = gradient(run, theirs, x)
    assert (truth != 0).float().mean() > 0.02  # something happened
    tolerance = 0 if truth.unique().numel() <= 2 else 1e-5
    for net in (ours, converted):
        with tc.fuse.backend("plain"):
            y, by = gradient(lambda net, x: net(x)[0], net, x)
        assert (y - truth).abs().max() <= tolerance
        assert torch.allclose(by, slope, rtol=1e-3, atol=1e-4 * slope.abs().max().item())


# --- a whole script ----------------------------------------------------------------------------------------------


def old_script(snn):
    """What snnTorch's first tutorial looks like."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1 = nn.Linear(5, 16)
            self.lif1 = snn.Leaky(beta=0.9)
            self.fc2 = nn.Linear(16, 3)
            self.lif2 = snn.Leaky(beta=0.8)

        def forward(self, x):  # [T, B, 5]
            mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
            spikes, membranes = [], []
            for x_t in x:
                spk1, mem1 = self.lif1(self.fc1(x_t), mem1)
                spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
                spikes.append(spk2)
                membranes.append(mem2)
            return torch.stack(spikes), torch.stack(membranes)

    return Net()


def test_a_script_of_snntorch():
    """The recipe of the module's docstring: equal spikes, membranes and gradients."""
    snn = pytest.importorskip("snntorch")
    torch.manual_seed(1)
    old = old_script(snn)
    x = torch.rand(T, B, 5) * 3
    twin = copy.deepcopy(old)
    net = tc.Sequential(twin.fc1, from_snntorch(twin.lif1), twin.fc2, from_snntorch(twin.lif2))

    spk, mem = old(x)
    with tc.record(net, "3.v") as r:
        y, _ = net(x.transpose(0, 1))
    assert torch.equal(y.transpose(0, 1), spk) and 0.02 < spk.mean() < 0.9
    assert torch.allclose(r["3.v"].transpose(0, 1), mem, atol=1e-5)

    labels = torch.tensor([0, 1, 2, 0])
    nn.functional.cross_entropy(mem.sum(0), labels).backward()
    nn.functional.cross_entropy(r["3.v"].sum(1), labels).backward()
    for name, p in old.named_parameters():
        truth, ours = p.grad, twin.get_parameter(name).grad
        assert truth.abs().sum() > 0
        assert torch.allclose(ours, truth, rtol=1e-3, atol=1e-4 * truth.abs().max().item()), name


def test_nets_of_layers():
    """An nn.Sequential is converted whole; widths come from the layers, and its modules are the same objects."""
    snn = pytest.importorskip("snntorch")
    old = nn.Sequential(
        nn.Conv2d(1, 3, 3), snn.Leaky(beta=0.9, learn_beta=True), nn.Flatten(), nn.Linear(12, 5), snn.Synaptic(0.5, 0.9)
    )
    net = from_snntorch(old)
    assert net[1].size == (3, 1, 1) and net[4].size == (5,) and net[3].weight is old[3].weight
    assert net(torch.rand(2, 7, 1, 4, 4))[0].shape == (2, 7, 5)
    assert "tau_raw" in dict(net[1].named_parameters())
    with pytest.raises(InputError, match=r"from_snntorch\(module\)\.1.*Alpha"):
        from_snntorch(nn.Sequential(nn.Linear(2, 2), snn.Alpha(0.9, 0.8)))


def test_a_class_with_a_loop_is_refused_with_the_recipe():
    snn = pytest.importorskip("snntorch")
    with pytest.raises(InputError, match=r"found a Net.*\n.*Sequential\(net\.fc1, from_snntorch\(net\.lif1\)"):
        from_snntorch(old_script(snn))


def test_a_surrogate_of_ones_own():
    snn = pytest.importorskip("snntorch")
    leaky = snn.Leaky(0.9, spike_grad=snn.surrogate.triangular())
    assert from_snntorch(leaky, surrogate=neurons.Triangle()).surrogate == neurons.Triangle()


@pytest.mark.filterwarnings("ignore")
def test_layers_of_spikingjelly():
    names = spikingjelly_names()
    layer, neuron = names["layer"], names["neuron"]
    old = nn.Sequential(
        layer.Conv2d(2, 3, 3, bias=False), layer.BatchNorm2d(3), neuron.LIFNode(), layer.MaxPool2d(2), layer.Flatten(),
        layer.Linear(3, N), neuron.IFNode(),
    ).eval()  # fmt: skip
    x = torch.rand(B, 20, 2, 4, 4) * 4
    truth = run_spikingjelly(old, x)
    net = from_spikingjelly(old).eval()
    assert type(net[0]) is nn.Conv2d and net[0].weight is old[0].weight
    assert torch.equal(net(x)[0], truth) and truth.mean() > 0.02


@pytest.mark.filterwarnings("ignore")
def test_a_net_of_norse():
    names = norse_names()
    norse = names["norse"]
    old = norse.SequentialState(nn.Linear(5, N), norse.LIFCell(), nn.Linear(N, 3), norse.LICell())
    x = spikes_in(units=5) * 8
    state, outputs = None, []
    for x_t in x.unbind(1):
        y, state = old(x_t, state)
        outputs.append(y)
    truth = torch.stack(outputs, 1)
    assert torch.allclose(from_norse(old)(x)[0], truth, atol=1e-5)
    assert truth.std() > 0.01
