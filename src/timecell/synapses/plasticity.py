"""Rules of plasticity: how a weight moves with what it connects.

A `Plasticity` is a pure function of one instant: from what stands before the synapse, what stands behind it, the
weight and what the rule remembers, to the change of the weight and what it remembers then. Rules are frozen
dataclasses of numbers; `timecell.PlasticSynapse` carries their memory and their weights as state.

    STDP            a_plus e^(-d/tau_plus) if the spike behind comes d >= 0 steps after the one before,
                    -a_minus e^(d/tau_minus) if it comes first (d < 0); all pairs add up
    TripletSTDP     the same, with amplitudes that grow with earlier spikes of the same side
    Hebb            rate post pre - decay w
    Oja             rate post (pre - post w)
    ThreeFactor     any of these, kept as an eligibility trace until a modulator turns it into change
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from timecell.errors import InputError
from timecell.state import StateTree

Bounds = tuple[float, float]
FREE: Bounds = (-math.inf, math.inf)


class Plasticity(Protocol):
    """How a weight moves."""

    @property
    def bounds(self) -> Bounds:
        """Lowest and highest weight; the synapse clips to them."""

    @property
    def modulated(self) -> bool:
        """Whether the rule needs a modulator."""

    def rest(self, w: Float[Tensor, "B O I"]) -> StateTree:
        """What the rule remembers before the first instant."""

    def step(
        self, pre: Float[Tensor, "B I"], post: Float[Tensor, "B O"], w: Float[Tensor, "B O I"], memory: StateTree,
        modulator: Float[Tensor, "B M"],
    ) -> tuple[Float[Tensor, "B O I"], StateTree]:  # fmt: skip
        """One instant: the change of the weights, and what the rule remembers after it.

        `modulator` has one column for all outputs, one for each output, or, for a rule without one, none.
        """


class Traces(NamedTuple):
    """What pair rules remember of both sides: [B, I] and [B, O]."""

    pre: Tensor
    post: Tensor


@dataclass(frozen=True)
class STDP:
    """Spike-timing dependent plasticity of all pairs (Song, Miller & Abbott, 2000).

    Spikes of the same instant count as before, then behind (d = 0): an input acts on its unit at once.

    Attributes:
        a_plus, a_minus: change of a weight by one pair of spikes at distance 0, up and down.
        tau_plus, tau_minus: time constants of the window in steps.
        bounds: lowest and highest weight.
        mu: 0: changes do not depend on the weight (additive); 1: they are proportional to what is left to the
            bound ahead (multiplicative); between: to its power mu (Gütig et al., 2003).

    Example:
        >>> rule, w = STDP(tau_plus=10.0), torch.full((1, 1, 1), 0.5)
        >>> one, none, nothing = torch.ones(1, 1), torch.zeros(1, 1), torch.zeros(1, 0)
        >>> _, memory = rule.step(one, none, w, rule.rest(w), nothing)       # before ...
        >>> change, memory = rule.step(none, one, w, memory, nothing)       # ... behind, one step later
        >>> round(change.item(), 5)
        0.00905
    """

    a_plus: float = 0.01
    a_minus: float = 0.01
    tau_plus: float = 20.0
    tau_minus: float = 20.0
    bounds: Bounds = (0.0, 1.0)
    mu: float = 0.0
    modulated = False

    def __post_init__(self) -> None:
        _check(self)

    def rest(self, w: Float[Tensor, "B O I"]) -> Traces:
        """No spike yet."""
        return Traces(torch.zeros_like(w[:, 0]), torch.zeros_like(w[:, :, 0]))

    def step(self, pre: Tensor, post: Tensor, w: Tensor, memory: Traces, modulator: Tensor) -> tuple[Tensor, Traces]:
        """One instant."""
        before = _faded(memory.pre, self.tau_plus) + pre
        behind = _faded(memory.post, self.tau_minus)
        up, down = self.a_plus * _outer(post, before), self.a_minus * _outer(behind, pre)
        return _towards(self.bounds, self.mu, w, up, down), Traces(before, behind + post)


class TripletTraces(NamedTuple):
    """What triplet rules remember: two traces of each side, [B, I] twice and [B, O] twice."""

    pre: Tensor
    pre_slow: Tensor
    post: Tensor
    post_slow: Tensor


@dataclass(frozen=True)
class TripletSTDP:
    """STDP of triplets (Pfister & Gerstner, 2006): rates matter too. The defaults are their fit to visual cortex, in ms.

    Attributes:
        a_plus, a_minus: change by one pair.
        a_plus_slow, a_minus_slow: what a third, earlier spike behind (before) adds to it.
        tau_plus, tau_minus: time constants of the pair window in steps.
        tau_pre, tau_post: time constants of the slow traces in steps.
        bounds, mu: as for `STDP`.

    Example:
        >>> w = torch.zeros(1, 2, 3)
        >>> len(TripletSTDP().rest(w))
        4
    """

    a_plus: float = 5e-10
    a_minus: float = 7e-3
    a_plus_slow: float = 6.2e-3
    a_minus_slow: float = 2.3e-4
    tau_plus: float = 16.8
    tau_minus: float = 33.7
    tau_pre: float = 101.0
    tau_post: float = 125.0
    bounds: Bounds = (0.0, 1.0)
    mu: float = 0.0
    modulated = False

    def __post_init__(self) -> None:
        _check(self)

    def rest(self, w: Float[Tensor, "B O I"]) -> TripletTraces:
        """No spike yet."""
        pre, post = torch.zeros_like(w[:, 0]), torch.zeros_like(w[:, :, 0])
        return TripletTraces(pre, pre, post, post)

    def step(
        self, pre: Tensor, post: Tensor, w: Tensor, memory: TripletTraces, modulator: Tensor
    ) -> tuple[Tensor, TripletTraces]:
        """One instant; the slow traces are read before the spikes of this instant are added."""
        before, before_slow = _faded(memory.pre, self.tau_plus) + pre, _faded(memory.pre_slow, self.tau_pre)
        behind, behind_slow = _faded(memory.post, self.tau_minus), _faded(memory.post_slow, self.tau_post)
        up = _outer(post * (self.a_plus + self.a_plus_slow * behind_slow), before)
        down = _outer(behind, pre * (self.a_minus + self.a_minus_slow * before_slow))
        after = TripletTraces(before, before_slow + pre, behind + post, behind_slow + post)
        return _towards(self.bounds, self.mu, w, up, down), after


@dataclass(frozen=True)
class Hebb:
    """What is active together grows together (Hebb, 1949): rate post pre - decay w.

    Attributes:
        rate: of learning.
        decay: share of the weight that is forgotten in a step.
        bounds: lowest and highest weight.

    Example:
        >>> w, x = torch.zeros(1, 1, 2), torch.tensor([[1.0, 2.0]])
        >>> Hebb(rate=0.5).step(x, torch.ones(1, 1), w, None, torch.zeros(1, 0))[0].tolist()
        [[[0.5, 1.0]]]
    """

    rate: float = 0.01
    decay: float = 0.0
    bounds: Bounds = FREE
    modulated = False

    def __post_init__(self) -> None:
        _check(self)

    def rest(self, w: Float[Tensor, "B O I"]) -> None:
        """Nothing to remember."""

    def step(self, pre: Tensor, post: Tensor, w: Tensor, memory: None, modulator: Tensor) -> tuple[Tensor, None]:
        """One instant."""
        return self.rate * _outer(post, pre) - self.decay * w, None


@dataclass(frozen=True)
class Oja:
    """Hebb with a forgetting that keeps each unit's weights at length 1: a linear unit finds the first principal
    component of its input (Oja, 1982).

    Attributes:
        rate: of learning.
        bounds: lowest and highest weight.

    Example:
        >>> w = torch.tensor([[[1.0, 0.0]]])
        >>> Oja().step(torch.tensor([[1.0, 0.0]]), torch.ones(1, 1), w, None, torch.zeros(1, 0))[0].tolist()
        [[[0.0, 0.0]]]
    """

    rate: float = 0.01
    bounds: Bounds = FREE
    modulated = False

    def __post_init__(self) -> None:
        _check(self)

    def rest(self, w: Float[Tensor, "B O I"]) -> None:
        """Nothing to remember."""

    def step(self, pre: Tensor, post: Tensor, w: Tensor, memory: None, modulator: Tensor) -> tuple[Tensor, None]:
        """One instant."""
        return self.rate * (_outer(post, pre) - (post * post)[:, :, None] * w), None


class Eligible(NamedTuple):
    """What a three-factor rule remembers: its inner rule's memory and the eligibility [B, O, I]."""

    rule: StateTree
    trace: Tensor


@dataclass(frozen=True)
class ThreeFactor:
    """Changes that wait for a modulator (Izhikevich, 2007; Frémaux & Gerstner, 2016).

        e_t = exp(-1/tau) e_{t-1} + (what the inner rule would change);  the weight changes by modulator_t e_t

    Attributes:
        rule: the two-factor rule inside; its bounds are those of the weight.
        tau: time constant of the eligibility in steps.

    Example:
        >>> rule, w = ThreeFactor(Hebb()), torch.zeros(1, 1, 1)
        >>> one = torch.ones(1, 1)
        >>> [round(rule.step(one, one, w, rule.rest(w), m * one)[0].item(), 3) for m in (0.0, 1.0, -1.0)]
        [0.0, 0.01, -0.01]
    """

    rule: Plasticity
    tau: float = 100.0
    modulated = True

    def __post_init__(self) -> None:
        _check(self)
        if self.rule.modulated:
            raise InputError(
                "ThreeFactor(rule)", found=type(self.rule).__name__, expected="a rule without a modulator of its own",
                remedy="give it the rule inside",
            )  # fmt: skip

    @property
    def bounds(self) -> Bounds:
        """Those of the inner rule."""
        return self.rule.bounds

    def rest(self, w: Float[Tensor, "B O I"]) -> Eligible:
        """Nothing is eligible."""
        return Eligible(self.rule.rest(w), torch.zeros_like(w))

    def step(
        self, pre: Tensor, post: Tensor, w: Tensor, memory: Eligible, modulator: Tensor
    ) -> tuple[Tensor, Eligible]:
        """One instant."""
        change, inner = self.rule.step(pre, post, w, memory.rule, modulator)
        trace = _faded(memory.trace, self.tau) + change
        return modulator[:, :, None] * trace, Eligible(inner, trace)


def _faded(trace: Tensor, tau: float) -> Tensor:
    return math.exp(-1 / tau) * trace


def _outer(post: Float[Tensor, "B O"], pre: Float[Tensor, "B I"]) -> Float[Tensor, "B O I"]:
    return post[:, :, None] * pre[:, None, :]


def _towards(bounds: Bounds, mu: float, w: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """The change up and down, scaled by what is left to either bound where mu > 0."""
    if mu == 0:
        return up - down
    low, high = bounds
    return ((high - w) / (high - low)) ** mu * up - ((w - low) / (high - low)) ** mu * down


def _check(rule: STDP | TripletSTDP | Hebb | Oja | ThreeFactor) -> None:
    """Refuse numbers that make no rule."""
    name = type(rule).__name__
    for field in fields(rule):
        value = getattr(rule, field.name)
        if field.name.startswith("tau") and not value > 0:
            raise InputError(
                f"{name}({field.name})", found=value, expected="a number of steps > 0", remedy="give a time constant"
            )
    low, high = rule.bounds
    if not low < high:
        raise InputError(
            f"{name}(bounds)", found=rule.bounds, expected="(lowest, highest) weight", remedy="give the lower one first"
        )
    mu = getattr(rule, "mu", 0.0)
    if mu < 0 or (mu > 0 and not math.isfinite(high - low)):
        raise InputError(
            f"{name}(mu)", found=f"{mu} with bounds {rule.bounds}", expected="mu >= 0, and finite bounds for mu > 0",
            remedy="give bounds, or mu=0 for changes that do not depend on the weight",
        )  # fmt: skip
