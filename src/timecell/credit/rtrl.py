"""Real-time recurrent learning: the exact gradient, carried forward in time. An oracle for small nets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from timecell import fuse
from timecell.combine import silence
from timecell.credit.layers import bare, per_sample
from timecell.credit.rule import Loss, slice_lengths
from timecell.data.containers import Batch
from timecell.errors import InputError
from timecell.layers import Dropout
from timecell.state import StateTree, flatten, map_state, unflatten

MIXES_OR_DRAWS = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, Dropout)


class Owing(NamedTuple):
    """The state of the net (S values a sample), and what it owes to the P parameters."""

    state: StateTree
    owed: Float[Tensor, "B S P"]


@dataclass(frozen=True)
class RTRL:
    """Real-time recurrent learning (Williams & Zipser, 1989).

        S_t = ds_t/ds_{t-1} S_{t-1} + ds_t/dw          dL/dw = sum over t of  dL/dy_t (dy_t/ds_{t-1} S_{t-1} + dy_t/dw)

    Equal to BPTT, in memory that does not grow with time but is B x S x P for S state values and P parameters, and time
    B x S^2 x P a step: for nets of some tens of units. Any net will do whose samples do not mix and whose modules
    `torch.func` can differentiate.

    Attributes:
        most: how many numbers B x S x P may take.

    Example:
        >>> list(RTRL().slices(3))
        [slice(0, 1, None), slice(1, 2, None), slice(2, 3, None)]
    """

    most: int = 50_000_000

    @property
    def exact(self) -> bool:
        """The gradient of the loss."""
        return True

    @property
    def local(self) -> bool:
        """Every weight hears of every other one."""
        return False

    def slices(self, steps: int) -> Iterable[slice]:
        """One step after the other."""
        return tuple(slice(t, t + 1) for t in range(steps))

    def backward(
        self, net: nn.Module, batch: Batch, steps: slice, state: StateTree, loss: Loss,
        autograd: Callable[[Tensor], Any] = torch.autograd.backward,
    ) -> tuple[Tensor, StateTree]:  # fmt: skip
        """See `Credit.backward`."""
        net = bare(net)
        parameters = {n: p for n, p in net.named_parameters() if p.requires_grad}
        sizes = [p.numel() for p in parameters.values()]
        lengths = slice_lengths(batch.lengths, steps)
        before = state if isinstance(state, Owing) else Owing(state, batch.x.new_zeros(len(batch), 0, sum(sizes)))
        _refuse(net, len(batch), before.state, sum(sizes), self.most)
        y, after, dy, ds = self._instant(net, parameters, silence(batch.x[:, steps], lengths), before)
        if lengths is not None:
            ended = lengths == 0
            y = torch.where(per_sample(ended, y), 0.0, y)
            if state is not None:
                after = map_state(lambda new, old: torch.where(per_sample(ended, new), old, new), after, before.state)
                ds = torch.where(per_sample(ended, ds), before.owed, ds)
        y = y.detach().requires_grad_()
        value = loss(y, batch, steps)
        autograd(value)
        error = y.grad if y.grad is not None else torch.zeros_like(y)
        gradient = torch.einsum("bk,bkp->p", error.flatten(1), dy)
        for p, part in zip(parameters.values(), gradient.split(sizes)):
            p.grad = part.view_as(p) if p.grad is None else p.grad + part.view_as(p)
        return value.detach(), Owing(after, ds)

    def _instant(
        self, net: nn.Module, parameters: dict[str, nn.Parameter], x: Float[Tensor, "B 1 ..."], before: Owing
    ) -> tuple[Tensor, StateTree, Float[Tensor, "B K P"], Float[Tensor, "B S P"]]:
        """Output and state of one step, and what both owe to the parameters."""
        sizes, flat = [p.numel() for p in parameters.values()], flatten(before.state)
        widths = [v[0].numel() for v in flat.values()]
        with torch.no_grad(), fuse.backend("plain"):
            y, after = net(x, before.state)

        def instant(w: Float[Tensor, "P"], s: Float[Tensor, "S"], x: Float[Tensor, "1 ..."]) -> tuple[Tensor, Tensor]:
            """One sample: (parameters, state, input) -> (output, next state), all flat."""
            named = {n: part.view_as(p) for (n, p), part in zip(parameters.items(), w.split(sizes))}
            parts = {n: part.view_as(v[:1]) for (n, v), part in zip(flat.items(), s.split(widths))}
            state = unflatten(parts, before.state) if flat else None
            with fuse.backend("plain"):
                y, after = torch.func.functional_call(net, named, (x[None], state))
            return y.flatten(), torch.cat([v.flatten() for v in flatten(after).values()] or [y.new_zeros(0)])

        w = torch.cat([p.detach().flatten() for p in parameters.values()])
        s = torch.cat([v.flatten(1) for v in flat.values()], 1) if flat else x.new_zeros(len(x), 0)
        (y_w, y_s), (s_w, s_s) = torch.vmap(torch.func.jacrev(instant, (0, 1)), (None, 0, 0))(w, s, x)
        return y, after, y_w + y_s @ before.owed, s_w + s_s @ before.owed


def _refuse(net: nn.Module, batch: int, state: StateTree, parameters: int, most: int) -> None:
    """Nets whose samples mix or that draw, and nets that are too large."""
    for path, module in net.named_modules():
        if module.training and isinstance(module, MIXES_OR_DRAWS):
            raise InputError(
                f"net[{path}]", found=f"{type(module).__name__} in training",
                expected="an instant that is the same function for each sample alone",
                remedy="put it into eval mode, or use credit.BPTT, which gives the same gradient",
            )  # fmt: skip
    values = sum(v[0].numel() for v in flatten(state).values())
    if batch * values * parameters > most:
        raise InputError(
            "net", found=f"{batch} samples x {values} state values x {parameters} parameters",
            expected=f"at most {most} in all (RTRL(most=...)): this rule is an oracle for small nets",
            remedy="use credit.BPTT, which gives the same gradient",
        )  # fmt: skip
