"""An object that keeps the state between two instants, for those who would rather not hold it themselves.

    stream = tc.Stream(net)
    for x_t in microphone:              # [B, ...]
        y_t = stream(x_t)               # the same numbers as net(x) on the whole sequence
    stream.reset()

It is `Cell.step` and the state, and nothing else: what it holds is in `stream.state`.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from timecell.cell import Cell
from timecell.errors import InputError
from timecell.state import StateTree, reset


class Stream:
    """A net that runs one instant after the other and remembers where it is.

    The net stays in the mode it is in: call ``net.eval()`` first, as for any use of a trained net.

    Args:
        net: a cell that streams.
        learn: keep the graph, so that outputs have gradients through all instants since the last `reset`.

    Attributes:
        state: of the net after the last instant, None before the first; see `timecell.state`.

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
        self.state: StateTree = None
        self._silence: Tensor | None = None

    def __call__(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
        """The output at this instant.

        Raises:
            InputError: the batch or the shape is not that of the instant before.
        """
        if self._silence is not None and x.shape != self._silence.shape:
            raise InputError(
                "Stream(x)", found=f"shape {list(x.shape)}", expected=f"{list(self._silence.shape)}, as before",
                remedy="call reset() before another batch begins",
            )  # fmt: skip
        with torch.set_grad_enabled(self.learn and torch.is_grad_enabled()):
            y, self.state = self.net.step(x, self.state)
        self._silence = torch.zeros_like(x)
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
