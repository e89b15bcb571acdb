"""Settings that hold within a ``with`` block: a context variable that is set, and afterwards what it was before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from timecell.errors import InputError

T = TypeVar("T")


@contextmanager
def setting(variable: ContextVar[T], value: T) -> Iterator[None]:
    """Within this context, and in this thread or task alone, the variable has this value.

    Example:
        >>> depth: ContextVar[int] = ContextVar("depth", default=0)
        >>> with setting(depth, 3):
        ...     print(depth.get())
        3
        >>> depth.get()
        0
    """
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def one_of(place: str, value: str, *choices: str) -> str:
    """The value, if it is one of the choices.

    Raises:
        InputError: it is none of them.
    """
    if value in choices:
        return value
    words = f"{', '.join(choices[:-1])} or {choices[-1]}"
    raise InputError(place, found=repr(value), expected=words, remedy="choose one of them")
