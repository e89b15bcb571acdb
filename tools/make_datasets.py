"""Make the data files that ship with timecell from their public sources.

    python tools/make_datasets.py SOURCES

SOURCES holds

    fsdd.npz                           github.com/Jakobovski/free-spoken-digit-dataset: audio int16 of all clips end to
                                       end, offsets, digit, speaker, take, rate
    taxi_new_york_passengers.csv.gz    datasets/taxi_new_york_passengers.csv of github.com/unit8co/darts, gzipped
    t10k-images-idx3-ubyte.gz          the test digits of MNIST and, beside them, t10k-labels-idx1-ubyte.gz
    enronEmails.npz                    data/enronEmails.rda of github.com/cran/networkDynamicData 0.3.0: onset int64 [s],
                                       src, dst of every mail, numbered from 0
    so.npz                             data/real/so of github.com/dunan/NeuralPointProcess, the five test folds one
                                       after the other: time [s], mark, and length of each sequence

anywhere below it. The files are the same, byte for byte, on every run with the same numpy and zlib.
"""

from __future__ import annotations

import gzip
import io
import os
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from timecell.data.encoders import filterbank_spikes

FILES = Path(__file__).parents[1] / "src" / "timecell" / "data" / "files"
QUIET = 35.0  # decibels below the loudest 10 ms: leading and trailing sound below it is cut off
LONGEST = 1.0  # seconds; 7 of the 3,000 clips are longer
TEST_TAKES = 5  # the usual test split: takes 0 to 4 of each digit and speaker
DIGITS, GREYS = 5000, 16  # pictures of MNIST that are kept, and their levels of grey
USERS = 400  # sequences of badges that are kept
FIRST_MAIL = 910_000_000  # seconds since 1970, in November 1998; the dates before it are errors of the source


def spoken_digits(source: Path) -> bytes:
    """Spike times in milliseconds and channels of all clips, in the layout that `timecell.data.load` reads."""
    with np.load(source, allow_pickle=False) as fsdd:
        audio, offsets, rate = fsdd["audio"], fsdd["offsets"], int(fsdd["rate"])
        labels, speakers, take = fsdd["digit"], fsdd["speaker"], fsdd["take"]
    clips = [filterbank_spikes(trimmed(audio[start:stop], rate), rate) for start, stop in pairwise(offsets)]
    packed = io.BytesIO()
    np.savez_compressed(
        packed,
        times=np.concatenate([np.round(1000 * times) for times, _ in clips]).astype(np.uint16),
        tick=np.float64(0.001),
        units=np.concatenate([units for _, units in clips]).astype(np.uint8),
        offsets=np.concatenate([[0], np.cumsum([len(times) for times, _ in clips])]).astype(np.int32),
        labels=labels.astype(np.uint8),
        speakers=speakers.astype(np.uint8),
        split=np.where(take < TEST_TAKES, "test", "train"),
    )
    return packed.getvalue()


def trimmed(wave: Shaped[np.ndarray, "samples"], rate: int) -> Shaped[np.ndarray, "samples"]:
    """The clip without the quiet at its ends, at most `LONGEST` seconds of it."""
    frame = rate // 100
    power = (wave[: len(wave) // frame * frame].astype(np.float64).reshape(-1, frame) ** 2).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (-QUIET / 10))
    return wave[loud[0] * frame : (loud[-1] + 1) * frame][: int(LONGEST * rate)]


def taxi(source: Path) -> bytes:
    """The same rows with a plainer column name."""
    text = gzip.decompress(source.read_bytes()).decode()
    header, rows = text.split("\n", 1)
    if header.strip() != "time,#Passengers":
        sys.exit(f"{source}: found the columns {header!r}, expected 'time,#Passengers'")
    return gzip.compress(("time,passengers\n" + rows).encode(), mtime=0)


def mnist(images: Path) -> bytes:
    """The first pictures, rows as steps and columns as channels, in fewer levels of grey."""
    labels = images.with_name(images.name.replace("images-idx3", "labels-idx1"))
    pixels = np.frombuffer(gzip.decompress(images.read_bytes())[16:], np.uint8).reshape(-1, 28, 28)[:DIGITS]
    packed = io.BytesIO()
    np.savez_compressed(
        packed,
        x=(np.round(pixels / 255 * (GREYS - 1)) / (GREYS - 1)).astype(np.float16),
        y=np.frombuffer(gzip.decompress(labels.read_bytes())[8:], np.uint8)[:DIGITS],
    )
    return packed.getvalue()


def enron(source: Path) -> bytes:
    """Who wrote to whom and when, without mails to oneself and without dates that are errors of the source."""
    with np.load(source, allow_pickle=False) as mails:
        src, dst, t = mails["src"], mails["dst"], mails["onset"]
    kept = (src != dst) & (t >= FIRST_MAIL)
    packed = io.BytesIO()
    np.savez_compressed(
        packed, src=src[kept].astype(np.uint8), dst=dst[kept].astype(np.uint8), t=t[kept].astype(np.int32)
    )
    return packed.getvalue()


def badges(source: Path) -> bytes:
    """When users got which badge: every k-th of them, one row a badge, in milliseconds."""
    with np.load(source, allow_pickle=False) as events:
        time, mark, length = events["time"], events["mark"], events["length"]
    ends = np.cumsum(length)
    rows = ["user,time,mark"]
    for number, user in enumerate(np.linspace(0, len(length) - 1, USERS).astype(int)):
        own = slice(ends[user] - length[user], ends[user])
        rows += [f"{number},{t:.3f},{k}" for t, k in zip(time[own], mark[own])]
    return gzip.compress(("\n".join(rows) + "\n").encode(), mtime=0)


def main(sources: Path) -> None:
    """Write all files."""
    recipes = {
        "spoken-digits.npz": ("fsdd.npz", spoken_digits),
        "taxi.csv.gz": ("taxi_new_york_passengers.csv.gz", taxi),
        "mnist.npz": ("t10k-images-idx3-ubyte.gz", mnist),
        "enron.npz": ("enronEmails.npz", enron),
        "badges.csv.gz": ("so.npz", badges),
    }
    for name, (wanted, make) in recipes.items():
        found = sorted(sources.rglob(wanted))
        if not found:
            sys.exit(f"{sources}: found no {wanted} below it; see the top of {__file__} for where it comes from")
        content = make(found[0])
        temporary = FILES / f".{name}.partial"
        temporary.write_bytes(content)
        os.replace(temporary, FILES / name)
        print(f"{FILES / name}: {len(content):,} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
