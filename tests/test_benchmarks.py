"""The benchmark runner: what a case that fails does to the others, what a ratio is, when a target is met. No real timing."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks are beside the package, not in it

from benchmarks import __main__ as bench  # noqa: E402
from benchmarks import picture, report  # noqa: E402
from benchmarks.side_by_side import Case, Figure, Measurement, Pythons, Target, figures  # noqa: E402

TOY = """
import os
from benchmarks.side_by_side import Case, Figure, Target

def counting(values):
    return lambda: lambda: {"sum": [sum(values) for _ in range(2)]}

def broken():
    raise ValueError("no such unit\\nsecond line")

def chatty():
    print("a library that greets")
    return counting([1, 2])()

def dying():
    passes = []
    def one_pass():
        passes.append(1)
        if len(passes) > 3:
            os._exit(7)
        return {"sum": 3}
    return one_pass

FIGURES = (
    Figure("toy", "a toy", (
        Case("ours", counting([1, 2]), kind="ours"),
        Case("same", chatty, exact=True),
        Case("other", counting([1, 3]), exact=True),
        Case("missing", counting([1, 2]), needs=("no_such_package",)),
        Case("broken", broken),
        Case("dying", dying),
    ), (Target("same", at_least=1e-6), Target("missing", at_least=2))),
)
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    (tmp_path / "toy_figure.py").write_text(TOY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    import toy_figure

    yield toy_figure.FIGURES[0]
    del sys.modules["toy_figure"]


def test_cases_that_fail_are_rows_with_a_reason_and_the_others_go_on(toy):
    said = []
    measurement = Measurement("toy_figure", toy, 1, Pythons(), said.append)
    measurement.run(2)
    rows = measurement.rows
    for name in ("ours", "same"):
        assert len(rows[name]["cpu"]) == len(rows[name]["wall"]) == 2
        assert rows[name]["result"] == {"sum": 3.0}
        assert rows[name]["memory"] is None or rows[name]["memory"] >= 0
    assert rows["missing"]["failed"] == "ModuleNotFoundError: No module named 'no_such_package'"
    assert rows["broken"]["failed"] == "ValueError: no such unit"
    assert "mean |sum| 4, ours 3" in rows["other"]["failed"]
    assert "status 7" in rows["dying"]["failed"]
    assert all(worker.process.returncode is not None for worker in measurement.workers.values())
    assert "round 2 of 2" in said


def test_an_interrupt_keeps_the_rounds_that_are_complete(toy):
    def tell(line):
        if line == "round 2 of 9":
            raise KeyboardInterrupt

    measurement = Measurement("toy_figure", toy, 1, Pythons(), tell)
    with pytest.raises(KeyboardInterrupt):
        measurement.run(9)
    assert len(measurement.rows["ours"]["cpu"]) == 2
    assert all(worker.process.returncode is not None for worker in measurement.workers.values())


# --- ratios and targets ---------------------------------------------------------------------------------------------

FIGURE = Figure(
    "f", "work", (Case("ours", None, kind="ours"), Case("peer", None), Case("floor", None, kind="floor")),
    (Target("peer", at_least=2), Target("floor", at_most=2), Target("peer", at_least=4, of="memory"), Target("floor", above=20e-6)),
)  # fmt: skip


def rows(ours=(1.0, 2.0, 3.0), peer=(4.0, 6.0, 6.0), floor=(1.0, 1.0, 1.0)):
    made = {"ours": (ours, 10.0), "peer": (peer, 50.0), "floor": (floor, None)}
    return {name: {"cpu": list(t), "wall": list(t), "memory": m, "result": {}} for name, (t, m) in made.items()}


def test_ratios_are_formed_within_a_round():
    found = report.ratio(rows(), "peer", "ours", "cpu")
    assert (found.median, found.lowest, found.highest) == (3.0, 2.0, 4.0)
    assert report.ratio(rows(), "peer", "ours", "memory").median == 5.0
    assert report.ratio(rows(), "peer", "floor", "memory") is None


@pytest.mark.parametrize(
    ("target", "text", "met"),
    [
        (Target("peer", at_least=3), "≥ 3 × as fast as peer", True),
        (Target("peer", at_least=3.1), "≥ 3.1 × as fast as peer", False),
        (Target("floor", at_most=2), "≤ 2 × the time of floor", True),
        (Target("floor", at_most=1.9), "≤ 1.9 × the time of floor", False),
        (Target("floor", at_most=4, subject="peer"), "peer: ≤ 4 × the time of floor", False),
        (Target("floor", above=1.0), "≤ 1 s above floor", True),
        (Target("floor", above=20e-6), "≤ 20 µs above floor", False),
        (Target("peer", at_least=5, of="memory"), "≥ 5 × smaller in memory than peer", True),
        (Target("peer", at_most=0.1, of="memory"), "≤ 0.1 × the memory of peer", False),
        (Target("absent", at_least=1), "≥ 1 × as fast as absent", None),
    ],
)
def test_a_target_is_judged_by_the_median(target, text, met):
    verdict = report.judge(FIGURE, target, rows(), "cpu")
    assert (verdict.target, verdict.met) == (text, met)
    assert (verdict.measured == report.MISSING) == (met is None)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=9), st.floats(1.5, 9))
def test_load_that_slows_a_whole_round_leaves_ratios_alone(load, factor):
    slowed = rows(load, [factor * second for second in load], load)
    found = report.ratio(slowed, "peer", "ours", "cpu")
    assert found.lowest == pytest.approx(factor) and found.highest == pytest.approx(factor)


def test_the_tables_have_every_case_and_every_target():
    measured = {"f": {"threads": {"1": rows()}}}
    cases = report.case_table(FIGURE, measured["f"])
    assert "**ours**" in cases and "| 3 (2–4)" in cases and "unknown" in cases
    targets = report.target_table([FIGURE], measured).splitlines()
    assert len(targets) == 2 + len(FIGURE.targets)
    assert "| met" in targets[2] and "**not met**" in targets[-1]


def test_publishing_keeps_what_other_figures_have(tmp_path, toy, monkeypatch):
    monkeypatch.setattr(bench, "figures", lambda only="": [("m", FIGURE), ("toy_figure", toy)])
    found = {"date": "2030-01-01T00:00:00", "machine": bench.machine()}
    toys = {case.name: {"kind": case.kind, "failed": "not today"} for case in toy.cases}
    folder = tmp_path / "speed"
    bench.publish({"f": found | {"threads": {"1": rows()}}}, folder)
    bench.publish({"toy": found | {"threads": {"1": toys | {"ours": rows()["ours"]}}}}, folder)
    assert set(json.loads((folder / "results.json").read_text())) == {"f", "toy"}
    assert {p.name for p in folder.iterdir()} == {"results.json", "tables.md", "f.png", "toy.png"}
    tables = (folder / "tables.md").read_text()
    assert "## work" in tables and "## a toy" in tables and "not today" in tables and "?" in tables


def test_marks_say_how_far_a_bar_must_reach():
    spent = {name: report.Spread.of([1e3 * s for s in row["cpu"]]) for name, row in rows().items()}
    assert dict(picture.marks(FIGURE, spent)) == {"peer": 4000.0, "ours": 1000.02}


# --- what is declared -----------------------------------------------------------------------------------------------


def test_every_figure_is_well_declared():
    declared = [figure for _, figure in figures()]
    assert len({figure.name for figure in declared}) == len(declared) > 0
    for figure in declared:
        names = [case.name for case in figure.cases]
        assert len(set(names)) == len(names)
        assert figure.cases[0].kind == "ours"
        for target in figure.targets:
            assert {target.against, target.subject or names[0]} <= set(names), (figure.name, target)
            assert sum(limit is not None for limit in (target.at_least, target.at_most, target.above)) == 1


def test_a_name_that_no_figure_has_is_answered_with_those_there_are(capsys):
    assert bench.Bench(only="no such").run() == 2
    assert "lif-hard" in capsys.readouterr().err


def test_a_python_that_is_not_there_is_named(capsys):
    assert bench.Bench(only="lif", peers="/nowhere/bin/python").run() == 2
    assert "/nowhere/bin/python" in capsys.readouterr().err
