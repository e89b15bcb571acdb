"""`Answer`: what a language model said, taken apart by its tags, and what it is worth.

    <think> what is seen </think> <class> one of the classes </class> <extension> what follows from it </extension>

Rewards are pure functions of an answer and the truth, so that they can be read, tested and exchanged. Nothing is given for
saying everything at once: a class must be named alone, and a fact does not count beside its contrary.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from timecell.errors import InputError

TAGS = ("think", "class", "extension")


@dataclass(frozen=True)
class Answer:
    """A text by its tags.

    Attributes:
        parts: tag -> what stands between its two marks; None where they do not stand there exactly once, in order.
        well_formed: every tag is there, in order, and nothing stands outside them.

    Example:
        >>> Answer.parse("<think> it bends </think> <class> sine </class> <extension> calm </extension>")["class"]
        'sine'
        >>> twice = Answer.parse("<class> sine </class> <class> square </class>")
        >>> twice["class"] is None, twice.well_formed
        (True, False)
    """

    parts: Mapping[str, str | None]
    well_formed: bool

    @classmethod
    def parse(cls, text: str, tags: Sequence[str] = TAGS) -> Answer:
        """Any text at all; what is missing, doubled or nested wrongly is None."""
        parts = {tag: _between(text, tag) for tag in tags}
        whole = r"\s*".join(rf"<{tag}>[^<>]*</{tag}>" for tag in tags)
        return cls(parts, re.fullmatch(rf"\s*{whole}\s*", text) is not None)

    def __getitem__(self, tag: str) -> str | None:
        return self.parts[tag]


def _between(text: str, tag: str) -> str | None:
    if text.count(f"<{tag}>") != 1 or text.count(f"</{tag}>") != 1:
        return None
    found = re.search(rf"<{tag}>([^<>]*)</{tag}>", text)
    return None if found is None else " ".join(found[1].split())


def format_reward(answer: Answer, classes: Collection[str]) -> float:
    """1 for an answer of the right form that names exactly one class, else 0."""
    return float(answer.well_formed and answer["class"] in classes)


def class_reward(answer: Answer, truth: str) -> float:
    """1 if the class is right, whatever stands around it."""
    return float(answer["class"] == truth)


def fact_reward(said: str | None, facts: Sequence[str], choices: Sequence[Collection[str]]) -> float:
    """The share of required facts that are stated, each without its contrary.

    Args:
        said: a part of an answer.
        facts: the words that are true.
        choices: for each of them all words that could have stood in its place.

    Raises:
        InputError: a fact is none of its choices.

    Example:
        >>> trend, pace = ("rising", "falling"), ("slow", "quick")
        >>> fact_reward("rising and slow", ["rising", "quick"], [trend, pace])
        0.5
        >>> fact_reward("rising falling slow quick", ["rising", "quick"], [trend, pace])
        0.0
    """
    for fact, words in zip(facts, choices, strict=True):
        if fact not in words:
            raise InputError("facts", found=repr(fact), expected=f"one of {', '.join(words)}", remedy="name it alike")
    stated = set((said or "").split())
    return sum(stated & set(words) == {fact} for fact, words in zip(facts, choices)) / max(len(facts), 1)


def tagged_reward(
    answer: Answer,
    truth: str,
    classes: Collection[str],
    facts: Sequence[str] = (),
    choices: Sequence[Collection[str]] = (),
    extension: float = 0.5,
) -> float:
    """0.9 for the class, 0.1 for the form, and `extension` times the share of facts once both are right.

    Example:
        >>> text = "<think> </think> <class> sine </class> <extension> slow </extension>"
        >>> tagged_reward(Answer.parse(text), "sine", ["sine", "square"], ["slow"], [("slow", "quick")])
        1.5
    """
    right, formed = class_reward(answer, truth), format_reward(answer, classes)
    more = extension * fact_reward(answer["extension"], facts, choices) if right and formed else 0.0
    return 0.9 * right + 0.1 * formed + more
