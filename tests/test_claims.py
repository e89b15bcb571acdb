"""Claims: statements, the interval and its error rates, confirmation on fresh seeds, terms, the ledger."""

import json
import math
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from timecell.catalog import sources
from timecell.claims import (
    Absent,
    AtChance,
    Evidence,
    Flat,
    Journal,
    Matches,
    Measured,
    NoBetter,
    NonInferior,
    Ordering,
    Outcome,
    Terms,
    Trend,
    Trial,
    calibrate,
    claim,
    ledger,
    quick,
    read_terms,
    verify,
)
from timecell.claims.journal import code_hash
from timecell.claims.packing import pack, unpack
from timecell.claims.verdicts import ERROR, interval, judge, worst
from timecell.errors import DataError, InputError

TERMS = Terms({"new > old": 0.05, "control": 0.05}, (0, 1, 2), date(2026, 1, 31), 3, 12, 60.0)


def correct(rng, accuracy, items=400):
    right = rng.random(items) < accuracy
    return Measured(right.mean(), right, data="test set")


@claim("new > old", source="Table 1", control="coin", shows=Ordering("new", "old"), control_shows=AtChance(0.5))
def clear(trial):
    rng = np.random.default_rng(trial.seed)
    return {arm: correct(rng, 0.5 if trial.control else a) for arm, a in (("new", 0.9), ("old", 0.7), ("wide", 0.8))}


def values(*differences):
    return [{"new": Measured(1 + d), "old": Measured(1)} for d in differences]


# --- statements -------------------------------------------------------------------------------------------------------


def scored(**arms):
    """Three seeds with next to no noise."""
    return [{arm: Measured(v + n * 1e-6 * i) for n, (arm, v) in enumerate(arms.items())} for i in range(3)]


@pytest.mark.parametrize(
    ("statement", "margins", "holds", "short"),
    [
        (Ordering("a", "b", "c"), {"a > b": 1, "b > c": 2}, scored(a=9, b=7, c=4), scored(a=9, b=7, c=6)),
        (Ordering("a", "b", better="lower"), {"a > b": 1}, scored(a=1, b=3), scored(a=3, b=1)),
        (NonInferior("new", "old"), {"new >= old": 1}, scored(new=4.5, old=5), scored(new=3.5, old=5)),
        (NonInferior("new", "old", better="lower"), {"new >= old": 1}, scored(new=5.5, old=5), scored(new=6.5, old=5)),
        (Matches("a", 0.5), {"tolerance": 0.1}, scored(a=0.55), scored(a=0.35)),
        (Trend("a", "b", "c", direction="rises"), {"slope": 1}, scored(a=0, b=3, c=2.5), scored(a=0, b=3, c=1)),
        (Trend("a", "b", direction="falls"), {"slope": 1}, scored(a=4, b=2), scored(a=2, b=4)),
        (Flat("a", "b", "c"), {"difference": 1}, scored(a=0, b=0.5, c=0.9), scored(a=0, b=0.5, c=1.2)),
    ],
)
def test_statements(statement, margins, holds, short):
    assert set(statement.margins) == set(margins)
    assert judge(statement, margins, holds).verdict == "holds"
    assert judge(statement, margins, short).verdict == "falls short"


def test_the_interval_straddling_the_margin_is_undecided():
    judgement = judge(Ordering("new", "old"), {"new > old": 0.05}, values(0.02, 0.1, 0.09))
    assert judgement.verdict == "undecided"
    (finding,) = judgement.findings
    assert finding.low < 0.05 < finding.mean < finding.high


def test_one_arm_that_falls_short_is_enough_and_one_open_one_too_many():
    assert worst(["holds", "undecided", "falls short"]) == "falls short"
    assert worst(["holds", "undecided", "holds"]) == "undecided"


def test_arms_must_be_two_different_ones():
    with pytest.raises(InputError, match=r"arms: found \('a', 'a'\)"):
        Ordering("a", "a")


def test_a_measurement_that_cannot_be_judged_is_refused():
    with pytest.raises(InputError, match="value: found nan"):
        Measured(math.nan)
    with pytest.raises(InputError, match=r"items: found a mean of 0.5, expected the value, 0.9"):
        Measured(0.9, np.array([0, 1]))
    with pytest.raises(InputError, match=r"extra: found .*not JSON serializable"):
        Measured(0.9, extra={"curve": np.ones(2)})


# --- the interval -----------------------------------------------------------------------------------------------------

tables = arrays(float, st.tuples(st.integers(2, 6), st.integers(2, 8)), elements=st.floats(-1, 1, width=16))


@given(tables, st.randoms())
def test_the_order_of_seeds_and_items_does_not_matter(d, random):
    seeds, items = list(range(d.shape[0])), list(range(d.shape[1]))
    random.shuffle(seeds)
    random.shuffle(items)
    mixed = d[seeds][:, items]
    np.testing.assert_allclose(interval(mixed.mean(axis=1), mixed), interval(d.mean(axis=1), d), atol=1e-12)


@given(tables, st.floats(-5, 5), st.floats(0.1, 10))
def test_the_interval_moves_and_stretches_with_the_data(d, shift, scale):
    e = scale * d + shift
    expected = scale * np.array(interval(d.mean(axis=1), d)) + shift
    np.testing.assert_allclose(interval(e.mean(axis=1), e), expected, atol=1e-9)


@given(tables)
def test_turning_a_contrast_round_mirrors_the_interval(d):
    mean, low, high = interval(d.mean(axis=1), d)
    np.testing.assert_allclose(interval(-d.mean(axis=1), -d), (-mean, -high, -low), atol=1e-12)


@given(tables, st.floats(0.001, 0.2))
def test_a_stricter_level_and_a_shared_test_set_never_narrow_it(d, error):
    mean, low, high = interval(d.mean(axis=1), d, error)
    assert low <= mean <= high
    assert interval(d.mean(axis=1), d, error / 2)[1] <= low
    assert interval(d.mean(axis=1), None, error)[1] >= low


def test_a_single_seed_bounds_nothing():
    assert interval(np.array([3.0])) == (3.0, -math.inf, math.inf)


def test_without_items_it_is_the_paired_t_interval():
    from scipy.stats import ttest_1samp

    d = np.array([0.3, 0.5, 0.1, 0.4])
    expected = ttest_1samp(d, 0).confidence_interval(1 - 2 * ERROR)
    np.testing.assert_allclose(interval(d)[1:], (expected.low, expected.high))


def test_items_not_observed_are_left_out():
    d = np.random.default_rng(0).normal(size=(3, 9))
    with_gap = np.column_stack([d, [np.nan, 1.0, 1.0]])
    assert interval(d.mean(axis=1), with_gap) == interval(d.mean(axis=1), d)


def test_a_test_set_shared_by_all_seeds_widens_the_interval_by_its_items():
    rng = np.random.default_rng(0)
    items = rng.normal(size=500)
    d = items + rng.normal(scale=0.01, size=(8, 500))
    mean, low, _ = interval(d.mean(axis=1), d)
    assert (mean - low) / 1.895 == pytest.approx(1 / math.sqrt(500), rel=0.1)  # t(0.95, 7) = 1.895


def simulated(rng, seeds, items, spread, gain, shared):
    """Differences [seeds, items] in correct answers of two arms; items differ in how hard they are."""
    right = []
    for better in (gain, 0.0):
        hard = rng.uniform(-0.15, 0.15, size=(1 if shared else seeds, items))
        accuracy = 0.7 + better + spread * rng.normal(size=(seeds, 1)) - hard
        right.append(rng.random((seeds, items)) < accuracy)
    return right[0].astype(float) - right[1]


def rates(looks, margin, cases=400, **how):
    """Shares of "holds" and "falls short" when seeds are added while the verdict is open."""
    rng = np.random.default_rng(0)
    count = {"holds": 0, "falls short": 0, "undecided": 0}
    for _ in range(cases):
        d = simulated(rng, looks[-1], **how)
        for n in looks:
            seen = [{"new": Measured(s.mean() + 1, s + 1), "old": Measured(1, np.ones(len(s)))} for s in d[:n]]
            verdict = judge(Ordering("new", "old"), {"new > old": margin}, seen, ERROR / len(looks)).verdict
            if verdict != "undecided":
                break
        count[verdict] += 1
    return count["holds"] / cases, count["falls short"] / cases


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("spread", [0.01, 0.03])
@pytest.mark.parametrize("looks", [[3], [3, 6, 12]])
def test_without_an_effect_it_holds_in_at_most_five_percent(looks, spread, shared):
    holds, _ = rates(looks, 0.0, items=200, spread=spread, gain=0.0, shared=shared)
    assert holds < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)
    holds, short = rates(looks, 0.04, items=200, spread=spread, gain=0.04, shared=shared)  # the effect is the margin
    assert max(holds, short) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_an_effect_of_twice_the_margin_is_found():
    holds, short = rates(TERMS.looks, 0.03, cases=100, items=1000, spread=0.01, gain=0.06, shared=False)
    assert holds > 0.8
    assert short == 0


# --- confirmation -----------------------------------------------------------------------------------------------------


def test_a_clear_effect_holds_on_fresh_seeds_with_its_control():
    lines = []
    outcome = verify(clear, TERMS, say=lines.append)
    assert (outcome.verdict, outcome.shown.verdict, outcome.control.verdict) == ("holds",) * 3
    assert outcome.shown.seeds[:3] == (100, 101, 102)
    assert outcome.shown.measured[0]["wide"].value > 0.7, "arms beyond the statement are reported beside"
    assert lines[0].startswith("clear, seed 100: new 0.9")
    assert lines[-1].startswith(f"clear, control, seed {outcome.control.seeds[-1]}: new 0.")


def measuring(function, **how):
    options = {"shows": Ordering("new", "old"), "control_shows": Absent()}
    return claim("new > old", source="here", control="none", **{**options, **how})(function)


def test_seeds_are_doubled_while_the_verdict_is_open():
    noisy = measuring(lambda t: {"new": Measured(0.06 + 0.2 * (-1) ** t.seed), "old": Measured(0)})
    outcome = verify(noisy, replace(TERMS, margins={"new > old": 0.05}))
    assert outcome.verdict == "undecided"
    assert len(outcome.shown.seeds) == 12
    assert outcome.shown.judgement.error == pytest.approx(ERROR / 3), "three looks share the level"


def test_an_effect_that_the_control_shows_too_falls_short():
    both = measuring(lambda t: {"new": Measured(0.1 + 1e-6 * t.seed), "old": Measured(0)})
    outcome = verify(both, replace(TERMS, margins={"new > old": 0.05}))
    assert (outcome.shown.verdict, outcome.control.verdict, outcome.verdict) == ("holds", "falls short", "falls short")


def test_a_control_off_chance_falls_short():
    leaky = replace(clear, control_shows=AtChance(0.8))
    assert verify(leaky, TERMS).verdict == "falls short"


@pytest.mark.parametrize(("value", "verdict"), [(-9.0, "holds"), (0.04, "holds"), (0.3, "falls short")])
def test_a_control_may_be_below_a_level_but_not_above(value, verdict):
    def told(trial):
        noise = 1e-6 * trial.seed
        return {"new": Measured(noise + (value if trial.control else 1.0)), "old": Measured(noise)}

    one = replace(measuring(told), control_shows=NoBetter(0.0))
    assert verify(one, TERMS).control.verdict == verdict


def test_when_time_is_up_the_verdict_is_open():
    outcome = verify(clear, replace(TERMS, seconds=1e-9))
    assert outcome.verdict == "undecided"
    assert outcome.shown.out_of_time
    assert outcome.shown.judgement is None


def test_worker_processes_measure_the_same():
    here, there = verify(clear, TERMS), verify(clear, TERMS, jobs=2)
    assert [a["new"].value for a in here.shown.measured] == [a["new"].value for a in there.shown.measured]


def test_confirmation_and_calibration_seeds_never_meet():
    with pytest.raises(InputError, match=r"seeds: found \[99\], expected 100 or more"):
        Outcome("clear", Evidence((99,), (clear(Trial(99)),), None), Evidence((), (), None), 1.0)
    with pytest.raises(InputError, match="seeds: found 101, expected 2 to 100"):
        calibrate(clear, seeds=101)
    with pytest.raises(InputError, match="0 to 98"):
        calibrate(clear, seeds=2, first=99)
    assert calibrate(clear, seeds=2, first=40)[0].seeds == (40, 41)
    shown, control = calibrate(clear, seeds=2)
    assert shown.seeds == control.seeds == (0, 1)
    assert shown.judgement.findings[0].mean == pytest.approx(0.2, abs=0.05)


def test_quick_runs_claim_and_control_at_their_smallest():
    asked = []
    quick(measuring(lambda t: asked.append(t) or {"new": Measured(1), "old": Measured(0)}))
    assert sorted((t.control, t.quick) for t in asked) == [(False, True), (True, True)]
    assert all(t.seed < 100 for t in asked), "confirmation seeds are not looked at"


def test_margins_must_be_those_of_the_claim():
    with pytest.raises(
        InputError, match=r"margins of clear: found \['new > old'\], expected exactly \['control', 'new > old'\]"
    ):
        verify(clear, replace(TERMS, margins={"new > old": 0.05}))


def test_arms_that_are_missing_or_not_paired_are_refused():
    with pytest.raises(InputError, match="arm 'old' of claim"):
        quick(measuring(lambda t: {"new": Measured(1), "odl": Measured(0)}))
    with pytest.raises(InputError, match="expected the same test items for every arm"):
        quick(measuring(lambda t: {"new": Measured(1, data="a"), "old": Measured(0, data="b")}))


# --- a verification that is killed ------------------------------------------------------------------------------------


MEASURED: list = []


def breaks_at(seed):
    @claim("new > old", source="Table 1", control="coin", shows=Ordering("new", "old"), control_shows=AtChance(0.5))
    def clear(trial):
        MEASURED.append((trial.seed, trial.control))
        if (trial.seed, trial.control) == seed:
            raise KeyboardInterrupt
        rng = np.random.default_rng(trial.seed)
        return {arm: correct(rng, 0.5 if trial.control else a) for arm, a in (("new", 0.9), ("old", 0.7))}

    return clear


@pytest.mark.parametrize("at", [(101, False), (102, True)])
def test_finished_seeds_are_not_lost(tmp_path, at):
    MEASURED.clear()
    path = tmp_path / "unfinished" / "a.jsonl"
    whole = verify(breaks_at(None), TERMS)
    every = list(MEASURED)
    MEASURED.clear()
    with pytest.raises(KeyboardInterrupt):
        verify(breaks_at(at), TERMS, journal=Journal(path, "code"))
    first = list(MEASURED)
    MEASURED.clear()
    said = []
    journal = Journal(path, "code")
    assert journal.seconds > 0
    again = verify(breaks_at(None), TERMS, say=said.append, journal=journal)
    assert first[:-1] + MEASURED == every and sum("measured before" in line for line in said) == len(first) - 1
    assert again.shown.judgement == whole.shown.judgement and again.control.judgement == whole.control.judgement
    assert again.seconds >= journal.seconds
    journal.close()
    assert not path.exists() and Journal(path, "code").get(Trial(100)) is None


def test_a_journal_of_other_code_or_cut_off_is_not_used(tmp_path):
    path, arms = tmp_path / "a.jsonl", {"new": Measured(1.0, np.ones(3), data="d")}
    Journal(path, "old").add(Trial(100), arms, 1.0)
    journal = Journal(path, "new")
    assert journal.get(Trial(100)) is None and journal.seconds == 0
    journal.add(Trial(100, control=True), arms, 2.0)
    path.write_bytes(path.read_bytes()[:-30])
    cut = Journal(path, "new")
    assert cut.get(Trial(100, control=True)) is None
    cut.add(Trial(101), arms, 3.0)
    found = Journal(path, "new")
    assert found.get(Trial(101))["new"].items.tolist() == [1, 1, 1] and found.get(Trial(101, control=True)) is None


def test_any_change_of_the_code_counts_in_a_journal(tmp_path):
    module, beside = tmp_path / "mine.py", tmp_path / "claims" / "mine.py"
    beside.parent.mkdir()
    hashes = []
    for file, text in ((module, "a = 1"), (module, "a = 2"), (beside, "b = 1"), (beside, "b = 2")):
        file.write_text(text)
        hashes.append(code_hash(module))
        assert code_hash(module) == hashes[-1]
    assert len(set(hashes)) == 4


# --- terms ------------------------------------------------------------------------------------------------------------

TABLE = """
[clear]
calibrated_on = [0, 1, 2]
date = 2026-01-31
seeds = 3
max_seeds = 12
seconds = 60.0
margins = { "new > old" = 0.05, control = 0.05 }
"""


def test_terms_are_read_from_toml(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TABLE)
    assert read_terms(path, "clear") == TERMS
    assert TERMS.looks == [3, 6, 12]
    assert replace(TERMS, max_seeds=8).looks == [3, 6, 8]


def test_a_confirmation_may_begin_with_seeds_that_nobody_has_seen(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TABLE.replace("seconds", "first = 200\nseconds"))
    later = read_terms(path, "clear")
    assert later == replace(TERMS, first=200) and later.hash != TERMS.hash
    assert verify(clear, later).shown.seeds == (200, 201, 202)


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("[0, 1, 2]", "[0, 100]", r"\[clear\], calibrated_on: found \[0, 100\], expected seeds from 0 to 99"),
        ("2026-01-31", '"lately"', "date: found 'lately', expected a date"),
        ("seeds = 3", "seeds = 1", "seeds: found 1, expected a whole number >= 2"),
        ("seeds = 12", "seeds = 2", "max_seeds: found 2, expected a whole number >= seeds"),
        ("60.0", "inf", "seconds: found inf"),
        ("seconds", "first = 99\nseconds", "first: found 99, expected a whole number >= 100"),
        ("0.05,", "-0.05,", "margins: found .*, expected numbers >= 0"),
        ("seeds = 3", "", "found no 'seeds'"),
        ("seeds = 3", "seeds = 3\nmargn = 1", "found 'margn', expected one of margins, "),
        ("[clear]", "[clear", "expected TOML"),
        ("[clear]", "[unclear]", r"found no table \[clear\].*\n.*timecell calibrate"),
        ("[clear]", "all = 3\n[clear]", "found all = 3, expected tables only"),
    ],
)
def test_bad_terms_say_what_is_wrong(tmp_path, old, new, names):
    path = tmp_path / "mine.toml"
    path.write_text(TABLE.replace(old, new, 1))
    with pytest.raises(DataError, match=names) as caught:
        read_terms(path, "clear")
    assert str(path) in str(caught.value)


def test_missing_terms_say_how_to_make_them(tmp_path):
    with pytest.raises(DataError, match=r"no such file.*\n.*timecell calibrate"):
        read_terms(tmp_path / "mine.toml", "clear")


# --- the ledger -------------------------------------------------------------------------------------------------------


@pytest.fixture
def record():
    return ledger.Record.of("mine", verify(clear, TERMS), "code", TERMS.hash)


def test_every_interval_can_be_computed_again(tmp_path, record):
    path = tmp_path / "folder" / "ledger.jsonl"
    ledger.append(path, record)
    ledger.append(path, record)
    first, second = ledger.read(path)
    assert first.to_json() == second.to_json() == record.to_json()
    shown, control = first.outcome.shown, first.outcome.control
    assert judge(clear.shows, TERMS.margins, shown.measured, shown.judgement.error) == shown.judgement
    again = clear.control_shows.judge(clear.shows, TERMS.margins, control.measured, control.judgement.error)
    assert again == control.judgement
    assert len(path.read_bytes().splitlines()[0]) < 10_000


@given(arrays(np.float32, st.integers(0, 50), elements=st.floats(width=32)) | arrays(np.bool_, st.integers(0, 50)))
def test_items_survive_packing(items):
    items = items.astype(np.float32)
    np.testing.assert_array_equal(unpack(pack(items)), items)


def test_a_line_that_was_cut_off_is_reported_and_does_no_harm(tmp_path, record):
    path = tmp_path / "ledger.jsonl"
    ledger.append(path, record)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:500])
    with pytest.warns(UserWarning, match=r"ledger.jsonl, line 2: cut off"):
        assert len(ledger.read(path)) == 1
    ledger.append(path, record)
    with pytest.warns(UserWarning, match="line 2"):
        assert len(ledger.read(path)) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda r: r.pop("code"),
        lambda r: r["shown"]["trials"][0]["arms"]["new"].update(items="bits:900:AAAA"),
        lambda r: r["shown"]["trials"][0].update(seed=7),
        lambda r: r["control"].update(trials=3),
    ],
)
def test_a_whole_line_that_is_no_record_is_an_error(tmp_path, record, damage):
    path = tmp_path / "ledger.jsonl"
    ledger.append(path, record)
    values = json.loads(path.read_text())
    damage(values)
    with path.open("a") as file:
        file.write(json.dumps(values) + "\n")
    with pytest.raises(DataError, match=r"ledger.jsonl, line 2: found"):
        ledger.read(path)


def test_a_verdict_about_other_code_or_other_margins_is_stale(record):
    now = "mine", "clear", "code", TERMS.hash
    assert ledger.standing([record], *now)[0] == "holds"
    assert ledger.standing([record], "mine", "clear", "changed", TERMS.hash) == ("stale", record)
    assert ledger.standing([record], "mine", "clear", "code", replace(TERMS, seeds=4).hash)[0] == "stale"
    assert ledger.standing([record], "mine", "other", "code", TERMS.hash) == ("not verified", None)
    newer = replace(record, code="changed", time="9999")
    assert ledger.standing([record, newer], *now) == ("holds", record), "the record that fits counts, not the last"


HEAD = '''"""An idea."""

import math
'''
CODE = '''
class Net:
    """A net."""

    width: int = 4
    """In units."""

    def rate(self):
        """Per second."""
        return f"{math.pi:.{self.width}f}"
'''
SHOWN = """
SEEDS = (1, None)


@claim("rates rise", source="p. 1", control="flat", shows=Ordering("b", "a"), control_shows=Absent())
def rises(trial):
    return {"a": 0.0, "b": 1.0}
"""


def test_what_the_code_does_is_the_same_in_one_file_and_in_two(tmp_path):
    module, beside = tmp_path / "mine.py", tmp_path / "claims" / "mine.py"
    module.write_text(HEAD + CODE + SHOWN)
    whole = ledger.hash_of(module)
    beside.parent.mkdir()
    module.write_text(HEAD + CODE)
    beside.write_text("from ..mine import Net\n" + SHOWN)
    assert ledger.hash_of(module) == whole
    beside.write_text("from ..mine import Net\n" + SHOWN.replace("0.0", "0.5"))
    assert ledger.hash_of(module) != whole


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("An idea.", "Another idea."),
        ("A net.", "A network."),
        ("In units.", "A count."),
        ("Per second.", "Per hour."),
        ("import math", "import math  # the constant"),
        ("(1, None)", "(\n    1,  # the first\n    None,\n)"),
    ],
)
def test_words_do_not_change_what_the_code_does(tmp_path, old, new):
    module, text = tmp_path / "mine.py", HEAD + CODE + SHOWN
    module.write_text(text)
    before = ledger.hash_of(module)
    module.write_text(text.replace(old, new))
    assert module.read_text() != text and ledger.hash_of(module) == before


@pytest.mark.parametrize(
    ("old", "new"),
    [("= 4", "= 5"), ("= 4", "= 4.0"), (".pi", ".e"), ("None", "0"), ("rises", "falls"), ("p. 1", "p. 2"),
     ("{math", "{1 * math"), ("self.width}f", "self.width}g")],
)  # fmt: skip
def test_code_changes_what_the_code_does(tmp_path, old, new):
    module, text = tmp_path / "mine.py", HEAD + CODE + SHOWN
    module.write_text(text)
    before = ledger.hash_of(module)
    module.write_text(text.replace(old, new))
    assert ledger.hash_of(module) != before


def test_files_that_a_system_is_made_of_belong_to_its_code(tmp_path):
    module, part, claims = tmp_path / "mine.py", tmp_path / "parts.py", tmp_path / "claims" / "mine.py"
    claims.parent.mkdir()
    (tmp_path / "stranger.py").write_text("x = 1")
    part.write_text("from more import B\nA = 1")
    (tmp_path / "more.py").write_text("B = 1")
    module.write_text("from parts import A\n" + HEAD + CODE)
    claims.write_text("from ..mine import Net\n" + SHOWN)
    assert {path.name for path in sources(module)} == {"mine.py", "parts.py", "more.py"} and len(sources(module)) == 4
    before = ledger.hash_of(module)
    part.write_text("from more import B\nA = 2")
    assert ledger.hash_of(module) != before


def test_the_hash_of_what_the_code_does_is_alike_in_every_python(tmp_path):
    (tmp_path / "mine.py").write_text(HEAD + CODE + SHOWN)
    assert ledger.hash_of(tmp_path / "mine.py") == "3088c9665f588ac6"  # the verdicts that ship hold under each of them


def test_a_ledger_that_cannot_be_written_is_known_beforehand(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="--ledger"):
        ledger.require_writable(tmp_path / "file" / "ledger.jsonl")
    assert ledger.read(tmp_path / "none.jsonl") == []
