"""Neurons with a history of their own: each has a private little network that reads the last M of its own inputs.

    A_t = (x_{t-M+1}, ..., x_t)                    what one neuron received, oldest first
    h_t = GLU(A_t W1 + c1),  y_t = GLU(h_t W2 + c2) / temperature          W1, W2, c1, c2 private to the neuron

GLU(u, v) = u sigmoid(v). Nothing passes between neurons here; that is left to the synapses before.

Source: Darlow, Regan, Risi, Seely & Jones, "Continuous thought machines" (2025), arXiv:2505.05522, neuron-level models.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import glu

from timecell.cell import Cell, check_channels, check_sequence
from timecell.combine import silence
from timecell.errors import InputError
from timecell.state import StateTree


class History(NamedTuple):
    """The last M - 1 inputs of every neuron, [B, D, M - 1], oldest first."""

    past: Tensor


class NeuronLevelModel(Cell):
    """A private network for each neuron, over its last inputs. It is one batched product, not D networks.

    Args:
        size: D neurons.
        history: M inputs that a neuron sees, the present one included.
        hidden: H hidden units of each; None: one linear map and its gate.

    Shapes: x [B, T, D] -> y [B, T, D]; state: the inputs before [B, D, M - 1], zeros at the start.

    Example:
        >>> model = NeuronLevelModel(3, history=5, hidden=2)
        >>> x = torch.rand(1, 8, 3)
        >>> whole, _ = model(x)
        >>> first, state = model(x[:, :7])
        >>> bool(torch.allclose(model.step(x[:, 7], state)[0], whole[:, 7], atol=1e-6))
        True
    """

    roles: ClassVar[dict[str, str]] = {"temperature": "neuron"}

    def __init__(self, size: int, history: int = 10, hidden: int | None = 4) -> None:
        super().__init__()
        for name, value in (("size", size), ("history", history), ("hidden", 1 if hidden is None else hidden)):
            if value < 1:
                raise InputError(f"NeuronLevelModel({name})", found=value, expected="at least 1", remedy="give it more")
        self.size, self.history, self.hidden = size, history, hidden
        widths = [(history, 2)] if hidden is None else [(history, 2 * hidden), (hidden, 2)]
        self.weights = nn.ParameterList(
            nn.Parameter((2 * torch.rand(size, i, o) - 1) / (i + o) ** 0.5) for i, o in widths
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(size, o)) for _, o in widths)
        self.temperature = nn.Parameter(torch.ones(()))

    @classmethod
    def example(cls) -> NeuronLevelModel:
        """For the checks."""
        return cls(4, history=3, hidden=2)

    @property
    def macs_a_step(self) -> int:
        """Multiply-accumulates of a sample at each step (`timecell.work`)."""
        return sum(w.numel() for w in self.weights)

    def initial_state(self, batch: int, like: Tensor) -> StateTree:
        """Zeros."""
        return History(torch.zeros(batch, self.size, self.history - 1, dtype=like.dtype, device=like.device))

    def forward(
        self, x: Float[Tensor, "B T D"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T D"], StateTree]:
        """Whole sequences."""
        check_sequence("NeuronLevelModel(x)", x, lengths)
        check_channels("NeuronLevelModel(x)", x, self.size)
        B, T, _ = x.shape
        before = self.initial_state(B, x) if state is None else state
        if not isinstance(before, History) or before.past.shape != (B, self.size, self.history - 1):
            raise InputError(
                "NeuronLevelModel(state)", found=type(state).__name__,
                expected=f"History of shape {[B, self.size, self.history - 1]}",
                remedy="pass the state this cell returned for a batch of this size, or None to start anew",
            )  # fmt: skip
        inputs = torch.cat([before.past, x.transpose(1, 2)], 2)
        windows = inputs[:, None] if T == 1 else inputs.unfold(2, self.history, 1).transpose(1, 2)
        y = self.read(windows)  # [B, T, D, M]
        if lengths is None:
            return y, History(inputs[:, :, T:])
        last = lengths[:, None] + torch.arange(self.history - 1, device=x.device)
        after = inputs.gather(2, last[:, None].expand(B, self.size, -1))
        return silence(y, lengths), History(after)

    def read(self, past: Float[Tensor, "... D M"]) -> Float[Tensor, "... D"]:
        """The answers of all neurons to their last M inputs."""
        for weight, bias in zip(self.weights, self.biases):
            past = glu(torch.einsum("...dm,dmh->...dh", past, weight) + bias, dim=-1)
        return past.squeeze(-1) / self.temperature

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.size}, history={self.history}, hidden={self.hidden}"
