"""A training step of a convolutional net on 28 x 28 frames: 2 x (convolution, batch norm, LIF, average pool), a linear readout.

32 samples of 8 steps, Adam, cross-entropy of the summed output. A fifth of the pixels is active.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from benchmarks.figures.lif import ALPHA, BETA
from benchmarks.side_by_side import Case, Figure, Pass, Target

BATCH, STEPS, SIDE, CHANNELS, CLASSES = 32, 8, 28, (1, 16, 32), 10
PAIRS = tuple(pairwise(CHANNELS))


def torch_step(net: Any, logits: Callable[[Any], Any], time_first: bool) -> Pass:
    """Forward, backward and Adam; every net starts from the same weights, in the order of its parameters."""
    import numpy as np
    import torch

    draw = np.random.default_rng(0)
    frames = (draw.random((BATCH, STEPS, 1, SIDE, SIDE)) < 0.2).astype(np.float32)
    x = torch.from_numpy(np.ascontiguousarray(frames.swapaxes(0, 1)) if time_first else frames)
    labels = torch.from_numpy(draw.integers(0, CLASSES, BATCH))
    kernels = [p for p in net.parameters() if p.ndim > 1]
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim > 1:
                p.copy_(torch.from_numpy(draw.normal(0, (2 / p[0].numel()) ** 0.5, p.shape)))
        net[-1].bias.zero_()
    adam = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)

    def one_pass() -> dict[str, Any]:
        adam.zero_grad()
        out = logits(x)
        loss = torch.nn.functional.cross_entropy(out, labels)
        loss.backward()
        adam.step()
        return {"loss": loss, "output": out, "gradient": kernels[0].grad}

    return one_pass


def layers(neuron: Callable[[int], Any]) -> list[Any]:
    """The net's modules; `neuron` makes one for frames of so many pixels a side."""
    from torch import nn

    modules: list[Any] = []
    for i, (into, out) in enumerate(PAIRS):
        convolution = nn.Conv2d(into, out, 3, padding=1, bias=False)
        modules += [convolution, nn.BatchNorm2d(out), neuron(SIDE // 2**i), nn.AvgPool2d(2)]
    return [*modules, nn.Flatten(), nn.Linear(CHANNELS[-1] * (SIDE // 4) ** 2, CLASSES)]


def timecell() -> Pass:
    """Ours."""
    import timecell as tc

    net = tc.Sequential(*layers(lambda side: tc.LIF(side, tau=1 / (1 - BETA), reset="hard")))
    return torch_step(net, lambda x: net(x)[0].sum(1), time_first=False)


def relu() -> Pass:
    """No neurons: what everything else costs, all steps as one batch."""
    import torch

    net = torch.nn.Sequential(*layers(lambda side: torch.nn.ReLU()))
    return torch_step(net, lambda x: net(x.flatten(0, 1)).unflatten(0, x.shape[:2]).sum(1), time_first=False)


def spikingjelly() -> Pass:
    """Its own layers, which take all steps in one call."""
    import torch
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    def node() -> Any:
        return neuron.LIFNode(
            tau=1 / (1 - BETA), decay_input=False, v_reset=0.0, surrogate_function=surrogate.ATan(alpha=ALPHA)
        )

    modules: list[Any] = []
    for into, out in PAIRS:
        convolution = layer.Conv2d(into, out, 3, padding=1, bias=False)
        modules += [convolution, layer.BatchNorm2d(out), node(), layer.AvgPool2d(2)]
    modules += [layer.Flatten(), layer.Linear(CHANNELS[-1] * (SIDE // 4) ** 2, CLASSES)]
    net = torch.nn.Sequential(*modules)
    functional.set_step_mode(net, "m")

    def logits(x: Any) -> Any:
        functional.reset_net(net)
        return net(x).sum(0)

    return torch_step(net, logits, time_first=True)


def snntorch() -> Pass:
    """The loop of its tutorials, a step at a time; batch norm sees one step at a time too."""
    import snntorch as snn
    import torch

    net = torch.nn.Sequential(
        *layers(lambda side: snn.Leaky(beta=BETA, spike_grad=snn.surrogate.atan(alpha=ALPHA), reset_mechanism="zero"))
    )

    def logits(x: Any) -> Any:
        membranes = {module: module.reset_mem() for module in net if isinstance(module, snn.Leaky)}
        total = 0
        for y in x.unbind(0):
            for module in net:
                if module in membranes:
                    y, membranes[module] = module(y, membranes[module])
                else:
                    y = module(y)
            total = total + y
        return total

    return torch_step(net, logits, time_first=True)


FIGURES = (
    Figure(
        "conv", f"training step of a convolutional LIF net, B={BATCH}, T={STEPS}, {SIDE}x{SIDE}",
        cases=(
            Case("timecell", timecell, kind="ours"),
            Case("ReLU net", relu, kind="floor"),
            Case("SpikingJelly", spikingjelly, needs=("spikingjelly",), exact=True),
            Case("snnTorch", snntorch, needs=("snntorch",)),
        ),
        targets=(Target("ReLU net", at_most=1.1),),
    ),
)  # fmt: skip
