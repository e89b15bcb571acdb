"""Run a step over time: choose the grain, call the fused loop or the plain one, say which.

Three grains, printed by `explain`:

* **unit**: independent units, every operation pointwise; one fused loop over time, forward and adjoint;
* **row**: units mix within a sample (products, sums, softmax, a history); one fused loop too, over groups of samples;
* **plain**: a Python loop over the step itself. It is the reference for the others, serves what they do not have, and
  announces itself in one line.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from timecell.errors import InputError
from timecell.fuse import cache
from timecell.fuse.emit import NotPointwise
from timecell.fuse.graphs import name_of
from timecell.fuse.memory import stretch
from timecell.fuse.operator import NOTHING, Run
from timecell.fuse.plans import plan, plan_key
from timecell.fuse.setting import one_of, setting
from timecell.fuse.trace import Step, transforms_active

_backend: ContextVar[str] = ContextVar("backend", default="auto")
_carry: ContextVar[str] = ContextVar("carry", default="full")
_told: set[Any] = set()
_refused: dict[tuple[Any, torch.dtype, str], str] = {}


@contextmanager
def backend(name: Literal["auto", "fused", "plain"]) -> Iterator[None]:
    """Within this context, run loops fused, plain, or (the default) fused wherever the step allows.

    Example:
        >>> with backend("plain"):
        ...     pass
    """
    with setting(_backend, one_of("backend", name, "auto", "fused", "plain")):
        yield


@contextmanager
def carry(mode: Literal["full", "none"]) -> Iterator[None]:
    """Within this context, blame crosses time (``full``) or stays in its instant (``none``, as SLTT asks).

    It is read when a loop runs forward; outputs are the same in both modes.
    """
    with setting(_carry, one_of("carry", mode, "full", "none")):
        yield


def chosen_backend() -> str:
    """How loops run here: "auto", "fused" or "plain"; see `backend`."""
    return _backend.get()


def carrying() -> str:
    """How far blame travels here: "full" or "none"; see `carry`."""
    return _carry.get()


@torch.compiler.assume_constant_result
def _settings(steps: int) -> tuple[str, str, int]:
    return _backend.get(), _carry.get(), stretch(steps)


def run(
    step: Step,
    inputs: Sequence[Tensor],
    states: Sequence[Tensor],
    params: Sequence[Tensor],
    lengths: Tensor | None = None,
    record: Sequence[str] = (),
) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:
    """A step over all of time.

    Args:
        step: the instant.
        inputs: each [B, T, ...]; of one shape, or as `Step.shapes` says.
        states: each [B, ...], the state before the first step.
        params: each broadcastable to the unit shape ``...``, or as `Step.shapes` says.
        lengths: [B] steps of each sample; outputs after it are zero and the state stays.
        record: names of states whose whole course is wanted.

    Returns:
        (outputs [B, T, ...], last states [B, ...], {state: its course [B, T, ...]}).
    """
    chosen, reach, every = _settings(inputs[0].shape[1])
    if chosen != "plain":
        reason = why_plain(step, inputs[0].dtype, inputs[0].device.type)
        if reason is None:
            return _fused(step, inputs, states, params, lengths, record, reach, every)
        if chosen == "fused":
            raise InputError("backend", found=reason, expected="a step that can be fused", remedy='use "auto"')
        _tell(step, reason)
    return _plain(step, inputs, states, params, lengths, record, reach)


@torch.compiler.assume_constant_result
def why_plain(step: Step, dtype: torch.dtype, device: str = "cpu") -> str | None:
    """Why a step can not be fused; None if it can."""
    key = step.key, dtype, device
    if key not in _refused:
        _refused[key] = _why_not_on(step, device) or ""
    if not _refused[key]:
        try:
            plan_key(step, dtype, device)
        except NotPointwise as error:
            _refused[key] = f"not pointwise: {error}"
    return _refused[key] or None


def _why_not_on(step: Step, device: str) -> str | None:
    if device == "cpu":
        return None
    if device != "cuda":
        return f"loops are emitted for the CPU and for NVIDIA GPUs, not for {device}"
    if step.shapes is not None:
        return "on a GPU, units that mix are not fused yet"
    return None if find_spec("triton") else "on a GPU it takes Triton: pip install 'timecell[gpu]'"


def _tell(step: Step, reason: str) -> None:
    if step.key not in _told:
        _told.add(step.key)
        print(f"timecell: {step.name} runs as a plain Python loop over time (slow): {reason}", file=sys.stderr)


def _fused(
    step: Step, inputs: Sequence[Tensor], states: Sequence[Tensor], params: Sequence[Tensor], lengths: Tensor | None,
    record: Sequence[str], reach: str, every: int,
) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:  # fmt: skip
    key = plan_key(step, inputs[0].dtype, inputs[0].device.type)
    rows, steps, *shape = inputs[0].shape
    x = [t.flatten(2) if t.ndim > 2 else t.unsqueeze(2) for t in inputs]
    s = [t.flatten(1) if t.ndim > 1 else t.unsqueeze(1) for t in states]
    if step.shapes is None:
        p = [q.expand(shape).reshape(1, -1) for q in params]
        y_shape = tuple(shape)
    else:
        p = [q.reshape(1, -1) for q in params]
        y_shape = plan(key).output_shape
    recorded = tuple(name in record for name in step.states)
    if transforms_active() or (torch.is_grad_enabled() and any(t.requires_grad for t in (*x, *s, *p))):
        learn = tuple(transforms_active() or q.requires_grad for q in p)
        kept = () if every else plan(key).pair(learn, recorded).kept.states
        out: Sequence[Tensor] = Run.apply(key, learn, recorded, every, reach == "full", lengths, *x, *s, *p)
    else:
        kept = ()
        out = torch.ops.timecell.loop(key, x, s, p, lengths, [False] * len(p), list(recorded), NOTHING)
    m = len(step.states)
    names = [name for name in step.states if name in kept or name in record]
    trajectories = dict(zip(names, out[1 + m :]))
    ends = {name: state.shape[1:] for name, state in zip(step.states, states)}
    courses = {name: silence(trajectories[name][:, 1:], lengths).reshape(rows, steps, *ends[name]) for name in record}
    finals = [f.reshape(state.shape) for f, state in zip(out[1 : 1 + m], states)]
    return out[0].reshape(rows, steps, *y_shape), finals, courses


def _plain(
    step: Step, inputs: Sequence[Tensor], states: Sequence[Tensor], params: Sequence[Tensor], lengths: Tensor | None,
    record: Sequence[str], reach: str,
) -> tuple[Tensor, list[Tensor], dict[str, Tensor]]:  # fmt: skip
    rows, _, *shape = inputs[0].shape
    cut = reach == "none"
    function = step.function
    if step.shapes is None:
        params = [q.expand(shape) for q in params]
    else:
        function = torch.vmap(step.function, in_dims=(0,) * (len(inputs) + len(states)) + (None,) * len(params))
    inputs = [silence(x, lengths) for x in inputs]  # what stands in the padding must not come into any gradient
    outputs: list[Tensor] = []
    courses: dict[str, list[Tensor]] = {name: [] for name in record}
    state = list(states)
    for t, instant in enumerate(zip(*(x.unbind(1) for x in inputs))):  # unbind: indexing x[:, t] is quadratic backward
        before = [s.detach() for s in state] if cut else state
        y, *after = function(*instant, *before, *params)
        if lengths is not None:
            running = t < lengths
            y = torch.where(_like(running, y), y, torch.zeros_like(y))
            after = [torch.where(_like(running, new), new, old) for new, old in zip(after, state)]
        state = after
        outputs.append(y)
        for name in record:
            courses[name].append(state[step.states.index(name)])
    if not outputs:  # T = 0
        y_shape = shape if step.shapes is None else step.function(*step.examples())[0].shape
        ends = {name: s.shape[1:] for name, s in zip(step.states, states)}
        nothing = {name: inputs[0].new_zeros(rows, 0, *ends[name]) for name in record}
        return inputs[0].new_zeros(rows, 0, *y_shape), state, nothing
    stacked = {name: silence(torch.stack(c, 1), lengths) for name, c in courses.items()}
    return torch.stack(outputs, 1), state, stacked


def _like(mask: Tensor, value: Tensor) -> Tensor:
    """A truth value a sample, as a mask of everything in it."""
    return mask.view(-1, *([1] * (value.ndim - 1)))


def alive(x: Tensor, lengths: Tensor) -> Tensor:
    """[B, T], whether each instant of [B, T, ...] is before its sample's end."""
    return torch.arange(x.shape[1], device=x.device) < lengths[:, None]


def silence(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Zero after each sample's end, whatever stands there (NaN too).

    Example:
        >>> silence(torch.ones(1, 3, 1), torch.tensor([2]))[0, :, 0].tolist()
        [1.0, 1.0, 0.0]
    """
    if lengths is None:
        return x
    mask = alive(x, lengths)
    return torch.where(mask.view(*mask.shape, *([1] * (x.ndim - 2))), x, torch.zeros_like(x))


class Traceable(Protocol):
    """A cell that is one step function."""

    @property
    def instant(self) -> Step:
        """The step."""

    @property
    def learnt(self) -> tuple[bool, ...]:
        """For each parameter, whether it is trained."""


def explain(cell: Step | Traceable, dtype: torch.dtype = torch.float32) -> str:
    """How a cell runs: its grain and why, its operations, what the adjoint keeps, where the source lies."""
    step = cell if isinstance(cell, Step) else cell.instant
    reason = why_plain(step, dtype)
    if reason is not None:
        return f"{step.name}: plain grain (a Python loop over time), because {reason}"
    this = plan(plan_key(step, dtype))
    learn = (True,) * len(step.params) if isinstance(cell, Step) else cell.learnt
    pair = this.pair(learn, (False,) * len(step.states))
    forward, adjoint = pair.forward, pair.adjoint
    kept = [f"{n} [B, T, ...]" for n in (*pair.kept.inputs, *pair.kept.states)]
    kept += [
        f"{name_of(n)} [B, T, ...]{' in bytes' if t == torch.bool else ''}"
        for n, t in zip(pair.kept.values, pair.types)
    ]
    lines = [
        f"{step.name}: {'unit' if step.shapes is None else 'row'} grain, fused on the CPU in {str(dtype)[6:]}",
        f"  an instant   ({', '.join(step.inputs)}; {', '.join(step.states)}; {', '.join(step.params)})"
        f" -> (y; {', '.join(step.states)})",
        f"  operations   {_operations(forward.source)} forward, {_operations(adjoint.source)} adjoint, a {'unit' if step.shapes is None else 'sample'} and step;"
        f" {len(forward.hoisted)} and {len(adjoint.hoisted)} on parameters alone, outside the loop",
        f"  the adjoint keeps {', '.join(kept) or 'nothing'}",
        f"  forward      {cache.path_of(forward.source)}",
        f"  adjoint      {cache.path_of(adjoint.source)}",
    ]
    return "\n".join(lines)


def source(cell: Step | Traceable, dtype: torch.dtype = torch.float32) -> str:
    """The emitted modules, forward and adjoint (all parameters learnt)."""
    step = cell if isinstance(cell, Step) else cell.instant
    reason = why_plain(step, dtype)
    if reason is not None:
        raise InputError("cell", found=reason, expected="a step that can be fused", remedy="see explain(cell)")
    this = plan(plan_key(step, dtype))
    pair = this.pair((True,) * len(step.params), (False,) * len(step.states))
    return pair.forward.source + "\n\n" + pair.adjoint.source


def _operations(text: str) -> int:
    """Lines of one instant that compute."""
    body = text[text.index("def instant") if "def instant" in text else text.index("on = running") :].split("@njit")[0]
    return sum(1 for line in body.splitlines() if (" = " in line and "[n]" not in line) or "store(" in line)
