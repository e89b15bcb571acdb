"""NIR: outputs on a spike train after export and import, graphs of peers, any wiring, and refusals that name the node."""

from graphlib import TopologicalSorter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import timecell as tc
from timecell.combine import Loop
from timecell.errors import DataError, InputError, MissingExtra
from timecell.exchange.nir import Scale, from_nir, to_nir
from timecell.exchange.wiring import wire
from timecell.neurons import IF, SynapticLIF

nir = pytest.importorskip("nir")

B, T = 3, 50


@pytest.fixture(autouse=True)
def plain():
    """The equations are what is compared here; the fused loop is held against them elsewhere."""
    torch.manual_seed(0)
    with tc.fuse.backend("plain"):
        yield


def spike_train(*units, rate=0.4):
    return (torch.rand(B, T, *units, generator=torch.Generator().manual_seed(1)) < rate).float()


def busy(linear):
    with torch.no_grad():
        linear.weight.mul_(3).add_(0.1)
    return linear


# --- there and back ----------------------------------------------------------------------------------------------

NETS = {
    "lif": lambda: tc.Sequential(busy(nn.Linear(5, 8)), tc.LIF(8, tau=7.0, reset="hard"), nn.Linear(8, 2, bias=False), tc.LeakyIntegrator(2)),
    "scaled": lambda: tc.Sequential(busy(nn.Linear(5, 8)), tc.LIF(8, tau=torch.linspace(2, 9, 8), input="scaled", threshold=0.3, reset="hard")),
    "exponential": lambda: tc.Sequential(busy(nn.Linear(5, 8)), tc.LIF(8, tau=7.0, decay="exp", reset="hard")),
    "if": lambda: tc.Sequential(busy(nn.Linear(5, 8)), IF(8, threshold=2.0, reset="hard")),
    "current": lambda: tc.Sequential(busy(nn.Linear(5, 8)), SynapticLIF(8, tau_syn=3.0, tau=9.0, input="scaled", threshold=0.7, reset="hard")),
    "recurrent": lambda: tc.Sequential(busy(nn.Linear(5, 8)), tc.Recurrent(tc.LIF(8, tau=4.0, reset="hard"), nn.Linear(8, 8)), nn.Linear(8, 2)),
    "loop": lambda: tc.Sequential(Loop(tc.Sequential(busy(nn.Linear(5, 8)), tc.LIF(8, reset="hard"), nn.Linear(8, 3)), nn.Linear(3, 5)), nn.Identity()),
    "residual": lambda: tc.Sequential(busy(nn.Linear(5, 8)), tc.Residual(tc.LIF(8, reset="hard"), nn.Linear(8, 8)), tc.LIF(8, reset="hard")),
    "parallel": lambda: tc.Sequential(busy(nn.Linear(5, 8)), tc.Parallel(nn.Linear(8, 4), tc.Sequential(tc.LIF(8, reset="hard"), nn.Linear(8, 4))), tc.LeakyIntegrator(4)),
    "scale": lambda: tc.Sequential(Scale(torch.linspace(1, 3, 5)), IF(5, threshold=2.5, reset="hard")),
    "delayed": lambda: tc.Sequential(tc.Delayed(5, 8, max_delay=6, init=4.0).eval(), tc.LIF(8, tau=3.0, threshold=0.3, reset="hard")),
    "kept resets": lambda: tc.Sequential(busy(nn.Linear(5, 8)), tc.LIF(8, reset="soft", reset_delay=True), tc.LIF(8, threshold=0.5, reset="none"), tc.LIF(8)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_there_and_back(name, tmp_path):
    net, x = NETS[name]().eval(), spike_train(5)
    graph = to_nir(net, x[:1], dt=1e-3, notes=name == "kept resets")
    nir.write(tmp_path / "net.nir", graph)
    truth, _ = net(x)
    for source in (graph, tmp_path / "net.nir", str(tmp_path / "net.nir")):
        y, _ = from_nir(source, dt=1e-3).eval()(x)
        assert torch.allclose(y, truth, atol=1e-4)
    assert truth.std() > 0.01


def test_images(tmp_path):
    net = tc.Sequential(
        busy(nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False)), tc.LIF((3, 1, 1), tau=3.0, reset="hard"),
        nn.AvgPool2d(2), nn.Conv2d(3, 4, 1, groups=1), nn.AvgPool2d(2, divisor_override=1), nn.Flatten(), nn.Linear(4, 2),
    ).eval()  # fmt: skip
    x = spike_train(2, 8, 8)
    nir.write(tmp_path / "net.nir", to_nir(net, x[:1]))
    again = from_nir(tmp_path / "net.nir")
    assert torch.allclose(again(x)[0], net(x)[0], atol=1e-5) and again(x)[0].std() > 0.01
    assert [type(m).__name__ for m in again] == [type(m).__name__ for m in net]


def test_meeting_the_threshold_exactly():
    """NIR fires above the threshold, we at it; both keep their own meaning on the way."""
    one = np.ones(1)
    graph = nir.NIRGraph.from_list(nir.IF(r=one / 1e-4, v_threshold=2 * one))
    y, _ = from_nir(graph)(torch.ones(1, 6, 1))
    assert y[0, :, 0].tolist() == [0, 0, 1, 0, 0, 1]  # 3 > 2
    net = tc.Sequential(IF(1, threshold=2.0, reset="hard"))
    y, _ = from_nir(to_nir(net, torch.ones(1, 1, 1)))(torch.ones(1, 6, 1))
    assert torch.equal(y, net(torch.ones(1, 6, 1))[0]) and y[0, :, 0].tolist() == [0, 1, 0, 1, 0, 1]


def test_the_equations():
    """Every kind of node against Euler's step, written out."""
    n, dt, x = 4, 1e-3, spike_train(4)
    rng = np.random.default_rng(0)
    tau, tau_syn = rng.uniform(3, 9, (2, n)) * dt
    r, w_in, theta = rng.uniform(0.5, 4, (3, n))
    leak = -0.3 * np.ones(n)
    nodes = {
        "LIF": nir.LIF(tau=tau, r=r, v_leak=leak, v_threshold=theta / 2, v_reset=leak),
        "LI": nir.LI(tau=tau, r=r, v_leak=0 * leak),
        "CubaLIF": nir.CubaLIF(
            tau_syn=tau_syn, tau_mem=tau, r=r, v_leak=leak, v_threshold=theta / 2, v_reset=leak, w_in=w_in
        ),
        "CubaLI": nir.CubaLI(tau_syn=tau_syn, tau_mem=tau, r=r, v_leak=0 * leak, w_in=w_in),
        "I": nir.I(r=r / dt),
        "IF": nir.IF(r=r / dt, v_threshold=2 * theta),
        "Threshold": nir.Threshold(threshold=theta / 3),
        "Delay": nir.Delay(delay=np.array([0, 1, 2, 5]) * dt),
        "Scale": nir.Scale(scale=r),
    }
    for kind, node in nodes.items():
        v, i = np.zeros((B, n)) + (leak if "LIF" in kind else 0), np.zeros((B, n))
        truth = []
        for t, s in enumerate(x.double().numpy().transpose(1, 0, 2)):
            if kind == "Delay":
                truth.append(
                    np.stack([x.numpy()[:, t - d, k] if t >= d else 0 * v[:, 0] for k, d in enumerate((0, 1, 2, 5))], 1)
                )
                continue
            if kind in ("Scale", "Threshold"):
                truth.append(s * r if kind == "Scale" else s > theta / 3)
                continue
            if "Cuba" in kind:
                i = i + dt / tau_syn * (w_in * s - i)
            drive = i if "Cuba" in kind else s
            v = v + (dt * node.r * drive if kind in ("I", "IF") else dt / tau * (node.v_leak - v + node.r * drive))
            z = v > node.v_threshold if hasattr(node, "v_threshold") else v
            truth.append(z.astype(float))
            if hasattr(node, "v_threshold"):
                v = np.where(z, node.v_reset, v)
        y, _ = from_nir(nir.NIRGraph.from_list(node), dt=dt)(x)
        truth = torch.tensor(np.stack(truth, 1).astype(np.float32))
        assert torch.allclose(y, truth, atol=1e-4), kind
        assert truth.abs().mean() > 0.01, kind


# --- graphs of peers ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_a_graph_of_snntorch(tmp_path):
    pytest.importorskip("nirtorch")
    snn = pytest.importorskip("snntorch")
    from snntorch.export_nir import export_to_nir

    def layers(**how):
        return nn.Sequential(
            busy(nn.Linear(5, 8)), snn.Leaky(beta=0.9 * torch.ones(8), threshold=torch.ones(8), init_hidden=True, **how),
            busy(nn.Linear(8, 3)), snn.Synaptic(alpha=0.5 * torch.ones(3), beta=0.8 * torch.ones(3), threshold=torch.ones(3), init_hidden=True, output=True, **how),
        )  # fmt: skip

    x = spike_train(5)
    hard = {"reset_mechanism": "zero", "reset_delay": False}
    for how, said in ((hard, {}), ({}, {"reset": "soft", "reset_delay": True})):
        old = layers(**how)
        for m in (old[1], old[3]):
            m.reset_mem()
        truth = torch.stack([old(x_t)[0] for x_t in x.unbind(1)], 1)
        nir.write(tmp_path / "net.nir", export_to_nir(old, torch.zeros(B, 5), ignore_dims=[0]))
        y, _ = from_nir(tmp_path / "net.nir", **said)(x)
        assert torch.equal(y, truth) and 0.02 < truth.mean() < 0.9


@pytest.mark.filterwarnings("ignore")
def test_snntorch_reads_ours():
    """The other way: what we write gives the same spikes in a peer."""
    pytest.importorskip("nirtorch")
    pytest.importorskip("snntorch")
    from snntorch.import_nir import import_from_nir

    net, x = tc.Sequential(busy(nn.Linear(5, 8)), tc.LIF(8, tau=7.0, reset="hard")), spike_train(5)
    peer, state, outputs = import_from_nir(to_nir(net, x[:1])), None, []
    for x_t in x.unbind(1):
        y, state = peer(x_t, state)
        outputs.append(y)
    truth, _ = net(x)
    assert torch.equal(torch.stack(outputs, 1), truth) and 0.02 < truth.mean() < 0.9


@pytest.mark.filterwarnings("ignore")
def test_a_recurrent_graph_of_snntorch():
    pytest.importorskip("nirtorch")
    snn = pytest.importorskip("snntorch")
    from snntorch.export_nir import export_to_nir

    leaky = snn.RLeaky(beta=0.8, linear_features=8, reset_mechanism="zero", init_hidden=True)
    old = nn.Sequential(busy(nn.Linear(5, 8)), leaky, nn.Linear(8, 2))
    graph = export_to_nir(old, torch.zeros(B, 5), ignore_dims=[0])
    old[1].reset_mem()
    x = spike_train(5)
    truth = torch.stack([old(x_t) for x_t in x.unbind(1)], 1)
    assert torch.allclose(from_nir(graph, reset_delay=True)(x)[0], truth, atol=1e-5) and truth.std() > 0.01


@pytest.mark.filterwarnings("ignore")
def test_a_graph_of_spikingjelly():
    pytest.importorskip("spikingjelly.activation_based.neuron", exc_type=ImportError)
    from spikingjelly.activation_based import functional, layer, neuron
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    old = nn.Sequential(
        layer.Conv2d(2, 3, 3, bias=False), neuron.LIFNode(tau=3.0, decay_input=False), layer.AvgPool2d(2), layer.Flatten(),
        layer.Linear(27, 8), neuron.IFNode(), layer.Linear(8, 2), neuron.LIFNode(tau=2.0, v_threshold=0.1),
    )  # fmt: skip
    for k in (0, 4, 6):
        busy(old[k])
    x = spike_train(2, 8, 8)
    graph = export_to_nir(old, x[:, 0])
    functional.reset_net(old)
    truth = torch.stack([old(x_t) for x_t in x.unbind(1)], 1)
    assert torch.equal(from_nir(graph)(x)[0], truth) and 0.02 < truth.mean() < 0.98


@pytest.mark.filterwarnings("ignore")
def test_a_graph_of_norse():
    norse = pytest.importorskip("norse.torch")

    cells = norse.LIFBoxCell(), norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=torch.tensor(300.0)))
    old = norse.SequentialState(busy(nn.Linear(5, 8)), cells[0], busy(nn.Linear(8, 3)), cells[1])
    with torch.no_grad():
        for k in (0, 2):
            old[k].weight.mul_(4)
    x, state, outputs = spike_train(5), None, []
    for x_t in x.unbind(1):
        y, state = old(x_t, state)
        outputs.append(y)
    truth = torch.stack(outputs, 1)
    from norse.torch.utils.export_nir import to_nir as export

    graph = export(old, torch.zeros(B, 5))
    assert torch.equal(from_nir(graph, dt=1e-6)(x)[0], truth) and 0.02 < truth.mean() < 0.9


# --- any wiring --------------------------------------------------------------------------------------------------


def by_hand(nodes, links, x):
    """Instant after instant: the sum of what comes in; "a~b" brings what a was at the instant before."""
    edges = [(*link.replace("~", " ").split(), "~" in link) for link in links]
    order = TopologicalSorter({n: {a for a, b, late in edges if b == n and not late} for n in nodes}).static_order()
    order, state, outputs = [n for n in order if n in nodes], dict.fromkeys(nodes), []
    last = dict.fromkeys(nodes, torch.zeros(B, 4))
    for x_t in x.unbind(1):
        now = {"in": x_t}
        for name in order:
            total = sum((last if late else now)[a] for a, b, late in edges if b == name)
            cell = nodes[name]
            now[name], state[name] = cell.step(total, state[name]) if isinstance(cell, tc.Cell) else (cell(total), None)
        last = now
        outputs.append(sum(now[a] for a, b, _ in edges if b == "out"))
    return torch.stack(outputs, 1)


WIRES = {
    "a chain in any order": ["c out", "a b", "in a", "b c"],
    "a skip": ["in a", "a b", "b c", "a c", "c out"],
    "a skip over all": ["in a", "a out", "in out"],
    "two branches": ["in a", "a b", "a c", "b d", "c d", "d out"],
    "three branches, one of them empty": ["in a", "a b", "a c", "b d", "c d", "a d", "d out"],
    "branches at the ends": ["in a", "in b", "a out", "b out"],
    "nested": ["in a", "a b", "b c", "b d", "c e", "d e", "a e", "e out"],
    "branches of several": ["in a", "a b", "b c", "c d", "b d", "a e", "e f", "d f", "f out"],
    "a skip behind a skip": ["in a", "a b", "a c", "b c", "a d", "b d", "c d", "d e", "e out"],
    "a loop of one": ["in a", "a n", "n~n", "n out"],
    "a loop": ["in a", "a n", "n~b", "b n", "n out"],
    "a loop of several": ["in a", "a n", "n b", "b~c", "c a", "b out"],
    "a loop with branches back": ["in n", "n~b", "n~c", "b d", "c d", "d n", "n out"],
    "a loop in a branch": ["in a", "a n", "n~b", "b n", "n c", "a c", "c out"],
}


@pytest.mark.parametrize("name", WIRES)
def test_wires(name):
    edges = [tuple(e.replace("~", " ").split()) for e in WIRES[name]]
    names = sorted({n for e in edges for n in e} - {"in", "out"})
    nodes = {n: tc.LIF(4, tau=3.0, threshold=0.5) if n == "n" else nn.Linear(4, 4) for n in names}
    x = torch.rand(B, 12, 4)
    assert torch.allclose(wire(nodes, edges, "in", "out")(x)[0], by_hand(nodes, WIRES[name], x), atol=1e-5)


@pytest.mark.parametrize(
    ("edges", "names"),
    [
        ("in a, a out, a x", ["nodes x", "do not exist"]),
        ("in a, a out, b out", ["nodes b", "on no way"]),
        ("in a, in b, a c, a d, b d, c out, d out", ["crosses", "a, b, c, d"]),
        ("in a, a b, b a, in b, b out", ["a, b", "several ways"]),
        ("in a, a b, b c, c a, b a, c out", ["several ways back"]),
    ],
)
def test_wires_that_are_refused(edges, names):
    with pytest.raises(InputError) as error:
        wire(
            {n: nn.Identity() for n in "abcd" if n in edges}, [tuple(e.split()) for e in edges.split(", ")], "in", "out"
        )
    assert all(n.replace("crosses", "branches that cross") in str(error.value) for n in names), str(error.value)


@st.composite
def nets(draw, depth=3, loops=True):
    kinds = ["linear", "lif", *(["sequence", "residual", "parallel"] + ["loop"] * loops) * (depth > 0)]
    kind = draw(st.sampled_from(kinds))
    if kind == "linear":
        return nn.Linear(3, 3)
    if kind == "lif":
        return tc.LIF(3, tau=draw(st.floats(1.5, 9)), threshold=0.2, reset="hard")
    parts = draw(st.lists(nets(depth - 1, loops and kind != "loop"), min_size=2, max_size=3))
    make = {"sequence": tc.Sequential, "residual": tc.Residual, "parallel": tc.Parallel}
    return make[kind](*parts) if kind in make else Loop(tc.Sequential(*parts), nn.Linear(3, 3))


@given(nets(), nets())
def test_nets_of_any_shape(one, two):
    """Whatever is made of our containers comes back with the same outputs, or NIR cannot say it, and it is refused."""
    net, x = tc.Sequential(nn.Linear(3, 3), one, nn.Linear(3, 3), two, nn.Linear(3, 3)).eval(), torch.rand(2, 8, 3)
    try:
        graph = to_nir(net, x)
    except InputError as error:
        assert "the same signal twice" in str(error)
        return
    assert torch.allclose(from_nir(graph)(x)[0], net(x)[0], atol=1e-3)


# --- refusals ----------------------------------------------------------------------------------------------------

ONE = np.ones(2)


@pytest.mark.parametrize(
    ("node", "names"),
    [
        (lambda: nir.LIF(tau=ONE * 1e-5, r=ONE, v_leak=ONE, v_threshold=ONE), ["node lif", "1e-05 s", "dt = 0.0001"]),
        (lambda: nir.LIF(tau=ONE, r=ONE, v_leak=0 * ONE, v_threshold=ONE, v_reset=-ONE), ["node lif", "v_reset -1", "v_leak 0"]),
        (lambda: nir.LI(tau=ONE, r=ONE, v_leak=ONE), ["node li", "v_leak 1"]),
        (lambda: nir.LIF(tau=ONE * np.nan, r=ONE, v_leak=ONE, v_threshold=ONE), ["node lif", "NaN"]),
        (lambda: nir.Delay(delay=ONE * 1.5e-4), ["node delay", "1.5 steps", "whole"]),
        (lambda: nir.Linear(weight=np.ones((2, 3, 4))), ["node linear", "[2, 3, 4]"]),
    ],
)  # fmt: skip
def test_nodes_that_are_refused(node, names):
    graph = nir.NIRGraph.from_list(node(), type_check=False)
    with pytest.raises(InputError) as error:
        from_nir(graph)
    assert all(n in str(error.value) for n in names), str(error.value)


def test_graphs_that_are_refused(tmp_path):
    two = nir.NIRGraph(
        {"a": nir.Input(ONE), "b": nir.Input(ONE), "c": nir.Output(ONE)}, [("a", "c"), ("b", "c")], type_check=False
    )
    with pytest.raises(InputError, match=r"nodes \['a', 'b'\].*2 nodes of type Input"):
        from_nir(two)
    with pytest.raises(InputError, match=r"from_nir\(dt\)"):
        from_nir(two, dt=0)
    for name, content in (("missing.nir", None), ("no.nir", b"nothing")):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            from_nir(tmp_path / name)
    nir.write(tmp_path / "cut.nir", to_nir(NETS["lif"](), spike_train(5)))
    content = (tmp_path / "cut.nir").read_bytes()
    for size in (len(content) // 3, len(content) - 10):
        (tmp_path / "cut.nir").write_bytes(content[:size])
        with pytest.raises(DataError, match=r"cut\.nir"):
            from_nir(tmp_path / "cut.nir")


@pytest.mark.parametrize(
    ("net", "names"),
    [
        (lambda: tc.Sequential(nn.Linear(5, 5), tc.LIF(5)), ["net.1", "reset='soft'", "notes=True"]),
        (lambda: tc.Sequential(tc.Residual(nn.BatchNorm1d(5))), ["net.0.0", "BatchNorm1d"]),
        (lambda: tc.Sequential(tc.GRU(5, 3)), ["net.0", "GRU"]),
        (lambda: Loop(Loop(nn.Linear(5, 5), nn.Identity()), nn.Identity()), ["net", "a loop within a loop"]),
        (lambda: tc.Sequential(tc.Parallel(nn.Identity(), nn.Identity()), nn.Linear(5, 2)), ["net.1", "twice"]),
        (lambda: tc.Sequential(tc.Delayed(5, 3, max_delay=9)), ["net.0", "one delay a synapse"]),
        (lambda: tc.Sequential(tc.LeakyIntegrator(5, tau=torch.inf)), ["net.0", "endless"]),
        (lambda: tc.Sequential(tc.Parallel(nn.Linear(5, 1), nn.Linear(5, 1), merge="cat")), ["net.0", "Parallel"]),
    ],
)
def test_nets_that_are_refused(net, names):
    with pytest.raises(InputError) as error:
        to_nir(net().eval(), spike_train(5))
    assert all(n in str(error.value) for n in names), str(error.value)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nir", None)
    with pytest.raises(MissingExtra, match=r"timecell\[nir\]"):
        from_nir("net.nir")
