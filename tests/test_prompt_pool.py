"""`PromptPool`: what queries find, and what learns from it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timecell.checkpoint import seeded
from timecell.errors import InputError
from timecell.memory.prompt_pool import PromptPool
from timecell.recipe import Stage


def pool(seed=0, **sizes):
    with seeded(seed):
        return PromptPool(**({"prompts": 6, "length": 3, "width": 4, "query": 5, "chosen": 2} | sizes))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), chosen=st.integers(1, 6), scale=st.floats(1e-3, 1e3))
def test_a_query_finds_the_keys_that_point_where_it_points(seed, chosen, scale):
    prompts = pool(seed, chosen=chosen)
    query = scale * torch.randn(7, 5, generator=torch.Generator().manual_seed(seed))
    found = prompts(query)
    cosine = torch.cosine_similarity(query[:, None], prompts.keys, dim=-1)
    assert torch.allclose(found.similarity, cosine.topk(chosen).values, atol=1e-5)
    assert torch.equal(found.chosen, cosine.topk(chosen).indices)
    assert found.similarity.abs().max() <= 1 + 1e-6


def test_permuting_the_pool_changes_numbers_and_nothing_else():
    prompts, query = pool(), torch.randn(9, 5)
    before = prompts(query)
    values, order = prompts.prompts[before.chosen].detach(), torch.tensor([3, 0, 5, 1, 4, 2])
    with torch.no_grad():
        prompts.prompts.copy_(prompts.prompts[order].clone())
        prompts.keys.copy_(prompts.keys[order].clone())
    after = prompts(query)
    assert torch.equal(prompts.prompts[after.chosen], values)
    assert torch.allclose(after.similarity, before.similarity)


def test_only_keys_that_are_chosen_are_drawn_to_the_queries():
    prompts, query = pool(), torch.randn(1, 5)
    found = prompts(query)
    (-found.similarity.sum()).backward()
    chosen = set(found.chosen.flatten().tolist())
    assert {m for m, g in enumerate(prompts.keys.grad) if g.abs().sum() > 0} == chosen
    assert prompts.prompts.grad is None
    with torch.no_grad():
        prompts.keys -= 0.1 * prompts.keys.grad
    assert (prompts(query).similarity > found.similarity).all()


def test_a_query_does_not_care_for_others_in_the_batch():
    prompts, query = pool(), torch.randn(8, 5)
    assert torch.equal(prompts(query).chosen[3:4], prompts(query[3:4]).chosen)


def test_prompts_have_a_learning_rate_of_their_own():
    groups = Stage(lr=1e-2, rates={"prompt": 3.0}).groups(torch.nn.Sequential(torch.nn.Linear(2, 2), pool()))
    assert sorted(group["peak"] for group in groups) == pytest.approx([0.01, 0.03])


@pytest.mark.parametrize("chosen", [0, 7])
def test_no_more_can_be_found_than_there_are(chosen):
    with pytest.raises(InputError, match=rf"PromptPool\(chosen\): found {chosen}, expected 1 to 6"):
        pool(chosen=chosen)


def test_a_query_of_another_width_is_refused():
    with pytest.raises(InputError, match=r"PromptPool\(query\): found width 4, expected 5"):
        pool()(torch.zeros(2, 4))
