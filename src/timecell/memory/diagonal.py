"""Diagonal state spaces: memories that each decay and oscillate at a pace of their own.

    dh/dt = A h + x,   y = 2 Re(C h) + D x            A diagonal: -decay + i frequency, so always stable

One input channel drives N / 2 conjugate pairs of states; held over a step of `dt`, the equation is exactly the recurrence

    h_t = a h_{t-1} + b x_t,   a = exp(dt A),   b = (a - 1) / A            (zero-order hold)

or nearly so with the trapezoid rule, a = (1 + dt A / 2) / (1 - dt A / 2), b = dt / (1 - dt A / 2) (bilinear). The engine
runs it without ever storing the state (`timecell.fuse.state_space`). Channels do not mix: put a `Linear` behind.

Source: Gu, Gupta, Goel & Ré, "On the parameterization and initialization of diagonal state space models" (S4D, 2022),
arXiv:2206.11893.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn

from timecell.cell import Cell, check_channels, check_sequence
from timecell.errors import InputError, unknown_name
from timecell.fuse.state_space import diagonal_ssm, ssm_kernel
from timecell.state import StateTree


class Modes(NamedTuple):
    """What a diagonal state space remembers: real and imaginary part of every mode, [B, H, N / 2, 2], in units of b."""

    h: Tensor


class DiagonalSSM(Cell):
    """A diagonal state-space layer (S4D).

    Args:
        size: H channels, each with states of its own.
        states: N states a channel, in conjugate pairs: N / 2 complex modes.
        init: frequencies of the modes n = 0, 1, ..: "lin", pi n, spread evenly; "inv", (N / pi) (N / (2 n + 1) - 1), as those of
            HiPPO-LegS. All decay with 1/2.
        discretization: "zoh" (zero-order hold) or "bilinear".
        dt: (shortest, longest) step, in units of the continuous time; each channel starts with one drawn log-uniformly
            between them, and remembers about 1 / dt steps.

    Shapes: x [B, T, H] -> y [B, T, H]; state: the modes [B, H, N / 2, 2].

    Example:
        >>> layer = DiagonalSSM(3, states=8)
        >>> y, state = layer(torch.ones(2, 50, 3))
        >>> tuple(y.shape), tuple(state.h.shape)
        ((2, 50, 3), (2, 3, 4, 2))
    """

    roles: ClassVar[dict[str, str]] = {"log_dt": "neuron", "log_decay": "neuron", "frequency": "neuron"}

    def __init__(
        self,
        size: int,
        states: int = 64,
        *,
        init: Literal["lin", "inv"] = "lin",
        discretization: Literal["zoh", "bilinear"] = "zoh",
        dt: tuple[float, float] = (1e-3, 1e-1),
    ) -> None:
        super().__init__()
        if size < 1 or states < 2 or states % 2:
            raise InputError(
                "DiagonalSSM(size, states)", found=(size, states), expected="a positive width and an even number of states",
                remedy="states come in conjugate pairs: choose 2, 4, ...",
            )  # fmt: skip
        if init not in ("lin", "inv"):
            raise unknown_name("DiagonalSSM(init)", str(init), ("lin", "inv"))
        if discretization not in ("zoh", "bilinear"):
            raise unknown_name("DiagonalSSM(discretization)", str(discretization), ("zoh", "bilinear"))
        if not 0 < dt[0] <= dt[1]:
            raise InputError(
                "DiagonalSSM(dt)", found=dt, expected="two steps, 0 < shortest <= longest", remedy="order them"
            )
        self.size, self.states, self.discretization = size, states, discretization
        n = torch.arange(states // 2)
        frequency = math.pi * n if init == "lin" else states / math.pi * (states / (2 * n + 1) - 1)
        low, high = map(math.log, dt)
        self.log_dt = nn.Parameter(low + (high - low) * torch.rand(size))
        self.log_decay = nn.Parameter(torch.full((size, states // 2), math.log(0.5)))
        self.frequency = nn.Parameter(frequency.float().repeat(size, 1))
        self.read = nn.Parameter(torch.randn(size, states // 2, 2) * 0.5**0.5)
        self.skip = nn.Parameter(torch.randn(size))

    @classmethod
    def example(cls) -> DiagonalSSM:
        """For the checks."""
        return cls(4, states=4, dt=(0.05, 0.5))

    @property
    def macs_a_step(self) -> int:
        """Multiply-accumulates of a sample at each step: a mode times its factor (4) and read (2), and D (`timecell.work`)."""
        return self.size * (6 * (self.states // 2) + 1)

    def discrete(self) -> tuple[Complex[Tensor, "H N/2"], Complex[Tensor, "H N/2"]]:
        """(a, c): the factor of a mode in one step, and how it is read, 2 C b."""
        rate = torch.complex(-self.log_decay.exp(), self.frequency)
        dt = self.log_dt.exp()[:, None]
        if self.discretization == "zoh":
            a = torch.exp(dt * rate)
            b = (a - 1) / rate
        else:
            a = (1 + dt * rate / 2) / (1 - dt * rate / 2)
            b = dt / (1 - dt * rate / 2)
        return a, 2 * b * torch.view_as_complex(self.read)

    def kernel(self, steps: int) -> Float[Tensor, "T H"]:
        """The response to one impulse: the layer is the convolution with it (`timecell.fuse.state_space.fft_convolution`)."""
        k = ssm_kernel(*self.discrete(), steps)
        return torch.cat([k[:1] + self.skip, k[1:]])

    def initial_state(self, batch: int, like: Tensor) -> StateTree:
        """Zeros, at least float32."""
        wide = torch.promote_types(like.dtype, torch.float32)
        return Modes(torch.zeros(batch, self.size, self.states // 2, 2, dtype=wide, device=like.device))

    def forward(
        self, x: Float[Tensor, "B T H"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T H"], StateTree]:
        """Whole sequences. Computes in float32 (or float64) whatever comes in; y has the type of x."""
        check_sequence("DiagonalSSM(x)", x, lengths)
        check_channels("DiagonalSSM(x)", x, self.size)
        before = self.initial_state(x.shape[0], x) if state is None else state
        shape = (x.shape[0], self.size, self.states // 2, 2)
        if not isinstance(before, Modes) or before.h.shape != shape:
            raise InputError(
                "DiagonalSSM(state)", found=type(state).__name__, expected=f"Modes of shape {list(shape)}",
                remedy="pass the state this cell returned for a batch of this size, or None to start anew",
            )  # fmt: skip
        a, c = self.discrete()
        wide = x.to(before.h.dtype)
        y, after = diagonal_ssm(wide, a, c, self.skip, torch.view_as_complex(before.h), lengths)
        return y.to(x.dtype), Modes(torch.view_as_real(after))

    def extra_repr(self) -> str:
        """Size, states and discretisation."""
        return f"{self.size}, states={self.states}, discretization={self.discretization!r}"
