"""An echo state network fitted to forecast a chaotic series: the run of the reservoir and its ridge readout."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.side_by_side import Case, Figure, Pass, Target

UNITS, STEPS, WARMUP = 500, 10_000, 100
LEAK, RADIUS, CONNECTIONS = 0.3, 0.95, 50  # a tenth of all connections: reservoirpy's default
RIDGE = 1e-6


def series() -> Any:
    """Mackey and Glass's equation with a delay of 17, by Euler steps of 1; [STEPS + 1, 1], to forecast by one step."""
    import numpy as np

    x = [1.2] * 18
    for _ in range(STEPS + 100):
        x.append(x[-1] + 0.2 * x[-18] / (1 + x[-18] ** 10) - 0.1 * x[-1])
    return np.asarray(x[-(STEPS + 1) :])[:, None]


def drawn() -> Any:
    """Our reservoir; all cases have its weights."""
    import torch

    from timecell.memory import Reservoir

    torch.manual_seed(0)
    return Reservoir(1, UNITS, spectral_radius=RADIUS, leak=LEAK, connections=CONNECTIONS)


def matrices() -> tuple[Any, Any]:
    """Its recurrent weights [N, N], sparse, and its input weights [N, 1]; float64."""
    from scipy.sparse import csr_matrix

    net = drawn()
    weight, source = net.weight.double().numpy(), net.source.numpy()
    ends = range(0, weight.size + 1, CONNECTIONS)
    return csr_matrix((weight.ravel(), source.ravel(), ends), shape=(UNITS, UNITS)), net.input_weight.double().numpy()


def fitted(states: Any, target: Any) -> dict[str, Any]:
    """Our readout of the states [T, N], and what it forecasts at the end."""
    from timecell.tasks.ridge import ridge_path

    features = states.numpy()
    readout = next(ridge_path(features[WARMUP:], target[WARMUP:], alphas=[RIDGE / STEPS]))
    return {"last states": features[-1], "forecast": readout(features[-1:])}


def timecell() -> Pass:
    """Ours."""
    import torch

    net, data = drawn(), series()
    x = torch.from_numpy(data[None, :-1]).float()

    def one_pass() -> dict[str, Any]:
        with torch.no_grad():
            return fitted(net(x)[0][0], data[1:])

    return one_pass


def torch_loop() -> Pass:
    """What one writes by hand."""
    import torch

    w, w_in = (torch.from_numpy(m).float() for m in (matrices()[0].toarray(), matrices()[1]))
    data = series()
    drive = torch.from_numpy(data[:-1]).float() @ w_in.T

    def one_pass() -> dict[str, Any]:
        h, states = torch.zeros(UNITS), []
        for u in drive:
            h = (1 - LEAK) * h + LEAK * torch.tanh(u + w @ h)
            states.append(h)
        return fitted(torch.stack(states), data[1:])

    return one_pass


def reservoirpy(nodes: str, dense: bool) -> Pass:
    """Its nodes on NumPy, in float64 and sparse, which is faster here than float32; or on JAX, which wants dense weights."""
    from importlib import import_module

    import numpy as np

    library, (w, w_in), data = import_module(nodes), matrices(), series()
    reservoir = library.Reservoir(W=w.toarray() if dense else w, Win=w_in, lr=LEAK)
    model = reservoir >> library.Ridge(ridge=RIDGE)
    model.fit(data[:-1], data[1:], warmup=WARMUP)
    found = {"last states": reservoir.run(data[:-1])[-1], "forecast": model.run(data[:-1])[-1]}

    def one_pass() -> dict[str, Any]:
        np.asarray(model.fit(data[:-1], data[1:], warmup=WARMUP).nodes[-1].Wout)  # JAX answers before it is done
        return found

    return one_pass


FIGURES = (
    Figure(
        "reservoir",
        f"Echo state network of {UNITS} units: fit to {STEPS:,} steps",
        cases=(
            Case("timecell", timecell, kind="ours"),
            Case("torch loop", torch_loop, exact=True),
            Case(
                "reservoirpy",
                partial(reservoirpy, "reservoirpy.nodes", dense=False),
                needs=("reservoirpy",),
                exact=True,
            ),
            Case(
                "reservoirpy (JAX)",
                partial(reservoirpy, "reservoirpy.jax.nodes", dense=True),
                needs=("reservoirpy", "jax"),
            ),
        ),
        targets=(Target("reservoirpy", at_least=1.3),),
    ),
)
