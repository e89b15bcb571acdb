"""A small net on the last axis: linear maps with an activation between them.

    x -> Linear -> activation -> ... -> Linear -> y             the last map has none

The workhorse inside larger models; as a plain module it is a function of one instant in any net.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn

from timecell.errors import InputError


class MLP(nn.Sequential):
    """A multilayer perceptron.

    Args:
        inputs: width of x.
        hidden: width of each hidden layer; none makes it a linear map.
        outputs: width of y.
        activation: makes what follows each hidden layer.
        dropout: share of each hidden layer's outputs that training drops.
        bias: whether the maps have biases.

    Shapes: x [..., inputs] -> y [..., outputs].

    Raises:
        InputError: a width below 1.

    Example:
        >>> import torch
        >>> MLP(3, (8, 8), 2)(torch.rand(5, 7, 3)).shape
        torch.Size([5, 7, 2])
        >>> [type(part).__name__ for part in MLP(3, (8,), 2, activation=nn.Tanh)]
        ['Linear', 'Tanh', 'Linear']
    """

    def __init__(
        self, inputs: int, hidden: Sequence[int], outputs: int, *,
        activation: Callable[[], nn.Module] = nn.ReLU, dropout: float = 0.0, bias: bool = True,
    ) -> None:  # fmt: skip
        widths = [inputs, *hidden, outputs]
        if min(widths) < 1:
            raise InputError("MLP(widths)", found=widths, expected="each at least 1", remedy="give every layer a unit")
        parts: list[nn.Module] = []
        for before, after in pairwise(widths[:-1]):
            parts += [nn.Linear(before, after, bias=bias), activation()]
            if dropout:
                parts.append(nn.Dropout(dropout))
        super().__init__(*parts, nn.Linear(widths[-2], outputs, bias=bias))
