"""Causal convolutions over time: what they reach, that they keep the contract, and that they are torch's convolution."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from timecell import testing
from timecell.errors import InputError
from timecell.layers.temporal_conv import CausalConv, TemporalConv


@pytest.mark.parametrize("cell", [CausalConv, TemporalConv, CausalConv(4, 2, kernel=1), TemporalConv(4, 4, layers=1)])
def test_the_contract_of_cells(cell):
    failed = [r for r in testing.check(cell) if not r.passed]
    assert not failed, failed


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 9))
def test_it_is_torchs_convolution_with_silence_before_the_start(kernel, dilation, steps):
    cell = CausalConv(3, 2, kernel, dilation).double()
    x = torch.randn(2, steps, 3, dtype=torch.float64)
    padded = nn.functional.pad(x.transpose(1, 2), ((kernel - 1) * dilation, 0))
    truth = nn.functional.conv1d(padded, cell.weight, cell.bias, dilation=dilation).transpose(1, 2)
    torch.testing.assert_close(cell(x)[0], truth)


@given(st.integers(1, 4), st.integers(2, 4))
def test_the_receptive_field_is_what_the_output_depends_on(layers, kernel):
    net = TemporalConv(1, 2, layers, kernel).double()
    for parameter in net.parameters():
        nn.init.uniform_(parameter, 0.1, 0.3)  # all paths open, none cancels another
    x = torch.ones(1, net.receptive_field + 5, 1, dtype=torch.float64, requires_grad=True)
    net(x)[0][0, -1].sum().backward()
    assert (x.grad[0, :, 0] != 0).sum() == net.receptive_field == 1 + (kernel - 1) * (2**layers - 1)


def test_the_state_is_the_last_inputs_at_each_samples_own_end():
    x = torch.arange(12.0).reshape(2, 6, 1)
    _, state = CausalConv(1, 1, kernel=3)(x, lengths=torch.tensor([6, 1]))
    assert state.x[:, :, 0].tolist() == [[4.0, 5.0], [0.0, 6.0]]


@pytest.mark.parametrize("name", ["inputs", "outputs", "kernel", "dilation"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(InputError, match=rf"CausalConv\({name}\).*0"):
        CausalConv(**{"inputs": 2, "outputs": 2, name: 0})


def test_other_mistakes_are_refused():
    with pytest.raises(InputError, match=r"layers"):
        TemporalConv(2, 2, layers=0)
    with pytest.raises(InputError, match=r"\[2, 5, 3\]"):
        CausalConv(4, 2)(torch.zeros(2, 5, 3))
    conv = CausalConv(4, 2)
    _, state = conv(torch.zeros(2, 5, 4))
    with pytest.raises(InputError, match=r"state.*\[3, 2, 4\]"):
        conv(torch.zeros(3, 5, 4), state)
