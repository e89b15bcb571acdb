"""What every point process must be: a distribution, causal, blind to padding; and the generators that know the truth."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from timecell.data.event_sequences import EventSequences
from timecell.data.synthetic.point_processes import (
    Hawkes,
    hawkes,
    log_likelihood,
    markov_renewal,
    renewal,
    self_correcting,
)
from timecell.errors import InputError
from timecell.event_models import RMTPP, GatedMixture, SelfAttentiveHawkes, TransformerHawkes
from timecell.generate.point_process import DecodedProcess, IntensityProcess, at_rows, generate, thinning
from timecell.layers.event_decoders import Exponential, Gompertz, LogNormalMixture, wait

K = 3
DATA = markov_renewal(sequences=6, end=12.0, seed=3).data
DATA = DATA.scaled(DATA.mean_gap)
BATCH = DATA.batch(np.arange(6))


class Fading(IntensityProcess):
    """An intensity whose integral is known: exp(p) (1 + exp(-tau)), no history."""

    def __init__(self):
        super().__init__()
        self.p = torch.nn.Parameter(torch.tensor([0.2, -0.3, 0.1]))

    def remember(self, x, lengths=None):
        return self.p.expand(*x.shape[:2], -1)

    def log_intensity(self, memory, row, tau):
        return at_rows(memory, row) + torch.log1p((-tau).exp())[..., None]

    def exact(self, tau):
        return self.p.exp().sum() * (tau + 1 - (-tau).exp())


def nets():
    torch.manual_seed(0)
    systems = [RMTPP(), GatedMixture(), TransformerHawkes(), SelfAttentiveHawkes()]
    found = {s.card.slug: s.build(DATA.schema).eval() for s in systems}
    with torch.no_grad():  # away from the beginning, where all histories look alike
        for net in found.values():
            for p in net.parameters():
                p.add_(0.3 * torch.randn_like(p) * p.abs().mean().clamp(min=0.1))
    return found | {"fading": Fading().eval()}


NETS = nets()
every_net = pytest.mark.parametrize("name", NETS)


@every_net
def test_densities_integrate_to_one(name):
    net = NETS[name].double()
    x = BATCH.x[:2, :5].double()
    memory = net.remember(x)
    tau = torch.cat(
        [torch.linspace(1e-6, 60, 6001, dtype=torch.float64), torch.logspace(1.8, 5, 800).double()]
    ).unique()
    tau = torch.cat([torch.logspace(-7, -2, 400).double(), tau]).unique()
    with torch.no_grad():
        for last in (0, 4):
            row, at = torch.full((2, len(tau)), last), tau.expand(2, -1)
            log_intensity = net.log_intensity(memory, row, at)
            total = log_intensity.logsumexp(-1).exp()
            if name in ("thp", "sahp"):  # quadrature of its own, so that the whole is tested and not the nodes
                steps = (total[:, 1:] + total[:, :-1]) / 2 * tau.diff()
                mass = torch.nn.functional.pad(steps.cumsum(1), (1, 0))
                near = tau < 20
                torch.testing.assert_close(
                    net.compensator(memory, row, at)[:, near], mass[:, near], atol=5e-3, rtol=5e-3
                )
            else:
                mass = net.compensator(memory, row, at)
            area = torch.trapezoid((log_intensity.logsumexp(-1) - mass).exp(), tau)
            torch.testing.assert_close(area, torch.ones_like(area), atol=2e-3, rtol=0)
    net.float()


@every_net
def test_the_compensator_is_the_integral_of_the_intensity(name):
    net = NETS[name].double()
    memory = net.remember(BATCH.x.double(), BATCH.lengths)
    row = torch.tensor([[0, 1, 2]]).expand(6, -1)
    tau = torch.tensor([[0.3, 1.0, 2.5]], dtype=torch.float64).expand(6, -1)
    node, weight = np.polynomial.legendre.leggauss(64)
    at = (torch.from_numpy((node + 1) / 2) * tau[..., None]).reshape(6, -1)
    with torch.no_grad():
        intensity = net.log_intensity(memory, row.repeat_interleave(64, 1), at).logsumexp(-1).exp()
        integral = (intensity.reshape(6, 3, 64) * torch.from_numpy(weight / 2)).sum(-1) * tau
        torch.testing.assert_close(net.compensator(memory, row, tau), integral, rtol=2e-3, atol=1e-4)
    net.float()


@every_net
def test_the_future_does_not_change_the_past(name):
    net, x = NETS[name], BATCH.x[:, :8].clone()
    changed = x.clone()
    changed[:, 5, 0] += 1.7
    changed[:, 5, 1:] = torch.eye(K)[0]
    changed[:, 6:] = changed[:, 6:].flip(1)
    with torch.no_grad():
        before, after = net(x)[0], net(changed)[0]
    torch.testing.assert_close(before[:, :4], after[:, :4])  # row i tells of row i + 1
    assert name == "fading" or not torch.allclose(before[:, 5], after[:, 5])


@every_net
def test_padding_and_batch_mates_do_not_matter(name):
    net = NETS[name]
    order = torch.tensor([4, 2, 5, 0, 3, 1])
    with torch.no_grad():
        whole = net(BATCH.x, lengths=BATCH.lengths)[0]
        shuffled = net(BATCH.x[order], lengths=BATCH.lengths[order])[0]
        torch.testing.assert_close(shuffled, whole[order], atol=2e-5, rtol=1e-4)
        for i, n in enumerate(BATCH.lengths.tolist()):
            alone = net(BATCH.x[i : i + 1, :n])[0]
            torch.testing.assert_close(alone, whole[i : i + 1, :n], atol=2e-5, rtol=1e-4)
            assert not whole[i, n - 1 :].any()


@every_net
def test_padding_has_no_gradient(name):
    x = BATCH.x.clone().requires_grad_()
    NETS[name](x, lengths=BATCH.lengths)[0].sum().backward()
    padding = torch.arange(x.shape[1]) >= BATCH.lengths[:, None]
    assert not x.grad[padding].any() and torch.isfinite(x.grad).all()


@every_net
def test_answers_agree_with_the_likelihood(name):
    net = NETS[name]
    with torch.no_grad():
        y, said = net(BATCH.x, lengths=BATCH.lengths)[0], net.answer(BATCH.x, BATCH.lengths)
    known = torch.arange(y.shape[1] - 1) < BATCH.lengths[:, None] - 1
    torch.testing.assert_close(said.log_time[known], y[:, :-1, 0][known])
    torch.testing.assert_close(said.log_mark.exp().sum(-1), torch.ones_like(said.mass))
    at_median = net.compensator(
        net.remember(BATCH.x, BATCH.lengths), torch.arange(y.shape[1] - 1).expand(6, -1), said.median
    )
    torch.testing.assert_close(at_median[known], torch.full_like(at_median[known], np.log(2)), atol=1e-3, rtol=0)


@every_net
def test_inversion_and_thinning_draw_from_the_density(name):
    net = NETS[name]
    memory = net.remember(BATCH.x[:1], BATCH.lengths[:1])
    row = torch.full((1, 2000), 3)
    with torch.no_grad():
        draws = thinning(net, memory, row, generator=torch.Generator().manual_seed(1))
        inverted = net.sample(memory, row, torch.Generator().manual_seed(2))
        assert draws.violations < 1e-3
        for tau, mark in (draws[:2], inverted):
            mass = net.compensator(memory, row, tau)[0]
            assert kstest(mass.numpy(), "expon").pvalue > 1e-3  # the time-rescaling theorem
            share = net.log_intensity(memory, row, tau).softmax(-1).mean((0, 1))
            counts = torch.bincount(mark.flatten(), minlength=K) / 2000
            assert (counts - share).abs().max() < 4 * (0.25 / 2000) ** 0.5


def test_the_random_integral_is_unbiased():
    net = Fading().train()
    memory, tau = net.remember(BATCH.x[:1]), torch.full((1, 400), 2.0)
    torch.manual_seed(0)
    net.points = 5
    found = net.compensator(memory, torch.zeros_like(tau, dtype=torch.long), tau)[0]
    assert found.std() > 0
    error = (found.mean() - net.exact(torch.tensor(2.0))).abs() / (found.std() / 400**0.5)
    assert error < 3
    fixed = net.eval().compensator(memory, torch.zeros_like(tau, dtype=torch.long), tau)[0, 0]
    torch.testing.assert_close(fixed, net.exact(torch.tensor(2.0)))


def test_thinning_notices_what_it_did_not_expect():
    class Peak(Fading):  # between the points that are looked at
        def log_intensity(self, memory, row, tau):
            return at_rows(memory, row) * 0 + 3 * (-(((tau - 0.44) / 0.01) ** 2)).exp()[..., None]

    net = Peak().eval()
    memory, row = net.remember(BATCH.x[:1]), torch.zeros(1, 2000, dtype=torch.long)
    with torch.no_grad():
        assert thinning(net, memory, row, generator=torch.Generator().manual_seed(0)).violations > 1e-3
        assert thinning(net, memory, row, factor=30.0, generator=torch.Generator().manual_seed(0)).violations == 0


def test_generated_histories_go_on():
    net = DecodedProcess(torch.nn.Identity(), Exponential())
    net.remember = lambda x, lengths=None: torch.zeros(*x.shape[:2], 2)
    x = torch.zeros(50, 3, 3)
    x[:, 1:, 0], x[:, 1:, 1] = 1.0, 1.0
    lengths = torch.tensor([1, 3] * 25)
    y = generate(net, x, lengths, events=20, generator=torch.Generator().manual_seed(0))
    assert y.shape == (50, 23, 3)
    for i, n in enumerate(lengths.tolist()):
        assert (y[i, n : n + 20, 0] > 0).all() and (y[i, n : n + 20, 1:].sum(-1) == 1).all()
        torch.testing.assert_close(y[i, 1:n], x[i, 1:n])
        assert not y[i, n + 20 :].any()
    assert abs(torch.cat([y[i, n : n + 20, 0] for i, n in enumerate(lengths)]).mean().item() - 0.5) < 0.06


@pytest.mark.parametrize("decoder", [Exponential(), Gompertz(), LogNormalMixture(3)])
def test_gradients_of_decoders_are_finite_everywhere(decoder):
    p = torch.randn(5, decoder.outputs(2), requires_grad=True)
    for tau in (0.0, 1e-7, 1.0, 50.0):
        at = torch.full((5,), tau)
        (
            decoder.log_intensity(p, at).clamp(min=-1e3).sum() - decoder.compensator(p, at).clamp(max=1e3).sum()
        ).backward()
        assert torch.isfinite(p.grad).all()


def test_waiting_is_bounded():
    assert wait(lambda tau: 0 * tau, torch.tensor(1.0)) > 9e5


# --- the generators -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", [hawkes, self_correcting, renewal, markov_renewal])
def test_residuals_of_the_truth_are_exponential(make, seed):
    generated = make(sequences=2, end=800.0, seed=seed)
    memory = generated.truth.remember(generated.data)
    mass = generated.truth.compensator(memory, generated.data.waits)[generated.data.happened]
    assert len(mass) > 400 and kstest(mass, "expon").pvalue > 0.003


def test_hawkes_equals_the_double_sum():
    base, branching, decay = (
        np.array([0.3, 0.2]),
        np.array([[0.4, 0.1], [0.3, 0.2]]),
        np.array([[1.0, 2.0], [0.5, 1.5]]),
    )
    data = hawkes(base, branching, decay, sequences=3, end=20.0, seed=1).data
    by_hand = []
    for i in range(3):
        own = slice(data.offsets[i], data.offsets[i + 1])
        t, m = data.times[own], data.marks[own]

        def rate(k, at, t=t, m=m):
            past = t < at
            b = decay[k, m[past]]
            return base[k] + (branching[k, m[past]] * b * np.exp(-b * (at - t[past]))).sum()

        whole = base.sum() * 20.0 + sum(
            branching[k, m[j]] * -np.expm1(-decay[k, m[j]] * (20.0 - t[j])) for k in range(2) for j in range(len(t))
        )
        by_hand.append(sum(np.log(rate(m[j], t[j])) for j in range(len(t))) - whole)
    np.testing.assert_allclose(log_likelihood(Hawkes(base, branching, decay), data), by_hand, rtol=1e-9)
    one = np.array([[1.3]])
    np.testing.assert_allclose(
        log_likelihood(Hawkes(base, branching, one), data),
        log_likelihood(Hawkes(base, branching, np.full((2, 2), 1.3)), data),
    )


def test_scaling_time_shifts_the_likelihood_by_its_logarithm():
    generated = hawkes(sequences=4, end=30.0)
    truth, c = generated.truth, 7.0
    scaled = generated.data.scaled(1 / c)  # times c
    slower = Hawkes(truth.base / c, truth.branching, truth.decay / c)
    shift = log_likelihood(truth, generated.data) - log_likelihood(slower, scaled)
    np.testing.assert_allclose(shift, generated.data.counts * np.log(c))


def test_empty_sequences_have_a_likelihood_too():
    data = EventSequences.of([[], [1.0]], [[], [0]], end=2.0, classes=("a", "b"))
    truth = hawkes(sequences=1).truth
    assert log_likelihood(truth, data)[0] == pytest.approx(-2.0 * truth.base.sum())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: hawkes(branching=[[1.1, 0], [0, 0.1]]), ["branching", "spectral radius 1.1"]),
        (lambda: hawkes(base=[-1, 1]), ["base", "from 0 on"]),
        (lambda: hawkes(sequences=0), ["sequences", "at least 1"]),
        (lambda: self_correcting(growth=0.0), ["growth", "above 0"]),
        (lambda: markov_renewal(next=[[0.5, 0.6], [0.5, 0.5]]), ["next", "sum to one"]),
        (lambda: renewal(log_std=0.0), ["log_std", "above 0"]),
        (lambda: renewal(end=-1.0), ["end", "above 0"]),
    ],
)
def test_messages_of_generators(make, words):
    with pytest.raises(InputError) as caught:
        make()
    for word in words:
        assert word in str(caught.value)
