"""Circuits: cells whose units mix within an instant (a product, a softmax over units, a private history).

A `Neuron` is written for one unit and runs for all; a `Circuit` is written for one sample, with the shapes of that
sample: ``x [inputs]``, ``s.v [units]``, ``p.w [units, inputs]``. Matrix products, sums, softmax and slices are plain
PyTorch. The engine fuses it over time too (the row grain), sixteen samples in each vector register.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from timecell.cell import Stepped
from timecell.errors import InputError
from timecell.parameters import Param


class Circuit(Stepped):
    """Units that mix within an instant, written for one sample.

    Name the sizes in ``axes``, in the order in which the constructor takes them, and say in ``shapes`` which axes the
    input ``x`` and every state have. A parameter has those that its ``per=`` names (none: a single number).

    Args:
        *sizes: one number an axis.
        learn: names of the parameters that training changes; None = as declared.
        **values: parameter values, choices, and sizes by name.

    Shapes: x [B, T, *x axes] -> y [B, T, *whatever dynamics returns]; each state [B, *its axes].

    Example:
        >>> from timecell import State, param
        >>> class Rivals(Circuit):
        ...     axes = ("units",)
        ...     shapes = {"x": ("units",), "v": ("units",)}
        ...     v: State
        ...     w = param(0.2, per=("units", "units"))
        ...
        ...     @staticmethod
        ...     def dynamics(x, s, p):
        ...         v = 0.9 * s.v + x - p.w @ torch.relu(s.v)
        ...         return torch.softmax(v, 0), s._replace(v=v)
        >>> y, state = Rivals(3)(torch.rand(2, 5, 3))
        >>> tuple(y.shape), bool(torch.allclose(y.sum(-1), torch.ones(2, 5)))
        ((2, 5, 3), True)
    """

    axes: ClassVar[tuple[str, ...]] = ()
    shapes: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def __init__(self, *sizes: int, learn: Iterable[str] | None = None, **values: Any) -> None:
        super().__init__()
        named = {n: values.pop(n) for n in self.axes if n in values}
        given = dict(zip(self.axes, sizes)) | named
        name = type(self).__name__
        if len(sizes) + len(named) != len(self.axes) or len(given) != len(self.axes):
            raise InputError(
                f"{name}(...)", found=f"{len(sizes)} sizes and {sorted(named)}",
                expected=f"one size each of {', '.join(self.axes)}",
                remedy=f"e.g. {name}({', '.join(f'{a}=8' for a in self.axes)})",
            )  # fmt: skip
        for axis, size in given.items():
            if not isinstance(size, int) or size < 1:
                raise InputError(
                    f"{name}({axis})", found=size, expected="a positive whole number", remedy="give it a size"
                )
        self.sizes = {a: given[a] for a in self.axes}
        self.declare(values, learn)

    @classmethod
    def example(cls) -> Circuit:
        """For the checks: every axis of length 4."""
        return cls(*[4] * len(cls.axes))

    @property
    def widths(self) -> tuple[int, ...]:
        """One size an axis."""
        return tuple(self.sizes.values())

    def shape(self, axes: Iterable[str]) -> tuple[int, ...]:
        """Sizes of some axes."""
        return tuple(self.sizes[a] for a in axes)

    def parameter_value(self, q: Param, given: Any) -> Any:
        """In the shape of the axes that it is declared for."""
        shape = self._parameter_shape(q)
        if given is None:
            return q.default(shape) if callable(q.default) else torch.full(shape, float(q.default))
        value = torch.as_tensor(given)
        try:
            return value.expand(shape)
        except RuntimeError:
            raise InputError(
                f"{type(self).__name__}({q.name})", found=f"shape {list(value.shape)}",
                expected=f"a number or a tensor of shape {list(shape)}", remedy="match the sizes of the circuit",
            ) from None  # fmt: skip

    def _parameter_shape(self, q: Param) -> tuple[int, ...]:
        return self.shape(q.per) if isinstance(q.per, tuple) else ()

    def state_shape(self, state: str, x: Tensor) -> tuple[int, ...]:
        """As declared in ``shapes``."""
        return self.shape(self.shapes[state])

    def step_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of x, of every state, of every parameter."""
        return (
            self.shape(self.shapes["x"]),
            *(self.shape(self.shapes[s]) for s in self.states),
            *(self._parameter_shape(q) for q in self.params.values()),
        )

    def check_input(self, x: Tensor) -> None:
        """The axes after batch and time are those of ``shapes["x"]``."""
        shape = self.shape(self.shapes["x"])
        if tuple(x.shape[2:]) != shape:
            raise InputError(
                f"{type(self).__name__}(x)", found=f"{list(x.shape)}",
                expected=f"[B, T, {', '.join(map(str, shape))}] ({', '.join(self.shapes['x'])})",
                remedy="put a synapse (e.g. nn.Linear) with so many outputs before it",
            )  # fmt: skip

    def extra_repr(self) -> str:
        """Sizes, choices and parameter values."""
        return ", ".join([*(f"{a}={n}" for a, n in self.sizes.items()), *self.describe()])
