"""``timecell systems | show | verify | calibrate``: the published systems and what is known of their claims."""

from __future__ import annotations

import inspect
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from timecell import catalog
from timecell.claims import Claim, Evidence, Measured, Terms, calibrate, ledger, load_claims, quick, read_terms, verify
from timecell.claims.journal import Journal, beside, code_hash, experiments
from timecell.claims.ledger import Record
from timecell.claims.terms import tables, terms_file
from timecell.cli.command import Answer, Command, Folder, Slug, lines, say
from timecell.cli.evidence import coloured, evidence_told, measured, outcome_told
from timecell.errors import InputError, unknown_name

LedgerFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]


@dataclass(frozen=True, kw_only=True)
class _Published(Command):
    """What the commands below share.

    Attributes:
        root: a folder of systems to walk; timecell's own unless you name another.
        ledger: the file that verdicts are kept in; yours, where programs keep data, unless you name another.
    """

    root: Folder = None
    ledger: LedgerFile = None

    @property
    def folder(self) -> Path:
        """The folder to walk."""
        return self.root or catalog.SYSTEMS

    @property
    def ledger_file(self) -> Path:
        """Where new records go."""
        return self.ledger or ledger.default_path()

    def records(self) -> list[Record]:
        """Of the ledger that ships with timecell, and of the user's."""
        return [*ledger.read(ledger.SHIPPED), *ledger.read(self.ledger_file)]

    def claims(self, slug: str, name: str | None) -> list[tuple[Claim, Path]]:
        """The claims of a system, or the one of that name, each with the file of its terms."""
        found = load_claims(slug, self.folder)
        if name is not None and name not in found:
            raise unknown_name(f"claim of {slug}", name, found)
        terms = terms_file(catalog.find(slug, self.folder))
        return [(claim, terms) for claim in found.values() if name in (None, claim.name)]


@dataclass(frozen=True, kw_only=True)
class Systems(_Published):
    """List the published systems with the verdicts on their claims.

        timecell systems
        timecell systems --json

    A system's verdict is the worst of its claims'; stale means that code or margins have changed since.
    """

    def run(self) -> Answer:
        """One row a system, with the worst of its verdicts."""
        records, rows = self.records(), []
        table = Table("slug", "n", "title", "family", "verdict", box=None, padding=(0, 2, 0, 0))
        for card, module in catalog.walk(self.folder).items():
            claims = {name: known for name, (known, _) in ledger.standings(module, card.slug, records).items()}
            verdict = ledger.overall(claims.values())
            rows.append({**asdict(card), "verdict": verdict, "claims": claims})
            table.add_row(card.slug, str(card.n or ""), escape(card.title), card.family, coloured(verdict))
        return Answer(rows, lines(table))


@dataclass(frozen=True, kw_only=True)
class Show(_Published):
    """Show a system: what it is, what it claims, on what terms, and what was measured.

        timecell show delay-learning

    Attributes:
        slug: which one; `timecell systems` lists them.
    """

    slug: Slug

    def run(self) -> Answer:
        """The card, the module's docstring, then claim by claim."""
        module = catalog.find(self.slug, self.folder)
        card, known = catalog.read_card(module), ledger.standings(module, self.slug, self.records())
        assert card is not None
        about = inspect.getdoc(catalog.load_module(self.slug, self.folder)) or ""
        claims: list[dict[str, Any]] = []
        shown: list[RenderableType] = [
            f"[bold]{escape(card.title)}[/]",
            escape(", ".join(filter(None, [card.family, card.paper, f"paper {card.n}" if card.n else None]))),
            escape(f"{module}\n\n{about}\n"),
        ]
        for claim, file in self.claims(self.slug, None):
            standing, record = known[claim.name]
            terms = read_terms(file, claim.name) if claim.name in tables(file) else None
            claims.append(claim_document(claim, terms) | {"standing": standing, "record": record and record.to_json()})
            shown += [claim_told(claim, terms), f"  standing: {coloured(standing)}", ""]
            if record is not None:
                shown += [
                    f"  verified {record.time}, timecell {record.versions['timecell']}",
                    outcome_told(record.outcome),
                ]
        return Answer({"card": asdict(card), "module": str(module), "about": about, "claims": claims}, lines(*shown))


@dataclass(frozen=True, kw_only=True)
class _Measuring(_Published):
    """What the commands that measure share.

    Attributes:
        claim: only the claim of this name.
        jobs: seeds at a time, each on one core; 0 = one a core.
    """

    claim: str | None = None
    jobs: int = 0


@dataclass(frozen=True, kw_only=True)
class Verify(_Measuring):
    """Verify the claims of a system on fresh seeds, with their negative controls, and write the ledger.

        timecell verify delay-learning
        timecell verify delay-learning --quick
        timecell verify --all

    Each claim holds, falls short, or stays undecided when its seeds or its time are used up. What was interrupted goes on
    with the seeds that are missing, unless the code has changed.

    Attributes:
        slug: which one; `timecell systems` lists them.
        all: every system.
        quick: only see that everything runs, at its smallest; says nothing about the claims.
        seeds: at most so many seeds, in place of the number in the claim's terms.
    """

    slug: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[SLUG]")] = None
    all: bool = False
    quick: bool = False
    seeds: int | None = None

    def run(self) -> Answer:
        """One record a claim; not ok if one falls short."""
        if (self.slug is None) != self.all:
            raise InputError(
                "verify", found="both a system and --all" if self.slug else "no system", expected="one of the two",
                remedy="timecell verify SLUG, or timecell verify --all",
            )  # fmt: skip
        slugs = [self.slug] if self.slug else [card.slug for card in catalog.cards(self.folder)]
        answers = [answer for slug in slugs for answer in self.system(slug)]
        return Answer(
            [answer.document for answer in answers],
            lambda console: [answer.show(console) for answer in answers],
            ok=all(answer.ok for answer in answers),
        )

    def system(self, slug: str) -> list[Answer]:
        """Its claims, verified or only run; what they share is kept until all are done."""
        claims, module = self.claims(slug, self.claim), catalog.find(slug, self.folder)
        if self.quick:
            return [ran(slug, claim, quick(claim)) for claim, _ in claims]
        ledger.require_writable(self.ledger_file)
        code = code_hash(module)
        shared = experiments(self.ledger_file, slug, code)
        for old in shared.parent.glob(f"{slug}.*"):
            if old.is_dir() and old != shared:
                shutil.rmtree(old, ignore_errors=True)  # of other code, which nothing will ask for
        answers = [self.one(slug, claim, read_terms(file, claim.name), module, code, shared) for claim, file in claims]
        shutil.rmtree(shared, ignore_errors=True)
        return answers

    def one(self, slug: str, claim: Claim, terms: Terms, module: Path, code: str, shared: Path) -> Answer:
        """A claim, verified."""
        limited = terms if self.seeds is None else at_most(terms, self.seeds)
        journal = Journal(beside(self.ledger_file, slug, claim.name), code)
        outcome = verify(claim, limited, self.jobs, say, journal, shared)
        record = Record.of(slug, outcome, ledger.hash_of(module), terms.hash)
        ledger.append(self.ledger_file, record)
        journal.close()
        return Answer(
            record.to_json(),
            lines(claim_told(claim, limited), outcome_told(outcome), f"  written to {self.ledger_file}", ""),
            ok=outcome.verdict != "falls short",
        )


@dataclass(frozen=True, kw_only=True)
class Calibrate(_Measuring):
    """Measure the claims of a system on seeds below 100, to choose margins by before they are confirmed.

        timecell calibrate delay-learning

    Write what you choose into the TOML file beside the claims; half of a difference is a usual margin.

    Attributes:
        slug: which one; `timecell systems` lists them.
        seeds: how many; up to 100.
        first: the first of them; fresh ones judge what was chosen on others.
    """

    slug: Slug
    seeds: int = 3
    first: int = 0

    def run(self) -> Answer:
        """The scores and the contrasts of each claim and its control."""
        document: dict[str, Any] = {}
        shown: list[RenderableType] = []
        with tempfile.TemporaryDirectory() as shared:
            for claim, file in self.claims(self.slug, self.claim):
                shown.append(claim_told(claim, None))
                document[claim.name] = {}
                found = calibrate(claim, self.seeds, self.jobs, say, self.first, Path(shared))
                for name, evidence in zip(("measured", "negative control"), found):
                    document[claim.name][name] = unjudged(evidence)
                    shown.append(evidence_told(name, evidence, measured))
                shown.append(f"  margins to set in {file}: {', '.join(claim.margins)}\n")
        return Answer(document, lines(*shown))


def unjudged(evidence: Evidence) -> dict[str, Any]:
    """What was measured, as JSON values, without a verdict: there are no margins yet."""
    findings = evidence.judgement.findings if evidence.judgement else ()
    contrasts = {f.contrast: {"mean": f.mean, "low": f.low, "high": f.high} for f in findings}
    return {"trials": ledger.evidence_to_json(evidence)["trials"], "contrasts": contrasts}


def at_most(terms: Terms, seeds: int) -> Terms:
    """The same terms with another number of seeds at most."""
    if seeds < 2:
        raise InputError("seeds", found=seeds, expected="at least 2", remedy="one seed has no spread")
    return replace(terms, seeds=min(seeds, terms.seeds), max_seeds=seeds)


def ran(slug: str, claim: Claim, arms: dict[str, Measured]) -> Answer:
    """That a claim runs."""
    document = {"slug": slug, "claim": claim.name, "runs": True, "arms": {arm: m.value for arm, m in arms.items()}}
    return Answer(document, lines(f"{slug}, {claim.name}: runs"))


def claim_told(claim: Claim, terms: Terms | None) -> str:
    """A claim and its terms in a few lines."""
    lines = [f"[bold]{claim.name}[/]: {escape(claim.text)}", f"  source: {escape(claim.source)}"]
    lines.append(f"  control: {escape(claim.control)}")
    if terms is not None:
        margins = ", ".join(f"{escape(name)} {value:g}" for name, value in terms.margins.items())
        lines.append(f"  margins: {margins} (from seeds {list(terms.calibrated_on)}, {terms.date})")
    return "\n".join(lines)


def claim_document(claim: Claim, terms: Terms | None) -> dict[str, Any]:
    """The same as JSON values."""
    words = {name: getattr(claim, name) for name in ("name", "text", "source", "control")}
    statements = {"shows": repr(claim.shows), "control_shows": repr(claim.control_shows)}
    return words | statements | {"terms": terms and {**asdict(terms), "date": str(terms.date)}}
