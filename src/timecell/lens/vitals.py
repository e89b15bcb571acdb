"""Vital signs: a few numbers that say how a layer is, from what one run of it showed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from timecell.cell import Neuron, Stepped
from timecell.lens.observation import Layer, Observation

SHORTEST = 10  # steps; of fewer there is no far and near


@dataclass(frozen=True)
class Health:
    """The vital signs of one layer.

    Attributes:
        path: in the net.
        kind: its class.
        rate: spikes a unit and step; None where the layer does not spike.
        silent: share of units that never fire, likewise.
        saturated: share of units that nearly always fire, likewise.
        gradient: root mean square of the loss's gradient over its parameters; None without loss or parameters.
        blame: norm of the loss's gradient with respect to its input, at 0, 1, 2, ... steps before the end; a mean over
            the samples that have so many steps. Empty without a loss.
    """

    path: str
    kind: str
    rate: float | None
    silent: float | None
    saturated: float | None
    gradient: float | None
    blame: tuple[float, ...]


def vital_signs(layer: Layer, seen: Observation, always: float) -> Health:
    """Those of one layer; `always` is the share of the steps at which a saturated unit fires."""
    rates = firing_rates(layer, seen)
    gradients = [g.flatten() for g in layer.gradients.values()]
    return Health(
        path=layer.path,
        kind=layer.kind,
        rate=None if rates is None else rates.mean().item(),
        silent=None if rates is None else (rates == 0).float().mean().item(),
        saturated=None if rates is None else (rates >= always).float().mean().item(),
        gradient=rms(torch.cat(gradients)) if gradients else None,
        blame=() if layer.blame is None else tuple(back_in_time(layer.blame, seen).tolist()),
    )


def firing_rates(layer: Layer, seen: Observation) -> Float[Tensor, "N"] | None:
    """Spikes a step of each unit, over all samples; of a feature map with one neuron's constants, over the map.

    Returns:
        None if the layer is no neuron or circuit, or puts out anything but 0 and 1.
    """
    y = layer.output
    if not isinstance(layer.module, Stepped) or y is None or not bool(((y == 0) | (y == 1)).all()):
        return None
    rates = y[seen.alive].double().mean(0)
    if not isinstance(layer.module, Neuron):
        return rates.flatten()
    size = (1,) * (rates.ndim - len(layer.module.size)) + layer.module.size
    shared = [axis for axis, units in enumerate(size) if units == 1]
    return (rates.mean(shared) if shared else rates).flatten()


def back_in_time(blame: Float[Tensor, "B T"], seen: Observation) -> Float[Tensor, "T"]:
    """Root mean square over samples at 0, 1, 2, ... steps before each sample's end."""
    steps = torch.arange(blame.shape[1], device=blame.device)
    at = seen.alive.sum(1, keepdim=True) - 1 - steps
    there = at >= 0
    squares = blame.double().gather(1, at.clamp(min=0)).square() * there
    return (squares.sum(0) / there.sum(0).clamp(min=1))[: int(there.any(0).sum())].sqrt()


def fade(blame: tuple[float, ...]) -> float | None:
    """Gradient in the farthest tenth of the steps as a multiple of the largest in the nearest fifth."""
    if len(blame) < SHORTEST:
        return None
    near = max(blame[: len(blame) // 5])
    far = rms(torch.tensor(blame[-(len(blame) // 10) :], dtype=torch.float64))
    return far / near if near else None


def rms(x: Tensor) -> float:
    """Root mean square."""
    return x.double().square().mean().sqrt().item()
