"""Preference losses, and the credit rule that learns from a group's rewards."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from timecell.credit.group_policy import GroupPolicy, Policy, Rewarded, advantages
from timecell.data.containers import Batch
from timecell.errors import InputError
from timecell.losses.preference import dpo, grpo, kl_estimate
from timecell.networks.speaker import SILENT

numbers = st.floats(-4, 4).map(lambda v: round(v, 3))


# --- losses --------------------------------------------------------------------------------------------------------------


@given(st.lists(numbers, min_size=1, max_size=8), st.lists(numbers, min_size=8, max_size=8))
@settings(deadline=None, max_examples=30)
def test_the_divergence_is_never_negative_and_zero_for_equal_policies(log_p, log_reference):
    p, reference = (
        torch.tensor(log_p, dtype=torch.float64),
        torch.tensor(log_reference[: len(log_p)], dtype=torch.float64),
    )
    assert (kl_estimate(p, reference) >= 0).all()
    assert (kl_estimate(p, p) == 0).all()


def test_the_divergence_is_unbiased():
    p, q = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    expected = (p * kl_estimate(p.log(), q.log())).sum()
    torch.testing.assert_close(expected, (p * (p / q).log()).sum())


def test_at_ratio_one_the_gradient_is_that_of_reinforce():
    torch.manual_seed(0)
    said = torch.rand(4, 6) < 0.7
    advantage = torch.randn(4)
    log_p = torch.randn(4, 6, requires_grad=True)
    (ours,) = torch.autograd.grad(grpo(log_p, log_p.detach(), advantage, said), log_p)
    (reinforce,) = torch.autograd.grad(-(advantage[:, None] * log_p * said).sum() / said.sum(), log_p)
    torch.testing.assert_close(ours, reinforce)


def test_what_has_gone_far_enough_is_not_taught_on():
    said, old = torch.ones(2, 1, dtype=torch.bool), torch.zeros(2, 1)
    log_p = torch.tensor([[0.5], [-0.5]], requires_grad=True)
    (gradient,) = torch.autograd.grad(grpo(log_p, old, torch.tensor([1.0, -1.0]), said), log_p)
    assert (gradient == 0).all()
    (gradient,) = torch.autograd.grad(grpo(log_p, old, torch.tensor([-1.0, 1.0]), said), log_p)
    assert (gradient != 0).all(), "on the way back there is no limit"


def test_every_token_counts_the_same():
    log_p = torch.zeros(2, 4, requires_grad=True)
    said = torch.tensor([[True] * 4, [True, False, False, False]])
    (gradient,) = torch.autograd.grad(grpo(log_p, log_p.detach(), torch.tensor([1.0, 1.0]), said), log_p)
    assert gradient[said].unique().numel() == 1 and (gradient[~said] == 0).all()


def test_dpo_prefers_what_was_preferred():
    policy = torch.zeros(2, requires_grad=True)
    better, worse = policy[:1], policy[1:]
    (gradient,) = torch.autograd.grad(dpo(better, worse, torch.zeros(1), torch.zeros(1)), policy)
    assert gradient[0] < 0 < gradient[1]
    assert dpo(better, worse, better, worse).item() == pytest.approx(0.6931, abs=1e-4)


def test_shapes_are_asked_for():
    log_p = torch.zeros(2, 3)
    with pytest.raises(InputError, match=r"grpo.*found \[2, 3\], \[2, 3\], \[3\]"):
        grpo(log_p, log_p, torch.zeros(3), log_p > 0)
    with pytest.raises(InputError, match="said: found no token"):
        grpo(log_p, log_p, torch.zeros(2), log_p > 0)


# --- the rule ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.lists(numbers, min_size=5, max_size=5), min_size=1, max_size=4))
@settings(deadline=None, max_examples=30)
def test_advantages_are_standardised_in_each_group_and_vanish_where_all_agree(rewards):
    reward = torch.tensor(rewards, dtype=torch.float64)
    found = advantages(reward)
    torch.testing.assert_close(found.mean(1), torch.zeros(len(found), dtype=torch.float64), atol=1e-6, rtol=0)
    for group, a in zip(reward, found):
        expected = 0.0 if (group == group[0]).all() else 1.0
        assert a.std(correction=0).item() == pytest.approx(expected, abs=2e-3)


class Coin(nn.Module):
    """Says 0 or 1 and then nothing, whatever it is asked."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(2))

    def sample(self, prompt, group, greedy=False):
        n = len(prompt) * group
        word = self.logits.argmax().expand(n) if greedy else torch.multinomial(self.logits.softmax(0), n, True)
        return torch.stack([word, torch.full((n,), SILENT)], 1)

    def log_p(self, prompt, answers):
        found = self.logits.log_softmax(0)[answers.clamp(min=0)]
        return found.masked_fill(answers == SILENT, 0.0)


def ones(answers, truth):
    return (answers[:, 0] == 1).double()


def learn(kl, steps=60):
    torch.manual_seed(0)
    policy = Policy(Coin())
    rule, batch = GroupPolicy(ones, group=8, kl=kl), Batch(torch.zeros(4, 1, 1), torch.zeros(4))
    optimizer = torch.optim.SGD(policy.net.parameters(), lr=0.3)
    for _ in range(steps):
        optimizer.zero_grad()
        rule.backward(policy, batch, slice(0, 1), None, None)
        optimizer.step()
    return policy


def test_what_is_rewarded_becomes_likely_and_the_reference_stays():
    policy = learn(kl=0.0)
    assert policy.net.logits.softmax(0)[1] > 0.95
    assert (policy.reference.logits == 0).all() and not policy.reference.logits.requires_grad


def test_a_strong_reference_holds_the_policy_back():
    assert learn(kl=5.0).net.logits.softmax(0)[1] < 0.8


def test_a_policy_is_validated_by_its_greedy_answers():
    policy, batch = learn(kl=0.0), Batch(torch.zeros(3, 1, 1), torch.zeros(3))
    y, _ = policy(batch.x)
    task = Rewarded(ones)
    answers = task.scores_from_outputs(y, batch)
    assert answers.tolist() == [1.0, 1.0, 1.0] and task.loss(y, batch, slice(0, 1)) == -1
    assert task.score(task.prediction(answers, None), None).metrics == {"reward": 1.0}


def test_it_says_what_it_needs():
    with pytest.raises(InputError, match=r"GroupPolicy\(group\): found 1"):
        GroupPolicy(ones, group=1)
    with pytest.raises(InputError, match="expected a Policy and prompts"):
        GroupPolicy(ones).backward(nn.Linear(1, 1), Batch(torch.zeros(1, 1, 1)), slice(0, 1), None, None)
