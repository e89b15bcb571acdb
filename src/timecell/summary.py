"""A net at a glance: layers, shapes, states, parameters and operations.

    print(net.summary())        what is known without running it
    print(net.summary(x))       and what one run shows: shapes, states, operations a step

The net is run once, in eval mode, and nothing of it is left: modes, buffers and random states are as before. Operations
follow the rules of `timecell.work`; an accumulate depends on the spikes in x, so bring an x that is like your data.
"""

from __future__ import annotations

import html
import io
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from timecell.errors import InputError
from timecell.watch import Signal, Signals, over_time, own_state, undisturbed, watched
from timecell.work import Meter, Work, uncounted

if TYPE_CHECKING:
    from rich.table import Table

Shape = tuple[str | int, ...]


@dataclass(frozen=True)
class Row:
    """One module.

    Attributes:
        path: in the net; "" for the net itself.
        kind: its class.
        output: shape of its output, as ("B", "T", 20); None without a run, or where it was not called.
        states: name -> shape of each state variable of its own, ("B", 20); None for a shape before a run.
        trainable: parameters of its own that training changes.
        fixed: frozen parameters of its own, and constants of units.
        macs: multiply-accumulates a step and sample; None without a run, or where no rule covers its weights.
        acs: accumulates a step and sample, likewise.
    """

    path: str
    kind: str
    output: Shape | None
    states: dict[str, Shape | None]
    trainable: int
    fixed: int
    macs: float | None
    acs: float | None


@dataclass(frozen=True, repr=False)
class Summary:
    """What `summary` found. Prints as a table; rich and notebooks show it as one, too.

    Attributes:
        rows: one a module, the net itself first.
        input: shape of x with its numbers; None without a run.
    """

    rows: tuple[Row, ...]
    input: tuple[int, ...] | None

    @property
    def trainable(self) -> int:
        """Trainable parameters of the net; one that is shared counts once."""
        return sum(row.trainable for row in self.rows)

    @property
    def fixed(self) -> int:
        """Frozen parameters and constants of units."""
        return sum(row.fixed for row in self.rows)

    @property
    def state(self) -> int | None:
        """Numbers that one sample's state holds; None without a run."""
        if self.input is None:
            return None
        shapes = [shape for row in self.rows for shape in row.states.values()]
        return sum(_numel(shape) for shape in shapes if shape is not None)

    @property
    def macs(self) -> float | None:
        """Multiply-accumulates a step and sample; None if they are not known of every layer."""
        return _total([row.macs for row in self.rows])

    @property
    def acs(self) -> float | None:
        """Accumulates a step and sample; None if they are not known of every layer."""
        return _total([row.acs for row in self.rows])

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        totals = {name: getattr(self, name) for name in ("trainable", "fixed", "state", "macs", "acs")}
        return {"input": self.input, "rows": [asdict(row) for row in self.rows], "total": totals}

    def __str__(self) -> str:
        from rich.console import Console

        text = io.StringIO()
        Console(file=text, width=120, color_system=None, highlight=False).print(self)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    __repr__ = __str__

    def __rich__(self) -> Table:
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_footer=True)
        for head, foot, side in zip(self._head(), self._foot(), SIDES):
            table.add_column(head, footer=foot, justify=side, footer_style="bold", no_wrap=head != "state")
        for cells in self._cells():
            table.add_row(*map(escape, cells))
        return table

    def _repr_html_(self) -> str:
        def line(cells: list[str], tag: str) -> str:
            style = [f"text-align: {side}; white-space: pre" for side in SIDES]
            return "".join(f'<{tag} style="{s}">{html.escape(c)}</{tag}>' for c, s in zip(cells, style))

        head, foot = line(self._head(), "th"), line(self._foot(), "th")
        body = "".join(f"<tr>{line(cells, 'td')}</tr>" for cells in self._cells())
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody><tfoot><tr>{foot}</tr></tfoot></table>"

    def _head(self) -> list[str]:
        return ["layer", "output", "state", "trainable", "fixed", *(["MAC/step", "AC/step"] if self.input else [])]

    def _foot(self) -> list[str]:
        state = "" if self.state is None else f"{self.state:,} a sample"
        work = [_amount(self.macs), _amount(self.acs)] if self.input else []
        return ["total", "", state, f"{self.trainable:,}", f"{self.fixed:,}", *work]

    def _cells(self) -> Iterator[list[str]]:
        for row in self.rows:
            depth, name = row.path.count(".") + bool(row.path), row.path.rpartition(".")[2]
            layer = "  " * depth + f"{name} {row.kind}".lstrip()
            states = ", ".join(f"{state} {_shown(shape)}".rstrip() for state, shape in row.states.items())
            counts = [f"{n:,}" if n else "" for n in (row.trainable, row.fixed)]
            work = [_amount(row.macs), _amount(row.acs)] if self.input else []
            yield [layer, _shown(row.output), states, *counts, *work]


SIDES: tuple[Literal["left", "right"], ...] = ("left", "left", "left", "right", "right", "right", "right")


def summary(net: nn.Module, x: Float[Tensor, "B T ..."] | None = None) -> Summary:
    """Layers, shapes, states, parameters and operations of any net.

    Args:
        net: any module; with x, one that is called as ``net(x)``.
        x: an input to run it on once; without it only what is known without a run.

    Raises:
        InputError: x is not [B, T, ...]; and what the net itself raises.

    Example:
        >>> from timecell import LIF, Sequential
        >>> print(summary(Sequential(nn.Linear(3, 4), LIF(4)), torch.ones(2, 5, 3)))
        layer       output     state       trainable  fixed  MAC/step  AC/step
        Sequential  [B, T, 4]
          0 Linear  [B, T, 4]                     16                        12
          1 LIF     [B, T, 4]  v [B, 4]                   2
        total                  4 a sample         16      2                 12
    """
    if x is None:
        return Summary(tuple(_rows(net, Signals(), {}, None)), None)
    if not isinstance(x, Tensor) or x.ndim < 2 or 0 in x.shape[:2]:
        found = f"shape {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise InputError(
            "summary(x)", found=found, expected="a tensor [B, T, ...]", remedy="pass a batch of inputs like your data"
        )
    signals, meter = Signals(), Meter()
    with undisturbed(net), torch.no_grad(), watched(net, signals.note, meter.note):
        net.eval()(x)
    meter.close(x.shape[0], x.shape[1])
    works = {work.path: work for work in meter.works()}
    return Summary(tuple(_rows(net, signals, works, x.shape[:2], meter.lost)), tuple(x.shape))


def _rows(
    net: nn.Module, signals: Signals, works: Mapping[str, Work], size: Sequence[int] | None, lost: Collection[str] = ()
) -> Iterator[Row]:
    seen: set[int] = set()
    unknown = {*uncounted(net), *lost}
    for path, module in net.named_modules():
        own = [p for p in module.parameters(recurse=False) if id(p) not in seen]
        seen |= {id(p) for p in own}
        frozen = [p for p in own if not p.requires_grad]
        declared = {f"{name}_value" for name in getattr(module, "params", ())}
        constants = [b for name, b in module.named_buffers(recurse=False) if name in declared]
        signal, work = signals.get(path), works.get(path)
        macs, acs = 0.0, 0.0
        if size is not None and work is not None:
            macs, acs = (w.sum().item() / (size[0] * size[1]) for w in (work.macs, work.acs))
        known = size is not None and path not in unknown
        yield Row(
            path=path,
            kind=type(module).__name__,
            output=None if signal is None or size is None else _output(signal, *size),
            states=_states(module, signal),
            trainable=sum(p.numel() for p in own if p.requires_grad),
            fixed=sum(t.numel() for t in (*frozen, *constants)),
            macs=macs if known else None,
            acs=acs if known else None,
        )


def _output(signal: Signal, batch: int, steps: int) -> Shape:
    course = over_time(signal.outputs, signal.sees_time, batch, steps)
    if course is None:
        shape = signal.outputs[-1].shape
        return ("B", *shape[1:]) if shape[:1] == (batch,) else tuple(shape)
    return ("B", "T" if course.shape[1] == steps else course.shape[1], *course.shape[2:])


def _states(module: nn.Module, signal: Signal | None) -> dict[str, Shape | None]:
    """What a module remembers itself; what its children remember stands with them."""
    if signal is None or signal.state is None:
        return dict.fromkeys(getattr(module, "states", ()))
    return {name: ("B", *tensor.shape[1:]) for name, tensor in own_state(module, signal).items()}


def _numel(shape: Shape) -> int:
    return math.prod(n for n in shape if isinstance(n, int))


def _shown(shape: Shape | None) -> str:
    return "" if shape is None else f"[{', '.join(map(str, shape))}]"


def _total(amounts: Sequence[float | None]) -> float | None:
    known = [a for a in amounts if a is not None]
    return math.fsum(known) if len(known) == len(amounts) else None


def _amount(operations: float | None) -> str:
    """For the table: nothing for none, a question mark where no rule applies."""
    if operations is None:
        return "?"
    return "" if operations == 0 else f"{operations:,.0f}" if operations >= 100 else f"{operations:.3g}"
