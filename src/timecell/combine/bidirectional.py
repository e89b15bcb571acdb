"""Both directions of time."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.cell import check_sequence
from timecell.combine.containers import Merge, _Container, checked_merge, merged
from timecell.combine.example import _Leak
from timecell.errors import InputError
from timecell.state import StateTree, flatten


class Bidirectional(_Container):
    """A cell that reads the sequence forwards, and a copy of it that reads it backwards (Schuster & Paliwal, 1997).

    Each output knows the whole sequence, so this cell cannot stream: it takes no state from before, `step` says why,
    and credit rules that cut time refuse it. With `lengths` the second cell begins at each sample's own end.

    Args:
        cell: reads forwards; a copy of it, with the same weights to begin with and its own from then on, backwards.
        merge: "cat" (over the last axis), "add", or a function of the two outputs.

    Shapes: x [B, T, ...] -> y [B, T, ...]; state {"forwards": ..., "backwards": ...}, each after its last instant.

    Example:
        >>> from timecell import LeakyIntegrator
        >>> y, _ = Bidirectional(LeakyIntegrator(1, tau=1.0))(torch.tensor([[[1.0], [2.0]]]))
        >>> y.tolist()
        [[[1.0, 1.0], [2.0, 2.0]]]
    """

    @classmethod
    def example(cls) -> Bidirectional:
        """For the checks."""
        return cls(_Leak(4))

    def __init__(self, cell: nn.Module, merge: Merge = "cat") -> None:
        super().__init__()
        self.merge = checked_merge("Bidirectional", merge)
        self._adopt({"forwards": cell, "backwards": copy.deepcopy(cell)})
        self.causal, self.streams, self.lookahead = False, False, 0

    def forward(
        self, x: Float[Tensor, "B T ..."], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T ..."], StateTree]:
        """Whole sequences, in both directions."""
        check_sequence("Bidirectional(x)", x, lengths)
        if flatten(self._parts(state)):
            raise InputError(
                "Bidirectional(state)", found="the state of an earlier stretch",
                expected="None, because reading backwards begins at the end of the sequence",
                remedy="call the net on whole sequences",
            )  # fmt: skip
        cells = self.cells()
        ahead, after = cells["forwards"](x, lengths=lengths)
        back, before = cells["backwards"](reverse(x, lengths), lengths=lengths)
        return merged([ahead, reverse(back, lengths)], self.merge), {"forwards": after, "backwards": before}


def reverse(x: Float[Tensor, "B T ..."], lengths: Int[Tensor, "B"] | None) -> Float[Tensor, "B T ..."]:
    """Each sample backwards in time from its own end; padding stays where it is.

    Example:
        >>> reverse(torch.arange(4.0).view(1, 4, 1), torch.tensor([3])).flatten().tolist()
        [2.0, 1.0, 0.0, 3.0]
    """
    if lengths is None:
        return x.flip(1)
    t = torch.arange(x.shape[1], device=x.device)
    mirrored = lengths[:, None] - 1 - t
    samples = torch.arange(x.shape[0], device=x.device)[:, None]
    return x[samples, torch.where(mirrored >= 0, mirrored, t)]
