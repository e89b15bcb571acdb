"""The README's Python runs as it stands, in order, in one session."""

import re
from pathlib import Path

import numpy as np

import timecell as tc
from timecell.testing import check

README = Path(__file__).parents[1] / "README.md"


def test_the_code_runs_and_its_neuron_keeps_the_contract(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 3
    label = np.arange(40) % 20
    samples = [np.random.default_rng(k).random((12, 700)) < 0.02 for k in label]
    data = tc.Sequences.of([s.astype(np.float32) for s in samples], label)
    scope = {"data": data, "valid": data, "__name__": "readme"}
    code = "\n".join(blocks).replace("updates=500", "updates=2")
    path = tmp_path / "readme.py"
    path.write_text(code)
    exec(compile(code, str(path), "exec"), scope)
    assert "[8, 100, 256]" in capsys.readouterr().out
    assert scope["model"].updates == 2
    failed = [r for r in check(scope["Resonator"]) if not r.passed]
    assert not failed
