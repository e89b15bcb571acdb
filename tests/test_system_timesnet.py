"""`timesnet`: one backbone and four heads; units, batch mates, padding and hidden values change nothing they must not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from timecell import catalog
from timecell.checkpoint import seeded
from timecell.claims import load_claims, quick, read_terms, terms_file
from timecell.data.containers import Schema, Sequences, Series
from timecell.data.labelled_series import LabelledSeries
from timecell.network_system import FittedNetwork
from timecell.system import Run
from timecell.systems.series.claims.timesnet import hourly_taxi
from timecell.systems.series.timesnet import TimesBlock, TimesNet, TimesNetSystem
from timecell.tasks import Classify, Forecast, ShortTerm
from timecell.tasks.detect import Detect
from timecell.tasks.impute import Impute

RUN = Run(updates=4, device="cpu")
SMALL = TimesNetSystem(width=4, hidden=4, layers=1, periods=2, kernels=2)
CLAIMS = load_claims("timesnet")


def rhythm(T=400, channels=2, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(T)[:, None]
    return np.sin(2 * np.pi * t / 12 + np.arange(channels)) + 0.2 * rng.normal(size=(T, channels))


def series(**changes):
    return Series(rhythm(), Schema("series", ("a", "b"), period=12, **changes))


def data_for(task):
    """A little data set of the task's kind."""
    if task.name == "classify":
        rng = np.random.default_rng(0)
        label = np.arange(90) % 2
        samples = [rhythm(int(rng.integers(6, 15)), seed=i) * (1 + 2 * k) for i, k in enumerate(label)]
        return Sequences.of(samples, label, classes=("soft", "loud"))
    if task.name == "short-term":
        return Sequences.of([100.0**i * rhythm(45, seed=i) for i in range(5)], channels=("a", "b"))
    marks = np.zeros(400, bool)
    marks[300:310] = True
    return LabelledSeries(rhythm(), Schema("series", ("a", "b"), period=12, label="odd"), None, marks)


def net(head, **changes):
    options = {"channels": 2, "outputs": {"forecast": 10, "classify": 3}.get(head, 2), "steps": 24, "horizon": 5}
    with seeded(0):
        return (
            TimesNet(**options, head=head, width=4, hidden=4, layers=2, periods=2, kernels=2, **changes).double().eval()
        )


def windows(n=6, seed=0):
    return torch.randn(n, 24, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- the block ----------------------------------------------------------------------------------------------------------


def test_what_periods_say_is_weighted_by_shares_that_sum_to_one():
    block = TimesBlock(4, 4, periods=3)
    block.see = nn.Identity()
    x = torch.randn(5, 30, 4)
    torch.testing.assert_close(block(x), 2 * x)


def test_a_block_without_folds_has_as_many_weights():
    folded, flat = (net("forecast", folded=folded) for folded in (True, False))
    assert [p.shape for p in folded.parameters()] == [p.shape for p in flat.parameters()]
    flat.load_state_dict(folded.state_dict())
    assert (folded(windows())[0] != flat(windows())[0]).any()


def test_a_picture_has_the_same_phase_in_a_column():
    """A kernel that reads the pixel above: the value of one period before."""
    block = TimesBlock(1, 1, periods=1, kernels=2)
    above = torch.zeros(1, 1, 3, 3)
    above[0, 0, 0, 1] = 1.0

    class Above(nn.Module):
        def forward(self, picture):
            return nn.functional.conv2d(picture, above, padding=1)

    block.see = Above()
    x = torch.sin(2 * torch.pi * torch.arange(48.0) / 12)[None, :, None] + torch.randn(1, 48, 1) * 0.1
    said = block(x) - x
    torch.testing.assert_close(said[:, 12:], x[:, :-12])
    assert (said[:, :12] == 0).all()


# --- invariances --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["forecast", "impute", "detect"])
def test_other_units_give_the_same_answer_in_other_units(head):
    model, x = net(head), windows() * 5
    scale, shift = torch.tensor([3.0, 0.5], dtype=torch.float64), torch.tensor([7.0, -2.0], dtype=torch.float64)
    model.own_units.eps = 1e-12
    other = x * scale + shift
    if head == "impute":
        seen = (torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.7).double()
        x, other = torch.cat([x * seen, seen], 2), torch.cat([other * seen, seen], 2)
    y, z = model(x)[0], model(other)[0]
    if head == "forecast":
        torch.testing.assert_close(z[:, -1].unflatten(1, (5, 2)), y[:, -1].unflatten(1, (5, 2)) * scale)
        assert (y[:, :-1] == 0).all() and (y[:, -1] != 0).all()
    else:
        torch.testing.assert_close(z, y * scale + shift)


def test_batch_mates_do_not_matter_unless_periods_are_shared_in_training():
    x = windows()
    for model in (net("detect"), net("detect", shared=True)):
        together, alone = model(x)[0], torch.cat([model(one[None])[0] for one in x])
        torch.testing.assert_close(together, alone)
    model = net("detect", shared=True, dropout=0.0).train()
    assert not torch.allclose(model(x)[0], torch.cat([model(one[None])[0] for one in x]))


def test_padding_does_not_matter():
    model, x = net("classify"), windows()
    lengths = torch.tensor([24, 20, 9, 5, 2, 13])
    noisy = x.clone()
    for i, n in enumerate(lengths):
        noisy[i, n:] = 1e3
    together = model(noisy, lengths=lengths)[0]
    for i, n in enumerate(lengths):
        torch.testing.assert_close(model(x[i : i + 1, :n])[0], together[i : i + 1, :n])
        assert (together[i, n:] == 0).all()


def test_what_is_hidden_has_no_part_in_the_answer():
    model, x = net("impute"), windows()
    seen = (torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.7).double()
    other = x + 100 * (1 - seen)
    torch.testing.assert_close(model(torch.cat([x, seen], 2))[0], model(torch.cat([other, seen], 2))[0])


# --- as a system --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task",
    [
        Forecast(history=24, horizon=5, targets=("b",)),
        ShortTerm(history=24, horizon=5, targets=("b",)),
        Impute(history=24),
        Detect(history=12),
        Classify("last"),
    ],
    ids=lambda task: task.name,
)
def test_it_fits_is_kept_and_answers_alike(task, tmp_path):
    parts = task.split(data_for(task))
    assert SMALL.accepts(parts.train.schema, task) is None
    fitted = SMALL.fit(parts.train, parts.valid, task, RUN)
    assert {"parameters", "updates", "seconds"} <= set(fitted.report)
    scores = task.score(fitted.predict(parts.test), parts.test)
    assert np.isfinite(scores.value)
    fitted.save(tmp_path)
    one, two = (f.predict(parts.test).arrays() for f in (fitted, FittedNetwork.load(tmp_path)))
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


def test_answers_before_a_change_do_not_know_of_it():
    task = Forecast(history=24, horizon=5)
    parts = task.split(series())
    fitted = SMALL.fit(parts.train, parts.valid, task, RUN)
    changed = parts.test.series.values.copy()
    changed[370:] += 100
    other = replace(parts.test, series=replace(parts.test.series, values=changed))
    known = parts.test.starts + 24 <= 370
    one, two = fitted.predict(parts.test).values, fitted.predict(other).values
    np.testing.assert_allclose(one[known], two[known], rtol=1e-5, atol=1e-6)
    assert not np.allclose(one[~known], two[~known])


def test_it_says_what_it_cannot_do():
    system = catalog.load_system("timesnet")
    assert system.card.n == 25 and set(system.space()) == {"lr", "periods", "width"}
    assert "a single step" in system.accepts(Schema("sequences", ("x",), ("a", "b"), lengths=(1, 1)), Classify())
    assert "sequences" in system.accepts(Schema("sequences", ("x",), ("a", "b"), lengths=(9, 9)), Forecast())

    class Other:
        name = "decode"

    assert "the task is decode" in system.accepts(series().schema, Other())
    with pytest.raises(ValueError, match=r"TimesNet\(x\): found shape \[1, 30, 2\], expected \[B, at most 24, 2\]"):
        net("detect")(torch.zeros(1, 30, 2, dtype=torch.float64))


# --- claims -------------------------------------------------------------------------------------------------------------


def test_the_record_of_the_claims_has_its_five_unusual_stretches():
    record = hourly_taxi()
    assert record.values.shape == (5160, 1) and record.schema.period == 24
    assert (np.diff(record.anomalous.astype(int)) == 1).sum() == 5 and 0.05 < record.anomalous.mean() < 0.15
    assert not record.anomalous[: int(0.45 * 5160)].any()


@pytest.mark.parametrize("name", list(CLAIMS))
def test_every_claim_has_terms_and_runs(name):
    terms = read_terms(terms_file(catalog.find("timesnet")), name)
    assert set(terms.margins) == set(CLAIMS[name].margins)
    assert set(CLAIMS[name].shows.arms) <= quick(CLAIMS[name]).keys()
