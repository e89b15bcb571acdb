"""Illnesses: what each looks like in numbers, where it begins, and what to do about it.

The limits beyond which a number counts as an illness stand in `Limits`, and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from timecell.data.containers import Batch
from timecell.lens.observation import Layer, Observation
from timecell.lens.vitals import SHORTEST, Health, back_in_time, fade, rms


@dataclass(frozen=True)
class Limits:
    """Where an illness begins.

    Attributes:
        silent: share of a layer's units that never fire.
        saturated: share of a layer's units that nearly always fire.
        always: share of the steps at which such a unit fires.
        fading: gradient in the farthest tenth of the steps, as a multiple of the largest in the nearest fifth.
        growing: the same, upwards.
        depth: a layer's gradient as a multiple of the largest layer's (root mean square over its weights).
        narrow: a surrogate's half width as a multiple of the membrane's typical distance from the threshold.
        wide: the same, upwards.
        state: size of a state at the end (root mean square) ...
        state_growth: ... if it is also so many times the size in the first tenth of the steps.
    """

    silent: float = 0.5
    saturated: float = 0.25
    always: float = 0.9
    fading: float = 1e-4
    growing: float = 1e3
    depth: float = 1e-5
    narrow: float = 0.01
    wide: float = 10.0
    state: float = 1e3
    state_growth: float = 100.0


LIMITS = Limits()


@dataclass(frozen=True)
class Finding:
    """One illness.

    Attributes:
        illness: its name, e.g. "silent units".
        place: path and class of the layer.
        message: what was seen.
        value: the number that was measured.
        limit: the limit it is beyond.
        remedy: what to try.
    """

    illness: str
    place: str
    message: str
    value: float
    limit: float
    remedy: str


def bad_input(batch: Batch) -> Finding:
    """Inputs that are NaN or infinite: the first one."""
    bad = ~torch.isfinite(batch.x)
    at = tuple(bad.nonzero()[0].tolist())
    message = f"x[{', '.join(map(str, at))}] is {batch.x[at].item()}; so are {int(bad.sum())} values of the batch"
    remedy = "fill gaps, or leave these samples out"
    return Finding("not finite", "the input", message, int(bad.sum()), 0, remedy)


def not_finite(seen: Observation) -> Finding | None:
    """Where the first number that is not finite was made: forward, in the loss, or backward."""
    for layer in seen.layers:
        held = {n: int((~torch.isfinite(p)).sum()) for n, p in layer.module.named_parameters(recurse=False)}
        damaged = [f"its {name} holds {count} such numbers" for name, count in held.items() if count]
        courses = [c for c in (layer.output, *layer.states.values()) if c is not None]
        made = torch.stack([_bad_steps(c) for c in courses]).any(0) if courses else torch.zeros_like(seen.alive)
        given = torch.zeros_like(made) if layer.input is None else _bad_steps(layer.input)
        first = (made & seen.alive & (given.cumsum(1) == 0)).nonzero().tolist()
        if first or damaged:
            sample, step = min(first, key=lambda at: at[1]) if first else (None, None)
            where = f"it puts out or keeps NaN or infinity from step {step} of sample {sample} on" if first else ""
            message = "; ".join(filter(None, [where, *damaged]))
            remedy = "lower what enters this layer (scale of inputs or weights), or bound its state with a leak"
            if damaged:
                remedy = "go back to weights from before; then train with a lower rate, or clip gradients"
            return Finding("not finite", layer.name, message, sum(held.values()) or len(first), 0, remedy)
    if seen.loss is not None and not math.isfinite(seen.loss):
        remedy = "check the targets, and logarithms and divisions in the loss"
        return Finding(
            "not finite", "the loss", f"it is {seen.loss}, though what the layers put out is finite", 1, 0, remedy
        )
    for layer in reversed(seen.layers):
        blames = [g for g in (layer.blame, *layer.gradients.values()) if g is not None]
        bad = sum(int((~torch.isfinite(g)).sum()) for g in blames)
        if bad:
            message, remedy = f"{bad} numbers of its gradient are not finite", "lower what enters it, or truncate time"
            return Finding("not finite", f"the gradient of {layer.name}", message, bad, 0, remedy)
    return None


def _bad_steps(course: Tensor) -> Tensor:
    bad = ~torch.isfinite(course)
    return bad.flatten(2).any(2) if bad.ndim > 2 else bad


def activity(layer: Layer, signs: Health, limits: Limits) -> Iterator[Finding]:
    """Units that never fire, or nearly always."""
    if signs.silent is None or signs.saturated is None:
        return
    drive = _drive(layer)
    if signs.silent == 1:
        yield Finding(
            "dead layer", layer.name, f"none of its units fires at any step{drive}", signs.silent, 1.0,
            "lower the threshold, scale the weights before it up, or put a batch norm in front of it",
        )  # fmt: skip
    elif signs.silent >= limits.silent:
        yield Finding(
            "silent units", layer.name, f"{signs.silent:.0%} of its units never fire (limit {limits.silent:.0%}){drive}",
            signs.silent, limits.silent,
            "lower the threshold, scale the weights before it up, or put a batch norm in front of it",
        )  # fmt: skip
    if signs.saturated >= limits.saturated:
        yield Finding(
            "saturated units", layer.name,
            f"{signs.saturated:.0%} of its units fire at {limits.always:.0%} of the steps or more (limit "
            f"{limits.saturated:.0%}): they tell nothing of time", signs.saturated, limits.saturated,
            "lower the bias or the weights before it, raise the threshold, or put a batch norm in front of it",
        )  # fmt: skip


def _drive(layer: Layer) -> str:
    v, threshold = layer.states.get("v"), getattr(layer.module, "threshold", None)
    if v is None or not isinstance(threshold, Tensor):
        return ""
    return f"; its membrane reaches {v.max():.3g} at most, the threshold is {threshold.mean():.3g}"


def states(layer: Layer, seen: Observation, limits: Limits) -> Iterator[Finding]:
    """States that grow without bound; of a cell whose states cannot be recorded, its output."""
    courses = dict(layer.states)
    if layer.remembers and not courses and layer.output is not None:
        courses = {"output": layer.output}  # of a cell whose states cannot be recorded
    for name, course in courses.items():
        size = back_in_time(course.flatten(2).norm(dim=2) / max(course[0, 0].numel(), 1) ** 0.5, seen)
        if len(size) < SHORTEST:
            continue
        tenth = len(size) // 10
        end, start = rms(size[:tenth]), rms(size[-tenth:])
        if end > limits.state and end > limits.state_growth * start:
            yield Finding(
                "exploding state", layer.name,
                f"{name} grows from {start:.3g} to {end:.3g} over {len(size)} steps (limit {limits.state:g})",
                end, limits.state,
                "add a leak (a shorter time constant), make recurrent weights smaller, or lower the input",
            )  # fmt: skip


def surrogate_fit(layer: Layer, seen: Observation, limits: Limits) -> Iterator[Finding]:
    """A pretended slope too narrow or too wide for where the membrane is; adaptive thresholds count at rest."""
    surrogate, threshold = (getattr(layer.module, name, None) for name in ("surrogate", "threshold"))
    v = layer.states.get("v")
    if surrogate is None or v is None or layer.output is None or not isinstance(threshold, Tensor):
        return
    below = seen.alive.view(*seen.alive.shape, *[1] * (v.ndim - 2)) & (layer.output == 0)  # after a spike v is reset
    if not below.any():
        return
    distance = rms((v - threshold)[below])
    ratio = half_width(surrogate) / max(distance, 1e-12)
    if limits.narrow <= ratio <= limits.wide:
        return
    narrow = ratio < limits.narrow
    yield Finding(
        "surrogate too narrow" if narrow else "surrogate too wide", layer.name,
        f"its slope falls to a half within {half_width(surrogate):.3g} of the threshold, and the membrane is typically "
        f"{distance:.3g} away: {'next to no' if narrow else 'as good as unchanged'} blame passes",
        ratio, limits.narrow if narrow else limits.wide,
        f"choose a {'flatter' if narrow else 'steeper'} surrogate (half width near {distance:.2g}), or scale the input so "
        f"that the membrane {'stays nearer to' if narrow else 'moves farther from'} the threshold",
    )  # fmt: skip


def half_width(surrogate: Any) -> float:
    """Distance from the threshold at which a surrogate's slope is half its slope at the threshold.

    Example:
        >>> from timecell.neurons.surrogate import Triangle
        >>> round(half_width(Triangle(width=1.0)), 2)
        0.5
    """
    x = torch.logspace(-6, 6, 4801, dtype=torch.float64)
    below = surrogate.derivative(x) <= surrogate.derivative(torch.zeros(1, dtype=torch.float64)) / 2
    return (x[below] if below.any() else x[-1:])[0].item()


def through_time(seen: Observation, signs: Mapping[str, Health], limits: Limits) -> Iterator[Finding]:
    """The layer nearest to the loss whose memory loses blame, or multiplies it; what lies below it inherits that."""
    for layer in reversed(seen.layers):
        ratio = fade(signs[layer.path].blame) if layer.remembers else None
        if ratio is None or limits.fading <= ratio <= limits.growing:
            continue
        steps = len(signs[layer.path].blame)
        vanishing = ratio < limits.fading
        yield Finding(
            "vanishing gradient" if vanishing else "exploding gradient", layer.name,
            f"over {steps} steps back in time the gradient at its input {'falls' if vanishing else 'grows'} to {ratio:.2g} of "
            "its size near the end", ratio, limits.fading if vanishing else limits.growing,
            "give this layer a longer time constant, or use a loss with a say at every step (readout mean or softmax_sum)"
            if vanishing else "make recurrent weights smaller, clip gradients, or truncate time (credit.TruncatedBPTT)",
        )  # fmt: skip
        return


def through_depth(seen: Observation, signs: Mapping[str, Health], limits: Limits) -> Iterator[Finding]:
    """Layers whose weights get next to no gradient."""
    weighty = [
        layer for layer in seen.layers
        if any(g.ndim > 1 for g in layer.gradients.values()) and signs[layer.path].gradient is not None
    ]  # fmt: skip
    sizes = {layer.path: signs[layer.path].gradient or 0.0 for layer in weighty}
    largest = max(sizes.values(), default=0.0)
    for layer in weighty:
        share = sizes[layer.path] / largest if largest else 0.0
        if share < limits.depth:
            yield Finding(
                "no gradient" if sizes[layer.path] == 0 else "vanishing with depth", layer.name,
                f"the gradient of its weights is {sizes[layer.path]:.2g}, {share:.2g} times the largest layer's",
                share, limits.depth,
                "see that the layers above it are not silent or saturated, widen their surrogate, or add a residual path",
            )  # fmt: skip
