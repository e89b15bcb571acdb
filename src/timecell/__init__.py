"""Neural computation in time: write one instant, the engine gives you time.

    import torch, timecell as tc
    from torch import nn

    net = tc.Sequential(nn.Linear(700, 256), tc.LIF(256), nn.Linear(256, 20), tc.LeakyIntegrator(20))
    y, state = net(torch.rand(8, 100, 700))        # [batch, time, channels] in, the same out
    y_t, state = net.step(torch.rand(8, 700), state)

Names are imported when they are first used, so that ``import timecell`` and ``timecell systems`` stay light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from timecell._version import __version__

if TYPE_CHECKING:
    from timecell import credit, data, fuse, state, tasks, testing
    from timecell.cell import Cell, Neuron, parameter_groups, record
    from timecell.combine import Parallel, Recurrent, Residual, Sequential
    from timecell.data import Batch, Schema, Sequences, Series, Windows, load
    from timecell.memory import GRU
    from timecell.neurons import LIF, AdaptiveLIF, LeakyIntegrator, spike
    from timecell.parameters import option, param
    from timecell.recipe import Anneal, Recipe, Stage
    from timecell.state import State
    from timecell.synapses import Delayed
    from timecell.system import Run
    from timecell.train import evaluate, fit, predict

_HOME = {
    "timecell.cell": ("Cell", "Neuron", "parameter_groups", "record"),
    "timecell.combine": ("Parallel", "Recurrent", "Residual", "Sequential"),
    "timecell.data": ("Batch", "Schema", "Sequences", "Series", "Windows", "load"),
    "timecell.memory": ("GRU",),
    "timecell.parameters": ("option", "param"),
    "timecell.neurons": ("AdaptiveLIF", "LIF", "LeakyIntegrator", "spike"),
    "timecell.recipe": ("Anneal", "Recipe", "Stage"),
    "timecell.state": ("State",),
    "timecell.synapses": ("Delayed",),
    "timecell.system": ("Run",),
    "timecell.train": ("evaluate", "fit", "predict"),
    "timecell": ("credit", "data", "fuse", "neurons", "state", "synapses", "tasks", "testing"),
}
_WHERE = {name: home for home, names in _HOME.items() for name in names}

__all__ = [
    "GRU", "LIF", "AdaptiveLIF", "Anneal", "Batch", "Cell", "Delayed", "LeakyIntegrator", "Neuron", "Parallel", "Recipe",
    "Recurrent", "Residual", "Run", "Schema", "Sequences", "Sequential", "Series", "Stage", "State", "Windows",
    "__version__", "credit", "data", "evaluate", "fit", "fuse", "load", "option", "param", "parameter_groups", "predict",
    "record", "spike", "state", "tasks", "testing",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    home = _WHERE.get(name)
    if home is None:
        raise AttributeError(f"module 'timecell' has no attribute {name!r}")
    if home == "timecell":
        return importlib.import_module(f"timecell.{name}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
