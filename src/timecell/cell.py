"""Cells: what sees time. A `Cell` maps a whole sequence and a state to a whole sequence and a state.

    y, state = cell(x, state=None, lengths=None)        # x [B, T, ...] -> y [B, T, ...]
    y_t, state = cell.step(x_t, state)                   # the same at T = 1: streaming is not another model

A `Neuron` is a cell of independent units, written as one instant: a static, pure function
``dynamics(x, s, p) -> (y, s)`` of the input, the state and the parameters. The engine does the rest. (A `Circuit`,
in `circuit.py`, is the same for units that mix.)
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, ClassVar, Self, get_type_hints

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell import fuse, pretrained
from timecell.errors import InputError, unknown_name
from timecell.fuse.raw import check_lengths
from timecell.fuse.setting import setting
from timecell.parameters import Option, Param
from timecell.state import State, StateTree


class Cell(nn.Module):
    """Base of everything that sees time.

    Attributes:
        causal: the output at t depends on no input after t.
        lookahead: how many steps after t it depends on, if not causal but bounded.
        streams: `step` may be used one instant after the other.
        roles: local parameter name -> role ("weight" where nothing is said); training gives roles their own rates.
        arguments: what the constructor was given, positional and by name; how a net is written to a file.
    """

    causal: bool = True
    lookahead: int = 0
    streams: bool = True
    roles: ClassVar[Mapping[str, str]] = {}
    arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keep the arguments, so that no constructor has to think of it."""
        cell = super().__new__(cls)
        cell.__dict__["arguments"] = (tuple(map(_detached, args)), {k: _detached(v) for k, v in kwargs.items()})
        return cell

    def forward(
        self, x: Float[Tensor, "B T ..."], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T ..."], StateTree]:
        """Whole sequences. Outputs after a sample's end are zero; its returned state is the one at its end."""
        raise NotImplementedError

    def step(self, x: Float[Tensor, "B ..."], state: StateTree = None) -> tuple[Float[Tensor, "B ..."], StateTree]:
        """One instant: `forward` at T = 1."""
        if not self.streams:
            raise InputError(
                f"{type(self).__name__}.step", found="a cell that needs the future", expected="one that streams",
                remedy="call the cell on the whole sequence",
            )  # fmt: skip
        y, state = self(x.unsqueeze(1), state)
        return y.squeeze(1), state

    def initial_state(self, batch: int, like: Tensor) -> StateTree:
        """The state before the first step, in the type and on the device of `like`; None means "make it when needed"."""
        return None

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """The trainable parameters by role; see `parameter_groups`."""
        return parameter_groups(self)

    def summary(self, x: Float[Tensor, "B T ..."] | None = None) -> Any:
        """What the net is made of and, given an input, what it costs; see `timecell.summary`."""
        from timecell.summary import summary

        return summary(self, x)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the net to a folder: config.json, model.safetensors and a README.md; see `timecell.pretrained`.

        Raises:
            InputError: a part of the net cannot be written as data; it names the part.
        """
        pretrained.save(self, folder)

    @classmethod
    def from_pretrained(cls, folder: str | Path, classes: Iterable[type] = ()) -> Self:
        """The net in a folder, in eval mode.

        Args:
            folder: written by `save_pretrained`.
            classes: cells and options from outside timecell that it may hold; this class is always among them.

        Raises:
            DataError: a file is missing, damaged or of another net, or the net is of another class than this one.
            InputError: the folder names a class that is neither timecell's nor one of `classes`.
        """
        return pretrained.load(folder, cls, classes)

    @classmethod
    def example(cls) -> Cell:
        """A small instance that takes inputs [B, T, 4], for the checks of `timecell.testing`."""
        return cls(4)  # type: ignore[call-arg]


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value  # a value, not the graph it came from


def parameter_groups(net: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The trainable parameters of a net by role: "weight", "neuron", "delay", ...

    Example:
        >>> sorted(parameter_groups(nn.Linear(2, 3)))
        ['weight']
    """
    groups: dict[str, list[nn.Parameter]] = {}
    seen: set[int] = set()
    for module in net.modules():
        roles: Mapping[str, str] = getattr(module, "roles", {})
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                groups.setdefault(roles.get(name, "weight"), []).append(parameter)
    return groups


def check_sequence(place: str, x: Tensor, lengths: Tensor | None, least: int = 3) -> None:
    """Refuse an input that is not [B, T, ...] or lengths that do not fit it."""
    if not isinstance(x, Tensor):
        raise InputError(
            place, found=type(x).__name__, expected="a tensor [B, T, ...]", remedy="convert it with torch.as_tensor"
        )
    if x.ndim < least:
        raise InputError(
            place, found=f"shape {list(x.shape)}", expected="[batch, time, channels...]",
            remedy="add the missing axes, e.g. x[None] for one sample, or use step(x) for one instant",
        )  # fmt: skip
    if not x.is_floating_point():
        raise InputError(
            place, found=f"type {x.dtype}", expected="floating point numbers", remedy="convert it with x.float()"
        )
    check_lengths(x, lengths)


def check_channels(place: str, x: Tensor, width: int) -> None:
    """Refuse an input that is not [B, T, width]."""
    if x.ndim != 3 or x.shape[2] != width:
        raise InputError(
            place, found=f"shape {list(x.shape)}", expected=f"[B, T, {width}]",
            remedy="match the layer's inputs to what comes before it",
        )  # fmt: skip


# --- written as one instant -----------------------------------------------------------------------------------------------------


class Stepped(Cell):
    """Base of the cells that are written as one instant: what is declared, and how it becomes all of time.

    Declare state variables (``v: tc.State``), parameters (``tau = tc.param(20.0, unit="steps")``) and choices
    (``reset = tc.option("soft")``), and write ``dynamics``: static and pure, so nothing else is in reach. States
    start at zero, or at ``rest = {"v": value}``. Subclass `Neuron` (independent units) or `Circuit` (units that mix).
    """

    states: ClassVar[tuple[str, ...]] = ()
    params: ClassVar[dict[str, Param]] = {}
    options: ClassVar[dict[str, Option]] = {}
    rest: ClassVar[Mapping[str, float]] = {}
    StateType: ClassVar[Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        declared = {n: v for k in reversed(cls.__mro__) for n, v in vars(k).items()}
        cls.params = {n: v for n, v in declared.items() if isinstance(v, Param)}
        cls.options = {n: v for n, v in declared.items() if isinstance(v, Option)}
        cls.states = tuple(_state_names(cls))
        cls.roles = {f"{n}_raw": v.role for n, v in cls.params.items()}
        for name in (*cls.params, *cls.options, *cls.states):
            if hasattr(Stepped, name):
                raise InputError(
                    f"{cls.__name__}.{name}", found="the name of something that every cell has", expected="a free name",
                    remedy=f"call it {name}_ or, better, by its name in the field",
                )  # fmt: skip
        cls.StateType = namedtuple(f"{cls.__name__}State", cls.states)  # type: ignore[misc]
        dynamics = vars(cls).get("dynamics")
        if dynamics is not None and not isinstance(dynamics, staticmethod):
            raise InputError(
                f"{cls.__name__}.dynamics", found="a method", expected="a static function (x, s, p) -> (y, s)",
                remedy="put @staticmethod above it and read parameters from p",
            )  # fmt: skip

    @staticmethod
    def dynamics(x: Tensor, s: Any, p: Any) -> tuple[Tensor, Any]:
        """One instant: (input, state, parameters) -> (output, next state). Pure; every neuron writes its own."""
        raise NotImplementedError("write dynamics(x, s, p) -> (y, s)")

    def declare(self, values: Mapping[str, Any], learn: Iterable[str] | None) -> None:
        """Take choices and parameter values (the end of every constructor)."""
        name = type(self).__name__
        known = {**self.params, **self.options}
        for key in values:
            if key not in known:
                raise unknown_name(f"{name}(...)", key, known)
        learnt = {n for n, q in self.params.items() if q.learn} if learn is None else set(learn)
        for key in learnt - self.params.keys():
            raise unknown_name(f"{name}(learn)", key, self.params)
        for n, o in self.options.items():
            value = values.get(n, o.default)
            if o.choices is not None and value not in o.choices:
                raise unknown_name(f"{name}({n})", str(value), map(str, o.choices))
            self.__dict__[n] = value
        for n, q in self.params.items():
            value = torch.as_tensor(
                self.parameter_value(q, values.get(n)), dtype=torch.get_default_dtype()
            ).detach().clone()  # fmt: skip
            q.check(name, value, strict=n in learnt)
            if n in learnt:
                self.register_parameter(f"{n}_raw", nn.Parameter(q.unconstrain(value)))
            else:
                self.register_buffer(f"{n}_value", value)
        self.instant  # noqa: B018 (made now, so that torch.compile finds it made)

    def parameter_value(self, q: Param, given: Any) -> Any:
        """The first value of a parameter, in its shape; `given` is None where the constructor was given none."""
        raise NotImplementedError

    def state_shape(self, state: str, x: Tensor) -> tuple[int, ...]:
        """Shape of a state variable in one sample, for an input [B, T, ...]."""
        raise NotImplementedError

    def check_input(self, x: Tensor) -> None:
        """Refuse an input of other units than this cell has."""
        raise NotImplementedError

    @property
    def widths(self) -> tuple[Any, ...]:
        """The sizes that the constructor takes first."""
        raise NotImplementedError

    def step_shapes(self) -> tuple[tuple[int, ...], ...] | None:
        """Shapes of x, states and parameters in one sample; None where units are independent."""
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "instant"}  # made anew in the copy

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.instant  # noqa: B018

    @cached_property
    def instant(self) -> fuse.Step:
        """This cell's step as the engine sees it: flat, with names, options filled in."""
        cls, chosen = type(self), {n: getattr(self, n) for n in self.options}
        n_s, shapes = len(cls.states), self.step_shapes()

        def function(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
            s = cls.StateType(*rest[:n_s])
            out = cls.dynamics(x, s, SimpleNamespace(**dict(zip(cls.params, rest[n_s:])), **chosen))
            y, after = _checked(cls, out)
            return (y, *after)

        key = (cls, tuple(sorted(chosen.items())), shapes)
        return fuse.Step(cls.__name__, function, ("x",), cls.states, tuple(cls.params), cls.dynamics, key, shapes)

    @property
    def learnt(self) -> tuple[bool, ...]:
        """For each parameter, whether it is trained."""
        return tuple(f"{n}_raw" in self._parameters for n in self.params)

    def initial_state(self, batch: int, like: Tensor) -> StateTree:
        """Every state at rest: [batch, ...] in the type (at least float32) and on the device of `like`."""
        wide = _wide(like.dtype)
        return self.StateType(
            *(
                torch.full((batch, *self.state_shape(s, like)), self.rest.get(s, 0.0), dtype=wide, device=like.device)
                for s in self.states
            )
        )

    def forward(
        self, x: Float[Tensor, "B T ..."], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T ..."], StateTree]:
        """All of time. Computes in float32 (or float64) whatever comes in; y has the type of x."""
        check_sequence(f"{type(self).__name__}(x)", x, lengths)
        return self.over_time(x, state, lengths)

    def over_time(
        self, x: Tensor, state: StateTree, lengths: Tensor | None, run: Callable[..., Any] = fuse.run
    ) -> tuple[Tensor, StateTree]:
        """`forward` by one of the engine's ways to run a step."""
        self.check_input(x)
        wide = x.to(_wide(x.dtype))
        if state is None:
            state = self.initial_state(x.shape[0], wide)
        else:
            self._check_state(state, x)
        wanted = None if torch.compiler.is_compiling() else _recording.get().get(self)
        values = [q.value(self).to(wide.dtype) for q in self.params.values()]
        record = tuple(s for s in self.states if wanted is not None and s in wanted.fields)
        y, after, courses = run(self.instant, [wide], list(state), values, lengths, record)
        if wanted is not None:
            wanted.keep(y, courses)
        return y.to(x.dtype), self.StateType(*after)

    def _check_state(self, state: StateTree, x: Tensor) -> None:
        shapes = {s: (x.shape[0], *self.state_shape(s, x)) for s in self.states}
        if isinstance(state, self.StateType) and all(v.shape == shapes[s] for s, v in zip(self.states, state)):
            return
        found = [list(s.shape) for s in state] if isinstance(state, tuple) else type(state).__name__
        wanted = ", ".join(f"{s} {list(shape)}" for s, shape in shapes.items())
        raise InputError(
            f"{type(self).__name__}(state)", found=found, expected=f"of shape: {wanted}",
            remedy="pass the state this cell returned for a batch of this size, or None to start anew",
        )  # fmt: skip

    def describe(self) -> list[str]:
        """Choices and parameter values, as `repr` shows them."""
        parts = [f"{n}={getattr(self, n)!r}" for n in self.options]
        for n, q in self.params.items():
            value = q.value(self)
            shown = f"{value.item():.4g}" if value.numel() == 1 else f"{value.min():.3g}..{value.max():.3g}"
            parts.append(f"{n}={shown}" + (" (learnt)" if f"{n}_raw" in self._parameters else ""))
        return parts


def _state_names(cls: type) -> Iterator[str]:
    seen: set[str] = set()
    for k in reversed(cls.__mro__):
        if not issubclass(k, Stepped) or k is Stepped:
            continue
        try:
            hints = get_type_hints(k, include_extras=True, localns={"State": State, k.__name__: k})
        except NameError:  # a name that is only known where the class was written
            hints = vars(k).get("__annotations__", {})
        for name in vars(k).get("__annotations__", {}):
            is_state = hints[name] == State or (
                isinstance(hints[name], str) and hints[name].rsplit(".", 1)[-1] == "State"
            )
            if is_state and name not in seen:
                seen.add(name)
                yield name


def _checked(cls: type[Stepped], out: Any) -> tuple[Tensor, Any]:
    if isinstance(out, tuple) and len(out) == 2 and isinstance(out[0], Tensor) and isinstance(out[1], cls.StateType):
        return out
    found = type(out).__name__ if not isinstance(out, tuple) else f"({', '.join(type(o).__name__ for o in out)})"
    raise InputError(
        f"{cls.__name__}.dynamics", found=found, expected="(y, s) with y a tensor and s the given state",
        remedy="end with: return y, s._replace(v=v)",
    )  # fmt: skip


def _wide(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype == torch.float64 else torch.float32


class Neuron(Stepped):
    """Independent units, written as one instant.

    Declare state variables (``v: tc.State``), parameters (``tau = tc.param(20.0, unit="steps")``) and choices
    (``reset = tc.option("soft")``), and write ``dynamics``: static and pure, so nothing else is in reach. States
    start at zero, or at ``rest = {"v": value}``.

    Args:
        size: number of units N of the last axis, or the unit shape, e.g. ``(C, 1, 1)`` for one value a feature map.
        learn: names of the parameters that training changes; None = as declared.
        **values: parameter values (number, or tensor broadcastable to the unit shape) and choices by name.

    Shapes: x [B, T, ..., N] -> y [B, T, ..., N]; each state [B, ..., N].

    Example:
        >>> from timecell import param
        >>> class Leak(Neuron):
        ...     v: State
        ...     decay = param(0.9, range=(0, 1))
        ...
        ...     @staticmethod
        ...     def dynamics(x, s, p):
        ...         v = p.decay * s.v + x
        ...         return v, s._replace(v=v)
        >>> y, state = Leak(1)(torch.ones(1, 3, 1))
        >>> [round(v, 2) for v in y[0, :, 0].tolist()]
        [1.0, 1.9, 2.71]
    """

    def __init__(self, size: int | tuple[int, ...], *, learn: Iterable[str] | None = None, **values: Any) -> None:
        super().__init__()
        self.size = (size,) if isinstance(size, int) else tuple(size)
        if not self.size or min(self.size) < 1:
            raise InputError(
                f"{type(self).__name__}(size)", found=size, expected="a positive number of units",
                remedy="give the width of the layer",
            )  # fmt: skip
        self.declare(values, learn)

    @property
    def widths(self) -> tuple[Any, ...]:
        """The unit shape."""
        return (self.size,)

    def parameter_value(self, q: Param, given: Any) -> Any:
        """One value for all units, or one for each."""
        value = torch.as_tensor(q.default if given is None else given)
        try:
            torch.broadcast_shapes(value.shape, self.size)
            return value.expand(self.size) if q.per == "unit" else value
        except RuntimeError:
            raise InputError(
                f"{type(self).__name__}({q.name})", found=f"shape {list(value.shape)}",
                expected=f"a number or a tensor that broadcasts to {list(self.size)}", remedy="match the layer's size",
            ) from None  # fmt: skip

    def state_shape(self, state: str, x: Tensor) -> tuple[int, ...]:
        """Every state has the shape of the units."""
        return tuple(x.shape[2:])

    def check_input(self, x: Tensor) -> None:
        """The last axes are the units."""
        name, units = type(self).__name__, x.shape[2:]
        if len(self.size) > len(units) or any(a not in (1, b) for a, b in zip(self.size[::-1], units[::-1])):
            maps = len(units) == 3 and self.size == units[:1]
            raise InputError(
                f"{name}(x)", found=f"{list(x.shape)}", expected=f"[B, T, ..., {', '.join(map(str, self.size))}]",
                remedy=f"write {name}(({self.size[0]}, 1, 1)) for units on feature maps" if maps
                else f"give the layer before it {self.size[-1]} outputs, or make {name} of size {units[-1]}",
            )  # fmt: skip

    def extra_repr(self) -> str:
        """Size, choices and parameter values."""
        return ", ".join([str(self.size[0] if len(self.size) == 1 else self.size), *self.describe()])


# --- inner signals -----------------------------------------------------------------------------------------------


class _Wanted:
    def __init__(self, path: str) -> None:
        self.path, self.fields = path, set[str]()
        self.output = False
        self.parts: dict[str, list[Tensor]] = {}

    def keep(self, y: Tensor, courses: Mapping[str, Tensor]) -> None:
        for field, course in courses.items():
            self.parts.setdefault(f"{self.path}.{field}" if self.path else field, []).append(course)
        if self.output:
            self.parts.setdefault(self.path, []).append(y)


_recording: ContextVar[Mapping[nn.Module, _Wanted]] = ContextVar("recording", default=MappingProxyType({}))


class Record(Mapping[str, Tensor]):
    """What `record` collected: name -> [B, T, ...], attached to the graph; several calls are joined over time."""

    def __init__(self, wanted: Mapping[nn.Module, _Wanted]) -> None:
        self._wanted = wanted

    def _all(self) -> dict[str, list[Tensor]]:
        return {n: parts for w in self._wanted.values() for n, parts in w.parts.items()}

    def __getitem__(self, name: str) -> Tensor:
        return torch.cat(self._all()[name], 1)

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


@contextmanager
def record(net: nn.Module, *names: str) -> Iterator[Record]:
    """Collect inner signals of neurons while the net runs.

    Args:
        net: any module with neurons inside.
        names: "path.state" for the course of a state ("1.v"), "path" for a neuron's output ("1").

    Example:
        >>> from timecell import LIF, Sequential
        >>> net = Sequential(nn.Linear(3, 4), LIF(4))
        >>> with record(net, "1.v", "1") as r:
        ...     _ = net(torch.ones(2, 5, 3))
        >>> tuple(r["1.v"].shape), tuple(r["1"].shape)
        ((2, 5, 4), (2, 5, 4))
    """
    neurons = {path: m for path, m in net.named_modules() if isinstance(m, Stepped)}
    known = [*neurons, *(f"{path}.{s}".lstrip(".") for path, m in neurons.items() for s in m.states)]
    wanted: dict[nn.Module, _Wanted] = {}
    for name in names:
        path, _, field = name.rpartition(".")
        if name in neurons:
            wanted.setdefault(neurons[name], _Wanted(name)).output = True
        elif path in neurons and field in neurons[path].states:
            wanted.setdefault(neurons[path], _Wanted(path)).fields.add(field)
        else:
            raise unknown_name("record", name, known)
    with setting(_recording, {**_recording.get(), **wanted}):
        yield Record(wanted)
