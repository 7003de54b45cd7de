"""The rules of the specs on messages that the game really shows."""

import asyncio

import pytest

from onibus.consumers.language_models.base import Question
from onibus.consumers.language_models.rules import RulesModel
from onibus.consumers.specs.spec_file import load_spec_file
from onibus.schemas.records import Origin, Verdict

SPEC = b"testspec"


def test_of_two_captions_the_helpful_one_is_preferred_whichever_comes_first() -> None:
    file = load_spec_file("keys-and-doors-pairs")
    assert file.rules is not None
    model = RulesModel({SPEC: file.rules})

    def judge(first: str, second: str) -> Verdict:
        return asyncio.run(model.answer(Question(SPEC, first, second=second))).verdict

    assert judge("You see here a key.", "It's a wall.") is Verdict.FIRST
    assert judge("It's a wall.", "You see here a key.") is Verdict.SECOND
    assert judge("It's a wall.", "It is dark.") is Verdict.TIE


CASES = [
    ("keys-and-doors", "You see here a key named The Master Key of Thievery.", True),
    ("keys-and-doors", "g - a key named The Master Key of Thievery.", True),
    ("keys-and-doors", "g - a key named The Master Key of Thievery (alternate weapon; not wielded).", True),
    ("keys-and-doors", "You succeed in unlocking the door.", True),
    ("keys-and-doors", "The door opens.", True),
    ("keys-and-doors", "This door is locked. / You see here a key.", True),
    ("keys-and-doors", "This door is locked.", False),
    ("keys-and-doors", "It's a wall.", False),
    ("keys-and-doors", "You stop searching.", False),
    ("keys-and-doors", "You don't have anything to unlock with.", False),
    ("keys-and-doors", "You fail to unlock the door.", False),
    ("goals", "You kill the newt!", True),
    ("goals", "You kill it!", True),
    ("goals", "Welcome to experience level 2.", True),
    ("goals", "$ - 23 gold pieces.", True),
    ("goals", "f - an uncursed scroll labeled FOOBIE BLETCH.", True),
    ("goals", "There is a staircase down here.", True),
    ("goals", "You find a hidden passage.", True),
    ("goals", "It's a wall.", False),
    ("goals", "You die...", False),
    ("goals", "You hear the splashing of a naiad.", False),
    ("combat", "You hit the jackal.", True),
    ("combat", "The jackal bites!", False),
    ("combat", "Really attack the gnome?", False),
    ("gold", "$ - 5 gold pieces.", True),
    ("gold", "You kill the newt!", False),
    ("stairs", "There is a staircase down here.", True),
    ("stairs", "There is a staircase up here.", False),
    ("stairs", "A trap door opens up under you!", True),
    ("stairs", "The door opens.", True),
    ("stairs", "This door is locked.", False),
]


@pytest.mark.parametrize(("name", "caption", "helpful"), CASES)
def test_verdicts(name: str, caption: str, helpful: bool) -> None:
    rules = load_spec_file(name).rules
    assert rules is not None
    answer = asyncio.run(RulesModel({SPEC: rules}).answer(Question(SPEC, caption)))
    assert answer.verdict is (Verdict.HELPFUL if helpful else Verdict.UNHELPFUL)


def test_an_answer_says_that_it_is_from_rules_and_from_which() -> None:
    rules = load_spec_file("gold").rules
    assert rules is not None
    model = RulesModel({SPEC: rules})
    answer = asyncio.run(model.answer(Question(SPEC, "$ - 23 gold pieces.", ticket=7)))
    (attempt,) = answer.attempts
    assert model.origin is Origin.RULES
    assert "gold" in attempt.reason or "\\$" in attempt.reason
    assert (answer.question.ticket, answer.given_up, attempt.tokens_in) == (7, "", 0)
