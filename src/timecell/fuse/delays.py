"""Sums over synapses that each have a delay of their own, at a cost that does not depend on the longest delay.

    y[b, t, o] = sum over i, p of  taps[p, o, i] x[b, t - first[o, i] - p, i]

A synapse (o, i) looks at P neighbouring lags, from first[o, i] on. As a convolution this has a kernel over all lags that is
almost all zeros, and pays for them; `delayed_sum` pays for the P taps only, in one of two forms (`delay_kernels.py`):

* **events**: each active input adds the windows of its synapses; work B T I O P x (share of the inputs that are not zero);
* **windows**: dense; work B T I O P, as P matrix products.

Each call counts the active inputs in one pass and takes the form that costs less by the rule of `plan`; both give the
same numbers but for rounding order, with one difference of definition: where x is zero, events do not form 0 * inf and
0 * NaN. The gradient of the input is a sum over windows, because blame is dense. CPU only, float32 and float64.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from timecell.errors import InputError, unknown_name
from timecell.fuse import pool
from timecell.fuse.loop import chosen_backend
from timecell.fuse.operator import Last
from timecell.fuse.raw import kernels
from timecell.fuse.trace import transforms_active

Form = Literal["auto", "events", "windows"]

LANES = 16  # samples side by side at most: they fill a cache line
# Costs as measured on one thread, in products of the dense form:
EVENT = 40  # to add a window of up to eight taps for one event
IDLE = 160  # to come to a synapse at all
PLACES = 1 << 31  # that the list of events can tell apart


class Plan(NamedTuple):
    """How a sum is computed.

    Attributes:
        form: "events", "windows", or "convolution" where `delayed_sum` does not run.
        active: inputs that are not zero.
        density: their share.
        products: products that are formed and added, those with the zeros of a window or a tile included.
    """

    form: str
    active: int
    density: float
    products: int


def plan(x: Float[Tensor, "B S I"], outputs: int, lags: int, history: int = 0, form: Form = "auto") -> Plan:
    """The form that costs less for this input, or the given one.

    Args:
        x: the input, with `history` steps before the first output.
        outputs: O.
        lags: taps P of a synapse.
        history: see `delayed_sum`.
        form: "auto", "events" or "windows".

    Raises:
        InputError: there is no such form.

    Example:
        >>> plan(torch.eye(100)[None], outputs=20, lags=6)
        Plan(form='events', active=100, density=0.01, products=16000)
    """
    batch, span, inputs = x.shape
    active, pack = int(torch.count_nonzero(x)), Packing.of(batch)
    places = -(-batch // pack.lanes) * pack.whole(span - history) * inputs
    windows = -(-lags // kernels("delay_kernels").WINDOW)
    if form == "auto":
        dearer = active * windows * EVENT + inputs * windows * IDLE > places * (lags + 1)
        far = batch * (span + windows * kernels("delay_kernels").WINDOW) >= PLACES
        form = "windows" if dearer or far else "events"
    if form not in ("events", "windows"):
        raise unknown_name("delayed_sum(form)", form, ("auto", "events", "windows"))
    products = active * windows * kernels("delay_kernels").WINDOW if form == "events" else places * lags
    return Plan(form, active, active / max(x.numel(), 1), products * outputs)


def available(x: Tensor) -> bool:
    """Whether `delayed_sum` takes this input here: on a CPU, in a type that it has, unless the plain backend is chosen."""
    return not _plain() and x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)


@torch.compiler.assume_constant_result
def _plain() -> bool:
    return chosen_backend() == "plain"


def delayed_sum(
    x: Float[Tensor, "B S I"],
    taps: Float[Tensor, "P O I"],
    first: Int[Tensor, "O I"],
    history: int = 0,
    form: Form = "auto",
) -> Float[Tensor, "B T O"]:
    """Sums over windows of lags; differentiable in x and taps.

    Args:
        x: S = history + T steps of input; before them there was silence.
        taps: weights at P neighbouring lags, of the type of x.
        first: the first of these lags, in steps >= 0.
        history: steps of x before the first output.
        form: "events", "windows", or by their costs.

    Raises:
        InputError: a lag is negative, or a second derivative is asked for.

    Example:
        >>> x = torch.tensor([[[1.0], [0.0], [0.0], [0.0]]])
        >>> taps = torch.tensor([0.5, 0.25]).view(2, 1, 1)
        >>> delayed_sum(x, taps, torch.tensor([[1]])).flatten().tolist()
        [0.0, 0.5, 0.25, 0.0]
    """
    if transforms_active() or (torch.is_grad_enabled() and (x.requires_grad or taps.requires_grad)):
        return Sum.apply(x, taps, first, history, form)
    return torch.ops.timecell.delayed_sum(x, taps, first, history, form)


# --- the raw operators -------------------------------------------------------------------------------------------

_library = torch.library.Library("timecell", "FRAGMENT")
_library.define("delayed_sum(Tensor x, Tensor taps, Tensor first, int history, str form) -> Tensor")
_library.define(
    "delayed_sum_adjoint(Tensor x, Tensor taps, Tensor first, int history, str form, Tensor g_y, bool inputs, bool weights)"
    " -> (Tensor, Tensor)"
)


def _sum(x: Tensor, taps: Tensor, first: Tensor, history: int, form: Form) -> Tensor:
    if first.numel() and int(first.min()) < 0:
        raise InputError(
            "delayed_sum(first)", found=int(first.min()), expected="lags of at least 0 steps",
            remedy="bring the delays back into their range, and see that none is NaN",
        )  # fmt: skip
    first = first.int()
    (lags, outputs, _), steps = taps.shape, x.shape[1] - history
    chosen = plan(x, outputs, lags, history, form)
    if chosen.form == "windows":
        return _windows(x, taps, first, history, steps)
    y = x.new_empty(x.shape[0], steps, outputs)
    _run("add_events", [*_events(x, chosen.active, lags), taps, first, history, y], outputs, x.numel())
    return y


def _sum_adjoint(
    x: Tensor, taps: Tensor, first: Tensor, history: int, form: Form, g_y: Tensor, inputs: bool, weights: bool
) -> tuple[Tensor, Tensor]:
    g_x, g_taps, first = x.new_empty(0), taps.new_empty(0), first.int()
    if inputs:  # the same sum with time reversed, and the two ends of every synapse exchanged
        g_x = _windows(g_y.flip(1), taps.transpose(1, 2), first.t(), 0, x.shape[1]).flip(1)
    if weights:
        g_taps = torch.zeros_like(taps, memory_format=torch.contiguous_format)
        lags, outputs, _ = taps.shape
        chosen = plan(x, outputs, lags, history, form)
        if chosen.form == "windows":
            _windows_adjoint(x, first, history, g_y, g_taps)
        else:
            _run("gather_events", [*_events(x, chosen.active, lags), first, history, g_y, g_taps], outputs, x.numel())
    return g_x, g_taps


def _sum_fake(x: Tensor, taps: Tensor, first: Tensor, history: int, form: Form) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1] - history, taps.shape[1])


def _sum_adjoint_fake(
    x: Tensor, taps: Tensor, first: Tensor, history: int, form: Form, g_y: Tensor, inputs: bool, weights: bool
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape if inputs else 0), taps.new_empty(taps.shape if weights else 0)


_library.impl("delayed_sum", _sum, "CPU")
_library.impl("delayed_sum_adjoint", _sum_adjoint, "CPU")
torch.library.register_fake("timecell::delayed_sum", _sum_fake, lib=_library)
torch.library.register_fake("timecell::delayed_sum_adjoint", _sum_adjoint_fake, lib=_library)


def _run(name: str, arguments: list[Any], outputs: int, work: int) -> None:
    """Call a kernel over all blocks of outputs."""
    arrays = [a.detach().contiguous().numpy() if isinstance(a, Tensor) else a for a in arguments]
    pool.run_groups(
        getattr(kernels("delay_kernels"), name), arrays, -(-outputs // kernels("delay_kernels").BLOCK), work
    )


# --- events ------------------------------------------------------------------------------------------------------


def _events(x: Tensor, active: int, lags: int) -> list[Any]:
    """The active inputs as `find_events` lists them: width of a sample's row, offsets, values, starts."""
    _, span, inputs = x.shape
    width = span + -(-lags // kernels("delay_kernels").WINDOW) * kernels("delay_kernels").WINDOW
    offsets, values = np.empty(active, np.int32), np.empty(active, str(x.dtype)[6:])
    cursor, starts = np.zeros((span, inputs), np.int32), np.empty((inputs, span + 1), np.int32)
    kernels("delay_kernels").find_events(x.detach().contiguous().numpy(), width, cursor, starts, offsets, values)
    return [width, offsets, values, starts]


# --- windows -----------------------------------------------------------------------------------------------------


class Packing(NamedTuple):
    """Samples side by side: [B, S, N] as rows [group, N], in a row step after step, in a step `lanes` samples."""

    lanes: int

    @classmethod
    def of(cls, batch: int) -> Packing:
        """Groups as equal as they can be."""
        groups = max(-(-batch // LANES), 1)
        return cls(max(-(-batch // groups), 1))

    def lead(self, lags: int) -> int:
        """Steps of silence that a row begins with, so that a tile of outputs and a window of lags fit in."""
        return -(-kernels("delay_kernels").TILE // self.lanes) + lags

    def whole(self, steps: int) -> int:
        """Numbers in so many steps, rounded up to whole tiles."""
        return -(-steps * self.lanes // kernels("delay_kernels").TILE) * kernels("delay_kernels").TILE

    def packed(self, x: Tensor, length: int, lead: int = 0) -> Tensor:
        """[B, S, N] -> [group, N, length], with `lead` steps of zeros before and as many as fit after."""
        batch, span, units = x.shape
        groups = max(-(-batch // self.lanes), 1)
        rows = x.new_zeros(groups, units, length)
        here = rows[..., lead * self.lanes : (lead + span) * self.lanes].unflatten(2, (span, self.lanes))
        missing = groups * self.lanes - batch
        x = torch.cat([x, x.new_zeros(missing, span, units)]) if missing else x
        here.copy_(x.unflatten(0, (groups, self.lanes)).permute(0, 3, 2, 1))
        return rows

    def unpacked(self, rows: Tensor, batch: int, steps: int) -> Tensor:
        """[group, N, .] -> [B, S, N]: the inverse."""
        here = rows[..., : steps * self.lanes].unflatten(2, (steps, self.lanes))
        return here.permute(0, 3, 2, 1).flatten(0, 1)[:batch].contiguous()

    def source(self, x: Tensor, lags: int, span: int) -> Tensor:
        """An input of `span` steps, silent after the end of x, with room for whatever a kernel reads of it."""
        return self.packed(x, self.whole(self.lead(lags) + span) + kernels("delay_kernels").TILE, self.lead(lags))


def _windows(x: Tensor, taps: Tensor, first: Tensor, history: int, steps: int) -> Tensor:
    """The dense form of the sum; x may end before its time, the rest is silence."""
    lags, outputs, _ = taps.shape
    pack = Packing.of(x.shape[0])
    source = pack.source(x, lags, history + steps)
    y = x.new_zeros(source.shape[0], outputs, pack.whole(steps))
    arguments = [source, pack.lead(lags) + history, pack.lanes, taps, first, history, y]
    _run("add_windows", arguments, outputs, x.numel() * lags)
    return pack.unpacked(y, x.shape[0], steps)


def _windows_adjoint(x: Tensor, first: Tensor, history: int, g_y: Tensor, g_taps: Tensor) -> None:
    """The dense form of the taps' gradient, which is added to g_taps."""
    lags, outputs, _ = g_taps.shape
    pack = Packing.of(x.shape[0])
    source, blame = pack.source(x, lags, x.shape[1]), pack.packed(g_y, pack.whole(g_y.shape[1]))
    arguments = [source, pack.lead(lags) + history, pack.lanes, first, history, blame, g_taps]
    _run("gather_windows", arguments, outputs, x.numel() * lags)


# --- autograd ----------------------------------------------------------------------------------------------------


class Sum(torch.autograd.Function):
    """The sum with its gradient."""

    @staticmethod
    def forward(x: Tensor, taps: Tensor, first: Tensor, history: int, form: Form) -> Tensor:
        """The raw operator."""
        return torch.ops.timecell.delayed_sum(x, taps, first, history, form)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep what the adjoint reads."""
        x, taps, first, *ctx.settings = inputs
        ctx.save_for_backward(x, taps, first)

    @staticmethod
    def backward(ctx: Any, g_y: Tensor) -> tuple[Any, ...]:
        """The raw adjoint, through `Back`."""
        inputs, weights = ctx.needs_input_grad[:2]
        # torch.compile refuses second derivatives by itself, and cannot look into a function inside a backward
        adjoint = Back.forward if torch.compiler.is_compiling() else Back.apply
        g_x, g_taps = adjoint(*ctx.saved_tensors, *ctx.settings, g_y, inputs, weights)
        return g_x if inputs else None, g_taps if weights else None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        """One sum after the other."""
        return torch.stack([Sum.apply(*a) for a in _unmapped(info.batch_size, in_dims, args)]), 0


class Back(Last):
    """The adjoint."""

    @staticmethod
    def forward(*args: Any) -> tuple[Tensor, Tensor]:
        """The raw operator."""
        return torch.ops.timecell.delayed_sum_adjoint(*args)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        """One adjoint after the other."""
        each = [Back.apply(*a) for a in _unmapped(info.batch_size, in_dims, args)]
        return tuple(map(torch.stack, zip(*each))), (0, 0)


def _unmapped(size: int, dims: tuple[Any, ...], args: tuple[Any, ...]) -> list[list[Any]]:
    """The arguments of each of `size` mapped calls."""
    return [[a if d is None else a.select(d, k) for a, d in zip(args, dims)] for k in range(size)]
