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

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from timecell.credit.layers import layers_of
from timecell.credit.updates import Factors, Gradient, OrthogonalProjection, Update
from timecell.errors import InputError

Net = TypeVar("Net", bound=nn.Module)


class HebbianSubspace(nn.Module):
    """The lateral units of one synapse. Their weights are buffers: they learn by themselves and are saved with the net.

    Args:
        inputs: that the synapse has.
        rows: lateral units for each task, in the order of the tasks; later tasks add none.
        rate: of learning, in units of one over the mean power of the inputs; above 1 a strong direction oscillates.

    Raises:
        InputError: more rows than inputs.

    Example:
        >>> lateral = HebbianSubspace(3, rows=(1, 1))
        >>> for _ in range(30):
        ...     lateral.watch(torch.tensor([[3.0, 4.0, 0.0]]))
        >>> lateral.finish_task()
        >>> lateral.kept.abs().round(decimals=3).tolist()
        [[0.6000000238418579, 0.800000011920929, 0.0]]
    """

    rows: Tensor
    done: Tensor

    def __init__(self, inputs: int, rows: Sequence[int], rate: float = 0.8) -> None:
        super().__init__()
        if sum(rows) > inputs:
            raise InputError(
                "HebbianSubspace(rows)", found=f"{sum(rows)} rows", expected=f"at most {inputs}, one an input",
                remedy="give each task fewer",
            )  # fmt: skip
        self.borders, self.rate = [sum(rows[:i]) for i in range(len(rows) + 1)], rate
        self.register_buffer("rows", nn.init.orthogonal_(torch.empty(sum(rows), inputs)))
        self.register_buffer("done", torch.zeros((), dtype=torch.long))

    def _border(self, tasks: int) -> int:
        return self.borders[min(tasks, len(self.borders) - 1)]

    @property
    def kept(self) -> Float[Tensor, "k in"]:
        """The rows of finished tasks."""
        return self.rows[: self._border(int(self.done))]

    @property
    def present(self) -> Float[Tensor, "k in"]:
        """The rows of this task."""
        return self.rows[self._border(int(self.done)) : self._border(int(self.done) + 1)]

    @torch.no_grad()
    def watch(self, x: Float[Tensor, "... in"], repeats: int = 5) -> None:
        """Learn this task's rows from some inputs. Kept rows take part in what is explained, so new ones find the rest."""
        x = x.flatten(0, -2).to(self.rows)
        power = x.square().sum(1).mean()
        if len(self.present) == 0 or power == 0:
            return
        rest = x - x @ self.kept.T @ self.kept
        for _ in range(repeats):
            y = x @ self.present.T
            # y^T (rest - y H): there are fewer units than samples, so y^T y comes first
            self.present.add_(y.T @ rest - (y.T @ y) @ self.present, alpha=self.rate / len(x) / float(power))

    def finish_task(self) -> None:
        """Keep this task's rows from now on, and go on to the next ones."""
        self.done.add_(1)


@dataclass(frozen=True)
class HebbianProjection:
    """The update of HLOP: lateral units watch what comes in to their synapse, and what they have kept is not learnt along.

    It goes with any time path whose factors are inputs or their traces, and with any space path; synapses without lateral
    units learn as ever.

    Attributes:
        repeats: Hebbian steps for each slice.
        update: what is made of the projected factors.

    Example:
        >>> from timecell import Sequential
        >>> net = with_lateral_units(Sequential(nn.Linear(2, 1, bias=False)), share=0.5, tasks=2)
        >>> only_the_first = Factors(torch.ones(1, 1), torch.tensor([[1.0, 0.0]]))
        >>> for _ in range(20):
        ...     gradient = HebbianProjection()(only_the_first, net[0])
        >>> finish_task(net)                                       # from now on nothing is learnt along the first input
        >>> both = Factors(torch.ones(1, 1), torch.ones(1, 2))
        >>> gradient.tolist(), HebbianProjection()(both, net[0]).abs().round(decimals=3).tolist()
        ([[1.0, 0.0]], [[0.0, 1.0]])
    """

    repeats: int = 5
    update: Update = Gradient()  # noqa: RUF009 - frozen

    def __call__(self, factors: Factors, synapse: nn.Module) -> Float[Tensor, "out in"]:
        """The update of what the kept rows leave over."""
        lateral = lateral_units(synapse)
        if lateral is None:
            return self.update(factors, synapse)
        if factors.pre.ndim > factors.delta.ndim:
            raise InputError(
                "HebbianProjection", found="a trace for each weight", expected="one number an input, which lateral units "
                "can watch", remedy="use a time path such as Full, Instantaneous or PresynapticTrace, not Eligibility",
            )  # fmt: skip
        lateral.watch(factors.pre, self.repeats)
        return OrthogonalProjection(lambda _: lateral.kept, self.update)(factors, synapse)


def with_lateral_units(net: Net, share: float, tasks: int) -> Net:
    """The same net, every synapse of which has lateral units as ``synapse.lateral``.

    Args:
        net: a `Sequential` of layers.
        share: units that each task adds, as a share of the synapse's inputs, in (0, 1]; when there are as many units as
            inputs, later tasks add none (and learn nothing).
        tasks: how many tasks add units.

    Raises:
        InputError: the share is out of its range.

    Example:
        >>> from timecell import Sequential
        >>> net = with_lateral_units(Sequential(nn.Linear(10, 2)), share=0.4, tasks=3)
        >>> kept = []
        >>> for _ in range(3):
        ...     finish_task(net)
        ...     kept.append(len(lateral_units(net[0]).kept))
        >>> kept
        [4, 8, 10]
    """
    if not 0 < share <= 1:
        raise InputError("share", found=share, expected="more than 0, at most 1", remedy="try 1 / (tasks + 1)")
    for layer in layers_of(net):
        if layer.synapse is not None:
            inputs = math.prod(layer.synapse.weight.shape[1:])
            borders = [min(inputs, task * math.ceil(share * inputs)) for task in range(tasks + 1)]
            lateral = HebbianSubspace(inputs, [b - a for a, b in pairwise(borders)])
            layer.synapse.lateral = lateral.to(layer.synapse.weight)
    return net


def lateral_units(synapse: nn.Module) -> HebbianSubspace | None:
    """Those of a synapse, if it has any."""
    found = getattr(synapse, "lateral", None)
    return found if isinstance(found, HebbianSubspace) else None


def finish_task(net: nn.Module) -> None:
    """Keep what the lateral units of a net have learnt in the present task from now on."""
    for module in net.modules():
        if isinstance(module, HebbianSubspace):
            module.finish_task()
