"""The command line: what it prints, what it returns, and what it says when something is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from test_catalog import SYSTEM
from timecell import cli
from timecell.claims import ledger

TERMS = """
[better]
calibrated_on = [0, 1, 2]
date = 2026-01-31
seeds = 2
max_seeds = 4
seconds = 60
margins = { "b > a" = 0.5 }
"""
NEURON = """
import timecell as tc


class Leak(tc.Neuron):
    v: tc.State
    decay = tc.param(0.9, unit="1/step", range=(0, 1))

    @staticmethod
    def dynamics(x, s, p):
        v = p.decay * s.v + x
        return v, s._replace(v=v)


class Backwards(tc.Cell):
    pass


text = "no class"
"""


@pytest.fixture
def mine(tmp_path):
    """Options that point to a folder with one system, and to a ledger of its own."""
    module = tmp_path / "systems" / "spiking" / "a_net.py"
    module.parent.mkdir(parents=True)
    module.write_text(SYSTEM.format(slug="a-net", family="spiking"))
    module.with_suffix(".toml").write_text(TERMS)
    return "--root", tmp_path / "systems", "--ledger", tmp_path / "ledger.jsonl"


def module_of(mine):
    return mine[1] / "spiking" / "a_net.py"


# --- the frame --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_alone_it_says_what_there_is(call, arguments):
    status, out, _ = call(*arguments)
    assert status == 0
    assert all(f"timecell {name} " in out for name in cli.commands())
    assert max(map(len, out.splitlines())) <= 120


def test_version(call):
    import timecell

    assert call("--version") == (0, f"timecell {timecell.__version__}\n", "")


@pytest.mark.parametrize("name", list(cli.commands()))
def test_every_command_has_help_with_an_example(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"\n    timecell {name}" in text
    assert "--json" in text
    undocumented = [
        field for field in cli.commands()[name].__dataclass_fields__ if f"    {field}: " not in documented(name)
    ]
    assert undocumented == []


def documented(name):
    return "\n".join(cls.__doc__ or "" for cls in cli.commands()[name].__mro__)


def test_an_unknown_command_suggests_the_closest(call):
    status, out, err = call("sytems")
    assert (status, out) == (2, "")
    assert "command: found 'sytems'" in err
    assert "did you mean 'systems'?" in err


def test_a_wrong_option_is_a_user_error(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["systems", "--jsno"])
    assert stop.value.code == 2
    assert "--json" in capsys.readouterr().err


def test_errors_are_json_too(call, mine):
    status, out, err = call("show", "a-nte", *mine, "--json")
    assert status == 2
    assert json.loads(out)["error"]["remedy"] == "did you mean 'a-net'?"
    assert "Traceback" not in err


def test_ctrl_c(call, mine, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(ledger, "read", interrupted)
    assert call("systems", *mine) == (130, "", "Stopped.")


def test_as_a_program_it_lists_systems_without_torch(mine):
    code = (
        "import sys; from timecell.cli import main; status = main(sys.argv[1:]);"
        " sys.exit(status or 50 * ('torch' in sys.modules))"
    )
    arguments = [sys.executable, "-c", code, "systems", *map(str, mine)]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "not verified" in done.stdout
    alone = subprocess.run([sys.executable, "-m", "timecell", "--version"], capture_output=True, text=True)
    assert alone.stdout.startswith("timecell ")


# --- published systems ------------------------------------------------------------------------------------------------


def test_from_not_verified_to_holds_to_stale(call, mine):
    def standing():
        (row,) = json.loads(call("systems", *mine, "--json")[1])
        return row["verdict"], row["claims"]

    assert standing() == ("not verified", {"better": "not verified"})
    status, out, err = call("verify", "a-net", *mine, "--jobs", 1)
    assert status == 0
    assert "b > a: 1 [1, 1], at least 0.5: holds" in out
    assert "verdict: holds" in out
    assert "better, control, seed 101: a 0, b 0" in err
    assert standing() == ("holds", {"better": "holds"})
    assert "holds" in call("systems", *mine)[1]

    toml = module_of(mine).with_suffix(".toml")
    toml.write_text(TERMS.replace("0.5", "0.4"))
    assert standing() == ("stale", {"better": "stale"})
    toml.write_text(TERMS)
    with module_of(mine).open("a") as file:
        file.write("ANOTHER = True\n")
    assert standing()[0] == "stale"


def test_the_system_that_ships_is_listed(call, tmp_path):
    rows = json.loads(call("systems", "--ledger", tmp_path / "none", "--json")[1])
    assert "delay-learning" in [row["slug"] for row in rows]


def test_verify_prints_the_record_that_it_writes(call, mine):
    status, out, _ = call("verify", "a-net", *mine, "--jobs", 1, "--json")
    assert status == 0
    (printed,) = json.loads(out)
    assert printed == json.loads(Path(mine[3]).read_text())
    assert [trial["seed"] for trial in printed["shown"]["trials"]] == [100, 101]


def test_experiments_of_other_code_are_thrown_away_and_those_of_others_kept(call, mine):
    unfinished = Path(mine[3]).parent / "ledger-unfinished"
    old, strange = unfinished / "a-net.0123456789abcdef", unfinished / "b-net.0123456789abcdef"
    for folder in (old, strange):
        folder.mkdir(parents=True)
        (folder / "fitted-100.npz").write_bytes(b"of code that is no more")
    assert call("verify", "a-net", *mine, "--jobs", 1)[0] == 0
    assert not old.exists() and strange.exists()


def test_a_claim_that_falls_short_is_a_failure(call, mine):
    source = module_of(mine).read_text()
    module_of(mine).write_text(source.replace("trial.control else 1.0", "trial.control else 0.1"))
    status, out, _ = call("verify", "--all", *mine, "--jobs", 1)
    assert status == 1
    assert "falls short" in out


def test_quick_says_runs_and_writes_nothing(call, mine):
    status, out, _ = call("verify", "a-net", *mine, "--quick")
    assert (status, out) == (0, "a-net, better: runs\n")
    assert not Path(mine[3]).exists()


def test_seeds_bound_the_confirmation(call, mine):
    source = module_of(mine).read_text().replace("else 1.0)", "else 0.5 + trial.seed % 2)")
    module_of(mine).write_text(source)
    _, out, _ = call("verify", "a-net", *mine, "--jobs", 1, "--seeds", 3, "--json")
    (record,) = json.loads(out)
    assert record["verdict"] == "undecided"
    assert len(record["shown"]["trials"]) == 3
    assert call("verify", "a-net", *mine, "--seeds", 1)[0] == 2


def test_show_has_card_terms_and_numbers(call, mine):
    status, out, _ = call("show", "a-net", *mine)
    assert status == 0
    assert all(text in out for text in ("A title", "b > a", "p. 1", "both a", "margins: b > a 0.5", "not verified"))
    call("verify", "a-net", *mine, "--jobs", 1)
    assert "seed 100" in call("show", "a-net", *mine)[1]
    shown = json.loads(call("show", "a-net", *mine, "--json")[1])
    assert shown["claims"][0]["standing"] == "holds"
    assert shown["claims"][0]["terms"]["margins"] == {"b > a": 0.5}


def test_calibrate_measures_low_seeds_without_terms(call, mine):
    module_of(mine).with_suffix(".toml").unlink()
    status, out, _ = call("calibrate", "a-net", *mine, "--seeds", 2, "--jobs", 1)
    assert status == 0
    assert "seed 0" in out
    assert "b > a: 1 [1, 1]" in out
    assert "holds" not in out, "there are no margins yet"
    assert "margins to set in" in out
    document = json.loads(call("calibrate", "a-net", *mine, "--seeds", 2, "--jobs", 1, "--json")[1])
    assert document["better"]["negative control"]["contrasts"]["b > a"]["mean"] == 0
    status, _, err = call("verify", "a-net", *mine, "--jobs", 1)
    assert status == 2
    assert "timecell calibrate" in err


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["verify"], "verify: found no system"),
        (["verify", "a-net", "--all"], "found both a system and --all"),
        (["verify", "a-net", "--claim", "bettr"], "claim of a-net: found 'bettr', expected one of better"),
        (["verify", "b-net"], "system: found 'b-net', expected one of a-net"),
    ],
)
def test_what_cannot_be_verified_is_a_user_error(call, mine, arguments, names):
    status, out, err = call(*arguments, *mine)
    assert (status, out) == (2, "")
    assert names in err


def test_a_cut_off_ledger_line_is_reported_on_stderr(call, mine):
    Path(mine[3]).write_text('{"slug": "a-n')
    status, out, err = call("systems", *mine, "--json")
    assert status == 0
    assert json.loads(out)
    assert "ledger.jsonl, line 1: cut off" in err


def test_json_is_all_there_is_on_stdout_even_if_workers_print(mine):
    source = module_of(mine).read_text().replace("    return {", "    print('hello')\n    return {")
    module_of(mine).write_text(source)
    arguments = [sys.executable, "-m", "timecell", "verify", "a-net", *map(str, mine), "--jobs", "2", "--json"]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert json.loads(done.stdout)[0]["verdict"] == "holds"
    assert "hello" in done.stderr


# --- check ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def neuron(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "mine.py"
    path.write_text(NEURON)
    return path


def test_check_reports_every_check(call, neuron, monkeypatch):
    from timecell import testing

    results = [testing.Result("causal", "The future stays out.", True), testing.Result("types", "Any.", False, "[no]")]
    monkeypatch.setattr(testing, "check", lambda cell: results if cell.__name__ == "Leak" else results[:1])
    status, out, _ = call("check", f"{neuron}:Leak", "--json")
    assert status == 1
    assert [r["name"] for r in json.loads(out)["results"]] == ["causal", "types"]
    assert "1 of 2 checks passed" in call("check", f"{neuron}:Leak")[1]
    assert "[no]" in call("check", f"{neuron}:Leak")[1], "a reason is text, not markup"
    assert call("check", f"{neuron}:Backwards")[0] == 0


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("{}", "expected FILE.py:CLASS"),
        ("{}:Laek", "expected one of Backwards, Leak. Remedy: did you mean 'Leak'?"),
        ("{}:text", "found str, expected a subclass of timecell.Cell"),
        ("{}x:Leak", "found no such file"),
    ],
)
def test_what_cannot_be_checked_is_a_user_error(call, neuron, target, names):
    status, out, err = call("check", target.format(neuron))
    assert (status, out) == (2, "")
    assert names in err


# --- your data --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["compare", "none.csv"], "none.csv: found no such file"),
        (["compare", "spoken-digits", "--horizon", "3"], "horizon: found 3, expected nothing"),
        (["compare", "taxi", "--only", "gur"], "only: found 'gur', expected one of"),
    ],
)
def test_what_cannot_be_compared_is_a_user_error(call, arguments, names):
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert names in err


@pytest.fixture
def sequences(tmp_path):
    """Forty sequences of six steps; the class is whether they rise."""
    rng, path = np.random.default_rng(0), tmp_path / "moves.csv"
    rows = [[("falls", "rises")[n % 2], *(n % 2 * 2 - 1) * np.arange(6) + rng.normal(size=6)] for n in range(40)]
    path.write_text(
        "kind," + ",".join(f"x_{i}" for i in range(6)) + "\n" + "\n".join(",".join(map(str, r)) for r in rows)
    )
    return path


@pytest.fixture
def series(tmp_path):
    """Twenty days of an hourly rhythm in b, and a."""
    path, hours = tmp_path / "load.csv", np.arange(480)
    lines = [f"2026-01-{1 + h // 24:02d}T{h % 24:02d}:00,{h % 7},{10 + h % 24}" for h in hours]
    path.write_text("\n".join(["time,a,b", *lines]))
    return path


def test_train_then_predict_classes(call, sequences, tmp_path):
    how = "--target", "kind", "--system", "summary-logistic", "--out", tmp_path / "model"
    status, out, err = call("train", sequences, *how, "--json")
    assert status == 0
    assert json.loads(out)["test"]["metrics"]["accuracy"] > 0.8
    assert "40 sequences of 6 steps" in err

    unlabelled = tmp_path / "new.csv"
    unlabelled.write_text("\n".join(line.partition(",")[2] for line in sequences.read_text().splitlines()))
    for file in (sequences, unlabelled):
        status, out, _ = call("predict", tmp_path / "model", file, "--out", tmp_path / "answers.csv", "--json")
        answers = json.loads(out)
        assert [a["class"] for a in answers[:4]] == ["falls", "rises", "falls", "rises"]
        assert answers[0]["p(falls)"] == pytest.approx(1 - answers[0]["p(rises)"])
        assert (tmp_path / "answers.csv").read_text().splitlines()[0] == "sequence,class,p(falls),p(rises)"
    assert "... 30 more" in call("predict", tmp_path / "model", sequences)[1]


def test_a_file_with_fewer_classes_or_an_unknown_one(call, sequences, tmp_path):
    call("train", sequences, "--target", "kind", "--system", "summary-logistic", "--out", tmp_path / "model")
    head, *rows = sequences.read_text().splitlines()
    fewer, unknown = tmp_path / "fewer.csv", tmp_path / "unknown.csv"
    rising = [row for row in rows if row.startswith("rises,")]
    fewer.write_text("\n".join([head, *rising]))
    said = call("predict", tmp_path / "model", fewer)[1]
    assert "By the labels in the file: accuracy" in said and "p(falls)" in said
    answers = json.loads(call("predict", tmp_path / "model", fewer, "--json")[1])
    right = sum(a["class"] == "rises" for a in answers) / len(answers)
    assert f"accuracy {right:.4g}" in said and right > 0.5
    unknown.write_text("\n".join([head, *rising, rising[0].replace("rises", "wobbles")]))
    status, _, err = call("predict", tmp_path / "model", unknown)
    assert status == 2
    assert "the label 'wobbles', expected one of falls, rises, as in training" in " ".join(err.split())


def test_train_then_forecast_beyond_the_end(call, series, tmp_path):
    how = (
        "--target",
        "b",
        "--task",
        "forecast",
        "--horizon",
        3,
        "--system",
        "seasonal-naive",
        "--out",
        tmp_path / "model",
    )
    assert call("train", series, *how)[0] == 0
    answers = json.loads(call("predict", tmp_path / "model", series, "--json")[1])
    assert [a["b"] for a in answers] == [10, 11, 12]
    assert answers[0]["time"] == "2026-01-21T00:00:00+00:00"
    assert "a" not in answers[0]

    short = tmp_path / "short.csv"
    short.write_text("\n".join(series.read_text().splitlines()[:30]))
    status, _, err = call("predict", tmp_path / "model", short)
    assert status == 2
    assert "found 29 steps, expected at least 48" in err


def test_new_data_must_have_the_channels_of_the_old(call, sequences, series, tmp_path):
    call("train", sequences, "--target", "kind", "--system", "majority", "--out", tmp_path / "model")
    other = tmp_path / "other.csv"
    other.write_text("kind,y_0,y_1,z_0,z_1\nrises,1,2,3,4\n")
    status, _, err = call("predict", tmp_path / "model", other)
    assert status == 2
    assert "found sequences with the channels y, z, expected sequences with x, as in training" in err


def test_what_cannot_be_trained_or_predicted_is_a_user_error(call, sequences, tmp_path):
    status, _, err = call("train", sequences, "--target", "kind", "--system", "gur", "--out", tmp_path / "model")
    assert status == 2
    assert "did you mean 'gru'?" in err
    status, _, err = call("predict", tmp_path / "model", sequences)
    assert status == 2
    assert "asked.json: found No such file" in err


def test_compare_ranks_and_writes_a_report(call, sequences, tmp_path, monkeypatch):
    monkeypatch.setattr("timecell.cli.comparing.everything", lambda root: {})  # the baselines alone: no training here
    how = "--target", "kind", "--out", tmp_path / "out", "--jobs", 1, "--seeds", 2, "--trials", 1
    status, out, err = call("compare", sequences, *how, "--json")
    document = json.loads(out)
    assert status == 0
    assert {row["slug"] for row in document["rows"]} >= {"majority", "summary-logistic"}
    assert document["settings"]["trials"] == 1
    assert Path(document["report"]).read_text().startswith("<!doctype html>")
    assert "refitting" in err
    status, out, _ = call("compare", sequences, *how)
    assert "summary-logistic" in out
    assert "report.html" in out
