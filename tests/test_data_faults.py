"""Every reader under injected faults: an error of ours that names the file, never a bare one and never a wrong answer.

The readers are found by walking; each suffix needs an example file here, which is then cut, emptied, shuffled, given the
content of the other formats and overwritten in random places.
"""

import gzip
import struct
import tracemalloc
import warnings
import zipfile
from datetime import UTC, datetime

import numpy as np
import pytest

from timecell.data import damage, load
from timecell.data.readers import readers
from timecell.errors import DataError, InputError, TimecellError

TABLE = "id,time,x,y,label\n" + "".join(
    f"{i // 9},{i % 9},{i}.25,{-i},{'up' if i < 90 else 'down'}\n" for i in range(180)
)
TS = (
    "@problemName a\n@univariate false\n@dimensions 2\n@equalLength true\n@seriesLength 3\n@classLabel true up down\n@data\n"
    + "1,2,3:4,5,6:up\n3,2,1:6,5,4:down\n" * 9
)
RNG = np.random.default_rng(0)
EVENTS = np.zeros(300, dtype=[("x", "u2"), ("y", "u2"), ("t", "i8"), ("p", "u1")])
EVENTS["x"], EVENTS["y"], EVENTS["p"] = RNG.integers(0, 34, (3, 300)) % [[34], [30], [2]]
EVENTS["t"] = np.sort(RNG.integers(0, 300_000, 300))
CAMERA = {".npy": {"tick": 1e-6, "size": (34, 34)}, ".aedat": {"size": (34, 34)}}


def write_parquet(path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"a": RNG.random(500), "label": ["up", "down"] * 250}), path)


def write_hdf5(path):
    with pytest.importorskip("h5py").File(path, "w") as file:
        file["x"], file["y"] = RNG.random((20, 5, 2)), np.arange(20) % 3


def write_wav(path):
    from scipy.io import wavfile

    wavfile.write(path, 8000, RNG.integers(-30_000, 30_000, 4000).astype("i2"))


def write_edf(path):
    edfio = pytest.importorskip("edfio")
    signal, file = (edfio.BdfSignal, edfio.Bdf) if path.suffix == ".bdf" else (edfio.EdfSignal, edfio.Edf)
    file([signal(RNG.normal(size=3000), 100.0, label=name) for name in ("Cz", "Pz")]).write(path)


def write_nwb(path):
    pynwb = pytest.importorskip("pynwb")
    start = datetime(2026, 1, 1, tzinfo=UTC)
    nwb = pynwb.NWBFile(session_description="a", identifier="b", session_start_time=start)
    nwb.add_acquisition(pynwb.TimeSeries(name="lfp", data=RNG.normal(size=(4000, 3)), unit="V", rate=100.0))
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(nwb)


def write_aedat(path):
    e = {name: EVENTS[name].astype(np.uint32) for name in EVENTS.dtype.names}
    words = np.stack([e["x"] << 17 | e["y"] << 2 | e["p"] << 1 | 1, e["t"]], axis=1).astype("<u4")
    packets = [(1, 8, words[:200].tobytes()), (2, 10, bytes(30)), (1, 8, words[200:].tobytes())]
    head = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"
    for kind, size, content in packets:
        n = len(content) // size
        head += struct.pack("<hhiiiiii", kind, 0, size, 4, 0, n, n, n) + content
    path.write_bytes(head)


def write_bin(path):
    e = {name: EVENTS[name].astype(np.int64) for name in EVENTS.dtype.names}
    columns = [e["x"], e["y"], e["p"] << 7 | e["t"] >> 16, e["t"] >> 8 & 255, e["t"] & 255]
    np.stack(columns, axis=1).astype(np.uint8).tofile(path)


EXAMPLES = {
    **dict.fromkeys((".csv", ".tsv", ".txt"), lambda path: path.write_text(TABLE)),
    **dict.fromkeys((".csv.gz", ".tsv.gz", ".txt.gz"), lambda path: path.write_bytes(gzip.compress(TABLE.encode()))),
    **dict.fromkeys((".parquet", ".pq"), write_parquet),
    **dict.fromkeys((".h5", ".hdf5", ".hdf"), write_hdf5),
    ".npz": lambda path: np.savez_compressed(path, x=RNG.random((20, 5, 2)), y=np.arange(20) % 3),
    ".npy": lambda path: np.save(path, EVENTS),
    ".ts": lambda path: path.write_text(TS),
    **dict.fromkeys((".wav", ".wave"), write_wav),
    **dict.fromkeys((".edf", ".bdf"), write_edf),
    ".nwb": write_nwb,
    ".bin": write_bin,
    ".aedat": write_aedat,
}
TEXT = (
    ".csv",
    ".tsv",
    ".txt",
    ".ts",
)  # no count of lines, as .bin has none of events: a cut between two leaves no mark
SUFFIXES = sorted(readers())


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """Suffix -> the bytes of a good file, written once."""
    folder, kept = tmp_path_factory.mktemp("examples"), {}

    def example(suffix):
        if suffix not in kept:
            EXAMPLES[suffix](folder / f"a{suffix}")
            kept[suffix] = (folder / f"a{suffix}").read_bytes()
        return kept[suffix]

    return example


def refused(path, content):
    """Reading these bytes fails with an error of ours that names the file, and takes little memory."""
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        bounded(path)
    assert path.name in str(caught.value) and "Remedy: " in str(caught.value)


def bounded(path, **options):
    """The data; fails if reading takes more than 512 MiB."""
    tracemalloc.start()
    try:
        return load(path, **CAMERA.get(path.suffix, {}), **options)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**29, f"{path.name} took {peak:,} bytes"


def test_every_reader_has_an_example():
    assert set(EXAMPLES) == set(readers())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_whole_files_are_read(suffix, example, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(example(suffix))
    assert len(bounded(path)) >= 1
    assert load(path, **CAMERA.get(suffix, {})).fingerprint == bounded(path).fingerprint


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_cut_files_are_refused(suffix, example, tmp_path):
    whole = example(suffix)
    cuts = {0, 1, 4, 12, 61, len(whole) // 3, len(whole) // 2, len(whole) - 500, len(whole) - 1}
    if suffix in TEXT:
        cuts = {0, 1, 12, whole.rindex(b"," if suffix != ".ts" else b":")}
    if suffix == ".bin":
        cuts = {0, *(cut for cut in cuts if cut % 5)}
    for cut in cuts & set(range(len(whole))):
        refused(tmp_path / f"a{suffix}", whole[:cut])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_shuffled_zeroed_and_foreign_bytes_are_refused(suffix, example, tmp_path):
    path, whole = tmp_path / f"a{suffix}", example(suffix)
    refused(path, np.random.default_rng(1).permutation(np.frombuffer(whole, np.uint8)).tobytes())
    refused(path, bytes(len(whole)))
    refused(path, b"\x89PNG\r\n\x1a\n" + np.random.default_rng(2).bytes(999))
    family = EXAMPLES[suffix]
    for other in SUFFIXES:
        alike = EXAMPLES[other] is family or {suffix, other} <= {*TEXT} - {".ts"} or {suffix, other} <= {".h5", ".nwb"}
        if not alike and EXAMPLES[other] is not EXAMPLES[".h5"]:
            refused(path, example(other))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_overwritten_bytes_never_escape_as_another_error(suffix, example, tmp_path):
    """Numbers in headers become huge, negative or text; what can still be read may be read."""
    path, whole, rng = tmp_path / f"a{suffix}", example(suffix), np.random.default_rng(3)
    for _ in range(8 if suffix == ".nwb" else 40):
        at = int(rng.integers(0, min(len(whole), 600)))
        junk = [b"\xff", b"\x7f", b"9", b"\x00", b"-"][rng.integers(5)] * int(rng.integers(1, 9))
        path.write_bytes(whole[:at] + junk + whole[at + len(junk) :])
        try:
            bounded(path)
        except TimecellError as error:
            assert "Remedy: " in str(error)


# --- faults of single formats -----------------------------------------------------------------------------------------


def npy_promising(shape):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(80)


def test_headers_that_promise_more_than_there_is_take_no_memory(tmp_path):
    refused(tmp_path / "a.npy", npy_promising((10**12,)))
    refused(tmp_path / "b.npy", npy_promising((10**30, 10**30)))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", npy_promising((10**12,)))
    refused(tmp_path / "a.npz", (tmp_path / "a.npz").read_bytes())
    with pytest.importorskip("h5py").File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("values", (10**12,), "f8", chunks=(1000,))
    refused(tmp_path / "a.h5", (tmp_path / "a.h5").read_bytes())


def test_files_that_unpack_to_far_more_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(damage, "LARGE", 10_000)
    np.savez_compressed(tmp_path / "a.npz", values=np.zeros(10**6))
    refused(tmp_path / "a.npz", (tmp_path / "a.npz").read_bytes())
    refused(tmp_path / "a.csv.gz", gzip.compress(b"a\n" + b"0\n" * 10**6))
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"a": np.zeros(10**6)}), tmp_path / "a.parquet")
    refused(tmp_path / "a.parquet", (tmp_path / "a.parquet").read_bytes())


def test_pickles_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=np.array([{}, 1], dtype=object))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(DataError, match="pickled Python objects"):
            load(tmp_path / name)


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_times_in_a_wrong_unit_take_no_memory(suffix, tmp_path):
    arrays = {"times": np.array([1.0, 1e12]), "units": np.array([0, 699]), "offsets": np.array([0, 2]), "labels": [0]}
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with pytest.importorskip("h5py").File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values
    with pytest.raises(DataError, match=r"'times'.*times up to 1e\+12 s(.|\n)*tick"):
        bounded(path)
    with pytest.raises(InputError, match="tick"):
        load(path, tick=-1.0)


def test_a_warning_of_a_library_is_not_the_users(example, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for suffix in (".edf", ".wav", ".nwb"):
            (tmp_path / f"a{suffix}").write_bytes(example(suffix))
            load(tmp_path / f"a{suffix}")
