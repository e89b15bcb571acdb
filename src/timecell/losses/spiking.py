"""Losses on the spikes S_t and the membranes v_t of K output units, one unit a class.

How a net says its answer decides what it is asked for: many spikes (`rate_ce`, `rate_mse`), a high membrane at some
step (`membrane_ce`) or at every step (`step_ce`, `membrane_mse`, `tet`), an early spike (`first_spike_ce`). Two more
speak of hidden units: how much they fire at all (`activity_l1`), and whether each fires neither too little nor too
much (`activity_bounds`).

A function's shape says which credit rules it suits. One number a step, [B, T], is a loss that is a sum over steps, so
any slice of time will do; what lies beyond a sample's end is the caller's to leave out. One number a sample, [B], needs
all of time and takes `lengths`. The mean over samples is the caller's too.

Sources: Eshraghian et al., "Training spiking neural networks using lessons from deep learning" (2021),
arXiv:2109.12894, for the spike and membrane losses and the bounds; Deng et al., "Temporal efficient training of spiking
neural network via gradient re-weighting" (2022), arXiv:2202.11946, for `tet`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from timecell.combine import silence
from timecell.errors import InputError

# --- what an output unit says -----------------------------------------------------------------------------------------


def spike_count(spikes: Float[Tensor, "B T K"], lengths: Int[Tensor, "B"] | None = None) -> Float[Tensor, "B K"]:
    """How often each unit fires: c = sum_t S_t.

    Example:
        >>> spike_count(torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])).tolist()
        [[2.0, 1.0]]
    """
    return silence(spikes, lengths).sum(dim=1)


def first_spike_time(spikes: Float[Tensor, "B T K"], lengths: Int[Tensor, "B"] | None = None) -> Float[Tensor, "B K"]:
    """How many steps pass before a unit's first spike; all of the sample's steps if it never fires.

        t = sum_t prod_{s <= t} (1 - S_s)

    Written so, it has a gradient: a spike at any step up to the first one would have made it earlier.

    Example:
        >>> first_spike_time(torch.tensor([[[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]])).tolist()
        [[1.0, 0.0, 3.0]]
    """
    return silence((1 - spikes).cumprod(dim=1), lengths).sum(dim=1)


def membrane_peak(v: Float[Tensor, "B T K"], lengths: Int[Tensor, "B"] | None = None) -> Float[Tensor, "B K"]:
    """The highest membrane over a sample's own steps: max_t v_t."""
    if lengths is None:
        return v.amax(dim=1)
    beyond = torch.arange(v.shape[1], device=v.device) >= lengths[:, None]
    return v.masked_fill(beyond[:, :, None], -torch.inf).amax(dim=1)


# --- losses of all steps: [B] -----------------------------------------------------------------------------------------


def rate_ce(
    spikes: Float[Tensor, "B T K"], target: Int[Tensor, "B"], lengths: Int[Tensor, "B"] | None = None
) -> Float[Tensor, "B"]:
    """Cross-entropy on rate: the spike counts are the logits; the right unit should fire most.

    Args:
        spikes: of the output units.
        target: the right class of each sample.
        lengths: steps of each sample.

    Returns:
        -log softmax(c)_target in nats, for each sample.

    Example:
        >>> round(rate_ce(torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]), torch.tensor([0])).item(), 4)  # ln(1 + e^-2)
        0.1269
    """
    return F.cross_entropy(spike_count(spikes, lengths), target, reduction="none")


def rate_mse(
    spikes: Float[Tensor, "B T K"],
    target: Int[Tensor, "B"],
    lengths: Int[Tensor, "B"] | None = None,
    *,
    right: float = 0.8,
    wrong: float = 0.2,
) -> Float[Tensor, "B"]:
    """Mean squared error of the spike count, in units of steps: mean_k (c_k / T - r_k)^2.

    The right unit should fire at 80 % of the steps and the others at 20 %: units that are kept from silence keep a
    gradient.

    Args:
        spikes: of the output units.
        target: the right class of each sample.
        lengths: steps of each sample.
        right: share of the steps at which the right unit should fire, in [0, 1].
        wrong: the same for the other units.

    Raises:
        InputError: a share lies outside [0, 1].

    Example:
        >>> spikes = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
        >>> rate_mse(spikes, torch.tensor([0]), right=1.0, wrong=0.0).tolist()
        [0.125]
    """
    for name, value in (("right", right), ("wrong", wrong)):
        if not 0 <= value <= 1:
            raise InputError(name, found=value, expected="a share of steps, 0 to 1", remedy="0.8 and 0.2 are usual")
    steps = spikes.shape[1] if lengths is None else lengths[:, None]
    wanted = _targets(target, spikes, right, wrong)
    return ((spike_count(spikes, lengths) / steps - wanted) ** 2).mean(dim=1)


def membrane_ce(
    v: Float[Tensor, "B T K"], target: Int[Tensor, "B"], lengths: Int[Tensor, "B"] | None = None
) -> Float[Tensor, "B"]:
    """Cross-entropy on the maximum membrane: the right unit should come highest, whenever that is.

    Example:
        >>> v = torch.tensor([[[3.0, 0.0], [0.0, 3.0]]])
        >>> membrane_ce(v, torch.tensor([0])).exp().tolist()
        [2.0]
    """
    return F.cross_entropy(membrane_peak(v, lengths), target, reduction="none")


def first_spike_ce(
    spikes: Float[Tensor, "B T K"], target: Int[Tensor, "B"], lengths: Int[Tensor, "B"] | None = None
) -> Float[Tensor, "B"]:
    """Cross-entropy on latency: minus the first spike times are the logits; the right unit should fire first.

    Example:
        >>> spikes = torch.tensor([[[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]])
        >>> round(first_spike_ce(spikes, torch.tensor([0])).item(), 4)  # ln(1 + e^-2)
        0.1269
    """
    return F.cross_entropy(-first_spike_time(spikes, lengths), target, reduction="none")


# --- losses of one step: [B, T] ---------------------------------------------------------------------------------------


def step_ce(v: Float[Tensor, "B T K"], target: Int[Tensor, "B"], smoothing: float = 0.0) -> Float[Tensor, "B T"]:
    """Cross-entropy at every step: -log softmax(v_t)_target in nats; summed over time by the caller.

    Args:
        v: membranes of the output units.
        target: the right class of each sample.
        smoothing: share of the target that is spread over all classes.

    Example:
        >>> step_ce(torch.zeros(1, 3, 2), torch.tensor([0])).exp().tolist()
        [[2.0, 2.0, 2.0]]
    """
    every = target[:, None].expand(v.shape[:2]).flatten()
    each = F.cross_entropy(v.flatten(0, 1), every, reduction="none", label_smoothing=smoothing)
    return each.view(v.shape[:2])


def membrane_mse(
    v: Float[Tensor, "B T K"], target: Int[Tensor, "B"], *, right: float = 1.0, wrong: float = 0.0
) -> Float[Tensor, "B T"]:
    """Mean squared error of the membranes at every step: mean_k (v_tk - r_k)^2.

    Args:
        v: membranes of the output units.
        target: the right class of each sample.
        right: where the right unit's membrane should stay.
        wrong: where the others' should.

    Example:
        >>> membrane_mse(torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]), torch.tensor([0])).tolist()
        [[0.0, 0.5]]
    """
    return ((v - _targets(target, v, right, wrong)[:, None]) ** 2).mean(dim=2)


def tet(
    v: Float[Tensor, "B T K"], target: Int[Tensor, "B"], *, pull: float = 0.05, level: float = 1.0
) -> Float[Tensor, "B T"]:
    """Temporal efficient training: (1 - pull) CE(v_t) + pull mean_k (v_tk - level)^2.

    Every step must be right on its own, not only their mean, and a gentle pull keeps outliers among the logits in hand.

    Args:
        v: membranes (logits) of the output units.
        target: the right class of each sample.
        pull: share of the second term, in [0, 1].
        level: what all logits are pulled to; the threshold of the units in the paper.

    Raises:
        InputError: the share lies outside [0, 1].

    Example:
        >>> round(tet(torch.zeros(1, 1, 2), torch.tensor([0]), pull=0.5).item(), 4)  # ln(2) / 2 + 1 / 2
        0.8466
    """
    if not 0 <= pull <= 1:
        raise InputError("pull", found=pull, expected="a share, 0 to 1", remedy="try 0.05")
    return (1 - pull) * step_ce(v, target) + pull * ((v - level) ** 2).mean(dim=2)


def _targets(target: Tensor, like: Tensor, right: float, wrong: float) -> Float[Tensor, "B K"]:
    """`right` in the column of each sample's class, `wrong` elsewhere."""
    here = F.one_hot(target, like.shape[2]).bool()
    return torch.where(here, right, wrong).to(like.dtype)


# --- regularisers of hidden activity: [B] -----------------------------------------------------------------------------


def activity_l1(spikes: Float[Tensor, "B T N"], lengths: Int[Tensor, "B"] | None = None) -> Float[Tensor, "B"]:
    """All spikes of a sample, per unit: sum_t mean_n |S_tn|. Fewer spikes are less work.

    Example:
        >>> activity_l1(torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])).tolist()
        [1.5]
    """
    return spike_count(spikes.abs(), lengths).mean(dim=1)


def activity_bounds(
    spikes: Float[Tensor, "B T N"],
    lengths: Int[Tensor, "B"] | None = None,
    *,
    lower: float = 0.01,
    upper: float = 0.5,
) -> Float[Tensor, "B"]:
    """Each unit's rate r_n = c_n / T should lie in between: mean_n relu(lower - r_n)^2 + relu(r_n - upper)^2.

    The lower bound wakes dead units, the upper one quiets those that always fire.

    Args:
        spikes: of hidden units.
        lengths: steps of each sample.
        lower: spikes a step.
        upper: spikes a step.

    Raises:
        InputError: the bounds are not in order, 0 <= lower <= upper <= 1.

    Example:
        >>> activity_bounds(torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]), lower=0.5, upper=0.5).tolist()
        [0.25]
    """
    if not 0 <= lower <= upper <= 1:
        raise InputError(
            "lower, upper", found=(lower, upper), expected="0 <= lower <= upper <= 1, in spikes a step",
            remedy="0.01 and 0.5 are usual",
        )  # fmt: skip
    steps = spikes.shape[1] if lengths is None else lengths[:, None]
    rate = spike_count(spikes, lengths) / steps
    return (torch.relu(lower - rate) ** 2 + torch.relu(rate - upper) ** 2).mean(dim=1)
