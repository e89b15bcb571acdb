"""Files that people have: each gives the right data, or an error that says what, where and what to do."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timecell.data import Sequences, Series, bin_spikes, describe, load
from timecell.errors import DataError, InputError, MissingExtra

WIDE = "a,b,c,label\n1,2,3,up\n3,2,1,down\n2,3,4,up\n"
LONG = "id,time,x,y,label\n7,0,1,0,up\n7,1,2,0,up\n7,2,3,0,up\n9,0,3,1,down\n9,1,2,1,down\n"
HOURLY = "date,load\n2024-01-01 00:00,1\n2024-01-01 01:00,2\n2024-01-01 03:00,4\n"


@pytest.fixture
def write(tmp_path: Path):
    def write(content: str | bytes, name: str = "data.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def npz(tmp_path: Path):
    def npz(**arrays: object) -> Path:
        np.savez(tmp_path / "data.npz", **arrays)
        return tmp_path / "data.npz"

    return npz


def fails(path: Path, *words: str, error: type[Exception] = DataError, **options: object) -> str:
    """Loading fails, and the message holds these words, the file's name and a remedy."""
    with pytest.raises(error) as caught:
        load(path, **options)
    message = str(caught.value)
    for word in (*words, "Remedy: "):
        assert word in message, message
    if error is DataError:
        assert path.name in message, message
    return message


# --- sequences in tables ----------------------------------------------------------------------------------------------


def test_wide_table_is_one_sequence_a_row(write):
    data = load(write(WIDE))
    assert isinstance(data, Sequences)
    assert data[1].tolist() == [[3], [2], [1]]
    assert data.schema.classes == ("down", "up") and data.target.tolist() == [1, 0, 1]
    assert describe(data) == "3 sequences of 3 steps, 1 channel, 2 classes; labels from 'label'"


def test_wide_table_with_numbered_columns_has_channels(write):
    data = load(write("x_0,x_1,x_10,y_0,y_1,y_10,class\n1,2,3,4,5,6,0\n0,0,0,0,0,0,1\n"))
    assert data.schema.channels == ("x", "y")
    assert data[0].tolist() == [[1, 4], [2, 5], [3, 6]]


def test_a_unique_id_names_the_rows_of_a_wide_table(write):
    data = load(write("id,a,b,label\n1,5,6,0\n2,7,8,1\n"))
    assert len(data) == 2 and data[0].ravel().tolist() == [5, 6]


def test_long_table_is_one_step_a_row_and_may_be_ragged(write):
    data = load(write(LONG))
    assert [s.tolist() for s in (data[0], data[1])] == [[[1, 0], [2, 0], [3, 0]], [[3, 1], [2, 1]]]
    assert data.schema.classes == ("down", "up") and data.target.tolist() == [1, 0]
    assert data.schema.lengths == (2, 3) and data.schema.rate == 1.0
    assert data.schema.channels == ("x", "y") and data.schema.label == "label"


def test_long_table_in_order_of_time_is_gathered_by_id(write):
    rows = "id,time,x,label\nb,0,1,1\na,0,5,0\nb,1,2,1\na,1,6,0\n"
    data = load(write(rows))
    assert data[0].ravel().tolist() == [1, 2] and data[1].ravel().tolist() == [5, 6]
    assert data.target.tolist() == [1, 0]
    fails(
        write(rows.replace("time", "x0").replace("id,x0", "id,q")), "column 'id'", "line 4", "b again", "sort the rows"
    )


def test_long_table_refuses_unsorted_and_uneven_times(write):
    fails(write(LONG.replace("7,1,2", "7,5,2").replace("7,2,3", "7,1,3")), "column 'time'", "line 4", "earlier")
    fails(
        write(LONG.replace("7,2,3", "7,9,3")), "column 'time'", "line 4", "8 s", "even steps of 1 s", "ignore=['time']"
    )
    assert len(load(write(LONG.replace("7,2,3", "7,9,3")), ignore=["time"])) == 2


def test_label_must_not_change_within_a_sequence(write):
    fails(write(LONG.replace("7,2,3,0,up", "7,2,3,0,down")), "column 'label'", "line 4", "down after up", "7")


def test_group_and_split_columns_are_found(write):
    data = load(write("a,b,label,speaker,split\n1,2,0,zoe,train\n1,2,1,ann,test\n1,3,1,zoe,val\n"))
    assert data.group.tolist() == [1, 0, 1] and data.part.tolist() == ["train", "test", "valid"]
    assert "2 groups, split as given (1 train, 1 valid, 1 test)" in describe(data)


def test_whole_numbers_are_classes_in_numeric_order(write):
    data = load(write("a,b,digit\n1,2,10\n1,2,9\n1,2,10.0\n"), target="digit")
    assert data.schema.classes == ("9", "10") and data.target.tolist() == [1, 0, 1]
    fails(write("a,b,label\n1,2,0\n1,2,0.5\n"), "column 'label'", "line 3", "0.5", "whole number")


def test_a_class_with_one_sample_and_two_rows_load(write):
    assert load(write("a,b,label\n1,2,x\n3,4,y\n")).target.tolist() == [0, 1]


def test_sequences_without_label_load_when_asked_for(write):
    data = load(write("a,b\n1,2\n3,4\n"), kind="sequences")
    assert data.target is None and data.schema.classes is None


def test_missing_target_column_names_the_columns_and_a_close_match(write):
    fails(write(WIDE), "target", "'lable'", "a, b, c, label", "did you mean 'label'?", target="lable")


def test_missing_labels_are_counted_and_placed(write):
    rows = WIDE.replace("3,up", "3,").replace("4,up", "4,")
    fails(write(rows), "column 'label'", "2 of 3 rows (line 2, line 4)", "delete these rows")


def test_text_column_names_column_row_value_and_remedy(write):
    rows = "a,b,c,label\n1,2,3,up\n3,n/a-ish,1,down\n"
    fails(write(rows), "column 'b'", "line 3", "'n/a-ish'", "ignore=['b']", "target=")
    assert load(write(rows), ignore=["b"])[0].ravel().tolist() == [1, 3]


def test_missing_and_infinite_values_in_sequences_are_placed(write):
    fails(write(WIDE.replace("3,2,1", "3,,1")), "column 'b'", "line 3", "no value", "one row a step")
    fails(write(WIDE.replace("3,2,1", "3,inf,1")), "column 'b'", "line 3", "inf")


def test_a_wide_table_with_a_time_column_is_questioned(write):
    fails(write("time,a,label\n0,1,x\n1,2,y\n"), "column 'time'", "id=", "ignore=['time']", kind="sequences")


def test_one_column_cannot_have_two_roles(write):
    fails(write(WIDE), "target='a'", "group='a'", target="a", group="a")


def test_true_and_false_are_numbers(write):
    assert load(write("date,holiday,x\n2024-01-01,True,1\n2024-01-02,FALSE,2\n")).values[:, 0].tolist() == [1, 0]


# --- series in tables -------------------------------------------------------------------------------------------------


def test_series_with_dates_gets_rows_for_gaps_rate_and_season(write):
    data = load(write(HOURLY))
    assert isinstance(data, Series)
    np.testing.assert_array_equal(data.values[:, 0], [1, 2, np.nan, 4])
    assert data.schema.period == 24 and data.schema.rate == pytest.approx(1 / 3600)
    assert np.diff(data.time).tolist() == [3600.0] * 3
    assert describe(data) == (
        "4 steps of 1 h from 2024-01-01 00:00 to 2024-01-01 03:00, 1 channel, season of 24 steps, 1 value missing"
    )


def test_empty_cells_of_a_series_are_missing_values(write):
    np.testing.assert_array_equal(load(write("a,b\n1,\nNA,2\n3,3\n")).values, [[1, np.nan], [np.nan, 2], [3, 3]])


def test_series_without_time_counts_rows(write):
    data = load(write("a\n1\n2\n"), period=3)
    assert (len(data), data.time, data.schema.rate, data.schema.period) == (2, None, None, 3)


@pytest.mark.parametrize(
    ("step", "period"),
    [("30m", 48), ("1h", 24), ("15m", 96), ("1D", 7), ("7D", 52), ("1M", 12), ("3M", 4), ("1s", None)],
)
def test_season_is_guessed_from_the_dates(write, step, period):
    kind = {"m": "m8[m]", "h": "m8[h]", "D": "m8[D]", "M": "m8[M]", "s": "m8[s]"}[step[-1]]
    unit = "M8[M]" if step[-1] == "M" else "M8[s]"
    dates = np.datetime64("2023-01", "M").astype(unit) + int(step[:-1]) * np.arange(30).astype(kind)
    rows = "".join(f"{d.astype('M8[D]' if unit == 'M8[M]' else 'M8[s]')},{i}\n" for i, d in enumerate(dates))
    data = load(write("date,x\n" + rows))
    assert (len(data), data.schema.period) == (30, period)
    assert load(write("date,x\n" + rows), period=5).schema.period == 5


def test_months_that_are_missing_become_rows_and_month_ends_count(write):
    data = load(write("date,x\n2024-01-31,1\n2024-02-29,2\n2024-04-30,4\n"))
    np.testing.assert_array_equal(data.values[:, 0], [1, 2, np.nan, 4])
    assert data.schema.period == 12


def test_seconds_as_numbers_and_zones_are_understood(write):
    assert load(write("time,x\n1325336400.0,1\n1325338200.0,2\n1325340000.0,3\n")).schema.period == 48
    zones = load(write("date,x\n2024-01-01T00:00+01:00,1\n2024-01-01T00:00:00Z,2\n"))
    assert np.diff(zones.time).tolist() == [3600.0]


def test_bad_time_stamps_are_placed(write):
    fails(write(HOURLY.replace("03:00", "01:00")), "column 'date'", "line 4", "same time stamp as in line 3", "UTC")
    fails(write(HOURLY.replace("03:00", "00:30")), "column 'date'", "line 4", "earlier", "sort the rows")
    fails(
        write(HOURLY.replace("2024-01-01 01:00", "1/31/2024")), "column 'date'", "line 3", "'1/31/2024'", "2024-01-31"
    )
    fails(write("t,x\n0,1\n1,2\n2.5,3\n3.5,1\n"), "column 't'", "line 4", "1.5 s after line 3", "multiple of 1 s")
    fails(write("t,x\n0,1\n1,2\n99999,3\n"), "column 't'", "line 4", "a gap of 99,998 steps", "cut the file")
    fails(write("t,x\n0,1\n,2\n"), "column 't'", "line 3")


def test_series_refuses_what_cannot_be_learned_from(write):
    fails(write("a,b\n1,\n2,\n"), "column 'b'", "no value in any row", "ignore=['b']")
    fails(write("a,b\n1,2\n2,-inf\n"), "column 'b'", "line 3", "inf")
    fails(write("date\n2024-01-01\n"), "a column of values")


def test_constant_channels_are_fine(write):
    assert load(write("a,b\n1,5\n2,5\n")).values[:, 1].tolist() == [5, 5]


def test_arguments_of_the_other_kind_are_refused(write):
    fails(write("a,b\n3,2\n"), "a, step 0", "1 for an anomalous step", kind="series", target="a")
    fails(write(WIDE), "period", "leave it out", error=InputError, period=3)
    fails(write(WIDE), "period", "whole number", error=InputError, period=0)
    fails(write(WIDE), "kind", "sequences, series", error=InputError, kind="serie")
    fails(write(WIDE), "ignore", "ignore=['a']", error=InputError, ignore="a")
    fails(write(WIDE), "ignore", "did you mean 'label'?", ignore=["labl"])


# --- CSV files that are broken ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_separators_and_line_ends_are_found(write, separator, newline):
    data = load(write(WIDE.replace(",", separator).replace("\n", newline)))
    assert len(data) == 3 and data.schema.lengths == (3, 3)


def test_gzip_bom_quotes_and_trailing_blank_lines(write):
    text = "\ufeff" + WIDE.replace("a,b", '"a, ""x""",b').replace("up", '"up, up"') + "\n\n"
    data = load(write(gzip.compress(text.encode()), "data.csv.gz"))
    assert data.schema.classes == ("down", "up, up") and len(data) == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["an empty file"]),
        (" \n\n", ["an empty file"]),
        ("a,b,label\n", ["column names but no rows"]),
        ("a,b,label\n1,2,x\n1,2\n", ["line 3", "2 cells", "3 cells"]),
        ("a,b,label\n1,2,x,9\n", ["line 2", "4 cells"]),
        ("a,b,label\n1,2,x\n\n1,2,y\n", ["line 3", "blank line"]),
        ("a,a,label\n1,2,x\n", ["line 1", "'a' twice", "rename"]),
        (",a,label\n0,2,x\n", ["line 1", "no name for column 1", "index=False"]),
        ("\na,b\n1,2\n", ["line 1", "no name for column 1"]),
        ("0.5,1.5\n1,2\n", ["line 1", "numbers only", "line of names"]),
        ('a,b,label\n1,"2,x\n3,4,y\n', ["quot"]),
        (b"a,b\n1,\xff\n", ["byte 6", "0xff", "UTF-8"]),
    ],
)
def test_malformed_csv(write, content, words):
    fails(write(content), *words)


def test_a_long_unclosed_quote_is_found_before_rows_are_lost(write):
    rows = "".join(f"{i},2,x\n" for i in range(50_000))
    fails(write('a,b,label\n1,"2,x\n' + rows), "quot")


def test_truncated_gzip(write):
    packed = gzip.compress(WIDE.encode() * 100)
    fails(write(packed[: len(packed) // 2], "data.csv.gz"), "damaged gzip", "download it again")
    fails(write(b"plain text", "data.csv.gz"), "damaged gzip")


def test_missing_file_folder_and_unknown_ending(tmp_path):
    fails(tmp_path / "no.csv", "no such file")
    fails(tmp_path / "no.xlsx", "'.xlsx'", ".parquet", "convert")
    (tmp_path / "folder.csv").mkdir()
    fails(tmp_path / "folder.csv", "a folder")


# --- Parquet ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def parquet(tmp_path: Path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

    def parquet(columns: dict[str, object]) -> Path:
        pq.write_table(pa.table(columns), tmp_path / "data.parquet")
        return tmp_path / "data.parquet"

    return parquet


def test_parquet_reads_as_csv_does(parquet, write):
    pa = pytest.importorskip("pyarrow")
    label = pa.array(["up", "down", "up"]).dictionary_encode()
    from_parquet = load(parquet({"a": [1, 3, 2], "b": [2.0, 2.0, 3.0], "c": [3, 1, 4], "label": label}))
    from_csv = load(write(WIDE))
    assert from_parquet.fingerprint == from_csv.fingerprint and from_parquet.schema == from_csv.schema


def test_parquet_series_with_dates_and_nulls(parquet):
    dates = np.array(["2024-01-01", "2024-01-02", "2024-01-04"], dtype="M8[ns]")
    data = load(parquet({"date": dates, "x": [1, None, 4], "open": [True, False, None]}))
    np.testing.assert_array_equal(data.values, [[1, 1], [np.nan, 0], [np.nan, np.nan], [4, np.nan]])
    assert data.schema.period == 7


def test_malformed_parquet(parquet, tmp_path):
    fails(parquet({"a": [[1, 2], [3]], "b": [1, 2]}), "column 'a'", "list")
    fails(parquet({"a": [1.0, 2.0], "b": ["1", "two"], "label": ["x", "y"]}), "column 'b'", "row 2", "'two'")
    fails(parquet({"a": np.zeros(0)}), "no rows")
    path = parquet({"a": np.arange(1000)})
    path.write_bytes(path.read_bytes()[:500])
    fails(path, "no readable Parquet")


@pytest.mark.parametrize(("package", "extra", "name"), [("pyarrow", "tables", "a.parquet"), ("h5py", "io", "a.h5")])
def test_a_missing_package_names_the_extra(monkeypatch, write, package, extra, name):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    fails(write(b"x", name), f'pip install "timecell[{extra}]"', package, error=MissingExtra)


# --- NPZ and HDF5 -----------------------------------------------------------------------------------------------------


def test_npz_block_with_lengths_groups_and_split(npz):
    x = np.arange(24.0).reshape(2, 4, 3)
    x[0, 3] = np.nan
    data = load(npz(x=x, y=[5, 3], lengths=[3, 4], group=["b", "a"], split=["train", "test"], rate=100.0))
    np.testing.assert_array_equal(data[0], x[0, :3])
    assert data.schema.classes == ("3", "5") and data.target.tolist() == [1, 0] and data.schema.rate == 100
    assert data.group.tolist() == [1, 0] and data.part.tolist() == ["train", "test"]


def test_npz_two_axes_are_one_channel_and_text_labels_work(npz):
    data = load(npz(x=np.eye(3, dtype=bool), tag=np.array(["a", "b", "a"])), target="tag")
    assert data.values.shape == (9, 1) and data.schema.classes == ("a", "b") and data.values.dtype == np.uint8


def test_npz_series(npz):
    assert load(npz(x=np.ones((5, 2)))).values.shape == (5, 2)
    data = load(npz(values=[1.0, 2.0, np.nan], time=[0.0, 3600.0, 10800.0]))
    np.testing.assert_array_equal(data.values[:, 0], [1, 2, np.nan, np.nan])
    assert data.schema.period == 24
    assert len(load(npz(x=np.ones((5, 2))), kind="sequences")) == 5


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"z": np.ones(3)}, ["the arrays z", "x [N, T, C]"]),
        ({"x": np.ones((3, 4, 1)), "y": [0, 1]}, ["'y'", "[2]", "[3]"]),
        ({"x": np.ones((3, 4, 1)), "y": [0, 1, 2], "lens": [1, 2, 3]}, ["'lens'", "ignore=['lens']", "lengths"]),
        ({"x": np.ones((3, 4, 1)), "y": [0, 1, 2], "lengths": [1, 5, 3]}, ["lengths[1]", "5", "1 to 4"]),
        (
            {"x": np.ones((3, 4, 1)), "y": [0, 1, 2], "lengths": [1.0, 2.0, 3.0]},
            ["'lengths'", "float64", "whole numbers"],
        ),
        ({"x": np.array([[1.0, np.nan], [0, 1]]), "y": [0, 1]}, ["x[0, 1]", "nan", "lengths"]),
        ({"x": np.ones((2, 2)) * 1j, "y": [0, 1]}, ["'x'", "complex128", "numbers"]),
        ({"x": np.ones((2, 2, 2, 2)), "y": [0, 1]}, ["'x'", "[2, 2, 2, 2]"]),
        ({"x": np.ones((0, 2)), "y": np.zeros(0)}, ["'x'", "at least one value"]),
        ({"x": np.ones((2, 2)), "y": [0.0, np.nan]}, ["no label", "y[1]"]),
        ({"x": np.ones((2, 2)), "y": [0, 1], "split": ["train", "tset"]}, ["split[1]", "tset"]),
        ({"x": np.ones((2, 2)), "y": [0, 1], "rate": -1.0}, ["'rate'", "-1.0"]),
        ({"values": np.array([1.0, np.inf])}, ["values[1]", "inf"]),
        ({"values": np.ones(3), "time": [0.0, 1.0, 1.0]}, ["'time'", "step 2", "same time stamp"]),
    ],
)
def test_malformed_arrays(npz, arrays, words):
    fails(npz(**arrays), *words)


def test_arrays_of_the_other_kind_are_refused(npz):
    labelled = npz(x=np.ones((2, 3, 1)), y=[0, 1])
    fails(labelled, "which are not series", kind="series")
    fails(labelled, "target", "did you mean", error=InputError, target="yy")
    fails(labelled, "id", "leave it out", error=InputError, id="a")
    fails(npz(values=np.ones(3)), "which are not sequences", kind="sequences")


def test_pickled_objects_are_refused(npz):
    fails(npz(x=np.array([np.ones(2), np.ones(3)], dtype=object), y=[0, 1]), "'x'", "pickled", "lengths")


def test_truncated_and_damaged_npz(npz, write):
    whole = npz(x=np.random.default_rng(0).random((20, 20)), y=np.arange(20)).read_bytes()
    fails(write(whole[:-200], "cut.npz"), "no readable NPZ")
    fails(write(whole[:1000] + bytes(100) + whole[1100:], "hole.npz"), "no readable NPZ")
    fails(write(b"", "empty.npz"), "no readable NPZ")


def spike_file(path: Path, **changes: object) -> Path:
    """Three samples in the Spiking Heidelberg layout, the last one silent."""
    h5py = pytest.importorskip("h5py")
    ragged = {
        "times": [[0.001, 0.012, 0.0299], [0.0501], []],
        "units": [[0, 2, 2], [4], []],
    } | {k: changes[k] for k in ("times", "units") if k in changes}
    with h5py.File(path, "w") as file:
        for name, kind in (("times", "f2"), ("units", "u2")):
            file.create_dataset(f"spikes/{name}", 3, h5py.vlen_dtype(np.dtype(kind)))
            for i, own in enumerate(ragged[name]):
                file[f"spikes/{name}"][i] = np.array(own, dtype=kind)
        file["labels"] = changes.get("labels", [1, 0, 1])
        file["extra/speaker"] = [4, 4, 9]
        file.create_dataset("extra/keys", data=["zero", "eins"], dtype=h5py.string_dtype())
        file["extra/meta_info/age"] = [20, 30]
    return path


def test_spiking_heidelberg_layout(tmp_path):
    data = load(spike_file(tmp_path / "shd.h5"), dt=0.010)
    assert data[0].tolist() == [[1, 0, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0]]
    assert data.lengths.tolist() == [3, 6, 1] and data.schema.spikes and data.schema.rate == pytest.approx(100)
    assert data.schema.classes == ("zero", "eins") and data.target.tolist() == [1, 0, 1]
    assert data.group.tolist() == [0, 0, 1]
    assert load(tmp_path / "shd.h5", dt=0.005).lengths.tolist() == [6, 11, 1]


def test_malformed_spikes(tmp_path):
    path = tmp_path / "shd.h5"
    fails(spike_file(path, units=[[0, 2], [4], []]), "sample 0", "3 times and 2 units")
    fails(spike_file(path, times=[[-0.5, 0.1, 0.2], [0.0501], []]), "times[0]", "-0.5", "from 0 on")
    fails(spike_file(path, labels=[1, 0, 2]), "labels[2]", "2", "0 to 1")
    fails(spike_file(path), "dt", error=InputError, dt=0.0)
    fails(spike_file(path), "not series", kind="series")
    path.write_bytes(path.read_bytes()[:900])
    fails(path, "no readable HDF5")


def test_flat_spikes_need_a_unit_of_time(npz):
    spikes = {"units": np.array([0, 1]), "offsets": np.array([0, 1, 2]), "labels": [0, 1]}
    assert load(npz(times=np.array([5, 25]), tick=0.001, **spikes)).lengths.tolist() == [1, 3]
    fails(npz(times=np.array([5, 25]), **spikes), "'times'", "tick")
    fails(npz(times=np.array([5.0, 25.0]), **spikes | {"offsets": [0, 1, 3]}), "'offsets'", "0 to 2")
    fails(npz(times=np.array([5.0, 25.0]), **spikes | {"units": [0.0, 1.0]}), "'units'", "whole numbers")


def test_hdf5_block_and_series(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.ones((2, 3, 1))
        file.create_dataset("y", data=["no", "yes"], dtype=h5py.string_dtype())
    assert load(tmp_path / "a.h5").schema.classes == ("no", "yes")
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        file["values"] = np.ones((4, 2))
    assert load(tmp_path / "b.hdf5").values.shape == (4, 2)


# --- binning ----------------------------------------------------------------------------------------------------------

spike_lists = st.lists(st.tuples(st.floats(0, 2), st.integers(0, 4)), max_size=30)


@settings(deadline=None, max_examples=50)
@given(st.lists(spike_lists, min_size=1, max_size=4), st.sampled_from([0.001, 0.010, 0.3]))
def test_binning_conserves_every_spike_in_its_own_bin(samples, dt):
    times, units = (np.array([event[k] for own in samples for event in own]) for k in (0, 1))
    offsets = np.concatenate([[0], np.cumsum([len(own) for own in samples])]).astype(int)
    counts, starts = bin_spikes(times, units.astype(int), offsets, dt, channels=5)
    for i, own in enumerate(samples):
        sample = counts[starts[i] : starts[i + 1]]
        assert sample.sum() == len(own) and len(sample) >= 1
        assert sample.sum(axis=0).tolist() == [sum(unit == c for _, unit in own) for c in range(5)]
        for time, unit in own:
            near = {int(np.floor(time / dt)), int(np.floor(time / dt + 1e-5))}
            assert any(k < len(sample) and sample[k, unit] for k in near)


def test_bin_borders_belong_to_the_bin_that_starts_there():
    times = np.arange(300) * 0.01
    counts, _ = bin_spikes(times, np.zeros(300, int), np.array([0, 300]), 0.01, 1)
    assert (counts == 1).all()


def test_many_spikes_in_one_bin_do_not_wrap():
    counts, _ = bin_spikes(np.zeros(1000), np.zeros(1000, int), np.array([0, 1000]), 0.01, 1)
    assert counts.tolist() == [[1000]]


# --- round trip -------------------------------------------------------------------------------------------------------

ragged = st.lists(
    st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=5), min_size=1, max_size=5
)


@settings(deadline=None, max_examples=30)
@given(ragged, st.data())
def test_long_csv_gives_back_what_was_written(tmp_path_factory, samples, draw):
    labels = [draw.draw(st.sampled_from(["a", "b"])) for _ in samples]
    rows = [f"s{i},{x},{y},{labels[i]}" for i, own in enumerate(samples) for x, y in own]
    path = tmp_path_factory.mktemp("long") / "data.csv"
    path.write_text("\n".join(["id,p,q,label", *rows]))
    if all(len(own) == 1 for own in samples):
        return  # one row an id reads as a wide table
    data = load(path)
    assert [data[i].tolist() for i in range(len(data))] == [[list(step) for step in own] for own in samples]
    assert [data.schema.classes[k] for k in data.target] == labels
