"""Plain forecasters that every forecast net has to beat.

`DLinear` is two linear maps over time, one of a window's trend and one of the rest, the same for every channel. Source: Zeng,
Chen, Zhang & Xu, "Are transformers effective for time series forecasting?" (2023), arXiv:2205.13504.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.errors import InputError
from timecell.rhythm.decomposition import moving_average
from timecell.state import StateTree


class DLinear(nn.Module):
    """Trend and rest of a window, each through a linear map to the steps ahead.

    Args:
        steps: T of every window.
        horizon: H.
        targets: C', how many of the first channels to forecast.
        kernel: steps of the moving average that is the trend.

    Shapes: x [B, T, C] -> y [B, T, H * C'], zero before the last step, and there the changes from the last value, as
    `tasks.Forecast` reads them; no state.

    Raises:
        InputError: the windows have another length.

    Example:
        >>> import torch
        >>> net = DLinear(steps=96, horizon=24, targets=2)
        >>> tuple(net(torch.randn(3, 96, 2))[0].shape), sum(p.numel() for p in net.parameters())
        ((3, 96, 48), 4656)
    """

    def __init__(self, steps: int, horizon: int, targets: int, kernel: int = 25) -> None:
        super().__init__()
        self.steps, self.targets, self.kernel = steps, targets, kernel
        self.trend, self.rest = nn.Linear(steps, horizon), nn.Linear(steps, horizon)
        for layer in (self.trend, self.rest):  # at first both say the mean of the window
            nn.init.constant_(layer.weight, 1 / steps)

    def forward(
        self, x: Float[Tensor, "B T C"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T K"], StateTree]:
        """Whole windows."""
        if x.ndim != 3 or x.shape[1] != self.steps or lengths is not None:
            raise InputError(
                "DLinear(x)", found=f"shape {list(x.shape)}" + (" of several lengths" if lengths is not None else ""),
                expected=f"[B, {self.steps}, C], windows of one length", remedy="cut windows as for training",
            )  # fmt: skip
        x = x[:, :, : self.targets]
        trend = moving_average(x, self.kernel)
        ahead = (self.trend(trend.mT) + self.rest((x - trend).mT)).mT
        change = (ahead - x[:, -1:]).flatten(1)
        return nn.functional.pad(change[:, None], (0, 0, self.steps - 1, 0)), None
