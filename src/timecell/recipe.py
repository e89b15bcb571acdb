"""What a training run is made of: `Recipe`, its `Stage`s, and values that follow a schedule rather than a gradient.

Everything that changes while a net trains (learning rates, scheduled values, which stage it is) is a pure function of
how much of a stage is done. So a checkpoint need not hold any of it, and a run that was killed goes on exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from timecell.cell import parameter_groups
from timecell.errors import InputError, unknown_name
from timecell.parameters import Option, Param

UNDECAYED = ("delay", "neuron")
"""Roles without weight decay: zero is no neutral value for a delay or a time constant."""


OPTIMIZERS: Mapping[str, type[torch.optim.Optimizer]] = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def constant(done: float) -> float:
    """The full rate throughout."""
    return 1.0


def cosine(done: float) -> float:
    """Half a cosine, from the full rate down to zero."""
    return 0.5 * (1 + math.cos(math.pi * done))


def onecycle(done: float) -> float:
    """Up from 1/25 of the rate during the first 30 %, then down to zero, both along a cosine (Smith & Topin, 2018)."""
    if done < 0.3:
        return 1 - (1 - 1 / 25) * cosine(done / 0.3)
    return cosine((done - 0.3) / 0.7)


SCHEDULES: Mapping[str, Callable[[float], float]] = {"constant": constant, "cosine": cosine, "onecycle": onecycle}


def _positive(place: str, value: float, at_most: float = math.inf) -> None:
    if not 0 < value <= at_most or math.isinf(value):
        upto = "" if math.isinf(at_most) else f", at most {at_most:g}"
        raise InputError(place, found=value, expected=f"a number above zero{upto}", remedy="choose such a number")


def _having(net: nn.Module, attribute: str, place: str) -> list[nn.Module]:
    """The submodules that have this attribute; ``path.name`` looks below the path only."""
    path, _, name = attribute.rpartition(".")
    try:
        found = [m for m in net.get_submodule(path).modules() if hasattr(m, name)]
    except AttributeError:
        found = []
    if not found:
        raise InputError(
            place, found=repr(attribute), expected=f"an attribute of the net or of a module in it ({type(net).__name__})",
            remedy="check the name, or leave it out for this net",
        )  # fmt: skip
    return found


# --- values that follow a schedule ------------------------------------------------------------------------------------


class Schedule:
    """A value of some modules that is a function of how much of a stage is done: `Anneal`, `Staged`.

    What it may be: a plain attribute that the module reads whenever it runs (a Delayed's sigma, a Dropout's p), a
    parameter of a neuron that is not learnt (a threshold), or, staged, a choice of a neuron (its surrogate).

    Attributes:
        attribute: its name; it is set on every submodule that has it. "path.name" looks only below that path.
        share: how much of the stage passes until it stays as it is, in (0, 1].
    """

    attribute: str
    share: float

    @property
    def name(self) -> str:
        """The attribute's own name, without a path."""
        return self.attribute.rpartition(".")[2]

    def value(self, done: float) -> Any:
        """The value when this fraction of the stage is done."""
        raise NotImplementedError

    def set(self, net: nn.Module, done: float) -> None:
        """Give every submodule its value.

        Raises:
            InputError: no module has it, it is learnt, or it lies out of its range.
        """
        for module in _having(net, self.attribute, f"{type(self).__name__}(attribute)"):
            declared = getattr(type(module), self.name, None)
            if isinstance(declared, Param):
                self._set_parameter(module, declared, self.value(done))
            elif isinstance(declared, Option):
                self._set_choice(module, declared, self.value(done))
            else:
                setattr(module, self.name, self.value(done))

    def _set_parameter(self, module: nn.Module, declared: Param, value: float) -> None:
        fixed = module._buffers.get(f"{self.name}_value")
        if fixed is None:
            raise InputError(
                f"{type(self).__name__}(attribute)", found=f"{self.attribute!r}, which {type(module).__name__} learns",
                expected="a value that is not learnt", remedy=f"leave {self.name!r} out of learn=",
            )  # fmt: skip
        declared.check(type(module).__name__, fixed.new_tensor(value), strict=False)
        fixed.fill_(value)

    def _set_choice(self, module: nn.Module, declared: Option, value: Any) -> None:
        if not isinstance(self, Staged):
            raise InputError(
                f"{type(self).__name__}(attribute)", found=f"{self.attribute!r}, a choice of {type(module).__name__}",
                expected="a value that its loop reads, since each new choice is a new loop", remedy="use Staged",
            )  # fmt: skip
        if declared.choices is not None and value not in declared.choices:
            raise unknown_name(f"Staged({self.attribute})", str(value), map(str, declared.choices))
        if getattr(module, self.name) != value:
            module.__dict__[self.name] = value
            module.__dict__.pop("instant", None)  # the loop of the old choice


COURSES: Mapping[str, Callable[[float, float, float], float]] = {
    "exponential": lambda start, end, part: start * (end / start) ** part,
    "linear": lambda start, end, part: start + (end - start) * part,
    "cosine": lambda start, end, part: end + (start - end) * cosine(part),
}


@dataclass(frozen=True)
class Anneal(Schedule):
    """A number that moves from `start` to `end` during the first part of a stage and then stays.

    Attributes:
        attribute: its name; see `Schedule`.
        start: value at the beginning of the stage.
        end: value once `share` of the stage is done.
        share: how much of the stage it takes, in (0, 1].
        course: "exponential" (equal factors; both ends above zero), "linear", or "cosine" (slow at both ends).

    Example:
        >>> sigma = Anneal("sigma", start=8.0, end=0.5, share=0.5)
        >>> [sigma.value(done) for done in (0.0, 0.25, 0.5, 1.0)]
        [8.0, 2.0, 0.5, 0.5]
        >>> Anneal("p", start=0.0, end=0.5, share=1.0, course="linear").value(0.5)
        0.25
    """

    attribute: str
    start: float
    end: float
    share: float = 0.25
    course: str = "exponential"

    def __post_init__(self) -> None:
        _positive("Anneal(share)", self.share, at_most=1.0)
        if self.course not in COURSES:
            raise unknown_name("Anneal(course)", self.course, COURSES)
        for name in ("start", "end"):
            if self.course == "exponential":
                _positive(f"Anneal({name})", getattr(self, name))
            elif not math.isfinite(getattr(self, name)):
                raise InputError(
                    f"Anneal({name})", found=getattr(self, name), expected="a finite number", remedy="set it"
                )

    def value(self, done: float) -> float:
        """The value when this fraction of the stage is done."""
        return COURSES[self.course](self.start, self.end, min(done / self.share, 1.0))


@dataclass(frozen=True)
class Staged(Schedule):
    """One value after the other, each for an equal part of the first `share` of a stage; the last one then stays.

    The values may be of any kind: numbers, names, surrogates.

    Attributes:
        attribute: its name; see `Schedule`.
        values: in their order.
        share: how much of the stage passes until the last one is reached, in (0, 1].

    Example:
        >>> ticks = Staged("ticks", (1, 2, 4))
        >>> [ticks.value(done) for done in (0.0, 0.3, 0.5, 0.7, 1.0)]
        [1, 1, 2, 4, 4]
    """

    attribute: str
    values: tuple[Any, ...]
    share: float = 1.0

    def __post_init__(self) -> None:
        _positive("Staged(share)", self.share, at_most=1.0)
        if len(self.values) < 2:
            raise InputError(
                "Staged(values)", found=self.values, expected="two or more", remedy="set it at construction"
            )

    def value(self, done: float) -> Any:
        """The value when this fraction of the stage is done."""
        return self.values[min(int(done / self.share * len(self.values)), len(self.values) - 1)]


# --- stages -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """A stretch of training with an optimiser of its own.

    Attributes:
        share: how much of the updates it takes, relative to the other stages.
        lr: highest learning rate of the weights.
        rates: role of a parameter -> its learning rate as a multiple of `lr`; 1 for a role that is absent. Unless told
            otherwise delays have 30: they are counted in steps, and 0.003 of a step an update would leave them in place.
        weight_decay: decoupled decay per unit of learning rate; delays and neuron constants have none.
        schedule: course of the learning rate: "cosine", "constant" or "onecycle".
        clip: largest norm of the whole gradient; None = no limit.
        optimizer: "adamw", or "sgd" without momentum: the step is the gradient itself, so that what a rule promises of
            its direction holds of the step too.
        prepare: name of a method called when the stage begins, on every submodule that has it, e.g. "harden".
        anneal: values that follow a schedule instead of being trained.
    """

    share: float = 1.0
    lr: float = 3e-3
    rates: Mapping[str, float] = field(default_factory=lambda: {"delay": 30.0})
    weight_decay: float = 0.0
    schedule: str = "cosine"
    clip: float | None = 1.0
    optimizer: Literal["adamw", "sgd"] = "adamw"
    prepare: str | None = None
    anneal: tuple[Schedule, ...] = ()

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise unknown_name("Stage(schedule)", self.schedule, SCHEDULES)
        if self.optimizer not in OPTIMIZERS:
            raise unknown_name("Stage(optimizer)", self.optimizer, OPTIMIZERS)
        _positive("Stage(share)", self.share)
        _positive("Stage(lr)", self.lr)
        if self.clip is not None:
            _positive("Stage(clip)", self.clip)

    def begin(self, net: nn.Module) -> None:
        """Prepare the net and give annealed values their first value."""
        if self.prepare is not None:
            for module in _having(net, self.prepare, "Stage(prepare)"):
                getattr(module, self.prepare)()
        self.set_annealed(net, 0.0)

    def set_annealed(self, net: nn.Module, done: float) -> None:
        """Give annealed values what they are when this fraction of the stage is done."""
        for anneal in self.anneal:
            anneal.set(net, done)

    def settled(self, done: float) -> bool:
        """True once no annealed value moves any more: from here on the net is what it will be in use."""
        return all(done >= anneal.share for anneal in self.anneal)

    def groups(self, net: nn.Module) -> list[dict[str, Any]]:
        """The optimiser's parameter groups by role; "peak" is a group's highest rate."""
        roles = parameter_groups(net)
        for role in self.rates:
            if role not in (known := {"weight", *UNDECAYED, *roles}):
                raise unknown_name("Stage(rates)", role, known)
        return [
            {
                "params": parameters,
                "peak": self.lr * self.rates.get(role, 1.0),
                "weight_decay": 0.0 if role in UNDECAYED else self.weight_decay,
            }
            for role, parameters in roles.items()
        ]

    def optimiser(self, net: nn.Module) -> torch.optim.Optimizer:
        """A new one for all parameters that are trained.

        Raises:
            InputError: there are none.
        """
        groups = self.groups(net)
        if not groups:
            raise InputError(
                "net", found="no parameter to train", expected="at least one with requires_grad",
                remedy="unfreeze one; a net that is fixed needs no fit",
            )  # fmt: skip
        return OPTIMIZERS[self.optimizer](groups, lr=self.lr)  # type: ignore[call-arg]

    def rate(self, done: float) -> float:
        """The learning rate, as a fraction of the highest, when this fraction of the stage is done."""
        return SCHEDULES[self.schedule](done)


@dataclass(frozen=True)
class Recipe:
    """How a net is trained, whatever it is.

    Only weights of the last stage, once its annealed values have settled, are candidates for the final net: earlier
    ones belong to a net that is not the one in use (blurred delays, soft thresholds).

    Attributes:
        stages: one after the other, each starting from the weights of the one before.
        batch: samples in one update at most; an epoch is cut into batches of nearly equal size.
        patience: candidates in a row that may be worse than the best before training stops; None = never.
        validate_every: updates between validations; None = once an epoch.

    Example:
        >>> Recipe((Stage(share=3), Stage(share=1, prepare="harden"))).ends(200)
        (150, 200)
    """

    stages: tuple[Stage, ...] = (Stage(),)
    batch: int = 64
    patience: int | None = None
    validate_every: int | None = None

    def __post_init__(self) -> None:
        if not self.stages:
            raise InputError("Recipe(stages)", found="none", expected="at least one stage", remedy="pass (Stage(),)")
        for name in ("batch", "patience", "validate_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"Recipe({name})", found=value, expected="at least 1", remedy="choose a larger number")

    def ends(self, updates: int) -> tuple[int, ...]:
        """The update at which each stage ends, out of so many in all."""
        whole = sum(stage.share for stage in self.stages)
        shares = [sum(stage.share for stage in self.stages[: i + 1]) / whole for i in range(len(self.stages))]
        return tuple(round(updates * share) for share in shares)

    @property
    def last(self) -> int:
        """Number of the last stage."""
        return len(self.stages) - 1

    def reach(self, net: nn.Module, stage: int, done: float, begun: int = 0) -> None:
        """Make a net what it is, numbers aside, when this fraction of that stage is done.

        Args:
            net: a new one, or one in which some stages have begun.
            stage: number of the stage.
            done: how much of it.
            begun: how many stages have begun in this net.
        """
        for number, each in enumerate(self.stages[: stage + 1]):
            if number >= begun:
                each.begin(net)
            each.set_annealed(net, done if number == stage else 1.0)


class OneStage:
    """What most systems say of their training: one stage at their own learning rate, with batches of their own size.

    A base beside `NetworkSystem` for dataclasses that have the fields `lr` and `batch`.

    Example:
        >>> @dataclass(frozen=True)
        ... class Small(OneStage):
        ...     lr: float = 0.01
        ...     batch: int = 8
        >>> Small().recipe() == Recipe((Stage(lr=0.01),), batch=8)
        True
    """

    lr: float
    batch: int

    def recipe(self) -> Recipe:
        """One stage."""
        return Recipe((Stage(lr=self.lr),), batch=self.batch)
