"""Preference: answers that were judged better become likelier, without going far from where the policy stood.

    dpo    -log sigmoid(beta [(log p+ - log r+) - (log p- - log r-)])               of two answers, one was preferred
    grpo   -mean over tokens of min(rho A, clip(rho, 1 - eps, 1 + eps) A)           rho = p / p_old, A: how much better
    KL     exp(log r - log p) - (log r - log p) - 1                                 of the policy p and a reference r

Sources: Rafailov et al. (2023), arXiv:2305.18290; Shao et al. (2024), arXiv:2402.03300; the estimator of the divergence:
Schulman, "Approximating KL divergence" (2020).
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from timecell.errors import InputError


def dpo(
    better: Float[Tensor, "B"],
    worse: Float[Tensor, "B"],
    reference_better: Float[Tensor, "B"],
    reference_worse: Float[Tensor, "B"],
    beta: float = 0.1,
) -> Float[Tensor, ""]:
    """Direct preference optimisation, from the log-probabilities of whole answers.

    Args:
        better: of the preferred answer, under the policy.
        worse: of the other one.
        reference_better: of the preferred answer, under the policy as it was.
        reference_worse: of the other one.
        beta: how strongly the policy is held to the reference.

    Example:
        >>> import torch
        >>> zero = torch.zeros(1)
        >>> bool(dpo(zero + 1, zero - 1, zero, zero) < dpo(zero, zero, zero, zero))
        True
    """
    return -logsigmoid(beta * ((better - reference_better) - (worse - reference_worse))).mean()


def kl_estimate(log_p: Float[Tensor, "..."], log_reference: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """An estimate of KL(p || reference) from tokens that were drawn from p: never negative, unbiased, of low variance.

    Args:
        log_p: log-probability of each token that was drawn.
        log_reference: of the same under the reference.

    Example:
        >>> import torch
        >>> kl_estimate(torch.tensor([-1.0, -1.0]), torch.tensor([-1.0, -2.0]))
        tensor([0.0000, 0.3679])
    """
    difference = log_reference - log_p
    return difference.exp() - difference - 1


def grpo(
    log_p: Float[Tensor, "B L"],
    log_old: Float[Tensor, "B L"],
    advantage: Float[Tensor, "B"],
    said: Bool[Tensor, "B L"],
    clip: float = 0.2,
) -> Float[Tensor, ""]:
    """The clipped loss of group-relative policy optimisation; every token of an answer has the answer's advantage.

    The mean is over all tokens of all answers, so a long answer is not worth less a token than a short one.

    Args:
        log_p: log-probability of each token under the policy.
        log_old: under the policy that drew it (no gradient goes there).
        advantage: of each answer.
        said: which tokens are part of the answer.
        clip: eps, how far the ratio may go before it teaches no more.

    Raises:
        InputError: shapes that do not match, or no token at all.

    Example:
        >>> import torch
        >>> log_p = torch.full((2, 3), -1.0, requires_grad=True)
        >>> said = torch.tensor([[True, True, True], [True, False, False]])
        >>> grpo(log_p, log_p.detach(), torch.tensor([1.0, -1.0]), said).backward()
        >>> log_p.grad.tolist()
        [[-0.25, -0.25, -0.25], [0.25, 0.0, 0.0]]
    """
    if not log_p.shape == log_old.shape == said.shape or advantage.shape != log_p.shape[:1]:
        raise InputError(
            "grpo(log_p, log_old, advantage, said)",
            found=", ".join(str(list(t.shape)) for t in (log_p, log_old, advantage, said)),
            expected="[B, L], [B, L], [B], [B, L]", remedy="give one advantage an answer and the rest a token each",
        )  # fmt: skip
    if not said.any():
        raise InputError("said", found="no token", expected="at least one", remedy="leave empty batches out")
    ratio, A = (log_p - log_old.detach()).exp(), advantage[:, None]
    gain = (ratio * A).minimum(ratio.clamp(1 - clip, 1 + clip) * A)
    return -(gain * said).sum() / said.sum()
