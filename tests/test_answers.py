"""Tagged answers: any text is taken apart, and rewards cannot be had by saying everything."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from timecell.errors import InputError
from timecell.tasks.answers import TAGS, Answer, class_reward, fact_reward, format_reward, tagged_reward

CLASSES, CHOICES = ("sine", "square"), (("slow", "quick"), ("wide", "narrow"))
PIECES = [*(f"<{t}>" for t in TAGS), *(f"</{t}>" for t in TAGS), "sine", "square", "slow", "quick", "wide", "<", ""]
GOOD = "<think> slow </think> <class> sine </class> <extension> slow wide </extension>"


def worth(text, **more):
    return tagged_reward(Answer.parse(text), "sine", CLASSES, ["slow", "wide"], CHOICES, **more)


def test_the_best_answer():
    answer = Answer.parse(GOOD)
    assert dict(answer.parts) == {"think": "slow", "class": "sine", "extension": "slow wide"} and answer.well_formed
    assert worth(GOOD) == 1.5


@given(st.lists(st.sampled_from(PIECES), max_size=14))
@settings(deadline=None, max_examples=100)
def test_any_text_is_taken_apart_and_none_is_worth_more_than_the_best(pieces):
    text = " ".join(pieces)
    answer = Answer.parse(text)
    for tag in TAGS:
        if text.count(f"<{tag}>") != 1:
            assert answer[tag] is None
    if answer.well_formed:
        assert None not in answer.parts.values()
    assert 0 <= worth(text) <= 1.5


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("", 0.0),
        ("sine", 0.0),
        (GOOD.replace("</think>", ""), 0.9),
        (GOOD + " " + GOOD, 0.0),
        (GOOD.replace("<class>", "<class> <class>"), 0.0),
        (GOOD.replace("sine", "sine square"), 0.0),
        (GOOD.replace("sine", "square"), 0.1),
        (GOOD.replace("sine", "circle"), 0.0),
        (GOOD + " sine", 0.9),
        (GOOD.replace("slow wide", "slow quick wide narrow"), 1.0),
        (GOOD.replace("slow wide", "wide"), 1.25),
    ],
)
def test_what_answers_are_worth(text, reward):
    assert worth(text) == pytest.approx(reward)


def test_the_parts_of_a_reward():
    answer = Answer.parse(GOOD.replace("slow wide", "wide wide"))
    assert (class_reward(answer, "sine"), class_reward(answer, "square"), format_reward(answer, CLASSES)) == (1, 0, 1)
    assert fact_reward(answer["extension"], ["slow", "wide"], CHOICES) == 0.5
    assert fact_reward(None, ["slow", "wide"], CHOICES) == 0.0
    assert worth(GOOD, extension=0.0) == 1.0


def test_a_fact_must_be_one_of_its_choices():
    with pytest.raises(InputError, match="facts: found 'red', expected one of slow, quick"):
        fact_reward("slow", ["red"], [("slow", "quick")])
