"""How much work a net does on some data, layer by layer, and what it would cost in energy.

The rules by which operations are counted stand in `timecell.work`. Operations are the measurement; picojoules are
operations times a table of prices, which you may replace. The table here is of arithmetic alone, in 45 nm silicon
(Horowitz, "Computing's energy problem", ISSCC 2014): fetching a weight costs more than using it (a 64-bit read 10 pJ
from 8 KB of SRAM, 20 from 32 KB, 100 from 1 MB, about 2,000 from DRAM), and no such read is in the sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.data.containers import Batch
from timecell.errors import InputError
from timecell.watch import undisturbed, watched
from timecell.work import Meter, Work, uncounted


@dataclass(frozen=True)
class Prices:
    """Picojoules of one operation.

    Attributes:
        mac: of a multiply-accumulate.
        ac: of an accumulate.
        update: of the update of one unit for one step; no published table has it. A LIF unit's is about one MAC, for
            the leak, and two additions, for comparison and reset.
    """

    mac: float
    ac: float
    update: float = 0.0


PRICES: Mapping[str, Prices] = MappingProxyType(
    {
        "float32, 45 nm": Prices(mac=3.7 + 0.9, ac=0.9),
        "int8, 45 nm": Prices(mac=0.2 + 0.03, ac=0.03),
    }
)
"""Horowitz (2014): a multiplication and an addition; an addition."""


@dataclass(frozen=True)
class Operations:
    """What every layer did.

    Attributes:
        layers: one `Work` a layer that was called, with numbers for each sample.
        uncounted: layers whose weights no rule covers, or whose calls cannot be told apart; their work is in no sum.
    """

    layers: tuple[Work, ...]
    uncounted: tuple[str, ...]

    @property
    def macs(self) -> float:
        """Multiply-accumulates of a sample, on average, in all counted layers."""
        return self._mean([work.macs for work in self.layers])

    @property
    def acs(self) -> float:
        """Accumulates of a sample, on average, in all counted layers."""
        return self._mean([work.acs for work in self.layers])

    @property
    def updates(self) -> float:
        """Unit updates of a sample, on average."""
        return self._mean([work.updates for work in self.layers])

    def picojoules(self, prices: Prices = PRICES["float32, 45 nm"]) -> float:
        """Energy of a sample's arithmetic, on average.

        Raises:
            InputError: there are layers that are not counted.
        """
        if self.uncounted:
            raise InputError(
                "operations.uncounted", found=f"layers without a rule: {', '.join(self.uncounted)}",
                expected="a rule for every layer with weights", remedy="price the counted layers one by one",
            )  # fmt: skip
        return self.macs * prices.mac + self.acs * prices.ac + self.updates * prices.update

    def to_dict(self) -> dict[str, Any]:
        """JSON values, means over samples."""
        layers = [
            {"path": w.path, "kind": w.kind}
            | {name: getattr(w, name).mean().item() for name in ("macs", "acs", "updates")}
            for w in self.layers
        ]
        totals = {"macs": self.macs, "acs": self.acs, "updates": self.updates}
        return {"layers": layers, "uncounted": list(self.uncounted), "total": totals}

    @staticmethod
    def _mean(amounts: list[Float[Tensor, "B"]]) -> float:
        return torch.stack(amounts).sum(0).mean().item() if amounts else 0.0


def operations(net: nn.Module, batch: Batch) -> Operations:
    """Operations of every layer for every sample of a batch, over all of its steps; the net runs in eval mode.

    Args:
        net: ``net(x, lengths=lengths) -> (y, state)``.
        batch: some samples.

    Raises:
        InputError: the batch is empty.

    Example:
        >>> from timecell.combine import Sequential
        >>> x = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
        >>> done = operations(Sequential(nn.Linear(2, 10), nn.Linear(10, 5)), Batch(x))
        >>> [(work.acs.tolist(), work.macs.tolist()) for work in done.layers]
        [([30.0], [0.0]), ([0.0], [100.0])]
        >>> round(done.picojoules())
        487
    """
    if not len(batch):
        raise InputError("batch", found="no samples", expected="at least one", remedy="pass some samples")
    meter, order = Meter(), []
    with undisturbed(net), torch.no_grad(), watched(net, meter.note):
        net.eval()
        for steps, rows in _by_length(batch):  # so that no padding is there to be counted
            if steps:
                net(batch.x[rows, :steps], lengths=None)
            meter.close(len(rows), steps)
            order.append(rows)
    back = torch.cat(order).argsort().cpu()
    layers = (Work(w.path, w.kind, w.macs[back], w.acs[back], w.updates[back]) for w in meter.works())
    return Operations(tuple(layers), tuple(sorted({*uncounted(net), *meter.lost})))


def _by_length(batch: Batch) -> Iterator[tuple[int, Int[Tensor, "b"]]]:
    """The samples of each length there is."""
    lengths = torch.full((len(batch),), batch.x.shape[1]) if batch.lengths is None else batch.lengths
    for steps in lengths.unique().tolist():
        yield steps, (lengths == steps).nonzero().flatten()


def synaptic_operations(net: nn.Module, batch: Batch) -> float | None:
    """Mean number of operations of a sample, over all of its steps: accumulates and multiply-accumulates together.

    Args:
        net: ``net(x, lengths=lengths) -> (y, state)``.
        batch: some samples.

    Returns:
        None if the net has weights that no rule covers, since the sum would leave them out.

    Example:
        >>> from timecell.combine import Sequential
        >>> x = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
        >>> synaptic_operations(Sequential(nn.Linear(2, 10)), Batch(x))
        30.0
    """
    done = operations(net, batch)
    return None if done.uncounted else done.macs + done.acs
