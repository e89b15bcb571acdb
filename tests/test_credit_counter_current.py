"""Two nets that teach each other: what reaches whom, and what does not."""

import pytest
import torch
from torch import nn

import timecell as tc
from timecell.credit import Instantaneous, PresynapticTrace, Rule, checks
from timecell.credit.checks import every_step, example_batch, example_net, gradients
from timecell.credit.counter_current import CounterCurrent, alignment, descended, with_counter_current
from timecell.credit.layers import layers_of
from timecell.data.containers import Batch
from timecell.errors import InputError

RULE = Rule(Instantaneous(), CounterCurrent())


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def net_and_batch(steps=1):
    net = tc.Sequential(nn.Linear(4, 6), nn.ELU(), nn.Linear(6, 5), nn.ELU(), nn.Linear(5, 3)).double()
    return with_counter_current(net), Batch(torch.randn(7, steps, 4).double(), torch.arange(7) % 3)


@pytest.mark.parametrize("time", [Instantaneous(2), PresynapticTrace(2)], ids=str)
def test_it_keeps_the_contract_of_credit_rules_in_nets_that_have_a_counter_current(monkeypatch, time):
    monkeypatch.setattr(checks, "example_net", lambda *a, **k: with_counter_current(example_net(*a, **k)))
    for result in checks.check(Rule(time, CounterCurrent())):
        assert result.passed, f"{result.name}: {result.promise}\n{result.reason}"


def test_each_level_learns_from_its_own_loss_alone():
    """Against autograd, level by level, with everything that comes from elsewhere cut off by hand."""
    net, batch = net_and_batch()
    found = gradients(RULE, net, batch)[1]
    a1 = nn.functional.elu(net[0](batch.x))
    a2 = nn.functional.elu(net[2](a1.detach()))
    c2 = nn.functional.elu(net[4].counter.weight.T)
    c1 = nn.functional.elu(c2.detach() @ net[2].counter.weight.T)
    same = nn.functional.one_hot(batch.target, 3).double()
    loss = every_step(net[4](a2.detach()), batch, slice(0, 1))
    for a, c in ((a1, c1), (a2, c2)):
        loss = loss + 128 / c.shape[1] * ((a[:, 0] @ c.T - same) ** 2).mean()
    named = dict(net.named_parameters())
    truth = torch.autograd.grad(loss, list(named.values()))
    for name, gradient in zip(named, truth):
        assert torch.allclose(found[name], gradient, atol=1e-12), name


def test_weights_of_one_level_change_nothing_in_another():
    net, batch = net_and_batch()
    before = gradients(RULE, net, batch)[1]
    with torch.no_grad():
        net[4].weight.neg_()  # the top of the net that goes up
    after = gradients(RULE, net, batch)[1]
    assert all(torch.equal(before[n], after[n]) for n in before if not n.startswith("4.") or "counter" in n)
    with torch.no_grad():
        net[2].counter.weight.neg_()  # the last step down to the lowest level
    last = gradients(RULE, net, batch)[1]
    assert {n for n in after if not torch.equal(last[n], after[n])} == {"0.weight", "0.bias", "2.counter.weight"}


def test_the_forward_net_does_without_the_other():
    net, batch = net_and_batch(3)
    with torch.no_grad():
        y = net(batch.x)[0]
        for layer in layers_of(net)[1:]:
            layer.synapse.counter.weight.fill_(torch.nan)
        assert torch.equal(net(batch.x)[0], y)


def test_classes_come_down_one_by_one():
    net, _ = net_and_batch()
    layers = layers_of(net)
    assert descended(layers, 1).shape == (3, 5) and descended(layers, 0).shape == (3, 6)
    one = nn.functional.elu(net[4].counter(torch.tensor([0.0, 1.0, 0.0]).double()))
    torch.testing.assert_close(descended(layers, 1)[1], one)


def test_steps_count_alike_and_padding_not_at_all():
    net, batch = net_and_batch(4)
    whole = gradients(Rule(Instantaneous(4), CounterCurrent()), net, batch)[1]
    for steps in (1, 3):
        cut = gradients(Rule(Instantaneous(steps), CounterCurrent()), net, batch)[1]
        assert all(torch.allclose(cut[n], whole[n], atol=1e-12) for n in whole)
    still = Batch(batch.x[:, :1].expand(-1, 4, -1), batch.target)
    once, held = (gradients(RULE, net, Batch(still.x[:, :t], batch.target))[1] for t in (1, 4))
    assert all(torch.allclose(once[n], held[n], atol=1e-12) for n in once), "a picture that stays is one picture"


def test_training_aligns_the_nets():
    net, batch = net_and_batch()
    before = alignment(net)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(300):
        gradients(RULE, net, batch)
        optimizer.step()
    after = alignment(net)
    assert before.keys() == after.keys() == {"3", "4"}
    assert sum(after.values()) > sum(before.values()) + 0.3


def test_refusals():
    with pytest.raises(InputError, match=r"net\[2\]: found Conv2d, expected nn.Linear"):
        with_counter_current(tc.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3)))
    with pytest.raises(InputError, match=r"net\[5\]: found no counter-current.*\n.*with_counter_current"):
        gradients(RULE, example_net(), example_batch())
    net, batch = net_and_batch()
    with pytest.raises(InputError, match=r"batch\.target: found no classes"):
        gradients(RULE, net, Batch(batch.x, torch.randn(7, 3)), lambda y, batch, steps: y.sum())
