"""Learning without forgetting: lateral units learn what a synapse was used for, and later updates spare it (HLOP).

A weight matrix W answers to inputs x. If an update dW = delta x^T of a later task has no part along the inputs of earlier
ones, W answers to those as before. So each synapse has *lateral units*: rows of weights H onto its own inputs that learn
the principal subspace of what comes in, by a Hebbian and an anti-Hebbian term and nothing else,

    y = H x            dH = rate <y (x - H^T y)^T>          (Oja's subspace rule; the rows of earlier tasks stay)

and with these rows kept, later tasks learn from what is left of the input:

    dW = delta (x - H^T H x)^T                              (`OrthogonalProjection`)

The forward pass does not change. x is whatever presynaptic factor the credit rule has: spikes, a trace, the patches of
a convolution; so this goes with every rule whose update is a product of blame and input.

Source: Xiao, Meng, Zhang, He & Lin, "Hebbian learning based orthogonal projection for continual learning of spiking
neural networks" (2024), arXiv:2402.11984; Oja, "Neural networks, principal components, and subspaces" (1989).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from timecell.errors import InputError


class HebbianSubspace(nn.Module):
    """The lateral units of one synapse. Their weights are buffers: they learn by themselves and are saved with the net.

    Args:
        inputs: that the synapse has.
        rows: lateral units for each task, in the order of the tasks; tasks beyond these add none.
        rate: of learning, relative to the power of the inputs.

    Raises:
        InputError: more rows than inputs.

    Example:
        >>> lateral = HebbianSubspace(3, rows=(1, 1), rate=0.5)
        >>> for _ in range(50):
        ...     lateral.watch(torch.tensor([[1.0, 1.0, 0.0]]))
        >>> lateral.finish_task()
        >>> (lateral.kept @ torch.tensor([1.0, 1.0, 0.0])).abs().item() ** 2        # all of the input's power
        2.0
    """

    def __init__(self, inputs: int, rows: Sequence[int], rate: float = 0.5) -> None:
        super().__init__()
        if sum(rows) > inputs:
            raise InputError(
                "HebbianSubspace(rows)", found=f"{sum(rows)} rows", expected=f"at most {inputs}, one an input",
                remedy="give each task fewer",
            )  # fmt: skip
        self.plan, self.rate = tuple(rows), rate
        self.rows = nn.Buffer(nn.init.orthogonal_(torch.empty(sum(rows), inputs)))
        self.done = nn.Buffer(torch.zeros((), dtype=torch.long))

    @property
    def kept(self) -> Float[Tensor, "k in"]:
        """The rows of finished tasks."""
        return self.rows[: sum(self.plan[: int(self.done)])]

    @torch.no_grad()
    def watch(self, x: Float[Tensor, "... in"], repeats: int = 5) -> None:
        """Learn the present task's rows from some inputs; they find what the kept rows leave over."""
        old, last = len(self.kept), sum(self.plan[: int(self.done) + 1])
        x = x.flatten(0, -2)
        power = x.square().sum(1).mean()
        if old == last or power == 0:
            return
        for _ in range(repeats):
            y = x @ self.rows[:last].T
            error = x - y @ self.rows[:last]
            self.rows[old:last] += self.rate / power * y[:, old:].T @ error / len(x)

    def finish_task(self) -> None:
        """Keep the rows of this task from now on."""
        self.done.add_(1)
