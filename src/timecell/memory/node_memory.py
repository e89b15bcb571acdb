"""What the nodes of a temporal graph remember: a vector each (`NodeMemory`), or a small table of neighbours (`NeighborCache`).

Both are streamed: read for the queries of a stretch of edges, then written with its edges. What is written is detached,
and what is read is refreshed first by one GRU step on what was kept since the last contact and on how long ago that
was. That step is where gradients enter, and all of it costs the same however many edges a node has had.

    read    h' = GRU([message, phi(now - time)], h)
    write   h <- h' without its graph,  message <- of the latest contact,  time <- now

Each node is a row, as a sample is elsewhere. Rows are overwritten in place: copying all nodes for a few edges would be
the most expensive thing here. Sources: Rossi et al. 2020, "Temporal graph networks", arXiv:2006.10637; Luo & Li 2022,
arXiv:2209.01084 (N-caches).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.errors import InputError
from timecell.rhythm.time_encoding import TimeEncoding

MULTIPLIER = 1009
"""q of the hash; odd, so that in a table of 2^k slots the nodes 0 ... 2^k - 1 have one each."""


class NodeState(NamedTuple):
    """Of `NodeMemory`.

    Attributes:
        h: [V, D] memory up to a node's last contact, that one left out.
        message: [V, M] what the last contact said.
        time: [V] float64, when it was; -inf before the first.
    """

    h: Float[Tensor, "V D"]
    message: Float[Tensor, "V M"]
    time: Float[Tensor, "V"]


class NodeMemory(nn.Module):
    """One vector a node.

    Args:
        size: width D.
        message: width M of what a contact says.
        encoding: of the time that has passed.

    Example:
        >>> memory = NodeMemory(8, 3, TimeEncoding(4))
        >>> state, node, now = memory.initial_state(5), torch.tensor([1, 2]), torch.tensor([7.0, 7.0]).double()
        >>> h = memory.read(state, node, now)
        >>> state = memory.write(state, node, now, h, torch.rand(2, 3))
        >>> h.abs().max().item(), bool(memory.read(state, node, now + 1).abs().min() > 0)
        (0.0, True)
    """

    def __init__(self, size: int, message: int, encoding: TimeEncoding) -> None:
        super().__init__()
        self.size, self.message, self.encoding = size, message, encoding
        self.update = nn.GRUCell(message + encoding.size, size)

    def initial_state(self, nodes: int) -> NodeState:
        """Nobody has met anybody."""
        like = self.update.weight_hh
        h, message = like.new_zeros(nodes, self.size), like.new_zeros(nodes, self.message)
        return NodeState(h, message, like.new_full((nodes,), -torch.inf, dtype=torch.float64))

    def read(self, state: NodeState, node: Int[Tensor, "n"], now: Float[Tensor, "n"]) -> Float[Tensor, "n D"]:
        """The memory of these nodes at these times; zero before a node's first contact."""
        met, code = _passed(self.encoding, state.time[node], now)
        h = state.h[node]
        return torch.where(met[:, None], self.update(torch.cat([state.message[node], code], -1), h), h)

    @torch.no_grad()
    def write(
        self, state: NodeState, node: Int[Tensor, "n"], now: Float[Tensor, "n"], h: Float[Tensor, "n D"],
        message: Float[Tensor, "n M"],
    ) -> NodeState:  # fmt: skip
        """Contacts of these nodes, in order of time. Of several of one node the latest count; equally late ones are averaged.

        Args:
            state: overwritten in place.
            node: who had a contact.
            now: when.
            h: what `read` gave for these nodes and times.
            message: what the contact said.
        """
        who, row = node.unique(return_inverse=True)
        latest = now.new_full((len(who),), -torch.inf).scatter_reduce(0, row, now, "amax")
        counts = (now == latest[row]).to(h.dtype)[:, None]
        total = counts.new_zeros(len(who), 1).index_add(0, row, counts)

        def mean(x: Tensor) -> Tensor:
            return x.new_zeros(len(who), x.shape[1]).index_add(0, row, x * counts) / total

        state.h[who], state.message[who], state.time[who] = mean(h), mean(message), latest
        return state


class CacheState(NamedTuple):
    """Of `NeighborCache`.

    Attributes:
        key: [V, S] which node a slot is about, -1 where it is free.
        h: [V, S, D] memory of it up to the last contact, that one left out.
        features: [V, S, F] of the last contact.
        time: [V, S] float64, when it was.
    """

    key: Int[Tensor, "V S"]
    h: Float[Tensor, "V S D"]
    features: Float[Tensor, "V S F"]
    time: Float[Tensor, "V S"]


class Entries(NamedTuple):
    """What the tables of some nodes hold.

    Attributes:
        key: [n, S] nodes, -1 where a slot is free.
        h: [n, S, D] refreshed memory, zero where it is.
        features, time: [n, S, F], [n, S] as in the state.
    """

    key: Int[Tensor, "n S"]
    h: Float[Tensor, "n S D"]
    features: Float[Tensor, "n S F"]
    time: Float[Tensor, "n S"]


class NeighborCache(nn.Module):
    """A table of S slots a node; neighbour k lives in slot (q k + (q + 1) k^2) mod S or nowhere.

    A neighbour that finds another in its slot takes it with probability `takeover`; the draw is a hash of who, whom
    and when, so that the same edges always leave the same tables.

    Args:
        slots: S; a power of two spreads best.
        size: width D of an entry.
        context: width of what is known of a neighbour from elsewhere.
        features: F numbers that come with a contact.
        encoding: of the time that has passed.
        takeover: probability in [0, 1].

    Raises:
        InputError: there are no slots, or `takeover` is no probability.

    Example:
        >>> cache = NeighborCache(4, 2, 3, 0, TimeEncoding(4))
        >>> about, now = torch.rand(9, 3), torch.tensor([1.0, 2.0]).double()
        >>> node, key = torch.tensor([0, 0]), torch.tensor([5, 6])
        >>> state = cache.write(cache.initial_state(9), node, key, now, torch.zeros(2, 2), torch.zeros(2, 0))
        >>> sorted(cache.read(state, node[:1], now[1:] + 1, about).key[0].tolist())
        [-1, -1, 5, 6]
    """

    def __init__(
        self, slots: int, size: int, context: int, features: int, encoding: TimeEncoding, *, takeover: float = 0.9
    ) -> None:
        super().__init__()
        if slots < 1 or not 0 <= takeover <= 1:
            raise InputError(
                "NeighborCache(slots, takeover)", found=f"{slots} and {takeover}",
                expected="at least one slot and a probability", remedy="try slots=32, takeover=0.9",
            )  # fmt: skip
        self.slots, self.size, self.features, self.takeover = slots, size, features, takeover
        self.encoding = encoding
        self.update = nn.GRUCell(context + features + encoding.size, size)

    def initial_state(self, nodes: int) -> CacheState:
        """All slots free."""
        like, shape = self.update.weight_hh, (nodes, self.slots)
        return CacheState(
            torch.full(shape, -1, device=like.device),
            like.new_zeros(*shape, self.size),
            like.new_zeros(*shape, self.features),
            like.new_full(shape, -torch.inf, dtype=torch.float64),
        )

    def read(
        self, state: CacheState, node: Int[Tensor, "n"], now: Float[Tensor, "n"], about: Float[Tensor, "V C"]
    ) -> Entries:
        """The tables of these nodes at these times.

        Args:
            state: of the cache.
            node: whose tables.
            now: when.
            about: what is known of every node from elsewhere, such as its `NodeMemory`.
        """
        key, features, time = state.key[node], state.features[node], state.time[node]
        row, slot = (key >= 0).nonzero(as_tuple=True)  # tables are mostly empty at first; only entries cost
        _, code = _passed(self.encoding, time[row, slot], now[row])
        x = torch.cat([about[key[row, slot]], features[row, slot], code], -1)
        h = state.h[node]
        return Entries(key, h.index_put((row, slot), self.update(x, h[row, slot])), features, time)

    @torch.no_grad()
    def write(
        self, state: CacheState, node: Int[Tensor, "n"], key: Int[Tensor, "n"], now: Float[Tensor, "n"],
        h: Float[Tensor, "n D"], features: Float[Tensor, "n F"],
    ) -> CacheState:  # fmt: skip
        """Enter neighbours in order of time; of several that want one slot the last is considered.

        Args:
            state: overwritten in place.
            node: whose table.
            key: who is entered.
            now: when.
            h: what is known of it up to then; zero for somebody new.
            features: of the contact.
        """
        place = node * self.slots + self.slot(key)
        last = torch.full((state.key.numel(),), -1, device=key.device)
        last.scatter_reduce_(0, place, torch.arange(len(place), device=place.device), "amax")
        chosen = last[place.unique()]
        node, key, now, h, features = node[chosen], key[chosen], now[chosen], h[chosen], features[chosen]
        slot = self.slot(key)
        there = state.key[node, slot]
        free = (there < 0) | (there == key) | (_draw(node, key, now) < self.takeover)
        at = node[free], slot[free]
        state.key[at], state.h[at], state.features[at], state.time[at] = key[free], h[free], features[free], now[free]
        return state

    def slot(self, key: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
        """Where a neighbour lives.

        Example:
            >>> NeighborCache(8, 1, 1, 0, TimeEncoding(1)).slot(torch.arange(8)).unique().tolist()
            [0, 1, 2, 3, 4, 5, 6, 7]
        """
        return (MULTIPLIER * key + (MULTIPLIER + 1) * key * key) % self.slots

    def own(self, entries: Entries, key: Int[Tensor, "n"]) -> Float[Tensor, "n D"]:
        """What tables say of one neighbour each, zero where it is not in them."""
        slot = self.slot(key)[:, None]
        found = entries.key.gather(1, slot) == key[:, None]
        return entries.h.gather(1, slot[..., None].expand(-1, -1, self.size))[:, 0] * found


def _passed(
    encoding: TimeEncoding, time: Float[Tensor, "n"], now: Float[Tensor, "n"]
) -> tuple[Tensor, Float[Tensor, "n d"]]:
    """Whether there was a contact, and the code of how long ago it was."""
    met = time.isfinite()
    return met, encoding(torch.where(met, now - time, 0.0))


def _draw(node: Int[Tensor, "n"], key: Int[Tensor, "n"], now: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """A number in [0, 1) that depends on nothing but these (multiply and shift, after splitmix64)."""
    x = torch.zeros_like(node)
    for part in (node, key, now.view(torch.int64)):
        x = (x ^ part) * -4658895280553007687
        x = x ^ ((x >> 29) & 0x7FFFFFFFF)
        x = x * -7723592293110705685
        x = x ^ ((x >> 32) & 0xFFFFFFFF)
    return (x & (2**52 - 1)).double() / 2**52
