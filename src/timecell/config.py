"""Frozen dataclasses as JSON and back: recipes, credit rules, tasks and systems are all written this way.

An object becomes a dict with its class's full name under ``"class"``. Reading makes objects of timecell's own
dataclasses and of classes that the caller hands over, of nothing else: a file can never name code to run.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from timecell.errors import InputError


def class_name(cls: type) -> str:
    """The full name under which a class is written.

    Example:
        >>> class_name(InputError)
        'timecell.errors.InputError'
    """
    return f"{cls.__module__}.{cls.__qualname__}"


def to_dict(value: Any) -> Any:
    """JSON values for a dataclass, a mapping, a tuple or a plain value, all the way down.

    Raises:
        InputError: for a value that JSON does not know.

    Example:
        >>> from timecell.card import Card
        >>> to_dict(Card("lif", "Leaky neurons", "A layer.", "spiking"))["class"]
        'timecell.card.Card'
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {"class": class_name(type(value))} | {f.name: to_dict(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_dict(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [to_dict(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InputError(
        "configuration", found=f"{value!r} of type {class_name(type(value))}",
        expected="dataclasses, mappings, tuples, numbers, strings or None",
        remedy="write it as a plain number or string, or make it a frozen dataclass",
    )  # fmt: skip


def from_dict(value: Any, classes: Iterable[type] = ()) -> Any:
    """The inverse of `to_dict`; lists become tuples, as frozen dataclasses hold them.

    Args:
        value: what `to_dict` returned, perhaps by way of a file.
        classes: dataclasses from outside timecell that may appear.

    Raises:
        InputError: for a class that is not allowed, or fields that it does not have.
    """
    if isinstance(value, list):
        return tuple(from_dict(v, classes) for v in value)
    if not isinstance(value, dict):
        return value
    content = {k: from_dict(v, classes) for k, v in value.items() if k != "class"}
    if "class" not in value:
        return content
    given = {class_name(c): c for c in classes}
    cls = find_class(value["class"], given, is_dataclass, "dataclass")
    try:
        return cls(**content)
    except TypeError as e:
        raise InputError(
            f"configuration of {value['class']}", found=str(e), expected=f"the fields {[f.name for f in fields(cls)]}",
            remedy="read it with the version of the class that wrote it",
        ) from None  # fmt: skip


def find_class(name: str, known: Mapping[str, type], allowed: Callable[[type], bool], kind: str) -> Any:
    """A class by the name under which it was written: one that is known, or one of timecell's own.

    Args:
        name: what the file says.
        known: classes from outside timecell, by that name.
        allowed: which classes of timecell may be meant.
        kind: what they are, for the message.

    Raises:
        InputError: it is none of these. No module outside timecell is ever imported.

    Example:
        >>> find_class("timecell.card.Card", {}, is_dataclass, "dataclass").__name__
        'Card'
    """
    if name in known:
        return known[name]
    module, _, attribute = str(name).rpartition(".")
    if module.startswith("timecell.") and "._" not in module:
        try:
            found = getattr(importlib.import_module(module), attribute, None)
        except ModuleNotFoundError:
            found = None
        if isinstance(found, type) and found.__module__.startswith("timecell.") and allowed(found):
            return found
    raise InputError(
        "class", found=repr(name), expected=f"a {kind} of timecell or one of the classes given",
        remedy=f"import {attribute or name} yourself and pass it: classes=({attribute or name},)",
    )  # fmt: skip
