"""A linear synapse whose cost follows the activity of its input.

    y = x W^T + b

It is `torch.nn.Linear` in all but time and memory: where few entries of x are active, as in a spike train, their rows
are summed and nothing is multiplied by zero; for the backward pass spikes are kept as bits. Which way a call takes is
decided by the density of its input (`timecell.fuse.sparse_rows`), never by a setting.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from timecell.fuse.sparse_rows import Choice, product


class Linear(nn.Linear):
    """`torch.nn.Linear` for spikes; its parameters, their names and first values are those of torch's.

    What the last call did is told by `path`, `density` and the printed form.

    Args:
        in_features: I.
        out_features: O.
        bias: whether there is b.
        device: of the parameters.
        dtype: of the parameters.

    Shapes: x [..., I] -> [..., O].

    Example:
        >>> layer = Linear(700, 256)
        >>> x = (torch.rand(8, 20, 700) < 0.02).float()
        >>> y = layer(x)
        >>> layer.path
        'sparse'
        >>> torch.allclose(y, torch.nn.functional.linear(x, layer.weight, layer.bias), atol=1e-5)
        True
    """

    same_as: ClassVar[type] = nn.Linear
    _choice: Choice | None = None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self.arguments = (in_features, out_features), {"bias": bias}  # as a Cell keeps them, to be written to a file

    def forward(self, x: Float[Tensor, "... I"]) -> Float[Tensor, "... O"]:
        """All instants at once, or one."""
        y, choice = product(x, self.weight, self.bias)
        self.__dict__["_choice"] = choice  # past nn.Module's search for parameters, which takes 2 us
        return y

    @property
    def path(self) -> str | None:
        """How the last call was made: "dense" or "sparse"; None before the first."""
        return self._choice and self._choice.path

    @property
    def density(self) -> float | None:
        """Share of active entries in the last call's input; None where it was not counted."""
        return self._choice and self._choice.density

    def extra_repr(self) -> str:
        """Widths, and how the last call was made."""
        last = f"; last call {self._choice.path}: {self._choice.reason}" if self._choice else ""
        return super().extra_repr() + last
