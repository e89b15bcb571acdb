"""`fft_periods`: which periods a window has, and how strongly, read off its spectrum.

    A_f = mean over channels of |rfft(x)|_f,  f = 1 .. T // 2        (the mean, f = 0, is no period)
    f_1 .. f_k = the k largest;  period p_i = T // f_i;  weight w_i = softmax(A_f1, ..., A_fk)_i

Source: Wu et al., "TimesNet" (2023), arXiv:2210.02186, equation 1.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from timecell.errors import InputError


def fft_periods(
    x: Float[Tensor, "B T C"], k: int, *, shared: bool = False
) -> tuple[Int[Tensor, "B k"], Float[Tensor, "B k"]]:
    """The k strongest periods of each window, in steps, and their weights, which sum to one.

    Neighbouring frequencies may round to the same period; their weights are then meant to be added.

    Args:
        x: windows; gradients reach it through the weights.
        k: how many periods, at most T // 2.
        shared: rank frequencies by the mean spectrum of all windows, so that all have the same periods, as in the
            paper. A window's answer then depends on its batch mates. The weights are each window's own either way.

    Returns:
        Periods from 1 to T, strongest first, and their weights.

    Raises:
        InputError: x is no [B, T, C], or has too few steps for k periods.

    Example:
        >>> t = torch.arange(336.0)
        >>> x = torch.sin(2 * torch.pi * t / 24) + 0.5 * torch.sin(2 * torch.pi * t / 168)
        >>> periods, weights = fft_periods(x[None, :, None], k=2)
        >>> periods.tolist(), weights.round().tolist()
        ([[24, 168]], [[1.0, 0.0]])
    """
    if x.ndim != 3:
        raise InputError("x", found=f"shape {list(x.shape)}", expected="[B, T, C]", remedy="add the missing axis")
    steps = x.shape[1]
    if not 1 <= k <= steps // 2:
        raise InputError(
            "k", found=k, expected=f"1 to {steps // 2}, half the steps of a window",
            remedy="pass fewer periods or longer windows",
        )  # fmt: skip
    spectrum = torch.fft.rfft(x, dim=1) if len(x) else x[:, : steps // 2 + 1]  # of no window, MKL computes none
    amplitude = spectrum.abs().mean(dim=2)[:, 1:]
    ranked = amplitude.mean(dim=0, keepdim=True).expand_as(amplitude) if shared else amplitude
    strongest = ranked.detach().topk(k, dim=1).indices
    return steps // (strongest + 1), amplitude.gather(1, strongest).softmax(dim=1)
