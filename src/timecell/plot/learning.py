"""How a net learns: its curves, and the blame that travels back through time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from timecell.errors import InputError
from timecell.lens import Diagnosis
from timecell.plot.look import COLOURS, DEPTH, LINE, MUTED, dress, legend, on, shades

if TYPE_CHECKING:
    from matplotlib.axes import Axes

History = Sequence[Mapping[str, Any]]


def learning_curves(runs: Any, *, show: Literal["loss", "score"] = "loss", ax: Axes | None = None) -> Axes:
    """Loss or score over updates, validation as a line and training dashed; a dot marks the weights that were kept.

    Args:
        runs: what `timecell.fit` returned, its history, or a dict of either by name.
        show: "loss" (training and validation) or "score" (the validation metric).
        ax: where to draw; None makes a figure.

    Raises:
        InputError: a history holds no such numbers.

    Example:
        >>> history = [{"update": 10 * n, "train_loss": 1 / n, "valid_loss": 2 / n} for n in (1, 2, 3)]
        >>> ax = learning_curves(history)
        >>> ax.get_xlabel(), [line.get_label() for line in ax.get_lines()]
        ('updates', ['validation', 'training'])
    """
    named = runs if isinstance(runs, Mapping) else {"": runs}
    histories = {name: _history(name, run) for name, run in named.items()}
    if not histories:
        raise InputError("runs", found="no run", expected="at least one", remedy="pass what timecell.fit returned")
    solid, dashed = ("valid_score", None) if show == "score" else ("valid_loss", "train_loss")
    ax, several = on(ax), len(histories) > 1
    for number, (name, history) in enumerate(histories.items()):
        colour = COLOURS[number % len(COLOURS)]
        drawn = _line(ax, history, solid, color=colour, linewidth=1.6, label=name or "validation")
        if dashed and _line(ax, history, dashed, color=colour if several else MUTED, linewidth=1.0, alpha=0.8,
                            linestyle=(0, (3, 2)), label=None if several else "training"):  # fmt: skip
            drawn = True
        if not drawn:
            raise InputError(
                f"runs[{name!r}]" if name else "runs", found=f"rows with {', '.join(sorted({k for r in history for k in r}))}",
                expected=f"some with {solid}", remedy="train with validation data: fit(..., valid=...)",
            )  # fmt: skip
        best = getattr(named[name], "best", None)
        if best is not None and best.get(solid) is not None:
            ax.plot(best["update"], best[solid], "o", markersize=5, color=colour, markeredgecolor="white")
        if not several:
            for border in _borders(history):
                ax.axvline(border, color=LINE, linewidth=0.8, zorder=0)
    metrics = {str(row["metric"]) for history in histories.values() for row in history if "metric" in row}
    legend(ax)
    if several and dashed:
        ax.text(1, 1.02, "dashed: training", transform=ax.transAxes, ha="right", va="bottom", fontsize=8, color=MUTED)
    ax.margins(x=0.02)
    return dress(ax, "updates", " or ".join(sorted(metrics)) or "score" if show == "score" else "loss")


def gradients(diagnosis: Diagnosis, *, ax: Axes | None = None) -> Axes:
    """How blame travels back in time: the gradient that arrives at each layer, by steps before the end.

    Args:
        diagnosis: of `timecell.lens.diagnose`, made with a loss.
        ax: where to draw; None makes a figure.

    Raises:
        InputError: the diagnosis was made without a loss.

    Example:
        >>> import torch
        >>> from timecell import Batch, LeakyIntegrator
        >>> from timecell.lens import diagnose
        >>> leak = LeakyIntegrator(2, tau=5.0)
        >>> found = diagnose(leak, Batch(torch.rand(3, 40, 2)), lambda y, *_: y[:, -1].sum())
        >>> gradients(found).get_xlabel()
        'steps before the end'
    """
    courses = {f"{h.path} {h.kind}".strip(): h.blame for h in diagnosis.layers if h.blame and max(h.blame) > 0}
    if not courses:
        raise InputError(
            "diagnosis", found="no gradients", expected="the gradient at some layer",
            remedy="make it with a loss: diagnose(net, batch, task.loss)",
        )  # fmt: skip
    ax = on(ax, height=2.6 + 0.12 * len(courses))
    colour = shades(DEPTH)
    for depth, (name, blame) in enumerate(courses.items()):
        y = np.array(blame)
        share = depth / max(len(courses) - 1, 1)
        ax.plot(np.arange(len(y)), np.where(y > 0, y, np.nan), color=colour(share), linewidth=1.4, label=name)
    ax.set_yscale("log")
    ax.set_xlim(max(map(len, courses.values())) - 1, 0)
    legend(ax, 3)
    return dress(ax, "steps before the end", "gradient of the loss")


def _history(name: str, run: Any) -> History:
    """The rows of a run."""
    history = getattr(run, "history", run)
    if (
        isinstance(history, Sequence)
        and history
        and all(isinstance(row, Mapping) and "update" in row for row in history)
    ):
        return history
    raise InputError(
        f"runs[{name!r}]" if name else "runs", found=type(run).__name__ if history is run else "an empty history",
        expected="what timecell.fit returned, or its history", remedy="pass trained, or trained.history",
    )  # fmt: skip


def _line(ax: Axes, history: History, column: str, **style: Any) -> bool:
    """Draw one column over updates; False if no row has it."""
    points = [(row["update"], row[column]) for row in history if row.get(column) is not None]
    if points:
        ax.plot(*zip(*points), marker="." if len(points) < 3 else None, **style)
    return bool(points)


def _borders(history: History) -> list[int]:
    """Updates at which one stage of the training gives way to the next."""
    return [
        before["update"] for before, row in pairwise(history) if before.get("stage") != row.get("stage")
    ]  # fmt: skip
