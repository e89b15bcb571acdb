"""How a peer's net becomes a net of cells: part after part, and the table that says what became of what.

A peer's module keeps its own state and is stepped in a Python loop; ours is a cell, and a container of cells takes the
whole sequence. So a net is converted by converting its parts in their order. The modules of torch in it are taken over
as they are, with the same parameters: copy the old net first if both shall be trained.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from timecell.combine import Sequential
from timecell.errors import InputError
from timecell.neurons import Surrogate
from timecell.pretrained import PLAIN, plain_arguments

Units = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """A line of a migration table. Both sides are expressions that a test evaluates and compares.

    Attributes:
        theirs: how the peer writes it.
        ours: how we write it; None where we cannot, and converting it is refused.
        note: a convention to know, or why not.
    """

    theirs: str
    ours: str | None
    note: str = ""


@dataclass(frozen=True)
class Part:
    """A module of a peer on its way.

    Attributes:
        module: the peer's.
        place: where it is, for people.
        units: shape of its units, as far as the parts before tell; (1,) where they do not.
        surrogate: that of the user; None = the peer's own.
    """

    module: Any
    place: str
    units: Units = (1,)
    surrogate: Surrogate | None = None

    def of_units(self, *values: Tensor) -> Units:
        """The shape of the units, given parameters that may have one value a unit."""
        return tuple(torch.broadcast_shapes(self.units, *(v.shape for v in values)))

    def refuse(self, found: str, remedy: str) -> InputError:
        """The error for something that we cannot say."""
        return InputError(self.place, found=found, expected="something that timecell can say exactly", remedy=remedy)


Kinds = Mapping[str, Callable[[Part], nn.Module]]


def convert(part: Part, peer: str, kinds: Kinds) -> nn.Module:
    """The part as a module of ours.

    Args:
        part: a module of the peer, an `nn.Sequential` of such, or a module of torch.
        peer: package name of the peer.
        kinds: class name of a peer's module -> what makes ours of it.

    Raises:
        InputError: a part is of another kind, or has a convention that we cannot say; it names the part.
    """
    module = part.module
    ancestors = type(module).__mro__
    if module.__class__.__module__.split(".")[0] == peer and type(module).__name__ in kinds:
        return kinds[type(module).__name__](part)
    if isinstance(module, nn.Sequential):
        children, units = OrderedDict[str, nn.Module](), part.units
        for name, child in module.named_children():
            children[name] = convert(Part(child, f"{part.place}.{name}", units, part.surrogate), peer, kinds)
            units = _units_after(child, units)
        return Sequential(children)
    plain = next((c for c in ancestors if c in PLAIN), None)
    if plain is None:
        raise part.refuse(
            f"a {type(module).__name__}",
            f"convert its parts in their order: Sequential(net.fc1, from_{peer}(net.lif1), ...)",
        )
    return module if type(module) is plain else _as_plain(module, plain)


def _as_plain(module: nn.Module, plain: type[nn.Module]) -> nn.Module:
    """A peer's variant of a torch module as that module, with the same parameters and buffers."""
    twin = plain(**plain_arguments(module, plain))
    twin._parameters.update({name: module._parameters[name] for name in twin._parameters})
    twin._buffers.update({name: module._buffers[name] for name in twin._buffers})
    return twin


def _units_after(module: nn.Module, units: Units) -> Units:
    if isinstance(module, nn.Linear):
        return (module.out_features,)
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return (module.out_channels, *([1] * len(module.kernel_size)))
    return (1,) if isinstance(module, nn.Flatten | nn.Unflatten) else units


def tau_of(kept: Tensor) -> Tensor:
    """The time constant in steps that leaves this share of the membrane after one step of Euler: 1 / (1 - kept).

    Example:
        >>> round(tau_of(torch.tensor(0.75)).item(), 4)
        4.0
    """
    return (1 / (1 - kept.detach().double().clamp(0, 1))).to(torch.get_default_dtype())


def learnt(**parameters: Any) -> tuple[str, ...]:
    """The names whose values are trained in the peer's module."""
    return tuple(name for name, value in parameters.items() if isinstance(value, nn.Parameter) and value.requires_grad)
