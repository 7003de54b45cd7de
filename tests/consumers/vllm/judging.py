"""What tests of real models share: captions of the game, and what came of them."""

from __future__ import annotations

from functools import cache

from onibus.infra.settings import Settings
from onibus.producers.nethack.random_play import random_captions
from onibus.schemas import codec, ids
from onibus.schemas.records import Annotation, DeadLetter, Label, Verdict
from tests.consumers.annotating import records

SPEC = "goals-one-word"
WORDS = {"helpful", "unhelpful", "unsure"}
TOO_LONG = "You see here " + ", ".join(f"a scroll labeled ZELGO MER {n}" for n in range(1_000))
"""Beyond the 8,192 tokens that the model reads."""
_MOST = 40


@cache
def fresh_captions() -> tuple[str, ...]:
    """Captions of games; as many as two cores can judge in a few seconds."""
    return tuple(random_captions(["staircase", "keyroom-s5", "score"], 1_500, seed=987)[:_MOST])


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
