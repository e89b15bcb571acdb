"""`DLinear` and the moving average it stands on."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from timecell.checkpoint import seeded
from timecell.errors import InputError
from timecell.networks.forecasters import DLinear
from timecell.rhythm.decomposition import moving_average


@given(kernel=st.integers(1, 30), T=st.integers(1, 20))
def test_a_moving_average_keeps_what_is_constant_and_is_a_plain_mean_inside(kernel, T):
    torch.testing.assert_close(moving_average(torch.full((2, T, 3), 5.0), kernel), torch.full((2, T, 3), 5.0))
    x = torch.randn(1, T, 1, dtype=torch.float64)
    kernel = min(kernel, T)
    inside = moving_average(x, kernel)[0, kernel // 2 : T - (kernel - 1) // 2, 0]
    torch.testing.assert_close(inside, x[0, :, 0].unfold(0, kernel, 1).mean(1))


def test_at_first_it_forecasts_the_mean_of_the_window_and_then_what_its_maps_say():
    with seeded(0):
        net, x = DLinear(steps=30, horizon=4, targets=2, kernel=5), torch.randn(3, 30, 3)
    torch.nn.init.zeros_(net.trend.bias), torch.nn.init.zeros_(net.rest.bias)
    y, state = net(x)
    ahead = y[:, -1].unflatten(1, (4, 2)) + x[:, -1:, :2]
    torch.testing.assert_close(ahead, x[:, :, :2].mean(1, keepdim=True).expand(-1, 4, -1))
    assert state is None and (y[:, :-1] == 0).all()
    torch.nn.init.zeros_(net.trend.weight), torch.nn.init.zeros_(net.rest.weight)
    torch.testing.assert_close(net(x)[0][:, -1], -x[:, -1, :2].repeat(1, 4))


def test_other_windows_are_refused():
    with pytest.raises(InputError, match=r"found shape \[1, 20, 2\], expected \[B, 30, C\]"):
        DLinear(30, 4, 2)(torch.zeros(1, 20, 2))
    with pytest.raises(InputError, match="of several lengths"):
        DLinear(30, 4, 2)(torch.zeros(1, 30, 2), lengths=torch.tensor([3]))
    with pytest.raises(InputError, match="kernel: found 0"):
        moving_average(torch.zeros(1, 5, 1), 0)
