"""What every module of a net is given and returns while the net runs.

Summaries, counts of operations and diagnoses all look at a net from outside, through forward hooks, whatever it is made
of. A module that returns (y, state) sees time: y is [B, T, ...]. Any other is a function of one instant, and containers
hand it the instants in one of several forms; `over_time` finds the way back to [B, T, ...].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor, nn

from timecell.state import flatten

Note = Callable[[str, nn.Module, Tensor, Any], None]
"""``note(path, module, x, output)``: called after every call of a module."""


@contextmanager
def watched(net: nn.Module, *notes: Note) -> Iterator[None]:
    """Inside, every call of every module of the net is noted, in the order in which the calls end.

    A call with no sample at all is left out: that is how a loop asks for the shape of an output.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> with watched(net, lambda path, module, x, output: print(repr(path), tuple(output.shape))):
        ...     _ = net(torch.ones(1, 2))
        '0' (1, 3)
        '1' (1, 3)
        '' (1, 3)
    """

    def hook(path: str) -> Any:
        def after(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            x = arguments[0] if arguments else next(iter(named.values()), None)
            if isinstance(x, Tensor) and x.ndim and len(x):
                for note in notes:
                    note(path, module, x, output)

        return after

    hooks = [m.register_forward_hook(hook(path), with_kwargs=True) for path, m in net.named_modules()]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


@contextmanager
def undisturbed(net: nn.Module) -> Iterator[None]:
    """Whatever is run inside: afterwards modes, buffers and torch's random state are what they were before.

    Example:
        >>> norm = nn.BatchNorm1d(1)
        >>> with undisturbed(norm):
        ...     _ = norm.train()(torch.rand(9, 1))
        >>> norm.running_mean.item(), norm.training
        (0.0, True)
    """
    modes = [(module, module.training) for module in net.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in net.buffers()]
    cuda = {t.device for t in (*net.parameters(), *net.buffers()) if t.is_cuda}
    try:
        with torch.random.fork_rng(devices=sorted(cuda, key=str)):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


@dataclass
class Signal:
    """What one module was given and returned, call by call; tensors stay attached to the graph.

    Attributes:
        module: the module.
        inputs: the first argument of each call.
        outputs: what each call returned, without the state.
        sees_time: it returns (y, state).
        state: the last state it returned; None where it returns none.
    """

    module: nn.Module
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    sees_time: bool = False
    state: Any = None


class Signals(dict[str, Signal]):
    """Path -> `Signal`, in the order in which the modules were first done; its `note` is for `watched`."""

    def note(self, path: str, module: nn.Module, x: Tensor, output: Any) -> None:
        """Keep one call; what returns no tensor is left out."""
        y, state = output if isinstance(output, tuple) and len(output) == 2 else (output, None)
        if isinstance(y, Tensor):
            signal = self.setdefault(path, Signal(module))
            signal.inputs.append(x)
            signal.outputs.append(y)
            signal.sees_time, signal.state = isinstance(output, tuple), state


def own_state(module: nn.Module, signal: Signal) -> dict[str, Tensor]:
    """What a module itself remembers, by name; what its children remember is theirs.

    Example:
        >>> own_state(nn.Identity(), Signal(nn.Identity(), state={"child": {"v": torch.ones(1)}, "y": torch.zeros(2)}))
        {'y': tensor([0., 0.])}
    """
    state = signal.state
    if isinstance(module, nn.RNNBase):  # what it returns is kept by the cell around it
        return {}
    if isinstance(state, Mapping):
        return {name: part for name, part in state.items() if isinstance(part, Tensor)}
    if isinstance(state, tuple) and not hasattr(state, "_fields"):
        return {str(i): part for i, part in enumerate(state) if isinstance(part, Tensor)}
    return {name or "state": tensor for name, tensor in flatten(state).items()}


def over_time(
    parts: Sequence[Shaped[Tensor, "..."]],
    sees_time: bool,
    batch: int,
    steps: int,
    lengths: Int[Tensor, "B"] | None = None,
) -> Shaped[Tensor, "B T ..."] | None:
    """The course [B, T, ...] of what a module was given or returned, in whichever form its container handed it out.

    The forms: everything at once, [B, T, ...]; the instants, [B*T, ...]; one instant a call, T times; and the last two
    with the instants that exist alone, filled up with zeros here. Inner ticks make T longer. Of a module that is called
    more than once otherwise, the last call.

    Returns:
        None if the parts have another form.

    Example:
        >>> over_time([torch.arange(6.0)], False, batch=2, steps=3).tolist()
        [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
        >>> over_time([torch.ones(2), torch.zeros(2)], False, batch=2, steps=2).tolist()
        [[1.0, 0.0], [1.0, 0.0]]
        >>> over_time([torch.ones(2), torch.ones(1)], False, batch=2, steps=2, lengths=torch.tensor([1, 2])).tolist()
        [[1.0, 0.0], [1.0, 1.0]]
    """
    if one_instant_a_call(parts, sees_time, batch, steps):
        return torch.cat(list(parts), 1) if sees_time else torch.stack(list(parts), 1)
    last = parts[-1]
    if last.shape[:1] == (batch,) and (sees_time or (len(parts) == 1 and last.shape[:2] == (batch, steps))):
        return last
    if lengths is not None:
        return _scattered(parts, alive(batch, steps, lengths).to(last.device))
    whole = last.ndim > 0 and last.shape[0] % batch == 0 and (last.shape[0] > batch or steps == 1)
    return last.unflatten(0, (batch, last.shape[0] // batch)) if whole else None


def one_instant_a_call(parts: Sequence[Tensor], sees_time: bool, batch: int, steps: int) -> bool:
    """True for what a Python loop over time hands out: T calls with [B, ...], or with [B, 1, ...] for what sees time."""
    form = (batch, 1) if sees_time else (batch,)
    return len(parts) == steps > 1 and all(p.shape[: len(form)] == form for p in parts)


def _scattered(parts: Sequence[Tensor], here: Bool[Tensor, "B T"]) -> Tensor | None:
    """The instants that exist, handed out at once or step by step, in their places."""
    counts = [int(n) for n in here.sum(0) if n]
    by_step = len(parts) == len(counts) and [len(p) for p in parts] == counts
    if not by_step and len(parts[-1]) not in (sum(counts), here.numel()):
        return None
    if not by_step and len(parts[-1]) == here.numel():
        return parts[-1].unflatten(0, here.shape)
    course = parts[-1].new_zeros(*here.shape, *parts[-1].shape[1:])
    if by_step:
        course.transpose(0, 1)[here.T] = torch.cat(list(parts))
    else:
        course[here] = parts[-1]
    return course


def alive(batch: int, steps: int, lengths: Int[Tensor, "B"] | None) -> Bool[Tensor, "B T"]:
    """True where a step belongs to the sample, False where it is padding.

    Example:
        >>> alive(2, 2, torch.tensor([1, 2])).tolist()
        [[True, False], [True, True]]
    """
    if lengths is None:
        return torch.ones(batch, steps, dtype=torch.bool)
    return torch.arange(steps, device=lengths.device) < lengths[:, None]
