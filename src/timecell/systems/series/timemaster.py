"""TimeMaster: a language model looks at a plot of a series, says what it sees and what it is, and learns from rewards.

The idea. A classifier gives a number; a language model can give reasons. It is shown the *picture* of a series and answers
in three tagged parts: what it sees, which class that is, and what follows. First it is taught the form by imitating a few
written answers, good or bad. Then it is no longer told what to say: of each series it gives several answers of its own, a
rule says what each is worth, and what did better than its siblings becomes likelier. So it can become better than its
teacher.

    prompt    [strips of the picture][the names of the classes]        `render_series`; an MLP makes a strip a word
    answer    <think> rising slow </think> <class> sine </class> <extension> rising slow wide </extension> <end>
    1st stage cross-entropy of written answers (`FineTune`)
    2nd stage `GroupPolicy`: R = 0.9 [class right] + 0.1 [form right] + 0.5 s [both right],  A = (R - mean) / std

s is the share of facts that the extension states correctly: trend, pace and range, computed from the signal itself
(`answer_language.py`). In use the model answers greedily; the class's probabilities are those of the words that could
stand where the class stands, and an answer of the wrong form says nothing (all classes equal).

Where we differ: the paper's model has three billion weights (Qwen2.5-VL), and a second model wrote the answers it imitates
and judged its extensions; here a decoder of two layers is trained from nothing on answers from a template, and facts are
judged by rule; pictures are cut into strips, not patches. ``backbone="folder"`` puts a causal model of Hugging Face in its
place, with our words added to its own.

Source: Zhang et al., "TimeMaster" (2025), arXiv:2506.13705.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from timecell.card import Card
from timecell.checkpoint import seeded
from timecell.credit.fine_tune import UNSAID, FineTune
from timecell.credit.group_policy import GroupPolicy, Policy, Rewarded
from timecell.data.containers import Batch, Data, Schema, Sequences, fingerprint
from timecell.data.render import render_series
from timecell.data.scaling import Scale, scale_of
from timecell.errors import InputError
from timecell.inference import evaluating
from timecell.network_system import FittedNetwork, NetworkSystem
from timecell.networks.adapters import Trainable, set_trainable
from timecell.networks.causal_lm import TinyCausal
from timecell.networks.pretrained import PretrainedLM, load_pretrained
from timecell.networks.speaker import Speaker
from timecell.recipe import Recipe, Stage
from timecell.state import StateTree
from timecell.system import Run, Task, require_accepted
from timecell.systems.series.answer_language import (
    CLASS,
    END,
    LONGEST,
    MARKS,
    Judge,
    facts,
    in_words,
    misled,
    vocabulary,
    written,
)
from timecell.tasks import Classify
from timecell.tasks.answers import Answer, format_reward
from timecell.train import fit

CARD = Card(
    slug="timemaster",
    title="TimeMaster: training time-series multimodal LLMs to reason via reinforcement learning",
    summary="A language model looks at a plotted series and answers in tagged words; imitation teaches the form, rewards the rest.",
    family="series",
    paper="arXiv:2506.13705",
    n=31,
)

# --- the net ---------------------------------------------------------------------------------------------------------


class Onlooker(nn.Module):
    """From a series to the class that a `Speaker` names: x [B, T, C] -> y [B, T, K], the same at every step."""

    def __init__(self, speaker: Speaker, classes: tuple[str, ...], height: int, width: int, strip: int) -> None:
        super().__init__()
        self.speaker, self.judge = speaker, Judge(classes)
        self.height, self.width, self.strip = height, width, strip

    def prompt(self, x: Float[Tensor, "B T C"], lengths: Int[Tensor, "B"] | None = None) -> Float[Tensor, "B P R"]:
        """The picture in strips, then the names of the classes."""
        picture = render_series(x, lengths, height=self.height, width=self.width)[:, 0]
        strips = picture.unfold(2, self.strip, self.strip).transpose(1, 2).flatten(2)
        seen = torch.cat([torch.full_like(strips[..., :1], -1.0), strips], -1)
        words = len(vocabulary(self.judge.classes))
        names = torch.tensor([MARKS.index("classes:"), *range(words - len(self.judge.classes), words)], device=x.device)
        return torch.cat([seen, self.speaker.rows(names.expand(len(x), -1), seen)], 1)

    def forward(
        self, x: Float[Tensor, "B T C"], state: StateTree = None, *, lengths: Int[Tensor, "B"] | None = None
    ) -> tuple[Float[Tensor, "B T K"], None]:
        """Look, answer, and give the scores of the classes where the class stands."""
        prompt, K = self.prompt(x, lengths), len(self.judge.classes)
        answers = self.speaker.sample(prompt, 1, greedy=True)
        formed = [format_reward(Answer.parse(self.judge.text(a)), self.judge.classes) > 0 for a in answers]
        place = (answers == CLASS).int().argmax(1) + 1
        named = self.speaker.scores(prompt, answers)[torch.arange(len(x)), place.clamp(max=answers.shape[1] - 1), -K:]
        says = torch.where(torch.tensor(formed, device=x.device)[:, None], named, 0.0)
        return says[:, None].expand(-1, x.shape[1], -1), None


@dataclass(frozen=True)
class Rows:
    """What a `Speaker` reads, all of one length: x [N, L, R] with a target [N, ...]."""

    x: Float[np.ndarray, "N L R"]
    target: Int[np.ndarray, "N ..."]

    @property
    def schema(self) -> Schema:
        """Its rows."""
        return Schema("sequences", tuple(f"x{i}" for i in range(self.x.shape[2])), lengths=(self.x.shape[1],) * 2)

    @property
    def fingerprint(self) -> str:
        """Hash of both."""
        return fingerprint(self.x, self.target)

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Int[np.ndarray, "B"]) -> Batch:
        """Some of them."""
        return Batch(torch.from_numpy(self.x[index]), torch.from_numpy(self.target[index]))

    def select(self, index: Int[np.ndarray, "n"]) -> Rows:
        """Some of them."""
        return Rows(self.x[index], self.target[index])


# --- the system ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TimeMaster(NetworkSystem):
    """Imitation, then rewards.

    Attributes:
        supervised: share of the updates that imitate; the rest learn from rewards.
        taught: training samples with a written answer; None: all. Rewards are given on all.
        noise: share of the words for class and facts that the teacher gets wrong, to study what rewards mend.
        extension: weight of the facts in the reward.
        group: answers to each series.
        kl: how strongly the second stage is held to the first.
        size: D of the language model that is trained from nothing.
        layers: of it.
        backbone: folder of a pretrained one instead; "" for none.
        adapt: what of the language model is trained.
        height: pixels of each channel's panel.
        width: pixels.
        strip: columns of the picture that make a word; divides the width.
        lr: highest learning rate of the first stage.
        reward_lr: learning rate of the second.
        batch: samples an update.
    """

    card: ClassVar[Card] = CARD
    made_for: ClassVar[tuple[str, ...]] = ("classify",)
    supervised: float = 0.5
    taught: int | None = None
    noise: float = 0.0
    extension: float = 0.5
    group: int = 8
    kl: float = 1e-3
    size: int = 48
    layers: int = 2
    backbone: str = ""
    adapt: Trainable = "full"
    height: int = 12
    width: int = 48
    strip: int = 4
    lr: float = 3e-3
    reward_lr: float = 1e-3
    batch: int = 32

    def __post_init__(self) -> None:
        if not 0 <= self.supervised <= 1:
            raise InputError("supervised", found=self.supervised, expected="a share from 0 to 1", remedy="try 0.5")
        if self.width % self.strip:
            raise InputError("strip", found=f"{self.strip} of {self.width} columns", expected="a divisor of the width",
                             remedy="choose a strip that fits")  # fmt: skip

    def build(self, schema: Schema, outputs: int) -> Onlooker:
        """The language model with the words of these classes, and its eyes."""
        classes, pixels = schema.classes or (), len(schema.channels) * self.height * self.strip
        words = len(vocabulary(classes))
        language: TinyCausal | PretrainedLM
        if self.backbone:
            language = load_pretrained(self.backbone)
        else:
            context = self.width // self.strip + 1 + len(classes) + LONGEST
            language = TinyCausal(words, self.size, self.layers, heads=4, context=context)
        set_trainable(language, self.adapt)
        first = language.add_tokens(words) if isinstance(language, PretrainedLM) else 0
        return Onlooker(
            Speaker(language, words, pixels, first=first, end=END, longest=LONGEST),
            classes,
            self.height,
            self.width,
            self.strip,
        )

    def space(self) -> Mapping[str, Sequence[Any]]:
        """What comparisons tune."""
        return {"lr": (3e-3, 1e-2), "reward_lr": (5e-4, 1e-3), "supervised": (0.3, 0.5, 0.8)}

    def accepts(self, schema: Schema, task: Task) -> str | None:
        """It names classes that it can write, of samples in which there is something to see."""
        reason = super().accepts(schema, task)
        if reason is not None:
            return reason
        if schema.lengths[0] < 4:
            return f"the shortest sample has {schema.lengths[0]} steps, and there is nothing to see in fewer than 4"
        if any("<" in name or ">" in name for name in schema.classes or ()):
            return "a class has < or > in its name, which are the marks of an answer's parts"
        return None

    def fit(self, train: Data, valid: Data, task: Task, run: Run) -> FittedNetwork:
        """Imitate, then learn from rewards; each stage keeps the weights that are best on the validation data.

        Raises:
            InputError: the data or the task are not accepted; and what `timecell.fit` raises.
        """
        require_accepted(self, train.schema, task)
        assert isinstance(train, Sequences) and isinstance(valid, Sequences) and isinstance(task, Classify)
        scale = scale_of(train)
        with seeded(run.seed):
            net = self.build(train.schema, len(train.schema.classes or ()))
        parameters = sum(p.numel() for p in net.parameters() if p.requires_grad)
        (asked, true), (held_out, known) = (self.questions(net, scale, part) for part in (train, valid))
        history: list[dict[str, Any]] = []
        report: dict[str, Any] = {"parameters": parameters, "updates": 0, "seconds": 0.0, "history": history}
        imitating = round(run.updates * self.supervised)
        for stage, updates in (("imitation", imitating), ("rewards", run.updates - imitating)):
            if updates == 0:
                continue
            part = replace(run, updates=updates, folder=run.folder / stage if run.folder else None)
            if stage == "imitation":
                few = np.arange(len(true))[: self.taught]
                believed = misled(true[few], len(net.judge.classes), self.noise, run.seed)
                trained = fit(
                    net.speaker, taught(asked[few], believed), cast(Task, FineTune()),
                    valid=taught(held_out, known), recipe=self.recipe(), run=part,
                )  # fmt: skip
            else:
                judge = Judge(net.judge.classes, self.extension)
                trained = fit(
                    Policy(net.speaker), Rows(asked, true), cast(Task, Rewarded(judge)), valid=Rows(held_out, known),
                    credit=GroupPolicy(judge, self.group, kl=self.kl), recipe=self.rewarding(), run=part,
                )  # fmt: skip
            history += [{**row, "stage": stage, "update": row["update"] + report["updates"]} for row in trained.history]
            report |= {"updates": report["updates"] + trained.updates, "seconds": report["seconds"] + trained.seconds}
            report[f"best_{stage}"] = trained.best
        answer = replace(task, readout="last", criterion="cross_entropy")
        fitted = FittedNetwork(self, train.schema, answer, scale, len(train.schema.classes or ()), net.eval(), report)
        formed = [format_reward(a, net.judge.classes) for a in answers(fitted, valid)]
        return replace(fitted, report={**report, "format_rate": float(np.mean(formed))})

    def recipe(self) -> Recipe:
        """Of imitation."""
        return Recipe((Stage(lr=self.lr),), batch=self.batch, validate_every=50)

    def rewarding(self) -> Recipe:
        """Of learning from rewards."""
        return Recipe((Stage(lr=self.reward_lr, schedule="constant"),), batch=self.batch, validate_every=25)

    def questions(self, net: Onlooker, scale: Scale, data: Sequences) -> tuple[np.ndarray, np.ndarray]:
        """Prompts [N, P, R], and the words that are true: class, trend, pace, range [N, 4]."""
        batch = scale.data(data).batch(np.arange(len(data)))
        ends = [batch.x.shape[1]] * len(data) if batch.lengths is None else batch.lengths.tolist()
        known = np.array([facts(x[:n].numpy()) for x, n in zip(batch.x, ends)])
        with torch.no_grad():
            return net.prompt(batch.x, batch.lengths).numpy(), in_words(np.asarray(data.target), known)


def taught(prompts: Float[np.ndarray, "N P R"], true: Int[np.ndarray, "N 4"]) -> Rows:
    """Prompts with written answers behind them, and as target the next word wherever the answer says one."""
    said = written(true)
    words = np.zeros((*said[:, :-1].shape, prompts.shape[2]), np.float32)
    words[..., 0] = said[:, :-1]
    target = np.full((len(said), prompts.shape[1] - 1 + said.shape[1]), UNSAID)
    target[:, prompts.shape[1] - 1 :] = said
    return Rows(np.concatenate([prompts, words], 1), target)


def answers(fitted: FittedNetwork, data: Sequences) -> list[Answer]:
    """What a fitted TimeMaster says of each sample, in words, by part."""
    net = cast(Onlooker, fitted.network)
    batch = fitted.scale.data(data).batch(np.arange(len(data))).to(next(net.parameters()).device)
    with evaluating(net):
        said = net.speaker.sample(net.prompt(batch.x, batch.lengths), 1, greedy=True)
    return [Answer.parse(net.judge.text(answer)) for answer in said]
