"""The contract of credit rules, as checks that run on every rule of timecell and on yours.

    from timecell.credit.checks import check
    check(Rule(PresynapticTrace(), LocalHead()))

Each check is a function whose first line of docstring is the promise; what a rule promises beyond that it says itself:
`exact` (the gradient of the loss), `local` (no blame comes down through other layers), and by its `slices` whether its
memory grows with time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from timecell.combine import Sequential
from timecell.credit.rule import Credit, Loss, run_slice
from timecell.data.containers import Batch
from timecell.errors import InputError
from timecell.neurons import LIF, LeakyIntegrator
from timecell.state import detach
from timecell.testing import Result, checked, walk

B, T, C, K = 4, 8, 3, 2
Check = Callable[[Credit], None]


def check(rule: Credit) -> list[Result]:
    """Run every check on a credit rule.

    Example:
        >>> from timecell.credit import TruncatedBPTT
        >>> all(r.passed for r in check(TruncatedBPTT(3)))
        True
    """
    return checked(CHECKS, lambda: rule, {})


def rules() -> Iterator[Credit]:
    """Every credit rule of timecell with its default values, found by importing all of `timecell.credit`.

    Example:
        >>> sorted(type(rule).__name__ for rule in rules())
        ['BPTT', 'EProp', 'OTTT', 'RTRL', 'SLTT', 'TESS', 'TruncatedBPTT']
    """
    for kind in walk(object, "timecell.credit"):
        complete = is_dataclass(kind) and all(f.default is not MISSING for f in fields(kind))
        if complete and hasattr(kind, "slices") and hasattr(kind, "backward"):
            yield kind()  # type: ignore[misc]


# --- what the checks run on ----------------------------------------------------------------------------------------


def example_net(hidden: int = 2, units: int = 6) -> Sequential:
    """`hidden` layers of spiking units and a leaky readout: inputs [B, T, 3], outputs [B, T, 2]; float64."""
    layers: list[nn.Module] = []
    for number in range(hidden):
        layers += [nn.Linear(units if number else C, units), LIF(units, tau=4.0, threshold=0.5, learn=("tau",))]
    return Sequential(*layers, nn.Linear(units, K), LeakyIntegrator(K, tau=4.0)).double()


def example_batch(steps: int = T, lengths: Tensor | None = None) -> Batch:
    """Two classes that drive different inputs; zero after the end of a sample."""
    target = torch.arange(B) % K
    x = torch.rand(B, steps, C, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.6
    x[torch.arange(B), :, target] += 0.6
    if lengths is not None:
        x = x * (torch.arange(steps) < lengths[:, None])[..., None]
    return Batch(x, target, lengths)


def every_step(y: Tensor, batch: Batch, steps: slice) -> Tensor:
    """The mean cross-entropy of every step of a sample; slices add up to the whole."""
    lengths = torch.full((len(batch),), batch.x.shape[1]) if batch.lengths is None else batch.lengths
    alive = torch.arange(steps.start, steps.stop) < lengths[:, None]
    each = nn.functional.cross_entropy(y.flatten(0, 1), batch.target.repeat_interleave(y.shape[1]), reduction="none")  # type: ignore[union-attr]
    return (each.view(y.shape[:2]) * alive / lengths[:, None]).sum(1).mean()


def gradients(rule: Credit, net: nn.Module, batch: Batch, loss: Loss = every_step) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch and what the rule makes of it: parameter name -> gradient (0 where there is none)."""
    net.zero_grad()
    total, state = torch.zeros((), dtype=torch.float64), None
    for steps in rule.slices(batch.x.shape[1]):
        part, state = rule.backward(net, batch, steps, state, loss)
        total, state = total + part, detach(state)
    return total, {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in net.named_parameters()}


def by_autograd(net: nn.Module, batch: Batch, loss: Loss = every_step) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch and its gradient, without any rule."""
    whole, named = slice(0, batch.x.shape[1]), dict(net.named_parameters())
    value = loss(run_slice(net, batch, whole, None)[0], batch, whole)
    found = torch.autograd.grad(value, list(named.values()), allow_unused=True, materialize_grads=True)
    return value.detach(), dict(zip(named, found))


def peak_bytes(rule: Credit, steps: int = T, hidden: int = 2) -> int:
    """The most bytes that tensors made by a rule take at any moment of one batch (the batch and the net excluded).

    Args:
        rule: the credit rule.
        steps: length of the sequences.
        hidden: hidden layers of the net.

    Example:
        >>> from timecell.credit import BPTT, SLTT
        >>> peak_bytes(SLTT(), 64) == peak_bytes(SLTT(), 16), peak_bytes(BPTT(), 64) > 3 * peak_bytes(BPTT(), 16)
        (True, True)
    """
    torch.manual_seed(0)
    return peak_bytes_of(rule, example_net(hidden), example_batch(steps))


def peak_bytes_of(rule: Credit, net: nn.Module, batch: Batch, loss: Loss = every_step) -> int:
    """As `peak_bytes`, for a net and a batch of one's own."""
    gradients(rule, net, batch, loss)  # the engine traces its steps at the first call; gradients have their memory now
    with _Living() as living:
        state = None
        for part in rule.slices(batch.x.shape[1]):
            _, state = rule.backward(net, batch, part, state, loss)
            state = detach(state)
    return living.peak


class _Living(TorchDispatchMode):
    """Adds up the storages that operations make, as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, tuple[Any, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from torch.multiprocessing.reductions import StorageWeakRef

        known = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **(kwargs or {}))
        self.alive = {k: (ref, size) for k, (ref, size) in self.alive.items() if not ref.expired()}
        for t in tree_leaves(out):
            if isinstance(t, Tensor) and t.untyped_storage()._cdata not in known:
                storage = t.untyped_storage()
                self.alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return out


def _same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float, remedy: str) -> None:
    for name, truth in expected.items():
        gap, scale = (found[name] - truth).abs().max().item(), max(1.0, truth.abs().max().item())
        if not gap <= tolerance * scale:
            raise InputError(
                f"gradient of {name}", found=f"a difference of {gap:.3g}",
                expected=f"at most {tolerance:g} (times {scale:.3g})", remedy=remedy,
            )  # fmt: skip


LENGTHS = torch.tensor([T, 3, 1, 5])


# --- the checks ----------------------------------------------------------------------------------------------------


def slices(rule: Credit) -> None:
    """Its slices visit every step once and in order."""
    for steps in (1, 2, 7, 64):
        found = [t for s in rule.slices(steps) for t in range(s.start, s.stop)]
        if found != list(range(steps)):
            raise InputError(
                f"slices({steps})", found=found, expected="0 to T - 1, each once", remedy="cut time into pieces"
            )


def loss(rule: Credit) -> None:
    """The losses of its slices add up to the loss of the net, whatever it does to gradients."""
    for lengths in (None, LENGTHS):
        net, batch = example_net(), example_batch(lengths=lengths)
        found, truth = gradients(rule, net, batch)[0], by_autograd(net, batch)[0]
        _same({"the loss": found}, {"the loss": truth}, 1e-10, "return the task's loss of every slice, unweighted")


def exact(rule: Credit) -> None:
    """If it says `exact`, its gradient is autograd's, for ragged batches too."""
    if getattr(rule, "exact", False):
        for lengths in (None, LENGTHS):
            net, batch = example_net(), example_batch(lengths=lengths)
            _same(gradients(rule, net, batch)[1], by_autograd(net, batch)[1], 1e-10, "or set exact = False")


def one_step(rule: Credit) -> None:
    """In one step there is no time to cross: unless it is `local`, its gradient is autograd's."""
    if not getattr(rule, "local", False):
        net, batch = example_net(), example_batch(1)
        _same(gradients(rule, net, batch)[1], by_autograd(net, batch)[1], 1e-10, "or set local = True")


def local(rule: Credit) -> None:
    """Only if it says `local`, a layer's gradient does not depend on the weights of hidden layers above it."""

    def fixed(y: Tensor, batch: Batch, steps: slice) -> Tensor:
        return (y * torch.linspace(-1, 1, K, dtype=y.dtype)).sum()  # its error does not depend on y

    net, batch = example_net(), example_batch()
    torch.manual_seed(1)
    before = gradients(rule, net, batch, fixed)[1]
    with torch.no_grad():
        net.get_parameter("2.weight").neg_()
    torch.manual_seed(1)
    after = gradients(rule, net, batch, fixed)[1]
    changed = not torch.equal(before["0.weight"], after["0.weight"])
    if changed == getattr(rule, "local", False):
        raise InputError(
            "gradient of 0.weight", found=f"{'another' if changed else 'the same'} one when the layer above changed",
            expected=f"the opposite, for a rule that says local = {not changed if changed else False}",
            remedy="declare local as the rule is",
        )  # fmt: skip


def adds(rule: Credit) -> None:
    """It adds to gradients, and changes nothing else in the net."""
    net, batch = example_net(), example_batch()
    before = {n: v.clone() for n, v in net.state_dict().items()}
    torch.manual_seed(1)
    once = gradients(rule, net, batch)[1]
    torch.manual_seed(1)
    state = None
    for steps in rule.slices(T):
        _, state = rule.backward(net, batch, steps, state, every_step)
        state = detach(state)
    twice = {n: p.grad / 2 for n, p in net.named_parameters() if p.grad is not None}
    _same({**once, **twice}, once, 1e-10, "add to p.grad; draw from torch's generator alone")
    _same(dict(net.state_dict()), before, 0.0, "leave updates to the optimiser")


def padding(rule: Credit) -> None:
    """What stands after a sample's end does not reach its gradient."""
    net, batch = example_net(), example_batch(lengths=LENGTHS)
    torch.manual_seed(1)
    clean = gradients(rule, net, batch)[1]
    after = (torch.arange(T) >= LENGTHS[:, None])[..., None]
    torch.manual_seed(1)
    dirty = gradients(rule, net, Batch(torch.where(after, 1e3, batch.x), batch.target, LENGTHS))[1]
    _same(dirty, clean, 0.0, "honour batch.lengths")


def memory(rule: Credit) -> None:
    """Memory does not grow with time if its slices do not."""
    longest = {steps: max(s.stop - s.start for s in rule.slices(steps)) for steps in (8, 32)}
    peaks = {steps: peak_bytes(rule, steps) for steps in longest}
    if longest[8] == longest[32] and peaks[32] > 1.5 * peaks[8]:  # a rule that draws steps may draw neighbours
        raise InputError(
            "bytes for 32 steps", found=peaks[32], expected=f"about the {peaks[8]} bytes of 8 steps",
            remedy="keep nothing of earlier slices but the state",
        )  # fmt: skip


def learns(rule: Credit) -> None:
    """It learns to tell two inputs apart, from three random starts, and hidden layers take part."""
    for seed in range(3):
        torch.manual_seed(seed)
        net, batch = example_net(hidden=1, units=8), example_batch()
        first = net.get_parameter("0.weight").detach().clone()
        start = by_autograd(net, batch)[0].item()
        optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
        for _ in range(8):
            gradients(rule, net, batch)
            optimizer.step()
        end = by_autograd(net, batch)[0].item()
        if not (math.isfinite(end) and end < 0.8 * start) or torch.equal(first, net.get_parameter("0.weight")):
            raise InputError(
                f"loss after 8 updates (seed {seed})", found=f"{end:.3f}", expected=f"less than 80 % of {start:.3f}",
                remedy="compare the sign of the rule's gradient with that of credit.BPTT",
            )  # fmt: skip


CHECKS: dict[str, Check] = {
    f.__name__: f for f in (slices, loss, exact, one_step, local, adds, padding, memory, learns)
}  # fmt: skip
