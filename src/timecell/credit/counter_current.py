"""Two nets that teach each other: one carries the input up, the other carries the target down (counter-current learning).

Beside every synapse W from layer l up to layer l + 1 there is a synapse V from l + 1 down to l, with weights of its own.
The input goes up as ever; the target, one-hot, goes down through V. At each level the two meet, and each net is trained
there to agree with the other, every layer cut off from those before it:

    up      a_0 = x           a_l = f(W_l a_{l-1})                      gradients of W_l, from its own level alone
    down    c_L = one-hot k   c_{l-1} = elu(V_l c_l)                    gradients of V_l, from its own level alone
    level   mean over samples and classes of (a_l . c_l(k) - [class of the sample is k])^2, times strength / n_l

So no error goes down and no weights are shared: the forward net is told, at each level, by what the targets have become
on their way to it. V has a row of answers c_l(k) for each class, and classes that a level tells apart have rows at right
angles. Used alone, the forward net needs none of it.

Source: Hsu, Wu & Tsai, "Counter-current learning: a biologically plausible dual network approach for deep learning"
(2024), arXiv:2409.19841.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import elu, one_hot

from timecell.credit.layers import Layer, layers_of
from timecell.credit.space_paths import Lesson
from timecell.errors import InputError

Net = TypeVar("Net", bound=nn.Module)


def with_counter_current(net: Net) -> Net:
    """The same net; every synapse above the first has one that leads back down, as ``synapse.counter``.

    Args:
        net: a `Sequential` of layers with linear synapses.

    Raises:
        InputError: a layer above the first has no linear synapse, naming it.

    Example:
        >>> from timecell import Sequential
        >>> net = with_counter_current(Sequential(nn.Linear(3, 8), nn.ELU(), nn.Linear(8, 2)))
        >>> net[2].counter
        Linear(in_features=2, out_features=8, bias=False)
    """
    for layer in layers_of(net)[1:]:
        up = layer.synapse
        if not isinstance(up, nn.Linear):
            raise InputError(
                f"net[{layer.name}]", found=type(up).__name__, expected="nn.Linear, which can be led back",
                remedy="use linear layers above the first; or another credit rule",
            )  # fmt: skip
        up.counter = nn.Linear(up.out_features, up.in_features, bias=False).to(up.weight)
    return net


def counter_of(layer: Layer) -> nn.Linear:
    """The synapse that leads down from a layer.

    Raises:
        InputError: there is none.
    """
    found = getattr(layer.synapse, "counter", None)
    if not isinstance(found, nn.Linear):
        raise InputError(
            f"net[{layer.name}]", found="no counter-current", expected="a synapse that leads down from every layer above "
            "the first", remedy="make the net with timecell.credit.with_counter_current(net)",
        )  # fmt: skip
    return found


def descended(layers: Sequence[Layer], number: int) -> Float[Tensor, "K n"]:
    """What the target of each class has become when it reaches a layer; blame goes to the last synapse of the way alone.

    Args:
        layers: of the net.
        number: of the layer that is reached.

    Example:
        >>> from timecell import Sequential
        >>> net = with_counter_current(Sequential(nn.Linear(3, 8), nn.ELU(), nn.Linear(8, 2)))
        >>> descended(layers_of(net), 0).shape                     # two classes, eight units
        torch.Size([2, 8])
    """
    way = [counter_of(layer) for layer in reversed(layers[number + 1 :])]
    c = torch.eye(way[0].in_features).to(way[0].weight)
    for synapse in way:
        c = elu(synapse(c.detach()))
    return c


@dataclass(frozen=True)
class CounterCurrent:
    """The space path: a layer agrees with what comes down to it, and what comes down learns to agree with the layer.

    For classes, and for nets from `with_counter_current`. The blame of a level is the mean over the batch, and over the
    steps of a sample that count.

    Attributes:
        strength: of the levels' loss, relative to the number of units.

    Example:
        >>> from timecell.credit import Instantaneous, Rule
        >>> Rule(Instantaneous(), CounterCurrent()).local
        True
    """

    strength: float = 128.0
    crosses: ClassVar[bool] = False

    def teach(self, lesson: Lesson) -> Float[Tensor, "B t ..."]:
        """The gradient of the level's loss; adds that of the synapse that leads down to it."""
        target = lesson.batch.target
        if target is None or target.is_floating_point() or target.ndim != 1:
            raise InputError(
                "batch.target", found="no classes", expected="[B] class indices: it is classes that come down",
                remedy="use another space path for this task",
            )  # fmt: skip
        y = lesson.y.detach().requires_grad_()
        with torch.enable_grad():
            down = descended(lesson.layers, lesson.number)
            agreement = y.flatten(2) @ down.T
            misses = (agreement - one_hot(target, len(down))[:, None].to(y)).square().mean(2)
            value = self.strength / down.shape[1] * (misses * _shares(lesson)).sum() / len(y)
        torch.autograd.backward(value, inputs=[y, counter_of(lesson.layers[lesson.number + 1]).weight])
        assert y.grad is not None
        return y.grad


def _shares(lesson: Lesson) -> Float[Tensor, "B t"]:
    """What each step of a slice counts: 1 / T of its sample, and nothing after its end."""
    batch, steps = lesson.batch, lesson.steps
    lengths = torch.full((len(batch),), batch.x.shape[1]) if batch.lengths is None else batch.lengths
    alive = torch.arange(steps.start, steps.stop, device=lengths.device) < lengths[:, None]
    return (alive / lengths[:, None]).to(lesson.y)


def alignment(net: nn.Module) -> dict[str, float]:
    """Cosine of each counter-current synapse and the transpose of the synapse beside it, by the layer's name.

    Example:
        >>> from timecell import Sequential
        >>> net = with_counter_current(Sequential(nn.Linear(3, 8), nn.ELU(), nn.Linear(8, 2)))
        >>> with torch.no_grad():
        ...     _ = net[2].counter.weight.copy_(2 * net[2].weight.T)
        >>> round(alignment(net)["2"], 4)
        1.0
    """
    cosines = {}
    for layer in layers_of(net)[1:]:
        assert layer.synapse is not None
        up, down = layer.synapse.weight.detach().T, counter_of(layer).weight.detach()
        cosines[layer.name] = torch.cosine_similarity(up.flatten(), down.flatten(), dim=0).item()
    return cosines
