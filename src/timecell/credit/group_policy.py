"""`GroupPolicy`: a policy learns from rewards by comparing several of its own answers to the same question.

    ask      G answers to each prompt, drawn from the policy
    judge    R_1 .. R_G, by any function of the answers
    compare  A_i = (R_i - mean R) / (std R + 1e-6)          no critic: the group is the baseline
    blame    grpo(log p, A) + beta * KL(p || reference)     (`timecell.losses.preference`), reference: p as it began

Where a group agrees, nobody learns. An update is made of one draw, so the policy that drew is the one that is trained and
the ratio of `grpo` is 1. It is a credit rule like any other: `timecell.fit` trains a `Policy` by it, on prompts.

Source: Shao et al., "DeepSeekMath" (2024), arXiv:2402.03300.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.credit.layers import bare
from timecell.credit.rule import Loss
from timecell.data.containers import Batch, Data, Kind
from timecell.errors import InputError
from timecell.losses.preference import grpo, kl_estimate
from timecell.networks.speaker import SILENT
from timecell.state import StateTree
from timecell.system import Scores

Reward = Callable[[Int[Tensor, "N A"], Int[Tensor, "N ..."]], Float[Tensor, "N"]]
"""``reward(answers, truth)``: what each answer is worth; truth is the batch's target, a row an answer."""


class Speaks(Protocol):
    """What a policy must be able to do; `timecell.networks.speaker.Speaker` can."""

    def sample(self, prompt: Float[Tensor, "B P C"], group: int, greedy: bool = False) -> Int[Tensor, "B*group A"]:
        """Answers to each prompt, one behind the other; `SILENT` after the end of one."""

    def log_p(self, prompt: Float[Tensor, "B P C"], answers: Int[Tensor, "B*group A"]) -> Float[Tensor, "B*group A"]:
        """Log-probability of each word, 0 where `SILENT`."""


class Policy(nn.Module):
    """What `timecell.fit` trains: a net that `Speaks`, beside a frozen copy of it as it is now, the reference.

    Called as a net it gives its greedy answers [B, A, 1], for validation.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.reference = copy.deepcopy(net).eval().requires_grad_(False)

    def forward(
        self, x: Float[Tensor, "B P C"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B A 1"], None]:
        """The most likely word at each place."""
        if lengths is not None:
            raise InputError(
                "lengths", found="prompts of several lengths", expected="one", remedy="sort them by length"
            )
        return cast(Speaks, self.net).sample(x, 1, greedy=True)[..., None].to(x), None


@dataclass(frozen=True)
class GroupPolicy:
    """Group-relative policy optimisation, for a `Policy`.

    Attributes:
        reward: what an answer is worth; a frozen dataclass where runs are to be resumed.
        group: G, answers to each prompt.
        clip: how far the ratio of new and old probabilities may go.
        kl: beta, how strongly the policy is held to the reference.

    Raises:
        InputError: a group of one, which has nothing to compare.
    """

    reward: Reward
    group: int = 8
    clip: float = 0.2
    kl: float = 1e-3
    exact: ClassVar[bool] = False
    local: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.group < 2:
            raise InputError("GroupPolicy(group)", found=self.group, expected="at least 2", remedy="5 to 8 are usual")

    def slices(self, steps: int) -> Iterable[slice]:
        """All of a prompt at once."""
        return [slice(0, steps)]

    def backward(
        self,
        net: nn.Module,
        batch: Batch,
        steps: slice,
        state: StateTree,
        loss: Loss,
        autograd: Callable[[Tensor], Any] = torch.autograd.backward,
    ) -> tuple[Tensor, StateTree]:
        """Ask, judge, compare, blame; the task's own loss is not used, since a reward has no gradient."""
        policy = bare(net)
        if not isinstance(policy, Policy) or batch.target is None:
            raise InputError(
                "GroupPolicy", found=f"{type(policy).__name__}, target {type(batch.target).__name__}",
                expected="a Policy and prompts with what is true of them", remedy="train Policy(net)",
            )  # fmt: skip
        speaker, reference = cast(Speaks, policy.net), cast(Speaks, policy.reference)
        with torch.no_grad():
            answers = speaker.sample(batch.x, self.group)
            reward = self.reward(answers, batch.target.repeat_interleave(self.group, 0))
            before = reference.log_p(batch.x, answers)
        said = answers != SILENT
        log_p = speaker.log_p(batch.x, answers)
        better = advantages(reward.view(-1, self.group)).flatten().to(log_p)
        value = grpo(log_p, log_p.detach(), better, said, self.clip)
        value = value + self.kl * (kl_estimate(log_p, before) * said).sum() / said.sum()
        autograd(value)
        return value.detach(), None


def advantages(reward: Float[Tensor, "B G"]) -> Float[Tensor, "B G"]:
    """How much better each answer is than its group, in the group's standard deviations; 0 where all are equal.

    Example:
        >>> advantages(torch.tensor([[0.0, 1.0], [1.0, 1.0]])).round(decimals=3).tolist()
        [[-1.0, 1.0], [0.0, 0.0]]
    """
    centred = reward - reward.mean(1, keepdim=True)
    return centred / (reward.std(1, keepdim=True, correction=0) + 1e-6)


@dataclass(frozen=True)
class Rewards:
    """[N] what each greedy answer is worth."""

    values: Float[np.ndarray, "N"]

    def arrays(self) -> dict[str, Any]:
        """`values`."""
        return {"values": self.values}


@dataclass(frozen=True)
class Rewarded:
    """What a `Policy` is validated by: the mean reward of its greedy answers.

    Attributes:
        reward: as in `GroupPolicy`.
    """

    reward: Reward
    name: ClassVar[str] = "rewarded"
    kind: ClassVar[Kind] = "sequences"
    needs_whole: ClassVar[str | None] = "an answer follows its whole prompt"

    def loss(self, y: Float[Tensor, "B A 1"], batch: Batch, steps: slice) -> Float[Tensor, ""]:
        """Minus the mean reward."""
        return -self.scores_from_outputs(y, batch).mean()

    def scores_from_outputs(self, y: Float[Tensor, "B A 1"], batch: Batch) -> Float[Tensor, "B"]:
        """The reward of each answer."""
        assert batch.target is not None
        return self.reward(y[..., 0].long(), batch.target)

    def prediction(self, answers: Float[Tensor, "N"], data: Data) -> Rewards:
        """Of all samples."""
        return Rewards(answers.double().cpu().numpy())

    def score(self, prediction: Rewards, data: Data) -> Scores:
        """The mean reward."""
        return Scores({"reward": float(prediction.values.mean())}, "reward", True, prediction.values)
