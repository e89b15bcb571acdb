"""Norms over batch and time.

torch's norms stand in a net as they are, as functions of one instant: `nn.LayerNorm` and `nn.GroupNorm` work inside it,
and `nn.BatchNorm1d` or `nn.BatchNorm2d` takes its training statistics over every instant of the call, of all samples,
padding left out. So under a credit rule that cuts time the statistics are those of a slice. `PerStep` makes them those
of a single step, however time is cut.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.cell import Cell, check_sequence
from timecell.combine import Instant, announce_loop
from timecell.state import StateTree


class PerStep(Cell):
    """A plain module on one step's batch at a time: batch norm takes its statistics from that step alone.

    So a net computes the same in training whether time is visited as a whole (BPTT) or step by step (SLTT). In eval this is
    the module as it is; in training a Python loop over time.

    Args:
        module: e.g. ``nn.BatchNorm2d(16)``.

    Shapes: x [B, T, ...] -> [B, T, ...]; no state.

    Example:
        >>> x = torch.tensor([[[1.0], [5.0]], [[3.0], [9.0]]])             # two samples, two steps
        >>> y, _ = PerStep(nn.BatchNorm1d(1))(x)
        >>> y.round().squeeze(-1).tolist()
        [[-1.0, -1.0], [1.0, 1.0]]
    """

    @classmethod
    def example(cls) -> PerStep:
        """For the checks."""
        return cls(nn.BatchNorm1d(4))

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(
        self, x: Float[Tensor, "B T ..."], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T ..."], StateTree]:
        """In training, slices of one step."""
        check_sequence("PerStep(x)", x, lengths)
        instant = Instant(self.module)
        if not self.training:
            return instant(x, lengths=lengths)
        announce_loop("PerStep in training", x.shape[1])
        steps = []
        for t, x_t in enumerate(x.unbind(1)):
            now = None if lengths is None else (lengths > t).long()
            steps.append(instant(x_t.unsqueeze(1), lengths=now)[0])
        return torch.cat(steps, 1), None
