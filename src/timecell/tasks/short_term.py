"""`ShortTerm`: what comes next in each of many short series?

`Forecast` learns from the past of one long series. Here there are many, often of a few dozen steps and each at a level of
its own: one model learns from all of them, and each series asks for its own last steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from timecell.data.containers import AnyData, Data, Kind, Sequences
from timecell.data.short_series import ShortSeries, by_ends
from timecell.data.splits import Splits
from timecell.system import Scores
from timecell.tasks import metrics
from timecell.tasks.forecast import Forecast
from timecell.tasks.predictions import Forecasted
from timecell.tasks.truth import future, of_kind, require_shape


@dataclass(frozen=True)
class ShortTerm(Forecast):
    """The next `horizon` steps of each sequence, from its last `history` steps, as in the M4 competition.

    Attributes:
        history: input steps; None = twice the horizon, or as many as the shortest series has beside three horizons.
        horizon: steps to forecast.
        targets: names of the channels to forecast; () = all.
        error: what is minimised, "absolute" or "huber".
        season: as in `Forecast`.

    Example:
        >>> data = Sequences.of([np.arange(40.0)[:, None] ** (1 + 0.1 * i) for i in range(5)])
        >>> parts = ShortTerm(horizon=4).split(data)
        >>> len(parts.test), parts.test.history
        (5, 8)
    """

    horizon: int = 8

    name: ClassVar[str] = "short-term"
    kind: ClassVar[Kind] = "sequences"

    def seasonal(self, data: Any) -> ShortTerm:
        """The same: where a sequence begins within its season is not known."""
        return self

    def split(self, data: AnyData, seed: int = 0) -> Splits:
        """The last horizon of every series tests, the one before validates; nothing is drawn.

        Raises:
            InputError: the data are no sequences, a target is no channel, or a series is too short.
        """
        sequences = of_kind(data, Sequences, "Sequences", "one long series is for Forecast")
        sequences, targets = self.targets_first(sequences)
        room = int(sequences.lengths.min()) - 3 * self.horizon
        return by_ends(sequences, self.history or max(1, min(2 * self.horizon, room)), self.horizon, targets)

    def score(self, prediction: Forecasted, data: Data) -> Scores:
        """MASE ranks, each series in its own unit; beside it the symmetric percentage error in the data's units.

        Raises:
            InputError: the prediction is of other windows, or no target is observed.
        """
        windows = of_kind(data, ShortSeries, "windows of short series", "cut them with ShortTerm(...).split")
        truth = future(windows)
        require_shape(prediction.values, truth)
        values, items = metrics.forecasting(prediction, truth, np.ones(truth.shape[2]))
        smape = metrics.symmetric(windows.restored(prediction.values), windows.restored(truth))
        return Scores({**values, "smape": smape}, "mase", False, items)
