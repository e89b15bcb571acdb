"""What operators with kernels written by hand share: from a tensor to a kernel and back, and one derivative.

A raw operator ``timecell::name`` has no autograd of its own, ``timecell::name_adjoint`` computes its blame; an autograd
function around the first calls the second by `adjoint`, which refuses to be differentiated again. It takes a mapped axis
by `one_by_one`. So `torch.func` and `torch.compile` work, and without gradients the raw operator is called directly.
"""

from __future__ import annotations

import functools
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from timecell.errors import InputError
from timecell.fuse import allocator, cache, loop
from timecell.fuse.operator import Last
from timecell.fuse.plan import array
from timecell.fuse.trace import transforms_active

# --- how a call runs ---------------------------------------------------------------------------------------------


def differentiated(*tensors: Tensor) -> bool:
    """Whether a call has to go through autograd."""
    return transforms_active() or (torch.is_grad_enabled() and any(t.requires_grad for t in tensors))


@torch.compiler.assume_constant_result
def plain() -> bool:
    """Whether loops run plain here; see `timecell.fuse.backend`."""
    return loop.chosen_backend() == "plain"


@torch.compiler.assume_constant_result
def carrying() -> bool:
    """Whether blame crosses time here; see `timecell.fuse.carry`."""
    return loop.carrying() == "full"


# --- one derivative ----------------------------------------------------------------------------------------------


class Adjoint(Last):
    """A raw adjoint operator."""

    @staticmethod
    def forward(name: str, *args: Any) -> tuple[Tensor, ...]:
        """The raw operator."""
        return tuple(getattr(torch.ops.timecell, name)(*args))

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        """One call for each mapped entry."""
        return one_by_one(Adjoint.apply, info.batch_size, in_dims, args)


def adjoint(name: str, *args: Any) -> tuple[Tensor, ...]:
    """Call a raw adjoint operator inside a backward pass."""
    # torch.compile refuses second derivatives by itself, and cannot look into a function inside a backward
    return (Adjoint.forward if torch.compiler.is_compiling() else Adjoint.apply)(name, *args)


def one_by_one(function: Any, size: int, in_dims: tuple[Any, ...], args: tuple[Any, ...]) -> tuple[Any, Any]:
    """A mapped axis as a loop: where each entry is a whole walk through time, little is lost."""
    parts = [function(*(a if d is None else a.select(d, i) for a, d in zip(args, in_dims))) for i in range(size)]
    return tuple(map(torch.stack, zip(*parts))), (0,) * len(parts[0])


# --- kernels and their arrays ------------------------------------------------------------------------------------


@functools.cache
def kernels(name: str) -> ModuleType:
    """The kernels in a file beside this one.

    They are loaded as a copy in the kernel cache, which is named by all that they are made of: numba itself looks at the
    file's date and size alone, and would keep machine code of an older version of what the file imports.
    """
    allocator.keep_freed_pages()
    return cache.load(Path(__file__).with_name(f"{name}.py").read_text())


def new(t: Tensor) -> Tensor:
    """Contiguous memory for another tensor like this one: what an operator promises."""
    return torch.empty_like(t, memory_format=torch.contiguous_format)


def ends(lengths: Tensor | None, x: Tensor) -> Any:
    """How many steps each row of x [B, T, ...] has."""
    return array(torch.full(x.shape[:1], x.shape[1]) if lengths is None else lengths.long())


# --- what is refused ---------------------------------------------------------------------------------------------


def check_time(place: str, x: Tensor, lengths: Tensor | None) -> None:
    """Refuse an x that is not [B, T, ...], or lengths that do not fit it."""
    if x.ndim < 2:
        raise InputError(
            place, found=f"shape {list(x.shape)}", expected="[batch, time, ...]", remedy="add the missing axes"
        )
    check_lengths(x, lengths)


def check_lengths(x: Tensor, lengths: Tensor | None) -> None:
    """Refuse lengths that do not fit x [B, T, ...]."""
    if lengths is None:
        return
    if lengths.shape != x.shape[:1] or lengths.is_floating_point():
        raise InputError(
            "lengths", found=f"shape {list(lengths.shape)}, type {lengths.dtype}",
            expected=f"{x.shape[0]} whole numbers, one a sample", remedy="pass a tensor of integers [B]",
        )  # fmt: skip
    if torch.compiler.is_compiling() or transforms_active():
        return  # their values are not known now
    wild = (lengths < 0) | (lengths > x.shape[1])
    if bool(wild.any()):
        bad = int(wild.nonzero()[0])
        raise InputError(
            f"lengths[{bad}]", found=int(lengths[bad]), expected=f"between 0 and T = {x.shape[1]}",
            remedy="cut the lengths or pad x",
        )  # fmt: skip


def check_layer(name: str, x: Tensor, others: dict[str, tuple[Tensor | None, tuple[Any, ...]]]) -> None:
    """Refuse an x that is not [B, T, H] in float32 or float64, or other arguments, {name: (tensor, shape)}, of other shapes."""
    if x.ndim != 3 or x.dtype not in (torch.float32, torch.float64):
        raise InputError(
            f"{name}(x)", found=f"shape {list(x.shape)}, type {x.dtype}", expected="[B, T, H] in float32 or float64",
            remedy="add the missing axes, convert with .float()",
        )  # fmt: skip
    for argument, (tensor, expected) in others.items():
        if tensor is not None and tuple(tensor.shape) != expected:
            raise InputError(
                f"{name}({argument})", found=f"shape {list(tensor.shape)}", expected=f"[{', '.join(map(str, expected))}]",
                remedy="match x [B, T, H] and the number of states N",
            )  # fmt: skip
