"""How much a signal is like itself some steps later."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from timecell.errors import InputError


def autocorrelation(x: Float[Tensor, "B T C"], lags: int) -> Float[Tensor, "B lags+1 C"]:
    """R(k) = mean_t (x_t - m)(x_{t+k} - m) / variance, for k = 0 to `lags`, through the power spectrum in O(T log T).

    The mean at lag k is over the T - k pairs that exist; nothing wraps around.

    Args:
        x: signals.
        lags: the largest lag, below T.

    Returns:
        R, which is 1 at lag 0; NaN for a channel that is constant.

    Raises:
        InputError: x is not [B, T, C], or has no more than `lags` steps.

    Example:
        >>> x = torch.tensor([1.0, -1.0] * 50).view(1, 100, 1)
        >>> autocorrelation(x, 2).flatten().round(decimals=3).tolist()
        [1.0, -1.0, 1.0]
    """
    if x.ndim != 3 or not 0 <= lags < x.shape[1]:
        raise InputError(
            "autocorrelation(x, lags)", found=f"shape {list(x.shape)}, lags {lags}",
            expected="[B, T, C] with more steps than lags", remedy="bring a longer signal, or ask for fewer lags",
        )  # fmt: skip
    steps = x.shape[1]
    centred = x - x.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(centred, steps + lags, dim=1)
    sums = torch.fft.irfft(spectrum.abs().square(), steps + lags, dim=1)[:, : lags + 1]
    pairs = steps - torch.arange(lags + 1, device=x.device, dtype=x.dtype)
    covariance = sums / pairs[:, None]
    variance = centred.square().mean(1, keepdim=True)
    constant = variance <= (torch.finfo(x.dtype).eps * x.abs().amax(1, keepdim=True)) ** 2
    return covariance / variance.masked_fill(constant, torch.nan)
