"""What several claims share is measured once a trial."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from timecell.claims import Absent, Measured, Ordering, Terms, Trial, claim, experiment, verify


def counting() -> tuple[list[Trial], object]:
    asked: list[Trial] = []

    @experiment
    def drawn(trial: Trial) -> Mapping[str, np.ndarray]:
        asked.append(trial)
        return {"values": np.full(3, trial.seed, dtype=float)}

    return asked, drawn


@pytest.mark.parametrize("on_disk", [False, True])
def test_it_is_run_once_a_trial(tmp_path, on_disk):
    asked, drawn = counting()
    trial = Trial(7, folder=tmp_path / "shared" if on_disk else None)
    others = [replace(trial, seed=8), replace(trial, control=True), replace(trial, quick=True)]
    for each in [trial, *others, trial, *others]:
        assert drawn(each)["values"].tolist() == [each.seed] * 3
    assert len(asked) == 4


def test_settings_tell_runs_apart(tmp_path):
    asked = []

    @experiment
    def fitted(trial: Trial, arm: str, lr: float = 0.1) -> Mapping[str, np.ndarray]:
        asked.append((arm, lr))
        return {"lr": np.array(lr)}

    for folder in (None, tmp_path):
        trial = Trial(3, folder=folder)
        found = [fitted(trial, "net"), fitted(trial, "net", lr=0.1), fitted(trial, "net", 0.2), fitted(trial, "other")]
        assert [float(f["lr"]) for f in found] == [0.1, 0.1, 0.2, 0.1]
    assert asked == [("net", 0.1), ("net", 0.2), ("other", 0.1)] * 2


def test_a_kill_while_writing_costs_the_experiment_and_nothing_else(tmp_path):
    asked, drawn = counting()
    trial = Trial(7, folder=tmp_path)
    (tmp_path / "drawn-7.npz.4711").write_bytes(b"half of a fi")
    assert drawn(trial)["values"].tolist() == [7, 7, 7] and len(asked) == 1


def test_two_claims_in_worker_processes_get_the_same(tmp_path):
    def told(trial: Trial) -> Mapping[str, Measured]:
        value = float(noise(trial)["value"])
        return {"two": Measured(value + (0 if trial.control else 1)), "one": Measured(value)}

    @experiment
    def noise(trial: Trial) -> Mapping[str, np.ndarray]:
        return {"value": np.array(np.random.default_rng().normal())}  # another value each time that it is run

    parts = [
        claim("more", source="p. 1", control="not", shows=Ordering("two", "one"), control_shows=Absent())(told)
        for _ in range(2)
    ]
    terms = Terms({"two > one": 0.5}, (0,), date(2026, 1, 31), 3, 3, 60.0)
    first, second = (verify(part, terms, jobs=2, folder=tmp_path) for part in parts)
    assert first.verdict == second.verdict == "holds"
    assert [a["one"].value for a in first.shown.measured] == [a["one"].value for a in second.shown.measured]
