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
    from timecell import (
        credit,
        data,
        exchange,
        fuse,
        generate,
        layers,
        lens,
        losses,
        memory,
        networks,
        neurons,
        plot,
        rhythm,
        state,
        synapses,
        tasks,
        testing,
    )
    from timecell.cell import Cell, Neuron, parameter_groups, record
    from timecell.circuit import Circuit
    from timecell.combine import Bidirectional, Every, Loop, Parallel, Recurrent, Residual, Sequential, Ticks
    from timecell.data import Batch, Schema, Sequences, Series, Windows, load
    from timecell.estimator import TimecellClassifier, TimecellRegressor
    from timecell.layers import Dropout, PerStep
    from timecell.lens import diagnose
    from timecell.memory import GRU, LSTM, DiagonalSSM, Elman, Reservoir
    from timecell.neurons import (
        ELM,
        IF,
        LIF,
        AdaptiveLIF,
        ConductanceLIF,
        Izhikevich,
        LeakyIntegrator,
        LeakyRate,
        RefractoryLIF,
        RefractorySynapticLIF,
        SynapticLIF,
        spike,
    )
    from timecell.parameters import fan_in, option, param
    from timecell.recipe import Anneal, Recipe, Stage, Staged
    from timecell.state import State
    from timecell.stream import Stream
    from timecell.synapses import (
        STDP,
        Delayed,
        DoubleTrace,
        Hebb,
        Linear,
        Oja,
        PlasticSynapse,
        ThreeFactor,
        Trace,
        TripletSTDP,
    )  # fmt: skip
    from timecell.system import Run
    from timecell.train import evaluate, fit, predict

_HOME = {
    "timecell.cell": ("Cell", "Neuron", "parameter_groups", "record"),
    "timecell.circuit": ("Circuit",),
    "timecell.combine": (
        "Bidirectional", "Every", "Loop", "Parallel", "Recurrent", "Residual", "Sequential", "Ticks",
    ),
    "timecell.data": ("Batch", "Schema", "Sequences", "Series", "Windows", "load"),
    "timecell.estimator": ("TimecellClassifier", "TimecellRegressor"),
    "timecell.layers": ("Dropout", "PerStep"),
    "timecell.lens": ("diagnose",),
    "timecell.memory": ("GRU", "LSTM", "DiagonalSSM", "Elman", "Reservoir"),
    "timecell.neurons": (
        "ELM", "IF", "LIF", "AdaptiveLIF", "ConductanceLIF", "Izhikevich", "LeakyIntegrator", "LeakyRate",
        "RefractoryLIF", "RefractorySynapticLIF", "SynapticLIF", "spike",
    ),
    "timecell.parameters": ("fan_in", "option", "param"),
    "timecell.recipe": ("Anneal", "Recipe", "Stage", "Staged"),
    "timecell.state": ("State",),
    "timecell.stream": ("Stream",),
    "timecell.synapses": (
        "STDP", "Delayed", "DoubleTrace", "Hebb", "Linear", "Oja", "PlasticSynapse", "ThreeFactor", "Trace", "TripletSTDP",
    ),
    "timecell.system": ("Run",),
    "timecell.train": ("evaluate", "fit", "predict"),
    "timecell": (
        "credit", "data", "exchange", "fuse", "generate", "layers", "lens", "losses", "memory", "networks", "neurons", "plot",
        "rhythm", "state", "synapses", "tasks", "testing",
    ),
}  # fmt: skip
_WHERE = {name: home for home, names in _HOME.items() for name in names}

__all__ = [
    "ELM", "GRU", "IF", "LIF", "LSTM", "STDP", "AdaptiveLIF", "Anneal", "Batch", "Bidirectional", "Cell", "Circuit",
    "ConductanceLIF", "Delayed", "DiagonalSSM", "DoubleTrace", "Dropout", "Elman", "Every", "Hebb", "Izhikevich", "LeakyIntegrator",
    "LeakyRate", "Linear", "Loop", "Neuron", "Oja", "Parallel", "PerStep", "PlasticSynapse", "Recipe", "Recurrent",
    "RefractoryLIF", "RefractorySynapticLIF", "Reservoir", "Residual", "Run", "Schema", "Sequences", "Sequential", "Series",
    "Stage", "Staged", "State", "Stream", "SynapticLIF", "ThreeFactor", "Ticks", "TimecellClassifier",
    "TimecellRegressor", "Trace", "TripletSTDP", "Windows", "__version__", "credit", "data", "diagnose", "evaluate",
    "exchange", "fan_in", "fit", "fuse", "generate", "layers", "lens", "load", "losses", "memory", "networks", "neurons", "option", "param",
    "parameter_groups", "plot", "predict", "record", "rhythm", "spike", "state", "synapses", "tasks", "testing",
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
