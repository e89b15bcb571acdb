"""Nets that are point processes: given what has happened, when does the next event come and what will it be?

`PointProcess` is the protocol. A net writes three methods::

    remember(x, lengths)              -> memory           what the history says, for every row of a batch at once;
                                                          what belongs to row i is made of rows <= i and nothing else
    log_intensity(memory, row, tau)   -> [B, Q, K]        log lambda_k at tau after the event of that row
    compensator(memory, row, tau)     -> [B, Q]           the integral of sum_k lambda_k from 0 to tau

and has all others: likelihoods of a batch split into time and mark, the median of the next time, draws. Questions are
pairs (row, tau), Q of them for each sequence, so one memory answers any number of them: at what time after which event.
Row 0 is the start of observation; rows are those of `EventSequences.batch`. The type of `memory` is the net's own
affair. Times are in the units of the batch; who fits a net (`timecell.point_process_system`) scales them so that the
mean gap is 1.

`DecodedProcess` is a history encoder with a decoder in closed form (layers/event_decoders.py). `IntensityProcess` is
for nets that only know their intensity: the compensator is a sum over points, stratified random ones while training
(unbiased), fixed Gauss-Legendre ones otherwise.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.data.event_sequences import next_rows
from timecell.layers.event_decoders import LONGEST, Decoder, wait

FIRST = 0.02  # length of the first stretch in which an intensity's integral is looked for, in mean gaps


class NextEventAnswer(NamedTuple):
    """What a process says of the row after each row but the last; meaningless where there is none.

    Attributes:
        log_time: [B, T - 1] log density of the gap to the next event; where the next row is the end, log survival.
        log_mark: [B, T - 1, K] log probability of each mark, given that the event comes then.
        median: [B, T - 1] median of the gap.
        mass: [B, T - 1] compensator at the gap; 1 - exp(-mass) is the distribution function there.
    """

    log_time: Tensor
    log_mark: Tensor
    median: Tensor
    mass: Tensor


class PointProcess(nn.Module):
    """A net that is a distribution over event sequences; see the head of this file for what a subclass writes.

    Shapes: x [B, T, 1 + K] as of `EventSequences.batch` -> y [B, T, 2]: what the event of the *next* row adds to the
    log-likelihood, by its time and by its mark; for the last row but one, the log survival of the tail and 0; zeros
    from the last row on. The sum of y is the log-likelihood of the sequence, in nats.
    """

    def remember(self, x: Float[Tensor, "B T C"], lengths: Int[Tensor, "B"] | None = None) -> Any:
        """What the history up to each row says."""
        raise NotImplementedError(f"{type(self).__name__}.remember")

    def log_intensity(self, memory: Any, row: Int[Tensor, "B Q"], tau: Float[Tensor, "B Q"]) -> Float[Tensor, "B Q K"]:
        """log lambda_k at tau after the event of the row, if no other has come since."""
        raise NotImplementedError(f"{type(self).__name__}.log_intensity")

    def compensator(self, memory: Any, row: Int[Tensor, "B Q"], tau: Float[Tensor, "B Q"]) -> Float[Tensor, "B Q"]:
        """Integral of the total intensity from the event of the row to tau after it."""
        raise NotImplementedError(f"{type(self).__name__}.compensator")

    # --- what follows from these ----------------------------------------------------------------------------------

    def forward(
        self, x: Float[Tensor, "B T C"], state: None = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T 2"], None]:
        """What each next row adds to the log-likelihood, by time and by mark."""
        row, gap, event, tail = next_rows(x, lengths)
        memory = self.remember(x, lengths)
        log_intensity, mass = self.log_intensity(memory, row, gap), self.compensator(memory, row, gap)
        total = log_intensity.logsumexp(-1)
        mark = (log_intensity.log_softmax(-1) * x[:, 1:, 1:]).sum(-1)
        zero = torch.zeros_like(mass)
        time = torch.where(event, total - mass, torch.where(tail, -mass, zero))
        y = torch.stack([time, torch.where(event, mark, zero)], -1)
        return torch.nn.functional.pad(y, (0, 0, 0, 1)), None

    def answer(self, x: Float[Tensor, "B T C"], lengths: Int[Tensor, "B"] | None = None) -> NextEventAnswer:
        """All that is asked of the event after each row."""
        row, gap, event, _ = next_rows(x, lengths)
        memory = self.remember(x, lengths)
        log_intensity, mass = self.log_intensity(memory, row, gap), self.compensator(memory, row, gap)
        log_time = torch.where(event, log_intensity.logsumexp(-1), 0.0) - mass
        return NextEventAnswer(log_time, log_intensity.log_softmax(-1), self.median(memory, row), mass)

    def median(self, memory: Any, row: Int[Tensor, "B Q"]) -> Float[Tensor, "B Q"]:
        """The time after the event of the row until which the next one has come with probability 1/2."""
        return self.when(memory, row, torch.full(row.shape, math.log(2.0), device=row.device))

    def sample(
        self, memory: Any, row: Int[Tensor, "B Q"], generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "B Q"], Int[Tensor, "B Q"]]:
        """A draw of the next gap and mark for each question, by inverting the compensator."""
        tau = self.when(memory, row, torch.empty(row.shape, device=row.device).exponential_(generator=generator))
        return tau, draw_mark(self.log_intensity(memory, row, tau), generator)

    def when(self, memory: Any, row: Int[Tensor, "B Q"], mass: Float[Tensor, "B Q"]) -> Float[Tensor, "B Q"]:
        """The time at which the compensator reaches a mass."""
        return wait(lambda tau: self.compensator(memory, row, tau), mass, halvings=32)


class DecodedProcess(PointProcess):
    """A causal net reads the history; a decoder in closed form makes the next event of what it says.

    Args:
        encoder: ``encoder(x, lengths=lengths) -> (p, state)`` with x [B, T, 1 + K] and p [B, T, decoder.outputs(K)].
        decoder: what these numbers mean.

    Example:
        >>> from timecell.layers.event_decoders import LogNormalMixture
        >>> from timecell.memory import GRU
        >>> from timecell.combine import Sequential
        >>> decoder = LogNormalMixture()
        >>> net = DecodedProcess(Sequential(GRU(3, 8), nn.Linear(8, decoder.outputs(2))), decoder)
        >>> x = torch.tensor([[[0.0, 0, 0], [1.0, 1, 0], [0.5, 0, 1], [2.0, 0, 0]]])
        >>> net(x)[0].shape
        torch.Size([1, 4, 2])
    """

    def __init__(self, encoder: nn.Module, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def remember(self, x: Float[Tensor, "B T C"], lengths: Int[Tensor, "B"] | None = None) -> Float[Tensor, "B T P"]:
        """The decoder's numbers at each row."""
        return self.encoder(x, lengths=lengths)[0]

    def log_intensity(
        self, memory: Float[Tensor, "B T P"], row: Int[Tensor, "B Q"], tau: Float[Tensor, "B Q"]
    ) -> Float[Tensor, "B Q K"]:
        """As the decoder says."""
        return self.decoder.log_intensity(at_rows(memory, row), tau)

    def compensator(
        self, memory: Float[Tensor, "B T P"], row: Int[Tensor, "B Q"], tau: Float[Tensor, "B Q"]
    ) -> Float[Tensor, "B Q"]:
        """As the decoder says."""
        return self.decoder.compensator(at_rows(memory, row), tau)


class IntensityProcess(PointProcess):
    """A net that knows its intensity at any time, and nothing of the integral: a subclass writes `remember` and
    `log_intensity`.

    Attributes:
        points: at which the intensity is summed up between two events while training.
        nodes: the same otherwise.
    """

    points: int = 8
    nodes: int = 32

    def compensator(self, memory: Any, row: Int[Tensor, "B Q"], tau: Float[Tensor, "B Q"]) -> Float[Tensor, "B Q"]:
        """The sum over points: one random point in each of equal strata while training, Gauss-Legendre nodes else."""
        if self.training:
            S = self.points
            where = (torch.arange(S, device=tau.device) + torch.rand(*tau.shape, S).to(tau)) / S
            return self._between(memory, row, torch.zeros_like(tau), tau, where, tau.new_full((S,), 1 / S))
        return self._between(memory, row, torch.zeros_like(tau), tau, *_nodes(self.nodes, tau))

    def when(self, memory: Any, row: Int[Tensor, "B Q"], mass: Float[Tensor, "B Q"]) -> Float[Tensor, "B Q"]:
        """The time at which the compensator reaches a mass: stretch by stretch, each longer than the last, then halved."""
        where, weight = _nodes(4, mass)
        begin, end = torch.zeros_like(mass), torch.full_like(mass, FIRST)
        reached = torch.zeros_like(mass)  # until `begin`
        while True:
            found = reached + self._between(memory, row, begin, end, where, weight)
            on = (found < mass) & (end < LONGEST)
            if not on.any():
                break
            begin, reached = torch.where(on, end, begin), torch.where(on, found, reached)
            end = torch.where(on, 1.5 * end, end)
        low, high = begin, end
        for _ in range(20):
            middle = (low + high) / 2
            early = reached + self._between(memory, row, begin, middle, where, weight) < mass
            low, high = torch.where(early, middle, low), torch.where(early, high, middle)
        return (low + high) / 2

    def _between(
        self, memory: Any, row: Int[Tensor, "B Q"], begin: Float[Tensor, "B Q"], end: Float[Tensor, "B Q"],
        where: Float[Tensor, "#B #Q S"], weight: Float[Tensor, "S"],
    ) -> Float[Tensor, "B Q"]:  # fmt: skip
        """The integral of the total intensity, as a weighted sum over points at these parts of the way."""
        length, S = end - begin, len(weight)
        at = begin[..., None] + where * length[..., None]
        log_intensity = self.log_intensity(memory, row.repeat_interleave(S, dim=1), at.flatten(1))
        return length * (log_intensity.logsumexp(-1).exp().reshape(at.shape) * weight).sum(-1)


def _nodes(count: int, like: Tensor) -> tuple[Float[Tensor, "S"], Float[Tensor, "S"]]:
    """Gauss-Legendre nodes and weights of the unit interval."""
    node, weight = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy((node + 1) / 2).to(like), torch.from_numpy(weight / 2).to(like)


# --- sampling ---------------------------------------------------------------------------------------------------------


class Thinned(NamedTuple):
    """Draws by thinning.

    Attributes:
        tau: [B, Q] gaps.
        mark: [B, Q] marks.
        violations: share of the proposals at which the intensity was above the bound that was assumed.
    """

    tau: Tensor
    mark: Tensor
    violations: float


def thinning(
    process: PointProcess,
    memory: Any,
    row: Int[Tensor, "B Q"],
    *,
    window: float = 1.0,
    factor: float = 1.5,
    proposals: int = 16,
    generator: torch.Generator | None = None,
) -> Thinned:
    """A draw of the next gap and mark for each question, by thinning (Ogata, 1981); needs the intensity alone.

    In a window of time the intensity is assumed to stay below `factor` times its maximum over nine points of it. Events
    are proposed at that rate, and each is accepted with the chance that the intensity has there. Where none is, the next
    window, twice as long, begins at its end. A window in which some proposal finds the intensity above the bound is
    begun again with that one as the bound.

    Args:
        process: in eval mode.
        memory: what it remembers.
        row: the event after which the next one is drawn.
        window: length of the first window.
        factor: safety of the bound.
        proposals: in one go.
        generator: of the random numbers.

    Example:
        >>> from timecell.layers.event_decoders import Exponential
        >>> process = DecodedProcess(nn.Identity(), Exponential())
        >>> memory, row = torch.zeros(1, 1, 2), torch.zeros(1, 1000, dtype=torch.long)
        >>> draws = thinning(process, memory, row, generator=torch.Generator().manual_seed(0))
        >>> bool(0.4 < draws.tau.mean() < 0.6), draws.violations
        (True, 0.0)
    """
    B, Q = row.shape
    tau = torch.zeros(B, Q, device=row.device)  # where each draw is
    length = torch.full_like(tau, window)
    bound = torch.zeros_like(tau)
    waiting = torch.ones(B, Q, dtype=torch.bool, device=row.device)
    tried = broken = 0

    def total(at: Tensor) -> Tensor:  # [B, Q, S]
        S = at.shape[-1]
        found = process.log_intensity(memory, row.repeat_interleave(S, dim=1), at.reshape(B, Q * S))
        return found.logsumexp(-1).exp().reshape(B, Q, S)

    look = torch.linspace(0, 1, 9, device=row.device)
    while waiting.any():
        highest = factor * total(tau[..., None] + length[..., None] * look).amax(-1)
        bound = torch.maximum(bound, highest)
        steps = torch.empty(B, Q, proposals, device=row.device).exponential_(generator=generator) / bound[..., None]
        at = tau[..., None] + steps.cumsum(-1)
        inside = at <= (tau + length)[..., None]
        intensity = total(torch.where(inside, at, tau[..., None]))
        above = ((intensity > bound[..., None]) & inside).any(-1)
        u = torch.rand(B, Q, proposals, generator=generator, device=row.device)
        taken = inside & (u * bound[..., None] < intensity)
        first = taken.float().argmax(-1, keepdim=True)
        found = taken.any(-1) & ~above
        tried += int((inside & waiting[..., None]).sum())
        broken += int((above & waiting).sum())
        # on to the event; or the last proposal, beyond which nothing is known; or the end of the window
        ended = ~inside[..., -1]
        beyond = torch.where(ended, tau + length, at[..., -1])
        moved = torch.where(found, at.gather(-1, first)[..., 0], beyond)
        advance = waiting & ~above
        tau = torch.where(advance, moved, tau)
        fresh = advance & ended & ~found
        bound = torch.where(above, factor * intensity.amax(-1), torch.where(fresh, torch.zeros_like(bound), bound))
        length = torch.where(fresh, 2 * length, length)
        waiting = waiting & ~found & (tau < LONGEST)
    return Thinned(tau, draw_mark(process.log_intensity(memory, row, tau), generator), broken / max(tried, 1))


def draw_mark(log_intensity: Float[Tensor, "B Q K"], generator: torch.Generator | None = None) -> Int[Tensor, "B Q"]:
    """A mark for each question, by the share that it has in the intensity."""
    p = log_intensity.softmax(-1)
    return torch.multinomial(p.flatten(0, 1), 1, generator=generator).reshape(p.shape[:2])


@torch.no_grad()
def generate(
    process: PointProcess,
    x: Float[Tensor, "B T C"],
    lengths: Int[Tensor, "B"],
    events: int,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "B T2 C"]:
    """Histories continued by so many drawn events.

    Args:
        process: in eval mode.
        x: rows of the start and the events so far, without a row for the end.
        lengths: [B] how many rows each has, at least 1.
        events: how many are drawn, one after the other.
        generator: of the random numbers.

    Returns:
        The rows with the drawn ones behind each sequence's own; lengths + events of them count.

    Example:
        >>> from timecell.layers.event_decoders import Exponential
        >>> process = DecodedProcess(Constant(2), Exponential())
        >>> generate(process, torch.zeros(3, 1, 3), torch.ones(3, dtype=torch.long), events=4).shape
        torch.Size([3, 5, 3])
    """
    every = torch.arange(len(x), device=x.device)
    x = torch.nn.functional.pad(x, (0, 0, 0, events))
    for done in range(events):
        now = lengths + done
        tau, mark = process.sample(process.remember(x[:, : int(now.max())], now), (now - 1)[:, None], generator)
        x[every, now] = 0
        x[every, now, 0] = tau[:, 0]
        x[every, now, 1 + mark[:, 0]] = 1
    return x


class Constant(nn.Module):
    """An encoder that reads nothing: the same numbers after every history.

    Args:
        outputs: P.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(outputs))

    def forward(
        self, x: Float[Tensor, "B T C"], state: None = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T P"], None]:
        """The numbers, at every row."""
        return self.value.expand(*x.shape[:2], -1), None


# --- helpers ----------------------------------------------------------------------------------------------------------


def at_rows(h: Float[Tensor, "B T D"], row: Int[Tensor, "B Q"]) -> Float[Tensor, "B Q D"]:
    """h at the row of each question."""
    return h[torch.arange(len(h), device=h.device)[:, None], row]
