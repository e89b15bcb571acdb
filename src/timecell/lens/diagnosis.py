"""Diagnosis: what keeps a net from working or from learning, with the number that says so and what to do about it.

    print(tc.lens.diagnose(net, batch, task.loss))

One run shows which units are silent or always on, which states grow, how blame fades or grows on its way back in time
and down the layers, whether a surrogate's slope fits the membrane it is for, and where the first number that is not
finite arose. The limits beyond which any of this counts as an illness stand in `Limits`.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from timecell.credit.rule import Loss
from timecell.data.containers import Batch
from timecell.errors import InputError
from timecell.lens import illnesses
from timecell.lens.illnesses import LIMITS, Finding, Limits
from timecell.lens.observation import observe
from timecell.lens.vitals import Health, fade, vital_signs

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What `diagnose` found; prints as a table of layers and a list of findings.

    Attributes:
        findings: the illnesses; none for a healthy net.
        layers: vital signs; none if a number was not finite.
        loss: of the batch; None where none was asked for or it is not finite.
    """

    findings: tuple[Finding, ...]
    layers: tuple[Health, ...]
    loss: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def table(self) -> Table:
        """The layers as a rich table."""
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        heads = ("layer", "spikes/step", "silent", "saturated", "gradient", "far/near")
        for number, head in enumerate(heads):
            table.add_column(head, justify="right" if number else "left", no_wrap=True)
        for h in self.layers:
            shares = ["" if s is None else f"{s:.0%}" for s in (h.silent, h.saturated)]
            numbers = ["" if n is None else f"{n:.3g}" for n in (h.rate, h.gradient, fade(h.blame))]
            table.add_row(escape(f"{h.path} {h.kind}".strip()), numbers[0], *shares, *numbers[1:])
        return table

    def __str__(self) -> str:
        from rich.console import Console

        text = io.StringIO()
        if self.layers:
            Console(file=text, width=120, color_system=None, highlight=False).print(self.table())
        lines = [line.rstrip() for line in text.getvalue().splitlines()]
        for f in self.findings:
            lines += ["", f"{f.illness}: {f.place}", f"  {f.message}", f"  Remedy: {f.remedy}."]
        return "\n".join(lines if self.findings else [*lines, "", "Nothing is wrong that this can see."]).strip("\n")

    __repr__ = __str__


def diagnose(net: nn.Module, batch: Batch, loss: Loss | None = None, limits: Limits = LIMITS) -> Diagnosis:
    """Run a net once on a batch and say what is wrong with it. The net is left as it was.

    It runs in the mode it is in: a net in training mode is looked at as it is trained, one in eval mode as it is used.

    Args:
        net: ``net(x, state, lengths=lengths) -> (y, state)``.
        batch: some samples like the data; with targets if there is a loss. About 64 are enough.
        loss: ``loss(y, batch, steps)``, for example ``task.loss``. Without it nothing is said about gradients.
        limits: where an illness begins.

    Raises:
        InputError: the batch has no samples or no steps.

    Example:
        >>> from timecell import LIF, Sequential
        >>> deaf = Sequential(nn.Linear(3, 4), LIF(4, threshold=100.0))
        >>> [finding.illness for finding in diagnose(deaf, Batch(torch.rand(2, 20, 3))).findings]
        ['dead layer', 'surrogate too narrow']
    """
    if 0 in batch.x.shape[:2] or (batch.lengths is not None and not batch.lengths.any()):
        raise InputError(
            "batch.x", found=f"shape {list(batch.x.shape)}", expected="at least one sample of one step",
            remedy="pass some samples",
        )  # fmt: skip
    if not bool(torch.isfinite(batch.x).all()):
        return Diagnosis((illnesses.bad_input(batch),), (), None)
    seen = observe(net, batch, loss)
    broken = illnesses.not_finite(seen)
    if broken is not None:
        return Diagnosis((broken,), (), None)
    signs = {layer.path: vital_signs(layer, seen, limits.always) for layer in seen.layers}
    findings = [
        finding
        for layer in seen.layers
        for finding in (
            *illnesses.activity(layer, signs[layer.path], limits),
            *illnesses.states(layer, seen, limits),
            *illnesses.surrogate_fit(layer, seen, limits),
        )
    ]
    if seen.loss is not None:
        findings += [*illnesses.through_time(seen, signs, limits), *illnesses.through_depth(seen, signs, limits)]
    return Diagnosis(tuple(findings), tuple(signs.values()), seen.loss)
