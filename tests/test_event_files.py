"""Event sequences from tables and archives, and what is said of files that are none."""

import gzip

import numpy as np
import pytest

from timecell.data.datasets import FOLDER
from timecell.data.event_files import describe_events, event_arrays, events
from timecell.data.read_csv import read_csv
from timecell.data.read_npz import read_npz
from timecell.data.readers import load
from timecell.errors import DataError, MissingExtra

TABLE = """user,time,type,from,to
b,5.5,x,0,9
a,1,y,0,4
a,3,x,0,4
b,2,y,0,9
"""


def table(tmp_path, text, name="events.csv"):
    path = tmp_path / name
    path.write_text(text)
    return read_csv(path)


def archive(tmp_path, **arrays):
    path = tmp_path / "events.npz"
    np.savez(path, **arrays)
    return read_npz(path)


def test_a_table_is_sorted_into_sequences(tmp_path):
    text = TABLE.replace("from", "start").replace("to", "end")
    data = events(table(tmp_path, text), id="user")
    assert data.times.tolist() == [2.0, 5.5, 1.0, 3.0] and data.offsets.tolist() == [0, 2, 4]
    assert data.schema.classes == ("x", "y") and data.marks.tolist() == [1, 0, 1, 0]
    assert data.start.tolist() == [0, 0] and data.end.tolist() == [9, 4]
    assert data.resolution is None
    assert describe_events(data) == "4 events in 2 sequences of 2, mean gap 3.25, 2 marks; marks from 'type'"


def test_without_bounds_the_first_event_is_the_origin(tmp_path):
    data = events(table(tmp_path, "time,mark\n1,a\n4,b\n6,a\n"))
    assert data.start.tolist() == [1.0] and data.end.tolist() == [6.0] and data.times.tolist() == [4.0, 6.0]


def test_dates_are_seconds(tmp_path):
    data = events(table(tmp_path, "date,mark\n2024-01-01,a\n2024-01-01T12:00:00,b\n2024-01-03,a\n"))
    assert data.waits.tolist() == [43200.0, 129600.0, 0.0]


def test_times_ids_and_labels_alone_are_events_whatever_they_are_called(tmp_path):
    path = tmp_path / "quakes.csv"
    path.write_text("month,day,size\n1,0.5,small\n1,0.7,large\n2,3.0,small\n")
    found = load(path, id="month", time="day", target="size")
    assert found.schema.kind == "events" and found.schema.classes == ("large", "small") and len(found) == 2


def test_no_marks_at_all(tmp_path):
    data = events(table(tmp_path, "time\n1\n2\n4\n"))
    assert data.schema.classes == ("0",) and "no marks" in describe_events(data)


def test_the_only_column_left_is_the_mark(tmp_path):
    assert events(table(tmp_path, "time,what\n1,a\n2,b\n")).schema.label == "what"


def test_coinciding_stamps_are_spread_and_said_so(tmp_path):
    data = events(table(tmp_path, "time,mark\n60,a\n60,b\n180,a\n240,b\n240,a\n"))
    assert data.resolution == 60.0 and (data.waits[data.happened] > 0).all()
    assert "spread within 60" in describe_events(data)


@pytest.mark.parametrize("name", ["user", "patient", "case_id", "Sequence"])
def test_sequences_are_found_under_usual_names(tmp_path, name):
    data = events(table(tmp_path, f"{name},time,what\nb,1,x\na,2,y\nb,3,y\na,4,x\n"))
    assert len(data) == 2 and data.schema.label == "what" and data.group is None


def test_groups_and_a_split_of_its_own(tmp_path):
    rows = "".join(f"{i},{t},{'test' if i > 7 else 'train'},{i // 2}\n" for i in range(10) for t in (1, 2 + i))
    data = events(table(tmp_path, "id,time,split,group\n" + rows))
    assert data.part.tolist() == ["train"] * 8 + ["test"] * 2 and data.group.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("when,mark\n1,a\n2,b\n", {}, ["events.csv", "when, mark", "time="]),
        ("time,mark\n2024-01-01,a\nsoon,b\n", {}, ["column 'time'", "line 3", "'soon'", "2024-01-31"]),
        ("time,mark\n1,a\n,b\n", {}, ["column 'time'", "line 3", "number of seconds"]),
        ("time,mark\n1,a\n2,\n", {}, ["column 'mark'", "line 3", "no label"]),
        ("time,mark\n1,0.5\n2,1\n", {}, ["column 'mark'", "line 2", "0.5", "whole number"]),
        ("time,mark,size,place\n1,a,3,4\n2,b,5,6\n", {}, ["size, place", "ignore=['size', 'place']", "target="]),
        ("id,time,mark\n1,1,a\n2,2,b\n", {}, ["column 'id'", "another value in each of 2 rows", "ignore=['id']"]),
        ("id,time,mark\n1,1,a\n,2,b\n1,3,a\n", {}, ["column 'id'", "line 3", "empty"]),
        ("time,mark\n5,a\n5,b\n", {}, ["column 'time'", "2 events at one and the same time"]),
        ("time,mark,end\n1,a,9\n2,b,8\n", {}, ["column 'end'", "line 3", "8 after 9"]),
        ("time,mark,end\n1,a,9\n12,b,9\n", {}, ["column 'time'", "line 3", "12, after the end at 9"]),
        ("time,mark\n1,a\n2,b\n", {"target": "marc"}, ["'marc'", "did you mean 'mark'"]),
    ],
)
def test_messages_of_tables(tmp_path, text, options, words):
    with pytest.raises(DataError) as caught:
        events(table(tmp_path, text), **options)
    for word in words:
        assert word in str(caught.value)


def test_a_measured_quantity_is_no_mark(tmp_path):
    rows = "".join(f"{i},{i}\n" for i in range(300))
    with pytest.raises(DataError, match=r"(?s)column 'mark'.*300 different values.*at most 256"):
        events(table(tmp_path, "time,mark\n" + rows))


def test_compressed_tables_and_parquet_say_the_same(tmp_path):
    text = TABLE.replace("from", "start").replace("to", "end")
    plain = events(table(tmp_path, text), id="user")
    packed = tmp_path / "events.csv.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    assert events(read_csv(packed), id="user").fingerprint == plain.fingerprint
    pytest.importorskip("pyarrow")
    import pyarrow.csv
    import pyarrow.parquet

    from timecell.data.read_parquet import read_parquet

    (tmp_path / "again.csv").write_text(text)
    pyarrow.parquet.write_table(pyarrow.csv.read_csv(tmp_path / "again.csv"), tmp_path / "events.parquet")
    assert events(read_parquet(tmp_path / "events.parquet"), id="user").fingerprint == plain.fingerprint


def test_arrays(tmp_path):
    data = event_arrays(
        archive(
            tmp_path, times=[1.0, 2.0, 0.5], marks=[0, 1, 1], offsets=[0, 2, 3], start=[0.0, 0.0], end=[3.0, 3.0],
            classes=["buy", "sell"],
        )
    )  # fmt: skip
    assert data.schema.classes == ("buy", "sell") and data.counts.tolist() == [2, 1] and data.end.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"marks": [1]}, ["no array 'times'"]),
        ({"times": [1.0, np.nan]}, ["times[1]", "nan"]),
        ({"times": [1.0, 2.0], "offsets": [0, 1]}, ["'offsets'", "ascending numbers from 0 to 2"]),
        ({"times": [2.0, 1.0]}, ["times[1]", "increasing"]),
        ({"times": [1.0, 2.0], "marks": [0, 3], "classes": ["a", "b"]}, ["marks[1]", "3", "0 to 1"]),
        ({"times": [1.0, 2.0], "marks": [0]}, ["'marks'", "shape [1]", "[2]"]),
        ({"times": [1.0, 2.0], "start": [0.0], "end": [1.5]}, ["events.npz", "times[0][1]", "after the end"]),
        ({"times": [1.0, 2.0], "kinds": [0, 1]}, ["'kinds'", "unknown name", "marks"]),
    ],
)
def test_messages_of_arrays(tmp_path, arrays, words):
    with pytest.raises(DataError) as caught:
        event_arrays(archive(tmp_path, **arrays))
    for word in words:
        assert word in str(caught.value)


def test_a_truncated_archive(tmp_path):
    archive(tmp_path, times=np.arange(1.0, 100.0))
    path = tmp_path / "events.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises((DataError, MissingExtra), match=r"events\.npz"):
        event_arrays(read_npz(path))


def test_the_badges_that_ship():
    data = events(read_csv(FOLDER / "badges.csv.gz"))
    assert len(data) == 400 and len(data.schema.classes) == 22 and data.schema.label == "mark"
    assert data.resolution is None and data.counts.min() >= 40
