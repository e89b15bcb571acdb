"""The comparison protocol, with small systems of its own: fair, sealed, resumable, and not stopped by one failure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from timecell.compare import Settings, compare
from timecell.compare.plan import trials
from timecell.compare.results import differences
from timecell.compare.store import Store, key
from timecell.data.containers import Sequences
from timecell.errors import InputError, TimecellError
from timecell.system import Card, Run, Scores, Splits


@dataclass(frozen=True)
class Labels:
    """A prediction: one class index a sample."""

    predicted: np.ndarray

    def arrays(self) -> dict[str, Any]:
        return {"predicted": self.predicted}


@dataclass(frozen=True)
class Odd:
    """The task: which class? 60 % train, 20 % validation, 20 % test, in order."""

    others: tuple[Any, ...] = ()
    name: str = "odd"
    needs_whole: str | None = None

    def split(self, data: Sequences, seed: int = 0) -> Splits:
        n = len(data)
        cuts = np.split(np.random.default_rng(seed).permutation(n), [3 * n // 5, 4 * n // 5])
        return Splits(*(data.select(cut) for cut in cuts))

    def score(self, prediction: Labels, data: Sequences) -> Scores:
        correct = (prediction.predicted == data.target).astype(float)
        return Scores(
            {"accuracy": float(correct.mean()), "errors": float((1 - correct).sum())}, "accuracy", True, correct
        )

    def baselines(self) -> list[Any]:
        return list(self.others)


@dataclass(frozen=True)
class Fit:
    guess: Any
    log: Path | None = None
    mapped: bool = False

    def predict(self, data: Sequences) -> Labels:
        if self.log:
            with self.log.open("a") as f:
                f.write(f"predict {data.fingerprint}\n")
        return Labels(self.guess(data))

    @property
    def report(self) -> Mapping[str, Any]:
        return {"mapped": self.mapped, "parameters": np.int64(3), "curves": {"train": ((1, 2.0), (2, float("nan")))}}


@dataclass(frozen=True)
class Noisy:
    """Right with probability `skill`."""

    slug: str = "noisy"
    skill: float = 0.5
    choices: tuple[float, ...] = ()
    family: str = "spiking"
    log: Path | None = None
    pause: float = 0.0

    @property
    def card(self) -> Card:
        return Card(self.slug, f"Title of {self.slug}", "A coin.", self.family)

    def accepts(self, schema: Any, task: Any) -> str | None:
        return None

    def space(self) -> Mapping[str, Sequence[Any]]:
        return {"skill": self.choices} if self.choices else {}

    def fit(self, train: Sequences, valid: Sequences, task: Any, run: Run) -> Fit:
        time.sleep(self.pause)
        if self.log:
            with self.log.open("a") as f:
                f.write(f"fit {self.skill} seed {run.seed} updates {run.updates}\n")

        def guess(data: Sequences) -> np.ndarray:
            right = np.random.default_rng(run.seed).random(len(data)) < self.skill
            return np.where(right, data.target, 1 - data.target)

        return Fit(guess, self.log)


class Picky(Noisy):
    def accepts(self, schema: Any, task: Any) -> str | None:
        return f"it wants 700 channels, not {len(schema.channels)}"


class Crashing(Noisy):
    def fit(self, train: Any, valid: Any, task: Any, run: Run) -> Fit:
        if self.skill > 0.5 or run.seed > 0:
            raise ZeroDivisionError(f"no luck with {self.skill}")
        return super().fit(train, valid, task, run)


class Diverging(Noisy):
    def fit(self, train: Any, valid: Any, task: Any, run: Run) -> Fit:
        return Fit(lambda data: data.target * np.nan)


@dataclass(frozen=True)
class NanOdd(Odd):
    def score(self, prediction: Labels, data: Sequences) -> Scores:
        if np.isnan(prediction.predicted).any():
            return Scores({"accuracy": float("nan")}, "accuracy", True)
        return super().score(prediction, data)


@pytest.fixture(scope="module")
def data() -> Sequences:
    rng = np.random.default_rng(0)
    target = rng.integers(2, size=100)
    return Sequences.of([rng.normal(size=(rng.integers(3, 6), 2)) for _ in target], target)


quick = Settings(seeds=2, trials=3, updates=7, jobs=1, progress=False)


def test_rows_are_ranked_and_hold_what_was_measured(data: Sequences) -> None:
    c = compare(
        data, Odd((Noisy("chance", 0.5, family="baseline"),)), [Noisy("good", 0.9), Noisy("perfect", 1.0)], quick
    )
    assert [r.slug for r in c.rows] == ["perfect", "good", "chance"]
    assert [r.is_baseline for r in c.rows] == [False, False, True]
    best, good, chance = c.rows
    assert best.values == (1.0, 1.0) and best.spread == 0 and best.behind is None
    assert good.metric == np.mean(good.values) and good.metrics["accuracy"] == good.values
    assert len(set(chance.values)) == 2, "refits have different seeds"
    assert chance.spread == np.std(chance.values, ddof=1)
    assert chance.behind.mean == pytest.approx(1 - chance.metric) and chance.behind.distinguishable
    assert c.data["train"], c.data["valid"] == (60, 20)
    assert c.data["test"] == 20 and c.data["fingerprint"] == data.fingerprint
    assert best.report["parameters"] == 3 and c.seconds > 0 and "torch" in c.versions


def test_each_job_gets_the_budget_and_the_best_validation_score_is_refitted(data: Sequences, tmp_path: Path) -> None:
    log = tmp_path / "log"
    settings = replace(quick, seeds=3, trials=10, first_seed=5)
    row = compare(data, Odd(), [Noisy("a", 0.2, (0.2, 0.6, 1.0), log=log)], settings).rows[0]
    fits = [line for line in log.read_text().splitlines() if line.startswith("fit")]
    assert sorted(fits[:3]) == [f"fit {s} seed 5 updates 7" for s in (0.2, 0.6, 1.0)], "a small space is enumerated"
    assert fits[0].startswith("fit 0.2"), "the defaults come first"
    assert fits[3:] == [f"fit 1.0 seed {s} updates 7" for s in (5, 6, 7)]
    assert row.hyperparameters == {"skill": 1.0} and row.valid == 1.0
    assert [t.score for t in row.trials] == sorted(t.score for t in row.trials) or len(row.trials) == 3


def test_the_test_part_is_sealed_until_all_trials_are_over(data: Sequences, tmp_path: Path) -> None:
    log = tmp_path / "log"
    systems = [Noisy(f"s{i}", 0.5, (0.3, 0.5, 0.7), log=log) for i in range(3)]
    compare(data, Odd(), systems, quick)
    splits = Odd().split(data)
    seen = [line.split()[1] for line in log.read_text().splitlines() if line.startswith("predict")]
    assert seen[:9] == [splits.valid.fingerprint] * 9
    assert seen[9:] == [splits.test.fingerprint] * 6, "once a seed, and nothing after"


def test_higher_is_not_always_better(data: Sequences) -> None:
    @dataclass(frozen=True)
    class Errors(Odd):
        def score(self, prediction: Labels, data: Sequences) -> Scores:
            wrong = (prediction.predicted != data.target).astype(float)
            return Scores({"error": float(wrong.mean())}, "error", False, wrong)

    c = compare(data, Errors(), [Noisy("bad", 0.1), Noisy("tuned", 0.1, (0.1, 1.0))], quick)
    assert [r.slug for r in c.rows] == ["tuned", "bad"] and c.rows[0].metric == 0
    assert c.rows[1].behind.low > 0, "positive is worse, whichever way the metric points"


def test_who_does_not_accept_or_raises_is_listed_and_stops_nobody(data: Sequences) -> None:
    systems = [
        Noisy("fine", 0.9),
        Picky("picky"),
        Crashing("one-trial", 0.5, (0.5, 0.9)),
        Crashing("all-trials", 0.9),
        Noisy("no-space", choices=5),  # type: ignore[arg-type]
        Diverging("diverging"),
    ]
    c = compare(data, NanOdd(), systems, quick)
    assert [r.slug for r in c.rows] == ["fine"]
    assert [(r.slug, r.reason) for r in c.rejected] == [("picky", "it wants 700 channels, not 2")]
    failed = {f.slug: f for f in c.failed}
    assert failed["one-trial"].stage == "seed 1", "its first trial worked, a refit did not"
    assert failed["all-trials"].stage == "trial 1" and failed["all-trials"].error.startswith(
        "ZeroDivisionError: no luck"
    )
    assert "in fit" in failed["all-trials"].traceback
    assert failed["no-space"].stage == "before the first trial"
    assert "accuracy is nan" in failed["diverging"].error


def test_a_trial_that_raises_is_not_chosen(data: Sequences) -> None:
    row = compare(data, Odd(), [Crashing("c", 0.5, (0.5, 0.9))], replace(quick, seeds=1)).rows[0]
    assert row.hyperparameters == {"skill": 0.5}
    assert [(t.score is None, t.error) for t in row.trials][1] == (True, "ZeroDivisionError: no luck with 0.9")


def test_if_nobody_can_be_fitted_the_error_says_why(data: Sequences) -> None:
    with pytest.raises(TimecellError, match="picky: it wants 700 channels") as e:
        compare(data, Odd(), [Picky("picky"), Crashing("crash", 0.9)], quick)
    assert "crash: ZeroDivisionError: no luck" in str(e.value)


def test_two_systems_of_one_name_are_refused_and_a_given_baseline_is_not_doubled(data: Sequences) -> None:
    with pytest.raises(InputError, match="systems: found 2 systems called 'a'"):
        compare(data, Odd(), [Noisy("a"), Noisy("a", 0.9)], quick)
    c = compare(data, Odd((Noisy("base", 0.5),)), [Noisy("base", 1.0)], quick)
    assert [(r.slug, r.metric) for r in c.rows] == [("base", 1.0)]


@pytest.mark.parametrize("wrong", [{"seeds": 0}, {"trials": -1}, {"updates": 0}, {"jobs": -2}, {"seconds": 0.0}])
def test_settings_out_of_range_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        Settings(**wrong)


@dataclass(frozen=True)
class Wide(Noisy):
    a: int = 0
    b: int = 0
    grid: tuple[Sequence[int], Sequence[int]] = field(default=(range(3), range(3)))

    def space(self) -> Mapping[str, Sequence[Any]]:
        return dict(zip("ab", self.grid))


@hypothesis_settings(max_examples=50, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 20))
def test_trials_are_distinct_start_with_the_defaults_and_enumerate_a_small_space(n: int, m: int, wanted: int) -> None:
    system = Wide(grid=(range(n), range(m)))
    points = [(j.system.a, j.system.b) for j in trials(system, Settings(trials=wanted))]
    assert points[0] == (0, 0) and len(set(points)) == len(points) == min(n * m, wanted)
    assert points == [(j.system.a, j.system.b) for j in trials(system, Settings(trials=wanted))]


def test_a_huge_space_is_drawn_from_without_being_spelled_out() -> None:
    system = Wide(grid=(range(10**9), range(10**9)))
    assert len({(j.system.a, j.system.b) for j in trials(system, Settings(trials=50))}) == 50


# --- several at a time ----------------------------------------------------------------------------------------------


def test_processes_give_the_same_numbers_as_one(data: Sequences) -> None:
    systems = [Noisy("a", 0.5, (0.3, 0.7)), Crashing("b", 0.9), Noisy("c", 0.8)]
    one, two = (compare(data, Odd(), systems, replace(quick, jobs=jobs)) for jobs in (1, 2))
    timeless = [[replace(r, seconds=0) for r in c.rows] for c in (one, two)]
    assert timeless[0] == timeless[1]
    assert [f.error for f in one.failed] == [f.error for f in two.failed]


class Mapped(Noisy):
    def fit(self, train: Sequences, valid: Any, task: Any, run: Run) -> Fit:
        train.values[0] += 0  # in reach of systems that write: a copy of the page, not of the file
        return replace(super().fit(train, valid, task, run), mapped=isinstance(train.values, np.memmap))


def test_large_data_are_mapped_by_the_workers_not_copied() -> None:
    values = np.random.default_rng(0).normal(size=(100, 40, 100))
    data = Sequences.of(values, np.arange(100) % 2)
    c = compare(data, Odd(), [Mapped("a"), Mapped("b")], replace(quick, jobs=2))
    assert [r.report["mapped"] for r in c.rows] == [True, True]


class Dying(Noisy):
    def fit(self, train: Any, valid: Any, task: Any, run: Run) -> Fit:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_killed_worker_is_an_error_with_a_remedy(data: Sequences) -> None:
    with pytest.raises(TimecellError, match="fewer jobs at a time"):
        compare(data, Odd(), [Dying("d")], replace(quick, jobs=2))


# --- on disk --------------------------------------------------------------------------------------------------------


def test_finished_jobs_are_not_run_again_and_give_the_same_comparison(data: Sequences, tmp_path: Path) -> None:
    log = tmp_path / "log"
    systems = [Noisy("a", 0.5, (0.3, 0.7), log=log), Noisy("b", 0.6, log=log)]
    settings = replace(quick, out=tmp_path / "out")
    first = compare(data, Odd(), systems, settings)
    fits = log.read_text()
    again = compare(data, Odd(), systems, settings)
    assert log.read_text() == fits, "nothing ran"
    assert again.rows == first.rows
    np.testing.assert_array_equal(again.predictions["a"]["predicted"], first.predictions["a"]["predicted"])
    compare(data, Odd(), systems, replace(settings, seeds=3))
    assert log.read_text().removeprefix(fits).count("fit") == 2, "only the third seed of each"
    compare(data, Odd(), systems, replace(settings, updates=8))
    assert log.read_text().count("updates 8") == fits.count("updates 7"), "another budget is another job"


def test_a_damaged_job_file_is_run_again(data: Sequences, tmp_path: Path) -> None:
    log, settings = tmp_path / "log", replace(quick, out=tmp_path / "out")
    first = compare(data, Odd(), [Noisy("a", log=log)], settings)
    for path in (tmp_path / "out/jobs").glob("*.npz"):
        path.write_bytes(path.read_bytes()[:40])
    assert compare(data, Odd(), [Noisy("a", log=log)], settings).rows[0].values == first.rows[0].values
    assert log.read_text().count("fit") == 6


def test_results_are_strict_json_without_the_predictions(data: Sequences, tmp_path: Path) -> None:
    c = compare(data, Odd(), [Noisy("a", 1.0)], replace(quick, out=tmp_path))

    def refuse(name: str) -> None:
        raise AssertionError(name)

    found = json.loads((tmp_path / "results.json").read_text(), parse_constant=refuse)
    assert found == c.to_json()
    assert found["rows"][0]["metric"] == 1.0 and found["rows"][0]["report"]["curves"]["train"] == [[1, 2.0], [2, None]]
    assert found["settings"]["updates"] == 7 and "predictions" not in found
    assert not list(tmp_path.rglob(".*")), "no unfinished files"


def test_the_key_follows_the_source_and_content_of_functions() -> None:
    def build(width: int) -> Any:
        return lambda x: x * width

    assert key(build(3)) == key(build(3)) != key(build(4))
    assert key(Noisy("a")) == key(Noisy("a")) != key(Noisy("b"))
    assert key(Noisy("a")) != key(Crashing("a")), "another class"
    assert key(np.zeros(3)) != key(np.ones(3))
    square, cube = (lambda x: x**2), (lambda x: x**3)
    assert key(square) != key(cube)


def test_the_key_follows_what_a_users_file_and_its_neighbours_say(tmp_path: Path) -> None:
    script = "import sys; from timecell.compare.store import key; sys.path.insert(0, sys.argv[1]); import mine; print(key(mine.A))"

    def key_in_another_process() -> str:
        return subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
        ).stdout  # fmt: skip

    (tmp_path / "mine.py").write_text("from helper import f\nclass A: ...\n")
    (tmp_path / "helper.py").write_text("def f(): return 1\n")
    first = key_in_another_process()
    assert key_in_another_process() == first
    (tmp_path / "helper.py").write_text("def f(): return 2\n")
    assert key_in_another_process() != first


def test_an_unfinished_job_is_not_loaded(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.load("x") is None
    store.save("x", {"value": 1.0}, {"items": np.ones(2)})
    record, arrays = store.load("x")
    assert record == {"value": 1.0} and arrays["items"].tolist() == [1, 1]
    (tmp_path / "x.json").unlink()
    assert store.load("x") is None


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_keeps_what_is_done_and_says_so(jobs: int, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    out = tmp_path / "out"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_compare import *\n"
        "if __name__ == '__main__':\n"
        "    rng = np.random.default_rng(0)\n"
        "    data = Sequences.of(rng.normal(size=(50, 3, 2)), rng.integers(2, size=50))\n"
        f"    systems = [Noisy(f's{{i}}', 0.5, pause=0.2) for i in range(50)]\n"
        f"    compare(data, Odd(), systems, Settings(jobs={jobs}, trials=1, out=Path({str(out)!r})))\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.time() + 60
    while len(list(out.glob("jobs/*.json"))) < 3 and time.time() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does: everybody in the group gets it
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Stopped. Finished jobs are kept in" in errors.replace("\n", " "), errors
    assert len(list(out.glob("jobs/*.json"))) >= 3
    assert not (out / "results.json").exists()


# --- the bootstrap --------------------------------------------------------------------------------------------------


def test_equal_systems_are_not_distinguishable_and_different_ones_are() -> None:
    rng = np.random.default_rng(1)
    best, same, worse = ((rng.random((3, 400)) < p).astype(float) for p in (0.8, 0.8, 0.6))
    none, close, far = differences([best, same, worse], np.arange(400), higher_is_better=True)
    assert (none.mean, none.low, none.high) == (0, 0, 0)
    assert not close.distinguishable and close.low < close.mean < close.high
    assert far.distinguishable and far.mean == pytest.approx(best.mean() - worse.mean())


def test_pairing_sees_a_small_difference_that_spread_over_items_would_hide() -> None:
    rng = np.random.default_rng(0)
    hard = rng.gamma(1.0, 10.0, size=(1, 200)).repeat(2, axis=0)
    assert differences([hard, hard + 0.1], np.arange(200), higher_is_better=False)[1].distinguishable


def test_items_of_a_block_stay_together() -> None:
    rng = np.random.default_rng(0)
    block = np.repeat(np.arange(10), 50)
    noise = rng.normal(size=10)[block][None]
    alone = differences([0 * noise, noise], np.arange(500), higher_is_better=False)[1]
    together = differences([0 * noise, noise], block, higher_is_better=False)[1]
    assert together.high - together.low > 3 * (alone.high - alone.low)


def test_items_that_nobody_observed_have_no_part() -> None:
    a, b = np.ones((2, 6)), np.full((2, 6), 3.0)
    a[:, 2] = b[:, 2] = np.nan
    assert differences([a, b], np.arange(6), higher_is_better=False)[1].mean == 2.0
