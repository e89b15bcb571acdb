"""`Forecast`: what comes next in a series?

A network reads `history` steps and answers at the last one with H * C' numbers: for each step of the horizon and each
target channel, how much the value will differ from the last one seen. So a network that says zero makes the naive
forecast. The task computes in whatever units the batch has; who scales the data un-scales the answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import numpy as np
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from timecell.data.containers import Batch, Data, Sequences, Series
from timecell.data.splits import by_time
from timecell.errors import InputError, unknown_name
from timecell.system import Scores, Splits, System
from timecell.tasks import metrics
from timecell.tasks.forecasters import Naive, RidgeLags, SeasonalNaive
from timecell.tasks.predictions import Forecasted
from timecell.tasks.readout import last, span
from timecell.tasks.truth import future, naive_scale, target_channels, windowed
