"""Pictures of series: what a plot would show, for whoever reads by looking."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from timecell.errors import InputError


def render_series(
    x: Float[Tensor, "B T C"],
    lengths: Int[Tensor, "B"] | None = None,
    *,
    height: int = 16,
    width: int = 32,
    low: float = -3.0,
    high: float = 3.0,
) -> Float[Tensor, "B 1 C*height width"]:
    """Draw each channel as a line, one panel below the other; each sample fills the width, however long it is.

    A pixel is the share of its height that the line, one pixel thick, covers between the left and the right edge of its
    column. So the picture is smooth in the values, and small changes can be seen that are smaller than a pixel.

    Args:
        x: the series; what lies beyond low and high runs along the panel's edge.
        lengths: how many steps of each sample are drawn; None: all.
        height: pixels of a panel.
        width: pixels.
        low: the value at the lower edge of a panel.
        high: the value at the upper edge.

    Raises:
        InputError: a size below 1, an empty range, or a value that is not finite.

    Example:
        >>> render_series(torch.zeros(1, 50, 1), height=3, width=4)[0, 0].tolist()
        [[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]
    """
    if min(height, width) < 1 or not high > low:
        raise InputError(
            "render_series(height, width, low, high)", found=(height, width, low, high),
            expected="at least one pixel each way and low < high", remedy="choose a larger picture or range",
        )  # fmt: skip
    B, T, C = x.shape
    ends = torch.full((B,), T, device=x.device) if lengths is None else lengths
    inside = torch.arange(T, device=x.device) < ends[:, None]
    if not x[inside].isfinite().all():
        raise InputError(
            "x", found="NaN or infinity", expected="finite values", remedy="fill gaps before a series is drawn"
        )
    x = torch.where(
        inside[..., None], x, x.gather(1, (ends - 1)[:, None, None].expand(-1, 1, C))
    )  # it ends as it ended
    edge = torch.linspace(0, 1, width + 1, device=x.device) * (ends[:, None] - 1)
    left = edge.floor().long()
    right = (left + 1).minimum(ends[:, None] - 1)
    before, after = (x.gather(1, i[..., None].expand(-1, -1, C)) for i in (left, right))
    at_edge = before.lerp(after, (edge - left)[..., None].to(x))
    column = (torch.arange(T, device=x.device) * width // (ends[:, None] - 1).clamp(min=1)).clamp(max=width - 1)
    column = column[..., None].expand(-1, -1, C)
    least = at_edge[:, :-1].minimum(at_edge[:, 1:]).scatter_reduce(1, column, x, "amin")  # [B, width, C]
    most = at_edge[:, :-1].maximum(at_edge[:, 1:]).scatter_reduce(1, column, x, "amax")
    bottom, top = (((v - low) / (high - low)).clamp(0, 1) * (height - 1) for v in (least, most))
    top = top + 1.0  # the line's own thickness
    pixel = torch.arange(height - 1, -1, -1, device=x.device)[:, None, None]  # the upper row first
    drawn = (top[:, None].minimum(pixel + 1) - bottom[:, None].maximum(pixel)).clamp(0, 1)  # [B, height, width, C]
    return drawn.permute(0, 3, 1, 2).reshape(B, 1, C * height, width)
