"""A training run on disk: everything that is needed to go on as if it had never stopped.

A checkpoint is a folder ``checkpoint-<update>``. It is written under another name, flushed to the disk and renamed, and
only then is the one before it removed; so there is a whole checkpoint at every instant. ``manifest.json`` holds the
hash of every file: damage is an error that names the file, never a run that quietly starts from something else.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from timecell.config import class_name
from timecell.errors import DataError, InputError
from timecell.files import flush

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """What a run holds between two updates.

    Attributes:
        tensors: by file: "model", "optimizer", "best", "random"; each a mapping of names to tensors.
        state: the rest, as JSON values: position, history, configuration, versions.
    """

    tensors: Mapping[str, Tensors]
    state: Mapping[str, Any]


def save(folder: Path, update: int, checkpoint: Checkpoint) -> Path:
    """Write ``checkpoint-<update>`` into a folder, unless it is there, and remove the others; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    final, unfinished = folder / f"checkpoint-{update:09d}", folder / ".checkpoint-unfinished"
    if final.exists():
        return final
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    for name, tensors in checkpoint.tensors.items():
        save_file({k: _own(t) for k, t in tensors.items()}, unfinished / f"{name}.safetensors")
    _write_json(unfinished / "state.json", checkpoint.state)
    _write_json(unfinished / "manifest.json", {path.name: _hash(path) for path in sorted(unfinished.iterdir())})
    for path in [*unfinished.iterdir(), unfinished]:
        flush(path)
    os.replace(unfinished, final)
    flush(folder)
    for path in _all(folder):
        if path != final:
            shutil.rmtree(path)
    return final


def latest(folder: Path) -> Path | None:
    """The checkpoint in a folder; None if there is none."""
    return max(_all(folder), default=None)


def to_resume(path: Path | None, resume: bool, config: Mapping[str, Any]) -> Checkpoint | None:
    """The checkpoint to go on from, known to be whole and of this run; None where a run begins.

    Args:
        path: of the latest one, if there is one.
        resume: whether to go on from it is wanted.
        config: all that must be the same in a run that goes on; the checkpoint's state has it under the same name.

    Raises:
        InputError: there is one, and going on is not wanted; or it is of another run.
        DataError: it is damaged.
    """
    if path is None:
        return None
    if not resume:
        raise InputError(
            "run.folder", found=f"{path.name} in {path.parent}", expected="a folder without a checkpoint",
            remedy="pass resume=True (--resume) to go on from it, or another folder to start anew",
        )  # fmt: skip
    found = load(path)
    require_same(config, found.state["config"], "run.resume")
    return found


def load(path: Path) -> Checkpoint:
    """Read a checkpoint after checking every file against its hash.

    Raises:
        DataError: naming the file that is missing, truncated or changed.
    """
    manifest = _read_json(path / "manifest.json")
    for name, digest in manifest.items():
        if not (path / name).is_file():
            raise _damaged(path / name, "no file")
        if _hash(path / name) != digest:
            raise _damaged(path / name, f"{(path / name).stat().st_size} bytes with another hash than when written")
    tensors = {Path(name).stem: load_file(path / name) for name in manifest if name.endswith(".safetensors")}
    return Checkpoint(tensors, _read_json(path / "state.json"))


def require_same(found: Mapping[str, Any], saved: Mapping[str, Any], place: str) -> None:
    """Refuse to go on with a configuration or data other than those of the checkpoint.

    Raises:
        InputError: naming the first difference.

    Example:
        >>> require_same({"recipe": {"batch": 32}}, {"recipe": {"batch": 64}}, "run.resume")
        Traceback (most recent call last):
        timecell.errors.InputError: run.resume: found recipe.batch = 32, expected 64 as in the checkpoint.
          Remedy: resume with the arguments and data of the run that was stopped, or start anew in another folder.
    """
    now, then = _flat(found), _flat(saved)
    for key in [*then, *(k for k in now if k not in then)]:
        if now.get(key, "nothing") != then.get(key, "nothing"):
            raise InputError(
                place, found=f"{key} = {now.get(key, 'nothing')}",
                expected=f"{then.get(key, 'nothing')} as in the checkpoint",
                remedy="resume with the arguments and data of the run that was stopped, or start anew in another folder",
            )  # fmt: skip


def describe(net: nn.Module, without: Collection[str] = ()) -> dict[str, Any]:
    """What a net is, apart from its numbers: type, plain settings and shapes of each module.

    Args:
        net: any module.
        without: settings to leave out, because they change in training.

    Example:
        >>> describe(nn.Dropout(0.1))
        {'net': {'type': 'torch.nn.modules.dropout.Dropout', 'p': 0.1, 'inplace': False}}
    """
    return {
        path or "net": {
            "type": class_name(type(module)),
            **{k: v for k, v in vars(module).items() if _is_setting(k, v) and k not in without},
            **{k: list(t.shape) for k, t in module.named_parameters(recurse=False)},
            **{k: list(t.shape) for k, t in module.named_buffers(recurse=False)},
        }
        for path, module in net.named_modules()
    }


def machine() -> dict[str, Any]:
    """What the last bits of a sum depend on."""
    return {"torch": str(torch.__version__), "threads": torch.get_num_threads()}


def optimizer_tensors(optimizer: Any) -> dict[str, Tensor]:
    """The moments of an optimiser as "number of the parameter.name"; its rates are the recipe's."""
    moments = optimizer.state_dict()["state"]
    return {f"{number}.{name}": t for number, of_one in moments.items() for name, t in of_one.items()}


def load_optimizer(optimizer: Any, tensors: Tensors) -> None:
    """Give a new optimiser of the same parameters the moments that `optimizer_tensors` returned."""
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        moments.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


# --- random states ------------------------------------------------------------------------------------------------


def random_states() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The states of torch's, numpy's and Python's global generators: tensors, and the rest as JSON values."""
    version, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - the global one is the one to keep
    tensors = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
        "python": torch.tensor(words),
    }
    if torch.cuda.is_initialized():
        tensors |= {f"cuda.{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return tensors, {"python": [version, gauss], "numpy": [position, has_gauss, cached]}


def set_random_states(tensors: Tensors, rest: Mapping[str, Any]) -> None:
    """Put the global generators back into the states that `random_states` returned."""
    version, gauss = rest["python"]
    random.setstate((version, tuple(tensors["python"].tolist()), gauss))
    keys = tensors["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, *rest["numpy"]))  # noqa: NPY002
    torch.set_rng_state(tensors["torch"])
    for name, state in tensors.items():
        if name.startswith("cuda."):
            torch.cuda.set_rng_state(state, int(name.removeprefix("cuda.")))


@contextmanager
def unchanged() -> Iterator[None]:
    """Whatever is drawn inside, afterwards the states are what they were before.

    Example:
        >>> torch.manual_seed(0).initial_seed()
        0
        >>> with unchanged():
        ...     a = torch.rand(1)
        >>> bool(a == torch.rand(1))
        True
    """
    before = random_states()
    try:
        yield
    finally:
        set_random_states(*before)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch, numpy and Python inside; afterwards their states are what they were before.

    Example:
        >>> with seeded(0):
        ...     a = torch.rand(1)
        >>> with seeded(0):
        ...     b = torch.rand(1)
        >>> bool(a == b)
        True
    """
    with unchanged():
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        yield


# --- files --------------------------------------------------------------------------------------------------------


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*"))


def _own(tensor: Tensor) -> Tensor:
    """A copy of its own: safetensors refuses tensors that share memory (tied weights)."""
    return tensor.detach().cpu().contiguous().clone()


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise _damaged(path, "no file") from None
    except ValueError as e:
        raise _damaged(path, f"text that is not JSON ({e})") from None


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_setting(name: str, value: Any) -> bool:
    if name.startswith("_") or name == "training":
        return False
    return all(isinstance(v, bool | int | float | str) for v in (value if isinstance(value, tuple) else (value,)))


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping | list | tuple) and value:
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        return {k: v for name, inner in items for k, v in _flat(inner, f"{prefix}.{name}".lstrip(".")).items()}
    return {prefix: list(value) if isinstance(value, tuple) else value}


def _damaged(path: Path, found: str) -> DataError:
    return DataError(
        str(path), found=found, expected="the file as it was written",
        remedy=f"restore it, or delete {path.parent.name} and train anew",
    )  # fmt: skip
