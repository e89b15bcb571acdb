"""The report: every number is the comparison's, every text is escaped, every shape of data renders."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from timecell.compare import Behind, Comparison, Failed, Rejected, Row, Settings, Trial
from timecell.data.containers import Schema, Sequences, Series, Windows
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
        starts = [np.arange(int(a), int(b)) for a, b in zip(ends, ends[1:])]
        return Splits(*(Windows(data, self.history, self.horizon, s) for s in starts))


def row(slug: str, values: tuple[float, ...], family: str = "spiking", behind: Behind | None = None, **report: Any) -> Row:
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
        slug, f"The title of {slug}", "", family, values, {"accuracy": values, "log_loss": tuple(2 * v for v in values)},
        {"tau": 20.0}, (Trial({"tau": 10.0}, 0.1234), Trial({"tau": 20.0}, None, "ValueError: lost")), 0.8765, 3.21,
        {"parameters": 54_321, **learned, **report}, behind,
    )  # fmt: skip


def comparison(data: Any, task: Ask, rows: list[Row], predictions: dict[str, Any], **changes: Any) -> Comparison:
    parts = {k: len(v) for k, v in vars(task.split(data)).items()}
    described = {**vars(data.schema), "size": len(data), **parts, "fingerprint": data.fingerprint}
    whole = Comparison(
        task.name, "Ask()", "accuracy", True, tuple(rows), (), (), described, Settings(seeds=len(rows[0].values)),
        {"timecell": "9.8.7"}, 83.0, predictions,
    )  # fmt: skip
    return replace(whole, **changes)


def classified(
    classes: int = 10, channels: int = 40, spikes: bool = True, seeds: int = 3, names: tuple[str, ...] = (), size: int = 300,
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
        gap = Behind(0.93 - p, 0.92 - p, 0.94 - p) if rows else None
        rows.append(row(slug, values, "spiking" if slug in slugs else "baseline", gap))
        guess = np.where(rng.random(len(test)) < p, test.target, rng.integers(classes, size=len(test)))
        predictions[slug] = {"probabilities": np.eye(classes)[guess], "item": np.arange(len(test))}
    return comparison(data, task, rows, predictions), data, task


def forecasted(
    channels: int = 2, steps: int = 1200, gaps: bool = True, dates: bool = True, quantiles: bool = True, horizon: int = 24
) -> tuple[Comparison, Series, Ask]:
    rng = np.random.default_rng(0)
    t = np.arange(steps)
    values = 100 + 30 * np.sin(t[:, None] * 2 * np.pi / 24 + np.arange(channels)) + rng.normal(size=(steps, channels)) * 5
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
        guess = smooth + rng.normal(size=(len(test), horizon, channels)) * 5 * noise * np.linspace(0.5, 2, horizon)[:, None]
        predictions[slug] = {"values": guess, "item": np.arange(len(test))}
        if quantiles:
            spread = np.linspace(4, 12, horizon)[:, None, None] * np.array([-1, 0, 1])
            predictions[slug] |= {"quantiles": guess[..., None] + spread, "levels": np.array([0.1, 0.5, 0.9])}
    return comparison(data, task, rows, predictions, metric="mase", higher_is_better=False), data, task
