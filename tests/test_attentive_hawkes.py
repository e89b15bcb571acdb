"""`AttentiveHawkes`: a density, of the past alone, with prompts and without."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from timecell.checkpoint import seeded
from timecell.data.synthetic.point_processes import hawkes
from timecell.errors import InputError
from timecell.generate.attentive_hawkes import AttentiveHawkes, Prompts
from timecell.generate.point_process import PointProcess, generate, thinning
from timecell.systems.events.prompttpp import PromptedHawkes

K, T = 3, 9


def net(kind=AttentiveHawkes, **sizes):
    """A net whose weights are large enough for its intensity to move."""
    with seeded(0):
        made = kind(K, width=8, **sizes)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.mul_(2.0)
    return made.double().eval()


def rows(batch=4, seed=0):
    """Rows of a start and of events; the last row is the end for those who say lengths = T."""
    rng = np.random.default_rng(seed)
    x = np.zeros((batch, T, 1 + K))
    x[:, 1:, 0] = rng.exponential(size=(batch, T - 1))
    x[np.arange(batch)[:, None], np.arange(1, T - 1), 1 + rng.integers(K, size=(batch, T - 2))] = 1
    return torch.from_numpy(x)


def every_row(x):
    return torch.arange(x.shape[1]).expand(len(x), -1)


KINDS = pytest.mark.parametrize("kind", [AttentiveHawkes, PromptedHawkes])


@KINDS
@torch.no_grad()
def test_the_density_integrates_to_one(kind):
    process, x = net(kind), rows()
    memory, row = process.remember(x), every_row(x)
    tau = torch.expm1(torch.linspace(0, math.log(1 + 200), 1500, dtype=torch.float64))
    at = tau.expand(*row.shape, -1).flatten(1)
    total = process.log_intensity(memory, row.repeat_interleave(len(tau), 1), at).logsumexp(-1).exp()
    total = total.unflatten(1, (-1, len(tau)))
    mass = torch.cumulative_trapezoid(total, tau, dim=-1)
    survival = (-torch.nn.functional.pad(mass, (1, 0))).exp()
    whole = torch.trapezoid(total * survival, tau, dim=-1) + survival[..., -1]
    assert torch.allclose(whole, torch.ones_like(whole), atol=1e-3)
    assert survival[..., -1].max() < 1e-3  # nothing waits for ever


@KINDS
@torch.no_grad()
def test_the_future_changes_nothing_not_even_the_prompts(kind):
    process, x = net(kind), rows()
    changed = x.clone()
    changed[:, 5:, 0] *= 7
    changed[:, 5:, 1:] = changed[:, 5:, 1:].roll(1, -1)
    before, after = process(x)[0], process(changed)[0]
    assert torch.equal(before[:, :4], after[:, :4])  # row i answers for the event of row i + 1
    assert not torch.allclose(before[:, 4:], after[:, 4:])
    if kind is PromptedHawkes:
        assert torch.equal(process.find(x).chosen[:, :5], process.find(changed).chosen[:, :5])
    memory, other = process.remember(x), process.remember(changed)
    row, tau = torch.full((4, 6), 4), torch.rand(4, 6, dtype=torch.float64)
    assert torch.equal(process.log_intensity(memory, row, tau), process.log_intensity(other, row, tau))


@KINDS
@torch.no_grad()
def test_padding_and_batch_mates_do_not_matter(kind):
    process, x = net(kind), rows()
    lengths = torch.tensor([T, 5, 3, 7])
    for b, n in enumerate(lengths):
        x[b, n:] = 0
    together, _ = process(x, lengths=lengths)
    for b, n in enumerate(lengths):
        alone, _ = process(x[b : b + 1, :n])
        assert torch.allclose(together[b, : n - 1], alone[0, : n - 1], atol=1e-12)
        assert not together[b, n - 1 :].any()
    garbage = x.clone()
    garbage[1, 5:], garbage[2, 3:] = 3.0, -1.0
    assert torch.allclose(process(garbage, lengths=lengths)[0], together, atol=1e-12)
    order = [2, 0, 3, 1]
    assert torch.allclose(process(x[order], lengths=lengths[order])[0], together[order], atol=1e-12)


@KINDS
def test_padding_has_no_gradient(kind):
    process, x = net(kind).train(), rows()
    x.requires_grad_()
    process(x, lengths=torch.tensor([T, 5, 3, 7]))[0].sum().backward()
    assert not x.grad[1, 5:].any()
    assert not x.grad[2, 3:].any()


@KINDS
@torch.no_grad()
def test_residuals_of_its_own_draws_are_exponential(kind):
    process = net(kind).float()
    start, one = torch.zeros(60, 1, 1 + K), torch.ones(60, dtype=torch.long)
    drawn = generate(process, start, one, events=6, generator=torch.Generator().manual_seed(0))
    drawn = torch.nn.functional.pad(drawn, (0, 0, 0, 1))  # an end
    mass = process.answer(drawn).mass[:, :6].flatten()
    assert kstest(mass.numpy(), "expon").pvalue > 0.01


@torch.no_grad()
def test_thinning_draws_from_the_density():
    process, x = net(PromptedHawkes), rows(batch=1)
    memory, row = process.remember(x), torch.full((1, 1500), 6)
    draws = thinning(process, memory, row, generator=torch.Generator().manual_seed(0))
    mass = process.compensator(memory, row, draws.tau.double())
    assert kstest(mass.flatten().numpy(), "expon").pvalue > 0.01
    assert draws.violations < 0.01


@KINDS
@torch.no_grad()
def test_the_median_is_where_halving_finds_it(kind):
    process, x = net(kind).float(), rows().float()
    memory, row = process.remember(x), every_row(x)
    assert torch.allclose(process.median(memory, row), PointProcess.median(process, memory, row), rtol=5e-3)


@torch.no_grad()
def test_a_median_beyond_the_grid():
    process, x = net(), rows()
    process.rate.weight.zero_()
    process.rate.bias.fill_(-9.0)
    rate = K * math.log1p(math.exp(-9.0))
    median = process.median(process.remember(x), every_row(x))
    assert torch.allclose(median, torch.full_like(median, math.log(2) / rate), rtol=1e-3)


def test_the_integral_is_unbiased_in_training():
    process, x = net(points=3), rows(batch=1)
    row, tau = torch.full((1, 3000), 4), torch.full((1, 3000), 2.5, dtype=torch.float64)
    with torch.no_grad():
        memory = process.remember(x)
        fine = process.compensator(memory, row[:, :1], tau[:, :1]).item()
        draws = process.train().compensator(memory, row, tau).flatten()
    assert draws.std() > 0
    assert abs(draws.mean().item() - fine) < 3 * draws.std().item() / math.sqrt(len(draws))


@torch.no_grad()
def test_questions_in_parts_have_the_same_answers(monkeypatch):
    process, x = net(PromptedHawkes), rows()
    memory, row = process.remember(x), every_row(x)
    tau = torch.rand(row.shape, dtype=torch.float64)
    whole = process.log_intensity(memory, row, tau)
    monkeypatch.setattr("timecell.generate.attentive_hawkes.MOST", 1)
    assert torch.allclose(process.log_intensity(memory, row, tau), whole, atol=1e-12)


@torch.no_grad()
def test_prompts_that_nobody_sees_are_not_there():
    process, x = net(), rows()
    vectors = torch.rand(2, 2, 5, 8, dtype=torch.float64)
    code, seen = process.code(x[..., 0]), torch.zeros(4, T, 5, dtype=torch.bool)
    memory, row = process.remember(x), every_row(x)
    tau = torch.rand(row.shape, dtype=torch.float64)

    def with_prompts(seen):
        return process.log_intensity(process.remember(x, prompts=Prompts(vectors, seen, code)), row, tau)

    assert torch.allclose(with_prompts(seen), process.log_intensity(memory, row, tau), atol=1e-12)
    assert not torch.allclose(with_prompts(~seen), process.log_intensity(memory, row, tau))


@torch.no_grad()
def test_a_prompt_is_a_token_of_its_vector_and_a_time():
    """Shown at every row with the same time, it is read as the key and the value of [vector; code]."""
    process, x = net(layers=1, heads=1), rows(batch=1)
    vector, code = torch.rand(8, dtype=torch.float64), process.code(torch.tensor(2.0, dtype=torch.float64))
    shown = Prompts(vector.view(1, 1, 1, -1), torch.ones(1, T, 1, dtype=torch.bool), code.expand(1, T, -1))
    places = process.remember(x, prompts=shown).layers[0]
    layer, token = process.stack[0], torch.cat([vector, code]).view(1, 1, 1, -1)
    for mine, of_time, map_ in (
        (places.keys, places.time_keys, layer.key),
        (places.values, places.time_values, layer.value),
    ):
        assert torch.allclose(mine[:, :, :1] + of_time[:, :1].transpose(1, 2), map_(token), atol=1e-12)


def test_it_learns_a_hawkes_process():
    """Better than constant rates, and not better than the truth."""
    from timecell.data.synthetic.point_processes import log_likelihood
    from timecell.system import Run
    from timecell.systems.events.prompttpp import PromptTPP
    from timecell.tasks.next_event import NextEvent

    task, truth = NextEvent(), hawkes(sequences=80, end=30.0, seed=1)
    parts = task.split(truth.data)
    fitted = PromptTPP(prompts=0).fit(parts.train, parts.valid, task, Run(updates=60, device="cpu"))
    reached = task.score(fitted.predict(parts.test), parts.test).value
    poisson = task.baselines()[0].fit(parts.train, parts.valid, task, Run())
    exact = log_likelihood(truth.truth, parts.test)
    best = exact.sum() / len(parts.test.times)
    error = exact.std() / math.sqrt(len(exact)) / parts.test.counts.mean()
    assert task.score(poisson.predict(parts.test), parts.test).value < reached < best + 2 * error


@pytest.mark.parametrize("name, size", [("marks", 0), ("width", 0), ("heads", 0), ("layers", 0), ("code", 3)])
def test_sizes_that_make_no_net(name, size):
    sizes = {"marks": 2, name: size}
    with pytest.raises(InputError, match=rf"AttentiveHawkes\({name}\): found {size}"):
        AttentiveHawkes(**sizes)


def test_the_code_of_time_goes_from_fast_to_slow():
    assert all(fast > slow for fast, slow in pairwise(net().frequency.tolist()))
