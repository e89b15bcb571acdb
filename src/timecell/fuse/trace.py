"""Trace one instant into a graph of pointwise operations, and derive its adjoint.

A `Step` is a pure function of one instant, ``function(*x, *state, *params) -> (y, *next state)``. `trace` runs it on
small tensors under `make_fx`, removes mutations, decomposes to core operations, and does the same for
``torch.func.vjp`` of the step. What comes out are two plain `torch.fx` graphs whose every node stands in the tables of
`emit.py` and `row.py`, or an error that names the source line.

A step of independent units sees tensors of one common shape (any shape: its graph does not depend on it). A step that
mixes units inside a sample (`Step.shapes`) sees one sample, with the shapes of that sample.

All of torch's private tracing interface that timecell uses is in this file.
"""

from __future__ import annotations

import inspect
import linecache
import math
import sys
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode

from timecell.errors import TimecellError, TraceError

aten = torch.ops.aten
ALSO_DECOMPOSED = [aten.leaky_relu, aten.gelu, aten.elu, aten.hardtanh]  # beyond the core table
MIXING = [  # taken apart too where units mix: what is left are products, sums and pointwise operations
    *(aten.mv, aten.dot, aten.addmv, aten.addmm, aten.baddbmm, aten.stack),
    *(aten._softmax, aten._softmax_backward_data, aten._log_softmax, aten._log_softmax_backward_data),
    *(aten.native_layer_norm, aten.native_layer_norm_backward, aten.select_backward, aten.slice_backward),
]
SHAPE = (2, 3)  # two rows, three units: any mixing of either shows up as an operation that is not pointwise


def _mm(a: Tensor, b: Tensor) -> Tensor:
    return a * b if a.shape[1] == 1 else (a.unsqueeze(2) * b.unsqueeze(0)).sum(1)


def _bmm(a: Tensor, b: Tensor) -> Tensor:
    return a * b if a.shape[2] == 1 else (a.unsqueeze(3) * b.unsqueeze(1)).sum(2)


def _var(x: Tensor, dim: Any = None, *, correction: float | None = None, keepdim: bool = False) -> Tensor:
    dims = list(range(x.ndim)) if dim is None else [dim] if isinstance(dim, int) else dim
    count = math.prod(x.shape[d] for d in dims) - (1 if correction is None else correction)
    centred = x - x.mean(dims, keepdim=True)
    return (centred * centred).sum(dims, keepdim=keepdim) / count


def _var_mean(x: Tensor, dim: Any = None, **options: Any) -> tuple[Tensor, Tensor]:
    return _var(x, dim, **options), x.mean(dim, keepdim=options.get("keepdim", False))


def _norm(x: Tensor, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    dims = list(range(x.ndim)) if dim is None else dim
    if ord != 2:
        return NotImplemented
    return (x * x).sum(dims, keepdim=keepdim).sqrt()


def _any(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    return (x != 0).to(torch.float32).amax(list(range(x.ndim)) if dim is None else dim, keepdim=keepdim) > 0


def _copy(into: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    return source.to(into.dtype).expand_as(into)


OUR_WAY = {  # a product is a multiplication that is summed, and the loop makes it so
    aten.mm.default: _mm, aten.bmm.default: _bmm, aten.var.correction: _var, aten.var_mean.correction: _var_mean,
    aten.linalg_vector_norm.default: _norm,
    aten.copy.default: _copy, aten.any.default: _any, aten.any.dim: _any, aten.any.dims: _any,
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One instant of a cell as a flat function, with the names of what goes in and out.

    Attributes:
        name: of the cell's class, for messages.
        function: ``(*inputs, *states, *params) -> (y, *next states)``, all tensors of one shape.
        inputs: names of the inputs at this instant.
        states: names of what is carried to the next instant.
        params: names of the parameters.
        source: the function the user wrote, for error messages.
        key: equal keys mean equal functions; the trace is made once per key.
        shapes: of the arguments in one sample, where units mix within a sample; None for independent units.
    """

    name: str
    function: Callable[..., tuple[Tensor, ...]]
    inputs: tuple[str, ...]
    states: tuple[str, ...]
    params: tuple[str, ...]
    source: Callable[..., Any]
    key: Hashable
    shapes: tuple[tuple[int, ...], ...] | None = None

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of all arguments in order."""
        return self.inputs + self.states + self.params

    def examples(self, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """Small tensors to run it on."""
        generator = torch.Generator().manual_seed(0)
        shapes = self.shapes or (SHAPE,) * len(self.arguments)
        return [torch.rand(shape, generator=generator, dtype=dtype) for shape in shapes]


def trace(step: Step, dtype: torch.dtype) -> fx.Graph:
    """The step as a graph: placeholders are `step.arguments`, outputs (y, *next states)."""
    return _graph(step, step.function, step.arguments, lambda: step.examples(dtype))


def blame_of(state: str = "") -> str:
    """The adjoint's name for the blame of a next state, or of the output; no argument of a step is called so."""
    return f"blame_of_{state}"


def trace_adjoint(step: Step, dtype: torch.dtype) -> fx.Graph:
    """The vector-Jacobian product of the step as a graph.

    Placeholders are `step.arguments`, then `blame_of` the output and of every state (the blame of each next
    state); outputs are the blame of every argument.
    """
    n = len(step.arguments)

    def adjoint(*args: Tensor) -> tuple[Tensor, ...]:
        pull = torch.func.vjp(step.function, *args[:n])[1]
        return pull(args[n:])

    names = (*step.arguments, blame_of(), *map(blame_of, step.states))

    def examples() -> list[Tensor]:
        given = step.examples(dtype)
        return [*given, *(torch.ones_like(o) for o in step.function(*given))]

    return _graph(step, adjoint, names, examples)


def _graph(
    step: Step, function: Callable[..., Any], names: tuple[str, ...], make_examples: Callable[[], list[Tensor]]
) -> fx.Graph:
    from torch.fx.experimental.proxy_tensor import make_fx

    table = _decompositions(step.shapes is not None)

    def traced() -> fx.GraphModule:
        examples = make_examples()
        raw = make_fx(function)(*examples)
        pure = torch.func.functionalize(fx.Interpreter(raw).run, remove="mutations")
        return make_fx(pure, decomposition_table=table)(*examples)

    try:
        # in a thread of its own: the caller's modes, hooks and transforms are about the run, not about the trace
        with ThreadPoolExecutor(1) as thread:
            graph_module = thread.submit(traced).result()
    except TimecellError:
        raise
    except Exception as error:  # torch's own message is about its internals; say what the user wrote instead
        _explain_failure(step, error)
    graph = graph_module.graph
    for node, name in zip(graph.find_nodes(op="placeholder"), names):
        node.name = name
    graph.eliminate_dead_code()
    _refuse_hidden(step, graph)
    return graph


@cache
def _decompositions(mixing: bool) -> dict[Any, Any]:
    """How larger operations are taken apart."""
    from torch._decomp import _core_aten_decompositions_post_autograd, get_decompositions

    table: dict[Any, Any] = dict(_core_aten_decompositions_post_autograd())
    more: Any = get_decompositions
    table.update(more(ALSO_DECOMPOSED))
    if mixing:
        table.update({**more(MIXING), **OUR_WAY})
        del table[aten.select_scatter.default]  # the core table makes a search over indices of it
    return table


def operations(graph: fx.Graph) -> list[fx.Node]:
    """The computing nodes of a graph, in order."""
    return [n for n in graph.nodes if n.op == "call_function"]


def results(graph: fx.Graph) -> tuple[fx.Node, ...]:
    """What the graph returns."""
    return tuple(next(iter(graph.find_nodes(op="output"))).args[0])


def is_truth(node: fx.Node) -> bool:
    """Whether a node's value is true or false, and no number."""
    return node.meta["val"].dtype == torch.bool


def transforms_active() -> bool:
    """True inside `torch.func` transforms (grad, vmap, ...), where ``requires_grad`` does not tell the truth."""
    return torch._C._functorch.peek_interpreter_stack() is not None


# --- errors that name the line -----------------------------------------------------------------------------------

RANDOM = ("rand", "bernoulli", "normal", "dropout", "uniform", "exponential", "multinomial", "poisson")
BRANCH = ("_local_scalar_dense", "is_nonzero", "item", "equal")


def _refuse_hidden(step: Step, graph: fx.Graph) -> None:
    """Constants captured from outside would go stale, random draws would repeat: neither may be in a step."""
    for node in graph.nodes:
        if node.op == "get_attr":
            raise TraceError(
                locate(step, outside=True),
                found="a tensor that is not an argument of dynamics (a constant would be "
                "frozen into the loop and get no gradient)",
                expected="only x, the state and the parameters",
                remedy="use a Python number, or declare it with tc.param(...)",
            )
        if node.op == "call_function" and any(r in str(node.target) for r in RANDOM):
            raise TraceError(
                locate(step, RANDOM),
                found=f"the random operation {node.target}",
                expected="a deterministic function of one instant",
                remedy="pass the noise in as an input",
            )


def _explain_failure(step: Step, error: Exception) -> None:
    if any(b in str(error) for b in (*BRANCH, "data-dependent")):
        raise TraceError(
            locate(step, BRANCH),
            found="a Python branch on the value of a tensor",
            expected="the same operations at every instant",
            remedy="write torch.where(condition, a, b) in place of if/else",
        ) from None
    raise TraceError(
        _place(step, _line_of(step, error)),
        found=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else error!r}",
        expected="a step that runs on tensors of one shape and returns (y, state)",
        remedy="run dynamics once by hand on small tensors and mend what it says",
    ) from error


class _Locator(TorchDispatchMode):
    """Runs the step eagerly and remembers the user's source line of the first operation that matches."""

    def __init__(self, source: Callable[..., Any], names: Iterable[str], outside: bool, known: list[Tensor]) -> None:
        super().__init__()
        self.code, self.names, self.outside = getattr(source, "__code__", None), tuple(names), outside
        self.known = {id(t) for t in known}
        self.alive: list[Any] = []
        self.line: int | None = None
        self.last: int | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        frame = sys._getframe(1)
        while frame is not None and frame.f_code is not self.code:
            frame = frame.f_back  # type: ignore[assignment]
        here = frame.f_lineno if frame is not None else None
        self.last = here or self.last
        strange = self.outside and any(isinstance(a, Tensor) and id(a) not in self.known for a in args)
        if self.line is None and (strange or any(n in str(func) for n in self.names)):
            self.line = here
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else [out]:
            self.alive.append(t)  # keep ids unique while we compare them
            self.known.add(id(t)) if "lift" not in str(func) else None
        return out


def locate(step: Step, names: Iterable[str] = (), outside: bool = False) -> str:
    """Where in the user's step function the first operation with one of these names stands: file, line, text."""
    args = step.examples()
    locator = _Locator(step.source, names, outside, args)
    try:
        with locator:
            step.function(*args)
    except Exception:
        locator.line = locator.line or locator.last
    return _place(step, locator.line)


def _line_of(step: Step, error: Exception) -> int | None:
    """The line of the user's step function that an exception passed through."""
    code, line, trace_ = getattr(step.source, "__code__", None), None, error.__traceback__
    while trace_ is not None:
        line = trace_.tb_lineno if trace_.tb_frame.f_code is code else line
        trace_ = trace_.tb_next
    return line


def _place(step: Step, line: int | None) -> str:
    where = f"{step.name}.{getattr(step.source, '__name__', 'dynamics')}"
    code = getattr(step.source, "__code__", None)
    if code is None or line is None:
        return where
    file = inspect.getsourcefile(code) or code.co_filename
    return f"{where} (line {line} of {file.rsplit('/', 1)[-1]}: {linecache.getline(file, line).strip()!r})"
