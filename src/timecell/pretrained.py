"""Keeping a net: a folder with its architecture as data, its numbers, and a card for people.

    net.save_pretrained("keyword-net")
    net = tc.Sequential.from_pretrained("keyword-net")        # the same outputs, bit for bit

    config.json         every part as {"module": its class, "arguments": ..., "children": ...}
    model.safetensors   parameters, buffers, and the tensors among the arguments
    README.md           what it is, what it holds, how to load it

A cell knows what its constructor was given; for the modules of torch in `PLAIN` it is read off the attributes of the
same names. Plain values that changed since (an annealed width, a frozen weight) are written beside that. Before
anything is written the net is built anew from its description and compared: what could not be brought back is refused
when it is kept, not when it is needed. Reading builds classes of timecell, of torch and those that the caller hands
over, and nothing else: a file can never name code to run.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from timecell._version import __version__
from timecell.config import class_name, find_class, from_dict, to_dict
from timecell.errors import DataError, InputError, TimecellError
from timecell.files import write_whole

Net = TypeVar("Net", bound=nn.Module)

PLAIN: tuple[type[nn.Module], ...] = (
    nn.Sequential, nn.Identity, nn.Flatten, nn.Unflatten, nn.Linear, nn.Embedding,
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.Upsample,
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm,
    nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
    nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Softsign, nn.Sigmoid,
    nn.Tanh, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Softmax, nn.LogSoftmax,
)  # fmt: skip
"""Modules of torch whose constructor arguments are their attributes of the same names."""

_NOT_KEPT = ("device", "dtype", "_weight", "_freeze", "min_value", "max_value")  # said by the tensors; old names


# --- a net as a folder -------------------------------------------------------------------------------------------


def save(net: nn.Module, folder: str | Path) -> None:
    """Write config.json, model.safetensors and README.md, each whole or not at all.

    Raises:
        InputError: a part of the net cannot be written as data; it names the part. Nothing has been written then.

    Example:
        >>> import tempfile
        >>> from timecell import LIF, Sequential
        >>> net = Sequential(nn.Linear(3, 4), LIF(4, tau=5.0)).eval()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     net.save_pretrained(folder)
        ...     same = Sequential.from_pretrained(folder)
        >>> x = torch.rand(2, 10, 3)
        >>> torch.equal(same(x)[0], net(x)[0])
        True
    """
    kept = _Kept()
    description = _describe(net, "", kept)
    try:
        twin = _rebuilt(description, kept.tensors, kept.classes, "net")
    except DataError as e:
        raise InputError(e.place, found=e.found, expected=e.expected, remedy=e.remedy) from e
    _check_same(net, twin)
    config = {"timecell": __version__, "network": description, **_changes(net, twin)}
    write_folder(Path(folder), config, kept.tensors | _state(net), _card(net, kept.classes))


def load(folder: str | Path, kind: type[Net], classes: Iterable[type] = ()) -> Net:
    """The net in a folder, in eval mode, with the number types that it was saved with.

    Args:
        folder: written by `save`.
        kind: class that the net must have.
        classes: modules and options from outside timecell that it may hold; `kind` is always among them.

    Raises:
        DataError: a file is missing, damaged or of another net, or the net is no `kind`.
        InputError: the folder names a class that is neither timecell's nor one of `classes`.
    """
    config, tensors = read_folder(Path(folder))
    place = f"{Path(folder) / 'config.json'}"
    net = _rebuilt(config.get("network"), tensors, {kind, *classes}, place)
    if not isinstance(net, kind):
        raise DataError(
            place, found=f"a {type(net).__name__}", expected=f"a {kind.__name__}",
            remedy=f"load it with {type(net).__name__}.from_pretrained",
        )  # fmt: skip
    try:
        _change(net, config)
    except (KeyError, TypeError, AttributeError) as e:
        raise _damaged(place, f"changes that do not fit the net ({e})") from e
    state = {name: tensors[name] for name in tensors if not name.endswith(")")}
    for name, mine in net.state_dict(keep_vars=True).items():
        if name in state:
            mine.data = mine.data.to(state[name].dtype)
    try:
        net.load_state_dict(state)
    except RuntimeError as e:
        raise _damaged(str(Path(folder) / "model.safetensors"), str(e).replace("\n\t", " ")) from e
    return net.eval()


def write_folder(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], card: str) -> None:
    """Write a model: config.json (which vouches for the tensors), model.safetensors and README.md."""
    from safetensors.torch import save

    content = save({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()})
    signed = {**config, "sha256": hashlib.sha256(content).hexdigest()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(
            str(folder), found="a file", expected="a folder, or a free name", remedy="choose another"
        ) from None
    write_whole(folder / "README.md", card.encode())
    write_whole(folder / "model.safetensors", content)
    write_whole(folder / "config.json", json.dumps(signed, indent=1).encode())


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the tensors of a model.

    Raises:
        DataError: a file is missing or damaged, or the two do not belong together; it names the file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    contents = {}
    for name in ("config.json", "model.safetensors"):
        try:
            contents[name] = (folder / name).read_bytes()
        except OSError as e:
            raise DataError(
                str(folder / name), found=e.strerror or str(e), expected="a folder as `save_pretrained` wrote it",
                remedy="check the path, or save the model again",
            ) from e  # fmt: skip
    place = str(folder / "config.json")
    try:
        config = json.loads(contents["config.json"])
    except ValueError as e:
        raise _damaged(place, f"no JSON ({e})") from e
    if not isinstance(config, dict):
        raise _damaged(place, f"{type(config).__name__} at the top")
    if config.get("sha256") != hashlib.sha256(contents["model.safetensors"]).hexdigest():
        raise _damaged(
            str(folder / "model.safetensors"), "content with another SHA-256 than config.json says (cut, changed, or of another net)"
        )  # fmt: skip
    try:
        return config, load(contents["model.safetensors"])
    except SafetensorError as e:
        raise _damaged(str(folder / "model.safetensors"), str(e)) from e


def _damaged(place: str, found: str) -> DataError:
    return DataError(place, found=found, expected="the file as it was written", remedy="save the model again")


# --- from a net to data ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kept:
    """What a description refers to: tensors among the arguments, and classes."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    classes: set[type] = field(default_factory=set)


def _describe(module: nn.Module, path: str, kept: _Kept) -> dict[str, Any]:
    """A module as data."""
    place = f"net.{path}" if path else "net"
    if module._forward_hooks or module._forward_pre_hooks:
        raise InputError(
            place, found="a hook", expected="a module without hooks", remedy="remove its hooks before saving"
        )
    kept.classes.add(type(module))
    arguments, children = {}, {}
    for name, value in _given(module, place).items():
        if isinstance(value, nn.Module):  # as it is now, if it has been exchanged
            value = dict(module.named_children()).get(name, value)
        arguments[name] = _encode(value, f"{path}.{name}".lstrip("."), f"{place}({name})", f"{path}({name})", kept)
    if _is_container(module):
        children = {n: _describe(m, f"{path}.{n}".lstrip("."), kept) for n, m in module.named_children()}
    return {"module": _name(type(module)), "arguments": arguments} | ({"children": children} if children else {})


def _given(module: nn.Module, place: str) -> dict[str, Any]:
    """Constructor arguments by name ("*sizes" for nameless ones), without the children of a container."""
    cls = type(module)
    signature = inspect.signature(cls.__init__)
    if "arguments" in vars(module):
        positional, named = vars(module)["arguments"]
        given: dict[str, Any] = {}
        for name, value in signature.bind(module, *positional, **named).arguments.items():
            kind = signature.parameters[name].kind
            if kind == inspect.Parameter.VAR_KEYWORD:
                given |= value
            elif kind != inspect.Parameter.VAR_POSITIONAL:
                given[name] = value
            elif not _is_container(module):
                given[f"*{name}"] = value
        return {n: v for n, v in given.items() if v is not module}
    if cls in PLAIN:
        return plain_arguments(module, cls)
    raise InputError(
        place, found=class_name(cls), expected="a timecell Cell or a module of torch.nn that timecell can write",
        remedy=f"make {cls.__name__} a tc.Cell, whose arguments are kept, or save its state_dict yourself",
    )  # fmt: skip


def plain_arguments(module: nn.Module, kind: type[nn.Module]) -> dict[str, Any]:
    """Constructor arguments of a module of torch: `kind` is its class in `PLAIN`, or that of which it is a variant.

    Example:
        >>> plain_arguments(nn.Linear(3, 4, bias=False), nn.Linear)
        {'in_features': 3, 'out_features': 4, 'bias': False}
    """
    parameters = inspect.signature(kind.__init__).parameters
    names = [n for n, p in parameters.items() if p.kind == p.POSITIONAL_OR_KEYWORD][1:]
    values = {n: getattr(module, n) for n in names if n not in _NOT_KEPT}
    return {n: v is not None if n == "bias" else v for n, v in values.items()}


def _is_container(module: nn.Module) -> bool:
    """True where the constructor takes any number of modules and makes them its children."""
    parameters = inspect.signature(type(module).__init__).parameters.values()
    return any(p.kind == p.VAR_POSITIONAL for p in parameters) and any(True for _ in module.children())


def _encode(value: Any, path: str, place: str, key: str, kept: _Kept) -> Any:
    """An argument as data: `path` for a module in it, `place` for people, `key` for a tensor."""
    if isinstance(value, nn.Module):
        return _describe(value, path, kept)
    if isinstance(value, Tensor):
        kept.tensors[key] = value
        return {"tensor": key}
    if isinstance(value, list | tuple):
        return [_encode(v, f"{path}.{i}", f"{place}[{i}]", f"{key[:-1]}.{i})", kept) for i, v in enumerate(value)]
    kept.classes.update(_dataclasses(value))
    try:
        return to_dict(value)
    except InputError as e:
        raise InputError(
            place, found=e.found, expected="modules, tensors, frozen dataclasses, numbers, strings or None",
            remedy="only what can be written as data can be kept; write a function as a Cell of its own",
        ) from None  # fmt: skip


def _dataclasses(value: Any) -> Iterator[type]:
    if is_dataclass(value):
        yield type(value)
        for f in fields(value):
            yield from _dataclasses(getattr(value, f.name))


def _name(cls: type) -> str:
    """Where a class is public ("timecell.neurons.LIF"), so that a file outlives a move within a room; else in full."""
    room = "torch.nn" if cls in PLAIN else ".".join(cls.__module__.split(".")[:2])
    public = getattr(sys.modules.get(room), cls.__name__, None) is cls
    return f"{room}.{cls.__name__}" if public else class_name(cls)


def _state(net: nn.Module) -> dict[str, Tensor]:
    state = net.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise InputError(
                f"net.{name}", found=type(value).__name__, expected="tensors only",
                remedy="keep it as a buffer or as an argument of the constructor",
            )  # fmt: skip
    return state


# --- from data to a net ------------------------------------------------------------------------------------------


def _rebuilt(description: Any, tensors: Mapping[str, Tensor], classes: Iterable[type], place: str) -> nn.Module:
    """The net of a description, its numbers still those of a new one; random numbers are left as they were."""
    with torch.random.fork_rng(devices=[]):
        net = _build(description, tensors, tuple(classes), place)
    if not isinstance(net, nn.Module):
        raise _damaged(place, "no network")
    return net


def _build(value: Any, tensors: Mapping[str, Tensor], classes: tuple[type, ...], place: str) -> Any:
    if isinstance(value, list):
        return tuple(_build(v, tensors, classes, f"{place}[{i}]") for i, v in enumerate(value))
    if isinstance(value, dict) and value.keys() == {"tensor"}:
        if value["tensor"] not in tensors:
            raise _damaged(place, f"no tensor {value['tensor']!r} in model.safetensors")
        return tensors[value["tensor"]].clone()
    if not isinstance(value, dict) or "module" not in value:
        return from_dict(value, classes)
    cls = _find(value["module"], classes)
    arguments, children = (
        {n: _build(v, tensors, classes, f"{place}.{n}") for n, v in value.get(part, {}).items()}
        for part in ("arguments", "children")
    )
    nameless = [v for n in arguments if n.startswith("*") for v in arguments[n]]
    named = {n: v for n, v in arguments.items() if not n.startswith("*")}
    try:
        return cls(*([OrderedDict(children)] if children else nameless), **named)
    except (TimecellError, ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        raise DataError(
            place, found=f"arguments that {cls.__name__} does not take ({type(e).__name__}: {e})",
            expected="the arguments that it was made with", remedy=f"give the arguments of {cls.__name__} as they were",
        ) from e  # fmt: skip


def _find(name: str, classes: tuple[type, ...]) -> type[nn.Module]:
    """A module class by name; one written in a script ("__main__") may since have moved to a module."""
    known = {f"__main__.{c.__qualname__}": c for c in classes} | {_name(c): c for c in (*PLAIN, *classes)}
    found: type[nn.Module] = find_class(
        name, known, lambda c: issubclass(c, nn.Module) and _name(c) == name, "module of torch.nn, a module"
    )
    return found


# --- what happened after construction ----------------------------------------------------------------------------


def _check_same(net: nn.Module, twin: nn.Module) -> None:
    """Refuse a net that its constructors would not make again: parts exchanged, added or shared by hand."""

    def parts(net: nn.Module) -> dict[str, str]:
        modules = {name: type(m).__name__ for name, m in net.named_modules()}
        tensors = {n: f"shape {list(t.shape)}" for n, t in [*net.named_parameters(), *net.named_buffers()]}
        return modules | tensors

    here, anew = parts(net), parts(twin)
    for name in [*here, *anew]:
        if here.get(name) != anew.get(name):
            raise InputError(
                f"net.{name}".rstrip("."), found=here.get(name, "nothing, or a part shared with another"),
                expected=f"{anew.get(name, 'nothing')}, as its constructor makes it",
                remedy="build the net with what it shall hold, and give each part its own tensors",
            )  # fmt: skip


def _plain_values(module: nn.Module) -> dict[str, Any]:
    values = {n: v for n, v in vars(module).items() if not n.startswith("_") and n != "training"}
    return {n: v for n, v in values.items() if v is None or isinstance(v, bool | int | float | str)}


def _changes(net: nn.Module, twin: nn.Module) -> dict[str, Any]:
    """Plain attributes and frozen parameters that are no longer as the constructors made them."""
    changed: dict[str, dict[str, Any]] = {}
    for (path, module), other in zip(net.named_modules(), twin.modules()):
        before = _plain_values(other)
        now = {n: v for n, v in _plain_values(module).items() if n in before and v != before[n]}
        changed |= {path: now} if now else {}
    learnt = {n: p.requires_grad for n, p in twin.named_parameters()}
    flags = {n: p.requires_grad for n, p in net.named_parameters() if p.requires_grad != learnt[n]}
    return {"changed": changed, "requires_grad": flags}


def _change(net: nn.Module, config: Mapping[str, Any]) -> None:
    for path, values in config["changed"].items():
        module = net.get_submodule(path)
        for name, value in values.items():
            if name not in _plain_values(module):
                raise KeyError(f"{path}.{name}")
            setattr(module, name, value)
    for name, learnt in config["requires_grad"].items():
        net.get_parameter(name).requires_grad_(learnt)


# --- the card ----------------------------------------------------------------------------------------------------


def _card(net: nn.Module, classes: Iterable[type]) -> str:
    tensors = [
        (n, t, isinstance(t, nn.Parameter) and t.requires_grad) for n, t in net.state_dict(keep_vars=True).items()
    ]
    count = sum(p.numel() for p in net.parameters() if p.requires_grad)
    mine = sorted(c.__name__ for c in classes if c not in PLAIN and not c.__module__.startswith("timecell."))
    given = f", classes=({', '.join(mine)},)" if mine else ""
    rows = [
        f"| {n} | {list(t.shape)} | {str(t.dtype).removeprefix('torch.')} | {'yes' if learnt else ''} |"
        for n, t, learnt in tensors
    ]
    return "\n".join([
        f"# {type(net).__name__}", "",
        f"A net of timecell {__version__} with {count} trainable parameters.", "",
        "```", str(net), "```", "",
        "```python", "import timecell as tc", "",
        f'net = tc.Cell.from_pretrained("this folder"{given})',
        "y, state = net(x)          # x [batch, time, ...] -> y [batch, time, ...]",
        "y_t, state = net.step(x_t) # one instant", "```", "",
        "| tensor | shape | type | trained |", "|---|---|---|---|", *rows, "",
    ])  # fmt: skip
