"""Emitted kernels as real files, named by the hash of their text, in the user's cache folder.

A file is written once, atomically, and never changed; numba keeps the machine code beside it. The hash covers the
source, the functions it imports, and the versions of numba and llvmlite, so that nothing stale is loaded.
The folder is ``$TIMECELL_CACHE``, else ``$XDG_CACHE_HOME/timecell``, else ``~/.cache/timecell``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from timecell.files import write_whole

_lock = threading.Lock()
_loaded: dict[str, ModuleType] = {}


@cache
def folder() -> Path:
    """Where kernels are kept; a temporary folder, announced once, if the usual one cannot be written."""
    base = os.environ.get("TIMECELL_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "timecell")
    path = Path(base).expanduser() / "kernels"
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        path = Path(tempfile.mkdtemp(prefix="timecell-kernels-"))
        print(f"timecell: cannot write kernels to {base} ({error.strerror}); this process uses {path}", file=sys.stderr)
    return path


@cache
def _version() -> str:
    import llvmlite
    import numba

    here = Path(__file__).parent
    h = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__} {sys.version_info[:2]}".encode())
    for name in ("row.py", "lanes.py", "maths.py", "vectors.py"):
        h.update((here / name).read_bytes())
    return h.hexdigest()


def path_of(source: str) -> Path:
    """The file a source text lives in, whether it is there yet or not."""
    digest = hashlib.sha256((_version() + source).encode()).hexdigest()[:20]
    return folder() / f"kernel_{digest}.py"


@contextmanager
def _without_registries() -> Iterator[None]:
    """Inside, numba loads machine code without first importing all that it could compile.

    That takes half a second, the larger part of a first call. What it does find is ready to run, and where it finds
    nothing its compiler imports the rest by itself.
    """
    from numba.core.caching import FunctionCache
    from numba.core.runtime import rtsys

    def load_overload(self: Any, signature: Any, target: Any) -> Any:
        rtsys.initialize(target)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(signature, target)

    usual: Any = FunctionCache.load_overload
    FunctionCache.load_overload = load_overload  # type: ignore[method-assign]
    try:
        yield
    finally:
        FunctionCache.load_overload = usual  # type: ignore[method-assign]


def load(source: str) -> ModuleType:
    """The compiled module of a source text: from memory, from the cache folder, or compiled now (about a second)."""
    known = _loaded.get(source)
    if known is not None:
        return known
    path = path_of(source)
    with _lock:
        if source in _loaded:
            return _loaded[source]
        if not path.exists():
            write_whole(path, source.encode())
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module  # numba finds the module of a cached function by name
        with _without_registries():
            spec.loader.exec_module(module)
        _loaded[source] = module
        return module
