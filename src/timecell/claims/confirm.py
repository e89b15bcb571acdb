"""Confirmation: measure a claim and its control on fresh seeds, and add seeds while the verdict is open."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from timecell.claims.declare import Claim, Trial
from timecell.claims.journal import Journal
from timecell.claims.statements import Measured, Measurements
from timecell.claims.terms import CONFIRM, Terms
from timecell.claims.verdicts import ERROR, Judgement, Verdict, judge, worst
from timecell.errors import InputError


@dataclass(frozen=True)
class Evidence:
    """What was measured, seed by seed, and the judgement at the last look (None if time ran out before the first)."""

    seeds: tuple[int, ...]
    measured: tuple[Mapping[str, Measured], ...]
    judgement: Judgement | None
    out_of_time: bool = False

    @property
    def verdict(self) -> Verdict:
        """Of the judgement."""
        return "undecided" if self.judgement is None else self.judgement.verdict


@dataclass(frozen=True)
class Outcome:
    """A verified claim: evidence for the claim and from its control, in how many seconds."""

    claim: str
    shown: Evidence
    control: Evidence
    seconds: float

    def __post_init__(self) -> None:
        if low := [s for s in (*self.shown.seeds, *self.control.seeds) if s < CONFIRM]:
            raise InputError(
                "seeds", found=low, expected=f"{CONFIRM} or more, since those below choose margins",
                remedy="confirm on fresh seeds",
            )  # fmt: skip

    @property
    def verdict(self) -> Verdict:
        """The claim holds if its statement holds and its control behaves."""
        return worst([self.shown.verdict, self.control.verdict])


def verify(
    claim: Claim,
    terms: Terms,
    jobs: int = 1,
    say: Callable[[str], None] = lambda line: None,
    journal: Journal | None = None,
    folder: Path | None = None,
) -> Outcome:
    """Measure a claim and its negative control on fresh seeds, adding seeds while the verdict is open.

    Args:
        claim: what to verify.
        terms: its margins and budget.
        jobs: seeds at a time, each in a process of its own; 1 = here, 0 = one a core.
        say: called with a line after each measurement.
        journal: where each seed is kept as it finishes, and what earlier sessions have measured.
        folder: where experiments are kept that this claim shares with others.

    Raises:
        InputError: the terms lack a margin or have one too many; or what the claim's function raises.

    Example:
        >>> from datetime import date
        >>> from timecell.claims import Absent, Ordering, claim
        >>> @claim("two is more than one", source="p. 1", control="both one", shows=Ordering("two", "one"),
        ...        control_shows=Absent())
        ... def more(trial: Trial) -> Mapping[str, Measured]:
        ...     noise = 0.01 * (trial.seed % 3)
        ...     return {"one": Measured(1.0), "two": Measured(noise + (1.0 if trial.control else 2.0))}
        >>> outcome = verify(more, Terms({"two > one": 0.5}, (0, 1, 2), date(2026, 1, 31), 3, 6, 60.0))
        >>> outcome.verdict, outcome.shown.seeds
        ('holds', (100, 101, 102))
    """
    if set(terms.margins) != set(claim.margins):
        raise InputError(
            f"margins of {claim.name}", found=sorted(terms.margins), expected=f"exactly {sorted(claim.margins)}",
            remedy="mend the table in the TOML file beside the system",
        )  # fmt: skip
    journal = journal or Journal()
    start = time.monotonic() - journal.seconds
    run = _Runner(claim, jobs, start, terms.seconds, say, journal, folder)
    error = ERROR / len(terms.looks)
    shown = run.settle(terms.looks, False, lambda seen: judge(claim.shows, terms.margins, seen, error), terms.first)
    control = run.settle(
        terms.looks, True, lambda seen: claim.control_shows.judge(claim.shows, terms.margins, seen, error), terms.first
    )
    return Outcome(claim.name, shown, control, time.monotonic() - start)


def quick(claim: Claim) -> dict[str, Measured]:
    """Run a claim and its control once at their smallest, with a calibration seed; says nothing about the claim."""
    claim(Trial(0, quick=True, control=True))
    return claim(Trial(0, quick=True))


def calibrate(
    claim: Claim,
    seeds: int = 3,
    jobs: int = 1,
    say: Callable[[str], None] = lambda line: None,
    first: int = 0,
    folder: Path | None = None,
) -> tuple[Evidence, Evidence]:
    """Measure a claim and its control on seeds `first`, `first` + 1, ..., judged with margins of zero, to choose by.

    Raises:
        InputError: more than the hundred seeds there are for this, or fewer than 2.
    """
    if not 2 <= seeds <= CONFIRM:
        raise InputError("seeds", found=seeds, expected=f"2 to {CONFIRM}", remedy="3 are usual")
    if not 0 <= first <= CONFIRM - seeds:
        raise InputError("first", found=first, expected=f"0 to {CONFIRM - seeds}", remedy="later seeds confirm")
    run = _Runner(claim, jobs, time.monotonic(), math.inf, say, Journal(), folder)
    zero = dict.fromkeys(claim.margins, 0.0)
    shown = run.settle([seeds], False, lambda seen: judge(claim.shows, zero, seen), first=first)
    control = run.settle(
        [seeds], True, lambda seen: claim.control_shows.judge(claim.shows, zero, seen, ERROR), first=first
    )
    return shown, control


@dataclass(frozen=True)
class _Runner:
    """Measures seeds, `jobs` at a time, until the time is up; those that the journal has are not measured again."""

    claim: Claim
    jobs: int
    start: float
    seconds: float
    say: Callable[[str], None]
    journal: Journal
    folder: Path | None

    def settle(
        self, looks: Sequence[int], control: bool, judged: Callable[[Measurements], Judgement], first: int
    ) -> Evidence:
        """Measure look after look, until the verdict is clear, or the looks or the time run out."""
        measured: list[Mapping[str, Measured]] = []
        judgement = None
        for count in looks:
            seeds = range(first + len(measured), first + count)
            trials = [Trial(seed, control=control, progress=self.jobs == 1, folder=self.folder) for seed in seeds]
            measured.extend(self._measure(trials))
            if len(measured) < count:
                break
            judgement = judged(measured)
            if judgement.verdict != "undecided":
                break
        return Evidence(tuple(range(first, first + len(measured))), tuple(measured), judgement, len(measured) < count)

    def _measure(self, trials: Sequence[Trial]) -> Iterator[dict[str, Measured]]:
        import joblib

        workers = self.jobs or joblib.cpu_count()
        pool = joblib.Parallel(n_jobs=workers, return_as="generator", batch_size=1, pre_dispatch=workers)
        missing = [trial for trial in trials if self.journal.get(trial) is None]
        in_time = (joblib.delayed(self.claim)(t) for t in missing if self._elapsed() < self.seconds)
        fresh = pool(in_time)
        for trial in trials:
            arms, whence = self.journal.get(trial), " (measured before)"
            if arms is None:
                arms, whence = next(fresh, None), ""
                if arms is None:
                    return
                self.journal.add(trial, arms, self._elapsed())
            scores = ", ".join(f"{arm} {m.value:.4g}" for arm, m in arms.items())
            self.say(f"{self.claim.name}{', control' if trial.control else ''}, seed {trial.seed}: {scores}{whence}")
            yield arms

    def _elapsed(self) -> float:
        return time.monotonic() - self.start
