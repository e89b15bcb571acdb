"""Pictures: what is drawn where, with which units; one sample and thousands of units; what cannot be drawn."""

import io
import subprocess
import sys

import pytest

pytest.importorskip("matplotlib")

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from timecell import LIF, AdaptiveLIF, Delayed, LeakyIntegrator, Sequential, plot, record
from timecell.data import Batch
from timecell.errors import InputError, MissingExtra
from timecell.lens import diagnose


def painted(ax):
    """The picture's bytes: it can be drawn."""
    file = io.BytesIO()
    ax.figure.savefig(file, format="png", dpi=40)
    return file.getvalue()


def history(updates=5, offset=0.0):
    return [
        {"update": 10 * n, "stage": int(n > 2), "train_loss": 1 / n, "valid_loss": offset + 1.1 / n,
         "valid_score": 1 - 1 / n, "metric": "accuracy"} for n in range(1, updates + 1)
    ]  # fmt: skip


class Run:
    def __init__(self, rows):
        self.history, self.best = rows, rows[-1]


# --- spikes -----------------------------------------------------------------------------------------------------------


def test_a_raster_has_a_mark_for_every_spike():
    spikes = torch.zeros(10, 4)
    spikes[2, 1] = spikes[7, 3] = 1
    ax = plot.raster(spikes)
    (marks,) = ax.get_lines()
    assert sorted(zip(*marks.get_data())) == [(2, 1), (7, 3)]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time (steps)", "unit")


def test_samples_lie_on_top_of_each_other():
    spikes = torch.zeros(3, 10, 20)
    spikes[1, 4, 5] = 2  # a count
    ax = plot.raster(spikes, dt=0.5)
    assert list(zip(*ax.get_lines()[0].get_data())) == [(2000.0, 20 + 2 + 5)]
    assert ax.get_xlabel() == "time (ms)" and "20 units each" in ax.get_ylabel()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0", "1", "2"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 5, 1), (50, 5, 2), (300, 2000), (2, 40, 3000)])
def test_rasters_of_any_size(shape):
    assert painted(plot.raster((torch.rand(shape) < 0.02).float()))


@pytest.mark.parametrize(
    ("spikes", "message"),
    [
        (torch.rand(5, 2), r"spikes: found values from 0\.\d+ to 0\.\d+, expected counts of spikes.*\n.*traces"),
        (-torch.ones(5, 2), "expected counts"),
        (torch.ones(5), r"spikes: found shape \[5\], expected \[T, N\] or \[B, T, N\]"),
        (torch.ones(0, 5), "not empty"),
        (torch.tensor([[1.0, float("nan")]]), r"spikes\[0, 1\]: found nan, expected finite"),
        ("spikes", "spikes: found str, expected numbers"),
    ],
)
def test_what_is_no_raster_is_refused(spikes, message):
    with pytest.raises(InputError, match=message):
        plot.raster(spikes)


def test_a_wrong_dt_is_refused():
    with pytest.raises(InputError, match="dt: found 0, expected seconds in a step"):
        plot.raster(torch.ones(3, 2), dt=0)


# --- states -----------------------------------------------------------------------------------------------------------


def test_traces_of_a_record():
    net = Sequential(nn.Linear(3, 50), LIF(50), nn.Linear(50, 2), LeakyIntegrator(2))
    with record(net, "1.v", "3.v") as r:
        net(torch.rand(2, 30, 3))
    ax = plot.traces(r, sample=1)
    middle, *few = ax.get_lines()
    assert np.allclose(middle.get_ydata(), np.median(r["1.v"][1].detach().numpy(), axis=1))
    assert np.allclose([line.get_ydata() for line in few], r["3.v"][1].detach().numpy().T)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["1.v", "3.v"]
    assert len(ax.collections) == 1 and painted(ax)


@pytest.mark.parametrize("shape", [(4,), (4, 1), (1, 4, 6), (2, 40, 5000), (1, 5, 2, 3, 3)])
def test_traces_of_any_size(shape):
    assert painted(plot.traces(torch.rand(shape)))


def test_what_is_no_trace_is_refused():
    with pytest.raises(InputError, match="signals: found no signal"):
        plot.traces({})
    with pytest.raises(InputError, match="sample: found 2, expected one of 2 samples"):
        plot.traces(torch.rand(2, 5, 3), sample=2)
    with pytest.raises(InputError, match=r"signals\['1.v'\]\[0, 0, 0\]: found nan.*\n.*diagnose"):
        plot.traces({"1.v": torch.full((1, 2, 3), float("nan"))})


# --- what is learnt ---------------------------------------------------------------------------------------------------


def test_delays_as_matrix_and_histogram():
    layer = Delayed(6, 4, max_delay=10)
    ax = plot.delays(layer)
    side = ax.child_axes[0]
    assert np.allclose(ax.images[0].get_array(), layer.delay.detach().numpy())
    assert ax.images[0].get_clim() == (0, 10)
    assert sum(bar.get_width() for bar in side.patches) == 24
    assert (ax.get_xlabel(), ax.get_ylabel(), side.get_ylabel()) == ("input", "output", "delay (steps)")
    assert painted(ax) and painted(plot.delays(Delayed(1, 1, max_delay=0)))


def test_weights_are_balanced_around_zero():
    ax = plot.weights(torch.tensor([[1.0, -3.0]]))
    assert ax.images[0].get_clim() == (-3, 3)
    assert painted(plot.weights(nn.Linear(500, 300))) and painted(plot.weights(torch.zeros(1, 1)))


def test_layers_without_such_parameters_are_refused():
    with pytest.raises(InputError, match=r"layer: found Linear, expected a layer with delays"):
        plot.delays(nn.Linear(2, 2))
    with pytest.raises(InputError, match="layer: found LIF, expected a layer with weights"):
        plot.weights(LIF(2))
    with pytest.raises(InputError, match=r"layer.weight: found shape \[1, 1, 3, 3\], expected \[O, I\]"):
        plot.weights(nn.Conv2d(1, 1, 3))
    with pytest.raises(InputError, match="net: found Linear without a parameter in steps"):
        plot.time_constants(nn.Linear(2, 2))


def test_time_constants_of_every_neuron():
    slow = 50 + torch.arange(9.0)
    net = Sequential(LIF(9, tau=7.0), nn.Linear(9, 9), AdaptiveLIF(9, tau=5.0, tau_a=slow, learn=("tau_a",)))
    ax = plot.time_constants(net)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["0 LIF  tau", "2 AdaptiveLIF  tau", "2 AdaptiveLIF  tau_a"]
    strokes = [line.get_xdata() for line in ax.get_lines() if line.get_marker() == "|"]
    assert np.allclose(strokes[2], slow) and strokes[0].tolist() == [7.0]
    assert ax.get_xlabel() == "time constant (steps)"
    assert plot.time_constants(net, dt=0.01).get_xlabel() == "time constant (ms)"
    assert painted(plot.time_constants(LIF(5000, tau=torch.rand(5000) + 2)))


# --- learning ---------------------------------------------------------------------------------------------------------


def test_learning_curves_of_one_run():
    ax = plot.learning_curves(Run(history()))
    valid, train, best, border = ax.get_lines()
    assert valid.get_ydata().tolist() == [row["valid_loss"] for row in history()]
    assert train.get_ydata().tolist() == [row["train_loss"] for row in history()]
    assert best.get_xdata() == [50] and border.get_xdata() == [20, 20]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("updates", "loss")
    assert painted(ax) and painted(plot.learning_curves(history(1)))


def test_learning_curves_of_several_runs():
    ax = plot.learning_curves({"one": Run(history()), "two": history(offset=1)}, show="score")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["one", "two"]
    assert ax.get_ylabel() == "accuracy"
    assert painted(plot.learning_curves({str(n): history(offset=n) for n in range(9)}))


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({}, "runs: found no run"),
        ([], "runs: found list, expected what timecell.fit returned"),
        ({"a": 3}, r"runs\['a'\]: found int"),
        ([{"loss": 1}], "expected what timecell.fit returned"),
    ],
)
def test_what_is_no_history_is_refused(runs, message):
    with pytest.raises(InputError, match=message):
        plot.learning_curves(runs)


def test_a_run_without_validation_has_no_score():
    rows = [{"update": 1, "train_loss": 0.5}]
    assert painted(plot.learning_curves(rows))
    with pytest.raises(InputError, match="runs: found rows with train_loss, update, expected some with valid_score"):
        plot.learning_curves(rows, show="score")


def test_gradients_run_towards_the_end():
    net = Sequential(nn.Linear(3, 4), LeakyIntegrator(4, tau=3.0))
    batch = Batch(torch.rand(2, 20, 3))
    ax = plot.gradients(diagnose(net, batch, lambda y, *_: y[:, -1].sum()))
    assert ax.get_xlim() == (19, 0) and ax.get_yscale() == "log"
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["0 Linear", "1 LeakyIntegrator"]
    with pytest.raises(InputError, match="diagnosis: found no gradients"):
        plot.gradients(diagnose(net, batch))


# --- manners ----------------------------------------------------------------------------------------------------------


def test_every_picture_goes_on_the_axes_it_is_given():
    net = Sequential(Delayed(3, 4), LIF(4))
    found = diagnose(net, Batch(torch.rand(2, 20, 3)), lambda y, *_: y.sum())
    for draw in (
        lambda ax: plot.raster(torch.ones(4, 3), ax=ax), lambda ax: plot.traces(torch.rand(4, 3), ax=ax),
        lambda ax: plot.delays(net[0], ax=ax), lambda ax: plot.weights(net[0], ax=ax),
        lambda ax: plot.time_constants(net, ax=ax), lambda ax: plot.learning_curves(history(), ax=ax),
        lambda ax: plot.gradients(found, ax=ax),
    ):  # fmt: skip
        ax = Figure().subplots()
        assert draw(ax) is ax and ax.get_xlabel()


def test_nothing_touches_pyplot_or_imports_matplotlib_before_it_draws():
    code = (
        "import sys, torch, timecell.plot as plot; assert 'matplotlib' not in sys.modules;"
        "plot.raster(torch.ones(3, 2)); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r'pip install "timecell\[plot\]"'):
        plot.raster(torch.ones(3, 2))
