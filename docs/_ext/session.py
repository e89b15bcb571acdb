"""The code of a page, run from top to bottom: what it prints, and the picture that it ends in.

A page is plain Markdown. Its fenced blocks are of three kinds:

    ```python     run, in one session a page, in a folder of its own
    ```console    commands after "$ timecell" are run, in the same folder
    ```           anything else is only shown

A block that ends in axes of matplotlib is a picture; the comment above its last statement says what is to be seen on it.
`tests/test_docs.py` runs the same blocks with small budgets.
"""

from __future__ import annotations

import ast
import io
import linecache
import os
import re
import shlex
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import Any

FENCE = re.compile(r"^```(python|console)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^\$ timecell (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Shown:
    """What a block shows: text, and a figure of matplotlib with a description."""

    text: str = ""
    figure: Any = None
    about: str = ""


class Session:
    """One page; a context, at the end of which its folder goes."""

    def __init__(self, name: str) -> None:
        import torch

        torch.manual_seed(0)
        self.name, self.number = name, 0
        self.scope: dict[str, Any] = {"__name__": "__page__"}
        self.folder = tempfile.TemporaryDirectory(prefix="timecell-docs-")

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self.folder.cleanup()

    def run(self, language: str, code: str) -> Shown:
        """Run a block; what it raises, this raises."""
        self.number += 1
        with inside(self.folder.name):
            return self._python(code) if language == "python" else Shown(self._commands(code))

    def _python(self, code: str) -> Shown:
        file = f"<{self.name}, block {self.number}>"
        linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)  # so that errors show the line
        *body, last = ast.parse(code).body
        tail = ast.Expression(last.value) if isinstance(last, ast.Expr) else None
        printed, value = io.StringIO(), None
        with redirect_stdout(printed), redirect_stderr(io.StringIO()):
            exec(compile(ast.Module(body if tail else [*body, last], []), file, "exec", dont_inherit=True), self.scope)
            if tail:
                value = eval(compile(tail, file, "eval", dont_inherit=True), self.scope)
        figure = getattr(value, "figure", None)
        return Shown(neutral(printed.getvalue()), figure, comment_above(code, last.lineno) if figure else "")

    def _commands(self, code: str) -> str:
        from timecell.cli import main

        printed = []
        for command in COMMAND.findall(code):
            text, said = io.StringIO(), io.StringIO()
            with redirect_stdout(text), redirect_stderr(said):
                status = main(shlex.split(command))
            if status not in (0, 1):
                raise RuntimeError(f"timecell {command}: exit status {status}\n{said.getvalue()}")
            printed.append(text.getvalue().replace(f"{self.folder.name}/", ""))
        return neutral("\n".join(printed))


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Language and content of the blocks of a page that are run."""
    yield from FENCE.findall(text)


def comment_above(code: str, line: int) -> str:
    """The comment that ends just above a line (counted from 1), as one text."""
    above = takewhile(lambda row: row.startswith("# "), reversed(code.splitlines()[: line - 1]))
    return " ".join(row.removeprefix("# ") for row in reversed(list(above)))


def absent(blocks: Iterable[tuple[str, str]]) -> list[str]:
    """Packages that the Python blocks of a page import and that are not installed."""
    wanted: set[str] = set()
    for node in (n for language, code in blocks if language == "python" for n in ast.walk(ast.parse(code))):
        if isinstance(node, ast.Import):
            wanted |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            wanted.add(str(node.module).partition(".")[0])
    return sorted(name for name in wanted if find_spec(name) is None)


def neutral(text: str) -> str:
    """Without the home folder of whoever built the page."""
    return "\n".join(line.rstrip() for line in text.replace(str(Path.home()), "~").splitlines())


@contextmanager
def inside(folder: str) -> Iterator[None]:
    """Work in a folder for a while."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
