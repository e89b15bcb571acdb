"""TimesNet: fold a series by its own periods and look at it as at a picture.

The idea. A rhythm has two kinds of change: within one period (morning, noon, night) and from period to period (Monday,
Tuesday, ...). In a row of numbers the two are entangled, and neighbours in the second sense lie far apart. So read the
strongest periods off the spectrum of what is there, fold the series by each of them, one period a row, and let an
ordinary small two-dimensional convolution see both at once. Then unfold, and mix what the periods say by their strength.

    p_1 .. p_k, w_1 .. w_k  <-  spectrum of x                    (rhythm/periods.py)
    x  <-  LayerNorm(x + sum_i w_i unfold(conv(gelu(conv(fold(x, p_i))))))         one block; conv: Inception2d, shared by
                                                                                    all periods; a few blocks
    values [B, L, C] -> Conv1d of 3 + position -> [B, L, d] -> blocks -> a linear head

One backbone for five tasks; only the head differs. *Forecast*, of one long series or *short-term* of many short ones: a
linear map over time first lengthens the window by the horizon, then each step beyond it is read off. *Impute* and *detect*: each step is read off, for the values that were
hidden, or for the step's own value, whose error is the score. These see each window in units of its own
(rhythm/instance_norm.py). *Classify*: all steps side by side, one linear map.

Where we differ from the paper. Periods are each window's own; the paper takes those of the batch's mean spectrum, so that
an answer depends on the batch mates (`shared=True` does so, in training only). The sizes of an inception layer are one
convolution with the mean kernel. The loss is the task's (absolute error to forecast and to impute, where the paper has
squared error); AdamW along a cosine; no calendar.

Source: Wu, Hu, Liu, Zhou, Wang & Long, "TimesNet: temporal 2D-variation modeling for general time series analysis" (2023),
arXiv:2210.02186.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from timecell.card import Card
from timecell.cell import Cell, check_sequence
from timecell.combine import silence
from timecell.data.containers import Data, Schema
from timecell.errors import InputError
from timecell.layers.conv import Inception2d
from timecell.layers.positions import sinusoidal_positions
from timecell.network_system import FittedNetwork, NetworkSystem
from timecell.recipe import OneStage
from timecell.rhythm.fold import fold, unfold
from timecell.rhythm.instance_norm import ReversibleInstanceNorm
from timecell.rhythm.periods import fft_periods
from timecell.state import StateTree
from timecell.system import Run, Task
from timecell.tasks import Classify, Forecast
from timecell.tasks.detect import Detect

CARD = Card(
    slug="timesnet",
    title="TimesNet: Temporal 2D-Variation Modeling for General Time Series Analysis",
    summary="Series folded by the periods of their spectrum into pictures, seen by small convolutions; four tasks.",
    family="series",
    paper="arXiv:2210.02186",
    n=25,
)

Head = Literal["forecast", "impute", "detect", "classify"]


class TimesBlock(nn.Module):
    """Folds each window by its strongest periods, convolves the pictures, adds up what they say.

    Args:
        width: d.
        hidden: channels between the two convolutions.
        periods: k, how many; half of the steps if these are fewer.
        kernels: sizes of an inception layer.
        folded: False: one row as long as the window in place of each picture, the same number of weights.
        shared: in training, all windows have the periods of their mean spectrum.

    Shapes: x [B, L, d] -> [B, L, d].

    Example:
        >>> tuple(TimesBlock(8, 8)(torch.randn(2, 30, 8)).shape)
        (2, 30, 8)
    """

    def __init__(
        self, width: int, hidden: int, periods: int = 3, kernels: int = 4, folded: bool = True, shared: bool = False
    ) -> None:
        super().__init__()
        self.periods, self.folded, self.shared = periods, folded, shared
        self.see = nn.Sequential(Inception2d(width, hidden, kernels), nn.GELU(), Inception2d(hidden, width, kernels))

    def forward(self, x: Float[Tensor, "B L d"]) -> Float[Tensor, "B L d"]:
        """x and what its pictures say."""
        steps = x.shape[1]
        periods, weights = fft_periods(x, min(self.periods, steps // 2), shared=self.shared and self.training)
        if not self.folded:
            periods = torch.full_like(periods, steps)
        out = x
        for period in periods.unique().tolist():
            weight = weights.masked_fill(periods != period, 0).sum(
                dim=1
            )  # bins that round to one period count together
            has = (periods == period).any(dim=1).nonzero()[:, 0]
            picture = fold(x[has], period).permute(0, 3, 1, 2)  # [b, d, rows, period]
            seen = unfold(self.see(picture).permute(0, 2, 3, 1), steps)
            out = out.index_add(0, has, weight[has, None, None] * seen)
        return out


class TimesNet(Cell):
    """The backbone with one head. It sees whole windows, and streams not.

    Args:
        channels: C that have values.
        outputs: K.
        steps: L, the longest window; shorter ones are padded to it with zeros.
        head: what the outputs mean. "forecast": at the last step, the changes from the last value over the horizon, as
            `tasks.Forecast` reads them. "impute": at every step a value for each channel; the inputs are values and
            flags. "detect": the same from values alone. "classify": at every step of a sample the same logits.
        horizon: steps to forecast.
        width: d.
        hidden, periods, kernels, folded, shared: of each `TimesBlock`.
        layers: blocks.
        dropout: share of the embedding, and of what a classification reads, that training drops.

    Shapes: x [B, T, C] (impute: 2 C) with T <= L -> y [B, T, K]; no state.

    Example:
        >>> net = TimesNet(channels=2, outputs=5, steps=40, head="classify")
        >>> tuple(net(torch.randn(3, 40, 2))[0].shape)
        (3, 40, 5)
    """

    causal = False
    streams = False

    @classmethod
    def example(cls) -> TimesNet:
        """For the checks."""
        return cls(channels=4, outputs=3, steps=24, head="classify", width=4, hidden=4, periods=2, kernels=2)

    def __init__(
        self, channels: int, outputs: int, steps: int, head: Head, horizon: int = 0, width: int = 16, hidden: int = 16,
        layers: int = 2, periods: int = 3, kernels: int = 4, dropout: float = 0.1, folded: bool = True, shared: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.channels, self.outputs, self.steps, self.head, self.horizon = channels, outputs, steps, head, horizon
        self.own_units = ReversibleInstanceNorm(channels)
        self.embed = nn.Conv1d(channels, width, 3, padding=1, padding_mode="circular", bias=False)
        self.register_buffer("position", sinusoidal_positions(steps, width), persistent=False)
        self.drop = nn.Dropout(dropout)
        self.lengthen = nn.Linear(steps, steps + horizon) if head == "forecast" else nn.Identity()
        self.blocks = nn.ModuleList(TimesBlock(width, hidden, periods, kernels, folded, shared) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.read = nn.Linear(
            width * steps if head == "classify" else width, outputs if head == "classify" else channels
        )

    def forward(
        self, x: Float[Tensor, "B T C"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T K"], StateTree]:
        """Whole windows."""
        check_sequence("TimesNet(x)", x, lengths)
        inputs = self.channels * (2 if self.head == "impute" else 1)
        if x.ndim != 3 or x.shape[2] != inputs or x.shape[1] > self.steps:
            raise InputError(
                "TimesNet(x)", found=f"shape {list(x.shape)}", expected=f"[B, at most {self.steps}, {inputs}]",
                remedy="cut windows as for training",
            )  # fmt: skip
        given = x.shape[1]
        x = nn.functional.pad(silence(x, lengths), (0, 0, 0, self.steps - given))
        if self.head == "forecast":
            y = self.forecast(x)
        elif self.head == "classify":
            y = self.classify(x, lengths if lengths is not None else torch.full_like(x[:, 0, 0], given))
        else:
            y = self.reconstruct(x)
        return silence(y[:, :given], lengths), None

    def features(self, x: Float[Tensor, "B L C"]) -> Float[Tensor, "B M d"]:
        """What the blocks make of values; M = L, or L + H where the window is lengthened."""
        z = self.drop(self.embed(x.mT).mT + self.position)
        z = self.lengthen(z.mT).mT
        for block in self.blocks:
            z = self.norm(block(z))
        return z

    def forecast(self, x: Float[Tensor, "B L C"]) -> Float[Tensor, "B L K"]:
        """The steps beyond the window, as changes from its last value; zero before the last step."""
        y, moments = self.own_units.normalise(x)
        ahead = self.own_units.undo(self.read(self.features(y)[:, -self.horizon :]), moments)
        targets = self.outputs // self.horizon  # the first channels
        change = (ahead - x[:, -1:])[:, :, :targets].flatten(1)
        return nn.functional.pad(change[:, None], (0, 0, self.steps - 1, 0))

    def reconstruct(self, x: Float[Tensor, "B L I"]) -> Float[Tensor, "B L C"]:
        """A value for every step; where there are flags, values that are not seen have no part in it."""
        seen = x[:, :, self.channels :] > 0 if self.head == "impute" else None
        y, moments = self.own_units.normalise(x[:, :, : self.channels], seen)
        return self.own_units.undo(self.read(self.features(y)), moments)

    def classify(self, x: Float[Tensor, "B L C"], lengths: Shaped[Tensor, "B"]) -> Float[Tensor, "B L K"]:
        """The logits of the whole sample, at each of its steps."""
        z = self.drop(nn.functional.gelu(self.features(x)))
        own = torch.arange(self.steps, device=x.device) < lengths[:, None]
        z = z * own[:, :, None]
        return self.read(z.flatten(1))[:, None].expand(-1, self.steps, -1)


@dataclass(frozen=True)
class TimesNetSystem(OneStage, NetworkSystem):
    """TimesNet for series (forecast, impute, detect) and for labelled sequences.

    Attributes:
        width: channels of the backbone.
        hidden: channels between the two convolutions of a block.
        layers: blocks.
        periods: how many the series is folded by.
        kernels: sizes of an inception layer, 1, 3, 5, ... steps.
        dropout: share of the embedding that training drops.
        folded: False: the ablation, which never folds and has as many weights.
        shared: in training, all windows of a batch have the periods of their mean spectrum, as in the paper.
        lr: highest learning rate.
        batch: windows an update.
        head: what it answers; `fit` sets it to the task's name.
        horizon: steps to forecast; `fit` takes it from the task.
    """

    card: ClassVar[Card] = CARD
    made_for: ClassVar[tuple[str, ...]] = ("forecast", "short-term", "impute", "detect", "classify")
    width: int = 16
    hidden: int = 16
    layers: int = 2
    periods: int = 3
    kernels: int = 4
    dropout: float = 0.1
    folded: bool = True
    shared: bool = False
    lr: float = 3e-3
    batch: int = 32
    head: Head = "forecast"
    horizon: int = 1

    def build(self, schema: Schema, outputs: int) -> TimesNet:
        """For windows as long as the longest of the schema."""
        channels = outputs if self.head == "impute" else len(schema.channels)
        return TimesNet(
            channels, outputs, schema.lengths[1], self.head, self.horizon, self.width, self.hidden, self.layers,
            self.periods, self.kernels, self.dropout, self.folded, self.shared,
        )  # fmt: skip

    def space(self) -> Mapping[str, Sequence[Any]]:
        """What comparisons tune."""
        return {"lr": (1e-3, 3e-3, 1e-2), "periods": (1, 3, 5), "width": (8, 16, 32)}

    def accepts(self, schema: Schema, task: Task) -> str | None:
        """Windows to forecast, impute or detect in, and sequences to classify; of two steps at least."""
        single = 0 < schema.lengths[1] < 2
        return super().accepts(schema, task) or ("a single step has no period" if single else None)

    def asked(self, task: Task) -> Task:
        """In the form that it answers."""
        if isinstance(task, Forecast):
            return replace(task, season=1)
        if isinstance(task, Classify):
            return replace(task, readout="last", criterion="cross_entropy")
        return replace(task, step="same") if isinstance(task, Detect) else task

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> FittedNetwork:
        """As every network, with the head of the task."""
        if isinstance(task, Forecast):  # of one long series or of many short ones
            headed = replace(self, head="forecast", horizon=task.horizon)
        else:
            headed = replace(self, head=task.name, horizon=0)  # type: ignore[arg-type]
        return super(TimesNetSystem, headed).fit(train, valid, task, run)
