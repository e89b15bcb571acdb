"""Convolutional nets over [B, T, channels, height, width]: frames are instants."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import timecell as tc
from timecell import fuse
from timecell.testing import check


def vgg(inputs, classes, width=6):
    """A small spiking VGG for frames of 8 x 8."""

    def block(i, o):
        return [
            nn.Conv2d(i, o, 3, padding=1, bias=False),
            nn.BatchNorm2d(o),
            tc.LIF((o, 1, 1), tau=2.0),
            nn.MaxPool2d(2),
        ]

    head = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8 * width, classes), tc.LeakyIntegrator(classes, tau=4.0)]
    return tc.Sequential(*block(inputs, width), *block(width, 2 * width), *head)


def moving_bars(samples, generator):
    """A bar that goes left or right over 8 x 8 pixels in six steps: a frame alone does not tell which."""
    label = torch.randint(2, (samples,), generator=generator)
    start = torch.randint(8, (samples,), generator=generator)
    x = torch.zeros(samples, 6, 1, 8, 8)
    for t in range(6):
        column = (start + (2 * label - 1) * t) % 8
        x[torch.arange(samples), t, 0, :, column] = 1.0
    return x, label


def test_a_spiking_vgg_learns_which_way_a_bar_moves():
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(0)
    train, test = moving_bars(128, g), moving_bars(100, g)
    net = vgg(1, 2)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(40):
        y, _ = net(train[0])
        loss = nn.functional.cross_entropy(y.mean(1), train[1])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.eval()
    with torch.no_grad():
        accuracy = (net(test[0])[0].mean(1).argmax(-1) == test[1]).float().mean()
        shuffled = test[0][:, torch.randperm(6, generator=g)]
        control = (net(shuffled)[0].mean(1).argmax(-1) == test[1]).float().mean()
    assert accuracy > 0.9 > control  # it has learnt the order of the frames


@given(st.integers(1, 3), st.integers(1, 5), st.integers(0, 100))
def test_frame_by_frame_equals_the_clip(batch, steps, seed):
    torch.manual_seed(seed)
    net = vgg(2, 3).double().eval()
    x, state, outputs = torch.rand(batch, steps, 2, 8, 8, dtype=torch.float64), None, []
    with torch.no_grad():
        whole, end = net(x)
        for t in range(steps):
            y, state = net.step(x[:, t], state)
            outputs.append(y)
    assert torch.allclose(torch.stack(outputs, 1), whole, atol=1e-12)
    assert torch.allclose(state["2"].v, end["2"].v, atol=1e-12)


@pytest.mark.parametrize("size", [(3, 1, 1), (3, 5, 4), (4,), (1,)], ids=str)
def test_units_share_parameters_over_space_or_have_their_own(size):
    """One value a feature map, one a unit, one a column, one for all: fused as the plain loop, in values and gradients."""
    neuron = tc.LIF(size, tau=2 + torch.rand(size), learn=("tau",)).double()
    x = torch.rand(2, 6, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    results = []
    for backend in ("fused", "plain"):
        with fuse.backend(backend):
            y, state = neuron(x)
            results.append([y, state.v, *torch.autograd.grad((y * x).sum() + state.v.sum(), [x, neuron.tau_raw])])
    for fused, plain in zip(*results):
        assert torch.allclose(fused, plain, atol=1e-10)


class OnFrames(tc.Sequential):
    """A convolutional net that takes the [B, T, 4] of the checks as frames of one channel, 2 x 2."""

    @classmethod
    def example(cls):
        layers = [nn.Conv2d(1, 3, 2, padding=1), nn.BatchNorm2d(3), tc.LeakyIntegrator((3, 1, 1)), nn.MaxPool2d(2)]
        return cls(nn.Unflatten(1, (1, 2, 2)), *layers, nn.Flatten())


def test_a_convolutional_net_keeps_the_contract():
    failed = [f"{r.name}: {r.reason}" for r in check(OnFrames) if not r.passed]
    assert not failed, "\n".join(failed)


def test_batch_norm_of_frames_leaves_padding_out():
    x, lengths = torch.randn(3, 5, 2, 4, 4), torch.tensor([5, 2, 0])
    alive = torch.arange(5) < lengths[:, None]
    ours, theirs = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    y, _ = tc.Sequential(ours)(torch.where(alive.view(3, 5, 1, 1, 1), x, torch.nan), lengths=lengths)
    assert torch.allclose(y[alive], theirs(x[alive]), atol=1e-6) and not y[~alive].any()
    assert torch.equal(ours.running_var, theirs.running_var)


@pytest.mark.parametrize("alive", [0, 1])
@pytest.mark.parametrize(
    "norm", [nn.BatchNorm1d(4), nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))], ids=["bare", "nested"]
)
def test_where_nothing_varies_the_running_statistics_serve(norm, alive):
    net = tc.Sequential(norm).train()
    y, _ = net(torch.ones(3, 1, 4), lengths=torch.tensor([alive, 0, 0]))
    expected = net.eval()(torch.ones(1, 1, 4))[0] * alive
    assert torch.allclose(y[:1], expected, atol=1e-6) and not y[1:].any()
    bare = norm if isinstance(norm, nn.BatchNorm1d) else norm[1]
    assert bare.num_batches_tracked == 0 and not bare.running_mean.any()
