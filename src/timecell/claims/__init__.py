"""Claims: what a paper says, as a function that measures and a statement that must hold of the measurements.

    @claim("learned delays > fixed random delays > no delays, at an equal number of weights",
           source="Table 1", control="shuffled labels: all at chance",
           shows=Ordering("learned", "frozen", "none"), control_shows=AtChance(0.1))
    def delays_help(trial: Trial) -> Mapping[str, Measured]:
        ...                      # fit all arms with trial.seed and score them on the test set

The function measures *one* seed. Claims stand in the system's module, or, if they need more than a page, in a module of
the same name in the folder `claims/` beside it. How large an effect must be is data, not code: a TOML file beside the
claims, `delay_learning.toml` beside `delay_learning.py`, has a table for each, frozen before it is confirmed::

    [delays_help]
    calibrated_on = [0, 1, 2]    # seeds 0 to 99 choose margins, seeds from 100 confirm
    date = 2026-01-31
    seeds = 3                    # to start with; doubled while the verdict is open ...
    max_seeds = 12               # ... up to this many
    seconds = 1800               # no seed begins after that, and an open verdict is "undecided"
    first = 100                  # optional: where the confirmation begins, if earlier seeds have been seen
    [delays_help.margins]
    "learned > frozen" = 0.05
    "frozen > none" = 0.02
    control = 0.03

`verify` runs the claim and its negative control, the same function with `trial.control` set. A claim holds only if its
statement holds and its control behaves.
"""

from timecell.claims.confirm import Evidence, Outcome, calibrate, quick, verify
from timecell.claims.declare import Absent, AtChance, Claim, NoBetter, Trial, claim, load_claims
from timecell.claims.experiment import experiment
from timecell.claims.journal import Journal
from timecell.claims.statements import Flat, Matches, Measured, NonInferior, Ordering, Trend
from timecell.claims.terms import Terms, read_terms, terms_file

__all__ = [
    "Absent", "AtChance", "Claim", "Evidence", "Flat", "Journal", "Matches", "Measured", "NoBetter", "NonInferior", "Ordering", "Outcome",
    "Terms", "Trend", "Trial", "calibrate", "claim", "experiment",
    "load_claims", "quick", "read_terms", "terms_file", "verify",
]  # fmt: skip
