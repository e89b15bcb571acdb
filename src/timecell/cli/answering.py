"""What ``timecell predict`` asks of a model, and how its answer reads as rows, task by task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from timecell.errors import DataError, InputError

if TYPE_CHECKING:
    from timecell.cli.asked import Asked
    from timecell.data import Schema, Sequences, Series, Windows
    from timecell.data.event_sequences import EventSequences
    from timecell.data.stretches import Stretches
    from timecell.data.temporal_edges import TemporalEdges
    from timecell.system import Fitted

Rows = tuple[list[str], list[list[Any]]]


def answered(fitted: Fitted, data: Any, asked: Asked, file: Path) -> Rows:
    """The model's answer for new data, a name for each column and its rows.

    Raises:
        InputError: this task has no answer that is a table.
        DataError: the data are not as the model needs them.
    """
    name = asked.task.name
    if name not in ANSWERS:
        raise InputError(
            "predict", found=f"a model for the task {name}", expected=f"one for {', '.join(ANSWERS)}",
            remedy="call its predict(...) in Python",
        )  # fmt: skip
    return ANSWERS[name](fitted, data, asked, file)


def classes(fitted: Fitted, data: Sequences, asked: Asked, file: Path) -> Rows:
    """One row a sequence: its number, the most probable class, all probabilities."""
    answer = fitted.predict(data)
    head = ["sequence", "class", *[f"p({name})" for name in answer.classes]]
    best = answer.predicted
    return head, [[n, answer.classes[best[n]], *p] for n, p in enumerate(answer.probabilities.tolist())]


def forecast(fitted: Fitted, data: Series, asked: Asked, file: Path) -> Rows:
    """One row a step ahead: when, and the value of each channel with its quantiles, if there are any."""
    task = asked.task
    answer = fitted.predict(ahead(data, asked.schema.lengths[0], task.horizon, len(task.targets)))
    head = ["step"]
    columns: list[list[Any]] = [list(range(1, answer.values.shape[1] + 1))]
    if data.time is not None and data.schema.rate:
        head.append("time")
        columns.append([moment(data.time[-1] + step / data.schema.rate) for step in columns[0]])
    for c, name in enumerate(data.schema.channels[: answer.values.shape[2]]):
        head.append(name)
        columns.append(answer.values[0, :, c].tolist())
        for q, level in enumerate(answer.levels):
            head.append(f"{name} {level:.0%}")
            columns.append(answer.quantiles[0, :, c, q].tolist())
    return head, [list(row) for row in zip(*columns)]


def short_term(fitted: Fitted, data: Sequences, asked: Asked, file: Path) -> Rows:
    """One row a step ahead of each sequence: its number, the step, and the value of each channel."""
    from timecell.data.short_series import beyond

    task, history = asked.task, asked.schema.lengths[0]
    if int(data.lengths.min()) < history:
        raise too_short(f"{file}, sequence {int(data.lengths.argmin())}", int(data.lengths.min()), history)
    windows = beyond(data, history, task.horizon, tuple(range(len(task.targets))) or None)
    values = windows.restored(fitted.predict(windows).values)
    head = ["sequence", "step", *data.schema.channels[: values.shape[2]]]
    return head, [[n, step + 1, *row] for n, each in enumerate(values.tolist()) for step, row in enumerate(each)]


def decoded(fitted: Fitted, data: Series, asked: Asked, file: Path) -> Rows:
    """One row a step: the targets."""
    targets = asked.task.targets
    refuse_old(fitted, asked)
    return by_step(data, targets, fitted.predict(every_step(data, asked.schema, targets)).values)


def rates(fitted: Fitted, data: Series, asked: Asked, file: Path) -> Rows:
    """One row a bin: the mean count of each unit, of the held-out ones if some were held out."""
    hidden = asked.task.held_out
    units = hidden or asked.schema.channels
    refuse_old(fitted, asked)
    bins = every_step(data, asked.schema, units, lag=0 if hidden else 1)
    return by_step(data, units, fitted.predict(replace(bins, base=asked.base or ())).values)


def alarms(fitted: Fitted, data: Series, asked: Asked, file: Path) -> Rows:
    """One row a step: how anomalous it is, and whether that is an alarm."""
    answer = fitted.predict(every_step(data, asked.schema, asked.schema.channels))
    head, rows = steps(data)
    alarm = answer.alarms.tolist() if answer.threshold is not None else [""] * len(rows)
    return [*head, "score", "alarm"], [[*row, s, a] for row, s, a in zip(rows, answer.scores.tolist(), alarm)]


def filled(fitted: Fitted, data: Series, asked: Asked, file: Path) -> Rows:
    """One row a step: all channels, what is missing in the file filled in."""
    from timecell.data.masked import MaskedWindows

    length, task = asked.schema.lengths[0], asked.task
    if len(data) < length:
        raise too_short(file, len(data), length)
    starts = np.unique(np.append(np.arange(0, len(data) - length + 1, length), len(data) - length))
    windows = MaskedWindows(data, length, starts, task.share, task.gap, np.zeros(data.values.shape, bool))
    values, guess = data.values.copy(), fitted.predict(windows).values
    for start, window in zip(starts, guess):
        part = values[start : start + length]
        part[np.isnan(part)] = window[np.isnan(part)]
    head, rows = steps(data)
    return [*head, *data.schema.channels], [[*row, *v] for row, v in zip(rows, values.tolist())]


def next_events(fitted: Fitted, data: EventSequences, asked: Asked, file: Path) -> Rows:
    """One row a sequence: its events, and until when the next one is as likely to come as not, after the last one."""
    answer = fitted.predict(data)
    last = ~answer.happened
    marks = answer.log_mark[last].argmax(1)
    head = ["sequence", "events", "half of the time within", "likely mark", "its probability"]
    rows = zip(
        data.counts.tolist(),
        answer.median[last].tolist(),
        marks.tolist(),
        np.exp(answer.log_mark[last].max(1)).tolist(),
    )
    return head, [[n, count, wait, answer.classes[mark], p] for n, (count, wait, mark, p) in enumerate(rows)]


def links(fitted: Fitted, data: TemporalEdges, asked: Asked, file: Path) -> Rows:
    """One row an edge, in order of time: its score, and the share of its rivals that score lower, ties half."""
    from timecell.tasks.link import ranked

    scores = fitted.predict(data).scores  # type: ignore[arg-type]
    beaten = ranked(scores[:, 0], scores[:, 1:], np.ones(len(scores), bool)).wins.tolist()
    own = slice(data.begin, None)
    ends = (data.nodes[end[own]].tolist() for end in (data.source, data.target))
    rows = zip(*ends, map(moment, data.time[own].tolist()), scores[:, 0].tolist(), beaten)
    head = ["source", "target", "time", "score", "rivals beaten"]
    return head, [[*row, "" if np.isnan(share) else share] for *row, share in rows]


def communities(fitted: Fitted, data: Series, asked: Asked, file: Path) -> Rows:
    """One row a community: its members, and the share of the time in which it is more than half as active as ever."""
    answer = fitted.predict(data)  # type: ignore[arg-type]
    rows = []
    for n, (members, activity) in enumerate(zip(answer.members, answer.activity.T)):
        names = [name for name, inside in zip(data.schema.channels, members) if inside]
        rows.append([n, len(names), float(np.mean(activity > activity.max() / 2)), " ".join(names)])
    return ["community", "size", "active", "members"], rows


ANSWERS: dict[str, Callable[..., Rows]] = {
    "classify": classes, "forecast": forecast, "short-term": short_term, "decode": decoded, "co-smooth": rates, "detect": alarms,
    "impute": filled, "next-event": next_events, "link": links, "structure": communities,
}  # fmt: skip


# --- what is asked ----------------------------------------------------------------------------------------------------


def ahead(series: Series, history: int, horizon: int, targets: int) -> Windows:
    """The one window whose targets lie beyond the end of a series.

    Raises:
        DataError: the series is shorter than the history.

    Example:
        >>> from timecell.data import Schema, Series
        >>> series = Series(np.arange(5.0)[:, None], Schema("series", ("x",)))
        >>> batch = ahead(series, history=3, horizon=2, targets=0).batch(np.array([0]))
        >>> batch.x[0, :, 0].tolist(), batch.target[0, :, 0].tolist()
        ([2.0, 3.0, 4.0], [nan, nan])
    """
    from timecell.data import Windows

    if len(series) < history:
        raise too_short("series", len(series), history)
    unknown = np.full((horizon, series.values.shape[1]), np.nan)
    longer = replace(series, values=np.concatenate([series.values, unknown]), time=None)
    first = tuple(range(targets)) or None  # `Forecast.split` puts the channels to forecast in front
    return Windows(longer, history, horizon, np.array([len(series) - history]), first)


def every_step(series: Series, schema: Schema, targets: tuple[str, ...], lag: int = 0) -> Stretches:
    """Every step of a series as a target; target channels that the file lacks are unknown."""
    from timecell.data.stretches import Stretches

    missing = [name for name in targets if name not in series.schema.channels]
    channels = (*series.schema.channels, *missing)
    values = np.concatenate([series.values, np.full((len(series), len(missing)), np.nan)], axis=1)
    whole = replace(series, values=values, schema=replace(series.schema, channels=channels))
    length = max(1, schema.lengths[0] // 2)
    numbers = tuple(channels.index(name) for name in schema.channels), tuple(channels.index(name) for name in targets)
    return Stretches(
        whole, *numbers, np.arange(0, len(series), length), length, len(series), schema.lengths[0] - length, lag
    )


def refuse_old(fitted: Fitted, asked: Asked) -> None:
    """Refuse a net whose folder does not tell which channel its scales are of, and what its rates are relative to.

    Raises:
        InputError: it is one.
    """
    if asked.base is None and hasattr(fitted, "network"):
        raise InputError(
            "folder", found=f"a net for the task {asked.task.name} from an earlier version",
            expected="one that was kept with the order of its channels and its units' mean rates",
            remedy="train it again",
        )  # fmt: skip


def too_short(place: object, found: int, needed: int) -> DataError:
    """What to say of a file that ends too early."""
    return DataError(
        str(place), found=f"{found} steps", expected=f"at least {needed}, which the model looks back on",
        remedy="bring a longer file",
    )  # fmt: skip


# --- rows -------------------------------------------------------------------------------------------------------------


def steps(series: Series) -> Rows:
    """Number and time of each step."""
    if series.time is None:
        return ["step"], [[n] for n in range(len(series))]
    return ["step", "time"], [[n, moment(t)] for n, t in enumerate(series.time)]


def by_step(series: Series, names: tuple[str, ...], values: Float[np.ndarray, "N L K"]) -> Rows:
    """The answers of stretches, end to end, beside number and time of each step."""
    head, rows = steps(series)
    in_line = values.reshape(-1, values.shape[2])[: len(series)].tolist()
    return [*head, *names], [[*row, *v] for row, v in zip(rows, in_line)]


def moment(seconds: float) -> str | float:
    """Seconds since 1970 as a date in UTC; seconds since some other start as they are."""
    if seconds < 1e8:
        return float(seconds)
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
