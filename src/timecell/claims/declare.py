"""A claim: a function that measures one seed, what must hold of its arms, and what its negative control must show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from timecell.catalog import SYSTEMS, claims_file, find, import_file
from timecell.claims.statements import AtMost, Matches, Measured, Measurements, Statement
from timecell.claims.verdicts import Judgement, Verdict, judge, worst
from timecell.errors import InputError, unknown_name

CONTROL = "control"  # the name of the control's margin


@dataclass(frozen=True)
class Trial:
    """What a claim's function is asked to do.

    Attributes:
        seed: of data, split, initial weights and all other draws; the arms of a trial share them.
        quick: only show that it runs: few samples, few updates.
        control: run the negative control instead.
        progress: show how far it is, e.g. by `Run(progress=trial.progress)`.
        folder: where what several claims look at is kept (`timecell.claims.experiment`); None: nowhere.
    """

    seed: int
    quick: bool = False
    control: bool = False
    progress: bool = False
    folder: Path | None = None


class ControlStatement(Protocol):
    """What the negative control must show."""

    @property
    def margins(self) -> tuple[str, ...]:
        """Names of the margins it needs beside the claim's."""

    def judge(self, shows: Statement, margins: Mapping[str, float], seen: Measurements, error: float) -> Judgement:
        """Holds if the control behaves as it must."""


@dataclass(frozen=True)
class AtChance:
    """In the control, every arm of the claim scores `level`, up to the margin "control"."""

    level: float
    margins = (CONTROL,)

    def judge(self, shows: Statement, margins: Mapping[str, float], seen: Measurements, error: float) -> Judgement:
        """One `Matches` an arm."""
        return _all([Matches(arm, self.level) for arm in shows.arms], margins, seen, error)


@dataclass(frozen=True)
class NoBetter:
    """In the control, no arm scores more than `level`, up to the margin "control"; below it, as an R² may be, it may lie."""

    level: float
    margins = (CONTROL,)

    def judge(self, shows: Statement, margins: Mapping[str, float], seen: Measurements, error: float) -> Judgement:
        """One `AtMost` an arm."""
        return _all([AtMost(arm, self.level) for arm in shows.arms], margins, seen, error)


def _all(statements: Sequence[Statement], margins: Mapping[str, float], seen: Measurements, error: float) -> Judgement:
    """The judgement that each holds, up to the control's margin."""
    each = [judge(statement, {"tolerance": margins[CONTROL]}, seen, error) for statement in statements]
    findings = tuple(finding for one in each for finding in one.findings)
    return Judgement(worst([one.verdict for one in each]), findings, error)


@dataclass(frozen=True)
class Absent:
    """In the control, the claim's own statement falls short."""

    margins = ()

    def judge(self, shows: Statement, margins: Mapping[str, float], seen: Measurements, error: float) -> Judgement:
        """The claim's verdict, turned round."""
        turned: dict[Verdict, Verdict] = {"holds": "falls short", "falls short": "holds", "undecided": "undecided"}
        as_claimed = judge(shows, margins, seen, error)
        return Judgement(turned[as_claimed.verdict], as_claimed.findings, error)


@dataclass(frozen=True)
class Claim:
    """A claim of a paper. Made by the decorator `claim`.

    Attributes:
        name: of the function; the table in the TOML file.
        text: the claim in words.
        source: where the paper makes it.
        control: the negative control in words.
        shows: what must hold of the arms; further arms are reported beside.
        control_shows: what must hold in the control.
        measure: the function.
    """

    name: str
    text: str
    source: str
    control: str
    shows: Statement
    control_shows: ControlStatement
    measure: Callable[[Trial], Mapping[str, Measured]]

    @property
    def margins(self) -> tuple[str, ...]:
        """Names of all margins its terms must have."""
        return (*self.shows.margins, *self.control_shows.margins)

    def __call__(self, trial: Trial) -> dict[str, Measured]:
        """Measure one seed on one thread, so that the numbers do not depend on how many seeds run at a time.

        Raises:
            InputError: an arm that the statement names is missing, or arms were scored on different test data.
        """
        from timecell.fuse.pool import one_thread  # torch is imported only to measure

        with one_thread():
            arms = dict(self.measure(trial))
        for arm in self.shows.arms:
            if arm not in arms:
                raise unknown_name(f"arm {arm!r} of claim {self.name}", arm, arms)
        sizes = {arm: (m.data, None if m.items is None else len(m.items)) for arm, m in arms.items()}
        named = {sizes[arm] for arm in self.shows.arms}
        if len(named) > 1:
            raise InputError(
                f"claim {self.name}, seed {trial.seed}", found=f"test data that differ: {sizes}",
                expected="the same test items for every arm", remedy="make the data once a seed, before the first arm",
            )  # fmt: skip
        return arms


def claim(
    text: str, *, source: str, control: str, shows: Statement, control_shows: ControlStatement
) -> Callable[[Callable[[Trial], Mapping[str, Measured]]], Claim]:
    """Make a claim of the function that measures it.

    Example:
        >>> from timecell.claims import Ordering
        >>> @claim("two is more than one", source="p. 1", control="both one", shows=Ordering("two", "one"),
        ...        control_shows=Absent())
        ... def more(trial: Trial) -> Mapping[str, Measured]:
        ...     return {"one": Measured(1.0), "two": Measured(1.0 if trial.control else 2.0)}
        >>> more.name, more.margins, more(Trial(seed=0))["two"].value
        ('more', ('two > one',), 2.0)
    """

    def wrap(measure: Callable[[Trial], Mapping[str, Measured]]) -> Claim:
        return Claim(measure.__name__, text, source, control, shows, control_shows, measure)

    return wrap


def load_claims(slug: str, root: Path = SYSTEMS) -> dict[str, Claim]:
    """The claims of a system by name, in the order in which they stand.

    Raises:
        InputError: there is no such system.
        DataError: the file of its claims cannot be imported.

    Example:
        >>> list(load_claims("delay-learning"))
        ['delays_help']
    """
    found = vars(import_file(claims_file(find(slug, root)))).values()
    return {thing.name: thing for thing in found if isinstance(thing, Claim)}
