"""What every command is: options in, an `Answer` out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console, Group, RenderableType
from rich.text import Text

from timecell.errors import TimecellError

Slug = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SLUG")]
File = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
Folder = Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")]


@dataclass(frozen=True)
class Answer:
    """What a command found.

    Attributes:
        document: JSON values.
        show: prints the same for a reader.
        ok: False if what was checked failed.
    """

    document: Any
    show: Callable[[Console], object]
    ok: bool = True


@dataclass(frozen=True, kw_only=True)
class Command:
    """Base of the commands.

    Attributes:
        json: print one JSON document and nothing else.
    """

    json: bool = False

    def run(self) -> Answer:
        """Do it."""
        raise NotImplementedError


def lines(*parts: RenderableType) -> Callable[[Console], object]:
    """What prints these, one below the other."""
    return lambda console: console.print(Group(*parts))


def printed(answer: Answer, as_json: bool) -> int:
    """Print an answer to stdout; the exit status."""
    if as_json:
        print(json.dumps(answer.document, indent=1, allow_nan=False))
    else:
        answer.show(Console(width=None if sys.stdout.isatty() else 120, highlight=False))
    return 0 if answer.ok else 1


def say(line: str) -> None:
    """A line about progress, to stderr."""
    Console(stderr=True, highlight=False).print(line, markup=False, soft_wrap=True)


def print_error(error: TimecellError) -> None:
    """What the user has to change, to stderr, without a traceback."""
    text = Text.assemble(("Error: ", "bold red"), str(error))
    Console(stderr=True, highlight=False).print(text, soft_wrap=True)
