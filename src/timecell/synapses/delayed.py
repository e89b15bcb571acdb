"""Synapses that take time: one learnable delay for each.

    y_t[o] = sum_i w[o, i] x_{t - d[o, i]}[i]            d in [0, max_delay] steps

A delay has no gradient where it can only take whole values, so training blurs each synapse over lags k with a kernel
of width sigma around its real-valued delay, normalised to sum to w (dilated convolution with learnable spacings:
Khalfaoui-Hassani et al., 2021; Gaussian, for delays: Hammouamri et al., 2023):

    kernel="gaussian":   g[k] ~ exp(-((k - d) / sigma)^2 / 2)
    kernel="triangle":   g[k] ~ max(0, 1 + sigma - |k - d|)        (sigma = 0: linear interpolation)

In `eval` the delays are what they will be in use: whole steps, exact shifts. `harden` makes that permanent.

A synapse has few taps that are not zero among max_delay + 1 lags. On a CPU only these are summed (`fuse/delays.py`): event
by event where the input is sparse, densely where it is not; `Delayed.plan` tells which. On other devices, in other
number types and under ``fuse.backend("plain")`` it is a dense convolution over all lags, which is the definition.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from timecell.cell import Cell, check_channels, check_sequence
from timecell.combine import silence
from timecell.errors import InputError
from timecell.fuse import delays
from timecell.fuse.trace import transforms_active
from timecell.state import StateTree

PIECE = 1 << 15  # taps that are blurred at once in the backward pass


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
        sigma: width of the blur in steps; schedules shrink it in training. The attribute may be set to a number, or to a
            parameter without axes, which is then trained too.
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
    exempt: ClassVar[dict[str, str]] = {
        "not_a_number": "NaN shows where it arrives; the convolution spreads it over all lags, as 0 * NaN"
    }

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
        return self.delay.detach().round().clamp(0, self.max_delay).long()

    def taps(self) -> Float[Tensor, "K O I"]:
        """The weight at each lag 0..max_delay: blurred in training, one exact tap a synapse otherwise."""
        if self.exact:
            taps = self.weight.new_zeros(self.max_delay + 1, self.outputs, self.inputs)
            return taps.scatter(0, self.steps[None], self.weight[None])
        return self._blurred(self.weight, self.delay, torch.zeros_like(self.delay), self.sigma, self.max_delay + 1)

    def window(self) -> tuple[Float[Tensor, "P O I"], Int[Tensor, "O I"]]:
        """The taps that count, at P neighbouring lags of each synapse, and the first of these lags.

        Left out are the taps of a Gaussian that are less than the rounding error of its peak; together they are less than
        a millionth of the weight (in float32).
        """
        if self.exact:
            return self.weight[None], self.steps
        reach = 1 + self._width  # where the triangle ends
        if self.kernel == "gaussian":  # at least both neighbours, however narrow it is
            reach = max(1.0, self._width * math.sqrt(-2 * math.log(torch.finfo(self.delay.dtype).eps)))
        lags = min(math.ceil(2 * reach), self.max_delay + 1)  # no more lags lie less than `reach` to either side
        first = (self.delay.detach() - reach).floor().int() + 1
        first = first.clamp(0, self.max_delay + 1 - lags)
        rows = max(PIECE // (lags * self.inputs), 1)
        if rows >= self.outputs or transforms_active() or not torch.is_grad_enabled():
            return self._blurred(self.weight, self.delay, first, self.sigma, lags), first
        # What autograd keeps of a blur is several times the taps: so it is computed anew in the backward pass, in pieces.
        pieces = [
            checkpoint(self._blurred, *piece, self.sigma, lags, use_reentrant=False, preserve_rng_state=False)
            for piece in zip(*(t.split(rows) for t in (self.weight, self.delay, first)))
        ]
        return torch.cat(pieces, 1), first

    @property
    def exact(self) -> bool:
        """Whether delays are whole steps now: in eval, and for good after `harden`."""
        return self.hard or not self.training

    @property
    def _width(self) -> float:
        return float(self.sigma.detach()) if isinstance(self.sigma, Tensor) else self.sigma

    def _blurred(
        self, weight: Tensor, delay: Tensor, first: Tensor, sigma: float | Tensor, lags: int
    ) -> Float[Tensor, "P O I"]:
        """The weights at so many lags from the first on."""
        lag = first + torch.arange(lags, dtype=delay.dtype, device=delay.device)[:, None, None]
        if self.kernel == "gaussian":
            blur = torch.exp(-0.5 * ((lag - delay) / sigma).square())
        else:
            blur = torch.relu(1 + sigma - (lag - delay).abs())
        return weight / (blur.sum(0) + 1e-7) * blur

    def initial_state(self, batch: int, like: Tensor) -> StateTree:
        """Silence before the first step."""
        return Past(like.new_zeros(batch, self.max_delay, self.inputs))

    def forward(
        self, x: Float[Tensor, "B T I"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T O"], StateTree]:
        """Whole sequences; what it costs does not depend on `max_delay`."""
        check_sequence("Delayed(x)", x, lengths)
        check_channels("Delayed(x)", x, self.inputs)
        steps = x.shape[1]
        x = silence(x, lengths)
        if state is not None:
            x = torch.cat([state.x, x], 1)
        history = x.shape[1] - steps
        if delays.available(x):
            taps, first = self.window()
            y = delays.delayed_sum(x, taps.to(x.dtype), first, history)
        else:
            y = self._convolved(x, history)
        return silence(y, lengths), self._past(x, history, lengths)

    def plan(self, x: Float[Tensor, "B T I"]) -> delays.Plan:
        """How `forward` computes this input: the form, the share of active inputs, the products it forms.

        Example:
            >>> synapse, silent = Delayed(50, 10, max_delay=25), torch.zeros(4, 100, 50)
            >>> synapse.plan(silent).form, synapse.plan(silent + 1).form
            ('events', 'windows')
        """
        if delays.available(x):
            return delays.plan(x, self.outputs, len(self.window()[0]))
        active = int(torch.count_nonzero(x))
        products = x.numel() * self.outputs * (self.max_delay + 1)
        return delays.Plan("convolution", active, active / max(x.numel(), 1), products)

    def _convolved(self, x: Tensor, history: int) -> Tensor:
        """The definition: a convolution with the taps at all lags."""
        x = nn.functional.pad(x, (0, 0, self.max_delay + 1 - history, 0))  # one step more, because T may be 0
        kernel = self.taps().to(x.dtype).flip(0).permute(1, 2, 0)
        return nn.functional.conv1d(x.transpose(1, 2), kernel).transpose(1, 2)[:, 1:]

    def _past(self, x: Tensor, history: int, lengths: Tensor | None) -> Past:
        """The last `max_delay` inputs of each sample, a copy: the caller may write over x."""
        if lengths is None:
            last = x[:, max(x.shape[1] - self.max_delay, 0) :]
            missing = self.max_delay - last.shape[1]
            return Past(nn.functional.pad(last, (0, 0, missing, 0)) if missing else last.clone())
        x = nn.functional.pad(x, (0, 0, self.max_delay - history, 0))
        last = lengths[:, None] + torch.arange(self.max_delay, device=x.device)
        return Past(x.gather(1, last[..., None].expand(-1, -1, self.inputs)))

    def extra_repr(self) -> str:
        """Widths, delays and blur."""
        blur = "whole steps" if self.hard else f"{self.kernel}, sigma={self._width:.3g}"
        return f"{self.inputs}, {self.outputs}, max_delay={self.max_delay}, {blur}"
