"""The step in ONNX: the numbers of `step` over many steps in a runtime that knows no Python, with its state in and out."""

import numpy as np
import pytest
import torch
from torch import nn

import timecell as tc
from timecell.errors import InputError, MissingExtra
from timecell.exchange.onnx import export_step

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
runtime = pytest.importorskip("onnxruntime")

NETS = {
    "spiking": lambda: tc.Sequential(nn.Linear(4, 8), tc.LIF(8, tau=5.0, threshold=0.3), nn.BatchNorm1d(8), tc.Residual(tc.Recurrent(tc.AdaptiveLIF(8), nn.Linear(8, 8))), nn.Linear(8, 2), tc.LeakyIntegrator(2)),
    "delays": lambda: tc.Sequential(tc.Delayed(4, 6, max_delay=5), tc.LIF(6, tau=3.0, threshold=0.2, reset="hard")),
    "one cell": lambda: tc.LIF(4, threshold=0.9),
    "gated": lambda: tc.Parallel(tc.GRU(4, 3), nn.Linear(4, 3), merge="cat"),
    "no state": lambda: tc.Sequential(nn.Linear(4, 3), nn.Tanh()),
}  # fmt: skip


def run(path, state, x):
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = []
    for x_t in x.unbind(1):
        y, *after = session.run(None, {"x": x_t.numpy(), **state})
        state = dict(zip(state, after))
        outputs.append(torch.from_numpy(y))
    return torch.stack(outputs, 1), state


@pytest.mark.parametrize("name", NETS)
def test_many_steps(name, tmp_path):
    torch.manual_seed(0)
    net = NETS[name]()
    x = (torch.rand(3, 100, 4) < 0.5).float()
    state = export_step(net, tmp_path / "step.onnx", x[:2, 0])
    assert net.training  # as it was
    net.eval()
    zeros = {k: np.repeat(v[:1], 3, 0) for k, v in state.items()}  # another batch than the example's
    y, after = run(tmp_path / "step.onnx", zeros, x)
    with torch.no_grad():
        truth, end = net(x)
    assert torch.allclose(y, truth, atol=1e-5) and truth.std() > 0.01
    flat = tc.state.flatten(end)
    assert list(after) == [f"state.{k}" for k in flat]
    assert all(np.allclose(after[f"state.{k}"], v.numpy(), atol=1e-5) for k, v in flat.items())


def test_a_spike_is_a_comparison_and_the_file_is_valid(tmp_path):
    export_step(tc.LIF(4), str(tmp_path / "step.onnx"), torch.rand(1, 4))
    model = onnx.load(tmp_path / "step.onnx")
    onnx.checker.check_model(model)
    assert "GreaterOrEqual" in {n.op_type for n in model.graph.node}
    assert [i.name for i in model.graph.input] == ["x", "state.v"] and [o.name for o in model.graph.output] == [
        "y",
        "next.v",
    ]
    assert list(tmp_path.iterdir()) == [tmp_path / "step.onnx"]


class Backwards(tc.Cell):
    """Needs the future."""

    causal = streams = False

    def forward(self, x, state=None, *, lengths=None):
        return x.flip(1), None


class Strange(nn.Module):
    """Leaves torch."""

    def forward(self, x):
        return torch.from_numpy(np.sort(x.detach().numpy()))


def test_refusals(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="needs the future"):
        export_step(tc.Sequential(Backwards()), tmp_path / "a.onnx", torch.rand(1, 4))
    with pytest.raises(InputError, match=r"export_step\(net\)"):
        export_step(tc.Sequential(Strange()), tmp_path / "a.onnx", torch.rand(1, 4))
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingExtra, match=r"timecell\[onnx\]"):
        export_step(tc.LIF(4), tmp_path / "a.onnx", torch.rand(1, 4))
    assert not list(tmp_path.iterdir())
