"""Small nets on the last axis, and convolutional ones over pictures."""

from itertools import pairwise

import pytest
import torch
from torch import nn

import timecell as tc
from timecell.credit import layers_of
from timecell.errors import InputError
from timecell.layers.mlp import MLP
from timecell.networks.cnn import SmallCNN


@pytest.mark.parametrize(("hidden", "bias"), [((), True), ((5,), False), ((5, 7), True)])
def test_an_mlp_has_the_parameters_that_its_widths_say(hidden, bias):
    widths = [3, *hidden, 2]
    expected = sum(a * b + bias * b for a, b in pairwise(widths))
    net = MLP(3, hidden, 2, bias=bias)
    assert sum(p.numel() for p in net.parameters()) == expected
    assert net(torch.rand(4, 6, 3)).shape == (4, 6, 2)


def test_an_mlp_is_a_function_of_one_instant():
    net = tc.Sequential(MLP(3, (5,), 2, dropout=0.5)).eval()
    x = torch.rand(4, 6, 3)
    whole, _ = net(x)
    torch.testing.assert_close(whole[:, 2], net.step(x[:, 2], None)[0])


def test_a_width_below_one_is_refused():
    with pytest.raises(InputError, match=r"MLP\(widths\): found \[3, 0, 2\]"):
        MLP(3, (0,), 2)


def test_a_small_cnn_and_its_spiking_twin_have_the_same_weights():
    x = torch.rand(2, 3, 1, 12, 12)
    plain = SmallCNN((1, 12, 12), 4, channels=(2, 3))
    spiking = SmallCNN((1, 12, 12), 4, channels=(2, 3), units=lambda size: tc.LIF(size, tau=2.0))
    assert plain.state_dict().keys() <= spiking.state_dict().keys()
    assert {k: v.shape for k, v in plain.named_parameters()} == {k: v.shape for k, v in spiking.named_parameters()}
    assert plain(x)[0].shape == spiking(x)[0].shape == (2, 3, 4)
    with tc.record(spiking, "3") as inside:
        spiking(x)
    assert set(inside["3"].unique().tolist()) <= {0.0, 1.0}


def test_credit_rules_find_the_layers_of_a_small_cnn():
    net = SmallCNN((1, 8, 8), 3, channels=(2,), units=lambda size: tc.LIF(size), norm=False)
    assert [type(layer.synapse) for layer in layers_of(net)] == [nn.Conv2d, nn.Linear]


def test_a_picture_that_is_too_small_is_refused():
    with pytest.raises(InputError, match=r"SmallCNN\(picture\): found 4 x 3 pixels.*at least 4 x 4 for 2 blocks"):
        SmallCNN((1, 4, 3), 2)
