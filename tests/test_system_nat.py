"""`nat`: nothing comes from the future, nobody's number matters, and a user's own edges go in."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from timecell import catalog, edge_system
from timecell.card import Card
from timecell.checkpoint import seeded
from timecell.claims import load_claims, quick, read_terms, terms_file
from timecell.claims.terms import tables
from timecell.data.containers import Schema
from timecell.data.edge_files import edges_of_table
from timecell.data.read_csv import read_csv
from timecell.data.synthetic.edge_stream import edge_stream
from timecell.data.temporal_edges import TemporalEdges
from timecell.edge_system import EdgeScale, FittedEdges, link_loss
from timecell.errors import DataError, InputError, TimecellError
from timecell.system import Run
from timecell.systems.graphs.nat import NeighbourhoodAware, joined
from timecell.tasks import Classify
from timecell.tasks.link import LinkPrediction

TASK = LinkPrediction(negatives=2)
SMALL = NeighbourhoodAware(size=12, entry=3, slots=(16, 8), code=6, hidden=12, batch=25)
STREAM = edge_stream(nodes=20, edges=500, closing=0.6, window=60, seed=2).data
RUN = Run(updates=16, device="cpu")
CLAIMS = load_claims("nat")


def tied(E=300, V=14, F=2, seed=0):
    rng = np.random.default_rng(seed)
    u = rng.integers(V, size=E)
    v = (u + rng.integers(1, V, size=E)) % V
    return TemporalEdges.of(u, v, np.sort(rng.integers(80, size=E)).astype(float), rng.normal(size=(E, F)))


def fitted(data, system=SMALL, task=TASK):
    """Not trained: what is asked here holds of any weights."""
    with seeded(0):
        net = system.build(data.features.shape[1]).eval()
    return FittedEdges(system, data.schema, task, EdgeScale.fit(data), net)


def pairs(data, K=3, seed=0):
    return np.random.default_rng(seed).integers(len(data.nodes), size=(len(data), K))


def rebuilt(data, **changed):
    """The same stream with other arrays, sorted anew."""
    new = {name: changed.get(name, getattr(data, name)) for name in ("source", "target", "time", "features")}
    return replace(TemporalEdges.of(*new.values(), nodes=data.nodes), begin=data.begin)


# --- what holds of every model of streams -----------------------------------------------------------------------------------


def edited(data, later, seed):
    """Another future: who, when and what, for the edges that come later."""
    rng, E, V = np.random.default_rng(seed), len(data.time), len(data.nodes)
    return rebuilt(
        data,
        source=np.where(later, rng.integers(V, size=E), data.source),
        target=np.where(later, rng.integers(V, size=E), data.target),
        time=np.where(later, data.time + rng.integers(0, 3, size=E), data.time),
        features=np.where(later[:, None], 9.0, data.features).astype(np.float32),
    )


@pytest.mark.parametrize("batch", [1, 25])
def test_what_happens_from_now_on_changes_no_score_of_now(batch):
    data = tied()
    model, others = fitted(data, replace(SMALL, batch=batch)), pairs(data)
    scores = model.score(data, others)
    for t in (20.0, 45.0, 46.0):
        now, later = np.flatnonzero(data.time == t), data.time > t
        found = model.score(edited(data, later, seed=1), others)
        np.testing.assert_allclose(found[now], scores[now], rtol=0, atol=1e-6)  # rounding differs with the batch
        gone = now[1:]  # the other edges of this very instant never were
        left = {name: np.delete(getattr(data, name), gone, axis=0) for name in ("source", "target", "time", "features")}
        found = model.score(rebuilt(data, **left), np.delete(others, gone, axis=0))
        np.testing.assert_allclose(found[now[:1]], scores[now[:1]], rtol=0, atol=1e-6)
    assert np.abs(found[now[0] + 1 :] - np.delete(scores, gone, axis=0)[now[0] + 1 :]).max() > 1e-4, "the past does"


def test_what_happens_in_later_batches_changes_no_bit():
    data = tied()
    model, others = fitted(data), pairs(data)
    for part in list(data.batches(25))[3:-1]:
        later = np.arange(300) >= part.stop
        found = model.score(edited(data, later, seed=2), others)
        assert np.array_equal(found[: part.stop], model.score(data, others)[: part.stop])


def test_the_order_of_edges_of_one_instant_does_not_matter():
    data = tied()
    order = np.lexsort((np.random.default_rng(0).random(300), data.time))
    shuffled = rebuilt(
        data, source=data.source[order], target=data.target[order], time=data.time[order], features=data.features[order]
    )
    model, others = fitted(data), pairs(data)
    assert np.array_equal(model.score(shuffled, others), model.score(data, others))


def test_edges_of_one_instant_are_entered_alike_whatever_their_order():
    data, model = tied(), fitted(tied(), replace(SMALL, slots=(16, 16)))
    events = model.scale(data.events(slice(0, 30)))
    same = events._replace(time=torch.ones_like(events.time))
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, two = (
            model.network.observe(type(same)(*(x[index] for x in same)), model.network.initial_state(14))
            for index in (torch.arange(30), order)
        )
    torch.testing.assert_close(one.own, two.own)
    assert torch.equal(one.met.key, two.met.key)


def test_the_numbers_of_the_nodes_do_not_matter():
    data = replace(tied(V=14), time=np.arange(300.0))  # where instants are shared, the canonical order decides
    model = fitted(data, replace(SMALL, slots=(16, 16)))  # room for everybody
    name = np.random.default_rng(3).permutation(14)
    renamed, others = rebuilt(data, source=name[data.source], target=name[data.target]), pairs(data)
    scores = model.score(data, others)[:, 0]
    found = {
        (t, u, v): s
        for t, u, v, s in zip(renamed.time, renamed.source, renamed.target, model.score(renamed, others)[:, 0])
    }
    again = [found[t, u, v] for t, u, v in zip(data.time, name[data.source], name[data.target])]
    np.testing.assert_allclose(again, scores, rtol=0, atol=1e-6)


def test_history_replayed_is_history_scored():
    data = STREAM.before(120.0)
    model, others = fitted(data, replace(SMALL, batch=1)), pairs(data)
    found = model.score(replace(data, begin=60), others[60:])
    np.testing.assert_allclose(found, model.score(data, others)[60:], rtol=0, atol=1e-6)


def test_a_fit_does_not_depend_on_what_was_fitted_before_and_scores_leave_no_trace():
    parts = TASK.split(STREAM)
    one = SMALL.fit(parts.train, parts.valid, TASK, RUN)
    first = one.predict(parts.test).scores
    assert np.array_equal(one.predict(parts.test).scores, first, equal_nan=True)
    two = SMALL.fit(parts.train, parts.valid, TASK, RUN)
    assert np.array_equal(two.predict(parts.test).scores, first, equal_nan=True)
    assert one.report["best"] == two.report["best"]


# --- the paper's own idea -------------------------------------------------------------------------------------------------------


def test_codes_say_where_a_key_was_found():
    """a (2) is a friend of u (0) and of v (1); b (3) is a friend of u and, by way of b, c (4) of u at two steps."""
    data = TemporalEdges.of([3, 0, 1, 0], [4, 2, 2, 3], [1.0, 2.0, 3.0, 4.0])
    model = fitted(data, replace(SMALL, batch=1))
    with torch.no_grad():
        state = model.network.initial_state(5)
        for part in data.batches(1):
            state = model.network.observe(model.scale(data.events(part)), state)
        known = [model.network.read(state, torch.tensor([n]), torch.tensor([9.0]).double()) for n in (0, 1)]
        code, h, there = joined(*known)
    # bits 1, 2, 4: u itself, met, heard of; 8, 16, 32: the same of v. v heard of u by a, u has not yet heard of v
    assert code[there].tolist() == [1 + 32, 8, 2 + 16, 2, 4]
    assert h[there][1].abs().max() == 0 < h[there][2].abs().max(), "v is known to nobody but itself"


def test_the_vectors_of_a_shared_key_are_summed():
    data, model = STREAM, fitted(STREAM)
    with torch.no_grad():
        state = model.network.initial_state(20)
        for part in data.batches(25):
            state = model.network.observe(model.scale(data.events(part)), state)
        nodes = torch.arange(20)
        known = model.network.read(state, nodes, torch.full((20,), 600.0).double())
        _, h, there = joined(known.take(nodes[:1]), known.take(nodes[1:2]))
        parts = [(e.key[i], e.h[i]) for i in (0, 1) for e in (known.met, known.heard)]
        keys = sorted({0, 1, *(int(k) for key, _ in parts for k in key if k >= 0)})
        total = torch.stack([sum(h[key == k].sum(0) for key, h in parts) for k in keys])
    torch.testing.assert_close(h[0][there[0]], total)
    assert int(there.sum()) == len(keys)


def test_arms_differ_in_what_they_say():
    data = STREAM
    sizes = {}
    for arm in ("coded", "uncoded", "none"):
        model = fitted(data, replace(SMALL, neighbourhood=arm))
        model.network.codes.weight.data[1:] = 0.0
        changed = model.score(data, pairs(data))
        model.network.codes.weight.data[1:] = 1.0
        sizes[arm] = np.abs(model.score(data, pairs(data)) - changed).max()
    assert sizes["coded"] > 0 and sizes["uncoded"] == sizes["none"] == 0


def test_memory_does_not_grow_and_is_not_trained():
    model = fitted(STREAM)
    state = model.network.initial_state(20)
    before = [x.shape for part in state for x in part]
    for part in STREAM.batches(25):
        events = model.scale(STREAM.events(part))
        _, state = model.network(events, torch.zeros(len(events.time), 1, dtype=torch.int64), state)
    assert [x.shape for part in state for x in part] == before
    assert not any(x.requires_grad for part in state for x in part)


def test_every_weight_has_a_gradient():
    model = fitted(tied())
    net, state = model.network, model.network.initial_state(14)
    for part in tied().batches(100):
        events = model.scale(tied().events(part))
        y, state = net(events, torch.zeros(len(events.time), 1, dtype=torch.int64), state)
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters() if p.requires_grad)


# --- as a system ------------------------------------------------------------------------------------------------------------------


def test_it_learns_edges_of_ones_own(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["sender,receiver,date,words"]
    for i in range(600):
        u = rng.integers(12)
        lines.append(f"p{u},p{(u + 1 + (i // 200)) % 12},2024-01-{1 + i // 30:02d}T{i % 24:02d}:00,{rng.integers(50)}")
    (tmp_path / "mail.csv").write_text("\n".join(lines) + "\n")
    data = edges_of_table(read_csv(tmp_path / "mail.csv"))
    parts = TASK.split(data)
    model = replace(SMALL, lr=1e-2).fit(parts.train, parts.valid, TASK, replace(RUN, updates=80))
    assert TASK.score(model.predict(parts.test), parts.test).value > 0.75
    assert {"parameters", "updates", "seconds"} <= model.report.keys() and model.report["updates"] == 80
    model.save(tmp_path / "kept")
    loaded = FittedEdges.load(tmp_path / "kept")
    assert loaded.system == model.system and loaded.task == TASK and loaded.scale == model.scale
    assert np.array_equal(loaded.predict(parts.test).scores, model.predict(parts.test).scores, equal_nan=True)
    config = json.loads((tmp_path / "kept" / "config.json").read_text())
    (tmp_path / "kept" / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "scale"}))
    with pytest.raises(DataError, match=r"config.json: found KeyError: 'scale'"):
        FittedEdges.load(tmp_path / "kept")


def test_a_run_that_was_stopped_goes_on_with_the_same_bits(tmp_path, monkeypatch):
    parts = TASK.split(STREAM)
    straight = SMALL.fit(parts.train, parts.valid, TASK, replace(RUN, updates=45))
    once = []

    validate = edge_system._Training._validate

    def stop(self, losses):
        if once:
            raise KeyboardInterrupt
        once.append(1)
        return validate(self, losses)

    run = replace(RUN, updates=45, folder=tmp_path)
    with monkeypatch.context() as m:
        m.setattr("timecell.edge_system._Training._validate", stop)
        with pytest.raises(KeyboardInterrupt):
            SMALL.fit(parts.train, parts.valid, TASK, run)
    with pytest.raises(InputError, match="resume=True"):
        SMALL.fit(parts.train, parts.valid, TASK, run)
    with pytest.raises(InputError, match=r"run\.resume: found system\.lr"):
        replace(SMALL, lr=0.5).fit(parts.train, parts.valid, TASK, replace(run, resume=True))
    resumed = SMALL.fit(parts.train, parts.valid, TASK, replace(run, resume=True))
    for name, weight in straight.network.state_dict().items():
        assert torch.equal(weight, resumed.network.state_dict()[name]), name
    assert resumed.report["history"] == straight.report["history"]


def test_a_cap_on_seconds_is_kept_and_said():
    parts = TASK.split(STREAM)
    report = SMALL.fit(parts.train, parts.valid, TASK, replace(RUN, updates=10**6, seconds=0.5)).report
    assert report["hit_time_cap"] and 0 < report["updates"] < 10**6


def test_it_says_what_it_accepts():
    parts = TASK.split(STREAM)
    assert SMALL.accepts(STREAM.schema, TASK) is None
    assert "the data are series" in SMALL.accepts(Schema("series", ("x",)), TASK)
    assert "the task is classify" in SMALL.accepts(STREAM.schema, Classify())
    with pytest.raises(InputError, match="one order"):
        SMALL.fit(parts.train, parts.valid, TASK, replace(RUN, devices=2))
    with pytest.raises(InputError, match=r"found \('x0', 'x1'\)"):
        fitted(STREAM).predict(tied())
    with pytest.raises(InputError, match="no edge after the history"):
        fitted(STREAM).score(STREAM.before(-1.0), pairs(STREAM)[:0])
    with pytest.raises(TimecellError, match=r"loss of update \d+: found nan"):
        replace(SMALL, lr=1e30).fit(parts.train, parts.valid, TASK, RUN)


def test_the_loss_weighs_both_sides_alike():
    logits = torch.tensor([[2.0, -1.0, 7.0], [0.5, 0.0, 0.0]])
    others = torch.tensor([[3, -1], [-1, -1]])
    expected = (torch.nn.functional.softplus(-logits[:, 0]).mean() + torch.nn.functional.softplus(logits[0, 1])) / 2
    torch.testing.assert_close(link_loss(logits, others), expected)


# --- its claims -----------------------------------------------------------------------------------------------------------------


def test_the_card():
    card = catalog.read_card(catalog.find("nat"))
    assert card == NeighbourhoodAware.card and isinstance(card, Card) and (card.n, card.family) == (120, "graphs")


def test_every_calibrated_claim_has_its_margins():
    path = terms_file(catalog.find("nat"))
    assert set(tables(path)) <= set(CLAIMS)
    for name in tables(path):
        assert set(read_terms(path, name).margins) == set(CLAIMS[name].margins)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_runs(name):
    assert set(CLAIMS[name].shows.arms) <= quick(CLAIMS[name]).keys()
