"""A run that is killed and resumed is the run that was never stopped, to the last bit; damage is never passed over."""

import os
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from timecell import LIF, Delayed, LeakyIntegrator, Sequential, checkpoint
from timecell.credit import BPTT, TruncatedBPTT
from timecell.data.containers import Sequences
from timecell.errors import DataError, InputError
from timecell.neurons.surrogate import ATan
from timecell.recipe import Anneal, Recipe, Stage, Staged
from timecell.system import Run
from timecell.tasks import Classify
from timecell.train import fit

KILL_AT = None  # the update in whose loss this process kills itself


@dataclass(frozen=True)
class Deadly(Classify):
    """A task that is interrupted by the hardest of all signals in the middle of an update."""

    def loss(self, y, batch, steps):
        global KILL_AT
        if y.requires_grad and KILL_AT is not None:
            KILL_AT -= 1
            if KILL_AT == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(y, batch, steps)


class Jitter(nn.Module):
    """Noise from all three global generators, in training."""

    def forward(self, x):
        return x + 0.01 * (np.random.rand() + random.random()) if self.training else x  # noqa: NPY002


def data(n, seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(2, size=n)
    T = rng.integers(6, 10, size=n)
    channel = np.arange(2) == label[:, None]
    return Sequences.of([rng.standard_normal((t, 2)).astype(np.float32) + c for t, c in zip(T, channel)], label)


def net(seed=0, dropout=0.3):
    torch.manual_seed(seed)
    return Sequential(
        Delayed(2, 8, max_delay=4), nn.BatchNorm1d(8), LIF(8, tau=4.0, learn=("tau",)), nn.Dropout(dropout), Jitter(),
        nn.Linear(8, 2), LeakyIntegrator(2),
    )  # fmt: skip


STAGES = (Stage(share=3, anneal=(Anneal("sigma", 2.0, 0.5),), rates={"delay": 30.0}), Stage(share=1, prepare="harden"))
RECIPE = Recipe(STAGES, batch=20)  # 5 updates an epoch; the second stage begins after update 30
TASK = Deadly("every")


def train(folder, module=None, *, dataset=None, recipe=RECIPE, credit=None, task=TASK, **changes):
    settings = {"updates": 40, "folder": folder, "resume": True, "device": "cpu"} | changes
    return fit(
        module or net(), dataset or data(100, 0), task, valid=data(40, 1), credit=credit or TruncatedBPTT(50),
        recipe=recipe, run=Run(**settings),
    )  # fmt: skip


def bits(module):
    return {name: t.numpy().tobytes() for name, t in module.state_dict().items()}


def train_and_die(folder, update):
    global KILL_AT
    torch.set_num_threads(1)
    KILL_AT = update
    train(Path(folder), checkpoint_every=0.0)


def child(folder, update):
    """Another process that dies of SIGKILL in the middle of that update."""
    code = f"import test_resume; test_resume.train_and_die({str(folder)!r}, {update})"
    return subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    return train(tmp_path_factory.mktemp("straight"))


def test_killed_in_the_middle_of_an_epoch_and_resumed(straight, tmp_path):
    """Once in the first stage, once in the second."""
    children = {update: child(tmp_path / str(update), update) for update in (18, 33)}
    for update, process in children.items():
        assert process.wait(timeout=120) == -signal.SIGKILL
        assert checkpoint.latest(tmp_path / str(update)).name == f"checkpoint-{update - 1:09d}"
        resumed = train(tmp_path / str(update), net(seed=9))
        assert bits(resumed.network) == bits(straight.network)
        assert (resumed.history, resumed.best) == (straight.history, straight.best)
        assert resumed.updates == 40 and resumed.network[0].hard


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that was stopped after 16 updates."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(Stop):
        train(folder, Stopping(16), checkpoint_every=0.0)
    return folder


@pytest.fixture
def halfway(stopped, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(stopped, tmp_path / "run"))


class Stop(Exception):
    pass


class Stopping(Sequential):
    """The same net, but its 17th training step raises."""

    def __init__(self, steps):
        torch.manual_seed(0)
        super().__init__(*net()._modules.values())
        self._steps = steps

    def forward(self, x, state=None, *, lengths=None):
        if self.training:
            self._steps -= 1
            if self._steps < 0:
                raise Stop
        return super().forward(x, state, lengths=lengths)


def resume(halfway, **changes):
    return train(halfway, changes.pop("module", None) or Stopping(1000), **changes)


def test_resumed_in_the_same_process(straight, halfway):
    assert bits(resume(halfway).network) == bits(straight.network)


SCHEDULED = Recipe(
    (
        Stage(
            anneal=(
                Anneal("sigma", 2.0, 0.5),
                Anneal("threshold", 0.5, 1.0, share=0.8, course="linear"),
                Anneal("3.p", 0.0, 0.5, share=1.0, course="cosine"),
                Staged("surrogate", (ATan(1.0), ATan(4.0))),
            )
        ),
    ),
    batch=20,
)


def test_scheduled_values_go_on_where_they_were(tmp_path):
    """Delay widths, thresholds, dropout and the surrogate itself; stopped while each is on its way."""
    straight = train(tmp_path / "straight", Stopping(1000), recipe=SCHEDULED, updates=30)
    with pytest.raises(Stop):
        train(tmp_path / "run", Stopping(17), recipe=SCHEDULED, updates=30, checkpoint_every=0.0)
    resumed = train(tmp_path / "run", Stopping(1000), recipe=SCHEDULED, updates=30)
    assert bits(resumed.network) == bits(straight.network) and resumed.history == straight.history
    for trained in (straight, resumed):
        delayed, _, lif, dropout = trained.network[0], *[trained.network[i] for i in (1, 2, 3)]
        assert (delayed.sigma, lif.threshold.item(), dropout.p, lif.surrogate) == (0.5, 1.0, 0.5, ATan(4.0))


def test_a_run_that_is_done_is_done(straight, halfway):
    first = resume(halfway)
    again = resume(halfway, module=Stopping(0))  # it would raise in any training step
    assert bits(again.network) == bits(first.network) and again.history == first.history


def test_without_a_checkpoint_resume_begins(straight, tmp_path):
    assert bits(train(tmp_path / "new").network) == bits(straight.network)


def test_a_folder_with_a_checkpoint_is_not_overwritten(halfway):
    with pytest.raises(InputError, match=r"(?s)run.folder: found checkpoint-0*16 in .*resume=True"):
        resume(halfway, resume=False)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"recipe": replace(RECIPE, batch=25)}, "recipe.batch = 25, expected 20"),
        ({"recipe": replace(RECIPE, stages=(STAGES[0], replace(STAGES[1], lr=1e-4)))}, "recipe.stages.1.lr = 0.0001"),
        ({"credit": BPTT()}, "credit.class = timecell.credit.bptt.BPTT, expected .*TruncatedBPTT"),
        ({"task": Deadly("last")}, "task.readout = last, expected every"),
        ({"seed": 1}, "seed = 1, expected 0"),
        ({"updates": 41}, "updates = 41, expected 40"),
        ({"dataset": data(101, 0)}, "train = [0-9a-f]+, expected [0-9a-f]+"),
    ],
)
def test_another_configuration_or_other_data_are_refused(halfway, changes, says):
    with pytest.raises(InputError, match=f"(?s)run.resume: found {says}.*as in the checkpoint.*Remedy"):
        resume(halfway, **changes)


def test_another_net_is_refused(halfway):
    other = Stopping(1000)
    other[3].p = 0.1
    with pytest.raises(InputError, match=r"found network\.3\.p = 0\.1, expected 0\.3"):
        resume(halfway, module=other)


def test_another_number_of_threads_is_one_warning(straight, halfway, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    with pytest.warns(UserWarning, match="'threads': 7.*'threads': 1.*last bits") as seen:
        resume(halfway)
    assert len(seen) == 1 and "\n" not in str(seen[0].message)


FILES = ["model.safetensors", "optimizer.safetensors", "random.safetensors", "state.json", "manifest.json"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncated", "changed", "missing"])
def test_damage_names_the_file(halfway, name, damage):
    path = checkpoint.latest(halfway) / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif name == "manifest.json":
        path.write_bytes(content.replace(b'"state.json": "', b'"state.json": "0'))
    else:
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    named = "state.json" if (name, damage) == ("manifest.json", "changed") else name
    with pytest.raises(DataError, match=f"(?s){named}: found .*Remedy: restore it, or delete checkpoint-"):
        resume(halfway)


def test_a_checkpoint_that_can_not_be_finished_leaves_the_one_before(halfway, monkeypatch):
    before = checkpoint.latest(halfway)
    loaded = checkpoint.load(before)

    def fail(*paths):
        raise OSError("no space left")

    with monkeypatch.context() as m:
        m.setattr(os, "replace", fail)
        with pytest.raises(OSError):
            checkpoint.save(halfway, 17, loaded)
    assert checkpoint.latest(halfway) == before
    checkpoint.load(before)
    checkpoint.save(halfway, 18, loaded)
    assert [p.name for p in halfway.iterdir()] == ["checkpoint-000000018"]  # neither the old one nor remains


def test_two_whole_checkpoints_after_a_kill_between_them(straight, halfway):
    """Killed after the new one got its name and before the old one was removed: the newer counts."""
    old = checkpoint.latest(halfway)
    shutil.copytree(old, old.with_name("checkpoint-000000003"))
    assert bits(resume(halfway).network) == bits(straight.network)
    assert [p.name for p in halfway.iterdir()] == ["checkpoint-000000040"]


def test_tied_weights_survive(tmp_path):
    shared = nn.Linear(3, 3)
    path = checkpoint.save(tmp_path, 1, checkpoint.Checkpoint({"model": {"a": shared.weight, "b": shared.weight}}, {}))
    found = checkpoint.load(path).tensors["model"]
    assert torch.equal(found["a"], shared.weight) and torch.equal(found["b"], shared.weight)
