"""The language of TimeMaster's answers: its words, what is true of a series, the written answer, and what one is worth.

    <think> rising slow </think> <class> sine </class> <extension> rising slow wide </extension> <end>

A word is a number: first the marks, then the facts of three kinds (trend, pace, range), then the classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from timecell.networks.speaker import SILENT
from timecell.rhythm.periods import fft_periods
from timecell.tasks.answers import Answer, tagged_reward

FACTS = (("rising", "level", "falling"), ("slow", "steady", "quick"), ("narrow", "moderate", "wide"))
MARKS = ("<end>", "<think>", "</think>", "<class>", "</class>", "<extension>", "</extension>", "classes:")
END, CLASS = MARKS.index("<end>"), MARKS.index("<class>")
LONGEST = 16  # words of an answer; the template has 13


def vocabulary(classes: Sequence[str]) -> tuple[str, ...]:
    """All words: marks, facts, then the classes, each a word whatever its name."""
    return (*MARKS, *(word for kind in FACTS for word in kind), *classes)


def facts(x: Float[np.ndarray, "T C"]) -> list[int]:
    """What is true of the first channel of a standardised series, as an index into each kind of `FACTS`.

    The trend is the change of the least-squares line from end to end (0.75 standard deviations count), the pace the
    cycles of the strongest period once the line is taken away (up to 1.5 and 2.5), the range the greatest minus the
    least value.

    Example:
        >>> t = np.linspace(0, 1, 50)[:, None]
        >>> [kind[i] for kind, i in zip(FACTS, facts(3 * t + np.sin(2 * np.pi * 5 * t)))]
        ['rising', 'quick', 'wide']
    """
    y, t = x[:, 0].astype(np.float64), np.linspace(-0.5, 0.5, len(x))
    slope = float(t @ y / (t @ t))
    period, _ = fft_periods(torch.from_numpy(y - slope * t)[None, :, None], k=1)
    cycles, span = len(y) / period.item(), float(np.ptp(y))
    return [
        0 if slope > 0.75 else 2 if slope < -0.75 else 1,
        int(np.searchsorted((1.5, 2.5), cycles)),
        int(np.searchsorted((2.5, 4.0), span)),
    ]


def in_words(number: Int[np.ndarray, "N"], known: Int[np.ndarray, "N 3"]) -> Int[np.ndarray, "N 4"]:
    """The words of class, trend, pace and range, from the number of the class and what is true (`facts`).

    Example:
        >>> words = vocabulary(["sine", "square"])
        >>> [words[word] for word in in_words(np.array([1]), np.array([[0, 2, 1]]))[0]]
        ['square', 'rising', 'quick', 'moderate']
    """
    *starts, first = np.cumsum([len(MARKS), *map(len, FACTS)])
    return np.concatenate([first + number[:, None], np.array(starts) + known], 1)


def misled(true: Int[np.ndarray, "N 4"], classes: int, share: float, seed: int) -> Int[np.ndarray, "N 4"]:
    """What a teacher believes who errs: this share of the words is drawn anew among those that could stand there.

    Args:
        true: words of class, trend, pace and range.
        classes: how many there are.
        share: of the words.
        seed: of the draws.
    """
    rng, wrong = np.random.default_rng([seed, 31]), true.copy()
    *starts, first = np.cumsum([len(MARKS), *map(len, FACTS)])
    for column, (start, words) in enumerate([(first, classes), *zip(starts, map(len, FACTS))]):
        other = start + (true[:, column] - start + rng.integers(1, words, len(true))) % words
        wrong[:, column] = np.where(rng.random(len(true)) < share, other, true[:, column])
    return wrong


def written(truth: Int[np.ndarray, "N 4"]) -> Int[np.ndarray, "N A"]:
    """The template's answer for words of class, trend, pace and range."""
    what, trend, pace, extent = truth.T
    mark = {name: np.full_like(what, i) for i, name in enumerate(MARKS)}
    return np.stack([
        mark["<think>"], trend, pace, mark["</think>"], mark["<class>"], what, mark["</class>"],
        mark["<extension>"], trend, pace, extent, mark["</extension>"], mark["<end>"],
    ], 1)  # fmt: skip


@dataclass(frozen=True)
class Judge:
    """The reward of answers in words of `vocabulary(classes)`.

    Attributes:
        classes: their names.
        extension: weight of the facts.
    """

    classes: tuple[str, ...]
    extension: float = 0.5

    def text(self, answer: Int[Tensor, "A"]) -> str:
        """The words of one answer up to its end."""
        words = vocabulary(self.classes)
        return " ".join(words[i] for i in answer.tolist() if i not in (SILENT, END))

    def __call__(self, answers: Int[Tensor, "N A"], truth: Int[Tensor, "N 4"]) -> Float[Tensor, "N"]:
        """What each is worth."""
        words = vocabulary(self.classes)
        rewards = []
        for answer, (what, *true) in zip(answers, truth.tolist()):
            said = Answer.parse(self.text(answer))
            known = [words[i] for i in true]
            rewards.append(tagged_reward(said, words[what], self.classes, known, FACTS, self.extension))
        return torch.tensor(rewards, device=answers.device)
