"""The documentation runs as it stands, block by block, with small budgets; and what it computes leaves nothing out."""

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest
import tyro

import timecell as tc
from timecell import catalog, testing
from timecell.cell import Neuron
from timecell.claims import ledger
from timecell.cli import commands
from timecell.data import encoders
from timecell.data.readers import readers

DOCS = Path(__file__).parents[1] / "docs"
sys.path.append(str(DOCS / "_ext"))

import api  # noqa: E402
import docstrings  # noqa: E402
import listings  # noqa: E402
from session import Session, absent, blocks  # noqa: E402

PAGES = sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)
RUN = [p for p in PAGES if any(True for _ in blocks(p.read_text()))]


def name(page):
    return str(page.relative_to(DOCS).with_suffix(""))


@pytest.mark.filterwarnings("default", "error:::__page__")  # other libraries' warnings are theirs
@pytest.mark.parametrize("page", RUN, ids=name)
def test_every_block_of_the_page_runs(page):
    text = re.sub(r"updates=\d+", "updates=2", page.read_text())
    text = re.sub(r"--updates \d+", "--updates 2", text)
    found = list(blocks(text))
    if missing := absent(found):
        pytest.skip(f"without {', '.join(missing)}")
    with Session(name(page)) as session:
        shown = [session.run(*block) for block in found]
    assert all(s.about for s in shown if s.figure is not None), (
        "a picture without a comment above that says what it shows"
    )


@pytest.mark.parametrize("page", RUN, ids=name)
def test_a_page_has_no_python_that_is_not_run(page):
    fences = re.findall(r"^```(\S*)", page.read_text(), re.MULTILINE)
    assert set(fences) <= {"", "python", "console", "bash", "text", "{computed}", "{toctree}"}
    assert len(list(blocks(page.read_text()))) == sum(fence in ("python", "console") for fence in fences)


@pytest.mark.parametrize("page", [p for p in RUN if p.parent.name == "concepts"], ids=name)
def test_a_concept_has_a_picture(page):
    text = page.read_text()
    assert any(re.search(r"^# .*\.\n(tc\.plot\.|ax$)", code, re.MULTILINE) for _, code in blocks(text))


def test_a_picture_and_what_was_printed_come_out_of_a_session():
    pytest.importorskip("matplotlib")
    with Session("page") as session:
        session.run("python", "import timecell as tc, torch\nx = torch.zeros(5, 2)\nx[1] = 1")
        shown = session.run("python", "print(x.shape)\n# Two units,\n# one spike each.\ntc.plot.raster(x)")
    assert shown.text == "torch.Size([5, 2])" and shown.about == "Two units, one spike each."
    assert shown.figure.axes


def test_an_error_of_a_block_comes_out_with_its_line():
    with Session("page") as session, pytest.raises(ZeroDivisionError):
        session.run("python", "1 / 0")
    with Session("page") as session, pytest.raises(RuntimeError, match="no-such"):
        session.run("console", "$ timecell show no-such\n")


def test_every_command_on_a_page_has_the_options_that_it_names():
    found = [c for page in PAGES for c in re.findall(r"timecell ([a-z]+ [^`\n#]+)", page.read_text())]
    named = [shlex.split(c) for c in found if len(c.split()) > 1 and c.split()[0] in commands()]
    assert len(named) > 8
    for name, *arguments in named:
        tyro.cli(commands()[name], args=arguments, config=(tyro.conf.FlagCreatePairsOff,))


def test_what_is_not_installed_is_named():
    assert absent([("python", "import numpy.linalg\nfrom no_such_thing.part import x"), ("console", "$ timecell")]) == [
        "no_such_thing"
    ]


# --- what is computed ------------------------------------------------------------------------------------------------


def test_the_tables_leave_nothing_out():
    units = {c.__name__ for c in testing.walk(Neuron)}
    assert units and all(
        f"`{unit} <" in listings.neurons() and f"### {unit}\n" in listings.instants() for unit in units
    )
    assert all(f"`{encoder} <" in listings.encoders() for encoder in api.public(encoders))
    assert all(suffix in listings.readers() for suffix in readers())
    assert all(f"`{rule} <" in listings.rules() for rule in ("BPTT", "TruncatedBPTT", "SLTT", "OTTT", "EProp", "RTRL"))
    for card, module in catalog.walk().items():
        known = ledger.standings(module, card.slug, ledger.read(ledger.SHIPPED))
        row = next(
            line for line in listings.systems().splitlines() if f"`{card.slug}`" in line or f"`{card.slug} <" in line
        )
        assert f"**{ledger.overall(s for s, _ in known.values())}**" in row


def test_every_table_that_a_page_asks_for_has_rows_of_one_width():
    asked = {found for page in PAGES for found in re.findall(r"^```{computed} (\w+)", page.read_text(), re.MULTILINE)}
    assert len(asked) > 15
    for table in asked:
        made = getattr(listings, table)()
        rows = [line for line in made.splitlines() if line.startswith("|")]
        assert len(rows) >= 3 or "```" in made, table
        for head in (n for n, line in enumerate(rows) if line.startswith("| ---")):
            width = rows[head - 1].count(" | ")
            assert rows[head].count(" | ") == width, table


def test_every_name_of_the_package_is_in_the_reference():
    modules = re.findall(r"^```{api} (\S+)", "\n".join(p.read_text() for p in PAGES), re.MULTILINE)
    written = {id(thing) for module in modules for thing in api.public(importlib.import_module(module)).values()}
    missing = [n for n in tc.__all__ if callable(getattr(tc, n)) and n != "State" and id(getattr(tc, n)) not in written]
    assert not missing


def test_docstrings_become_markdown():
    def f():
        """Two sums: a_1 | b*.

            y = x + 1

        More of it, and `code_here`.

        Args:
            x: the input, [B, T],
                over two lines.

        Shapes: x [B] -> y [B].

        Example:
            >>> 1 + 1
            2
        """

    made = docstrings.markdown(docstrings.inspect.getdoc(f))
    assert r"a\_1 \| b\*" in made and "`code_here`" in made
    assert "```text\ny = x + 1\n```" in made and "```pycon\n>>> 1 + 1\n2\n```" in made
    assert "`x`\n: the input, \\[B, T\\], over two lines." in made
    assert docstrings.equation(f) == "y = x + 1" and docstrings.line_of(f, "Shapes") == "x [B] -> y [B]."
    assert docstrings.first_line(f) == r"Two sums: a\_1 \| b\*."


def test_signatures_name_what_a_unit_declares():
    assert api.signature(tc.LIF).startswith("(size, *, threshold=1.0, tau=20.0, reset='soft'")
    assert api.signature(tc.credit.SLTT) == "(steps=4, k=None)"
