"""`AttentiveHawkes`: a point process whose intensity is attention to the events so far (AttNHP).

An event is a token [tanh(mark); z(t)] of what happened and a code of when. To know the intensity at any time t, a query
[0; z(t)] is asked there, which attends to the events before it. Layer by layer, events and queries add what they read:

    s <- s + tanh( sum_j w_j value_j ),     w_j = exp(q.k_j / sqrt(D)) / (1 + sum_j exp(q.k_j / sqrt(D)))

and the intensity of mark k is softplus(w_k . s(t) + b_k). The 1 is a place to look at where nothing is: a query without
a past reads nothing, and what attention has left, the intensity forgets.

Histories may be shown `Prompts` beside their events: vectors that no event made, the same ones to all readers of a
history or others to each. A prompt is a token too, [its vector; z(t')], so it has a time that its history chooses.

This is not `MultiHeadAttention`: heads are nets of their own that meet only at the intensity, there is the place of
nothing, and each question has a history, and prompts, of its own. Times are moments since the start of a sequence, as
published, in units of about the mean gap.

Source: Yang, Mei & Eisner, "Transformer embeddings of irregularly spaced events and their participants" (2022),
arXiv:2201.00044, equations 5-8.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from timecell.errors import InputError
from timecell.generate.point_process import IntensityProcess, at_rows

TINY = 1e-8  # smallest intensity that has a logarithm
MOST = 1 << 24  # attention weights at a time; more questions are answered in parts
GRID = 64  # times at which the compensator is known when a median is looked for


class Prompts(NamedTuple):
    """What histories are shown beside their events.

    Attributes:
        vectors: [L, H, P, D] of each layer and head; all histories share them.
        seen: [B, T, P] which of them the history up to a row sees.
        code: [B, T, Z] of the time that a history gives to its prompts.
    """

    vectors: Float[Tensor, "L H P D"]
    seen: Bool[Tensor, "B T P"]
    code: Float[Tensor, "B T Z"]


class Places(NamedTuple):
    """What one layer's queries look at: J = P prompts, T rows, and nothing, whose key and value are zero.

    A prompt's key is key(vector) + key(time). The second part depends on the row that asks, so it is kept apart, as is
    the value's; without prompts both are None.
    """

    keys: Float[Tensor, "B H J D"]
    values: Float[Tensor, "B H J D"]
    time_keys: Float[Tensor, "B T H D"] | None
    time_values: Float[Tensor, "B T H D"] | None


class History(NamedTuple):
    """What the net remembers of sequences.

    Attributes:
        times: [B, T] when each row was.
        visible: [B, T, J] which places may be looked at from each row.
        is_prompt: [J] 1 for prompts, 0 for other places.
        layers: the places of each layer.
    """

    times: Float[Tensor, "B T"]
    visible: Bool[Tensor, "B T J"]
    is_prompt: Float[Tensor, "J"]
    layers: tuple[Places, ...]


class AttentiveHawkes(IntensityProcess):
    """The attentive neural Hawkes process.

    Args:
        marks: K.
        width: D units of each head.
        code: Z of the time code, even.
        heads: H independent stacks.
        layers: L of each stack.
        slowest: slowest frequency of the time code; the fastest is 1 radian per unit of time.
        points: at which the intensity is summed up between two events while training.

    Shapes: as of `PointProcess`; x [B, T, 1 + K].

    Raises:
        InputError: a size is below 1, or the code's is odd.

    Example:
        >>> net = AttentiveHawkes(marks=2)
        >>> x = torch.tensor([[[0.0, 0, 0], [1.0, 1, 0], [0.5, 0, 1], [2.0, 0, 0]]])
        >>> net(x)[0].shape
        torch.Size([1, 4, 2])
    """

    frequency: Tensor
    nodes = 12  # sum up a gap's intensity, which has no wave faster than 1 radian a mean gap

    def __init__(
        self, marks: int, *, width: int = 16, code: int = 8, heads: int = 2, layers: int = 2, slowest: float = 1e-3,
        points: int = 4,
    ) -> None:  # fmt: skip
        super().__init__()
        for name, size in (("marks", marks), ("width", width), ("heads", heads), ("layers", layers), ("code", code)):
            if size < 1 or (name == "code" and size % 2):
                raise InputError(
                    f"AttentiveHawkes({name})", found=size, expected="an even number" if name == "code" else "at least 1",
                    remedy="choose another size",
                )  # fmt: skip
        self.width, self.heads, self.points = width, heads, points
        self.mark = nn.Linear(marks, heads * width)  # the start of a sequence has no mark: it is the bias
        self.stack = nn.ModuleList(Attention(width + code, width, heads) for _ in range(layers))
        self.rate = nn.Linear(heads * width, marks)
        self.register_buffer("frequency", torch.logspace(0, math.log10(slowest), code // 2), persistent=False)

    def code(self, t: Float[Tensor, "..."]) -> Float[Tensor, "... Z"]:
        """Sines and cosines of a time, from fast to slow."""
        angle = t[..., None] * self.frequency
        return torch.cat([angle.sin(), angle.cos()], -1)

    def embed(self, marks: Float[Tensor, "B T K"]) -> Float[Tensor, "B H T D"]:
        """What happened, for each head."""
        return torch.tanh(self.mark(marks)).unflatten(-1, (self.heads, self.width)).transpose(1, 2)

    def remember(
        self, x: Float[Tensor, "B T C"], lengths: Int[Tensor, "B"] | None = None, prompts: Prompts | None = None
    ) -> History:
        """Every layer's places; the rows beyond a sequence's end are later than all that is asked, so they do no harm."""
        B, T, _ = x.shape
        times = x[..., 0].cumsum(1)
        past = torch.ones(T, T, dtype=torch.bool, device=x.device).tril().expand(B, -1, -1)
        seen = past[..., :0] if prompts is None else prompts.seen
        visible = torch.cat([seen, past, past.new_ones(B, T, 1)], -1)
        is_prompt = (torch.arange(visible.shape[-1], device=x.device) < seen.shape[-1]).to(x)
        history = History(times, visible, is_prompt, ())
        state, row = self.embed(x[..., 1:]), torch.arange(T, device=x.device).expand(B, -1)
        for number, layer in enumerate(self.stack):
            assert isinstance(layer, Attention)
            token = self._token(state, times)
            places = layer.places(token, prompts, number)
            history = history._replace(layers=(*history.layers, places))
            state = state + torch.tanh(layer(token, row, history, places))
        return history

    def log_intensity(
        self, memory: History, row: Int[Tensor, "B Q"], tau: Float[Tensor, "B Q"]
    ) -> Float[Tensor, "B Q K"]:
        """What queries at these times find."""
        at_once = max(1, MOST // (len(row) * self.heads * len(memory.is_prompt)))
        parts = zip(row.split(at_once, 1), tau.split(at_once, 1))
        return torch.cat([self._found(memory, *part) for part in parts], 1)

    def median(self, memory: History, row: Int[Tensor, "B Q"]) -> Float[Tensor, "B Q"]:
        """By the trapezoidal rule over times that grow up to 100, a constant rate from there on.

        The halving of `PointProcess` asks for some thousand intensities, which here look at all events each.
        """
        grid = torch.expm1(torch.linspace(0, math.log(101), GRID, device=row.device))
        at = grid.expand(*row.shape, -1).flatten(1)
        total = (
            self.log_intensity(memory, row.repeat_interleave(GRID, 1), at).logsumexp(-1).exp().unflatten(1, (-1, GRID))
        )
        mass = torch.cumulative_trapezoid(total, grid, dim=-1)
        before = (mass < math.log(2)).sum(-1, keepdim=True)  # the interval of the grid in which the median lies
        start = nn.functional.pad(mass, (1, 0)).gather(-1, before)
        low, rate = total.gather(-1, before), total.gather(-1, (before + 1).clamp(max=GRID - 1))
        return (grid[before] + (math.log(2) - start) / (low + rate) * 2)[..., 0]

    def _found(self, memory: History, row: Int[Tensor, "B Q"], tau: Float[Tensor, "B Q"]) -> Float[Tensor, "B Q K"]:
        times = memory.times.gather(1, row) + tau
        state = times.new_zeros(len(times), self.heads, times.shape[1], self.width)
        for layer, places in zip(self.stack, memory.layers):
            state = state + torch.tanh(layer(self._token(state, times), row, memory, places))
        return (nn.functional.softplus(self.rate(state.transpose(1, 2).flatten(2))) + TINY).log()

    def _token(self, state: Float[Tensor, "B H Q D"], times: Float[Tensor, "B Q"]) -> Float[Tensor, "B H Q E"]:
        return torch.cat([state, self.code(times)[:, None].expand(-1, self.heads, -1, -1)], -1)


class Attention(nn.Module):
    """One layer of all heads, each with weights of its own."""

    def __init__(self, inputs: int, width: int, heads: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (PerHead(inputs, width, heads) for _ in range(3))

    def places(self, tokens: Float[Tensor, "B H T E"], prompts: Prompts | None, number: int) -> Places:
        """Keys and values of what can be looked at in this layer."""
        nothing = torch.zeros_like(tokens[:, :, :1, : self.query.width])
        if prompts is None:
            keys, values = (torch.cat([map_(tokens), nothing], 2) for map_ in (self.key, self.value))
            return Places(keys, values, None, None)
        vectors = prompts.vectors[number].expand(len(tokens), -1, -1, -1)
        parts = []
        for map_ in (self.key, self.value):
            of_vectors, of_code = map_.parts(vectors, prompts.code[:, None])
            parts.append((torch.cat([of_vectors, map_(tokens), nothing], 2), of_code.transpose(1, 2)))
        (keys, time_keys), (values, time_values) = parts
        return Places(keys, values, time_keys, time_values)

    def forward(
        self, tokens: Float[Tensor, "B H Q E"], row: Int[Tensor, "B Q"], history: History, places: Places
    ) -> Float[Tensor, "B H Q D"]:
        """What each query reads at the places that are visible from its row."""
        query = self.query(tokens) / math.sqrt(self.query.width)
        score = query @ places.keys.mT
        if places.time_keys is not None:
            time_key = at_rows(places.time_keys, row).transpose(1, 2)
            score = score + (query * time_key).sum(-1, keepdim=True) * history.is_prompt
        weight = score.masked_fill(~at_rows(history.visible, row)[:, None], -math.inf).softmax(-1)
        read = weight @ places.values
        if places.time_values is None:
            return read
        return read + (weight @ history.is_prompt)[..., None] * at_rows(places.time_values, row).transpose(1, 2)


class PerHead(nn.Module):
    """An affine map for each head: [B, H, N, E] -> [B, H, N, D]."""

    def __init__(self, inputs: int, width: int, heads: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.width = width
        self.weight = nn.Parameter(torch.empty(heads, inputs, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(heads, 1, width).uniform_(-bound, bound))

    def forward(self, tokens: Float[Tensor, "B H N E"]) -> Float[Tensor, "B H N D"]:
        """Of whole tokens."""
        return tokens @ self.weight + self.bias

    def parts(self, vectors: Float[Tensor, "B H N D"], code: Float[Tensor, "B 1 T Z"]) -> tuple[Tensor, Tensor]:
        """Of the two parts that tokens consist of: added, they are the map of [vector; code], since it is affine."""
        of_vectors, of_code = self.weight.split([vectors.shape[-1], code.shape[-1]], 1)
        return vectors @ of_vectors, code @ of_code + self.bias
