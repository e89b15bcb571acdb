"""How blame reaches a layer: down through the layers above, by a broadcast, or from a head of its own.

A space path answers one question for each layer: what are this layer's outputs blamed for? All of them answer with
dLoss/dy or a stand-in for it; whatever the answer, the time path then finds what the layer's weights did.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from timecell.credit.layers import Layer
from timecell.credit.rule import Loss
from timecell.data.containers import Batch
from timecell.errors import InputError, unknown_name

Kind = Literal["normal", "sign", "square"]


class Lesson(NamedTuple):
    """What is known when a layer is taught.

    Attributes:
        layers: of the net, from the input up.
        number: of the layer that is taught; the last layer is always taught by the loss itself.
        y: [B, t, ...] its outputs in this slice.
        above: [B, t, ...] what backpropagation blames them for; None for a space path that does not cross layers.
        error: [B, t, ...] what the net's outputs are blamed for.
        loss: the task's.
        batch: the whole batch, with targets.
        steps: the slice.
    """

    layers: Sequence[Layer]
    number: int
    y: Tensor
    above: Tensor | None
    error: Tensor
    loss: Loss
    batch: Batch
    steps: slice


class SpacePath(Protocol):
    """How blame reaches a layer. Implementations are frozen dataclasses.

    Attributes:
        crosses: blame comes down through the layers above; False: no layer hears of another one's.

    Example:
        One's own, every unit taught by the sum of the output's errors:

        >>> @dataclass(frozen=True)
        ... class Together:
        ...     crosses = False
        ...
        ...     def teach(self, lesson):
        ...         return lesson.error.sum(2, keepdim=True).expand_as(lesson.y)
    """

    crosses: ClassVar[bool]

    def teach(self, lesson: Lesson) -> Float[Tensor, "B t ..."]:
        """What the outputs of a hidden layer are blamed for."""


@dataclass(frozen=True)
class Backprop:
    """Through the layers above, by the chain rule (Rumelhart, Hinton & Williams, 1986)."""

    crosses: ClassVar[bool] = True

    def teach(self, lesson: Lesson) -> Float[Tensor, "B t ..."]:
        """What came down."""
        assert lesson.above is not None
        return lesson.above


@dataclass(frozen=True)
class FixedFeedback:
    """Straight from the output, by fixed random weights: error B (direct feedback alignment: Nokland, 2016).

    Attributes:
        kind: how the weights B [K, n] are made; see `fixed_weights`.
        seed: of the drawing.

    Example:
        >>> from timecell.credit import PresynapticTrace, Rule
        >>> Rule(PresynapticTrace(), FixedFeedback("sign", seed=3)).local
        True
    """

    kind: Kind = "normal"
    seed: int = 0
    crosses: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_kind(self)

    def teach(self, lesson: Lesson) -> Float[Tensor, "B t ..."]:
        """The output's error, spread over the layer's units."""
        error, y = lesson.error.flatten(2), lesson.y
        return (error @ fixed_weights(self, lesson.number, error.shape[2], _units(y), y)).view_as(y)


@dataclass(frozen=True)
class ReadoutFeedback:
    """Straight from the output, by the present weights of the readout ("symmetric" e-prop: Bellec et al., 2020).

    Every hidden layer is taught as if the readout sat on it, so it must have as many units as the readout has inputs.
    """

    crosses: ClassVar[bool] = False

    def teach(self, lesson: Lesson) -> Float[Tensor, "B t ..."]:
        """error W of the last synapse."""
        readout, y = lesson.layers[-1].synapse, lesson.y
        weight = None if readout is None else readout.weight.detach()
        if weight is None or weight.shape != (_units(lesson.error), _units(y)):
            raise InputError(
                "ReadoutFeedback", found=f"layer {lesson.layers[lesson.number].name!r} of {_units(y)} units "
                f"under a readout with the weights {None if weight is None else list(weight.shape)}",
                expected="a readout whose weights reach from each unit of the layer to each output of the net",
                remedy="use FixedFeedback(), which fits any layer",
            )  # fmt: skip
        return (lesson.error.flatten(2) @ weight).view_as(y)


@dataclass(frozen=True)
class LocalHead:
    """From a loss of its own: the task's loss on a fixed projection of the layer's outputs, z = B y / (n temperature).

    Nothing comes from other layers, not even the output's error (square waves: TESS, Apolinario & Roy, 2025).

    Attributes:
        kind: how the weights B [K, n] of the head are made; see `fixed_weights`.
        seed: of the drawing.
        temperature: of the answers z. As means over n units they are small; where it is too high a layer is told its class
            at full strength even when it is right.
    """

    kind: Kind = "square"
    seed: int = 0
    temperature: float = 1.0
    crosses: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_kind(self)
        if not self.temperature > 0:
            raise InputError("LocalHead(temperature)", found=self.temperature, expected="above 0", remedy="try 0.1")

    def teach(self, lesson: Lesson) -> Float[Tensor, "B t ..."]:
        """The gradient of the local loss."""
        y, outputs = lesson.y.detach().requires_grad_(), lesson.error.shape[2:]
        units = _units(y)
        head = fixed_weights(self, lesson.number, outputs.numel(), units, y)
        with torch.enable_grad():
            z = (y.flatten(2) @ head.T / (units * self.temperature)).unflatten(2, outputs)
            value = lesson.loss(z, lesson.batch, lesson.steps)
        return torch.autograd.grad(value, y)[0]


def _units(y: Float[Tensor, "B t ..."]) -> int:
    return math.prod(y.shape[2:])


def check_kind(path: FixedFeedback | LocalHead) -> None:
    """Refuse a kind of fixed weights that does not exist."""
    if path.kind not in ("normal", "sign", "square"):
        raise unknown_name(f"{type(path).__name__}(kind)", path.kind, ("normal", "sign", "square"))


def fixed_weights(path: FixedFeedback | LocalHead, number: int, outputs: int, units: int, like: Tensor) -> Tensor:
    """Weights B [K, n] that are the same at every call: made anew from the path's seed and the layer's number.

    "normal" has mean 0 and standard deviation 1/sqrt(n), "sign" is +-1/sqrt(n), and "square" has a square wave of
    another frequency for each output, sign(sin(f_k i)) with f from 50 to 512, as TESS does.

    Example:
        >>> fixed_weights(FixedFeedback("sign"), 0, 2, 4, torch.zeros(1)).abs()
        tensor([[0.5000, 0.5000, 0.5000, 0.5000],
                [0.5000, 0.5000, 0.5000, 0.5000]])
    """
    if path.kind == "square":
        waves = torch.linspace(50, 512, outputs)[:, None] * torch.arange(1, units + 1)
        return waves.sin().sign().to(like)
    drawn = torch.randn(outputs, units, generator=torch.Generator().manual_seed(path.seed + number))
    return ((drawn.sign() if path.kind == "sign" else drawn) / math.sqrt(units)).to(like)
