"""Docstrings as Markdown: their sections, the equations that stand indented, and what Markdown would misread."""

from __future__ import annotations

import inspect
import re
from typing import Any

SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises", "Shapes", "Example")
HEAD = re.compile(rf"^({'|'.join(SECTIONS)}):[ ]?(.*)$")
ENTRY = re.compile(r"^(\S[^:]*):(?: (.*))?$")


def first_line(thing: Any) -> str:
    """The first sentence of a docstring, as Markdown."""
    paragraph = " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())
    sentence = re.match(r".*?\.(?= [A-Z(]|$)", paragraph)
    return escaped(sentence.group() if sentence else paragraph.rstrip(":"))


def equation(thing: Any) -> str:
    """The first indented block of a docstring's body, or ""."""
    found = re.search(r"(?:^|\n)\n?((?:    \S.*\n?)+)", body(thing))
    return inspect.cleandoc(found.group(1)) if found else ""


def body(thing: Any) -> str:
    """A docstring without its sections."""
    lines = (inspect.getdoc(thing) or "").splitlines()
    end = next((n for n, line in enumerate(lines) if HEAD.match(line)), len(lines))
    return "\n".join(lines[:end]).strip()


def section(thing: Any, name: str) -> dict[str, str]:
    """The entries of a section: name -> text."""
    for head, _, lines in _sections((inspect.getdoc(thing) or "").splitlines()):
        if head == name:
            return _entries(lines)
    return {}


def line_of(thing: Any, name: str) -> str:
    """The text of a section that is a paragraph, e.g. Shapes."""
    for head, first, lines in _sections((inspect.getdoc(thing) or "").splitlines()):
        if head == name:
            return " ".join([first, *(line.strip() for line in lines)]).strip()
    return ""


def markdown(text: str) -> str:
    """A whole docstring as Markdown."""
    made: list[str] = []
    for head, first, lines in _sections(text.splitlines()):
        if head == "":
            made.append(_body(lines))
        elif head == "Example":
            made.append(_example(lines))
        elif head in ("Shapes", "Returns") or not any(ENTRY.match(line.strip()) for line in lines):
            made.append(f"**{head}.** " + escaped(" ".join([first, *(line.strip() for line in lines)]).strip()))
        else:
            entries = (f"`{name}`\n: {escaped(what) or '.'}" for name, what in _entries(lines).items())
            made.append(f"**{head}**\n\n" + "\n\n".join(entries))
    return "\n\n".join(part for part in made if part)


def escaped(text: str) -> str:
    """Text whose signs Markdown would take for its own, outside of code."""
    parts = re.split(r"(``.+?``|`[^`]+`)", text)
    return "".join(part if n % 2 else re.sub(r"([*_<>$|\[\]{}^~])", r"\\\1", part) for n, part in enumerate(parts))


def _sections(lines: list[str]) -> list[tuple[str, str, list[str]]]:
    """(head, text behind it, lines below it); the body has the head ""."""
    found: list[tuple[str, str, list[str]]] = [("", "", [])]
    for line in lines:
        head = HEAD.match(line)
        if head:
            found.append((head[1], head[2], []))
        elif found[-1][0] and line and not line.startswith(" ") and found[-1][0] != "Shapes":
            found.append(("", "", [line]))  # the body goes on
        else:
            found[-1][2].append(line)
    return found


def _entries(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    name = ""
    for line in inspect.cleandoc("\n".join(["", *lines])).splitlines():
        entry = None if line.startswith(" ") else ENTRY.match(line)
        if entry:
            name = entry[1]
            found[name] = entry[2] or ""
        elif name:
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def _body(lines: list[str]) -> str:
    """Paragraphs; what is indented is an equation and stays as it is."""
    made: list[str] = []
    for block in re.split(r"\n\s*\n", "\n".join(lines)):
        if not block.strip():
            continue
        rows = block.strip("\n").splitlines()
        indented = [row.startswith("    ") for row in rows]
        if any(indented):
            first = indented.index(True)
            if first:
                made.append(_lines(rows[:first]))
            made.append("```text\n" + inspect.cleandoc("\n" + "\n".join(rows[first:])) + "\n```")
        else:
            made.append(_lines(rows))
    return "\n\n".join(made)


def _lines(rows: list[str]) -> str:
    """A paragraph, or a list whose items start with a dash or a star."""
    return "\n".join(
        re.sub(r"^([-*]) ", r"\1 ", row[:2]) + escaped(row[2:]) if re.match(r"^[-*] ", row) else escaped(row)
        for row in rows
    )


def _example(lines: list[str]) -> str:
    text = inspect.cleandoc("\n".join(["", *lines]))
    made, code = [], ""
    for block in re.split(r"\n\s*\n", text):
        if block.lstrip().startswith((">>>", "...")) or (code and not block[:1].isalpha()):
            code += ("\n\n" if code else "") + block
            continue
        if code:
            made.append(f"```pycon\n{code}\n```")
            code = ""
        made.append(escaped(block))
    return "\n\n".join([*made, *([f"```pycon\n{code}\n```"] if code else [])])
