"""Errors that teach: what is wrong, where, what was found, what was expected, and what to do.

Every message a user can cause is built by one of these classes, so that all read alike::

    raise InputError("lengths[3]", found=12, expected="at most T = 10", remedy="cut the sequence or pad x")

    lengths[3]: found 12, expected at most T = 10.
      Remedy: cut the sequence or pad x.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class TimecellError(Exception):
    """Base of every error timecell raises on purpose; the command line prints it without a traceback."""

    def __init__(self, place: str, *, found: object, expected: str, remedy: str) -> None:
        self.place, self.found, self.expected, self.remedy = place, found, expected, remedy
        dot = "" if remedy.endswith(("?", ".")) else "."
        super().__init__(f"{place}: found {found}, expected {expected}.\n  Remedy: {remedy}{dot}")

    def __reduce__(self) -> tuple[Any, ...]:
        fields = {**self.__dict__, "found": str(self.found)}
        return _again, (type(self), self.args, fields)  # the way from one process to another


def _again(kind: type[TimecellError], args: tuple[Any, ...], fields: dict[str, Any]) -> TimecellError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


class InputError(TimecellError, ValueError):
    """An argument has the wrong value or shape; ``place`` is the argument's name."""


class DataError(TimecellError, ValueError):
    """A file or data set is missing, truncated or malformed; ``place`` is the file and the position in it."""


class MissingExtra(TimecellError, ImportError):
    """An optional dependency is not installed; the remedy is the install line."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            purpose,
            found=f"no package {package!r}",
            expected="it to be installed",
            remedy=f'pip install "timecell[{extra}]"',
        )


class TraceError(TimecellError, TypeError):
    """A step function holds something the engine cannot take; ``place`` is the source line."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name that does not exist, with the closest names that do.

    Example:
        >>> print(unknown_name("surrogate", "atn", ["atan", "sigmoid"]))
        surrogate: found 'atn', expected one of atan, sigmoid.
          Remedy: did you mean 'atan'?
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    remedy = f"did you mean {close[0]!r}?" if close else "choose one of these names"
    return InputError(what, found=repr(name), expected="one of " + ", ".join(names), remedy=remedy)
