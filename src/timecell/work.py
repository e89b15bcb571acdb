"""What a layer's work is: the one place with the rules by which operations are counted.

1. A value that is zero costs nothing. Any other meets one weight for each output that it reaches: its *fan-out*. In a
   dense or delayed layer that is the number of outputs; in a convolution it is exact at the borders (stride, dilation,
   groups and padding as they are; zeros that pad cost nothing).
2. Where every value that enters a layer, over the whole run, is 0 or 1, these are spikes: nothing is multiplied, and each
   operation is an accumulate (AC). Otherwise the input is analogue (a count of several spikes, too), and each operation
   is a multiply-accumulate (MAC).
3. torch's recurrent layers are analogue inside: every weight at every step, as MACs.
4. The update of one unit for one step is counted apart. Biases, normalisation, pooling, residual sums and delays are
   not counted.
5. Steps after a sample's end do not exist.

Rules 1 and 2 are the usual synaptic operations: spikes that enter a layer times its fan-out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

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
            tally.analogue |= isinstance(module, RECURRENT) or not bool(((x == 0) | (x == 1)).all())
        else:
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
    if isinstance(module, RECURRENT):
        return x[..., 0].to(torch.float64).fill_(sum(p.numel() for p in module.parameters() if p.ndim == 2))
    if isinstance(module, CONVOLUTIONS):
        # All output channels of a group do the same work: one channel of ones for each group counts it.
        ones = torch.ones_like(module.weight[: module.groups], dtype=torch.float32)
        met = module._conv_forward((x != 0).float(), ones, None)
        return met.flatten(1).sum(1, dtype=torch.float64) * (module.out_channels // module.groups)
    outputs = dense_outputs(module)
    return None if outputs is None else (x != 0).sum(-1).double() * outputs


def dense_outputs(module: nn.Module) -> int | None:
    """O of a layer with one weight for each pair of I inputs and O outputs: `nn.Linear`, `Delayed` and their like.

    Example:
        >>> dense_outputs(nn.Linear(3, 10)), dense_outputs(nn.ReLU())
        (10, None)
    """
    if isinstance(module, nn.Linear):
        return module.out_features
    inputs, outputs, weight = (getattr(module, name, None) for name in ("inputs", "outputs", "weight"))
    fits = isinstance(weight, Tensor) and tuple(weight.shape) == (outputs, inputs)
    return outputs if fits and not any(module.children()) else None  # what holds others does more than this


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
    return tuple(
        path
        for path, module in net.named_modules()
        if any(
            p.ndim > 1 and id(p) not in known and getattr(module, "roles", {}).get(name, "weight") == "weight"
            for name, p in module.named_parameters(recurse=False)
        )
        or any(getattr(declared, "role", None) == "weight" for declared in getattr(module, "params", {}).values())
    )


def has_rule(module: nn.Module) -> bool:
    """True if rule 1 or 3 is about this module."""
    return isinstance(module, (*CONVOLUTIONS, *RECURRENT)) or dense_outputs(module) is not None


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
