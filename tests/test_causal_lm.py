"""The tiny causal language model, what of a net is trained, and learning from a teacher's words."""

import numpy as np
import pytest
import torch
from torch import nn

from timecell.checkpoint import seeded
from timecell.credit.fine_tune import UNSAID, FineTune
from timecell.data.containers import Batch
from timecell.errors import InputError
from timecell.networks.adapters import set_trainable
from timecell.networks.causal_lm import TinyCausal
from timecell.state import index


def tiny(**more):
    with seeded(0):
        return TinyCausal(**{"tokens": 11, "size": 16, "layers": 2, "heads": 2, "context": 20, **more})


IDS = torch.randint(11, (3, 9), generator=torch.Generator().manual_seed(1))


def test_what_comes_later_changes_nothing_before():
    lm, other = tiny(), IDS.clone()
    other[:, 5:] = 0
    a, b = (lm.head(lm(lm.embed(ids))[0]) for ids in (IDS, other))
    torch.testing.assert_close(a[:, :5], b[:, :5])
    assert not torch.allclose(a[:, 5:], b[:, 5:])


def test_reading_on_is_reading_at_once_also_with_several_answers_to_one_prompt():
    lm = tiny()
    whole, _ = lm(lm.embed(IDS))
    _, state = lm(lm.embed(IDS[:, :4]))
    rest, _ = lm(lm.embed(IDS[:, 4:]), state)
    torch.testing.assert_close(rest, whole[:, 4:], rtol=1e-4, atol=1e-5)
    twice = torch.arange(3).repeat_interleave(2)
    rest, _ = lm(lm.embed(IDS[twice, 4:]), index(state, twice))
    torch.testing.assert_close(rest, whole[twice, 4:], rtol=1e-4, atol=1e-5)


def test_a_ragged_batch_reads_on_from_each_own_end():
    lm, lengths = tiny(), torch.tensor([4, 2, 3])
    y, state = lm(lm.embed(IDS[:, :4]), lengths=lengths)
    assert (y[1, 2:] == 0).all()
    on, _ = lm(lm.embed(IDS[:, 4:]), state)
    alone, _ = lm(lm.embed(torch.cat([IDS[1:2, :2], IDS[1:2, 4:]], 1)))
    torch.testing.assert_close(on[1], alone[0, 2:], rtol=1e-4, atol=1e-5)


def test_the_context_has_an_end():
    lm = tiny(context=8)
    with pytest.raises(InputError, match=r"found 9 places, expected at most context = 8"):
        lm(lm.embed(IDS))
    _, state = lm(lm.embed(IDS[:, :8]))
    with pytest.raises(InputError, match="found 9 places"):
        lm(lm.embed(IDS[:, 8:]), state)
    with pytest.raises(InputError, match=r"TinyCausal\(tokens\): found 0"):
        tiny(tokens=0)


# --- what is trained -----------------------------------------------------------------------------------------------------


def trained(mode, **more):
    lm = tiny()
    before = lm(lm.embed(IDS))[0]
    set_trainable(lm, mode, **more)
    torch.testing.assert_close(lm(lm.embed(IDS))[0], before)
    return {name for name, p in lm.named_parameters() if p.requires_grad}, lm


def test_what_of_a_net_is_trained():
    assert trained("frozen")[0] == set()
    assert trained("full")[0] == set(dict(tiny().named_parameters()))
    some, lm = trained("norm+pos")
    norms = {f"{n}.{p}" for n, m in lm.named_modules() if isinstance(m, nn.LayerNorm) for p in ("weight", "bias")}
    assert some == {"positions.weight"} | norms
    small, lm = trained("lora", rank=2)
    assert small and all(name.endswith((".A", ".B")) for name in small)
    assert sum(p.numel() for p in lm.parameters() if p.requires_grad) == 2 * 2 * (4 * (16 + 16) + 2 * (16 + 64))


def test_small_matrices_learn_and_the_large_ones_stay():
    _, lm = trained("lora", rank=2)
    weight = next(m for m in lm.modules() if isinstance(m, nn.Linear))
    large, small = weight.parametrizations.weight.original.clone(), weight.weight.clone()
    optimizer = torch.optim.SGD([p for p in lm.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        lm.head(lm(lm.embed(IDS))[0]).logsumexp(-1).mean().backward()
        optimizer.step()
    assert torch.equal(weight.parametrizations.weight.original, large) and not torch.equal(weight.weight, small)


def test_errors_of_adaptation():
    with pytest.raises(InputError, match=r"mode: found 'lorra'.*\n.*did you mean 'lora'"):
        set_trainable(tiny(), "lorra")
    with pytest.raises(InputError, match="rank: found 99, expected 1 to 16"):
        set_trainable(tiny(), "lora", rank=99)


# --- a teacher's words ---------------------------------------------------------------------------------------------------


def test_only_what_the_teacher_says_is_learnt():
    torch.manual_seed(0)
    y, target = torch.randn(2, 4, 5, requires_grad=True), torch.tensor([[UNSAID, 1, 2, UNSAID], [UNSAID, UNSAID, 3, 0]])
    batch, task = Batch(torch.zeros(2, 4, 1), target), FineTune()
    (gradient,) = torch.autograd.grad(task.loss(y, batch, slice(0, 4)), y)
    assert (gradient[target == UNSAID] == 0).all() and (gradient[target != UNSAID] != 0).any()
    said = 10.0 * torch.nn.functional.one_hot(target.clamp(min=0), 5)
    said[1, 2] = said[1, 2].roll(1)
    scores = task.score(task.prediction(task.scores_from_outputs(said, batch), None), None)
    assert scores.value == 0.75 and np.array_equal(scores.items, [1.0, 0.5])


def test_a_teacher_must_say_something():
    silent = Batch(torch.zeros(1, 2, 1), torch.full((1, 2), UNSAID))
    with pytest.raises(InputError, match=r"batch\.target: found shape \[1, 2\], 0 words"):
        FineTune().loss(torch.zeros(1, 2, 3), silent, slice(0, 2))
