"""Linear state spaces with a full state matrix: one equation, read as a recurrence, a convolution or a scan.

    dx/dt = A x + B u,   y = C x + D u          discretised with a step dt:          x_t = Ā x_{t-1} + B̄ u_t

Every input channel h has a state of its own, a step dt_h of its own and M outputs; A and B are shared. What is discrete
follows from the equation (`discretise`), so a net that was trained at one sampling rate works at another: only dt
changes (`resampled`).

The same numbers come from the recurrence, from the convolution of u with the kernel K_j = C Ā^j B̄ (+ D at j = 0), and
from what runs here: chunks of 64 steps. Within a chunk y is one product with the kernel's Toeplitz matrix, from chunk
to chunk the state goes on by Ā^64:

    y = Toeplitz(K) u + [C Ā^{i+1}]_i x_before,          x_after = Ā^64 x_before + [Ā^{63-j} B̄]_j u

These three matrices are made by repeated squaring, in float64. Nothing that comes later can touch what was before, as
with a Fourier transform over all of time it could by rounding, and the powers of Ā never grow long.
`timecell.fuse.state_space.fft_convolution` with `LinearSSM.kernel` is the other way.

With a diagonal A everything is cheaper: `timecell.memory.DiagonalSSM`.

Source: Gu, Johnson, Goel, Saab, Dao, Rudra & Ré (2021), arXiv:2110.13985.
"""

from __future__ import annotations

import copy
import math
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad

from timecell.cell import Cell, check_channels, check_sequence
from timecell.combine import silence
from timecell.errors import InputError, unknown_name
from timecell.fuse import raw
from timecell.memory.hippo import Fixed, Quasiseparable
from timecell.state import StateTree

CHUNK = 64  # steps of one product
Method = Literal["euler", "bilinear", "backward", "zoh"]
IMPLICIT: dict[str, float] = {"euler": 0.0, "bilinear": 0.5, "backward": 1.0}
"""How much of a step is taken at its end (alpha of the generalised bilinear transform)."""


class States(NamedTuple):
    """What a linear state space remembers: x [B, H, N]."""

    x: Tensor


def discretise(
    a: Float[Tensor, "N N"], b: Float[Tensor, "N"], dt: Float[Tensor, "H"], method: Method = "bilinear"
) -> tuple[Float[Tensor, "H N N"], Float[Tensor, "H N"]]:
    """(Ā, B̄) of dx/dt = A x + B u for steps dt.

    "euler", "bilinear" and "backward" are the generalised bilinear transform with alpha = 0, 1/2 and 1,

        Ā = (I - alpha dt A)^{-1} (I + (1 - alpha) dt A),   B̄ = (I - alpha dt A)^{-1} dt B;

    "zoh" holds u over the step: Ā = exp(dt A), B̄ = A^{-1} (Ā - I) B.

    Raises:
        InputError: there is no such method.

    Example:
        >>> a, b = discretise(-torch.eye(1), torch.ones(1), torch.tensor([1.0]), "backward")
        >>> a.item(), b.item()
        (0.5, 0.5)
    """
    if method not in (*IMPLICIT, "zoh"):
        raise unknown_name("method", str(method), (*IMPLICIT, "zoh"))
    eye, step = torch.eye(len(a), dtype=a.dtype, device=a.device), dt[:, None, None] * a
    if method == "zoh":
        discrete = torch.linalg.matrix_exp(step)
        return discrete, torch.linalg.solve(a, ((discrete - eye) @ b).mT).mT
    alpha = IMPLICIT[method]
    both = torch.cat([eye + (1 - alpha) * step, (dt[:, None] * b)[..., None]], -1)
    discrete = torch.linalg.solve(eye - alpha * step, both)
    return discrete[..., :-1], discrete[..., -1]


class LinearSSM(Cell):
    """A linear state-space layer (LSSL).

    Args:
        size: H input channels, each with a state of its own; they do not mix.
        states: N, the length of a state.
        outputs: M outputs for each channel.
        memory: A and B: "legs", "legt" or "gaussian" (`timecell.memory.hippo`).
        method: of discretisation: "bilinear", "zoh", "euler" or "backward".
        dt: (shortest, longest) step, in units of the equation's time. Each channel has one drawn log-uniformly between
            them; LegS sees some 1 / dt steps well.
        learn: whether A (within its family) and dt are trained, too; C and D always are.

    Shapes: x [B, T, H] -> y [B, T, H M], the M outputs of a channel side by side; state x [B, H, N].

    Raises:
        InputError: an argument is out of its range, or `learn` with a memory that has no family.

    Example:
        >>> layer = LinearSSM(3, states=8, outputs=2)
        >>> y, state = layer(torch.ones(2, 50, 3))
        >>> tuple(y.shape), tuple(state.x.shape)
        ((2, 50, 6), (2, 3, 8))
    """

    roles: ClassVar[dict[str, str]] = {"log_dt": "neuron"}

    def __init__(
        self,
        size: int,
        states: int = 64,
        outputs: int = 1,
        *,
        memory: Literal["legs", "legt", "gaussian"] = "legs",
        method: Method = "bilinear",
        dt: tuple[float, float] = (1e-3, 1e-1),
        learn: bool = False,
    ) -> None:
        super().__init__()
        if min(size, states, outputs) < 1:
            raise InputError(
                "LinearSSM(size, states, outputs)", found=(size, states, outputs), expected="positive numbers",
                remedy="mend the argument",
            )  # fmt: skip
        if method not in (*IMPLICIT, "zoh"):
            raise unknown_name("LinearSSM(method)", str(method), (*IMPLICIT, "zoh"))
        if not 0 < dt[0] <= dt[1]:
            raise InputError(
                "LinearSSM(dt)", found=dt, expected="two steps, 0 < shortest <= longest", remedy="order them"
            )
        self.size, self.states, self.outputs, self.method = size, states, outputs, method
        self.memory = Quasiseparable(memory, states) if learn else Fixed(memory, states)
        low, high = map(math.log, dt)
        self.log_dt = nn.Parameter(low + (high - low) * torch.rand(size), requires_grad=learn)
        self.read = nn.Parameter(torch.randn(size, outputs, states))
        self.skip = nn.Parameter(torch.randn(size, outputs))

    @classmethod
    def example(cls) -> LinearSSM:
        """For the checks."""
        return cls(4, 3, 2, dt=(0.05, 0.5), learn=True)

    @property
    def macs_a_step(self) -> int:
        """Multiply-accumulates of a sample at each step, as a recurrence: Ā, B̄, C and D (`timecell.work`)."""
        return self.size * (self.states * (self.states + 1 + self.outputs) + self.outputs)

    def discrete(self) -> tuple[Float[Tensor, "H N N"], Float[Tensor, "H N"]]:
        """(Ā, B̄) in float64."""
        a, b = self.memory()
        return discretise(a.double(), b.double(), self.log_dt.double().exp(), self.method)

    def kernel(self, steps: int) -> Float[Tensor, "T H M"]:
        """The response of each output to an impulse: the layer is the convolution with it."""
        inward, _ = _inward(*self.discrete(), steps)
        k = torch.einsum("hmn,hnt->thm", self.read.double(), inward[..., :steps]).to(self.read.dtype)
        return torch.cat([k[:1] + self.skip, k[1:]])

    def initial_state(self, batch: int, like: Tensor) -> StateTree:
        """Zeros, at least float32."""
        wide = torch.promote_types(like.dtype, torch.float32)
        return States(torch.zeros(batch, self.size, self.states, dtype=wide, device=like.device))

    def forward(
        self, x: Float[Tensor, "B T H"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T HM"], StateTree]:
        """Whole sequences. Computes in float32 (or float64) whatever comes in; y has the type of x."""
        check_sequence("LinearSSM(x)", x, lengths)
        check_channels("LinearSSM(x)", x, self.size)
        before = self.initial_state(x.shape[0], x) if state is None else state
        shape = (x.shape[0], self.size, self.states)
        if not isinstance(before, States) or before.x.shape != shape:
            raise InputError(
                "LinearSSM(state)", found=type(state).__name__, expected=f"States of shape {list(shape)}",
                remedy="pass the state this cell returned for a batch of this size, or None to start anew",
            )  # fmt: skip
        wide, inputs = before.x.dtype, silence(x, lengths)
        run = _stepwise if raw.plain() or not raw.carrying() else _chunked
        with torch.autocast(x.device.type, enabled=False):
            inputs = inputs.to(wide)
            y, after = run(inputs, *self.discrete(), self.read.double(), before.x, lengths)
            y = y + inputs[..., None] * self.skip.to(wide)
        return silence(y.flatten(2), lengths).to(x.dtype), States(after)

    def extra_repr(self) -> str:
        """Sizes and method."""
        return f"{self.size}, states={self.states}, outputs={self.outputs}, method={self.method!r}"


def resampled(net: nn.Module, rate: float) -> nn.Module:
    """A copy of a net for data that are sampled `rate` times as often: its steps are that much shorter.

    Raises:
        InputError: the net has no linear state space, or the rate is not positive.

    Example:
        >>> layer = LinearSSM(2, states=4)
        >>> round((resampled(layer, 2.0).log_dt - layer.log_dt)[0].exp().item(), 4)
        0.5
    """
    other = copy.deepcopy(net)
    layers = [m for m in other.modules() if isinstance(m, LinearSSM)]
    if not layers or not rate > 0:
        raise InputError(
            "resampled(net, rate)", found=f"{len(layers)} linear state spaces, rate {rate}",
            expected="at least one, and a positive rate", remedy="other layers have no step that could be changed",
        )  # fmt: skip
    with torch.no_grad():
        for layer in layers:
            layer.log_dt.sub_(math.log(rate))
    return other


# --- x [B, T, H], Ā [H, N, N], B̄ [H, N], C [H, M, N], state [B, H, N] -> y [B, T, H, M] without D, the last state -----------


def _stepwise(
    x: Tensor, a: Tensor, b: Tensor, c: Tensor, state: Tensor, lengths: Tensor | None
) -> tuple[Float[Tensor, "B T H M"], Float[Tensor, "B H N"]]:
    """One step after the other: the reference, and the way in which blame can be kept from crossing time."""
    a, b, c = (matrix.to(x.dtype) for matrix in (a, b, c))
    course = [x.new_zeros(len(x), 0, *c.shape[:2])]
    for t, u in enumerate(x.unbind(1)):
        carried = state if raw.carrying() else state.detach()
        after = torch.einsum("hnk,bhk->bhn", a, carried) + b * u[..., None]
        state = after if lengths is None else torch.where((t < lengths)[:, None, None], after, state)
        course.append(torch.einsum("hmn,bhn->bhm", c, state)[:, None])
    return torch.cat(course, 1), state


def _chunked(
    x: Tensor, a: Tensor, b: Tensor, c: Tensor, state: Tensor, lengths: Tensor | None
) -> tuple[Float[Tensor, "B T H M"], Float[Tensor, "B H N"]]:
    """Products within chunks, a recurrence from chunk to chunk. Each channel is one batched product."""
    rows, steps, _ = x.shape
    spoilt = (~x.isfinite()).cumsum(
        1, dtype=torch.int32
    ) > 0  # a product would spread what is no number to all of a chunk
    x = x.masked_fill(spoilt, 0.0)
    size = min(CHUNK, 1 << max(steps - 1, 0).bit_length())
    inward, squares = _inward(a, b, size)
    outward = c @ a  # C Ā^{i+1}, the M rows of i = 0 first
    for square in squares[:-1]:
        outward = torch.cat([outward, outward @ square], 1)
    lag = torch.arange(size, device=x.device)[:, None] - torch.arange(size, device=x.device)
    kernel = (c @ inward)[..., lag.clamp(min=0)].masked_fill(lag < 0, 0.0)  # [H, M, to, from]
    toeplitz = kernel.transpose(1, 2).flatten(1, 2)  # [H, to M, from]
    arriving = inward.flip(-1)  # how the inputs of a chunk stand in the state at its end
    toeplitz, outward, arriving = (matrix.to(x.dtype).mT for matrix in (toeplitz, outward, arriving))
    squares = [square.to(x.dtype).mT for square in squares]

    count = max(-(-steps // size), 1)
    chunks = pad(x, (0, 0, 0, count * size - steps)).permute(2, 0, 1).unflatten(2, (count, size))  # [H, B, count, size]
    inflow = (chunks.flatten(1, 2) @ arriving).unflatten(1, (rows, count))
    course = [state.transpose(0, 1)]
    for u in inflow[:, :, :-1].unbind(2):
        course.append(course[-1] @ squares[-1] + u)
    before = torch.stack(course, 2)  # [H, B, count, N]
    y = (chunks.flatten(1, 2) @ toeplitz + before.flatten(1, 2) @ outward).unflatten(1, (rows, count))
    y = y.unflatten(3, (size, -1)).flatten(2, 3)[:, :, :steps].permute(1, 2, 0, 3)

    stops = torch.full((rows,), steps, device=x.device) if lengths is None else lengths
    sample, ending = torch.arange(rows, device=x.device), (stops - 1).clamp(min=0) // size
    rest = stops - ending * size  # steps of its last chunk that a sample has, up to all of them
    last = before[:, sample, ending]  # [H, B, N], to be moved on by these steps ...
    for bit, square in enumerate(squares):
        last = torch.where((rest >> bit & 1).bool()[:, None], last @ square, last)
    place = torch.arange(size, device=x.device) - (
        size - rest[:, None]
    )  # ... whose inputs are moved to the chunk's end
    tail = chunks[:, sample, ending].gather(2, place.clamp(min=0).expand(len(chunks), -1, -1))
    last = (last + torch.where(place >= 0, tail, 0.0) @ arriving).transpose(0, 1)
    return y.masked_fill(spoilt[..., None], math.nan), last.masked_fill(spoilt.any(1)[..., None], math.nan)


def _inward(a: Tensor, b: Tensor, steps: int) -> tuple[Float[Tensor, "H N T"], list[Tensor]]:
    """([B̄, Ā B̄, Ā² B̄, ...] for at least so many steps, [Ā, Ā², Ā⁴, ...] up to their number): by doubling."""
    inward, squares = b[..., None], [a]
    while inward.shape[-1] < steps:
        inward = torch.cat([inward, squares[-1] @ inward], -1)
        squares.append(squares[-1] @ squares[-1])
    return inward, squares
