"""Pictures of series."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timecell.data.render import render_series
from timecell.errors import InputError


@given(st.integers(1, 40), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(0, 5))
@settings(deadline=None, max_examples=30)
def test_every_column_of_every_panel_shows_the_line(steps, channels, height, width, seed):
    x = 3 * torch.randn(2, steps, channels, generator=torch.Generator().manual_seed(seed))
    picture = render_series(x, height=height, width=width)
    assert picture.shape == (2, 1, channels * height, width)
    assert (picture >= 0).all() and (picture <= 1).all()
    assert (picture.unflatten(2, (channels, height)).sum(3) > 0.999).all()


def test_padding_is_not_drawn_and_a_sample_fills_the_width():
    x = torch.randn(1, 20, 1)
    padded = torch.cat([x, torch.full((1, 7, 1), torch.nan)], 1)
    alone = render_series(x, width=10)
    torch.testing.assert_close(render_series(padded, torch.tensor([20]), width=10), alone)
    torch.testing.assert_close(render_series(x.repeat_interleave(2, 1)[:, ::2], width=10), alone)


def test_high_values_are_above_and_what_is_out_of_range_runs_along_the_edge():
    picture = render_series(torch.tensor([[[100.0]] * 4, [[-100.0]] * 4]), height=4, width=3)
    assert picture[0, 0, 0].eq(1).all() and picture[0, 0, 1:].eq(0).all()
    assert picture[1, 0, 3].eq(1).all() and picture[1, 0, :3].eq(0).all()


def test_a_change_smaller_than_a_pixel_is_seen():
    a, b = (render_series(torch.full((1, 4, 1), v), height=4, width=4) for v in (0.0, 0.2))
    assert not torch.equal(a, b)


def test_no_peak_falls_between_two_columns():
    x = torch.zeros(1, 1000, 1)
    x[0, 501] = 3.0
    assert render_series(x, height=8, width=10)[0, 0, 0].max() > 0.9


def test_errors():
    with pytest.raises(InputError, match="x: found NaN"):
        render_series(torch.full((1, 3, 1), torch.nan))
    with pytest.raises(InputError, match="at least one pixel"):
        render_series(torch.zeros(1, 3, 1), width=0)
