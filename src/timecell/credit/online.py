"""Rules that need no past: blame meets traces at every step, and memory does not grow with time."""

from __future__ import annotations

from dataclasses import dataclass

from timecell.credit.compose import Named, Rule
from timecell.credit.space_paths import FixedFeedback, LocalHead, SpacePath
from timecell.credit.time_paths import at_least_one
from timecell.credit.traces import Eligibility, PresynapticTrace, TracePair


@dataclass(frozen=True)
class OTTT(Named):
    """Online training through time: presynaptic traces, and backpropagation within the instant (Xiao et al., 2022).

        a_t = leak a_{t-1} + pre_t;     dL/dW = sum over t of  dL_t/du_t a_t    with the past of u_t held constant

    For LIF-like units with one membrane; see `PresynapticTrace` for what is exact.

    Attributes:
        steps: length of a stretch: speed against memory; the gradient is the same.

    Example:
        >>> OTTT().rule.time
        PresynapticTrace(steps=4, decay=None)
    """

    steps: int = 4

    def __post_init__(self) -> None:
        at_least_one(self, "steps")

    @property
    def rule(self) -> Rule:
        """Presynaptic traces in time, exact in space."""
        return Rule(PresynapticTrace(self.steps))


@dataclass(frozen=True)
class EProp(Named):
    """e-prop: eligibility traces, and the output's error broadcast to all layers (Bellec et al., 2020).

        dL/dW_ji = sum over t of  L_j,t f_ji,t          L = error B,  f as in `Eligibility`

    For units of any kind and one layer of recurrent ones; ``space=ReadoutFeedback()`` is "symmetric", the default
    "random" e-prop.

    Attributes:
        steps: length of a stretch.
        space: how the error reaches a layer.

    Example:
        >>> EProp().rule.space
        FixedFeedback(kind='normal', seed=0)
    """

    steps: int = 1
    space: SpacePath = FixedFeedback()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        at_least_one(self, "steps")

    @property
    def rule(self) -> Rule:
        """Eligibilities in time, a broadcast in space."""
        return Rule(Eligibility(self.steps), self.space)


@dataclass(frozen=True)
class TESS(Named):
    """Scalable temporally and spatially local learning: trace pairs, taught by fixed heads (Apolinario & Roy, 2025).

        dL/dW = sum over t of  m_t ( causal psi_t q_t + acausal h_{t-1} pre_t )

    with the traces of `TracePair`, and m the gradient of a loss that each layer has of its own, on square waves
    (`LocalHead`). No blame crosses time, and none crosses layers.

    Attributes:
        steps: length of a stretch: speed against memory; the gradient is the same.
        causal, acausal: weights of the two parts; (1, 1) for pictures, (1, 0) for events.
        last: how many steps at the end of a sequence are taught; None: all.
        temperature: of the layers' answers; see `LocalHead`.

    Example:
        >>> TESS().rule.space
        LocalHead(kind='square', seed=0, temperature=1.0)
    """

    steps: int = 4
    causal: float = 1.0
    acausal: float = 1.0
    last: int | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        at_least_one(self, "steps", "last")

    @property
    def rule(self) -> Rule:
        """Trace pairs in time, local heads in space."""
        pair = TracePair(self.steps, causal=self.causal, acausal=self.acausal, last=self.last)
        return Rule(pair, LocalHead(temperature=self.temperature))
