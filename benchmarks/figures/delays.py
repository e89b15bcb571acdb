"""Learnable delays, one a synapse: 700 lines to 256 units, forward and backward to weights and delays.

Ours is the Gaussian blur with sigma = 0.5 steps; the dense convolution has the same kernel, as free weights. DCLS makes its
kernel from weights and positions at every pass and hands it to the dense convolution, with linear interpolation ("v1")
or with Gaussians; its widths and draws are its own, so that it computes something of the same kind, not the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from benchmarks.side_by_side import Case, Figure, Pass, Target


class Work(NamedTuple):
    """What a layer is given and asked for."""

    batch: int = 64
    steps: int = 100
    longest: int = 24
    density: float = 0.02
    to_input: bool = False
    inputs: int = 700
    outputs: int = 256


def torch_pass(layer: Callable[[Any], Any], learnt: Iterable[Any], work: Work, time_last: bool = False) -> Pass:
    """Forward and backward of a torch layer; convolutions want time last and get it so, no transpose is charged."""
    import numpy as np
    import torch

    draw = np.random.default_rng(0)
    spikes = draw.random((work.batch, work.steps, work.inputs)) < work.density
    blame = draw.normal(0, 1, (work.batch, work.steps, work.outputs))
    x, g = (torch.from_numpy(a.astype(np.float32)) for a in (spikes, blame))
    if time_last:
        x, g = x.transpose(1, 2).contiguous(), g.transpose(1, 2).contiguous()
    x, learnt = x.requires_grad_(work.to_input), list(learnt)

    def one_pass() -> dict[str, Any]:
        for p in (x, *learnt):
            p.grad = None
        y = layer(x)
        y.backward(g)
        return {"y": y, "gradient of x": x.grad} if work.to_input else {"y": y}

    return one_pass


def synapse(work: Work) -> Any:
    """Our layer, the same at every call."""
    import torch

    import timecell as tc

    torch.manual_seed(0)
    return tc.Delayed(work.inputs, work.outputs, work.longest, sigma=0.5)


def timecell(work: Work) -> Pass:
    """Ours; the form is chosen from the density of the input."""
    layer = synapse(work)
    return torch_pass(lambda x: layer(x)[0], layer.parameters(), work)


def conv1d(work: Work) -> Pass:
    """A dense causal convolution with our taps."""
    import torch

    layer = torch.nn.Conv1d(work.inputs, work.outputs, work.longest + 1, padding=work.longest, bias=False)
    layer.weight.data = synapse(work).taps().detach().flip(0).permute(1, 2, 0).contiguous()
    return torch_pass(lambda x: layer(x)[..., : work.steps], layer.parameters(), work, time_last=True)


def dcls(work: Work, version: str) -> Pass:
    """Dilated convolution with learnable spacings, one element a synapse."""
    from DCLS.construct.modules import Dcls1d
    from torch.nn.functional import pad

    layer = Dcls1d(
        work.inputs, work.outputs, kernel_count=1, dilated_kernel_size=work.longest + 1, bias=False, version=version
    )
    return torch_pass(lambda x: layer(pad(x, (work.longest, 0))), layer.parameters(), work, time_last=True)


def product(work: Work) -> Pass:
    """The same weights without delays: one matrix product over all steps."""
    import torch

    layer = torch.nn.Linear(work.inputs, work.outputs, bias=False)
    return torch_pass(layer, layer.parameters(), work)


def cases(work: Work) -> tuple[Case, ...]:
    """Ours, the peers, and the floor."""
    return (
        Case("timecell", partial(timecell, work), kind="ours"),
        Case("matrix product", partial(product, work), kind="floor"),
        Case("Conv1d", partial(conv1d, work), exact=True),
        Case("DCLS v1", partial(dcls, work, "v1"), needs=("DCLS",)),
        Case("DCLS gauss", partial(dcls, work, "gauss"), needs=("DCLS",)),
    )


FIRST, DEEP, DENSE = Work(), Work(to_input=True), Work(to_input=True, density=1.0)
SHORT, LONG = (Work(batch=16, steps=400, longest=d, to_input=True) for d in (24, 249))

FIGURES = (
    Figure(
        "delays", "Delays of up to 24 steps, [64, 100, 700] to 256, 2 % spikes, forward and backward to weights and delays",
        cases(FIRST),
        (
            Target("DCLS gauss", at_least=7.5), Target("DCLS v1", at_least=7.5), Target("Conv1d", at_least=5),
            Target("DCLS gauss", at_least=10, of="memory"), Target("DCLS v1", at_least=10, of="memory"),
            Target("matrix product", at_most=2),
        ),
    ),
    Figure(
        "delays-deep", "Delays of up to 24 steps, backward to the input as well",
        cases(DEEP),
        (Target("DCLS gauss", at_least=2), Target("DCLS v1", at_least=2), Target("Conv1d", at_least=2)),
    ),
    Figure("delays-dense", "Delays of up to 24 steps on an input without zeros", cases(DENSE)),
    Figure(
        "delays-long", "Delays of up to 249 against up to 24 steps, [16, 400, 700] to 256, 2 % spikes, backward to the input as well",
        (
            Case("up to 249 steps", partial(timecell, LONG), kind="ours"),
            Case("up to 24 steps", partial(timecell, SHORT), kind="ours"),
        ),
        (Target("up to 24 steps", at_most=1.2),),
    ),
)  # fmt: skip
