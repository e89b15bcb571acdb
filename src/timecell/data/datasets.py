"""Real data that ship with timecell, so that everything runs offline.

Beside each file in `data/files/` lies a text with its origin, licence and what was changed;
``tools/make_datasets.py`` is the recipe that made them.
"""

from __future__ import annotations

from pathlib import Path

from timecell.data.containers import Sequences, Series
from timecell.data.event_sequences import EventSequences
from timecell.data.readers import load

FOLDER = Path(__file__).parent / "files"


def files() -> dict[str, Path]:
    """Name -> path of each shipped data file; the command line takes a name in place of a path.

    Example:
        >>> sorted(files())
        ['badges', 'enron', 'mnist', 'spoken-digits', 'taxi']
    """
    return {path.name.partition(".")[0]: path for path in sorted(FOLDER.iterdir()) if path.suffix in (".npz", ".gz")}


def spoken_digits(dt: float = 0.010) -> Sequences:
    """3,000 spoken digits as spikes of 40 auditory channels, ragged, 10 classes.

    Six speakers said each English digit 50 times (Free Spoken Digit Dataset, Z. Jackson and others, CC BY-SA 4.0).
    Clips are trimmed, cut at one second and passed through `filterbank_spikes`. `part` is the usual split: takes 0 to 4
    are the test set (300 clips), so all speakers are in both parts; `group` is the speaker. To test on new speakers,
    drop the split: ``by_sample(replace(spoken_digits(), part=None))``.

    Args:
        dt: bin width in seconds.

    Returns:
        Counts [T, 40] for each clip, T up to 100 at the default width.

    Example:
        >>> data = spoken_digits()
        >>> len(data), data.schema.classes[:3], data.values.shape[1], int((data.part == "test").sum())
        (3000, ('0', '1', '2'), 40, 300)
    """
    data = load(files()["spoken-digits"], kind="sequences", dt=dt)
    assert isinstance(data, Sequences)
    return data


def badges() -> EventSequences:
    """When 400 users of Stack Overflow received which badge, 2012 to 2013: 28,397 events, 22 marks, times in seconds.

    From the data dump of Stack Exchange (CC BY-SA 3.0), put together by Du et al. (2016). Stamps that coincide are spread.

    Example:
        >>> data = badges()
        >>> len(data), len(data.schema.classes)
        (400, 22)
    """
    data = load(files()["badges"], kind="events")
    assert isinstance(data, EventSequences)
    return data


def taxi() -> Series:
    """Taxi passengers in New York City, every half hour from 1 July 2014 to 31 January 2015: [10320, 1], season 48.

    Counts of the NYC Taxi and Limousine Commission, put together by Numenta for its anomaly benchmark and passed on
    with darts (Apache-2.0). There are no gaps; five unusual stretches are real: the marathon, Thanksgiving, Christmas,
    New Year and a snow storm.

    Example:
        >>> series = taxi()
        >>> series.values.shape, series.schema.period, round(1 / series.schema.rate)
        ((10320, 1), 48, 1800)
    """
    data = load(files()["taxi"], kind="series")
    assert isinstance(data, Series)
    return data
