"""The command line: ``timecell COMMAND``.

A command is a frozen dataclass whose fields are its options; `run` does the work with functions from the rooms below and
returns an `Answer`, which is printed as text, or as one JSON document with ``--json``.

Exit status: 0 all is well; 1 what was checked failed; 2 the user has to change something; 130 Ctrl-C.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout

from timecell._version import __version__
from timecell.cli.command import Answer, Command, print_error, printed
from timecell.errors import DataError, TimecellError, unknown_name

OVERVIEW = """timecell {version}: neural computation in time, from data to a checked claim.

Your data
{data}
Published systems
{systems}
Your own parts
{parts}
Every command has --help with examples, and --json.
"""


def commands() -> dict[str, type[Command]]:
    """Every command by name, in the order of the overview."""
    from timecell.cli.check import Check
    from timecell.cli.comparing import Compare, Demo
    from timecell.cli.diagnosing import Diagnose
    from timecell.cli.models import Predict, Train
    from timecell.cli.published import Calibrate, Show, Systems, Verify

    every = [Demo, Compare, Train, Predict, Diagnose, Systems, Show, Verify, Calibrate, Check]
    return {command.__name__.lower(): command for command in every}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    try:
        status = run(argv)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read us (head, less) has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    return status


def run(argv: Sequence[str] | None = None) -> int:
    """`main`, for those who go on reading."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments in ([], ["-h"], ["--help"]):
        print(overview())
        return 0
    if arguments == ["--version"]:
        print(f"timecell {__version__}")
        return 0
    as_json = "--json" in arguments
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = lambda message, *rest: print(f"Warning: {message}", file=sys.stderr)
        try:
            return printed(answer(arguments), as_json)
        except TimecellError as e:
            error = e
        except BrokenPipeError:
            raise
        except OSError as e:
            if e.filename is None:
                raise
            error = DataError(str(e.filename), found=e.strerror, expected="access to it", remedy="check the path")
        except KeyboardInterrupt:
            print("Stopped.", file=sys.stderr)
            return 130
    print_error(error)
    if as_json:
        print(json.dumps({"error": {k: str(v) for k, v in vars(error).items()}}))
    return 2


def answer(arguments: Sequence[str]) -> Answer:
    """Parse the arguments and run the command; whatever it prints meanwhile goes to stderr.

    Raises:
        InputError: there is no such command.
        SystemExit: the options are wrong (2), or help was asked for (0); tyro has printed it.
    """
    import tyro

    name, known = arguments[0], commands()
    if name not in known:
        raise unknown_name("command", name, known)
    command = tyro.cli(
        known[name],
        prog=f"timecell {name}",
        description=description(known[name]),
        args=arguments[1:],
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    with stdout_kept_clean():
        return command.run()


@contextmanager
def stdout_kept_clean() -> Iterator[None]:
    """Inside, what is printed goes to stderr, by worker processes too; stdout is for the answer."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def description(command: type[Command]) -> str:
    """A command's docstring without the options, which tyro shows on its own."""
    return (inspect.getdoc(command) or "").partition("\n\nAttributes:")[0]


def overview() -> str:
    """What ``timecell`` alone prints: each command with the first line of its docstring.

    Example:
        >>> print(overview())
        timecell ...: neural computation in time, from data to a checked claim.
        ...
    """
    lines = {name: f"  timecell {name:10} {description(c).splitlines()[0]}\n" for name, c in commands().items()}
    groups = {
        "data": ("demo", "compare", "train", "predict", "diagnose"),
        "systems": ("systems", "show", "verify", "calibrate"),
    }
    texts = {title: "".join(lines.pop(name) for name in names) for title, names in groups.items()}
    return OVERVIEW.format(version=__version__, **texts, parts="".join(lines.values()))
