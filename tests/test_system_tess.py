"""`tess`: every layer learns from itself, nothing crosses layers or time, and memory says so."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from timecell import catalog
from timecell.checkpoint import seeded
from timecell.claims import Trial, load_claims, quick, read_terms, terms_file
from timecell.credit.checks import gradients
from timecell.data.containers import Batch, Schema, Sequences
from timecell.network_system import FittedNetwork
from timecell.system import Run
from timecell.systems.spiking.tess import TASK, LocalLearning, allocated
from timecell.tasks import Classify, Forecast

RUN = Run(updates=60, device="cpu")
CLAIMS = load_claims("tess")


def ragged(n=90, seed=0):
    """Two classes told apart by which channel is loud; samples of 2 to 9 steps."""
    rng = np.random.default_rng(seed)
    label = rng.integers(2, size=n)
    loud = np.arange(2) == label[:, None]
    return Sequences.of([rng.normal(2.0 * c, 1.0, (rng.integers(2, 10), 2)) for c in loud], label, classes=("a", "b"))


def net_and_batch(rule="tess", layers=3):
    system = LocalLearning(hidden=12, layers=layers, rule=rule)
    with seeded(0):
        net = system.build(Schema("sequences", ("x", "y", "z")), 2)
        return system, net, Batch(torch.rand(8, 9, 3), torch.arange(8) % 2)


def test_no_layer_hears_of_another():
    system, net, batch = net_and_batch()
    before = gradients(system.credit(), net, batch, TASK.loss)[1]
    with torch.no_grad():
        net[4].weight.neg_()
    after = gradients(system.credit(), net, batch, TASK.loss)[1]
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"4.weight", "6.weight"} <= changed and not any(name[0] in "0123" for name in changed)


def test_the_readout_learns_from_its_own_loss():
    system, net, batch = net_and_batch()
    _, exact, _ = net_and_batch("bptt")
    found = gradients(system.credit(), net, batch, TASK.loss)[1]
    truth = gradients(replace(system, rule="bptt").credit(), exact, batch, TASK.loss)[1]
    torch.testing.assert_close(found["6.weight"], truth["6.weight"], rtol=1e-4, atol=1e-6)
    assert torch.cosine_similarity(found["0.weight"].flatten(), truth["0.weight"].flatten(), dim=0) < 0.9


def test_redrawn_heads_teach_something_else_each_time():
    system, net, batch = net_and_batch("redrawn")
    one, other = (gradients(system.credit(), net, batch, TASK.loss)[1] for _ in range(2))
    assert not torch.equal(one["0.weight"], other["0.weight"]) and torch.equal(one["6.weight"], other["6.weight"])
    frozen = net_and_batch("readout")[1]
    assert {n for n, p in frozen.named_parameters() if p.requires_grad} == {"6.weight", "6.bias"}


def test_memory_is_flat_in_time_and_adds_up_over_layers():
    kept = {(steps, layers): allocated("tess", steps, layers) for steps in (8, 24) for layers in (1, 2, 3)}
    assert all(kept[8, layers] == kept[24, layers] for layers in (1, 2, 3))
    assert kept[8, 3] - kept[8, 2] == pytest.approx(kept[8, 2] - kept[8, 1], rel=0.2)
    assert allocated("bptt", 24, 2) > 2.5 * allocated("bptt", 8, 2)


@pytest.mark.parametrize("rule", ["tess", "bptt", "broadcast"])
def test_it_learns_sequences_of_ones_own(rule, tmp_path):
    system, task = LocalLearning(hidden=16, batch=30, rule=rule), Classify()
    fitted = system.fit(ragged(), ragged(60, 1), task, RUN)
    unseen = ragged(60, 2)
    assert task.score(fitted.predict(unseen), unseen).value > 0.9
    fitted.save(tmp_path)
    loaded = FittedNetwork.load(tmp_path)
    assert loaded.system == system and loaded.task == replace(task, readout="every")
    assert np.array_equal(loaded.predict(unseen).probabilities, fitted.predict(unseen).probabilities)


def test_it_says_what_it_accepts():
    assert LocalLearning().accepts(ragged().schema, Classify()) is None
    assert "series" in LocalLearning().accepts(Schema("series", ("x",)), Classify())
    assert LocalLearning().accepts(ragged().schema, Forecast()) == "it can classify; the task is forecast"


def test_the_card_and_the_terms():
    path = catalog.find("tess")
    assert catalog.read_card(path) == LocalLearning.card and LocalLearning.card.n == 162
    for name, claim in CLAIMS.items():
        assert set(read_terms(terms_file(path), name).margins) == set(claim.margins)


@pytest.mark.parametrize("name", [name for name in CLAIMS if name != "memory_is_flat"])
def test_a_claim_runs(name):
    assert set(CLAIMS[name].shows.arms) <= quick(CLAIMS[name]).keys()


def test_memory_and_its_control_are_exact():
    shown, control = (CLAIMS["memory_is_flat"](Trial(0, control=control)) for control in (False, True))
    assert max(m.value for m in shown.values()) < 1.05
    assert control["32 steps"].value > 3 and control["another layer, 32 steps"].value > 3
