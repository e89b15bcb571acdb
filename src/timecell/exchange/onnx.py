"""One instant of a net as an ONNX graph, with the state going in and coming out.

    state = export_step(net, "step.onnx", x_t)                       # the state before the first instant
    session = onnxruntime.InferenceSession("step.onnx")
    for x_t in stream:                                               # [B, ...], any B
        y, *after = session.run(None, {"x": x_t, **state})
        state = dict(zip(state, after))

The inputs are ``x`` and the state's tensors under their names in `timecell.state.flatten` ("state.1.v"), the outputs ``y``
and the state afterwards ("next.1.v"), in the same order. Whatever runs ONNX runs the net, without Python; a spike is a plain comparison there.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from timecell import fuse
from timecell.cell import Cell
from timecell.errors import InputError, MissingExtra
from timecell.files import write_whole
from timecell.state import StateTree, flatten, unflatten


def export_step(net: Cell, path: str | Path, x: Float[Tensor, "B ..."]) -> dict[str, np.ndarray]:
    """Write one instant of a net, in the mode that it has in use (eval), as an ONNX file.

    Args:
        net: a cell that streams.
        path: of the file.
        x: an example of one instant; the batch may be of another size later, the other axes not.

    Returns:
        The state before the first instant, for the batch of the example: name of the input -> array [B, ...].

    Raises:
        MissingExtra: the packages onnx and onnxscript are not installed.
        InputError: the net does not stream, or an operation in it has no ONNX form.

    Example:
        >>> import tempfile
        >>> from timecell import LIF, Sequential
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     state = export_step(Sequential(nn.Linear(3, 4), LIF(4)), Path(folder) / "step.onnx", torch.rand(2, 3))
        >>> {name: array.shape for name, array in state.items()}
        {'state.1.v': (2, 4)}
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as e:
        raise MissingExtra(str(e.name), "onnx", "ONNX files") from None
    if not net.streams:
        raise InputError(
            "export_step(net)", found=f"{type(net).__name__}, which needs the future", expected="a net that streams",
            remedy="leave out its parts that look ahead",
        )  # fmt: skip
    training = net.training
    net.eval()
    try:
        with torch.no_grad(), fuse.backend("plain"):
            _, fresh = net(x[:, None], lengths=torch.zeros(len(x), dtype=torch.long))
            state = flatten(fresh)
            content = _exported(_Step(net, fresh), x, state)
    finally:
        net.train(training)
    write_whole(Path(path), content)
    return {f"state.{name}": value.numpy() for name, value in state.items()}


class _Step(nn.Module):
    """A step between flat tensors."""

    def __init__(self, net: Cell, like: StateTree) -> None:
        super().__init__()
        self.net, self.like = net, like

    def forward(self, x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        y, after = self.net.step(x, unflatten(dict(zip(flatten(self.like), values)), self.like))
        return y, *flatten(after).values()


def _exported(step: _Step, x: Tensor, state: dict[str, Tensor]) -> bytes:
    batch = {0: torch.export.Dim("batch")}
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    try:
        quiet.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's exporter about itself
            program: Any = torch.onnx.export(
                step, (x, *state.values()), dynamo=True, verbose=False,
                input_names=["x", *(f"state.{name}" for name in state)],
                output_names=["y", *(f"next.{name}" for name in state)],
                dynamic_shapes={"x": batch} | ({"values": (batch,) * len(state)} if state else {}),
            )  # fmt: skip
    except torch.onnx.errors.OnnxExporterError as e:
        raise InputError(
            "export_step(net)", found=str(e.__cause__ or e).strip().splitlines()[0], expected="operations that ONNX has",
            remedy="take out the part that is named, or export the parts before and after it",
        ) from e  # fmt: skip
    finally:
        quiet.setLevel(level)
    return program.model_proto.SerializeToString()
