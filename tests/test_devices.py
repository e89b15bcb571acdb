"""Two processes make the updates that one would make; they stop, resume and end together."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from timecell import GRU, LIF, Delayed, LeakyIntegrator, Sequential, checkpoint
from timecell.credit import BPTT, SLTT, EProp, TruncatedBPTT
from timecell.data.containers import Schema, Sequences, Series
from timecell.distributed import World, launch
from timecell.errors import InputError, TimecellError
from timecell.recipe import Anneal, Recipe, Stage
from timecell.system import Run
from timecell.tasks import Classify, Forecast
from timecell.train import fit

ONE, TWO = Run(device="cpu"), Run(device="cpu", devices=2)


def data(n=50, seed=0, ragged=True):
    rng = np.random.default_rng(seed)
    label = rng.integers(2, size=n)
    T = rng.integers(4, 12, size=n) if ragged else np.full(n, 9)
    return Sequences.of([rng.standard_normal((t, 2)) + k * np.array([1, 0]) for t, k in zip(T, label)], label)


def net(seed=0):
    torch.manual_seed(seed)
    return Sequential(
        Delayed(2, 8, max_delay=4), nn.BatchNorm1d(8), LIF(8, tau=4.0, learn=("tau",)),
        nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8, momentum=None, affine=False), nn.Linear(8, 2), LeakyIntegrator(2),
    )  # fmt: skip


STAGES = (Stage(share=2, anneal=(Anneal("sigma", 2.0, 0.5),)), Stage(share=1, prepare="harden"))
RECIPE = Recipe(STAGES, batch=17)  # epochs of 17, 17 and 16 samples: parts of 9 + 8 and 8 + 8


PLAIN = Recipe(batch=17)


def train(run, module=None, credit=TruncatedBPTT(4), task=Classify("every"), updates=9, **changes):  # noqa: B008
    samples = changes.pop("samples", data())
    settings = {
        "valid": data(20, 1),
        "credit": credit,
        "recipe": RECIPE,
        "run": replace(run, updates=updates),
    } | changes
    return fit(module or net(), samples, task, **settings)


def difference(a, b):
    assert a.keys() == b.keys()
    return max(float((a[k].double() - b[k].double()).abs().max()) for k in a)


def numbers(trained):
    return trained.network.state_dict()


# --- the same updates -------------------------------------------------------------------------------------------------


def test_two_processes_are_one():
    """Batches that do not divide by two, ragged samples, slices in which whole parts have ended, batch norm, stages."""
    mine = net()
    one, two = train(ONE), train(TWO, mine)
    assert difference(numbers(one), numbers(two)) < 1e-5
    assert difference(numbers(one), numbers(train(ONE, net(1)))) > 1e-2  # 1e-5 is no large number here
    assert two.network is mine and not mine.training and mine[0].hard and two.updates == 9
    for a, b in zip(one.history, two.history, strict=True):
        assert a.keys() == b.keys() and a["train_loss"] == pytest.approx(b["train_loss"], abs=1e-5)
        assert a["valid_loss"] == pytest.approx(b["valid_loss"], abs=1e-5)
    assert one.best["update"] == two.best["update"]


@dataclass(frozen=True)
class ByHand:
    """A rule that fills the gradients itself: it knows neither `loss` nor `autograd`."""

    def slices(self, steps):
        return (slice(0, steps),)

    def backward(self, net, batch, steps, state, loss, autograd):
        y, state = net(batch.x, state, lengths=batch.lengths)
        value = y.square().mean(dim=(1, 2)).mean()
        used = list(net.parameters())[:-1]  # the last bias has no gradient, and does not even decay
        for p, gradient in zip(used, torch.autograd.grad(value, used)):
            p.grad = gradient
        return value.detach(), state


def plain(*modules):
    torch.manual_seed(0)
    return Sequential(nn.Linear(2, 4), *modules, nn.Linear(4, 2))


def cases():
    """Everything else that is trained, by one process or by this one of two."""
    whole, few = Classify("softmax_sum"), Recipe((Stage(lr=0.1, weight_decay=0.1),), batch=17)
    wave = np.sin(np.arange(120) * 0.4) + 0.1 * np.random.default_rng(0).standard_normal(120)
    wave[50:53] = np.nan  # targets that are not observed cost nothing, in whichever part they are
    task = Forecast(history=10, horizon=3)
    windows = task.split(Series(wave[:, None], Schema("series", ("x",))))
    torch.manual_seed(0)
    forecaster = Sequential(GRU(1, 6), nn.Linear(6, 3))
    trained = {
        "whole": train(ONE, credit=BPTT(), task=whole),
        "no time": train(ONE, credit=SLTT(3), samples=data(51, ragged=False)),
        "forecast": fit(forecaster, windows, task, recipe=Recipe(batch=9), run=replace(ONE, updates=6)),
        "drawn steps": train(ONE, credit=SLTT(3, k=4)),
        "traces": train(ONE, plain(LIF(4)), credit=EProp(), recipe=few),
        "by hand": fit(plain(), data(), whole, credit=ByHand(), recipe=few, run=replace(ONE, updates=4)),
    }
    return {name: {k: v.numpy().copy() for k, v in t.network.state_dict().items()} for name, t in trained.items()}


class Drawing(nn.Module):
    """Remembers what it drew."""

    def forward(self, x):
        if self.training:
            self.drawn = torch.rand(1).item()
        return x


def several(stop):
    """What each of two processes does in one launch: all cases, and a net that the processes do not agree on."""
    found = cases()
    torch.manual_seed(World().rank)
    odd = plain(Drawing()) if World().rank == 0 else Sequential(nn.Linear(2, 4), Drawing(), nn.Linear(4, 2))
    fit(odd, data(), Classify("every"), run=replace(ONE, updates=2))
    mine = {k: v.numpy().tobytes() for k, v in odd.state_dict().items()}
    return found, World().gather((mine, odd[1].drawn))


def test_whatever_the_rule_and_the_task():
    found, ((first, drawn), (second, drawn_too)) = launch(several, 2)
    expected = cases()
    for name, tensors in expected.items():
        assert difference(tensors_of(tensors), tensors_of(found[name])) < 1e-5, name
    assert first == second and drawn != drawn_too  # equal nets, but each process draws its own noise


def tensors_of(arrays):
    return {k: torch.from_numpy(v) for k, v in arrays.items()}


# --- stopping and going on --------------------------------------------------------------------------------------------


class Stop(Exception):
    pass


class Stopping(nn.Module):
    """Raises in its 8th training step; draws noise."""

    _steps = 8

    def forward(self, x):
        self._steps -= self.training
        if self._steps < 0:
            raise Stop
        return x + 0.1 * torch.rand_like(x) if self.training else x


def stopped_and_resumed(folder, stop):
    """The same run three times: without a break, until something breaks, and from there on."""

    def run(name, steps):
        net = plain(Stopping())
        net[1]._steps = steps
        at = replace(ONE, folder=folder / name, resume=True, checkpoint_every=0.0)
        trained = train(at, net, credit=BPTT(), recipe=PLAIN, updates=10)
        return {k: v.numpy().tobytes() for k, v in numbers(trained).items()}

    straight = run("straight", 1000)
    with pytest.raises(Stop):
        run("stopped", 8)
    return straight, checkpoint.latest(folder / "stopped").name, run("stopped", 1000)


def test_resumed_with_the_same_number_of_processes(tmp_path):
    straight, where, resumed = launch(partial(stopped_and_resumed, tmp_path), 2)
    assert where == "checkpoint-000000008" and straight == resumed
    at = replace(ONE, folder=tmp_path / "stopped", resume=True)
    with pytest.raises(InputError, match=r"found devices = 1, expected 2 as in the checkpoint"):
        train(at, plain(Stopping()), credit=BPTT(), recipe=PLAIN, updates=10)


SCRIPT = """
import torch, timecell as tc
from torch import nn
from test_devices import data

class Mine(nn.Module):  # known to this script only, which has no `if __name__ == "__main__"`
    def forward(self, x):
        return torch.tanh(x)

torch.manual_seed(0)
net = tc.Sequential(nn.Linear(2, 4), Mine(), nn.Linear(4, 2))
run = tc.Run(updates={updates}, devices={devices}, device="cpu", folder={folder!r}, progress=True)
trained = tc.fit(net, data(), tc.tasks.Classify(), valid=data(20, 1), recipe=tc.Recipe(batch=17), run=run)
print("sum", sum(p.double().sum().item() for p in trained.network.parameters()), trained.updates)
"""


def script(tmp_path, *before, updates=4, devices=2):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(updates=updates, devices=devices, folder=str(tmp_path / "run")))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    return subprocess.Popen(
        [sys.executable, *before, str(path)], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip


def alive(group):
    """Processes of a group that still run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, its_group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state != "Z":
            found.append(folder.name)
    return found


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.1)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left(tmp_path, number):
    process = script(tmp_path, updates=100_000)
    for line in process.stderr:
        if line.startswith("update "):
            break
    assert len(alive(process.pid)) >= 3
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    _, said = process.communicate(timeout=60)
    until(lambda: not alive(process.pid))
    if number == signal.SIGINT:
        assert said.count("Stopped after update") == 1 and said.strip().endswith("KeyboardInterrupt")
        assert checkpoint.latest(tmp_path / "run") is not None


def test_torchrun(tmp_path):
    process = script(tmp_path, "-m", "torch.distributed.run", "--nproc-per-node", "2", devices=1)
    said, problems = process.communicate(timeout=120)
    assert process.returncode == 0, problems
    first, second = said.splitlines()
    assert first == second and first.endswith(" 4")
    assert [line.split(":")[0] for line in problems.splitlines() if line.startswith("update ")] == [
        "update 3/4",
        "update 4/4",
    ]
    torch.manual_seed(0)
    alone = Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))
    fit(alone, data(), Classify(), valid=data(20, 1), recipe=PLAIN, run=replace(ONE, updates=4))
    assert float(first.split()[1]) == pytest.approx(sum(p.sum().item() for p in alone.parameters()), abs=1e-5)


# --- errors -----------------------------------------------------------------------------------------------------------


class Dies(nn.Module):
    def forward(self, x):
        if self.training and World().rank == 1:
            os._exit(3)
        return x


class OwnNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(4))

    def forward(self, x):
        return x - x.mean(0)


def test_what_can_not_be_done_by_several(tmp_path):
    with pytest.raises(TimecellError, match=r"(?s)run.devices: found a training process that died.*resume=True"):
        train(TWO, plain(Dies()), recipe=PLAIN)
    unsendable = plain()
    unsendable.file = (tmp_path / "open").open("w")
    with unsendable.file, pytest.raises(InputError, match=r"(?s)run.devices: found something that other.*torchrun"):
        train(TWO, unsendable, recipe=PLAIN)
    with pytest.raises(
        InputError, match=r"run.devices: found 2, expected at most 1, the samples of the smallest batch"
    ):
        train(TWO, plain(), recipe=Recipe(batch=1))
    with pytest.raises(InputError, match=r"run.devices: found 0, expected at least 1"):
        Run(devices=0)
    world = World()
    world.size = 2
    with (
        pytest.raises(InputError, match=r"(?s)run.devices: found 1 \(OwnNorm\).*nn.BatchNorm1d.*LayerNorm"),
        world.synchronised(plain(OwnNorm())),
    ):
        pass
