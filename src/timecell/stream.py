"""A net that runs one instant after the other, in microseconds, and remembers where it is.

    stream = tc.Stream(net)
    for x_t in microphone:              # [B, ...]
        y_t = stream(x_t)               # the same numbers as net(x) on the whole sequence
    stream.reset()

It is `Cell.step` and the state, and nothing else: what it holds is in `stream.state`. The first instant goes through
`Cell.step`; then the net is laid out (`timecell.combine.parts`) so that the next ones cost little more than their
arithmetic. Where that would not be the same (a hook came, a layer was exchanged, something is recorded), the instant
goes through `Cell.step` again.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from timecell.cell import Cell, _recording
from timecell.combine.parts import Layout
from timecell.errors import InputError
from timecell.fuse.loop import chosen_backend
from timecell.fuse.trace import transforms_active
from timecell.state import StateTree, reset


class Stream:
    """A net that runs one instant after the other and remembers where it is.

    The net stays in the mode it is in: call ``net.eval()`` first, as for any use of a trained net. Use a stream from
    one thread at a time; several streams on one net do not know of each other.

    Args:
        net: a cell that streams.
        learn: keep the graph, so that outputs have gradients through all instants since the last `reset`.

    Attributes:
        state: of the net after the last instant, None before the first; see `timecell.state`. A copy: it stays as
            it is, and can be assigned to go on from there.

    Raises:
        InputError: the net needs the future.

    Example:
        >>> from timecell import LeakyIntegrator
        >>> stream = Stream(LeakyIntegrator(1, tau=2.0))
        >>> [stream(torch.ones(1, 1)).item() for _ in range(3)]
        [1.0, 1.5, 1.75]
    """

    def __init__(self, net: Cell, *, learn: bool = False) -> None:
        if not isinstance(net, Cell):
            raise InputError(
                "Stream(net)", found=type(net).__name__, expected="a Cell", remedy="wrap it: tc.Sequential(module)"
            )
        if not net.streams:
            raise InputError(
                "Stream(net)", found=f"{type(net).__name__}, which needs the future", expected="a net that streams",
                remedy="call the net on the whole sequence, or leave out its parts that look ahead",
            )  # fmt: skip
        self.net, self.learn = net, learn
        self._silence: Tensor | None = None
        self.state = None

    @property
    def state(self) -> StateTree:
        """Of the net after the last instant."""
        return self._state if self._layout is None else self._layout.state

    @state.setter
    def state(self, state: StateTree) -> None:
        self._state: StateTree = state
        self._layout: Layout | None = None

    def __call__(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
        """The output at this instant. One that fails leaves the state as it was.

        Raises:
            InputError: the batch or the shape is not that of the instant before.
        """
        if self._silence is not None and x.shape != self._silence.shape:
            raise InputError(
                "Stream(x)", found=f"shape {list(x.shape)}", expected=f"{list(self._silence.shape)}, as before",
                remedy="call reset() before another batch begins",
            )  # fmt: skip
        with torch.set_grad_enabled(self.learn and torch.is_grad_enabled()):
            if self._layout is not None and _alike(x, self._silence) and _usual() and self._layout.holds():
                return self._layout(x)
            y, self.state = self.net.step(x, self.state)
            self._silence = torch.zeros_like(x)
            if not self.learn and _usual():
                self._layout = Layout(self.net, self.state)
            return y

    def reset(self, mask: Bool[Tensor, "B"] | None = None) -> None:
        """Begin anew: all samples (then the batch may change too), or those where `mask` is True.

        Example:
            >>> from timecell import LeakyIntegrator
            >>> stream = Stream(LeakyIntegrator(1, tau=2.0))
            >>> _ = stream(torch.ones(2, 1))
            >>> stream.reset(torch.tensor([True, False]))
            >>> stream(torch.ones(2, 1)).flatten().tolist()
            [1.0, 1.5]
        """
        if mask is None:
            self.state = self._silence = None
            return
        if self._silence is None:
            return
        batch = len(self._silence)
        if mask.dtype != torch.bool or mask.shape != (batch,):
            raise InputError(
                "reset(mask)", found=f"shape {list(mask.shape)}, type {mask.dtype}",
                expected=f"{batch} truth values, one a sample", remedy="pass a tensor of bool [B]",
            )  # fmt: skip
        with torch.no_grad():  # sequences of no length end in the state in which everything begins
            _, fresh = self.net(self._silence[:, None], lengths=torch.zeros_like(mask, dtype=torch.long))
        self.state = reset(self.state, mask, fresh)

    def __getstate__(self) -> dict[str, Any]:  # parts hold compiled kernels and are made anew
        return {"net": self.net, "learn": self.learn, "_silence": self._silence, "state": self.state}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        for name, value in kept.items():
            setattr(self, name, value)


def _alike(x: Tensor, before: Tensor | None) -> bool:
    return before is not None and x.dtype == before.dtype and x.device == before.device


def _usual() -> bool:
    """Nothing asks for the whole of `Cell.step`: no plain backend, no recording, no transform, no compiler."""
    return not (chosen_backend() == "plain" or _recording.get() or transforms_active() or torch.compiler.is_compiling())
