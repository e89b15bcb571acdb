"""Tables found by walking the package. Each function returns Markdown; a page asks for it by its name."""

from __future__ import annotations

import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

from api import default, public, signature
from docstrings import equation, escaped, first_line, line_of, section

from timecell import catalog, combine, credit, lens, losses, memory, plot
from timecell import neurons as units
from timecell import synapses as links
from timecell.cell import Cell, Neuron
from timecell.circuit import Circuit
from timecell.claims import ledger, load_claims
from timecell.cli import commands as every_command
from timecell.cli import description
from timecell.data.readers import readers as every_reader
from timecell.exchange import norse, snntorch, spikingjelly
from timecell.tasks import every as every_task
from timecell.testing import CHECKS, walk


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("\n", "<br>") for cell in row) + " |" for row in lines)


def code(text: str) -> str:
    """As code, also within a table; line by line."""
    lines = (re.sub(" {2,}", "  ", line).replace("`", "").replace("|", "\\|") for line in text.splitlines() if line)
    return "<br>".join(f"`{line}`" for line in lines)


def link(module: str, name: str) -> str:
    """A name, linked to its reference."""
    return f"{{py:obj}}`{name} <{module}.{name}>`"


def home(thing: Any) -> str:
    """The room in which a thing is public."""
    room = ".".join(thing.__module__.split(".")[:2])
    return room if getattr(importlib.import_module(room), thing.__name__, None) is thing else thing.__module__


# --- cells ---------------------------------------------------------------------------------------------------------


def steps() -> list[Any]:
    """Everything that is written as one instant, wherever it lies."""
    return sorted((c for kind in (Neuron, Circuit) for c in walk(kind)), key=lambda c: c.__name__.lower())


def neurons() -> str:
    """The units at a glance."""
    rows = [
        [link(home(c), c.__name__), first_line(c), code(", ".join(c.states)), code(", ".join(c.params))]
        for c in steps()
    ]
    return table(["unit", "what it is", "states", "parameters"], rows)


def instants() -> str:
    """Of every unit: its parameters, its choices, and its one instant as it stands in the code."""
    return "\n\n".join(_instant(c) for c in steps())


def _instant(cell: Any) -> str:
    text = f"### {cell.__name__}\n\n{first_line(cell)}"
    if "dynamics" in vars(cell):
        text += f"\n\n```py\n{dynamics(cell)}\n```"
    if cell.params:
        text += "\n\n" + table(
            ["parameter", "first value", "unit", "range", ""], [_parameter(n, q) for n, q in cell.params.items()]
        )
    return text + (f"\n\nChoices: {choices(cell)}." if cell.options else "")


def dynamics(cell: type) -> str:
    """The source of a step without its head and docstring."""
    lines = textwrap.dedent(inspect.getsource(cell.dynamics)).splitlines()  # type: ignore[attr-defined]
    start = next(n for n, line in enumerate(lines) if '"""' in line) + 1
    return textwrap.dedent("\n".join(lines[start:]))


def _parameter(name: str, q: Any) -> list[str]:
    low, high = q.range
    bounds = f"{'-inf' if low is None else f'{low:g}'} to {'inf' if high is None else f'{high:g}'}"
    shape = f" [{', '.join(q.per)}]" if isinstance(q.per, tuple) and q.per else ""
    whole = isinstance(q.default, float) and q.default == int(q.default)
    return [
        code(name + shape), code(f"{q.default:g}" if whole else default(q.default)), "" if q.unit == "1" else escaped(q.unit),
        "" if low is None and high is None else bounds, "learnt" if q.learn else "",
    ]  # fmt: skip


def choices(cell: Any) -> str:
    """Each with its values, the first one being the default."""
    found = []
    for name, option in cell.options.items():
        others = [v for v in option.choices or () if v != option.default]
        found.append(code(f"{name}={' | '.join(map(repr, [option.default, *others]))}").replace("\\|", "|"))
    return ", ".join(found)


def surrogates() -> str:
    """The slopes that stand in for that of a spike."""
    rows = [[link("timecell.neurons", c.__name__), first_line(c), code(signature(c))] for c in units.SURROGATES]
    return table(["surrogate", "primitive and derivative", "arguments"], rows)


def cells_of(room: Any) -> list[type]:
    """The cells that a room exports, without those that are written as one instant."""
    return [c for c in public(room).values() if inspect.isclass(c) and issubclass(c, Cell)]


def _cells(room: Any) -> str:
    rows = [
        [link(room.__name__, c.__name__), first_line(c), escaped(line_of(c, "Shapes"))]
        for c in cells_of(room)
    ]  # fmt: skip
    return table(["cell", "what it is", "shapes and state"], rows)


def synapses() -> str:
    """What connects."""
    return _cells(links)


def plasticities() -> str:
    """Rules by which weights move while a net runs."""
    rules = [c for c in public(links).values() if is_dataclass(c)]
    rows = [[link(links.__name__, c.__name__), first_line(c), code("\n".join(_fields(c)))] for c in rules]
    return table(["rule", "what it is", "numbers"], rows)


def memories() -> str:
    """What keeps the past."""
    return _cells(memory)


def combinators() -> str:
    """What makes nets of cells; whether they stream and are causal is read off their examples."""
    rows = []
    for c in cells_of(combine):
        try:
            example = c.example()  # type: ignore[attr-defined]
        except TypeError:
            continue  # what only wraps a plain module for the others
        rows.append([
            link(combine.__name__, c.__name__), first_line(c), code(c.__name__ + signature(c)),
            "yes" if example.streams else "no",
        ])  # fmt: skip
    return table(["container", "what it is", "arguments", "streams"], rows)


def layers() -> str:
    """What computes within an instant."""
    from timecell import layers

    return _cells(layers)


# --- learning ------------------------------------------------------------------------------------------------------


def rules() -> str:
    """Credit rules: dataclasses that cut time and fill gradients; not those that must be told something first."""
    found = [
        c
        for c in public(credit).values()
        if is_dataclass(c) and hasattr(c, "backward") and c is not credit.Rule and not required(c)
    ]
    return table(["rule", "what it is", "exact", "local", "time", "space"], [_rule(c) for c in found])


def required(c: Any) -> list[str]:
    """The fields without a default."""
    return [f.name for f in fields(c) if f.default is MISSING and f.default_factory is MISSING]


def _rule(c: Any) -> list[str]:
    rule, yes = c(), {True: "yes", False: "no"}
    made = getattr(rule, "rule", None)
    paths = ["", ""] if made is None else [code(type(part).__name__) for part in (made.time, made.space)]
    return [link(credit.__name__, c.__name__), first_line(c), yes[rule.exact], yes[rule.local], *paths]


def equations() -> str:
    """What each rule and part computes, as its docstring says."""
    found = [(n, equation(c)) for n, c in public(credit).items() if is_dataclass(c) and equation(c)]
    return "\n\n".join(f"{link(credit.__name__, name)}\n\n```text\n{text}\n```" for name, text in found)


def parts() -> str:
    """What rules are made of: time paths, space paths, updates."""
    found = {n: c for n, c in public(credit).items() if is_dataclass(c) and not hasattr(c, "backward")}
    kinds = {"run": "time", "teach": "space", "__call__": "update"}  # by the method that makes a part of this kind
    rows = [
        [kind, link(credit.__name__, name), first_line(c), code(signature(c))]
        for method, kind in kinds.items()
        for name, c in found.items()
        if any(method in vars(base) for base in c.__mro__)
    ]
    return table(["part", "name", "what it is", "arguments"], rows)


def all_losses() -> str:
    """Losses of spiking outputs."""
    return _functions(losses)


# --- data ----------------------------------------------------------------------------------------------------------


def encoders() -> str:
    """From values to spikes."""
    from timecell.data import encoders as module

    rows = []
    for name, function in public(module).items():
        hints = inspect.get_annotations(function)
        shapes = f"{_shape(next(iter(hints.values())))} → {_shape(hints['return'])}"
        rows.append([link("timecell.data", name), first_line(function), code(shapes), code(signature(function))])
    return table(["encoder", "what it does", "shapes", "arguments"], rows)


def _shape(hint: Any) -> str:
    text = hint if isinstance(hint, str) else getattr(hint, "dim_str", str(hint))
    found = re.findall(r'"([^"]*)"', text)
    return ", ".join(f"[{' '.join(f.split())}]" for f in found) or text


def readers() -> str:
    """File endings, by the reader that takes them, with the package that it needs."""
    by_reader: dict[Any, list[str]] = {}
    for suffix, reader in every_reader().items():
        by_reader.setdefault(reader, []).append(suffix)
    rows = []
    for reader, suffixes in sorted(by_reader.items(), key=lambda item: item[1]):
        module = inspect.getmodule(reader)
        needs = sorted(set(re.findall(r'MissingExtra\("[^"]+", "([^"]+)"', inspect.getsource(module))))  # type: ignore[arg-type]
        extra = code("\n".join(f"timecell[{name}]" for name in needs))
        rows.append([code(" ".join(suffixes)), first_line(module), extra])
    return table(["endings", "what is read", "extra"], rows)


def datasets() -> str:
    """What ships with timecell."""
    from timecell.data import datasets as module

    rows = [[link("timecell.data", n), first_line(f)] for n, f in public(module).items() if n != "files"]
    return table(["data", "what it is"], rows)


# --- seeing --------------------------------------------------------------------------------------------------------


def plots() -> str:
    """Pictures."""
    return _functions(plot)


def limits() -> str:
    """Where an illness begins."""
    texts = section(lens.Limits, "Attributes")
    rows = [[code(f.name), code(f"{f.default:g}"), escaped(texts.get(f.name, ""))] for f in fields(lens.Limits)]
    return table(["limit", "value", "of what"], rows)


def prices() -> str:
    """Energy of one operation."""
    rows = [[name, *(code(f"{getattr(p, f.name):g}") for f in fields(p))] for name, p in lens.PRICES.items()]
    return table(["table", "pJ a multiply-accumulate", "pJ an accumulate", "pJ a unit update"], rows)


def _functions(room: Any) -> str:
    rows = [
        [link(room.__name__, n), first_line(f), code(signature(f))]
        for n, f in public(room).items()
        if inspect.isroutine(f)
    ]
    return table(["function", "what it does", "arguments"], rows)


# --- published systems ---------------------------------------------------------------------------------------------


def tasks() -> str:
    """What can be asked, of which data, and the baselines that every comparison includes."""
    rows = []
    for name, task in every_task().items():
        baselines = ", ".join(system.card.slug for system in task().baselines())
        rows.append([code(name), escaped(task.kind), escaped(first_line(task)), code(baselines)])
    return table(["task", "data", "what is asked", "baselines"], rows)


PAGES = Path(__file__).parents[1] / "systems"


def system_pages() -> str:
    """The pages of published systems."""
    rows = [
        [page_of(card.slug), escaped(card.family), escaped(card.summary)]
        for card in catalog.cards()
        if (PAGES / f"{card.slug}.md").exists()
    ]
    return table(["system", "family", "in a sentence"], rows)


def systems() -> str:
    """Every published system with what the shipped ledger says of its claims."""
    records, rows = ledger.read(ledger.SHIPPED), []
    for card, module in catalog.walk().items():
        known = ledger.standings(module, card.slug, records)
        standing = ledger.overall(s for s, _ in known.values())
        rows.append(
            [
                page_of(card.slug),
                escaped(card.title),
                escaped(card.summary),
                escaped(card.paper or ""),
                f"**{standing}**",
            ]
        )
    return table(["system", "paper", "in a sentence", "source", "its claims"], rows)


def page_of(slug: str) -> str:
    """A link to a system's page, if it has one."""
    return f"{{doc}}`{slug} <../systems/{slug}>`" if (PAGES / f"{slug}.md").exists() else code(slug)


def claims() -> str:
    """Each claim with its verdict and the numbers it rests on."""
    records, rows = ledger.read(ledger.SHIPPED), []
    for card, module in catalog.walk().items():
        known = ledger.standings(module, card.slug, records)
        for name, claim in load_claims(card.slug).items():
            standing, record = known[name]
            judged = [] if record is None else [
                f for e in (record.outcome.shown, record.outcome.control) if e.judgement for f in e.judgement.findings
            ]  # fmt: skip
            numbers = "\n".join(escaped(f"{f.contrast}: {f.mean:.3g} [{f.low:.3g}, {f.high:.3g}]") for f in judged)
            seeds = "" if record is None else str(len(record.outcome.shown.seeds))
            rows.append(
                [code(card.slug), escaped(claim.text), escaped(claim.control), numbers, seeds, f"**{standing}**"]
            )
    return table(["system", "claim", "negative control", "measured, with interval", "seeds", "verdict"], rows)


# --- exchange, checks, commands ------------------------------------------------------------------------------------


def from_snntorch() -> str:
    """snnTorch."""
    return _migration(snntorch)


def from_spikingjelly() -> str:
    """SpikingJelly."""
    return _migration(spikingjelly)


def from_norse() -> str:
    """Norse."""
    return _migration(norse)


def _migration(module: Any) -> str:
    rows = [[code(row.theirs), code(row.ours) if row.ours else "refused", escaped(row.note)] for row in module.TABLE]
    return table(["theirs", "ours", "note"], rows)


def contract() -> str:
    """What every cell is checked for."""
    return table(["check", "promise"], [[code(name), first_line(function)] for name, function in CHECKS.items()])


def commands() -> str:
    """The command line, from the commands' own help."""
    return "\n\n".join(_command(name, command) for name, command in every_command().items())


def _command(name: str, command: Any) -> str:
    from docstrings import markdown

    texts = {n: t for base in reversed(command.__mro__) for n, t in section(base, "Attributes").items()}
    rows = []
    for f in fields(command):
        positional = "Positional" in str(f.type) or f.type in ("File", "Slug")
        shown = f.name.upper() if positional else "--" + f.name.replace("_", "-")
        rows.append(
            [
                code(shown),
                "" if positional or f.default in (None, (), False) else code(str(f.default)),
                escaped(texts.get(f.name, "")),
            ]
        )
    return f"## timecell {name}\n\n{markdown(description(command))}\n\n" + table(
        ["option", "default", "what it does"], rows
    )


def _fields(c: Any) -> list[str]:
    return [
        f.name + (f" = {default(f.default)}" if isinstance(f.default, Callable | int | float | tuple) else "")
        for f in fields(c)
    ]
