"""Rules that need no past: blame meets traces at every step, and memory does not grow with time."""

from __future__ import annotations

from dataclasses import dataclass

from timecell.credit.compose import Named, Rule
from timecell.credit.space_paths import FixedFeedback, SpacePath
from timecell.credit.time_paths import at_least_one
from timecell.credit.traces import Eligibility, PresynapticTrace


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
