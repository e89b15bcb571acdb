"""`counter-current`: a user's sequences go in, the two nets are saved together, and the claims run."""

from dataclasses import replace

import numpy as np
import pytest

from timecell import catalog
from timecell.claims import load_claims, quick, read_terms, terms_file
from timecell.credit.counter_current import alignment
from timecell.data.containers import Schema, Sequences
from timecell.network_system import FittedNetwork
from timecell.system import Run
from timecell.systems.learning.counter_current import CounterCurrentLearning
from timecell.tasks import Classify, Forecast

RUN = Run(updates=200, device="cpu")
CLAIMS = load_claims("counter-current")


def ragged(n=90, seed=0):
    """Three classes told apart by which channel is loud; samples of 2 to 9 steps."""
    rng = np.random.default_rng(seed)
    label = rng.integers(3, size=n)
    loud = np.arange(3) == label[:, None]
    return Sequences.of([rng.normal(2.0 * c, 1.0, (rng.integers(2, 10), 3)) for c in loud], label, classes=tuple("abc"))


@pytest.mark.parametrize("settings", [{}, {"units": "lif"}, {"rule": "backprop"}], ids=str)
def test_it_learns_sequences_of_ones_own(settings, tmp_path):
    system, task = CounterCurrentLearning(hidden=16, layers=2, batch=30, **settings), Classify()
    fitted = system.fit(ragged(), ragged(60, 1), task, RUN)
    unseen = ragged(60, 2)
    assert task.score(fitted.predict(unseen), unseen).value > 0.85
    fitted.save(tmp_path)
    loaded = FittedNetwork.load(tmp_path)
    assert loaded.system == system and loaded.task == replace(task, readout="every")
    assert alignment(loaded.network) == alignment(fitted.network)
    assert np.array_equal(loaded.predict(unseen).probabilities, fitted.predict(unseen).probabilities)


def test_only_the_readout_learns_where_only_the_readout_shall():
    system = CounterCurrentLearning(hidden=8, layers=2, rule="readout")
    one, other = (system.fit(ragged(), ragged(), Classify(), replace(RUN, updates=n)).network for n in (0, 5))
    changed = {n for n, p in one.named_parameters() if not p.equal(other.get_parameter(n))}
    assert changed == {"4.weight", "4.bias"}


def test_it_says_what_it_accepts():
    assert CounterCurrentLearning().accepts(ragged().schema, Classify()) is None
    assert "series" in CounterCurrentLearning().accepts(Schema("series", ("x",)), Classify())
    assert "the task is forecast" in CounterCurrentLearning().accepts(ragged().schema, Forecast())


def test_the_card_and_the_terms():
    path = catalog.find("counter-current")
    assert catalog.read_card(path) == CounterCurrentLearning.card and CounterCurrentLearning.card.n == 167
    for name, claim in CLAIMS.items():
        assert set(read_terms(terms_file(path), name).margins) == set(claim.margins)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_runs(name):
    assert set(CLAIMS[name].shows.arms) <= quick(CLAIMS[name]).keys()
