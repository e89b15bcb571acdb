"""How blame travels: a credit rule turns the loss of one slice of time into gradients.

The engine runs layer after layer, each over a slice of time; the rule says in which slices time is visited and fills
``p.grad`` for each. Training adds the slices up, clips and steps. So what a rule costs in memory is what one slice
costs, and a rule knows nothing of optimisers, epochs or data sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from timecell import fuse
from timecell.data.containers import Batch
from timecell.errors import InputError
from timecell.state import StateTree
from timecell.system import Task

Loss = Callable[[Tensor, Batch, slice], Tensor]
"""``loss(y, batch, steps)``: what these steps contribute; the slices of a sequence add up to its whole loss."""


class Credit(Protocol):
    """A learning rule. Implementations are frozen dataclasses.

    A rule may promise more, which `timecell.credit.check` then holds it to: ``exact = True``, its gradient is that of the
    loss; ``local = True``, no blame comes down to a layer through the layers above it.
    """

    def slices(self, steps: int) -> Iterable[slice]:
        """The stretches in which a sequence of so many steps is visited, in order."""

    def backward(
        self,
        net: nn.Module,
        batch: Batch,
        steps: slice,
        state: StateTree,
        loss: Loss,
        autograd: Callable[[Tensor], Any] = torch.autograd.backward,
    ) -> tuple[Tensor, StateTree]:
        """Run one slice and add its gradients to ``p.grad``.

        Args:
            net: ``net(x, state, lengths=lengths) -> (y, state)``.
            batch: the whole batch, all of time.
            steps: the slice to run.
            state: what the rule returned for the slice before, detached; None at the start of the sequence.
            loss: the task's.
            autograd: what starts backpropagation; training hands over Fabric's.

        Returns:
            The slice's loss (a number without history) and the state at its end: the net's, or what the rule hands on
            to the next slice beside it (traces, draws), of the same tree-like form.
        """


def run_slice(net: nn.Module, batch: Batch, steps: slice, state: StateTree) -> tuple[Float[Tensor, "B t K"], StateTree]:
    """The outputs of one slice and the state at its end; a sample that has ended by then keeps its state."""
    out = net(batch.x[:, steps], state, lengths=slice_lengths(batch.lengths, steps))
    if not (isinstance(out, tuple) and len(out) == 2 and isinstance(out[0], Tensor)):
        raise InputError(
            f"{type(net).__name__}(x, state, lengths=...)", found=type(out).__name__, expected="(y, state)",
            remedy="return the outputs [B, T, K] and the state (None for a net without one)",
        )  # fmt: skip
    return out


def run_in_stretches(
    net: nn.Module, batch: Batch, steps: slice, state: StateTree, every: int
) -> tuple[Float[Tensor, "B t K"], StateTree]:
    """As `run_slice`, keeping inputs and the state every so many steps; the rest is computed again for the blame.

    The gradient is the same, for two runs forward instead of one (Chen et al., 2016); memory is that of one stretch.

    Raises:
        InputError: a module takes statistics over the instants of a call, which would be others.
    """
    for path, module in net.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise InputError(
                "BPTT(memory)", found=f"{path} ({type(module).__name__}), which takes its mean over all instants of a call",
                expected="a net that does the same in every stretch of time",
                remedy='use timecell.PerStep or nn.LayerNorm, or memory="full"',
            )  # fmt: skip
    outputs = []
    for part in fuse.stretches(steps.stop - steps.start, every, steps.start):
        y, state = checkpoint(run_slice, net, batch, part, state, use_reentrant=False)
        outputs.append(y)
    return torch.cat(outputs, 1), state


def slice_lengths(lengths: Int[Tensor, "B"] | None, steps: slice) -> Int[Tensor, "B"] | None:
    """How many steps of a slice each sample has.

    Example:
        >>> slice_lengths(torch.tensor([2, 5, 9]), slice(4, 8)).tolist()
        [0, 1, 4]
    """
    return None if lengths is None else (lengths - steps.start).clamp(0, steps.stop - steps.start)


def require_sliceable(credit: Credit, net: nn.Module, task: Task, longest: int) -> None:
    """Refuse a rule that cuts time for a task or a net that needs all of it.

    Args:
        credit: the rule.
        net: whose cells say whether they are causal.
        task: whose `needs_whole` says why its loss is no sum over steps.
        longest: steps of the longest sequence.

    Raises:
        InputError: naming the rule and what stands against it.
    """
    if len(list(credit.slices(longest))) < 2:
        return
    remedy = "use credit.BPTT(), or slices that hold the whole sequence"
    if task.needs_whole is not None:
        raise InputError(
            "credit", found=f"{credit}, which cuts {longest} steps into slices",
            expected=f"a rule that sees all of them at once, because of the task {task.name}: {task.needs_whole}",
            remedy=f"{remedy}; or choose a readout whose loss is a sum over steps",
        )  # fmt: skip
    for path, module in net.named_modules():
        if not getattr(module, "causal", True):
            raise InputError(
                "credit", found=f"{credit}, which cuts {longest} steps into slices",
                expected=f"a rule that sees all of them at once, because {path or 'the net'} "
                f"({type(module).__name__}) is not causal",
                remedy=remedy,
            )  # fmt: skip
