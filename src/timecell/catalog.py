"""Finding systems by walking: every module under `systems/` that has a CARD.

    CARD = Card(slug="delay-learning", title=..., summary=..., family="spiking")    # a literal, read from the source

    @dataclass(frozen=True)
    class DelayLearning(NetworkSystem):
        card = CARD                                                                 # says: this is the system

Claims stand in the module, or, if they need more than a page, in a module of the same name in the folder `claims/`
beside it, which imports the system and never the other way round.

Nothing is registered. Listing reads the sources and imports nothing, so it takes no torch; a module is imported when
its system is asked for. Every function takes the folder to walk, so that a folder of your own works the same way.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from timecell.card import Card
from timecell.errors import DataError, unknown_name

if TYPE_CHECKING:
    from timecell.system import System

PACKAGE = Path(__file__).parent
SYSTEMS = PACKAGE / "systems"


def walk(root: Path = SYSTEMS) -> dict[Card, Path]:
    """The card and the module of every system, in the order of family and slug.

    Raises:
        DataError: no such folder, a CARD that is no literal, or two systems of the same slug.

    Example:
        >>> [path.name for card, path in walk().items() if card.slug == "delay-learning"]
        ['delay_learning.py']
    """
    if not root.is_dir():
        raise DataError(str(root), found="no folder", expected="a folder of systems", remedy="check the path")
    found: dict[Card, Path] = {}
    for path in sorted(root.rglob("*.py")):
        card = read_card(path)
        if card is None:
            continue
        for other, elsewhere in found.items():
            if other.slug == card.slug:
                raise DataError(
                    str(path), found=f"the slug {card.slug!r} of {elsewhere}", expected="a slug of its own",
                    remedy="rename one of the two systems",
                )  # fmt: skip
        found[card] = path
    return dict(sorted(found.items(), key=lambda item: (item[0].family, item[0].slug)))


def cards(root: Path = SYSTEMS) -> list[Card]:
    """What systems there are.

    Example:
        >>> "delay-learning" in [card.slug for card in cards()]
        True
    """
    return list(walk(root))


def find(slug: str, root: Path = SYSTEMS) -> Path:
    """The module of a system.

    Raises:
        InputError: there is no such system; the message has the closest name.
    """
    modules = {card.slug: path for card, path in walk(root).items()}
    if slug not in modules:
        raise unknown_name("system", slug, modules)
    return modules[slug]


def read_card(path: Path) -> Card | None:
    """The CARD of a module, from its source; None if it has none.

    Raises:
        DataError: the source does not parse, or the CARD is no literal Card(...).
    """
    for node in _parse(path).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        if "CARD" in [ast.unparse(t) for t in (node.targets if isinstance(node, ast.Assign) else [node.target])]:
            try:
                return _card(node.value)
            except (ValueError, TypeError) as e:
                raise DataError(
                    f"{path}:{node.lineno}", found=f"CARD that cannot be read without running it ({e})",
                    expected="CARD = Card(slug=..., title=..., summary=..., family=...) with literal values",
                    remedy="write the values out",
                ) from None  # fmt: skip
    return None


def claims_file(module: Path) -> Path:
    """Where the claims of a system stand: in ``claims/`` beside its module, if there is a file of that name, else in it.

    Raises:
        DataError: the module has claims, and there is such a file beside it.

    Example:
        >>> claims_file(find("delay-learning")).relative_to(SYSTEMS).as_posix()
        'spiking/delay_learning.py'
        >>> claims_file(find("timesnet")).relative_to(SYSTEMS).as_posix()
        'series/claims/timesnet.py'
    """
    beside = module.parent / "claims" / module.name
    if not beside.exists():
        return module
    if here := claim_names(module):
        raise DataError(
            str(module), found=f"the claims {', '.join(here)}, and {beside} beside them",
            expected="all claims of a system in one of the two files", remedy="move them there, or take that file away",
        )  # fmt: skip
    return beside


def sources(module: Path) -> set[Path]:
    """A system's module, its claims, and the files beside them that they are made of, which they import.

    Example:
        >>> sorted(path.name for path in sources(find("timemaster")))
        ['answer_language.py', 'timemaster.py', 'timemaster.py']
    """
    found: set[Path] = set()
    left = [module, claims_file(module)]
    while left:
        path = left.pop()
        if path not in found:
            found.add(path)
            left += [file for file in _beside(path) if file.is_file()]
    return found


def _beside(path: Path) -> list[Path]:
    """Where the modules would lie that a file imports, if they lie beside systems."""
    files = []
    for node in _parse(path).body:
        if not isinstance(node, ast.ImportFrom):
            continue
        name, ours = node.module or "", SYSTEMS.relative_to(PACKAGE.parent).parts
        parts = tuple(name.split(".")) if name else ()
        if node.level:
            folder = path.parents[node.level - 1]
        elif parts[: len(ours)] == ours:
            folder, parts = SYSTEMS, parts[len(ours) :]
        else:
            folder = path.parent
        files += [folder.joinpath(*parts).with_suffix(".py")] if parts else []
        files += [folder.joinpath(*parts, f"{alias.name}.py") for alias in node.names]
    return files


def claim_names(path: Path) -> list[str]:
    """The functions of a file that are decorated with ``@claim(...)``.

    Example:
        >>> claim_names(claims_file(find("delay-learning")))
        ['delays_help']
    """
    functions = [node for node in _parse(path).body if isinstance(node, ast.FunctionDef)]
    return [f.name for f in functions if any(ast.unparse(d).startswith("claim(") for d in f.decorator_list)]


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as e:
        line = getattr(e, "lineno", None) or 1
        raise DataError(f"{path}:{line}", found=str(e), expected="Python", remedy="mend this line") from None


def _card(value: ast.expr | None) -> Card:
    if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "Card"):
        raise ValueError("it is no call of Card")
    return Card(
        *[_literal(argument) for argument in value.args],
        **{str(keyword.arg): _literal(keyword.value) for keyword in value.keywords},
    )


def _literal(value: ast.expr) -> Any:
    if not isinstance(value, ast.Constant):
        raise ValueError(f"{ast.unparse(value)} is no literal")
    return value.value


# --- importing --------------------------------------------------------------------------------------------------------


def load_module(slug: str, root: Path = SYSTEMS) -> ModuleType:
    """Import the module of a system.

    Raises:
        InputError: there is no such system.
        DataError: a module outside the package cannot be imported.
    """
    return import_file(find(slug, root))


def load_system(slug: str, root: Path = SYSTEMS) -> System:
    """A system with its default hyperparameters: the class whose `card` is the module's CARD.

    Raises:
        InputError: there is no such system.
        DataError: the module cannot be imported, or has not exactly one such class.

    Example:
        >>> load_system("delay-learning").card.n
        8
    """
    module = load_module(slug, root)
    classes: list[Any] = [thing for thing in vars(module).values() if isinstance(thing, type)]
    systems = [cls for cls in classes if vars(cls).get("card") is module.CARD]  # not those that only inherit it
    if len(systems) != 1:
        raise DataError(
            str(module.__file__), found=f"{[c.__name__ for c in systems]} with card = CARD", expected="one class",
            remedy="write `card = CARD` in the class of the system, and in no other",
        )  # fmt: skip
    system: System = systems[0]()
    return system


def import_file(path: Path) -> ModuleType:
    """Import a Python file by its path. It may import its neighbours, and worker processes can be sent what it defines.

    A file outside the package becomes part of a package of its folder's own, so that `claims/mine.py` may write
    ``from ..mine import Mine``, and files of one name in two folders never meet.

    Raises:
        DataError: no such file, or one outside the package raises when it runs.
    """
    if not path.is_file():
        raise DataError(str(path), found="no such file", expected="a Python file", remedy="check the path")
    if path.is_relative_to(PACKAGE):
        return importlib.import_module(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
    path = path.resolve()
    name = f"{_package(path.parent)}.{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    import cloudpickle  # what joblib sends work to processes with

    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise DataError(str(path), found="a file that is no module", expected="a .py file", remedy="check the path")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        del sys.modules[name]
        line = [frame.lineno for frame in traceback.extract_tb(e.__traceback__) if Path(frame.filename) == path]
        raise DataError(
            f"{path}:{line[-1] if line else 1}", found=f"{type(e).__name__}: {e}", expected="a module that imports",
            remedy="mend this line",
        ) from e  # fmt: skip
    cloudpickle.register_pickle_by_value(sys.modules[name.partition(".")[0]])
    return module


def _package(folder: Path) -> str:
    """The name of a folder's package, which lies in that of the folder above for `claims`."""
    if folder.name == "claims":
        name = f"{_package(folder.parent)}.claims"
    else:
        name = f"folder_{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    if name not in sys.modules:
        package = sys.modules[name] = ModuleType(name)
        package.__path__ = [str(folder)]
    return name
