"""Neighbourhood-aware temporal networks: every node carries a small dictionary of its neighbours, and pairs join theirs.

The idea. Whether two nodes will meet depends on what they share: a common neighbour, or one being the other's
neighbour's neighbour. One vector a node cannot say that, since what is shared belongs to the pair; sampling the pair's
joint subgraph for every question can, and is slow. So each node u keeps three dictionaries from node to short vector,
Z0 (itself), Z1 (whom it met) and Z2 (whom those had met), of fixed size. Two dictionaries are joined by their keys, and
every key a gets a code of six bits, which say where it was found::

    key a   in  Z0 Z1 Z2 of u   Z0 Z1 Z2 of v      means
                 0  1  0         0  1  0           a is a common neighbour
                 0  0  1         1  0  0           a is v, two steps away from u
                 0  1  0         1  0  0           a is v, met before

    score(u, v) = MLP[ pool_a [code(a), sum of a's vectors], h_u, h_v ]      pool: attention over all keys
    on an edge (u, v, t), and the same with u and v exchanged:
        h_u  <-  GRU([h_v, features, phi(t - t_u)], h_u)                     one vector a node, 72 wide
        Z1_u[v]  keeps its vector if v was there, else begins at zero;  what it reads next is
                 GRU([h_v, features, phi(t' - t)], Z1_u[v])                  4 wide, t' is when it is read
        Z2_u[a]  <-  Z1_v[a]  for every a in Z1_v

All of a question is looked up, nothing is searched or sampled; an edge costs the same whether its nodes have had ten
neighbours or ten thousand.

The recipe, and where it is not the paper's. Edges are scored 100 at a time, then written; none sees another one of its
batch. Times enter as gaps, t' - t (the released code feeds moments, which name the training period). An entry of Z2 is
refreshed when it is read, as those of Z1. Z0 gives a key and its bit; its vector h goes to the MLP directly. Training
has a candidate of each of the task's three kinds beside each edge, since those are asked about, and not a random one
alone. AdamW on a cosine. There are no features of nodes.

When not to use it. Where pairs repeat themselves and little else happens, the rule "the freshest pair is next" needs no
training and is hard to beat; it stands beside the claim on mails.

Source: Luo & Li, "Neighborhood-aware scalable temporal network representation learning" (2022), arXiv:2209.01084.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from timecell.card import Card
from timecell.data.temporal_edges import Events
from timecell.edge_system import EdgeSystem
from timecell.layers.mlp import MLP
from timecell.layers.pool import AttentivePool
from timecell.memory.node_memory import CacheState, Entries, NeighborCache, NodeMemory, NodeState
from timecell.recipe import Stage
from timecell.rhythm.time_encoding import TimeEncoding

CARD = Card(
    slug="nat",
    title="Neighborhood-aware scalable temporal network representation learning",
    summary="Nodes keep dictionaries of neighbours; a pair joins two of them and sees what it shares, at constant cost.",
    family="graphs",
    paper="arXiv:2209.01084",
    n=120,
)

HOPS = 3  # Z0, Z1, Z2
Neighbourhood = Literal["coded", "uncoded", "none"]


@dataclass(frozen=True)
class NeighbourhoodAware(EdgeSystem):
    """A link predictor with dictionaries of neighbours.

    Attributes:
        size: width of a node's own vector.
        entry: width of a dictionary's vectors.
        slots: entries of Z1 and of Z2.
        code: numbers that stand for the six bits.
        hidden: width of the pooled vector and of the MLP.
        dropout: of the MLP.
        lr: highest learning rate.
        neighbourhood: "coded"; "uncoded", one code for all keys, or "none", which leaves a vector a node.
    """

    card: ClassVar[Card] = CARD
    size: int = 72
    entry: int = 4
    slots: tuple[int, int] = (32, 16)
    code: int = 16
    hidden: int = 64
    dropout: float = 0.1
    lr: float = 3e-3
    neighbourhood: Neighbourhood = "coded"

    def build(self, features: int) -> JoinedDictionaries:
        """The net below."""
        return JoinedDictionaries(self, features)

    def stage(self) -> Stage:
        """A cosine."""
        return Stage(lr=self.lr)

    def space(self) -> Mapping[str, Sequence[Any]]:
        """What comparisons tune."""
        return {"lr": (1e-3, 3e-3, 1e-2), "batch": (50, 200), "slots": ((16, 8), (32, 16))}


class Memory(NamedTuple):
    """What is known of all nodes: h, Z1 and Z2."""

    own: NodeState
    met: CacheState
    heard: CacheState


class Known(NamedTuple):
    """What some nodes know at some times.

    Attributes:
        node: [n] who.
        own: [n, D] h.
        met: Z1.
        heard: Z2.
    """

    node: Int[Tensor, "n"]
    own: Float[Tensor, "n D"]
    met: Entries
    heard: Entries

    def take(self, rows: Int[Tensor, "m"]) -> Known:
        """These rows."""
        return Known(
            self.node[rows], self.own[rows],
            Entries(*(x[rows] for x in self.met)), Entries(*(x[rows] for x in self.heard)),
        )  # fmt: skip


class JoinedDictionaries(nn.Module):
    """The net.

    Args:
        system: its sizes.
        features: F of an edge.
    """

    def __init__(self, system: NeighbourhoodAware, features: int) -> None:
        super().__init__()
        self.neighbourhood = system.neighbourhood
        encoding = TimeEncoding(16)
        self.own = NodeMemory(system.size, system.size + features, encoding)
        self.met, self.heard = (
            NeighborCache(slots, system.entry, system.size, features, encoding) for slots in system.slots
        )
        self.codes = nn.Embedding(2 ** (2 * HOPS), system.code)
        self.pool = AttentivePool(system.code + system.entry, system.hidden, heads=2)
        pooled = 0 if self.neighbourhood == "none" else system.hidden
        self.answer = MLP(pooled + 2 * system.size, (system.hidden,), 1, dropout=system.dropout)

    def initial_state(self, nodes: int) -> Memory:
        """Nobody has met anybody."""
        return Memory(self.own.initial_state(nodes), self.met.initial_state(nodes), self.heard.initial_state(nodes))

    def forward(
        self, events: Events, others: Int[Tensor, "B K"], state: Memory
    ) -> tuple[Float[Tensor, "B 1+K"], Memory]:
        """Logits of each edge and of its source with the others, then the memory after these edges (overwritten)."""
        B, K = others.shape
        target = torch.cat([events.target[:, None], others], 1)
        known = self.read(state, torch.cat([events.source, target.T.flatten()]), events.time.repeat(K + 2))
        row = torch.arange(B, device=others.device)
        logits = self.score(known.take(row.repeat(K + 1)), known.take(torch.arange(B, B * (K + 2), device=row.device)))
        return logits.unflatten(0, (K + 1, B)).T, self.write(state, events, known.take(torch.arange(2 * B)))

    @torch.no_grad()
    def observe(self, events: Events, state: Memory) -> Memory:
        """The memory after these edges (overwritten)."""
        return self.write(
            state, events, self.read(state, torch.cat([events.source, events.target]), events.time.repeat(2))
        )

    def read(self, state: Memory, node: Int[Tensor, "n"], now: Float[Tensor, "n"]) -> Known:
        """What these nodes know at these times."""
        met, heard = (
            cache.read(part, node, now, state.own.h)
            for cache, part in ((self.met, state.met), (self.heard, state.heard))
        )
        return Known(node, self.own.read(state.own, node, now), met, heard)

    def score(self, u: Known, v: Known) -> Float[Tensor, "P"]:
        """Logits of pairs that meet."""
        parts = [u.own, v.own]
        if self.neighbourhood != "none":
            code, h, there = joined(u, v)
            if self.neighbourhood == "uncoded":
                code = torch.zeros_like(code)
            parts.append(self.pool(torch.cat([self.codes(code), h], -1), there))
        return self.answer(torch.cat(parts, -1))[:, 0]

    @torch.no_grad()
    def write(self, state: Memory, events: Events, known: Known) -> Memory:
        """Enter edges, of which both ends' knowledge was read before: all sources, then all targets."""
        B = len(events.time)
        there = torch.arange(2 * B, device=events.time.device)
        other = known.take(there.roll(B))
        # in order of time, whichever end
        order = there.view(2, B).T.flatten()
        node, now, features = known.node[order], events.time.repeat(2)[order], events.features.repeat(2, 1)[order]
        own, met = known.own[order], Entries(*(x[order] for x in known.met))
        other = other.take(order)
        key, h = other.node, self.met.own(met, other.node)
        # whom the other had met, the one it met last entered last
        late = other.met.time.argsort(dim=1, stable=True)
        heard = other.met.key.gather(1, late)
        row, column = ((heard >= 0) & (heard != node[:, None])).nonzero(as_tuple=True)
        slot = late[row, column]
        return Memory(
            self.own.write(state.own, node, now, own, torch.cat([other.own, features], -1)),
            self.met.write(state.met, node, key, now, h, features),
            self.heard.write(
                state.heard, node[row], heard[row, column], now[row], other.met.h[row, slot],
                other.met.features[row, slot],
            ),
        )  # fmt: skip


def joined(u: Known, v: Known) -> tuple[Int[Tensor, "P L"], Float[Tensor, "P L F"], Bool[Tensor, "P L"]]:
    """The dictionaries of pairs, joined by key.

    Returns:
        The six bits of each key as a number, the sum of its vectors, and whether there is a key at all.
    """
    keys, vectors, bits = [], [], []
    for side, one in enumerate((u, v)):
        zero = one.met.h.new_zeros(len(one.node), 1, one.met.h.shape[2])
        hops = ((one.node[:, None], zero), (one.met.key, one.met.h), (one.heard.key, one.heard.h))
        for hop, (key, h) in enumerate(hops):
            keys.append(key)
            vectors.append(h)
            bits.append(torch.full_like(key, 2 ** (side * HOPS + hop)) * (key >= 0))
    key, order = torch.cat(keys, 1).sort(1)
    first = torch.ones_like(key, dtype=torch.bool)
    first[:, 1:] = key[:, 1:] != key[:, :-1]
    group = first.cumsum(1) - 1
    L = int(group.max()) + 1
    code = key.new_zeros(len(key), L).scatter_add(1, group, torch.cat(bits, 1).gather(1, order))
    stacked = torch.cat(vectors, 1)
    index = order[..., None].expand(-1, -1, stacked.shape[2])
    h = stacked.new_zeros(len(key), L, stacked.shape[2]).scatter_add(
        1, group[..., None].expand_as(index), stacked.gather(1, index)
    )
    return code, h, code > 0
