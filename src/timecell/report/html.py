"""The report as one HTML file: it opens offline, asks nobody for anything, and holds every number of the comparison.

`page` puts it together from top to bottom: what was asked and what came out, the ranking, how the systems learned, the
data, the errors, what it cost, how it was done. Plotly's script is embedded once; `page.css` and `page.js` are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from timecell.compare import Comparison, Row
from timecell.data.containers import AnyData, Data, Sequences, Series, Windows
from timecell.data.event_sequences import EventSequences
from timecell.data.masked import MaskedWindows
from timecell.data.readers import describe
from timecell.data.stretches import Stretches
from timecell.data.temporal_edges import TemporalEdges
from timecell.errors import InputError
from timecell.files import write_whole
from timecell.report import answer_figures, data_figures, error_figures, event_figures, figures, look, words
from timecell.report.elements import captioned, facts, grid, items, legend, paragraph, plot, section, table, titled
from timecell.system import Splits, Task

# No network even by mistake: the browser refuses whatever is not in the file.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def write_html(
    path: Path, c: Comparison, data: AnyData, task: Task, source: str = "", notes: Sequence[str] = ()
) -> None:
    """Write the report of a comparison, whole or not at all.

    Args:
        path: the file, e.g. report.html.
        c: the comparison.
        data: what it was made with.
        task: what was asked.
        source: what the data are called, e.g. the file's name.
        notes: how the data were read, a sentence each.

    Raises:
        InputError: the data are not those of the comparison.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page(c, data, task, source, notes).encode())


def page(c: Comparison, data: AnyData, task: Task, source: str = "", notes: Sequence[str] = ()) -> str:
    """The report's text; arguments and errors as in `write_html`."""
    if data.fingerprint != c.data["fingerprint"]:
        raise InputError(
            "data", found=f"fingerprint {data.fingerprint}", expected=f"{c.data['fingerprint']} as in the comparison",
            remedy="pass the data that were compared",
        )  # fmt: skip
    from plotly.offline import get_plotlyjs

    splits = task.split(data, seed=c.settings.first_seed)
    title = f"{source or 'Comparison'}: {c.task}"
    own = files("timecell.report")
    return "\n".join([
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{(own / 'page.css').read_text()}</style></head><body>",
        header(c, data, title, notes),
        ranking(c),
        learning(c),
        the_data(data, splits),
        errors(c, splits),
        costs(c),
        method(c),
        f"<script>{get_plotlyjs()}</script><script>{(own / 'page.js').read_text()}</script></body></html>",
    ])  # fmt: skip


def header(c: Comparison, data: AnyData, title: str, notes: Sequence[str]) -> str:
    """What was asked, what came out, what the data are."""
    parts = f"{c.data['train']} training, {c.data['valid']} validation and {c.data['test']} test samples"
    known = {"data": describe(data), "parts": parts, "asked": c.question}
    lead = f'<h1>{escape(title)}</h1><p class="lead">{escape(words.verdict(c))}</p>'
    no_script = "<noscript><p>The figures need JavaScript; all results are in the tables.</p></noscript>"
    return f'<header>{lead}{facts(known)}<div class="muted">{items(notes)}</div>{no_script}</header>'


def ranking(c: Comparison) -> str:
    """The ranking as a figure and as a table."""
    caption = (
        f"Test scores ({words.direction(c)}): a dot a seed, mean (tick), standard deviation (bar). Grey: baselines."
    )
    if any(words.is_tie(row) for row in c.rows):
        caption += " ≈: not distinguishable from the best."
    head = ["", "system", words.metric(c.metric), "behind the best [95 %]", "parameters", "time of a fit"]
    rows = [
        [str(n), named(row), words.score(row.values), words.behind(row), words.count(row.report.get("parameters")),
         words.duration(row.seconds)]
        for n, row in enumerate(c.rows, start=1)
    ]  # fmt: skip
    return section("Ranking", captioned(caption, plot(figures.ranking(c))), table(head, rows, "rtnnnn"))


def learning(c: Comparison) -> str:
    """Learning curves of all that is trained by updates; nothing if nobody is."""
    trained = [row for row in c.rows if figures.history(row)]
    if not trained:
        return ""
    score = f"validation {words.metric(trained[0].valid_metric)}"
    panels = {"training loss": "train_loss", "validation loss": "valid_loss", score: "valid_score"}
    caption = f"Learning curves of the first refit (seed {c.settings.first_seed}) of each system trained by updates."
    strokes = {row.slug: look.strokes(c)[row.slug] for row in trained}
    drawn = captioned(caption, legend(strokes), grid((name, figures.curves(c, key)) for name, key in panels.items()))
    capped = [row.slug for row in trained if row.report.get("hit_time_cap")]
    ended = f"The cap on wall time ended the fit of {words.listed(capped)} before the last update." if capped else ""
    return section("Learning", drawn, paragraph(ended) if ended else "")


def the_data(data: AnyData, splits: Splits) -> str:
    """What the data look like, by their kind."""
    train = splits.train
    if isinstance(data, Series):
        return section("The data", *of_series(data, splits))
    if isinstance(data, Sequences):
        return section("The data", *of_sequences(train if isinstance(train, Sequences) else data, splits))
    if isinstance(train, EventSequences):
        return section("The data", *of_events(splits))
    assert isinstance(train, TemporalEdges)
    return section("The data", *of_edges(splits))


def of_series(series: Series, splits: Splits) -> list[str]:
    """The series with the borders of its parts."""
    if isinstance(splits.test, Windows):
        series = splits.test.series  # the channels to forecast first
    shown, channels = data_figures.whole_series(series, data_figures.borders_of(splits)), series.values.shape[1]
    caption = "The series; dotted: the borders of training, validation and test."
    if channels > len(shown):
        caption += f" The first {len(shown)} of {channels} channels."
    return [captioned(caption, grid(shown, "stack"))]


def of_events(splits: Splits) -> list[str]:
    """The first sequences, and how often each mark is."""
    train = splits.train
    assert isinstance(train, EventSequences)
    strokes = event_figures.mark_strokes(train)
    caption = (
        f"The first training sequences: a stroke an event, in the colour of its mark (up to {event_figures.MOST} each)."
    )
    parts = [captioned(caption, legend(strokes), plot(event_figures.raster(train)))]
    if len(train.schema.classes or ()) > 1:
        parts.append(captioned("Events of each mark in the three parts.", plot(event_figures.mark_counts(splits))))
    return parts


def of_edges(splits: Splits) -> list[str]:
    """When contacts happen, and how many a node has."""
    assert isinstance(splits.test, TemporalEdges)
    return [
        captioned("Edges over time; dotted: the borders of the parts.", plot(event_figures.contacts(splits))),
        captioned("Nodes by their number of contacts.", plot(event_figures.degrees(splits.test))),
    ]


def of_sequences(train: Sequences, splits: Splits) -> list[str]:
    """Samples and class counts."""
    shown, classes = data_figures.samples(train), train.schema.classes or ()
    strokes = data_figures.channel_strokes(train.schema)
    kind = "Events" if train.schema.spikes else "Values" if strokes else "Values (blue above zero, orange below)"
    of_classes = f" of {len(shown)} of the {len(classes)} classes" if len(classes) > len(shown) else " of each class"
    caption = f"{kind} in the first training sample{of_classes if classes else ''}."
    parts = [captioned(caption, legend(strokes), grid(shown))]
    if classes:
        most = f" The {data_figures.BARS} most frequent classes." if len(classes) > data_figures.BARS else ""
        parts.append(
            captioned(f"Samples of each class in the three parts.{most}", plot(data_figures.class_counts(splits)))
        )
    return parts


def errors(c: Comparison, splits: Splits) -> str:
    """Answers beside the truth, by their kind; nothing for a prediction of another kind."""
    test, kept = splits.test, c.predictions[c.rows[0].slug]
    if isinstance(test, Sequences) and "probabilities" in kept:
        return section("Errors", confusions(c, test))
    if isinstance(test, Windows) and "values" in kept:
        return section("Errors", forecasts(c, test))
    drawn = answers(c, test, kept)
    return section("Answers", drawn) if drawn else ""


def answers(c: Comparison, test: Data, kept: Mapping[str, Any]) -> str:
    """One figure of what was answered."""
    beside = f"the best system and the best baseline ({which(c, test)})" if "item" in kept else ""
    if isinstance(test, Stretches) and "values" in kept:
        caption = (
            f"The target that varies most, over the first {answer_figures.TRACED} steps of the test part: {beside}."
        )
        return captioned(caption, legend(error_figures.forecast_strokes(c)), plot(answer_figures.traces(c, test)))
    if isinstance(test, Stretches) and "scores" in kept:
        caption = "How anomalous each step of the test part is to the best system and the best baseline; bands: labels."
        return captioned(caption, grid(answer_figures.alarms(c, test), "stack"))
    if isinstance(test, MaskedWindows):
        return captioned(f"A test window with many hidden values: {beside}.", plot(answer_figures.imputed(c, test)))
    if "pit" in kept:
        caption = "Are predicted times right? How often the next event came before each predicted quantile."
        return captioned(caption, legend(look.strokes(c)), plot(answer_figures.calibration(c)))
    if isinstance(test, TemporalEdges):
        caption = "Average precision against random, historical and recent candidates that did not happen."
        return captioned(caption, plot(answer_figures.by_candidates(c)))
    return ""


def confusions(c: Comparison, test: Sequences) -> str:
    """Confusion matrices, and the most frequent confusions in words."""
    classes = test.schema.classes or ()
    counts = {slug: error_figures.confusion(c.predictions[slug], test) for slug in error_figures.shown(c)}
    caption = f"Confusions on the test data ({which(c, test)}); colour: share of the true class."
    drawn = grid(((slug, error_figures.confusion_figure(n, classes)) for slug, n in counts.items()), "grid wide")
    best, most = next((slug, error_figures.confused(n, classes)) for slug, n in counts.items())
    said = paragraph(f"Most frequent errors of {best}: {'; '.join(most)}.") if most else ""
    return captioned(caption, drawn) + said


def forecasts(c: Comparison, test: Windows) -> str:
    """Three windows with truth and forecasts, and the error by horizon."""
    channel = test.schema.channels[test.target_channels[0]]
    examples = (
        f"Forecasts of {channel} in three test windows, by the error of {c.rows[0].slug} ({which(c, test)}); "
        f"dotted: the time of the forecast. {error_figures.band(c)}"
    )
    ahead = f"Error by how far ahead a forecast looks ({which(c, test)})."
    return captioned(
        examples, legend(error_figures.forecast_strokes(c)), grid(error_figures.forecasts(c, test))
    ) + captioned(ahead, legend(look.strokes(c)), plot(error_figures.horizon_errors(c, test)))


def which(c: Comparison, test: Data) -> str:
    """Which predictions a figure of errors is drawn from."""
    kept, seed = len(c.predictions[c.rows[0].slug]["item"]), f"seed {c.settings.first_seed}"
    return seed if kept == len(test) else f"{seed}, {kept} of {len(test)} samples, evenly spaced"


def costs(c: Comparison) -> str:
    """Settings, size and work of each system, all its metrics, all its trials."""
    head = ["system", "chosen setting", "validation", "updates", "synaptic operations a sample"]
    rows = [
        [row.slug, words.settings(row.hyperparameters), words.number(row.valid), words.count(row.report.get("updates")),
         words.count(row.report.get(words.OPERATIONS))]
        for row in c.rows
    ]  # fmt: skip
    metrics = list(dict.fromkeys(name for row in c.rows for name in row.metrics))
    scores = [[row.slug, *(words.score(row.metrics.get(name, ())) for name in metrics)] for row in c.rows]
    trials = [
        [row.slug, words.settings(t.hyperparameters), t.error or words.number(t.score)]
        for row in c.rows
        for t in row.trials
    ]
    tried = table(["system", "setting", f"validation {words.metric(c.rows[0].valid_metric)}"], trials, "ttt")
    return section(
        "Settings, work, all metrics",
        table(head, rows, "ttnnn"),
        table(["system", *map(words.metric, metrics)], scores, "t" + "n" * len(metrics)),
        f"<details><summary>All {len(trials)} trials</summary>{tried}</details>",
    )


def method(c: Comparison) -> str:
    """How it was done, who could not take part, and what it stands on."""
    parts = [items(words.protocol(c), "ol")]
    if c.rejected:
        rows = [[titled(r.slug, r.title), r.reason] for r in c.rejected]
        parts.append(f"<h3>Not for these data</h3>{table(['system', 'reason'], rows, 'tt')}")
    if c.failed:
        rows = [[titled(f.slug, f.title), f"{f.stage}: {f.error}"] for f in c.failed]
        parts.append(f"<h3>Failed</h3>{table(['system', 'error'], rows, 'tt')}")
    made = ", ".join(f"{name} {version}" for name, version in c.versions.items())
    stands = f"Data fingerprint {c.data['fingerprint']}. Made with {made}."
    return section("Method", *parts, f'<div class="muted">{paragraph(stands)}</div>')


def named(row: Row) -> str:
    """A row's name and title."""
    return titled(row.slug, row.title, row.is_baseline)
