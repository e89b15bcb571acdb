"""The catalog: systems are found by walking; cards are read from the source; nothing is imported to list them."""

import subprocess
import sys

import cloudpickle
import pytest

from timecell import catalog
from timecell.card import Card
from timecell.claims import Trial, load_claims, terms_file
from timecell.errors import DataError, InputError

SYSTEM = """
from dataclasses import dataclass

from timecell.card import Card
from timecell.claims import Absent, Measured, Ordering, claim

CARD = Card(slug="{slug}", title="A title", summary="One sentence.", family="{family}", n=3)


class Helper:
    pass


@dataclass(frozen=True)
class Mine:
    card = CARD
    width: int = 4


@claim("b > a", source="p. 1", control="both a", shows=Ordering("b", "a"), control_shows=Absent())
def better(trial):
    return {{"a": Measured(0.0), "b": Measured(0.0 if trial.control else 1.0)}}
"""


def write(root, name, slug, family="spiking"):
    path = root / family / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SYSTEM.format(slug=slug, family=family))
    return path


def test_walking_finds_cards_sorted_by_family_and_slug(tmp_path):
    write(tmp_path, "one", "b-net")
    write(tmp_path, "two", "a-net")
    write(tmp_path, "three", "c-net", family="memory")
    (tmp_path / "spiking" / "__init__.py").write_text("")
    (tmp_path / "spiking" / "no_system.py").write_text("raise RuntimeError('never imported')")
    assert [c.slug for c in catalog.cards(tmp_path)] == ["c-net", "a-net", "b-net"]
    assert catalog.cards(tmp_path)[0] == Card("c-net", "A title", "One sentence.", "memory", n=3)
    assert catalog.find("a-net", tmp_path) == tmp_path / "spiking" / "two.py"


def test_a_system_and_its_claims_are_loaded_from_any_folder(tmp_path):
    write(tmp_path, "one", "a-net")
    system = catalog.load_system("a-net", tmp_path)
    assert (type(system).__name__, system.width, system.card.slug) == ("Mine", 4, "a-net")
    assert list(load_claims("a-net", tmp_path)) == ["better"]


def write_beside(root, name, slug, width):
    """A system whose claims stand in a file of their own, which measures the width of the system."""
    path = write(root, name, slug)
    module, claims = path.read_text().split("@claim")
    path.write_text(module.replace("width: int = 4", f"width: int = {width}"))
    beside = path.parent / "claims" / path.name
    beside.parent.mkdir(exist_ok=True)
    head = f"from timecell.claims import Absent, Measured, Ordering, claim\n\nfrom ..{name} import Mine\n\n\n"
    beside.write_text(head + "@claim" + claims.replace("else 1.0", "else float(Mine().width)"))
    return path, beside


def test_claims_may_stand_in_a_file_beside_the_system(tmp_path):
    path, beside = write_beside(tmp_path, "one", "a-net", width=7)
    write_beside(tmp_path / "elsewhere", "one", "b-net", width=8)
    assert [c.slug for c in catalog.cards(tmp_path)] == ["a-net", "b-net"], "the files of claims are no systems"
    assert catalog.claims_file(path) == beside and catalog.claim_names(beside) == ["better"]
    assert terms_file(path) == beside.with_suffix(".toml")
    measured = {slug: load_claims(slug, tmp_path)["better"](Trial(0))["b"].value for slug in ("a-net", "b-net")}
    assert measured == {"a-net": 7.0, "b-net": 8.0}, "each measures its own system, though the files have one name"
    assert catalog.claims_file(write(tmp_path, "two", "c-net")).name == "two.py"
    assert catalog.import_file(beside).Mine is catalog.load_module("a-net", tmp_path).Mine, "there is one such class"


def test_claims_beside_a_system_can_be_sent_to_a_process(tmp_path):
    write_beside(tmp_path, "one", "a-net", width=9)
    claim = load_claims("a-net", tmp_path)["better"]
    code = "import pickle, sys; from timecell.claims import Trial; claim = pickle.load(sys.stdin.buffer);"
    code += " assert claim(Trial(0))['b'].value == 9"
    assert subprocess.run([sys.executable, "-c", code], input=cloudpickle.dumps(claim)).returncode == 0


def test_claims_in_both_files_are_refused(tmp_path):
    path, _ = write_beside(tmp_path, "one", "a-net", width=7)
    write(tmp_path, "one", "a-net")
    with pytest.raises(DataError, match=r"one.py: found the claims better, and .*claims/one.py beside them"):
        catalog.claims_file(path)
    with pytest.raises(DataError, match="in one of the two files"):
        load_claims("a-net", tmp_path)


def test_an_unknown_slug_suggests_the_closest(tmp_path):
    write(tmp_path, "one", "a-net")
    with pytest.raises(InputError, match=r"system: found 'a-nte', expected one of a-net\.\n.*did you mean 'a-net'"):
        catalog.find("a-nte", tmp_path)


def test_two_systems_of_one_slug_are_refused(tmp_path):
    write(tmp_path, "one", "a-net")
    write(tmp_path, "two", "a-net")
    with pytest.raises(DataError, match=r"two.py: found the slug 'a-net' of .*one.py"):
        catalog.walk(tmp_path)


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match="none: found no folder"):
        catalog.walk(tmp_path / "none")


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("n = 3\nCARD = Card(slug='a', title='b', summary='c', family='d', n=n)", r"bad.py:2: .*without running it"),
        ("CARD = Card(slug='a', titel='b')", r"bad.py:1: .*titel"),
        ("CARD: Card = dict(slug='a')", "bad.py:1: .*no call of Card"),
        ("CARD = Card(**values)", "bad.py:1"),
        ("x = 1\nCARD = Card(", "bad.py:2: .*expected Python"),
    ],
)
def test_a_card_that_is_no_literal_says_where(tmp_path, source, names):
    path = tmp_path / "bad.py"
    path.write_text(source)
    with pytest.raises(DataError, match=names):
        catalog.read_card(path)


@pytest.mark.parametrize(
    ("old", "new"), [("card = CARD", "pass"), ("class Helper:\n", "class Helper:\n    card = CARD\n")]
)
def test_a_module_must_have_one_class_with_the_card(tmp_path, old, new):
    path = write(tmp_path, "one", "a-net")
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=r"one.py: found .* with card = CARD, expected one class"):
        catalog.load_system("a-net", tmp_path)


def test_importing_a_file_says_what_is_wrong_and_where(tmp_path):
    (tmp_path / "broken.py").write_text("import json\n\njson.loads('{')\n")
    with pytest.raises(DataError, match=r"broken.py:3: found JSONDecodeError"):
        catalog.import_file(tmp_path / "broken.py")
    with pytest.raises(DataError, match="found no such file"):
        catalog.import_file(tmp_path / "none.py")


def test_an_imported_file_may_import_its_neighbours(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "a_neighbour_of_mine.py").write_text("value = 7\n")
    (tmp_path / "mine.py").write_text("from a_neighbour_of_mine import value\n")
    module = catalog.import_file(tmp_path / "mine.py")
    assert module.value == 7
    assert catalog.import_file(tmp_path / "mine.py") is module


def test_every_module_of_the_package_under_systems_has_a_card():
    systems = set(catalog.walk().values())
    claims = {catalog.claims_file(path) for path in systems}
    modules = {p for p in catalog.SYSTEMS.rglob("*.py") if p.name != "__init__.py"} - claims
    for part in modules - systems:  # of a system that is long; the house tells that its neighbours import it
        users = [p for p in systems if p.parent == part.parent and f".{part.stem} import" in p.read_text()]
        assert len(users) == 1, f"{part}: a part without a CARD that {len(users)} systems import"
    assert all(path.parent.name == card.family for card, path in catalog.walk().items())


def test_listing_imports_no_torch():
    code = (
        "import sys; from timecell import catalog, claims; from timecell.claims import ledger; catalog.cards();"
        " sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
