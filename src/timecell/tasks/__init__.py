"""What is asked of the data: `Classify`, `Forecast`.

A task knows how to split, what to lose, how to score, and which baselines an honest comparison includes.
"""

from timecell.tasks.classify import Classify
from timecell.tasks.fitted import FittedArrays
from timecell.tasks.forecast import Forecast
from timecell.tasks.metrics import residual_quantiles
from timecell.tasks.predictions import ClassScores, Forecasted

__all__ = ["ClassScores", "Classify", "FittedArrays", "Forecast", "Forecasted", "residual_quantiles"]
