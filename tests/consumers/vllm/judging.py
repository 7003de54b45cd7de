"""What tests of real models share: captions of the game, what the rules say of them, what came of them."""

from __future__ import annotations

from functools import cache

from onibus.consumers.language_models.rules import Judge
from onibus.consumers.specs.spec_file import load_spec_file
from onibus.infra.settings import Settings
from onibus.producers.nethack.random_play import random_captions
from onibus.schemas import codec, ids
from onibus.schemas.records import Annotation, DeadLetter, Label, Verdict
from tests.consumers.annotating import records

SPEC = "goals-one-word"
WORDS = {"helpful", "unhelpful", "unsure"}
TOO_LONG = "You see here " + ", ".join(f"a scroll labeled ZELGO MER {n}" for n in range(200))
AGREEMENT = 0.9
"""Share of captions on which a tiny Llama of a short training must agree with the rules; it reaches 0.95."""


@cache
def fresh_captions() -> tuple[str, ...]:
    """Captions of games that were not among the lessons; some of them every game shows."""
    return tuple(random_captions(["staircase", "keyroom-s5", "score"], 1_500, seed=987))


def agreement(settings: Settings, spec: str = SPEC) -> float:
    """The share of committed annotations whose verdict is the rules', the unreadable ones left out."""
    rules = load_spec_file(spec).rules
    assert rules is not None
    judge = Judge(rules)
    found = [a for a in annotations(settings) if a.texts != (TOO_LONG,)]
    assert found
    return sum(a.verdict is judge.judge(a.texts[0])[0] for a in found) / len(found)


def annotations(settings: Settings) -> list[Annotation]:
    """Every committed annotation."""
    return [codec.decode(Annotation, r.value) for r in records(settings, "annotations")]


def assert_only_the_long_one_was_given_up(settings: Settings) -> None:
    """The caption that is too long is unsure, with a dead letter that says why; all others have a verdict."""
    labels = {r.key[8:]: codec.decode(Label, r.value).verdict for r in records(settings, "labels")}
    long_id = ids.caption_id(TOO_LONG)
    assert {subject for subject, verdict in labels.items() if verdict is Verdict.UNSURE} <= {long_id}
    assert labels[long_id] is Verdict.UNSURE
    (letter,) = (codec.decode(DeadLetter, r.value) for r in records(settings, "dead-letters"))
    assert letter.original_key == long_id
    assert "maximum context length" in letter.reason
