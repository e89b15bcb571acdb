"""The layers of a net, as learning rules see them.

A rule that says more than "backpropagate" must know where the weights are. In a `Sequential` a layer is

    others  ->  synapse (nn.Linear or nn.Conv2d)  ->  others  ->  units (a Neuron, or Recurrent)

where others have no weights: norms, pooling, flatten, activations, dropout. The last layer may end with its synapse. For
any synapse blame of a weight is a product of two factors, what its output is blamed for and what came in; a convolution
is a linear synapse that sees patches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from timecell.cell import Cell, Neuron, Stepped
from timecell.combine import Recurrent, Sequential, as_cell, kind_of
from timecell.errors import InputError
from timecell.neurons.integrator import LeakyIntegrator
from timecell.state import StateTree

Synapse = nn.Linear | nn.Conv2d


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer of a net.

    Attributes:
        name: of its last module in the net, e.g. "1".
        before: modules in front of the synapse (or of the cell, where there is no synapse).
        synapse: the weights; None for a cell that takes its input as it is.
        after: modules between synapse and cell.
        cell: the units; None for a layer without time.
        readout: the cell that collects this layer's blame over time further up: the net's last one. None in the last layer.
    """

    name: str
    before: tuple[nn.Module, ...] = ()
    synapse: Synapse | None = None
    after: tuple[nn.Module, ...] = ()
    cell: Neuron | Recurrent | None = None
    readout: Cell | None = None

    @property
    def neuron(self) -> Neuron | None:
        """The units of the cell."""
        return self.cell.neuron if isinstance(self.cell, Recurrent) else self.cell  # type: ignore[return-value]

    @property
    def back(self) -> nn.Linear | None:
        """The synapse from the units' last outputs to their inputs."""
        return self.cell.synapse if isinstance(self.cell, Recurrent) else None  # type: ignore[return-value]

    def respond(
        self, drive: Float[Tensor, "B t ..."], state: StateTree, lengths: Tensor | None
    ) -> tuple[Float[Tensor, "B t ..."], StateTree]:
        """Outputs from what the synapse sends, and the states of `after` and of the cell."""
        return through((*self.after, *([] if self.cell is None else [self.cell])), drive, state, lengths)

    def parameters(self, modules: tuple[nn.Module | None, ...]) -> list[nn.Parameter]:
        """The trainable parameters of some of its modules, without those of synapses."""
        weights = {id(p) for s in (self.synapse, self.back) if s is not None for p in s.parameters()}
        found = [p for m in modules if m is not None for p in m.parameters() if p.requires_grad]
        return [p for p in found if id(p) not in weights]


def through(
    modules: tuple[nn.Module, ...], x: Float[Tensor, "B t ..."], states: StateTree, lengths: Tensor | None
) -> tuple[Tensor, StateTree]:
    """Modules one after the other, and the states they leave; None for states begins anew."""
    left = []
    for module, state in zip(modules, states or [None] * len(modules)):
        x, state = as_cell(module)(x, state, lengths=lengths)
        left.append(state)
    return x, tuple(left)


def layers_of(net: nn.Module) -> tuple[Layer, ...]:
    """The layers of a `Sequential` (of Sequentials), from the input up.

    Raises:
        InputError: for a net of another structure, naming the module.

    Example:
        >>> from timecell import LIF, LeakyIntegrator
        >>> net = Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), LIF(8), nn.Linear(8, 2), LeakyIntegrator(2))
        >>> [(layer.name, type(layer.cell).__name__) for layer in layers_of(net)]
        [('2', 'LIF'), ('4', 'LeakyIntegrator')]
    """
    found: list[Layer] = []
    now = Layer("")
    for name, module in _flat(bare(net), ""):
        if isinstance(module, Neuron | Recurrent):
            _check_recurrent(name, module, now)
            found.append(replace(now, name=name, cell=module))
            now = Layer("")
        elif kind_of(module) in (nn.Linear, nn.Conv2d):
            _check_convolution(name, module)
            if now.synapse is not None:
                found.append(now)
                now = Layer("")
            now = replace(now, name=name, synapse=module)  # type: ignore[arg-type]
        elif _has_weights_or_units(module):
            raise InputError(
                f"net[{name}]", found=type(module).__name__, expected="nn.Linear, nn.Conv2d, neurons, Recurrent, and "
                "modules without weights: this credit rule blames each weight by itself and must know where it is",
                remedy="use credit.BPTT, TruncatedBPTT or SLTT, which take any net",
            )  # fmt: skip
        elif now.synapse is None:
            now = replace(now, name=name, before=(*now.before, module))
        else:
            now = replace(now, name=name, after=(*now.after, module))
    if now.name:
        found.append(now)
    return (*(replace(layer, readout=found[-1].cell) for layer in found[:-1]), found[-1])


def bare(net: nn.Module) -> nn.Module:
    """The net itself, where training has wrapped it (Lightning Fabric)."""
    return net.module if hasattr(net, "_forward_module") else net  # type: ignore[return-value]


def _flat(net: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    if not isinstance(net, Sequential) or type(net).forward is not Sequential.forward:
        raise InputError(
            f"net[{prefix}]" if prefix else "net", found=type(net).__name__,
            expected="a timecell.Sequential: this credit rule goes from layer to layer",
            remedy="write the net as one Sequential, or use credit.BPTT, TruncatedBPTT or SLTT, which take any net",
        )  # fmt: skip
    for name, module in net.named_children():
        path = f"{prefix}.{name}" if prefix else name
        if isinstance(module, Sequential):
            yield from _flat(module, path)
        else:
            yield path, module


def _has_weights_or_units(module: nn.Module) -> bool:
    return any(p.ndim > 1 for p in module.parameters()) or any(isinstance(m, Stepped) for m in module.modules())


def _check_recurrent(name: str, cell: Neuron | Recurrent, so_far: Layer) -> None:
    if not isinstance(cell, Recurrent):
        return
    if kind_of(cell.synapse) is not nn.Linear:
        raise InputError(
            f"net[{name}].synapse", found=type(cell.synapse).__name__, expected="nn.Linear", remedy="use nn.Linear"
        )
    if so_far.after or isinstance(so_far.synapse, nn.Conv2d):
        raise InputError(
            f"net[{name}]", found=f"Recurrent behind {type((so_far.synapse, *so_far.after)[-1]).__name__}",
            expected="nn.Linear directly in front of recurrent units, so that both synapses meet in them",
            remedy="put other modules in front of that nn.Linear",
        )  # fmt: skip


def _check_convolution(name: str, module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d) and (
        module.groups != 1 or module.padding_mode != "zeros" or isinstance(module.padding, str)
    ):
        raise InputError(
            f"net[{name}]", found=str(module), expected="groups=1, zeros around the image, padding given in numbers",
            remedy="write padding=(k - 1) // 2 in place of 'same'; or use credit.BPTT or SLTT",
        )  # fmt: skip


# --- a synapse as a matrix ---------------------------------------------------------------------------------------


def patches(synapse: Synapse, x: Float[Tensor, "B t ..."]) -> Float[Tensor, "B t ... in"]:
    """What each output of a synapse sees: x itself, or the image patches [B, t, positions, in] of a convolution."""
    if not isinstance(synapse, nn.Conv2d):
        return x
    seen = nn.functional.unfold(
        x.flatten(0, 1), synapse.kernel_size, synapse.dilation, synapse.padding, synapse.stride  # type: ignore[arg-type]
    )  # fmt: skip
    return seen.transpose(1, 2).unflatten(0, x.shape[:2])


def channels_last(synapse: Synapse | None, y: Tensor, axis: int = 2) -> Tensor:
    """Outputs of a convolution [.., C, H, W, ..] as [.., positions, C, ..], C at `axis`; others as they are."""
    return y.flatten(axis + 1, axis + 2).transpose(axis, axis + 1) if isinstance(synapse, nn.Conv2d) else y


def leak(cell: Neuron | Recurrent | None) -> float:
    """The share of a unit's memory that is left after one step without input, measured; 0 for a layer without time.

    Raises:
        InputError: the units have several memories or leaks, or a memory that does not fade by a constant share.

    Example:
        >>> from timecell import LIF
        >>> round(leak(LIF(3, tau=4.0)), 6)
        0.75
    """
    if cell is None:
        return 0.0
    if isinstance(cell, Recurrent):
        return leak(cell.neuron)  # type: ignore[arg-type]
    shares = _shares(cell) if len(cell.states) == 1 else torch.tensor([torch.nan])
    if bool((shares - shares[0]).abs().max() < 1e-6):
        return float(shares[0])
    raise InputError(
        "leak", found=f"{type(cell).__name__} with the memories {list(cell.states)}",
        expected="units with one memory that fades by one share a step, the same for the whole layer, so that one trace "
        "an input will do",
        remedy="give the share yourself, Rule(PresynapticTrace(decay=0.9)); or use EProp, whose hidden units may be any",
    )  # fmt: skip


def _shares(cell: Neuron) -> Tensor:
    """What one step leaves of two small deviations from rest, for each unit."""
    quiet = torch.zeros(cell.size, dtype=torch.float64)
    rest = quiet + cell.rest.get(cell.states[0], 0.0)
    values = [getattr(cell, name).detach().to(quiet).expand(cell.size) for name in cell.params]
    still, *moved = (cell.instant.function(quiet, rest + d, *values)[1] for d in (0.0, 2.0**-10, 2.0**-9))
    return torch.cat([(m - still).flatten() * s for m, s in zip(moved, (2.0**10, 2.0**9))])


def readout_leak(layer: Layer) -> float:
    """The share of a layer's blame that a leaky readout above it keeps for the next step; 0 for any other readout."""
    return leak(layer.readout) if isinstance(layer.readout, LeakyIntegrator) else 0.0


def ones(x: Float[Tensor, "B t ..."]) -> Float[Tensor, "B t 1"]:
    """What comes in to a bias."""
    return torch.ones(*x.shape[:2], 1, dtype=x.dtype, device=x.device)


def per_sample(mask: Bool[Tensor, "B"], value: Float[Tensor, "B ..."]) -> Bool[Tensor, "B ..."]:
    """A truth value a sample, in the shape of something that each sample has."""
    return mask.view(-1, *[1] * (value.ndim - 1))
