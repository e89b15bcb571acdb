"""Gated recurrent cells under the contract of `Cell`, on torch's own implementations.

One layer each; deeper nets are made with `Sequential`. The parameters are torch's, under ``rnn`` and with torch's names.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.cell import Cell, check_channels, check_sequence
from timecell.combine import silence
from timecell.errors import InputError
from timecell.state import StateTree


class Hidden(NamedTuple):
    """What a simple or gated cell remembers: its hidden units [B, N]."""

    h: Tensor


class HiddenAndCell(NamedTuple):
    """What an LSTM remembers: its hidden units and its memory cells [B, N]."""

    h: Tensor
    c: Tensor


class _Gated(Cell):
    """What the three share: checks, the state, each sample's own end."""

    StateType: ClassVar[Any] = Hidden
    rnn: nn.RNNBase

    @classmethod
    def example(cls) -> Cell:
        """For the checks."""
        return cls(4, 3)  # type: ignore[call-arg]

    def initial_state(self, batch: int, like: Tensor) -> StateTree:
        """Zeros."""
        zeros = like.new_zeros(batch, self.rnn.hidden_size)
        return self.StateType(*(zeros for _ in self.StateType._fields))

    def forward(
        self, x: Float[Tensor, "B T I"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T N"], StateTree]:
        """Whole sequences; each sample stops at its own end."""
        name = type(self).__name__
        check_sequence(f"{name}(x)", x, lengths)
        check_channels(f"{name}(x)", x, self.rnn.input_size)
        before = self.initial_state(x.shape[0], x) if state is None else state
        shape = (x.shape[0], self.rnn.hidden_size)
        if not isinstance(before, self.StateType) or any(s.shape != shape for s in before):
            raise InputError(
                f"{name}(state)", found=type(state).__name__,
                expected=f"{', '.join(self.StateType._fields)} of shape {list(shape)}",
                remedy="pass the state this cell returned for a batch of this size, or None to start anew",
            )  # fmt: skip
        if lengths is None:
            return self._run(x, before)
        y, after = self._run_ragged(silence(x, lengths), before, lengths)
        ends = torch.cat([before.h[:, None], y], 1)  # ends[:, L] is h after L steps
        h = ends[torch.arange(len(lengths), device=x.device), lengths]
        return silence(y, lengths), after._replace(h=h)

    def _run(self, x: Tensor, before: Any) -> tuple[Tensor, Any]:
        """torch's cell, whose states have a leading axis of layers."""
        y, last = self.rnn(x, before.h[None])
        return y, Hidden(last[0])

    def _run_ragged(self, x: Tensor, before: Any, lengths: Tensor) -> tuple[Tensor, Any]:
        """The same; what stands in h and after a sample's end does not matter."""
        return self._run(x, before)


class Elman(_Gated):
    """Simple recurrent net (Elman, 1990): h_t = tanh(W x_t + U h_{t-1} + b).

    Args:
        inputs: I.
        size: N hidden units.
        nonlinearity: "tanh" or "relu".

    Shapes: x [B, T, I] -> h [B, T, N]; state h [B, N].

    Example:
        >>> y, state = Elman(3, 4)(torch.ones(2, 5, 3))
        >>> bool((y[:, -1] == state.h).all())
        True
    """

    def __init__(self, inputs: int, size: int, nonlinearity: Literal["tanh", "relu"] = "tanh") -> None:
        super().__init__()
        self.rnn = nn.RNN(inputs, size, batch_first=True, nonlinearity=nonlinearity)


class GRU(_Gated):
    """Gated recurrent unit (Cho et al., 2014).

    Args:
        inputs: I.
        size: N hidden units.

    Shapes: x [B, T, I] -> h [B, T, N]; state h [B, N].

    Example:
        >>> y, state = GRU(3, 4)(torch.ones(2, 5, 3))
        >>> bool((y[:, -1] == state.h).all())
        True
    """

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.rnn = nn.GRU(inputs, size, batch_first=True)


class LSTM(_Gated):
    """Long short-term memory with forget gates (Hochreiter & Schmidhuber, 1997; Gers et al., 2000).

    Args:
        inputs: I.
        size: N hidden units.
        forget_bias: added to the forget gate's initial bias; about 1 makes the first memories longer (Jozefowicz et
            al., 2015).

    Shapes: x [B, T, I] -> h [B, T, N]; state h, c [B, N].

    Example:
        >>> y, state = LSTM(3, 4)(torch.ones(2, 5, 3))
        >>> bool((y[:, -1] == state.h).all()), tuple(state.c.shape)
        (True, (2, 4))
    """

    StateType = HiddenAndCell

    def __init__(self, inputs: int, size: int, forget_bias: float = 0.0) -> None:
        super().__init__()
        self.rnn = nn.LSTM(inputs, size, batch_first=True)
        with torch.no_grad():
            bias = self.rnn.all_weights[0][2]
            bias[size : 2 * size] += forget_bias  # torch's order of gates: input, forget, cell, output

    def _run(self, x: Tensor, before: Any) -> tuple[Tensor, Any]:
        y, (h, c) = self.rnn(x, (before.h[None], before.c[None]))
        return y, HiddenAndCell(h[0], c[0])

    def _run_ragged(self, x: Tensor, before: Any, lengths: Tensor) -> tuple[Tensor, Any]:
        """torch tells c at the last step only, so c must stay as it is from a sample's end on.

        One more input says that the sample has ended: it shuts the input gate and holds the forget gate open, fully,
        because the sigmoid of a number that large is exactly 0 or 1. (Packed sequences do this too, eight times slower.)
        """
        w_in, w_hidden, *biases = self.rnn.all_weights[0]
        ended = torch.arange(x.shape[1], device=x.device) >= lengths[:, None]
        x = torch.cat([x, ended[..., None].to(x)], 2).transpose(0, 1).contiguous()
        shut = torch.tensor([-1e4, 1e4, 0.0, 0.0]).to(w_in).repeat_interleave(self.rnn.hidden_size)
        weights = [torch.cat([w_in, shut[:, None]], 1), w_hidden, *biases]
        y, h, c = torch.lstm(
            x, (before.h[None], before.c[None]), weights, has_biases=True, num_layers=1, dropout=0.0,
            train=self.training, bidirectional=False, batch_first=False,
        )  # fmt: skip
        return y.transpose(0, 1), HiddenAndCell(h[0], c[0])
