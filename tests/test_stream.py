"""A stream gives the numbers of `forward`, begins anew where it is told, and refuses what does not fit."""

import pytest
import torch
from torch import nn

import timecell as tc
from timecell.cell import Cell
from timecell.errors import InputError
from timecell.state import flatten
from timecell.stream import Stream
from timecell.testing import walk

STREAMING = [c for c in walk(Cell) if c.example().streams]


@pytest.fixture(autouse=True)
def plain():
    """That fused and plain loops agree is checked elsewhere; here nothing needs to be compiled."""
    with tc.fuse.backend("plain"):
        yield


@pytest.mark.parametrize("cell", STREAMING, ids=lambda c: c.__name__)
def test_the_numbers_of_forward(cell):
    net, x = cell.example().double().eval(), torch.rand(3, 12, 4, dtype=torch.float64)
    stream = Stream(net)
    y = torch.stack([stream(x_t) for x_t in x.unbind(1)], 1)
    whole, end = net(x)
    assert torch.allclose(y, whole, rtol=0, atol=1e-10) and not y.requires_grad
    assert all(torch.allclose(v, flatten(stream.state)[k], rtol=0, atol=1e-10) for k, v in flatten(end).items())


@pytest.mark.parametrize("cell", STREAMING, ids=lambda c: c.__name__)
def test_some_samples_begin_anew(cell):
    net, x = cell.example().double().eval(), torch.rand(3, 12, 4, dtype=torch.float64)
    stream, mask = Stream(net), torch.tensor([False, True, False])
    for x_t in x[:, :7].unbind(1):
        stream(x_t)
    stream.reset(mask)
    y = torch.stack([stream(x_t) for x_t in x[:, 7:].unbind(1)], 1)
    assert torch.allclose(y[~mask], net(x)[0][~mask, 7:], rtol=0, atol=1e-10)
    assert torch.allclose(y[mask], net(x[:, 7:])[0][mask], rtol=0, atol=1e-10)


def test_reset_of_all_takes_another_batch():
    stream = Stream(tc.Sequential(nn.Linear(3, 4), tc.LIF(4)))
    stream.reset(torch.tensor([True]))  # nothing has begun, so nothing begins anew
    first = stream(torch.ones(2, 3))
    with pytest.raises(InputError, match=r"Stream\(x\): found shape \[5, 3\], expected \[2, 3\].*\n.*reset"):
        stream(torch.ones(5, 3))
    stream.reset()
    assert stream.state is None
    assert torch.equal(stream(torch.ones(5, 3))[:2], first)


def test_masks_are_checked():
    stream = Stream(tc.LIF(3))
    stream(torch.ones(2, 3))
    for wrong in (torch.tensor([True]), torch.tensor([1, 0])):
        with pytest.raises(InputError, match=r"reset\(mask\).*2 truth values"):
            stream.reset(wrong)


def test_learning_on_the_fly():
    net, x = tc.LeakyIntegrator(2, learn=("tau",)), torch.rand(1, 5, 2)
    stream = Stream(net, learn=True)
    sum(stream(x_t) for x_t in x.unbind(1)).sum().backward()
    here = net.tau_raw.grad.clone()
    net.tau_raw.grad = None
    net(x)[0].sum().backward()
    assert torch.allclose(here, net.tau_raw.grad)


class Backwards(tc.Cell):
    """Needs the future."""

    causal = streams = False

    def forward(self, x, state=None, *, lengths=None):
        return x.flip(1), None


def test_refusals():
    with pytest.raises(InputError, match="Sequential, which needs the future"):
        Stream(tc.Sequential(Backwards()))
    with pytest.raises(InputError, match=r"Linear.*a Cell"):
        Stream(nn.Linear(2, 2))
