"""What a layer's work is: the one place with the rules by which operations are counted.

1. A value that is zero costs nothing. Any other meets one weight for each output that it reaches: its *fan-out*. In a
   dense or delayed layer that is the number of outputs; in a convolution it is exact at the borders (stride, dilation,
   groups and padding as they are; zeros that pad cost nothing). Time has no border at its end: in a causal convolution
   the fan-out is outputs times taps, as a value goes on to what comes later.
2. Where every value that enters a layer, over the whole run, is 0 or 1, these are spikes: nothing is multiplied, and each
   operation is an accumulate (AC). Otherwise the input is analogue (a count of several spikes, too), and each operation
   is a multiply-accumulate (MAC).
3. What is recurrent inside is analogue inside, at every step: in torch's recurrent layers and in reservoirs each weight
   is one MAC, in a circuit (units that mix within an instant) each product that is summed.
4. The update of one unit for one step is counted apart. Biases, normalisation, pooling, residual sums and delays are
   not counted.
5. Steps after a sample's end do not exist.

Rules 1 and 2 are the usual synaptic operations: spikes that enter a layer times its fan-out.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from timecell.errors import TraceError
from timecell.fuse.trace import Step, trace
from timecell.watch import one_instant_a_call, over_time

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
NORMS = (nn.LayerNorm, nn.RMSNorm)


@dataclass(frozen=True, eq=False)
class Work:
    """Operations of one layer for each of B samples, over all of their steps.

    Attributes:
        path: of the layer in the net.
        kind: its class.
        macs: multiply-accumulates.
        acs: accumulates.
        updates: updates of units.
    """

    path: str
    kind: str
    macs: Float[Tensor, "B"]
    acs: Float[Tensor, "B"]
    updates: Float[Tensor, "B"]


@dataclass
class _Tally:
    kind: str
    sees_time: bool
    analogue: bool = False
    calls: list[Tensor] = field(default_factory=list)  # of the run that is not closed yet
    updates: list[Tensor] = field(default_factory=list)
    samples: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # operations and updates, run by run


class Meter:
    """Counts while a net runs: hand its `note` to `timecell.watch.watched`, `close` every run, ask for `works`.

    Attributes:
        lost: paths of layers whose calls could not be told apart by sample.

    Example:
        >>> from timecell.watch import watched
        >>> layer, meter = nn.Linear(3, 10), Meter()
        >>> with watched(layer, meter.note):
        ...     _ = layer(torch.tensor([[[1.0, 0.0, 1.0]], [[0.0, 0.0, 0.0]]]))
        >>> meter.close(batch=2, steps=1)
        >>> meter.works()[0].acs.tolist()
        [20.0, 0.0]
    """

    def __init__(self) -> None:
        self.lost: set[str] = set()
        self._tallies: dict[str, _Tally] = {}
        self._closed: list[int] = []  # samples of each run

    def note(self, path: str, module: nn.Module, x: Tensor, output: Any) -> None:
        """One call of a module."""
        operations, stepped = fan_out(module, x.detach()), is_stepped(module)
        if operations is None and not stepped:
            return
        tally = self._tallies.setdefault(path, _Tally(type(module).__name__, isinstance(output, tuple)))
        if operations is not None:
            tally.calls.append(operations)
            tally.analogue |= macs_a_step(module) is not None or not bool(((x == 0) | (x == 1)).all())
        if stepped:
            y = output[0]
            tally.updates.append(torch.full(y.shape[:2], y[0, 0].numel(), dtype=torch.float64, device=y.device))

    def close(self, batch: int, steps: int) -> None:
        """What was noted since the last time was one run of [B, T, ...], every sample with all of its steps."""
        for path, tally in self._tallies.items():
            tally.samples += [(torch.zeros(n), torch.zeros(n)) for n in self._closed[len(tally.samples) :]]
            sums = [_per_sample(parts, tally.sees_time, batch, steps) for parts in (tally.calls, tally.updates)]
            known = [torch.zeros(batch, dtype=torch.float64) if s is None else s for s in sums]
            self.lost |= {path} if any(s is None for s in sums) else set()
            tally.samples.append((known[0], known[1]))
            tally.calls, tally.updates = [], []
        self._closed.append(batch)

    def works(self) -> tuple[Work, ...]:
        """The work of every layer that was called, samples in the order of the runs."""
        found = []
        for path, tally in self._tallies.items():
            if path not in self.lost:
                operations, updates = (torch.cat(parts).double() for parts in zip(*tally.samples))
                nothing = torch.zeros_like(operations)
                macs, acs = (operations, nothing) if tally.analogue else (nothing, operations)
                found.append(Work(path, tally.kind, macs, acs, updates))
        return tuple(found)


def fan_out(module: nn.Module, x: Tensor) -> Tensor | None:
    """Operations of one call by rules 1 and 3, one number for each place of x without its unit axes.

    Returns:
        None if the module itself has no weights of a kind with a rule.
    """
    every_step = macs_a_step(module)
    if every_step is not None:
        places = x.shape[:2] if is_stepped(module) else x.shape[:-1]
        return torch.full(places, every_step, dtype=torch.float64, device=x.device)
    if isinstance(module, CONVOLUTIONS):
        # All output channels of a group do the same work: one channel of ones for each group counts it.
        ones = torch.ones_like(module.weight[: module.groups], dtype=torch.float32)
        met = module._conv_forward((x != 0).float(), ones, None)
        return met.flatten(1).sum(1, dtype=torch.float64) * (module.out_channels // module.groups)
    weights = dense_fan_out(module)
    return None if weights is None else (x != 0).sum(-1).double() * weights


def dense_fan_out(module: nn.Module) -> int | None:
    """How many weights an input meets in a layer that has some for each pair of inputs and outputs.

    That is O, in `nn.Linear` and `Delayed`, or O times the taps, in `CausalConv`; and in their like.

    Example:
        >>> dense_fan_out(nn.Linear(3, 10)), dense_fan_out(nn.ReLU())
        (10, None)
    """
    if isinstance(module, nn.Linear):
        return module.out_features
    inputs, outputs, weight = (getattr(module, name, None) for name in ("inputs", "outputs", "weight"))
    if not isinstance(weight, Tensor) or any(module.children()):  # what holds others does more than this
        return None
    return weight[:, 0].numel() if weight.shape[:2] == (outputs, inputs) else None


def macs_a_step(module: nn.Module) -> int | None:
    """By rule 3; a cell of another kind has an attribute of this name.

    Example:
        >>> macs_a_step(nn.GRU(4, 3)), macs_a_step(nn.Linear(4, 3))
        (63, None)
    """
    if isinstance(module, RECURRENT):
        return sum(p.numel() for p in module.parameters() if p.ndim == 2)
    step = getattr(module, "instant", None)
    return _summed_products(step) if isinstance(step, Step) else getattr(module, "macs_a_step", None)


_known_products: dict[Hashable, int | None] = {}


def _summed_products(step: Step) -> int | None:
    """Products that are summed in an instant; None where units are independent, or the engine cannot look inside."""
    if step.shapes is None:
        return None
    if step.key not in _known_products:
        try:
            sums = [n.args[0] for n in trace(step, torch.float32).nodes if n.target is torch.ops.aten.sum.dim_IntList]
            products = [n for n in sums if n.target is torch.ops.aten.mul.Tensor]
            _known_products[step.key] = sum(n.meta["val"].numel() for n in products)
        except TraceError:
            _known_products[step.key] = None
    return _known_products[step.key]


def is_stepped(module: nn.Module) -> bool:
    """True for units that are written as one instant: `timecell.Neuron` and its like."""
    return hasattr(module, "dynamics") and hasattr(module, "states")


def uncounted(net: nn.Module) -> tuple[str, ...]:
    """Paths of the modules whose weights no rule covers; a sum over the net would leave their work out.

    Example:
        >>> uncounted(nn.Sequential(nn.Linear(2, 2), nn.Bilinear(2, 2, 2)))
        ('1',)
    """
    known = {id(p) for m in net.modules() if has_rule(m) or isinstance(m, NORMS) for p in m.parameters()}
    return tuple(path for path, module in net.named_modules() if not has_rule(module) and _has_weights(module, known))


def _has_weights(module: nn.Module, known: Collection[int]) -> bool:
    """Whether it has weights of its own beyond those in `known`, trained or declared."""
    roles = getattr(module, "roles", {})
    trained = (p for name, p in module.named_parameters(recurse=False) if roles.get(name, "weight") == "weight")
    declared = getattr(module, "params", {}).values()
    return any(p.ndim > 1 and id(p) not in known for p in trained) or any(
        getattr(parameter, "role", None) == "weight" for parameter in declared
    )


def has_rule(module: nn.Module) -> bool:
    """True if rule 1 or 3 is about this module."""
    return isinstance(module, CONVOLUTIONS) or macs_a_step(module) is not None or dense_fan_out(module) is not None


def _per_sample(parts: list[Tensor], sees_time: bool, batch: int, steps: int) -> Float[Tensor, "B"] | None:
    """Sum over calls, steps and places, by sample; None where samples cannot be told apart."""
    total = torch.zeros(batch, dtype=torch.float64)
    for run in [parts] if one_instant_a_call(parts, sees_time, batch, steps) else [[p] for p in parts]:
        course = over_time(run, sees_time, batch, steps)
        if course is None and run[-1].shape[:1] == (batch,):  # once a sample: a layer after pooling over time
            course = run[-1]
        if course is None:
            return None
        total += course.flatten(1).sum(1).cpu() if course.ndim > 1 else course.cpu()
    return total
