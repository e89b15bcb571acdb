"""Echo state networks: a large, fixed, random recurrent net that remembers; only what reads it out is fitted.

    h_t = (1 - a) h_{t-1} + a tanh(W_in x_t + W h_{t-1} + b)

W is sparse and random. Its spectral radius (the largest absolute value of an eigenvalue) decides how long the past
echoes: somewhat below 1 as a rule, so that the start is forgotten in the end. The leak a slows all units down to the
time scale of the input.

Sources: Jaeger, The "echo state" approach to analysing and training recurrent neural networks (2001); Lukoševičius, A
practical guide to applying echo state networks (2012), whose advice the defaults follow.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.cell import Cell, check_channels, check_sequence
from timecell.combine import announce_loop
from timecell.errors import InputError
from timecell.fuse.reservoir import reservoir
from timecell.state import StateTree

SMALL = 1000  # units up to which all eigenvalues are found; beyond, Arnoldi's method is much faster


class Echo(NamedTuple):
    """What a reservoir remembers: its units [B, N]."""

    h: Tensor


class Reservoir(Cell):
    """A fixed random recurrent net of leaky tanh units.

    Nothing in it is trained; `torch.manual_seed` decides what it is. Read it out with a closed form, as in the example
    (`timecell.tasks.ridge`), or put a trained layer behind it: gradients go through it to what comes before.

    Args:
        inputs: I.
        size: N units.
        spectral_radius: of W, > 0.
        leak: a in (0, 1]; 1 is no leak.
        connections: units that each unit listens to (N where there are fewer): the cost of a step is N times this.
        input_scaling: input weights are uniform in [-input_scaling, input_scaling].
        bias_scaling: biases are uniform in [-bias_scaling, bias_scaling].

    Shapes: x [B, T, I] -> h [B, T, N]; state h [B, N].

    Example:
        >>> from timecell.tasks.ridge import ridge_path
        >>> _ = torch.manual_seed(0)
        >>> x = torch.rand(1, 300, 1)
        >>> h, _ = Reservoir(1, 50, input_scaling=0.3)(x)
        >>> features, target = h[0, 10:].numpy(), x[0, 8:-2].double().numpy()
        >>> readout = next(ridge_path(features, target, alphas=[1e-6]))      # the input two steps ago
        >>> bool(abs(readout(features) - target).mean() < 0.01)
        True
    """

    input_weight: Tensor
    bias: Tensor
    weight: Tensor
    source: Tensor

    def __init__(
        self,
        inputs: int,
        size: int,
        *,
        spectral_radius: float = 0.9,
        leak: float = 1.0,
        connections: int = 10,
        input_scaling: float = 1.0,
        bias_scaling: float = 0.0,
    ) -> None:
        super().__init__()
        if min(inputs, size, connections) < 1:
            raise InputError(
                "Reservoir(inputs, size, connections)", found=(inputs, size, connections),
                expected="positive whole numbers", remedy="mend the argument",
            )  # fmt: skip
        if not 0 < leak <= 1:
            raise InputError("Reservoir(leak)", found=leak, expected="a number in (0, 1]", remedy="1 is no leak")
        if not spectral_radius > 0:
            raise InputError(
                "Reservoir(spectral_radius)", found=spectral_radius, expected="a positive number",
                remedy="0.9 is a usual start",
            )  # fmt: skip
        self.inputs, self.size, self.leak = inputs, size, leak
        self.register_buffer("input_weight", (2 * torch.rand(size, inputs) - 1) * input_scaling)
        self.register_buffer("bias", (2 * torch.rand(size) - 1) * bias_scaling)
        listened_to = [torch.randperm(size)[:connections].sort().values for _ in range(size)]
        self.register_buffer("source", torch.stack(listened_to))
        weight = torch.randn(self.source.shape)
        self.register_buffer("weight", weight * (spectral_radius / radius(weight, self.source)))

    @classmethod
    def example(cls) -> Reservoir:
        """For the checks."""
        return cls(4, 6, leak=0.6, connections=3, bias_scaling=0.2)

    @property
    def macs_a_step(self) -> int:
        """Multiply-accumulates of a sample at each step: every weight once (`timecell.work`)."""
        return self.input_weight.numel() + self.weight.numel()

    def initial_state(self, batch: int, like: Tensor) -> StateTree:
        """Zeros."""
        return Echo(like.new_zeros(batch, self.size, dtype=torch.promote_types(like.dtype, torch.float32)))

    def forward(
        self, x: Float[Tensor, "B T I"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T N"], StateTree]:
        """Whole sequences: one product for the inputs of all steps, then one fused loop. Computes in float32 or float64."""
        check_sequence("Reservoir(x)", x, lengths)
        check_channels("Reservoir(x)", x, self.inputs)
        before = self.initial_state(x.shape[0], x) if state is None else state
        if not isinstance(before, Echo) or before.h.shape != (x.shape[0], self.size):
            raise InputError(
                "Reservoir(state)", found=type(state).__name__, expected=f"Echo, h of shape {[x.shape[0], self.size]}",
                remedy="pass the state this cell returned for a batch of this size, or None to start anew",
            )  # fmt: skip
        if x.device.type != "cpu":
            announce_loop(f"Reservoir on {x.device.type}", x.shape[1])
        wide = torch.promote_types(x.dtype, torch.float32)
        drive = nn.functional.linear(x.to(wide), self.input_weight.to(wide), self.bias.to(wide)).to(wide)
        y, h = reservoir(drive, before.h.to(wide), self.weight.to(wide), self.source, self.leak, lengths)
        return y.to(x.dtype), Echo(h)

    def extra_repr(self) -> str:
        """Widths, connections and leak."""
        return f"{self.inputs}, {self.size}, connections={self.source.shape[1]}, leak={self.leak:.4g}"


def radius(weight: Float[Tensor, "N K"], source: Int[Tensor, "N K"]) -> float:
    """The spectral radius of a matrix that has weight[i, k] in row i and column source[i, k].

    Example:
        >>> round(radius(torch.tensor([[2.0], [8.0]]), torch.tensor([[1], [0]])), 3)
        4.0
    """
    size = len(weight)
    if size <= SMALL:
        dense = torch.zeros(size, size, dtype=torch.float64).scatter_add(1, source, weight.double())
        return torch.linalg.eigvals(dense).abs().max().item()
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import eigs

    row_ends = torch.arange(size + 1) * source.shape[1]
    parts = (weight.double().flatten(), source.flatten(), row_ends)
    matrix = csr_array(tuple(part.numpy() for part in parts), shape=(size, size))
    start = torch.ones(size, dtype=torch.float64).numpy()  # the same on every run
    return abs(eigs(matrix, k=1, v0=start, return_eigenvectors=False)[0]).item()
