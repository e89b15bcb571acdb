"""The report: every number is the comparison's, every text is escaped, every shape of data renders."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from timecell.compare import Behind, Comparison, Failed, Rejected, Row, Settings, Trial
from timecell.data.containers import Schema, Sequences, Series, Windows
from timecell.data.readers import describe
from timecell.errors import InputError
from timecell.report import print_comparison, write_html
from timecell.report.html import page
from timecell.system import Splits


@dataclass(frozen=True)
class Ask:
    """Splits in order: 60 %, 20 %, 20 %; series into windows."""

    name: str = "classify"
    history: int = 48
    horizon: int = 24

    def split(self, data: Any, seed: int = 0) -> Splits:
        if isinstance(data, Sequences):
            order = np.random.default_rng(seed).permutation(len(data))
            cuts = np.split(order, [3 * len(data) // 5, 4 * len(data) // 5])
            return Splits(*(data.select(cut) for cut in cuts))
        ends = np.cumsum([0, 0.6, 0.2, 0.2]) * (len(data) - self.history - self.horizon)
        starts = [np.arange(int(a), int(b)) for a, b in pairwise(ends)]
        return Splits(*(Windows(data, self.history, self.horizon, s) for s in starts))


def row(
    slug: str, values: tuple[float, ...], family: str = "spiking", behind: Behind | None = None, **report: Any
) -> Row:
    updates = np.linspace(20, 400, 15)
    history = [
        {
            "update": int(u), "train_loss": 2.2 * np.exp(-u / 120) + 0.1, "valid_loss": 2.2 * np.exp(-u / 150) + 0.3,
            "valid_score": values[0] * (1 - np.exp(-u / 90)), "metric": "accuracy",
        }
        for u in updates
    ]  # fmt: skip
    learned = {} if family == "baseline" else {"history": history, "updates": 400, "synaptic_operations": 123_456}
    return Row(
        slug=slug,
        title=f"The title of {slug}",
        summary="",
        family=family,
        values=values,
        metrics={"accuracy": values, "log_loss": tuple(2 * v for v in values)},
        hyperparameters={"tau": 20.0},
        trials=(Trial({"tau": 10.0}, 0.1234), Trial({"tau": 20.0}, None, "ValueError: lost")),
        valid=0.8765,
        valid_metric="accuracy",
        seconds=3.21,
        report={"parameters": 54_321, **learned, **report},
        behind=behind,
    )


def comparison(data: Any, task: Ask, rows: list[Row], predictions: dict[str, Any], **changes: Any) -> Comparison:
    parts = {k: len(v) for k, v in vars(task.split(data)).items()}
    described = {**vars(data.schema), "size": len(data), **parts, "fingerprint": data.fingerprint}
    whole = Comparison(
        task.name, "Ask()", "accuracy", True, tuple(rows), (), (), described, Settings(seeds=len(rows[0].values)),
        {"timecell": "9.8.7"}, 83.0, predictions,
    )  # fmt: skip
    return replace(whole, **changes)


def classified(
    classes: int = 10, channels: int = 40, spikes: bool = True, seeds: int = 3, size: int = 300,
    names: tuple[str, ...] = (),
    slugs: tuple[str, ...] = ("delay-lif", "gru", "adaptive-lif", "lif"),
) -> tuple[Comparison, Sequences, Ask]:  # fmt: skip
    rng = np.random.default_rng(0)
    target = rng.integers(classes, size=size)
    rate = 0.02 + 0.2 * np.sin(np.arange(channels)[:, None] * 0.3 + np.arange(classes)) ** 2
    lengths = rng.integers(60, 100, size=size)
    if spikes:
        samples = [rng.poisson(rate[:, k] * np.sin(np.linspace(0.2, 3, n))[:, None]) for k, n in zip(target, lengths)]
    else:
        samples = [np.cumsum(rng.normal(size=(n, channels)), axis=0) * rate[0, k] for k, n in zip(target, lengths)]
    data = Sequences.of(samples, target, classes=names or tuple(f"class {k}" for k in range(classes)), rate=100.0)
    task = Ask()
    test = task.split(data).test
    skill = dict(zip((*slugs, "random-convolutions", "majority"), (0.93, 0.92, 0.86, 0.8, 0.84, 0.2)))
    rows, predictions = [], {}
    for slug, p in sorted(skill.items(), key=lambda x: -x[1]):
        values = tuple(float(v) for v in np.clip(p + rng.normal(size=seeds) * 0.012, 0, 1))
        gap = Behind(0.93 - p, 0.925 - p, 0.94 - p) if rows else None
        rows.append(row(slug, values, "spiking" if slug in slugs else "baseline", gap))
        guess = np.where(rng.random(len(test)) < p, test.target, rng.integers(classes, size=len(test)))
        predictions[slug] = {"probabilities": np.eye(classes)[guess], "item": np.arange(len(test))}
    return comparison(data, task, rows, predictions), data, task


def forecasted(
    channels: int = 2,
    steps: int = 1200,
    gaps: bool = True,
    dates: bool = True,
    quantiles: bool = True,
    horizon: int = 24,
) -> tuple[Comparison, Series, Ask]:
    rng = np.random.default_rng(0)
    t = np.arange(steps)
    values = (
        100 + 30 * np.sin(t[:, None] * 2 * np.pi / 24 + np.arange(channels)) + rng.normal(size=(steps, channels)) * 5
    )
    if gaps:
        values[200:260] = np.nan
        values[rng.random(values.shape) < 0.02] = np.nan
        values[-40:-25, 0] = np.nan
    time = 1_600_000_000.0 + 3600 * t if dates else None
    data = Series(values, Schema("series", tuple(f"load {c}" for c in range(channels)), rate=1 / 3600, period=24), time)
    task = Ask("forecast", horizon=horizon)
    test = task.split(data).test
    at = test.starts[:, None] + test.history + np.arange(horizon)
    rows, predictions = [], {}
    for n, (slug, noise) in enumerate({"legendre": 0.5, "gru": 0.6, "ridge-lags": 0.7, "seasonal-naive": 1.0}.items()):
        kind = "baseline" if n > 1 else "memory"
        behind = None if n == 0 else Behind(noise - 0.5, noise - 0.65, noise - 0.35)
        rows.append(row(slug, (noise, noise + 0.02), kind, behind))
        smooth = 100 + 30 * np.sin(at[:, :, None] * 2 * np.pi / 24 + np.arange(channels))
        guess = (
            smooth + rng.normal(size=(len(test), horizon, channels)) * 5 * noise * np.linspace(0.5, 2, horizon)[:, None]
        )
        predictions[slug] = {"values": guess, "item": np.arange(len(test))}
        if quantiles:
            spread = np.linspace(4, 12, horizon)[:, None, None] * np.array([-1, 0, 1])
            predictions[slug] |= {"quantiles": guess[..., None] + spread, "levels": np.array([0.1, 0.5, 0.9])}
    return comparison(data, task, rows, predictions, metric="mase", higher_is_better=False), data, task


def texts(html: str) -> str:
    """What a reader sees, in order."""

    class Reader(HTMLParser):
        words: list[str] = []
        hidden = 0
        open_: list[str] = []

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            self.hidden += tag in ("script", "style")
            if tag not in ("meta", "line"):
                self.open_ = [*self.open_, tag]

        def handle_endtag(self, tag: str) -> None:
            self.hidden -= tag in ("script", "style")
            assert self.open_.pop() == tag, f"</{tag}> closes another element"

        def handle_data(self, data: str) -> None:
            self.words = self.words if self.hidden else [*self.words, data]

        def handle_startendtag(self, tag: str, attrs: Any) -> None:
            """An empty element."""

    reader = Reader()
    reader.feed(html)
    assert reader.open_ == [], f"never closed: {reader.open_}"
    return " ".join(" ".join(reader.words).split())


def plots(html: str) -> list[dict[str, Any]]:
    """The figures of a page, each of them valid for plotly once the page's own colours are put in."""
    from plotly.graph_objects import Figure

    found = [json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)</script>', html, re.S)]
    for figure in found:
        Figure(json.loads(re.sub(r'"@(ink|muted|line|paper|accent|second)"', '"#123456"', json.dumps(figure))))
    return found


CASES = {
    "two classes, one channel, one seed": lambda: classified(2, 1, False, 1),
    "ten classes of events": lambda: classified(),
    "thirty classes, 64 channels": lambda: classified(30, 64, False, size=600),
    "thirty classes of events in one channel": lambda: classified(30, 1, size=600),
    "a hundred classes": lambda: classified(100, 2, False, size=1500),
    "a single system": lambda: (lambda c, d, t: (replace(c, rows=c.rows[:1]), d, t))(*classified()),
    "series with gaps and dates": lambda: forecasted(),
    "series of one channel, one step ahead": lambda: forecasted(1, horizon=1, quantiles=False, dates=False),
    "series of 64 channels": lambda: forecasted(64, 800),
}


@pytest.mark.parametrize("case", CASES)
def test_every_shape_of_data_renders(case: str) -> None:
    c, data, task = CASES[case]()
    html = page(c, data, task, "mine.csv", ("The label is the last column.",))
    seen, drawn = texts(html), plots(html)
    assert seen.startswith(2 * f"mine.csv: {task.name} " + f"{c.rows[0].slug} ranks first"), "title, heading, verdict"
    for heading in ("Ranking", "Learning", "The data", "Errors", "Settings, work, all metrics", "Method"):
        assert f" {heading} " in seen
    assert "The label is the last column." in seen and data.fingerprint in seen
    assert len(drawn) > 6 and len(html) < 8_000_000
    assert html.count("plotly.js v") == 1, "embedded once"


def test_the_numbers_are_those_of_the_comparison() -> None:
    c, data, task = classified()
    html = page(c, data, task)
    seen = texts(html)
    for row in c.rows:
        spread = np.std(row.values, ddof=1)
        assert f"{row.slug} " in seen and f"{np.mean(row.values):.3f} ± {spread:.3f}" in seen
        assert f"{2 * np.mean(row.values):.3f} ± {2 * spread:.3f}" in seen, "the other metric"
    for text in (
        "180 training, 60 validation and 60 test samples", describe(data), "0.070 [0.065, 0.080]", "54.3 k", "3.21 s",
        "123 k", "0.876", "tau = 20.0", "at most 400 updates", "seeds 0 to 2", "up to 4 settings", "1 min 23 s",
        "timecell 9.8.7", "ValueError: lost", "0.123",
    ):  # fmt: skip
        assert text in seen, text
    dots = [
        x
        for trace in plots(html)[0]["data"]
        if trace["mode"] == "markers" and trace.get("customdata")
        for x in trace["x"]
    ]
    assert sorted(dots) == sorted(v for row in c.rows for v in row.values)


def test_the_verdict_names_ties_and_baselines() -> None:
    c, data, task = classified()
    tie = replace(c.rows[1], behind=Behind(0.01, -0.01, 0.03))
    seen = texts(page(replace(c, rows=(c.rows[0], tie, *c.rows[2:])), data, task))
    assert "Not distinguishable from it: gru. The best baseline is random-convolutions with" in seen
    assert "≈ 0.010 [-0.010, 0.030]" in seen
    assert "All others are worse by more than chance explains." in texts(page(c, data, task))
    first = replace(c, rows=(c.rows[-1], *c.rows[:-1]))
    assert "It is a baseline; nothing beat it." in texts(page(first, data, task))


def test_a_metric_that_some_lack_is_left_open() -> None:
    c, data, task = forecasted()
    lacking = replace(c.rows[0], metrics={"accuracy": c.rows[0].values})
    assert f"{lacking.slug} 0.510 ± 0.014 –" in texts(page(replace(c, rows=(lacking, *c.rows[1:])), data, task))


def test_confusions_are_counted_from_the_kept_predictions() -> None:
    c, data, task = classified(3, 2)
    test = task.split(data).test
    wrong = np.where(test.target == 0, 2, test.target)
    c.predictions[c.rows[0].slug]["probabilities"][:] = np.eye(3)[wrong]
    html = page(c, data, task)
    zeros = int((test.target == 0).sum())
    assert f"“class 0” taken for “class 2” ({zeros} of {zeros})." in texts(html)
    matrix = next(t for p in plots(html) for t in p["data"] if "predicted" in t.get("hovertemplate", ""))
    assert matrix["customdata"][0] == [0, 0, zeros]


def test_error_by_horizon_leaves_gaps_out() -> None:
    c, data, task = forecasted(1)
    test = task.split(data).test
    at = test.starts[:, None] + test.history + np.arange(24)
    truth = data.values[at]
    off = np.where(np.isnan(truth), 0.0, truth) + np.arange(1, 25)[:, None]
    c.predictions["legendre"]["values"] = off
    drawn = next(p for p in plots(page(c, data, task)) if p["layout"]["yaxis"]["title"]["text"] == "MASE")
    line = next(t for t in drawn["data"] if t["name"] == "legendre")
    assert line["x"] == list(range(1, 25))
    np.testing.assert_allclose(np.array(line["y"]) / line["y"][0], np.arange(1, 25), rtol=1e-6)


def test_predictions_of_different_items_are_matched() -> None:
    c, data, task = forecasted()
    for slug, every in (("legendre", 3), ("ridge-lags", 2)):
        p = c.predictions[slug]
        p |= {k: v[::every] for k, v in p.items() if k != "levels"}
    assert "76 of 226 samples, evenly spaced" in texts(page(c, data, task))


def test_hostile_names_stay_text() -> None:
    evil = (
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(2)>',
        "</script><b>&amp;",
        '<a href="http://x.y">z</a>',
    )
    c, data, task = classified(4, 2, False, names=evil, slugs=("<i>slug</i>", "b", "c", "d"))
    data = replace(data, schema=replace(data.schema, channels=('<svg onload="alert(3)">', "`${x}`")))
    c = replace(
        c, rejected=(Rejected("<u>r</u>", evil[0], evil[1]),), failed=(Failed("f", "t", "trial 1", evil[2], ""),)
    )
    html = page(c, data, task, evil[0] + ".csv", (evil[1],))
    seen = texts(html)
    for text in (*evil[:2], "<i>slug</i>", "<u>r</u>"):
        assert text in seen, "it is shown as it is"
    own = html[: html.index("plotly.js v")]
    for tag in ("<script>alert", "<img", "<svg onload", "<i>", "<u>", "<a ", "<b>"):
        assert tag not in own
    for figure in plots(html):
        for text in re.findall(r'"(?:text|ticktext|name|y)": *(".*?"|\[.*?\])', json.dumps(figure)):
            assert "<" not in text, "plotly would take it for markup"


def test_the_page_asks_nobody_for_anything() -> None:
    html = page(*classified())
    own = re.sub(r"<script>.*?</script>", "", html, flags=re.S)
    assert not re.findall(r"(?:src|href)\s*=|url\(|@import|https?:", own)
    assert "default-src 'none'" in own


def test_other_data_are_refused() -> None:
    c, data, task = classified()
    other = data.select(np.arange(len(data) - 1))
    with pytest.raises(InputError, match=f"data: found fingerprint {other.fingerprint}, expected {data.fingerprint}"):
        page(c, other, task)


def test_the_file_is_written_whole(tmp_path: Path) -> None:
    c, data, task = classified(2, 1, False)
    write_html(tmp_path / "new" / "report.html", c, data, task)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["report.html"]
    assert (tmp_path / "new" / "report.html").read_text() == page(c, data, task)


def test_the_leaderboard_fits_a_terminal() -> None:
    c, _, _ = classified(slugs=("delay-lif", "[bold]odd[/]", "adaptive-lif-with-a-very-long-name", "lif"))
    c = replace(
        c,
        rejected=(Rejected("flow", "", "it forecasts [x]"), Rejected("tide", "", "it forecasts [x]")),
        failed=(Failed("bad", "", "seed 1", "ValueError: no", ""),),
    )
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        print_comparison(c, console)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].strip() == "accuracy on 60 test samples, higher is better"
    ranks = [line for line in lines if re.match(r"\d ", line)]
    assert [line.split()[0] for line in ranks] == ["1", "2", "3", "4", "5", "6"]
    assert ranks[0].split()[1:5] == ["delay-lif", f"{c.rows[0].metric:.3f}", "±", f"{c.rows[0].spread:.3f}"]
    assert "[bold]odd[/]" in ranks[1] and sum("(baseline)" in line for line in ranks) == 2
    assert any("flow, tide: it forecasts [x]" in line for line in lines)
    assert any("bad, seed 1: ValueError: no" in line for line in lines)


# --- data and answers of other kinds ----------------------------------------------------------------------------------


def asked(name: str) -> tuple[Any, Any]:
    """A task and small data for it."""
    from timecell.data.containers import Schema
    from timecell.data.synthetic.edge_stream import edge_stream
    from timecell.data.synthetic.point_processes import hawkes
    from timecell.tasks import every

    t, rng = np.arange(400), np.random.default_rng(0)
    values = np.stack([np.sin(t / 4), np.cos(t / 4)], 1) + 0.1 * rng.normal(size=(400, 2))
    series = Series(values, Schema("series", ("a", "b"), period=25))
    data = {
        "next-event": lambda: hawkes(sequences=20, end=30.0).data,
        "link": lambda: edge_stream(nodes=30, edges=600).data,
        "co-smooth": lambda: Series(
            rng.poisson(0.3, (400, 2)).astype(float), Schema("series", ("u", "v"), spikes=True)
        ),
    }.get(name, lambda: series)
    return every()[name](**({"targets": ("a",)} if name == "decode" else {})), data()


@pytest.mark.parametrize("name", ["next-event", "link", "co-smooth", "decode", "impute", "detect"])
def test_every_kind_of_data_and_answer_has_its_figures(name, tmp_path):
    from timecell.compare import Settings, compare

    task, data = asked(name)
    c = compare(data, task, [], Settings(seeds=1, trials=1, updates=1, jobs=1, progress=False))
    text = page(c, data, task, source="file.csv")
    assert "The data" in text and "Answers" in text and text.count('class="plot"') >= 3
    assert "NaN" not in text.split("plotly")[0]
