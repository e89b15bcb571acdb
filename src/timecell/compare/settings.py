"""`Settings`: the budget of a comparison, the same for every system."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from timecell.errors import InputError


@dataclass(frozen=True)
class Settings:
    """The budget of a comparison, the same for every system.

    Attributes:
        seeds: refits of the chosen hyperparameters; the spread of a result is the spread over these.
        trials: hyperparameter settings a system may try on the validation part.
        updates: optimiser updates of one fit.
        seconds: a cap on the wall time of one fit; None = no cap.
        jobs: fits at a time, each on one core; 0 = one a core.
        out: folder for `results.json` and the finished jobs, from which a stopped comparison goes on; None = nothing
            is written.
        progress: show how far it is.
        first_seed: seed of the split, of the trials and of the first refit; the others count up from it.

    Example:
        >>> Settings(seeds=5).trials
        4
    """

    seeds: int = 3
    trials: int = 4
    updates: int = 400
    jobs: int = 0
    seconds: float | None = None
    out: Path | None = None
    progress: bool = True
    first_seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("seeds", 1), ("trials", 1), ("updates", 1), ("jobs", 0), ("first_seed", 0)):
            if getattr(self, name) < least:
                raise InputError(
                    name, found=getattr(self, name), expected=f"at least {least}", remedy=f"pass {name}={least} or more"
                )
        if self.seconds is not None and self.seconds <= 0:
            raise InputError(
                "seconds", found=self.seconds, expected="a positive cap", remedy="leave it out for no cap on time"
            )
