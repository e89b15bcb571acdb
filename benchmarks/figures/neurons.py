"""Neurons of one to four states as a user writes them, against fused loops written by hand for each (by_hand.py)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import timecell as tc
from benchmarks import by_hand
from benchmarks.figures.lif import arrays
from benchmarks.side_by_side import Case, Figure, Pass, Target

SHAPE = (64, 100, 512)


class Leaky(tc.Neuron):
    """One state."""

    v: tc.State
    k = tc.param(0.9, per="unit")

    @staticmethod
    def dynamics(x: Tensor, s: Any, p: Any) -> tuple[Tensor, Any]:
        """One instant."""
        u = p.k * s.v + x
        z = tc.spike(u - 1.0)
        return z, s._replace(v=u * (1 - z))


class Adaptive(tc.Neuron):
    """Two states: the threshold rises with every spike."""

    v: tc.State
    b: tc.State
    k = tc.param(0.9, per="unit")

    @staticmethod
    def dynamics(x: Tensor, s: Any, p: Any) -> tuple[Tensor, Any]:
        """One instant."""
        theta = 1 + 0.5 * s.b
        u = p.k * s.v + x
        z = tc.spike(u - theta)
        return z, s._replace(v=u - theta * z, b=0.95 * s.b + 0.05 * z)


class Quadratic(tc.Neuron):
    """Three states, after Izhikevich: a quadratic membrane, its recovery, and a synaptic current."""

    i: tc.State
    v: tc.State
    w: tc.State
    k = tc.param(0.4, per="unit")

    @staticmethod
    def dynamics(x: Tensor, s: Any, p: Any) -> tuple[Tensor, Any]:
        """One instant."""
        i = 0.8 * s.i + x
        q = s.v + 0.2 * (s.v * (s.v - 0.5) - s.w + i)
        z = tc.spike(q - 1.0)
        return z, s._replace(i=i, v=q + z * (-0.2 - q), w=s.w + 0.05 * (p.k * s.v - s.w) + 0.1 * z)


class TwoCurrents(tc.Neuron):
    """Four states: a fast and a slow synaptic current, a membrane, and adaptation."""

    f: tc.State
    l: tc.State  # noqa: E741
    v: tc.State
    w: tc.State
    k = tc.param(0.9, per="unit")

    @staticmethod
    def dynamics(x: Tensor, s: Any, p: Any) -> tuple[Tensor, Any]:
        """One instant."""
        f = 0.8 * s.f + x
        slow = 0.95 * s.l + 0.2 * x
        u = p.k * s.v + f + slow - s.w
        z = tc.spike(u - 1.0)
        v = u - z
        return z, s._replace(f=f, l=slow, v=v, w=0.98 * s.w + 0.02 * v + 0.1 * z)


def both_ways(layer: Callable[[Tensor], Tensor], k: Tensor) -> Pass:
    """Forward, and backward to the input and the parameter."""
    x, blame = map(torch.from_numpy, arrays(SHAPE, time_first=False))
    x.requires_grad_()

    def one_pass() -> dict[str, Any]:
        spikes = layer(x)
        spikes.backward(blame)
        of_x, x.grad, of_k, k.grad = x.grad, None, k.grad, None
        return {"spikes": spikes, "gradient of x": of_x, "of k": of_k}

    return one_pass


def ours(neuron: type[tc.Neuron]) -> Pass:
    """What the engine makes of it."""
    cell = neuron(SHAPE[-1])
    return both_ways(lambda x: cell(x)[0], cell.get_parameter("k_raw"))


def plain(neuron: type[tc.Neuron]) -> Pass:
    """The same step in a plain torch loop."""
    cell = neuron(SHAPE[-1])

    def layer(x: Tensor) -> Tensor:
        with tc.fuse.backend("plain"):
            return cell(x)[0]

    return both_ways(layer, cell.get_parameter("k_raw"))


def handmade(neuron: type[tc.Neuron], forward: Callable[..., None], adjoint: Callable[..., None], kept: int) -> Pass:
    """The kernels of by_hand.py, called with as little around them as torch allows; `kept` arrays wait for the adjoint."""
    tc.fuse.allocator.keep_freed_pages()  # as our own engine does: results are not faulted in anew

    class Fused(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, k: Tensor) -> Tensor:
            z, *saved = (torch.empty_like(x) for _ in range(1 + kept))
            forward(*(a.numpy() for a in (x.detach(), k.detach(), z, *saved)))
            ctx.save_for_backward(k, *saved)
            return z

        @staticmethod
        def backward(ctx: Any, blame: Tensor) -> tuple[Tensor, Tensor]:
            k, *saved = ctx.saved_tensors
            gx, gk = torch.empty_like(blame), torch.zeros_like(k)
            adjoint(*(a.numpy() for a in (blame, k.detach(), *saved, gx, gk)))
            return gx, gk

    k = neuron(SHAPE[-1]).get_parameter("k_raw")
    return both_ways(lambda x: Fused.apply(x, k), k)


def figure(neuron: type[tc.Neuron], name: str, forward: Any, adjoint: Any, kept: int = 1) -> Figure:
    """One neuron, three ways."""
    return Figure(
        f"neuron-{name}", f"user-written neuron of {len(neuron.states)} state{'s'[: len(neuron.states) - 1]} "
        f"({name.replace('-', ' ')}) {list(SHAPE)}, forward and backward",
        cases=(
            Case("timecell", partial(ours, neuron), kind="ours"),
            Case("loop by hand, one thread", partial(handmade, neuron, forward, adjoint, kept), exact=True),
            Case("torch loop", partial(plain, neuron), exact=True),
        ),
        targets=(Target("loop by hand, one thread", at_most=1.5),),
    )  # fmt: skip


FIGURES = (
    figure(Leaky, "leaky", by_hand.leaky, by_hand.leaky_adjoint),
    figure(Adaptive, "adaptive", by_hand.adaptive, by_hand.adaptive_adjoint, kept=2),
    figure(Quadratic, "quadratic", by_hand.quadratic, by_hand.quadratic_adjoint),
    figure(TwoCurrents, "two-currents", by_hand.two_currents, by_hand.two_currents_adjoint),
)
