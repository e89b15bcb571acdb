"""Continuous thought machines: what a tick is, what the loss trains, and that the machine can be used."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from timecell.data.containers import Batch, Schema, Sequences
from timecell.data.labelled_steps import LabelledSteps
from timecell.network_system import FittedNetwork
from timecell.system import Run
from timecell.systems.memory.ctm import CTM, Thought
from timecell.tasks import Classify, Forecast
from timecell.tasks.stopping import Thinking, best_and_most_certain, certainty, first_certain

SMALL = CTM(neurons=8, features=8, heads=2, ticks=3, history=3, hidden=2, synchronised=3)


@pytest.mark.parametrize("part", [{}, {"synchrony": False}, {"private": False}, {"lstm": True}])
def test_it_answers_at_every_tick_and_everything_learns(part):
    net = Thought(2, 5, replace(SMALL, **part))
    y, state = net(torch.randn(4, 6, 2))
    assert y.shape == (4, 3, 5) and state is None
    y.square().sum().backward()
    silent = [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None]
    assert not [name for name in silent if "attention.query" not in name], silent


def test_padding_is_not_looked_at():
    net = Thought(2, 5, SMALL).eval()
    x = torch.randn(1, 4, 2)
    padded = torch.cat([x, torch.randn(1, 3, 2)], 1)
    torch.testing.assert_close(net(padded, lengths=torch.tensor([4]))[0], net(x, lengths=torch.tensor([4]))[0])


def test_gradients_are_right():
    net = Thought(1, 2, replace(SMALL, neurons=4, features=4, synchronised=2)).double()
    for cell in (net.looking, net.speaking):
        cell.mean.rate_raw.data.fill_(0.3)  # at 0 the derivative has two sides
    x = torch.randn(1, 3, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: net(x)[0], x)


def test_only_the_best_and_the_most_certain_tick_are_trained():
    y = torch.randn(2, 4, 3, requires_grad=True)
    batch = Batch(torch.zeros(2, 5, 1), target=torch.tensor([0, 2]))
    Thinking().loss(y, batch, slice(0, 5)).backward()
    trained = (y.grad != 0).any(2)
    sure = certainty(y.detach()).argmax(1)
    assert bool(trained[torch.arange(2), sure].all()) and bool((trained.sum(1) <= 2).all())


def test_a_useless_late_tick_changes_the_loss_only_if_it_is_best_or_surest():
    losses, sure = torch.tensor([[2.0, 1.0]]), torch.tensor([[0.1, 0.5]])

    def later(loss, certain):
        return best_and_most_certain(
            torch.cat([losses, torch.tensor([[loss]])], 1), torch.cat([sure, torch.tensor([[certain]])], 1)
        ).item()

    alone = best_and_most_certain(losses, sure).item()
    assert later(9.0, 0.2) == alone and later(9.0, 0.9) != alone and later(0.1, 0.2) != alone
    assert first_certain(sure, 0.3).tolist() == [1]


def test_each_step_of_a_sequence_may_have_a_class():
    data = LabelledSteps.labelled(Sequences.of(np.zeros((3, 4, 1))), np.arange(12) % 2, ("even", "odd"))
    task, batch = Thinking(), data.batch(np.arange(3))
    y = torch.zeros(3, 5, task.outputs(data))
    y[:, 2] = 9 * torch.tensor([1.0, -1.0, -1.0, 1.0] * 2)  # at the third tick it is sure, and right
    scores = task.score(task.prediction(task.scores_from_outputs(y, batch), data), data)
    assert scores.value == 1.0 and len(scores.items) == 3
    assert data.select(np.array([2])).labels.tolist() == [0, 1, 0, 1]


def test_it_learns_is_kept_and_says_what_it_cannot(tmp_path):
    label = np.arange(60) % 2
    data = Sequences.of([np.full((3 + i % 3, 1), 2.0 * k - 1) for i, k in enumerate(label)], label)
    fitted = replace(SMALL, lr=1e-2).fit(data, data, Classify(), Run(updates=60, device="cpu"))
    assert (fitted.predict(data).predicted == label).mean() > 0.9
    fitted.save(tmp_path)
    same = FittedNetwork.load(tmp_path)
    np.testing.assert_allclose(same.predict(data).probabilities, fitted.predict(data).probabilities, rtol=1e-5)
    assert "it can classify" in CTM().accepts(Schema("series", ("x",)), Forecast())
