"""The public names of a module as Markdown: signature and docstring of each, from the code."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from docstrings import markdown

from timecell.cell import Stepped


def page(module_name: str) -> str:
    """The docstring of a module, then every public class and function of it."""
    module = importlib.import_module(module_name)
    about = markdown(inspect.getdoc(module) or "")
    return "\n\n".join([about, *(entry(module_name, name, thing) for name, thing in public(module).items())])


def public(module: Any) -> dict[str, Any]:
    """Name -> class or function: what a package exports, or what a module defines."""
    exported = getattr(module, "__all__", None) if hasattr(module, "__path__") else None
    names = exported or [name for name in vars(module) if not name.startswith("_")]
    return {
        name: thing
        for name in sorted(names, key=str.lower)
        if (inspect.isclass(thing := getattr(module, name)) or inspect.isroutine(thing))
        and inspect.getdoc(thing)
        and (thing.__module__ == module.__name__ or thing.__module__.startswith(module.__name__ + "."))
    }


def entry(module_name: str, name: str, thing: Any) -> str:
    """One class, with its methods, or one function."""
    kind = "class" if inspect.isclass(thing) else "function"
    text = markdown(inspect.getdoc(thing) or "")
    members = [] if kind == "function" else [member(n, m) for n, m in methods(thing).items()]
    inner = "\n\n".join([text, *members])
    return f"::::::{{py:{kind}}} {name}{signature(thing)}\n:module: {module_name}\n\n{inner}\n::::::"


def methods(cls: type) -> dict[str, Any]:
    """Public methods and properties that this class itself documents."""
    return {
        name: member
        for name, member in vars(cls).items()
        if not name.startswith("_") and name not in ("dynamics", "example", "extra_repr")
        and isinstance(member, property | classmethod | staticmethod | type(methods))
        and inspect.getdoc(_function(member))
    }  # fmt: skip


def member(name: str, thing: Any) -> str:
    """A method or a property of a class."""
    text = markdown(inspect.getdoc(_function(thing)) or "")
    if isinstance(thing, property):
        return f":::::{{py:property}} {name}\n{text}\n:::::"
    flag = (
        ":classmethod:\n"
        if isinstance(thing, classmethod)
        else ":staticmethod:\n"
        if isinstance(thing, staticmethod)
        else ""
    )
    return f":::::{{py:method}} {name}{signature(_function(thing), skip_first=not isinstance(thing, staticmethod))}\n{flag}\n{text}\n:::::"


def signature(thing: Any, skip_first: bool = False) -> str:
    """Names and defaults; what they are stands in the docstring. A neuron's declared values are its arguments."""
    if inspect.isclass(thing) and issubclass(thing, Stepped) and (thing.params or thing.options):
        sizes = ["*sizes"] if hasattr(thing, "axes") else ["size", "*"]
        values = [f"{n}={default(q.default)}" for n, q in {**thing.params, **thing.options}.items()]
        return f"({', '.join([*sizes, *values, 'learn=None'])})"
    if is_dataclass(thing):
        shown = [f.name + ("" if f.default is MISSING else f"={default(f.default)}") for f in fields(thing) if f.init]
        return f"({', '.join(shown)})"
    if getattr(thing, "_is_protocol", False):
        return ""
    try:
        given = list(inspect.signature(thing).parameters.values())
    except (TypeError, ValueError):
        return "()"
    shown, star = [], False
    for p in given[1:] if skip_first else given:
        if p.kind is p.KEYWORD_ONLY and not star:
            shown.append("*")
        star = star or p.kind in (p.KEYWORD_ONLY, p.VAR_POSITIONAL)
        sign = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        shown.append(sign + p.name + ("" if p.default is p.empty else f"={default(p.default)}"))
    return f"({', '.join(shown)})"


def default(value: Any) -> str:
    """A default value, briefly."""
    if inspect.isroutine(value) or inspect.isclass(value):
        return value.__name__.replace("<lambda>", "...")
    text = repr(value)
    return text if len(text) <= 40 and "<" not in text and " object " not in text else "..."


def _function(member: Any) -> Any:
    return member.fget if isinstance(member, property) else getattr(member, "__func__", member)
