"""Streams of bits: labels by brute force, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from timecell.data.synthetic.memory_tasks import bits, dms, label, parity
from timecell.errors import InputError


def by_hand(rule, n, stream):
    window = stream[-n:, 0]
    return int(sum(window)) % 2 if rule == "parity" else int(window[0] == window[-1])


@pytest.mark.parametrize(("rule", "make"), [("parity", parity), ("dms", dms)])
@given(n=st.integers(1, 9), seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_labels_by_brute_force(rule, make, n, seed):
    data = make(n, samples=40, seed=seed)
    assert data.target.tolist() == [by_hand(rule, n, data[i]) for i in range(40)]
    assert data.lengths.min() >= n + 2 and data.lengths.max() <= 4 * n + 1


def test_parity_draws_a_share_of_ones_for_each_stream_and_dms_does_not():
    shares = {rule: [s.mean() for s in _all(bits(rule, (200, 200), samples=400))] for rule in ("parity", "dms")}
    assert np.std(shares["dms"]) < 0.05 and 0.25 < np.std(shares["parity"]) < 0.33  # 1 / sqrt(12) = 0.29


def test_a_seed_is_a_seed():
    one, same, other = (parity(4, samples=20, seed=seed) for seed in (1, 1, 2))
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_padding_does_not_count():
    x = torch.tensor([[1.0, 0.0, 1.0, 1.0, 1.0]])[..., None]
    assert label("parity", 2, x, torch.tensor([3])).item() == 1 and label("parity", 2, x).item() == 0


def test_what_is_refused():
    with pytest.raises(InputError, match="n: found 4, expected 1 to 3"):
        label("dms", 4, torch.zeros(2, 5, 1), torch.tensor([3, 5]))
    with pytest.raises(InputError, match="the shortest stream"):
        parity(5, (4, 9))
    with pytest.raises(InputError, match="shortest <= longest"):
        bits("dms", (9, 4))
    with pytest.raises(InputError, match="rule: found 'xor'"):
        bits("xor", (4, 9))


def _all(data):
    return [data[i] for i in range(len(data))]
