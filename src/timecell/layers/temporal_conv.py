"""Convolutions over time that look back and never ahead.

    y_t = c + sum_k W_k x_{t - k d}            k = 0 .. kernel - 1, d the dilation

What lies before the first step is silence; it is state, so a long record may be cut anywhere and a net of these cells
streams. In `TemporalConv` the dilation doubles from layer to layer: the reach grows exponentially with depth.

Source: van den Oord et al., "WaveNet" (2016); Bai, Kolter & Koltun, "An empirical evaluation of generic convolutional
and recurrent networks for sequence modeling" (2018), arXiv:1803.01271.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.cell import Cell, check_sequence
from timecell.combine import Residual, Sequential, silence
from timecell.errors import InputError
from timecell.state import StateTree


class Before(NamedTuple):
    """What a causal convolution remembers: the last inputs, [B, (kernel - 1) dilation, I]."""

    x: Tensor


class CausalConv(Cell):
    """One causal, dilated convolution over time.

    Args:
        inputs: I.
        outputs: O.
        kernel: taps.
        dilation: steps between two taps.

    Shapes: x [B, T, I] -> y [B, T, O]; state: the last ``(kernel - 1) * dilation`` inputs.

    Example:
        >>> conv = CausalConv(1, 1, kernel=2, dilation=3)
        >>> with torch.no_grad():
        ...     _ = conv.weight.copy_(torch.tensor([[[10.0, 1.0]]])), conv.bias.zero_()
        >>> y, _ = conv(torch.tensor([[[1.0], [0.0], [0.0], [2.0], [0.0]]]))     # 1 x_t + 10 x_{t - 3}
        >>> y[0, :, 0].tolist()
        [1.0, 0.0, 0.0, 12.0, 0.0]
    """

    @classmethod
    def example(cls) -> CausalConv:
        """For the checks."""
        return cls(4, 3, kernel=3, dilation=2)

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, dilation: int = 1) -> None:
        super().__init__()
        for name, value in (("inputs", inputs), ("outputs", outputs), ("kernel", kernel), ("dilation", dilation)):
            if value < 1:
                raise InputError(
                    f"{type(self).__name__}({name})", found=value, expected="at least 1", remedy="choose a larger one"
                )
        self.inputs, self.outputs, self.kernel, self.dilation = inputs, outputs, kernel, dilation
        like = nn.Conv1d(inputs, outputs, kernel)  # for its first weights: the last tap is the present
        self.weight, self.bias = like.weight, like.bias

    @property
    def reach(self) -> int:
        """How many steps it looks back."""
        return (self.kernel - 1) * self.dilation

    def initial_state(self, batch: int, like: Tensor) -> StateTree:
        """Silence before the first step."""
        return Before(like.new_zeros(batch, self.reach, self.inputs))

    def forward(
        self, x: Float[Tensor, "B T I"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T O"], StateTree]:
        """Whole sequences."""
        name = type(self).__name__
        check_sequence(f"{name}(x)", x, lengths)
        if x.ndim != 3 or x.shape[2] != self.inputs:
            raise InputError(
                f"{name}(x)", found=f"shape {list(x.shape)}", expected=f"[B, T, {self.inputs}]",
                remedy="match the layer's inputs to what comes before it",
            )  # fmt: skip
        before = self.initial_state(x.shape[0], x) if state is None else state
        if not isinstance(before, Before) or before.x.shape != (x.shape[0], self.reach, self.inputs):
            raise InputError(
                f"{name}(state)", found=type(state).__name__,
                expected=f"Before(x) of shape {[x.shape[0], self.reach, self.inputs]}",
                remedy="pass the state this cell returned for a batch of this size, or None to start anew",
            )  # fmt: skip
        x = torch.cat([before.x, silence(x, lengths)], 1)
        y = nn.functional.conv1d(x.transpose(1, 2), self.weight, self.bias, dilation=self.dilation).transpose(1, 2)
        if lengths is None:
            return y, Before(x[:, x.shape[1] - self.reach :])
        last = lengths[:, None] + torch.arange(self.reach, device=x.device)
        return silence(y, lengths), Before(x.gather(1, last[..., None].expand(-1, -1, self.inputs)))

    def extra_repr(self) -> str:
        """Widths, taps, dilation."""
        return f"{self.inputs}, {self.outputs}, kernel={self.kernel}, dilation={self.dilation}"


class TemporalConv(Sequential):
    """A causal temporal convolutional net: ReLU layers of doubling dilation, each but the first with a shortcut.

    Args:
        inputs: I.
        size: O, the width of every layer.
        layers: their number.
        kernel: taps of each.

    Shapes: x [B, T, I] -> y [B, T, O]; state: the last inputs of each layer.

    Example:
        >>> net = TemporalConv(3, 8, layers=4, kernel=3)
        >>> tuple(net(torch.rand(2, 50, 3))[0].shape), net.receptive_field
        ((2, 50, 8), 31)
    """

    @classmethod
    def example(cls) -> TemporalConv:
        """For the checks."""
        return cls(4, 3, layers=3, kernel=2)

    def __init__(self, inputs: int, size: int, layers: int = 4, kernel: int = 3) -> None:
        if layers < 1:
            raise InputError("TemporalConv(layers)", found=layers, expected="at least 1", remedy="pass 1 or more")
        first = [CausalConv(inputs, size, kernel), nn.ReLU()]
        rest = [Residual(CausalConv(size, size, kernel, 2**k), nn.ReLU()) for k in range(1, layers)]
        super().__init__(*first, *rest)

    @property
    def receptive_field(self) -> int:
        """How many steps an output depends on, the present one among them: 1 + (kernel - 1) (2^layers - 1)."""
        return 1 + sum(conv.reach for conv in self.modules() if isinstance(conv, CausalConv))
