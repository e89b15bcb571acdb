"""Edges in time: the past is strictly before, instants are never cut, files of edges are read whole or refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timecell.data.arrays import Arrays
from timecell.data.edge_files import edges_of_arrays, edges_of_table, is_edges
from timecell.data.read_csv import read_csv
from timecell.data.read_npz import read_npz
from timecell.data.synthetic.edge_stream import edge_stream
from timecell.data.temporal_edges import TemporalEdges, occurrences
from timecell.errors import DataError, InputError


def stream(E=60, V=8, F=2, seed=0, instants=25):
    rng = np.random.default_rng(seed)
    return TemporalEdges.of(
        rng.integers(V, size=E), rng.integers(V, size=E), rng.integers(instants, size=E), rng.normal(size=(E, F))
    )


# --- the past -------------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_recent_contacts_are_those_that_a_loop_finds(seed):
    edges, rng = stream(seed=seed), np.random.default_rng(seed)
    nodes, t = rng.integers(8, size=12), rng.integers(27, size=12).astype(float)
    found = edges.recent(nodes, t, k=4)
    for node, now, edge, neighbour in zip(nodes, t, found.edge, found.neighbour):
        past = [
            (e, int(b))
            for e in range(60)
            if edges.time[e] < now
            for a, b in ((edges.source[e], edges.target[e]), (edges.target[e], edges.source[e]))
            if a == node
        ]
        last = past[::-1][:4]
        assert sorted(e for e, _ in last) == sorted(edge[edge >= 0].tolist())
        assert sorted(b for _, b in last) == sorted(neighbour[neighbour >= 0].tolist())


def test_an_edge_of_the_same_instant_is_not_the_past():
    edges = TemporalEdges.of([0, 0, 1], [1, 2, 2], [1.0, 2.0, 2.0])
    assert edges.count_before(np.array([2.0])).tolist() == [1]
    assert edges.recent([0], [2.0], 5).neighbour.tolist() == [[1, -1, -1, -1, -1]]
    assert len(edges.before(2.0)) == 1 and len(edges.before(0.5)) == 0


def test_the_order_of_edges_of_one_instant_does_not_matter():
    edges, order = stream(), np.random.default_rng(1).permutation(60)
    shuffled = TemporalEdges.of(
        edges.source[order], edges.target[order], edges.time[order], edges.features[order], nodes=edges.nodes
    )
    assert shuffled.fingerprint == edges.fingerprint
    assert TemporalEdges.of(edges.source, edges.target, edges.time + 1).fingerprint != edges.fingerprint


def test_occurrences_of_what_never_occurs():
    found = occurrences(np.array([3, 4]), np.array([[5, 3], [4, 2]]), np.array([[2, 0], [1, 2]]))
    assert found.last.tolist() == [[-1, -1], [-1, -1]]


# --- parts ----------------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), instants=st.integers(12, 60))
@settings(max_examples=20, deadline=None)
def test_parts_cut_between_instants_and_hold_their_history(seed, instants):
    edges = stream(seed=seed, instants=instants)
    train, valid, test = edges.chronological()
    assert (train.begin, valid.begin, test.begin) == (0, len(train), len(train) + len(valid))
    assert len(train) + len(valid) + len(test) == 60 == len(test.time)
    for part in (valid, test):
        assert part.time[part.begin - 1] < part.time[part.begin]
        assert np.array_equal(part.features, edges.features[: len(part.time)])
    assert len({part.fingerprint for part in (train, valid, test)}) == 3


def test_an_instant_that_fills_the_stream_cannot_be_cut():
    with pytest.raises(InputError, match="20 edges at 1 different times"):
        TemporalEdges.of(np.zeros(20, int), np.arange(20), np.ones(20)).chronological()
    with pytest.raises(InputError, match="shares above 0"):
        stream().chronological(0.5, 0.5)


@given(seed=st.integers(0, 1000), size=st.integers(1, 20))
@settings(max_examples=20, deadline=None)
def test_batches_never_cut_an_instant_and_depend_on_the_past_alone(seed, size):
    edges = stream(seed=seed)
    parts = list(edges.batches(size))
    assert [p.start for p in parts] == [0, *(p.stop for p in parts[:-1])] and parts[-1].stop == 60
    assert all(edges.time[p.stop - 1] < edges.time[p.stop] for p in parts[:-1])
    t = edges.time[40]
    now = int(edges.count_before(t))
    other = TemporalEdges.of(edges.source[:now], edges.target[:now], edges.time[:now])
    other = TemporalEdges.of(*(np.append(a, b) for a, b in zip((other.source, other.target, other.time), (3, 4, t))))
    start = max(p.start for p in parts if p.start <= now)
    assert start == max(p.start for p in other.batches(size) if p.start <= now)
    assert edges.chronological()[2].begin in {p.start for p in edges.chronological()[2].batches(size)}


# --- what is refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [], []), "source: found"),
        (([0.5], [1], [0.0]), "whole numbers of nodes"),
        (([0, 1], [1, -2], [0.0, 1.0]), r"target\[1\]: found -2"),
        (([0, 1], [1], [0.0, 1.0]), "target: found shape"),
        (([0, 1], [1, 0], [0.0, np.nan]), r"time\[1\]: found nan"),
        (([0, 1], [1, 0], [0.0, 1.0], np.array([[1.0], [np.inf]])), r"features\[1, 0\]: found inf"),
    ],
)
def test_bad_edges(arguments, message):
    with pytest.raises(InputError, match=message):
        TemporalEdges.of(*arguments)


def test_names_must_fit():
    with pytest.raises(InputError, match="nodes: found 1 names, expected 3, as there is a node 2"):
        TemporalEdges.of([0], [2], [1.0], nodes=["a"])
    with pytest.raises(InputError, match="channels: found 2 names"):
        TemporalEdges.of([0], [2], [1.0], channels=["a", "b"])


# --- files ------------------------------------------------------------------------------------------------------------------


def table(tmp_path, text):
    path = tmp_path / "mail.csv"
    path.write_text(text)
    return read_csv(path)


def test_a_table_of_edges(tmp_path):
    found = table(
        tmp_path, "from,to,date,words\nann,bob,2024-01-02,7\nbob,cem,2024-01-01T12:00:00,9\nann,bob,2024-01-02,5\n"
    )
    assert is_edges(found)
    edges = edges_of_table(found)
    assert edges.nodes.tolist() == ["ann", "bob", "cem"] and edges.schema.channels == ("words",)
    assert edges.source.tolist() == [1, 0, 0] and edges.target.tolist() == [2, 1, 1]
    assert np.diff(edges.time).tolist() == [43200.0, 0.0] and edges.features.ravel().tolist() == [9, 5, 7]


def test_numbers_as_names_and_columns_that_are_named(tmp_path):
    edges = edges_of_table(table(tmp_path, "a,b,c\n10,2,1.5\n2,10,0.5\n"), source="a", target="b", time="c")
    assert edges.nodes.tolist() == ["2", "10"] and edges.source.tolist() == [1, 0][::-1]
    assert edges.features.shape == (2, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("src,time,x\na,1,2\n", "no target among the columns src, time, x"),
        ("src,dst,time\na,b,1\na,,2\n", "column 'dst', line 3: found an empty cell"),
        ("src,dst,time\na,b,2024-01-31\na,c,later\n", "column 'time', line 3: found 'later'"),
        ("src,dst,time,w\na,b,1,3\na,c,2,much\n", "column 'w', line 3: found 'much'"),
        ("src,dst,time,w\na,b,1,3\na,c,2,\n", "column 'w', line 3: found no value"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        edges_of_table(table(tmp_path, text))


def test_a_column_has_one_role(tmp_path):
    with pytest.raises(DataError, match="a different column for each role"):
        edges_of_table(table(tmp_path, "src,dst,time\na,b,1\n"), source="dst", target="dst")


def test_arrays_of_edges(tmp_path):
    path = tmp_path / "mail.npz"
    np.savez(path, src=np.array([0, 1]), dst=np.array([1, 2]), t=np.array([5, 3]), features=np.ones((2, 1)))
    edges = edges_of_arrays(read_npz(path))
    assert edges.time.tolist() == [3.0, 5.0] and edges.schema.channels == ("x0",)
    bad = Arrays(path, {"src": np.array([0, -1]), "dst": np.array([1, 2]), "t": np.array([5, 3])})
    with pytest.raises(DataError, match=r"mail.npz, source\[1\]: found -1"):
        edges_of_arrays(bad)
    with pytest.raises(DataError, match="unknown name"):
        edges_of_arrays(Arrays(path, {**bad.named, "weight": np.ones(2)}))


# --- the generator ------------------------------------------------------------------------------------------------------------


def test_causes_are_what_they_say():
    data, cause, via = edge_stream(nodes=40, edges=800, closing=0.5, repeat=0.2, window=100, seed=3)
    pairs = np.sort(np.stack([data.source, data.target], 1), axis=1).tolist()
    assert abs((cause[40:] == 1).mean() - 0.5) < 0.06 and abs((cause[40:] == 2).mean() - 0.2) < 0.06
    for e in np.flatnonzero(cause):
        recent = pairs[max(0, e - 100) : e]
        if cause[e] == 1:
            assert all(sorted((end, int(via[e]))) in recent for end in pairs[e]) and pairs[e] not in recent
        else:
            assert pairs[e] in recent
    assert (via[cause != 1] == -1).all() and (data.source != data.target).all()
    assert len(np.unique(pairs[:40], axis=0)) == 40


@pytest.mark.parametrize("bad", [{"nodes": 3}, {"edges": 10}, {"window": 1}, {"closing": 0.8, "repeat": 0.3}])
def test_streams_that_cannot_be(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        edge_stream(**bad)
