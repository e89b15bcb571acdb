"""Where long memory comes from: slow neurons or slow loops, and how the curriculum decides.

The idea. Give every unit of a recurrent net a time constant tau that is trained like a weight, and ask the net to keep
the last N bits of a stream. It can do so in two ways: by slow units, or by loops that keep fast units going. Which one
it finds depends on the curriculum. One head that moves on from N to N + 1 may slow its units and forgets what it could
do before; one head for each N, all trained at once, keeps units fast, builds the slowness into the recurrent weights,
and takes damage better.

    h_t = f((1 - 1/tau) h_{t-1} + (W h_{t-1} + U x_t + b) / tau)          f leaky ReLU, W without self-connections
    y_t = V h_t                                                           two outputs (a head) for each N

How slow a unit *looks* is another matter: how far back the autocorrelation of its activity reaches under random input, or,
where it decays exponentially, the time constant tau_net of the decay (`timecell.lens.timescales`). What the activity has
beyond tau is what the loops do.

Training a curriculum. What is trained next depends on what was measured last, which no `Recipe` says, since that is a
function of the update's number. So training is a row of short fits on fresh streams, with a look at the accuracy after
each (`learn`); AdamW begins anew with each fit.

Where we differ from the paper. AdamW where it has SGD with momentum, which needs some four times the updates. tau stays
above 1 by a softplus and not by a clamp, so it always has a gradient. The first state is zero, not random. 64 units and
up to 8 bits, where it has 500 and up to about 100: at this size both curricula make units faster than they were at
first, and the claims are about the difference. Nets this small keep N bits as a delay line: the autocorrelation is a
box of N steps and no exponential, so its reach is what grows here, and not tau_net.

Source: Khajehabdollahi, Zeraati, Giannakakis, Schäfer, Martius & Levina, "Emergent mechanisms for long timescales depend
on training curriculum and affect performance in memory tasks" (2024), arXiv:2309.12927.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.card import Card
from timecell.checkpoint import seeded
from timecell.combine import Recurrent, Sequential
from timecell.credit.schedule import Curriculum, Heads
from timecell.data.containers import Batch, Data, Kind, Schema, Sequences
from timecell.data.synthetic.memory_tasks import Rule, bits, label
from timecell.inference import evaluate
from timecell.network_system import NetworkSystem
from timecell.neurons import LeakyRate
from timecell.recipe import OneStage, Recipe, Stage
from timecell.system import Run, Scores
from timecell.tasks.readout import last
from timecell.train import fit

CARD = Card(
    slug="emergent-timescales",
    title="Emergent mechanisms for long timescales depend on training curriculum and affect performance in memory tasks",
    summary="Trained time constants: one moving head leans on units and forgets, many heads on loops.",
    family="memory",
    paper="arXiv:2309.12927",
    n=5,
)


class Others(nn.Linear):
    """Weights from each unit to all others; none to itself.

    Args:
        size: N units.
    """

    same_as: ClassVar[type] = nn.Linear

    def __init__(self, size: int) -> None:
        super().__init__(size, size, bias=False)
        self.constrain()

    def constrain(self) -> None:
        """Take self-connections out; training calls this after each update."""
        with torch.no_grad():
            self.weight.fill_diagonal_(0.0)


@dataclass(frozen=True)
class LeakyMemory(OneStage, NetworkSystem):
    """A recurrent net of leaky rate units with trained time constants.

    Attributes:
        hidden: units.
        slowest: time constants start evenly drawn between 1 and this many steps.
        lr: highest learning rate.
        batch: samples an update.
    """

    card: ClassVar[Card] = CARD
    made_for: ClassVar[tuple[str, ...]] = ("classify",)
    hidden: int = 64
    slowest: float = 2.0
    lr: float = 3e-3
    batch: int = 128

    def build(self, schema: Schema, outputs: int) -> Sequential:
        """Widths [C, hidden, K]."""
        tau = 1 + (self.slowest - 1) * torch.rand(self.hidden).clamp(min=1e-3)
        units = LeakyRate(self.hidden, tau=tau, activation="leaky_relu")
        drive, read = nn.Linear(len(schema.channels), self.hidden), nn.Linear(self.hidden, outputs)
        return Sequential(drive, Recurrent(units, Others(self.hidden)), read)

    def space(self) -> Mapping[str, Sequence[Any]]:
        """What comparisons tune."""
        return {"lr": (1e-3, 3e-3, 1e-2), "slowest": (2.0, 20.0), "hidden": (64, 128)}


# --- many heads -------------------------------------------------------------------------------------------------------

FIRST = 2  # bits of the easiest head
UNSEEN = 2**31  # a draw of streams that no training reaches


@dataclass(frozen=True)
class LastBits:
    """What `fit` asks of a net with a head for each N: cross-entropies at the last step, added over these levels.

    The labels are functions of the stream (`timecell.data.synthetic.memory_tasks.label`), so the data need none.

    Attributes:
        rule: "parity" or "dms".
        levels: the N whose heads are asked.
    """

    rule: Rule
    levels: tuple[int, ...]

    name: ClassVar[str] = "last-bits"
    kind: ClassVar[Kind] = "sequences"
    needs_whole: ClassVar[None] = None

    def loss(self, y: Float[Tensor, "B t K"], batch: Batch, steps: slice) -> Float[Tensor, ""]:
        """Sum over levels of the mean cross-entropy [nats], from the streams that end within these steps."""
        ends, here = last(y, batch, range(*steps.indices(batch.x.shape[1])))
        heads, truth = ends.unflatten(1, (-1, 2)), self.truth(batch)[here]
        losses = nn.functional.cross_entropy(heads[:, self._columns].flatten(0, 1), truth.flatten(), reduction="sum")
        return losses / len(batch)

    def scores_from_outputs(self, y: Float[Tensor, "B T K"], batch: Batch) -> Int[Tensor, "B levels"]:
        """The class that each head chooses."""
        ends, _ = last(y, batch, range(y.shape[1]))
        return ends.unflatten(1, (-1, 2))[:, self._columns].argmax(-1)

    def prediction(self, answers: Int[Tensor, "N levels"], data: Data) -> Int[Tensor, "N levels"]:
        """As they are."""
        return answers

    def score(self, prediction: Int[Tensor, "N levels"], data: Data) -> Scores:
        """Accuracy of each head, under its N; that of the newest ranks."""
        right = prediction == self.truth(data.batch(np.arange(len(data))))
        accuracy = {str(n): right[:, i].float().mean().item() for i, n in enumerate(self.levels)}
        return Scores(accuracy, str(self.levels[-1]), True, right[:, -1].float().numpy())

    def truth(self, batch: Batch) -> Int[Tensor, "B levels"]:
        """The label of each stream at each level."""
        return torch.stack([label(self.rule, n, batch.x, batch.lengths) for n in self.levels], 1)

    @property
    def _columns(self) -> list[int]:
        return [n - FIRST for n in self.levels]


class Learned(NamedTuple):
    """What a curriculum made of a net.

    Attributes:
        curriculum: where it ended.
        solved: N -> the net as it was when it had solved N.
        updates: N -> updates until then.
    """

    curriculum: Curriculum
    solved: Mapping[int, Sequential]
    updates: Mapping[int, int]


@cache  # several claims look at the same nets; nobody changes them
def learn(
    rule: Rule, heads: Heads, hardest: int, looks: int, *, seed: int = 0, between: int = 50,
    system: LeakyMemory = LeakyMemory(),
) -> Learned:  # fmt: skip
    """Train a net through a curriculum, from 2 bits up, until it has solved the hardest level or had all its looks.

    Streams have between N + 2 and 4 N + 1 bits for the newest N, and none is seen twice.

    Args:
        rule: "parity" or "dms".
        heads: "single", "cumulative" or "sliding".
        hardest: bits of the hardest level.
        looks: at the accuracy, each on 1,000 new streams.
        seed: of the net and of all streams.
        between: updates from look to look.
        system: the net and its learning rate.

    Example:
        >>> learn("dms", "cumulative", 4, 1, between=2, system=LeakyMemory(hidden=4, batch=8)).curriculum.levels
        (2,)
    """
    now = Curriculum(heads, FIRST, first=FIRST, last=hardest)
    with seeded(seed):
        net = system.build(Schema("sequences", ("bit",)), 2 * (hardest - FIRST + 1))
    recipe = Recipe((Stage(lr=system.lr, schedule="constant"),), batch=system.batch)
    solved: dict[int, Sequential] = {}
    updates: dict[int, int] = {}
    for look in range(looks):
        task: Any = LastBits(rule, now.levels)  # it has what `fit` needs, and neither a split nor baselines
        held_out = streams(rule, now.newest, 1000, seed, 2 * look + 1)
        run = Run(seed=seed, updates=between, device="cpu")
        fit(net, streams(rule, now.newest, between * system.batch, seed, 2 * look), task, recipe=recipe, run=run)
        accuracy = {int(n): value for n, value in evaluate(net, held_out, task, 1000).metrics.items()}
        if now.passed(accuracy):
            solved[now.newest], updates[now.newest] = copy.deepcopy(net), between * (look + 1)
            if now.newest == hardest:
                break
        now = now.after(accuracy)
    return Learned(now, solved, updates)


def streams(rule: Rule, n: int, samples: int, seed: int, draw: int) -> Sequences:
    """Streams for n bits; each draw of a seed is another one."""
    number = int(np.random.SeedSequence([seed, draw]).generate_state(1)[0])
    return bits(rule, (n + 2, 4 * n + 1), samples=samples, seed=number)


def own_tau(net: Sequential) -> Float[np.ndarray, "N"]:
    """The time constants of the units themselves [steps]."""
    units: Any = net[1]
    return units.neuron.tau.detach().numpy()
