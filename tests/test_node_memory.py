"""Memories of nodes: constant size, the latest contact counts, nothing but what was written is read."""

import pytest
import torch

from timecell.errors import InputError
from timecell.layers.pool import AttentivePool
from timecell.memory.node_memory import NeighborCache, NodeMemory
from timecell.rhythm.time_encoding import TimeEncoding


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


# --- a vector a node ----------------------------------------------------------------------------------------------------------


def test_a_contact_shows_from_the_next_read_on_and_fades_into_the_gru():
    torch.manual_seed(0)
    memory = NodeMemory(6, 2, TimeEncoding(4))
    state, node = memory.initial_state(3), torch.tensor([1])
    h, message = memory.read(state, node, double(5.0)), torch.tensor([[0.5, -1.0]])
    state = memory.write(state, node, double(5.0), h, message)
    after = memory.read(state, node, double(8.0))
    code = memory.encoding(double(3.0))
    torch.testing.assert_close(after, memory.update(torch.cat([message, code], 1), torch.zeros(1, 6)))
    assert after.requires_grad and not state.h.requires_grad
    assert torch.equal(memory.read(state, torch.tensor([0, 2]), double(8.0, 8.0)), torch.zeros(2, 6))


def test_the_latest_contact_counts_and_equally_late_ones_are_averaged():
    memory = NodeMemory(2, 1, TimeEncoding(1))
    node, now = torch.tensor([0, 0, 0, 1]), double(1.0, 2.0, 2.0, 1.0)
    h, message = torch.arange(8.0).view(4, 2), torch.tensor([[9.0], [1.0], [3.0], [5.0]])
    state = memory.write(memory.initial_state(2), node, now, h, message)
    assert state.message.tolist() == [[2.0], [5.0]] and state.h[0].tolist() == [3.0, 4.0]
    assert state.time.tolist() == [2.0, 1.0]
    order = torch.tensor([0, 2, 1, 3])
    again = memory.write(memory.initial_state(2), node[order], now[order], h[order], message[order])
    assert all(torch.equal(a, b) for a, b in zip(state, again))


# --- a table a node -----------------------------------------------------------------------------------------------------------


def cache(slots=8, **settings):
    torch.manual_seed(0)
    return NeighborCache(slots, 3, 2, 1, TimeEncoding(4), **settings)


def entered(net, keys, nodes=20, times=None):
    n = len(keys)
    now = double(*(range(n) if times is None else times))
    return net.write(
        net.initial_state(nodes), torch.zeros(n, dtype=torch.int64), torch.tensor(keys), now,
        torch.arange(3.0 * n).view(n, 3), torch.ones(n, 1),
    )  # fmt: skip


def test_keys_without_collision_all_stay():
    state = entered(cache(), range(8))
    assert sorted(state.key[0].tolist()) == list(range(8)) and (state.key[1:] == -1).all()


def test_a_key_is_refreshed_by_its_last_contact():
    state = entered(cache(), [5, 6, 5])
    slot = cache().slot(torch.tensor(5))
    assert state.time[0, slot] == 2.0 and state.h[0, slot].tolist() == [6.0, 7.0, 8.0]


@pytest.mark.parametrize(("takeover", "kept"), [(0.0, 3), (1.0, 11)])
def test_who_takes_a_slot(takeover, kept):
    net = cache(takeover=takeover)
    assert net.slot(torch.tensor(3)) == net.slot(torch.tensor(11))
    state = entered(net, [3])
    state = net.write(state, torch.tensor([0]), torch.tensor([11]), double(5.0), torch.ones(1, 3), torch.zeros(1, 1))
    assert state.key[0, net.slot(torch.tensor(3))] == kept


def test_takeovers_have_their_probability_and_repeat_themselves():
    net = NeighborCache(1, 1, 1, 0, TimeEncoding(1), takeover=0.3)
    node = torch.arange(4000)
    zero = torch.zeros(4000, 1), torch.zeros(4000, 0)
    now = torch.rand(4000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def run():
        state = net.write(net.initial_state(4000), node, torch.zeros_like(node), 0 * now, *zero)
        return net.write(state, node, torch.ones_like(node), now, *zero).key[:, 0]

    assert 0.27 < run().float().mean() < 0.33 and torch.equal(run(), run())


def test_entries_are_refreshed_with_what_is_known_of_the_key():
    net = cache()
    state, about = entered(net, [5]), torch.rand(20, 2)
    found = net.read(state, torch.tensor([0, 1]), double(4.0, 4.0), about)
    slot = int(net.slot(torch.tensor(5)))
    x = torch.cat([about[5:6], torch.ones(1, 1), net.encoding(double(4.0))], 1)
    torch.testing.assert_close(found.h[0, slot], net.update(x, torch.arange(3.0)[None])[0])
    assert found.h[1].abs().max() == 0 and (found.key[1] == -1).all()
    assert torch.equal(net.own(found, torch.tensor([5, 5])), torch.stack([found.h[0, slot], torch.zeros(3)]))
    assert torch.equal(net.own(found, torch.tensor([13, 6]))[0], torch.zeros(3)), "the same slot, another key"


def test_what_a_table_costs_does_not_grow_with_contacts():
    net, state = cache(slots=4), cache(slots=4).initial_state(50)
    sizes = [x.shape for x in state]
    for start in range(0, 40, 10):
        key = torch.arange(start, start + 10)
        state = net.write(state, 0 * key, key, key.double(), torch.zeros(10, 3), torch.zeros(10, 1))
    assert [x.shape for x in state] == sizes and (state.key[0] >= 0).all()


@pytest.mark.parametrize("bad", [{"slots": 0}, {"takeover": 1.5}])
def test_tables_that_cannot_be(bad):
    with pytest.raises(InputError, match="slots, takeover"):
        cache(**bad)


# --- pooling ------------------------------------------------------------------------------------------------------------------


def test_pooling_is_a_mean_with_weights_that_sum_to_one():
    torch.manual_seed(0)
    pool = AttentivePool(3, 4, heads=2)
    one = torch.rand(1, 1, 3)
    mask = torch.tensor([[True, True, True, False]])
    x = torch.cat([one.expand(1, 3, 3), torch.full((1, 1, 3), 9.0)], 1)
    torch.testing.assert_close(pool(x, mask), pool.values(one[:, 0]))
    order = torch.tensor([2, 0, 3, 1])
    x = torch.rand(1, 4, 3)
    torch.testing.assert_close(pool(x, mask), pool(x[:, order], mask[:, order]))
    values = pool.values(x[mask]).view(3, 2, 2)
    weight = ((torch.nn.functional.leaky_relu(values, 0.2) * pool.attention).sum(-1)).softmax(0)
    torch.testing.assert_close(pool(x, mask)[0], (weight[..., None] * values).sum(0).flatten())


def test_an_empty_set_pools_to_zero_and_has_no_gradient():
    pool, x = AttentivePool(3, 4), torch.rand(2, 5, 3, requires_grad=True)
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[1, 2] = True
    y = pool(x, mask)
    y.sum().backward()
    assert torch.equal(y[0], torch.zeros(4)) and x.grad[0].abs().max() == 0 and x.grad[1, 2].abs().max() > 0
    with pytest.raises(InputError, match="a multiple of the heads"):
        AttentivePool(3, 5, heads=2)
