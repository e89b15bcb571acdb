"""The house: imports go down the floors and never in circles, and every example in a docstring runs."""

import ast
import doctest
import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import timecell

ROOT = Path(timecell.__file__).parent

# From the ground up; a room imports only from itself and from rooms written before it.
HOUSE = [
    *("_version", "errors", "files", "config"),
    *("fuse",),
    *("state", "parameters", "watch", "work", "summary", "pretrained", "cell", "circuit", "combine", "stream"),
    *("card", "data"),
    *("layers", "synapses", "neurons", "losses", "testing"),
    *("rhythm", "memory", "networks", "exchange"),
    *("system", "tasks"),
    *("recipe", "credit", "inference", "generate", "lens", "plot"),
    *("progress", "checkpoint", "interrupt", "distributed", "train"),
    *("fitted_module", "network_system", "point_process_system", "edge_system", "estimator"),
    *("catalog", "claims"),
    *("controls", "event_models", "systems", "compare"),
    *("report", "serve", "cli"),
]


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports(path: Path) -> set[str]:
    """timecell modules this file imports, at any depth of the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.startswith("timecell.")}
        elif isinstance(node, ast.ImportFrom) and node.module == "timecell":
            found |= {f"timecell.{a.name}" for a in node.names if not a.name.startswith("__")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("timecell."):
            inside = {f"{node.module}.{a.name}" for a in node.names}
            found |= {
                m if (ROOT.parent / m.replace(".", "/")).with_suffix(".py").exists() else node.module for m in inside
            }
    return found


FILES = [p for p in sorted(ROOT.rglob("*.py")) if p != ROOT / "__init__.py"]
NAMES = {p: ".".join(p.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__") for p in FILES}


def test_every_room_is_in_the_plan():
    assert {room(n) for n in NAMES.values()} - {"__main__"} <= set(HOUSE)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    here = room(NAMES[path])
    if here == "__main__":
        return
    for module in imports(path):
        there = room(module)
        assert there in HOUSE, f"{module}: no such room"
        assert here == there or HOUSE.index(there) < HOUSE.index(here), f"{NAMES[path]} imports upwards: {module}"


def test_no_circles():
    graph = {NAMES[p]: {m for m in imports(p) if m in NAMES.values()} for p in FILES}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"a circle: {' -> '.join([*trail, module])}"
        if module not in done:
            for other in graph.get(module, ()):
                if other != module and not module.startswith(other + "."):
                    visit(other, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_no_pickle_no_eval():
    banned = ("torch.load(", "torch.save(", "pickle.load", "allow_pickle=True", "eval(")
    for path in FILES:
        for line in path.read_text().splitlines():
            code = line.split("#")[0].replace(".eval()", "")
            assert not any(b in code for b in banned), f"{path}: {line}"


def test_every_name_is_defined():
    """The linter cannot tell a jaxtyping axis, "N", from a name, so F821 is off there; here axes are left out."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select=F821", "--output-format=json", str(ROOT)]
    for found in json.loads(subprocess.run(command, capture_output=True, text=True).stdout):
        at, path = found["location"], Path(found["filename"])
        before = path.read_text().splitlines()[at["row"] - 1][: at["column"] - 1]
        assert before.endswith(('"', "'")), f"{path}:{at['row']}: {found['message']}"


MODULES = [m.name for m in pkgutil.walk_packages([str(ROOT)], "timecell.") if not m.name.endswith("__main__")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    failures, _ = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert failures == 0


def test_no_module_hides_a_public_name():
    """Importing ``timecell.x`` sets the attribute x of the package: it must not be a function or class of that name."""
    modules = {name.split(".")[1] for name in MODULES}
    assert not modules & (set(timecell.__all__) - set(timecell._HOME["timecell"]))
