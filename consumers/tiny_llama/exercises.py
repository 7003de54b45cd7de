"""What the tiny Llama learns: captions, and what the keyword rules of each spec say of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from onibus.consumers.language_models.rules import Judge
from onibus.consumers.specs.prompts import Prompt
from onibus.consumers.specs.spec_file import SpecFile
from onibus.infra.errors import OnibusError
from onibus.schemas import ids

HELD_OUT_SHARE = 0.15
_SEPARATOR = " / "  # between the messages of one caption, see producers.nethack.captions
_JOINED_SHARE, _CHANGED_SHARE = 0.25, 0.15
_CHANGING = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Exercise:
    """One prompt and the word that answers it."""

    caption: str
    prompt: str
    word: str


class SpecExercises:
    """Exercises under one spec.

    Captions are split by their ids: :data:`HELD_OUT_SHARE` of them are never learnt from, nor is anything
    made of them. The rest is learnt as it is, joined in twos (as captions of several messages are), and
    with letters of the inventory and numbers changed; the rules judge what comes of it anew.

    Args:
        file: a spec with rules, answered in one constrained word.
        captions: different captions.

    Raises:
        OnibusError: the spec is not answered in one word, has no rules, or there are too few captions.
    """

    def __init__(self, file: SpecFile, captions: Sequence[str]) -> None:
        if file.rules is None or not file.answer.constrained or file.answer.parser != "one-word":
            raise OnibusError(
                f"spec {file.name} has no rules or no constrained one-word answer; choose another"
            )
        self.name = file.name
        self.words = list(file.answer.words.values())
        self._word_of = file.answer.words
        self._prompt, self._judge = Prompt(file.for_rules()), Judge(file.rules)
        self.held_out = [self.exercise(caption) for caption in captions if _is_held_out(caption)]
        self._learnt = [caption for caption in captions if not _is_held_out(caption)]
        by_word: dict[str, list[str]] = {}
        for caption in self._learnt:
            by_word.setdefault(self.exercise(caption).word, []).append(caption)
        self._by_word = [by_word[word] for word in self.words if word in by_word]
        if len(self._by_word) < 2 or not self.held_out:
            raise OnibusError(
                f"{len(captions)} captions are too few to learn {file.name} from; play more steps"
            )

    def exercise(self, caption: str) -> Exercise:
        """The exercise that a caption makes."""
        return Exercise(caption, self._prompt.text(caption), self._word_of[self._judge.judge(caption)[0]])

    def learnt(self) -> list[Exercise]:
        """Every caption that is learnt from, as it is."""
        return [self.exercise(caption) for caption in self._learnt]

    def draw(self, count: int, rng: random.Random) -> list[Exercise]:
        """Exercises to learn from, each answer as often as the others."""
        drawn: list[Exercise] = []
        while len(drawn) < count:
            caption = self._caption(rng)
            if not _is_held_out(caption):  # what was changed may have become one
                drawn.append(self.exercise(caption))
        return drawn

    def _caption(self, rng: random.Random) -> str:
        caption = rng.choice(rng.choice(self._by_word))
        kind = rng.random()
        if kind < _JOINED_SHARE:
            other = rng.choice(self._learnt)
            return _SEPARATOR.join((caption, other) if rng.random() < 0.5 else (other, caption))
        return changed(caption, rng) if kind < _JOINED_SHARE + _CHANGED_SHARE else caption


def _is_held_out(caption: str) -> bool:
    return ids.caption_id(caption)[0] < HELD_OUT_SHARE * 256


def changed(caption: str, rng: random.Random) -> str:
    """A message with another inventory letter at the start, and other digits elsewhere."""
    if caption[1:4] == " - " and caption[0].isalpha():
        caption = rng.choice(_CHANGING) + caption[1:]
    return "".join(rng.choice("123456789") if c.isdigit() else c for c in caption)
