"""`hlop`: a stream of tasks is learnt in order, and what is kept of old ones is protected."""

import numpy as np
import pytest
import torch

from timecell import catalog
from timecell.claims import load_claims, quick, read_terms, terms_file
from timecell.credit.project import lateral_units
from timecell.data.containers import Schema, Sequences
from timecell.data.splits import by_sample
from timecell.errors import InputError
from timecell.network_system import FittedNetwork
from timecell.system import Run
from timecell.systems.spiking.claims.hlop import Decomposed
from timecell.systems.spiking.hlop import OrthogonalLearning
from timecell.tasks import Classify, Forecast
from timecell.tasks.stream import TaskStream

CLAIMS = load_claims("hlop")
RUN = Run(updates=40, device="cpu")


def splits(n=200, seed=0, channels=30):
    """Two classes told apart by which half of the channels is loud."""
    rng = np.random.default_rng(seed)
    label = rng.integers(2, size=n)
    loud = (np.arange(channels) < channels // 2) == label[:, None]
    return by_sample(Sequences.of(list(loud[:, None] * 0.5 + rng.random((n, 4, channels)) * 0.5), label), seed=0)


def stream():
    return TaskStream.permuted(splits(), tasks=3, seed=0)


def learn(**settings):
    system = OrthogonalLearning(**{"hidden": 20, "layers": 1, "share": 0.2, "tasks": 3, "lr": 0.2, **settings})
    return system.learn_stream(stream(), Classify("every"), RUN)


@pytest.mark.parametrize("rule", ["bptt", "ottt", "feedback"])
def test_a_stream_is_learnt_and_kept_better_than_without_protection(rule):
    with_it, without = learn(rule=rule).scores, learn(rule=rule, protect=False).scores
    assert with_it.plasticity > 0.8 and without.plasticity > 0.8
    assert with_it.backward_transfer >= without.backward_transfer


def test_rows_fill_up_task_by_task_and_old_ones_stay():
    net = learn().fitted.network
    assert len(lateral_units(net[0]).kept) == 18 and len(lateral_units(net[2]).kept) == 12
    system = OrthogonalLearning(hidden=20, layers=1, share=0.2, tasks=3, lr=0.2)
    first = TaskStream(stream().names[:1], stream().parts[:1])
    early = system.learn_stream(first, Classify("every"), RUN).fitted.network
    kept = lateral_units(early[0]).kept
    assert torch.equal(lateral_units(net[0]).kept[: len(kept)], kept), "to the bit"


def test_without_updates_of_its_own_a_net_is_the_same_net():
    one, other = (learn(protect=protect).scores.values[0] for protect in (True, False))
    assert np.array_equal(one, other), "the first task has nothing to spare"


def test_principal_components_take_the_place_of_the_hebbian_rule():
    system = Decomposed(hidden=20, layers=1, share=0.2, tasks=3, lr=0.2)
    rows = lateral_units(system.learn_stream(stream(), Classify("every"), RUN).fitted.network[0]).kept
    torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), atol=1e-4, rtol=0)


def test_it_learns_sequences_of_ones_own_and_a_folder_brings_it_back(tmp_path):
    parts, task = splits(), Classify()
    fitted = OrthogonalLearning(hidden=20, lr=0.2).fit(parts.train, parts.valid, task, RUN)
    assert task.score(fitted.predict(parts.test), parts.test).value > 0.9
    stayed = learn().fitted
    for one in (fitted, stayed):
        one.save(tmp_path)
        loaded = FittedNetwork.load(tmp_path)
        assert loaded.system == one.system
        assert np.array_equal(loaded.predict(parts.test).probabilities, one.predict(parts.test).probabilities)


def test_it_says_what_it_accepts():
    assert OrthogonalLearning().accepts(splits().train.schema, Classify()) is None
    assert "series" in OrthogonalLearning().accepts(Schema("series", ("x",)), Classify())
    assert OrthogonalLearning().accepts(splits().train.schema, Forecast()) == "it can classify; the task is forecast"
    with pytest.raises(InputError, match="hlop: found it can classify"):
        OrthogonalLearning().fit(splits().train, splits().valid, Forecast(), RUN)


def test_the_card_and_the_terms():
    path = catalog.find("hlop")
    assert catalog.read_card(path) == OrthogonalLearning.card and OrthogonalLearning.card.n == 45
    for name, claim in CLAIMS.items():
        assert set(read_terms(terms_file(path), name).margins) == set(claim.margins)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_runs(name):
    assert set(CLAIMS[name].shows.arms) <= quick(CLAIMS[name]).keys()
