"""Synapses that take time: one learnable delay for each.

    y_t[o] = sum_i w[o, i] x_{t - d[o, i]}[i]            d in [0, max_delay] steps

A delay has no gradient where it can only take whole values, so training blurs each synapse over lags k with a kernel
of width sigma around its real-valued delay, normalised to sum to w (dilated convolution with learnable spacings:
Khalfaoui-Hassani et al., 2021; Gaussian, for delays: Hammouamri et al., 2023):

    kernel="gaussian":   g[k] ~ exp(-((k - d) / sigma)^2 / 2)
    kernel="triangle":   g[k] ~ max(0, 1 + sigma - |k - d|)        (sigma = 0: linear interpolation)

In `eval` the delays are what they will be in use: whole steps, exact shifts. `harden` makes that permanent.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.cell import Cell, check_sequence
from timecell.combine import silence
from timecell.errors import InputError
from timecell.state import StateTree


class Past(NamedTuple):
    """What a delayed synapse remembers: the last inputs, [B, max_delay, I]."""

    x: Tensor


class Delayed(Cell):
    """A linear layer with one delay per synapse.

    Args:
        inputs: I.
        outputs: O.
        max_delay: largest delay in steps; delays lie in [0, max_delay].
        kernel: "gaussian" or "triangle", the blur in training.
        sigma: width of the blur in steps; schedules shrink it in training.
        learn: whether delays are trained; False keeps them at their random start.
        init: "uniform" in [0, max_delay], or a number for every synapse.

    Shapes: x [B, T, I] -> y [B, T, O]; state: the last `max_delay` inputs.

    Example:
        >>> synapse = Delayed(1, 1, max_delay=3, init=2.0).eval()
        >>> nn.init.ones_(synapse.weight).shape
        torch.Size([1, 1])
        >>> y, _ = synapse(torch.tensor([[[1.0], [0.0], [0.0], [0.0]]]))
        >>> y[0, :, 0].tolist()
        [0.0, 0.0, 1.0, 0.0]
    """

    roles: ClassVar[dict[str, str]] = {"delay": "delay"}

    def __init__(
        self,
        inputs: int,
        outputs: int,
        max_delay: int = 25,
        *,
        kernel: Literal["gaussian", "triangle"] = "gaussian",
        sigma: float = 0.5,
        learn: bool = True,
        init: Literal["uniform"] | float = "uniform",
    ) -> None:
        super().__init__()
        if min(inputs, outputs) < 1 or max_delay < 0 or max_delay != int(max_delay):
            raise InputError(
                "Delayed(inputs, outputs, max_delay)", found=(inputs, outputs, max_delay),
                expected="two positive widths and a whole number of steps >= 0", remedy="mend the argument",
            )  # fmt: skip
        if kernel not in ("gaussian", "triangle"):
            raise InputError(
                "Delayed(kernel)", found=repr(kernel), expected="gaussian or triangle", remedy="choose one"
            )
        self.inputs, self.outputs, self.max_delay, self.kernel, self.sigma = (
            inputs,
            outputs,
            int(max_delay),
            kernel,
            sigma,
        )
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        delay = (
            torch.rand(outputs, inputs) * max_delay if init == "uniform" else torch.full((outputs, inputs), float(init))
        )
        self.delay = nn.Parameter(delay, requires_grad=learn)
        self.hard = False
        self.constrain()

    @classmethod
    def example(cls) -> Delayed:
        """For the checks."""
        return cls(4, 3, max_delay=3, sigma=1.0)

    @torch.no_grad()
    def constrain(self) -> None:
        """Bring the delays back into [0, max_delay]; training calls this after every update."""
        self.delay.clamp_(0, self.max_delay)

    @torch.no_grad()
    def harden(self) -> None:
        """Round the delays to whole steps for good: training goes on with the weights alone."""
        self.delay.round_()
        self.delay.requires_grad_(False)
        self.hard = True

    @property
    def steps(self) -> Int[Tensor, "O I"]:
        """The delays in whole steps, as used in eval."""
        return self.delay.detach().round().long()

    def taps(self) -> Float[Tensor, "K O I"]:
        """The weight at each lag 0..max_delay: blurred in training, one exact tap a synapse otherwise."""
        if self.hard or not self.training:
            taps = self.weight.new_zeros(self.max_delay + 1, self.outputs, self.inputs)
            return taps.scatter(0, self.steps[None], self.weight[None])
        lag = torch.arange(self.max_delay + 1, dtype=self.delay.dtype, device=self.delay.device)[:, None, None]
        if self.kernel == "gaussian":
            blur = torch.exp(-0.5 * ((lag - self.delay) / self.sigma) ** 2)
        else:
            blur = torch.relu(1 + self.sigma - (lag - self.delay).abs())
        return self.weight * blur / (blur.sum(0) + 1e-7)

    def initial_state(self, batch: int, like: Tensor) -> StateTree:
        """Silence before the first step."""
        return Past(like.new_zeros(batch, self.max_delay, self.inputs))

    def forward(
        self, x: Float[Tensor, "B T I"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T O"], StateTree]:
        """Whole sequences, as one convolution with the taps."""
        check_sequence("Delayed(x)", x, lengths)
        if x.ndim != 3 or x.shape[2] != self.inputs:
            raise InputError(
                "Delayed(x)", found=f"shape {list(x.shape)}", expected=f"[B, T, {self.inputs}]",
                remedy="match the layer's inputs to what comes before it",
            )  # fmt: skip
        past = self.initial_state(x.shape[0], x) if state is None else state
        x = torch.cat([past.x, silence(x, lengths)], 1)
        T = x.shape[1] - self.max_delay
        y = nn.functional.conv1d(x.transpose(1, 2), self.taps().to(x.dtype).flip(0).permute(1, 2, 0)).transpose(1, 2)
        if lengths is None:
            return y, Past(x[:, T:])
        last = lengths[:, None] + torch.arange(self.max_delay, device=x.device)
        return silence(y, lengths), Past(x.gather(1, last[..., None].expand(-1, -1, self.inputs)))

    def extra_repr(self) -> str:
        """Widths, delays and blur."""
        blur = "whole steps" if self.hard else f"{self.kernel}, sigma={self.sigma:.3g}"
        return f"{self.inputs}, {self.outputs}, max_delay={self.max_delay}, {blur}"
