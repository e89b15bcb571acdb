"""Curricula: which levels are trained, when they move on, and that a file holds all of one."""

import json
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timecell.config import from_dict, to_dict
from timecell.credit.schedule import Curriculum
from timecell.errors import InputError


@pytest.mark.parametrize(
    ("heads", "levels"), [("single", (6,)), ("cumulative", (2, 3, 4, 5, 6)), ("sliding", (4, 5, 6))]
)
def test_levels(heads, levels):
    assert Curriculum(heads, 6).levels == levels


def test_windows_begin_at_the_first_level():
    assert Curriculum("sliding", 3).levels == (2, 3)


def test_mean_and_newest_must_both_be_good():
    now = Curriculum("cumulative", 3)
    assert now.after({2: 0.999, 3: 0.97}) == now
    assert now.after({2: 0.95, 3: 0.99}) == now
    assert now.after({2: 0.98, 3: 0.99}).newest == 4


def test_it_ends_at_the_last_level():
    now = Curriculum("single", 4, last=4)
    assert now.passed({4: 1.0}) and now.after({4: 1.0}) == now


@given(st.sampled_from(["single", "cumulative", "sliding"]), st.lists(st.floats(0.9, 1.0), min_size=2, max_size=30))
@settings(max_examples=25, deadline=None)
def test_it_goes_on_from_a_file(heads, looks):
    whole = part = Curriculum(heads, 2)
    for look in looks:
        whole = whole.after(dict.fromkeys(whole.levels, look))
        kept = json.loads(json.dumps(asdict(part)))
        part = Curriculum(**kept).after(dict.fromkeys(part.levels, look))
    assert whole == part and from_dict(to_dict(whole)) == whole


def test_what_is_refused():
    with pytest.raises(InputError, match="did you mean 'single'"):
        Curriculum("singel", 2)
    with pytest.raises(InputError, match=r"last\): found \(2, 1, 100\)"):
        Curriculum("single", 1)
    with pytest.raises(InputError, match="window of 1 or more"):
        Curriculum("sliding", 2, window=0)
    with pytest.raises(InputError, match=r"none of level 2, expected one of each of \(2, 3\)"):
        Curriculum("cumulative", 3).after({3: 1.0})
