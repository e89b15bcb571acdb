"""Formats of the field: what each gives, against the library that wrote it, and what each refuses, by place."""

import struct
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timecell.data import (
    Annotation,
    EventStream,
    Recording,
    Sequences,
    Series,
    cochleagram,
    describe,
    filterbank_spikes,
    join,
    load,
    read_edf,
    read_events,
    read_nwb,
    read_wav,
)
from timecell.errors import DataError, InputError, MissingExtra

RNG = np.random.default_rng(0)


def fails(path: Path, *words: str, error: type[Exception] = DataError, **options: object) -> None:
    """Loading fails, and the message holds these words and a remedy."""
    with pytest.raises(error) as caught:
        load(path, **options)
    for word in (*words, "Remedy: "):
        assert word in str(caught.value), caught.value


# --- .ts --------------------------------------------------------------------------------------------------------------

TS = """# gestures
@problemName Gestures
@timeStamps false
@univariate false
@dimensions 2
@equalLength false
@classLabel true left Right
@data
0.1,0.2,0.4:1,1,1:Right
0.3,-2e1:0,1:left
"""


def ts(folder: Path, text: str, name: str = "a.ts") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_ts_with_two_dimensions_and_two_lengths(tmp_path):
    data = load(ts(tmp_path, TS))
    assert [data[i].tolist() for i in (0, 1)] == [[[0.1, 1], [0.2, 1], [0.4, 1]], [[0.3, 0], [-20, 1]]]
    assert data.schema.classes == ("left", "Right") and data.target.tolist() == [1, 0]


def test_ts_without_labels_or_class_names(tmp_path):
    data = load(ts(tmp_path, "@univariate true\n@classLabel false\n@data\n1,2\n3\n"))
    assert data.target is None and data.lengths.tolist() == [2, 1]
    assert load(ts(tmp_path, "@classLabel true\n@data\n1,2:10\n3:9\n")).schema.classes == ("10", "9")


def test_ts_gaps_are_refused_or_filled_with_the_last_value(tmp_path):
    path = ts(tmp_path, TS.replace("0.1,0.2,0.4", "?,0.2,?"))
    fails(path, "line 9", "dimension 0", "missing value at step 0", 'gaps="forward"')
    assert load(path, gaps="forward")[0][:, 0].tolist() == [0.2, 0.2, 0.2]
    fails(path, "gaps", "forward", error=InputError, gaps="backward")
    fails(ts(tmp_path, TS.replace("0.3,-2e1", "?,?")), "line 10", "no value at all", gaps="forward")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("@dimensions 2", "@dimensions 3", ["line 9", "2 dimensions", "3"]),
        ("@equalLength false", "@equalLength true\n@seriesLength 3", ["line 11", "2 steps", "3"]),
        ("1,1,1:Right", "1,1:Right", ["line 9", "3, 2 steps"]),
        (":Right", ":Rig", ["line 9", "'Rig'", "left, Right"]),
        (":Right", "", ["line 9", "'1,1,1'"]),
        ("0.2", "0.2x", ["line 9", "dimension 0", "0.2x"]),
        ("0.2", "inf", ["line 9", "step 1", "inf"]),
        ("@data", "", ["line 9", "0.1,0.2"]),
        ("@timeStamps false", "@timeStamps true", ["line 3", "time stamps", "CSV"]),
        ("@classLabel true left Right", "@targetLabel true", ["line 7", "real-valued", "@classLabel"]),
        ("@univariate false", "@univariate true", ["line 4", "2 dimensions"]),
        ("@univariate false", "@univariate maybe", ["line 4", "maybe", "true or false"]),
        ("@dimensions 2", "@dimensions two", ["line 5", "two"]),
        ("@problemName", "@problem", ["line 2", "@problem", "problemName"]),
        (TS[TS.index("0.1") :], "", ["no samples"]),
    ],
)
def test_malformed_ts(tmp_path, old, new, words):
    fails(ts(tmp_path, TS.replace(old, new)), "a.ts", *words)


def test_a_pair_of_ts_files_brings_its_split(tmp_path):
    ts(tmp_path, TS, "Gestures_TRAIN.ts")
    ts(tmp_path, TS.replace("0.1", "0.7"), "Gestures_TEST.ts")
    (tmp_path / "README.md").write_text("about")
    data = load(tmp_path)
    assert data.part.tolist() == ["test"] * 2 + ["train"] * 2 and data[0][0, 0] == 0.7
    assert data.schema.classes == ("left", "Right") and data.group is None


# --- events -----------------------------------------------------------------------------------------------------------

events = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 4), st.integers(0, 10**6), st.booleans()), min_size=1, max_size=40
)


def stream(rows, size=(5, 7), tick=1e-6) -> EventStream:
    x, y, t, p = map(np.array, zip(*sorted(rows, key=lambda row: row[2])))
    return EventStream(x, y, t, p, tick=tick, size=size)


@settings(deadline=None, max_examples=50)
@given(events, st.sampled_from([0.001, 0.0333, 0.5]), st.integers(1, 4))
def test_frames_conserve_every_event_where_and_when_it_was(rows, dt, factor):
    one = stream(rows)
    frames = one.frames(dt)
    assert frames.sum() == len(one) and frames.shape[1:] == (2, 5, 7)
    step = np.floor((one.t - one.t[0]) * 1e-6 / dt + 1e-6).astype(int)
    expected = np.zeros(frames.shape, int)
    np.add.at(expected, (step, one.p, one.y, one.x), 1)
    assert (frames == expected).all()
    pooled = one.pooled(factor).frames(dt)
    assert pooled.sum() == len(one) and (pooled.sum(axis=(2, 3)) == frames.sum(axis=(2, 3))).all()


@pytest.mark.parametrize("form", ["fields", "arrays", "npy", "h5"])
def test_events_from_arrays_of_every_kind(tmp_path, form):
    one = stream([(6, 4, 100, 1), (0, 2, 5000, 0), (3, 3, 12_000, 1)])
    table = np.zeros(3, dtype=[("t", "i8"), ("x", "u2"), ("y", "u2"), ("p", "i1")])
    for name in "xytp":
        table[name] = getattr(one, name)
    table["p"][1] = -1
    path = tmp_path / f"a.{'npz' if form in ('fields', 'arrays') else form}"
    known = {"tick": 1e-6, "size": (5, 7)}
    if form == "fields":
        np.savez(path, events=table)
    elif form == "arrays":
        np.savez(path, **{name: table[name] for name in "xytp"}, tick=1e-6, height=5, width=7)
        known = {}
    elif form == "npy":
        np.save(path, table)
    else:
        with pytest.importorskip("h5py").File(path, "w") as file:
            file["CD/events"] = table
    read = read_events(path, **known)
    assert all((getattr(read, name) == getattr(one, name)).all() for name in "xytp") and read.size == (5, 7)
    data = load(path, dt=0.005, **known)
    assert data.lengths.tolist() == [3] and data.values.sum() == 3 and data.schema.rate == 200
    assert data.values[0, 35 + 4 * 7 + 6] == 1 and data.schema.channels[35 + 4 * 7 + 6] == "on 4,6"
    assert load(path, pool=7, **known).values.shape[1] == 2
    assert describe(data) == "1 sequence of 3 steps of 5 ms, 70 channels of spike counts"


def test_units_and_size_are_never_guessed(tmp_path):
    path = tmp_path / "a.npz"
    arrays = {"x": [0, 1], "y": [0, 0], "t": [0.0, 1.0], "p": [True, False]}
    np.savez(path, **arrays)
    fails(path, "'t'", "no array 'tick'", "--tick", size=(2, 2))
    fails(path, "size", "height and width", "--size", error=InputError, tick=1.0)
    fails(path, "tick", "-1", error=InputError, tick=-1.0, size=(2, 2))
    fails(path, "size", error=InputError, tick=1.0, size=(0, 2))
    np.savez(path, **arrays, tick=0.5, width=2, height=1)
    fails(path, "tick", "0.5", "leave it out", error=InputError, tick=1.0)
    fails(path, "size", "(1, 2)", "leave it out", error=InputError, size=(2, 2))
    fails(path, "target", "leave it out", error=InputError, target="p", kind="sequences")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x": [0, 7, 1]}, ["event 1, x", "7", "0 to 6"]),
        ({"x": [0, -1, 1]}, ["event 1, x", "-1"]),
        ({"y": [0, 1, 5]}, ["event 2, y", "5", "0 to 4"]),
        ({"t": [0, 5, 4]}, ["event 2, t", "4", "sort"]),
        ({"t": [0.0, np.nan, 4.0]}, ["event 1, t", "nan"]),
        ({"t": [0, 5, 10**17]}, ["1e+11 s", "tick"]),
        ({"p": [0, 1, 2]}, ["event 2, p", "2", "ON"]),
        ({"p": [0, 1]}, ["'p'", "[2]", "[3]"]),
        ({"x": [0.0, 1.0, 2.0]}, ["'x'", "float64", "whole numbers"]),
        ({"extra": [1]}, ["'extra'", "--ignore extra"]),
        ({name: np.zeros(0, int) for name in "xytp"}, ["at least one event"]),
    ],
)
def test_malformed_events(tmp_path, changes, words):
    arrays = {"x": [0, 1, 2], "y": [0, 1, 2], "t": [0, 1, 2], "p": [0, 1, 1]} | changes
    np.savez(tmp_path / "a.npz", **arrays)
    fails(tmp_path / "a.npz", "a.npz", *words, tick=1e-6, size=(5, 7))


def nmnist(path: Path, rows) -> Path:
    bytes_ = [[x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255] for x, y, t, p in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.array(bytes_, dtype=np.uint8).tofile(path)
    return path


def test_nmnist_layout(tmp_path):
    path = nmnist(tmp_path / "a.bin", [(1, 33, 7, 1), (9, 3, 2**17 + 300, 0)])
    read = read_events(path)
    assert read.t.tolist() == [7, 2**17 + 300] and read.p.tolist() == [1, 0] and read.size == (34, 34)
    assert read.x.tolist() == [1, 9] and read.y.tolist() == [33, 3] and read.tick == 1e-6
    run_over = nmnist(tmp_path / "b.bin", [(1, 1, 8000, 1), (0, 240, 0, 0), (1, 1, 10, 1)])
    assert read_events(run_over).t.tolist() == [8000, 8192 + 10]
    fails(nmnist(tmp_path / "c.bin", [(50, 1, 1, 1)]), "event 0, x", "50", "0 to 33")
    assert len(load(nmnist(tmp_path / "c.bin", [(50, 1, 1, 1)]), size=(180, 240)))
    fails(path, "tick", error=InputError, tick=1.0)
    fails(path, "series", kind="series")


def test_aedat_layout(tmp_path):
    def packet(kind, words, overflow=0, size=8):
        n = len(words) // 2
        return struct.pack("<hhiiiiii", kind, 0, size, 4, overflow, n, n, n) + struct.pack(f"<{len(words)}I", *words)

    event = lambda x, y, p, valid=1: x << 17 | y << 2 | p << 1 | valid  # noqa: E731
    head = b"#!AER-DAT3.1\r\n#Source 0: DVS128\r\n#!END-HEADER\r\n"
    first = packet(1, [event(3, 120, 1), 7, event(9, 9, 0, valid=0), 8, event(127, 0, 0), 9])
    path = tmp_path / "a.aedat"
    path.write_bytes(head + first + packet(0, [1, 2]) + packet(1, [event(1, 1, 1), 5], overflow=1))
    read = read_events(path, size=(128, 128))
    assert read.x.tolist() == [3, 127, 1] and read.y.tolist() == [120, 0, 1] and read.p.tolist() == [1, 0, 1]
    assert read.t.tolist() == [7, 9, 2**31 + 5]
    fails(path, "size", "--size", error=InputError)
    fails(path, "event 0, y", "120", size=(100, 128))
    path.write_bytes(head + first[:-3])
    fails(path, "a.aedat, byte", "21 bytes", "24 of 3 events", size=(128, 128))
    path.write_bytes(head + packet(1, [event(1, 1, 1), 5], size=12))
    fails(path, "of 12 bytes", "damaged", size=(128, 128))
    path.write_bytes(head.replace(b"3.1", b"2.0") + first)
    fails(path, "AER-DAT2.0", "convert", size=(128, 128))


def test_a_folder_of_recordings_with_classes_and_split(tmp_path):
    for part in ("Train", "Test"):
        for label in ("0", "1"):
            nmnist(tmp_path / part / label / "a.bin", [(int(label), 1, 1, 1), (5, 5, 25_000, 0)])
    data = load(tmp_path)
    assert data.target.tolist() == [0, 1, 0, 1] and data.part.tolist() == ["test", "test", "train", "train"]
    assert data.lengths.tolist() == [3] * 4 and data.schema.classes == ("0", "1")


# --- sounds -----------------------------------------------------------------------------------------------------------


def wav(path: Path, values, rate: int = 8000) -> Path:
    from scipy.io import wavfile

    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, rate, values)
    return path


@pytest.mark.parametrize("kind", ["u1", "<i2", "<i4", "<f4", "<f8"])
@pytest.mark.parametrize("channels", [1, 2])
def test_wav_of_every_width(tmp_path, kind, channels):
    sound = RNG.uniform(-1, 1, (101, channels))
    top = {"u1": 127, "<i2": 2**15 - 1, "<i4": 2**31 - 1}.get(kind, 1)
    stored = (sound * top + (128 if kind == "u1" else 0)).astype(kind)
    read = read_wav(wav(tmp_path / "a.wav", stored))
    full = {"u1": 128, "<i2": 2**15, "<i4": 2**31}.get(kind, 1)
    np.testing.assert_allclose(read.wave, (stored.astype(float) - (128 if kind == "u1" else 0)) / full, atol=1e-7)
    assert read.rate == 8000 and len(read.channels) == channels


def test_wav_of_24_bits(tmp_path):
    import wave

    values = [0, 1, -1, 2**23 - 1, -(2**23), 12345]
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 3, 44100, 0, "NONE", ""))
        file.writeframes(b"".join(v.to_bytes(3, "little", signed=True) for v in values))
    np.testing.assert_allclose(read_wav(tmp_path / "a.wav").wave[:, 0] * 2**23, values)


def test_damaged_wav_is_placed(tmp_path):
    path = wav(tmp_path / "a.wav", np.zeros(100, "i2"))
    raw = path.read_bytes()
    for content, words in (
        (raw[:-1], ["chunk 'data'", "199 bytes", "200"]),
        (raw[:40] + (0xFFFFFFFF).to_bytes(4, "little") + raw[44:], ["chunk 'data'", "4,294,967,295"]),
        (raw[:20] + b"\x06\x00" + raw[22:], ["chunk 'fmt '", "format 6", "PCM"]),
        (raw[:22] + b"\x00\x00" + raw[24:], ["0 channels"]),
        (b"RIFX" + raw[4:], ["RIFX", "WAVE"]),
        (raw[:36], ["44"]),
        (raw + b"LIST", None),
    ):
        path.write_bytes(content)
        if words is None:
            assert load(path).values.shape == (100, 1)  # what lies behind the declared end is not part of the sound
        else:
            fails(path, "a.wav", *words)
    fails(wav(path, np.array([0.0, np.nan], "f4")), "sample 1", "nan")
    fails(wav(path, np.zeros(0, "i2")), "0 bytes")


def test_sounds_in_folders_have_classes_and_one_rate(tmp_path):
    wav(tmp_path / "low" / "a.wav", RNG.normal(size=800))
    wav(tmp_path / "high" / "b.wav", RNG.normal(size=1200))
    data = load(tmp_path)
    assert data.schema.classes == ("high", "low") and data.target.tolist() == [0, 1]
    assert data.lengths.tolist() == [1200, 800] and data.schema.rate == 8000
    wav(tmp_path / "low" / "c.wav", RNG.normal(size=1600), rate=16000)
    fails(tmp_path, "c.wav", "rate 16000.0", "8000.0", "--rate")
    assert load(tmp_path, rate=4000).lengths.tolist() == [600, 400, 400]
    wav(tmp_path / "low" / "c.wav", RNG.normal(size=(800, 2)))
    fails(tmp_path, "c.wav", "left, right", "mono")


def test_resampling_keeps_a_tone(tmp_path):
    tone = lambda rate: np.sin(2 * np.pi * 100 * np.arange(rate) / rate)  # noqa: E731
    path = wav(tmp_path / "a.wav", tone(8000))
    data = load(path, rate=2000)
    np.testing.assert_allclose(data.values[200:-200, 0], tone(2000)[200:-200], atol=5e-3)
    assert isinstance(load(path, kind="series"), Series)
    fails(path, "rate", "0", error=InputError, rate=0.0)
    fails(path, "rate", "simple ratio", error=InputError, rate=np.pi)


def test_cochleagram_holds_every_spike_of_the_ear(tmp_path):
    wave = np.sin(2 * np.pi * 440 * np.arange(4000) / 8000)
    path = wav(tmp_path / "a.wav", wave)
    data = load(path, filters=20, dt=0.020)
    times, units = filterbank_spikes(load(path).values[:, 0], 8000, 20)
    assert data.values.shape == (25, 20) and data.schema.spikes and data.schema.rate == 50
    assert (
        data.values.sum() == len(times) > 5 and data.values.sum(0).tolist() == np.bincount(units, minlength=20).tolist()
    )
    two = cochleagram(Sequences.of([np.stack([wave, 0 * wave], 1)], rate=8000.0), 20)
    assert two.values.shape == (50, 40) and two.values[:, 20:].sum() == 0 < two.values[:, :20].sum()
    for call, word in (
        (lambda: cochleagram(Sequences.of([wave[:, None]])), "rate"),
        (lambda: cochleagram(Sequences.of([wave[:, None]], rate=8000.0), 0), "filters"),
    ):
        with pytest.raises(InputError, match=word):
            call()


# --- recordings -------------------------------------------------------------------------------------------------------

NOTES = [(0.5, 0.5, "left"), (2.0, 0.5, "right"), (3.0, 0.25, "left"), (4.5, 0.0, "beep")]


def edf(path: Path, rates=(100.0, 100.0), notes=NOTES, seconds: int = 5) -> tuple[Path, list[np.ndarray]]:
    edfio = pytest.importorskip("edfio")
    kinds = (edfio.BdfSignal, edfio.Bdf) if path.suffix == ".bdf" else (edfio.EdfSignal, edfio.Edf)
    waves = [RNG.normal(size=int(rate * seconds)) for rate in rates]
    signals = [
        kinds[0](wave, rate, label=f"E{i}", physical_dimension="uV", physical_range=(-8, 8))
        for i, (wave, rate) in enumerate(zip(waves, rates))
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds[1](signals, annotations=[edfio.EdfAnnotation(*note) for note in notes]).write(path)
    return path, waves


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
def test_edf_gives_values_rate_units_and_annotations(tmp_path, suffix):
    path, waves = edf(tmp_path / f"a{suffix}")
    recording = read_edf(path)
    np.testing.assert_allclose(recording.values, np.stack(waves, 1), atol=16 / 2**16)
    assert (recording.rate, recording.channels, recording.units) == (100.0, ("E0", "E1"), ("uV", "uV"))
    assert recording.annotations == tuple(Annotation(*note) for note in NOTES)
    data = load(path)
    assert isinstance(data, Series) and describe(data) == "500 steps of 10 ms, 2 channels, none missing"
    assert load(path, ignore=["E0"]).schema.channels == ("E1",)
    fails(path, "ignore", "'E7'", "E0, E1", error=InputError, ignore=["E7"])


def test_edf_trials_by_annotation(tmp_path):
    path, waves = edf(tmp_path / "a.edf")
    data = load(path, epoch=(-0.1, 0.3))
    assert data.schema.classes == ("beep", "left", "right") and data.target.tolist() == [1, 2, 1, 0]
    assert data.lengths.tolist() == [40] * 4
    np.testing.assert_allclose(data[1], np.stack(waves, 1)[190:230], atol=16 / 2**16)
    own = load(path, classes=["right", "left"])
    assert own.schema.classes == ("right", "left") and own.lengths.tolist() == [50, 50, 25]
    fails(path, "'beep' at 4.5 s", "0 s", "--epoch", kind="sequences")
    fails(path, "'beep' at 4.5 s", "4.5 to 5.5", "0 to 5 s", epoch=(0, 1))
    fails(path, "'left' at 0.5 s", "-0.1 to", epoch=(-0.6, 0.1))
    fails(path, "classes", "did you mean 'left'", error=InputError, classes=["lft"])
    fails(path, "classes", "['left']", error=InputError, classes="left")
    fails(path, "epoch", "(1, 0)", error=InputError, epoch=(1, 0))
    fails(edf(tmp_path / "b.edf", notes=[])[0], "no annotations", epoch=(0, 1))


def test_edf_rates_are_brought_together_only_on_request(tmp_path):
    path, waves = edf(tmp_path / "a.edf", rates=(100.0, 50.0))
    fails(path, "E0 100 Hz, E1 50 Hz", "--ignore", "--rate")
    assert load(path, ignore=["E0"]).schema.rate == 50
    both = load(path, rate=50)
    assert both.values.shape == (250, 2)
    np.testing.assert_allclose(both.values[:, 1], waves[1], atol=16 / 2**16)


def test_a_recording_cut_in_the_middle_is_refused(tmp_path):
    path, _ = edf(tmp_path / "a.edf")
    raw = path.read_bytes()
    record = (len(raw) - 1024) // 5
    path.write_bytes(raw[:-record])
    fails(path, "4 data records", "5, as the header says")
    path.write_bytes(raw[:236] + b"-1      " + raw[244:])
    fails(path, "-1, as the header says", "repaired")


def test_damaged_annotations_are_refused_and_never_passed_over(tmp_path):
    path, _ = edf(tmp_path / "a.edf")
    raw = path.read_bytes()
    for old, new in ((b"+2\x15", b"!2\x15"), (b"right\x14", b"right\x00"), (b"left\x14", b"le\nt\x14")):
        assert raw.count(old)
        path.write_bytes(raw.replace(old, new))
        fails(path, "data record", "annotations", "EDF+")


def test_discontinuous_edf_is_refused(tmp_path):
    path, _ = edf(tmp_path / "a.edf")
    raw = path.read_bytes()
    assert raw.count(b"+3\x14\x14") == 1
    path.write_bytes(raw.replace(b"+3\x14\x14", b"+9\x14\x14"))
    fails(path, "discontinuous", "cut it at its gaps")


def test_recordings_of_several_people_keep_their_groups(tmp_path):
    for name in ("ann/1.edf", "ann/2.edf", "bob/1.edf"):
        edf(tmp_path / name)
    data = load(tmp_path, epoch=(0, 0.2))
    assert len(data) == 12 and data.group.tolist() == [0] * 8 + [1] * 4
    assert data.schema.classes == ("beep", "left", "right")


def test_trials_refuse_gaps_and_empty_labels():
    values = np.zeros((100, 2))
    values[55, 1] = np.nan
    for text, words in (("a", "channel 'q'.*step 5"), ("", "at 5 s: found no label(.|\n)*--target")):
        with pytest.raises(DataError, match=words):
            Recording(values, 10.0, ("p", "q"), (), (Annotation(5.0, 1.0, text),)).epochs()


@pytest.fixture
def nwb(tmp_path):
    pynwb = pytest.importorskip("pynwb")
    from pynwb.ecephys import ElectricalSeries

    def nwb(*items: str, trials: bool = True, spikes=([0.05, 0.31, 0.95], [0.2])) -> Path:
        file = pynwb.NWBFile("a", "b", datetime(2026, 1, 1, tzinfo=UTC))
        group = file.create_electrode_group("g", "", location="", device=file.create_device("d"))
        for _ in range(3):
            file.add_electrode(group=group, location="x")
        table = file.create_electrode_table_region([0, 2], "two")
        if "lfp" in items:
            values = np.arange(100, dtype="i2").reshape(50, 2)
            file.add_acquisition(
                ElectricalSeries(
                    name="lfp", data=values, electrodes=table, rate=50.0, starting_time=0.0, conversion=1e-3, offset=0.5
                )
            )
        if "late" in items:
            file.add_acquisition(
                pynwb.TimeSeries(name="late", data=np.ones(100), unit="m", rate=100.0, starting_time=0.5)
            )
        if "stamped" in items:
            stamps = np.array([0.0, 0.1, 0.3])
            file.add_acquisition(pynwb.TimeSeries(name="stamped", data=np.arange(3.0), unit="m", timestamps=stamps))
        if "video" in items:
            file.add_acquisition(pynwb.TimeSeries(name="video", data=np.ones((4, 2, 2)), unit="px", rate=1.0))
        if "units" in items:
            for own in spikes:
                file.add_unit(spike_times=own)
        if trials:
            file.add_trial_column("side", "which")
            file.add_trial(0.0, 0.5, side="left")
            file.add_trial(0.5, 1.0, side="right")
        with pynwb.NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
            io.write(file)
        return tmp_path / "a.nwb"

    return nwb


def test_nwb_series_has_physical_values_names_and_trials(nwb):
    recording = read_nwb(nwb("lfp"))
    np.testing.assert_allclose(recording.values, np.arange(100).reshape(50, 2) * 1e-3 + 0.5)
    assert recording.channels == ("electrode0", "electrode2") and recording.units == ("volts", "volts")
    assert recording.annotations == (Annotation(0.0, 0.5, "left"), Annotation(0.5, 0.5, "right"))
    data = load(nwb("lfp"), kind="sequences")
    assert data.schema.classes == ("left", "right") and data.lengths.tolist() == [25, 25]
    assert load(nwb("lfp"), kind="sequences", target="side").fingerprint == data.fingerprint


def test_nwb_units_become_counts_up_to_the_end_of_the_last_trial(nwb):
    data = load(nwb("units"), dt=0.1)
    assert data.schema.channels == ("unit0", "unit1") and data.schema.rate == 10
    assert data.values.T.tolist() == [[1, 0, 0, 1, 0, 0, 0, 0, 0, 1], [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]]
    trials = load(nwb("units"), dt=0.1, epoch=(0.0, 0.2))
    assert trials.schema.spikes and trials[0].tolist() == [[1, 0], [0, 0]]
    assert len(load(nwb("units", spikes=([0.05],)), dt=0.1)) == 10
    assert len(load(nwb("units", spikes=([0.05],), trials=False), dt=0.1)) == 1


def test_nwb_clocks(nwb):
    np.testing.assert_array_equal(load(nwb("stamped")).values[:, 0], [0, 1, np.nan, 2])
    late = load(nwb("late"))
    assert late.time[0] == 0.5
    fails(nwb("late"), "'left' at 0 s", "0.5 to 1.5 s", kind="sequences")


def test_nwb_asks_what_to_read(nwb):
    fails(nwb("lfp", "units"), "lfp, units", "item='lfp'", "--item")
    fails(nwb("lfp"), "item", "did you mean 'lfp'", error=InputError, item="lfpp")
    fails(nwb("lfp"), "target", "did you mean 'side'", error=InputError, target="sides")
    fails(nwb(), "no time series")
    fails(nwb("video"), "video", "[4, 2, 2]", "[T, C]")
    fails(nwb("lfp", trials=False), "no annotations", kind="sequences")
    fails(nwb("units", spikes=([0.3, 0.1],)), "unit0, spike 1", "0.1 s after 0.3 s", "sort")
    fails(nwb("units", spikes=([-0.3],)), "unit0, spike 0", "-0.3")
    fails(nwb("units", spikes=([1e12],)), "units", "1e+12 s", "dt")


@pytest.mark.parametrize(("package", "name"), [("edfio", "a.edf"), ("pynwb", "a.nwb")])
def test_a_missing_package_names_the_extra(monkeypatch, tmp_path, package, name):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    (tmp_path / name).write_bytes(b"x")
    fails(tmp_path / name, 'pip install "timecell[neuro]"', package, error=MissingExtra)


# --- folders ----------------------------------------------------------------------------------------------------------


def test_folders_that_are_no_data_set(tmp_path):
    fails(tmp_path, "no files")
    wav(tmp_path / "a.wav", np.ones(100))
    assert load(tmp_path).target is None
    wav(tmp_path / "low" / "a.wav", np.ones(100))
    fails(tmp_path, "no class", "low", "folder of its class")
    (tmp_path / "a.wav").unlink()
    (tmp_path / ".DS_Store").write_bytes(b"x")
    assert load(tmp_path).schema.classes == ("low",)
    fails(tmp_path, "kind", "'series'", error=InputError, kind="series")
    wav(tmp_path / "low" / "deep" / "deeper" / "a.wav", np.ones(100))
    fails(tmp_path, "3 folders above")
    (tmp_path / "low" / "deep" / "deeper" / "a.wav").unlink()
    ts(tmp_path, TS)
    fails(tmp_path, "different formats", "a.ts")
    (tmp_path / "a.ts").write_text("@data\n")
    (tmp_path / "low" / "a.wav").unlink()
    fails(tmp_path, "a.ts", "no samples")
    (tmp_path / "a.ts").rename(tmp_path / "a.csv")
    fails(tmp_path, "a table in a folder", "name the table")


def test_a_broken_file_in_a_folder_is_never_left_out(tmp_path):
    for name in "abc":
        wav(tmp_path / "x" / f"{name}.wav", np.ones(100, "i2"))
    (tmp_path / "x" / "b.wav").write_bytes((tmp_path / "x" / "b.wav").read_bytes()[:-7])
    fails(tmp_path, "b.wav", "chunk 'data'")


def test_join_takes_the_classes_of_all():
    sets = [Sequences.of([np.ones((2, 1))] * len(c), range(len(c)), classes=c) for c in (("b", "a"), ("c", "b"))]
    both = join(sets, ["one", "two"])
    assert [both.schema.classes[k] for k in both.target] == ["b", "a", "c", "b"]
