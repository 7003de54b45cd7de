"""What a model is to answer: the words of each kind of specification, and how an answer is read."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from onibus.schemas.records import Kind, Verdict

WORDS = {
    Kind.JUDGE_ONE: (Verdict.HELPFUL, Verdict.UNHELPFUL, Verdict.UNSURE),
    Kind.COMPARE_TWO: (Verdict.FIRST, Verdict.SECOND, Verdict.TIE, Verdict.UNSURE),
}
"""The answers that a kind of specification may get."""
DECIDED = {kind: words[:2] for kind, words in WORDS.items()}
"""Those from which something can be learnt: the one whose probability a model gives, and its opposite."""

TOKEN_LIMITS = ("max_tokens", "max_completion_tokens")
"""Names of the sampling setting that limits an answer; newer servers take the second."""


class SpecPart(BaseModel):
    """A part of a spec file; fields that it does not know are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Probability(SpecPart):
    """How a verdict is read from the probabilities of the two words: see :mod:`.probabilities`.

    Attributes:
        threshold: calibrated probability from which on the verdict is helpful (of two captions, first).
        unsure: within this distance of the threshold the verdict is unsure.
        scale, offset: the calibrated log-odds are ``scale * log-odds + offset``, taken from labels of people.
        content_free: captions that say nothing; the mean of their log-odds is taken off first.
        plain: ask for the continuation of the prompt as it stands, without a chat template.
    """

    threshold: float = Field(default=0.5, gt=0, lt=1)
    unsure: float = Field(default=0.0, ge=0, lt=0.5)
    scale: float = Field(default=1.0, gt=0, le=1000)
    offset: float = Field(default=0.0, ge=-1000, le=1000)
    content_free: tuple[str, ...] = Field(default=(), max_length=20)
    plain: bool = False


class AnswerFormat(SpecPart):
    """How a model's answer is read: see :mod:`onibus.consumers.specs.answer_parsing`.

    Attributes:
        samples: how many answers are asked for; with several, their share decides: see :mod:`.shares`.
    """

    parser: Literal["verdict-line", "one-word", "probability"] = "verdict-line"
    constrained: bool = False
    words: dict[Verdict, str] = {v: v.value for v in WORDS[Kind.JUDGE_ONE]}
    probability: Probability | None = None
    samples: int = Field(default=1, ge=1, le=50)

    @property
    def reads_probabilities(self) -> Probability | None:
        """How, if the verdict is read from probabilities."""
        return (self.probability or Probability()) if self.parser == "probability" else None

    def canonical(self) -> str:
        """The text that stands as ``parser`` in the annotation spec.

        Without a field of its own for probabilities or samples, if there are none: other formats keep their
        spec ids.
        """
        left_out = {"probability"} if self.probability is None else set[str]()
        if self.samples == 1:
            left_out.add("samples")
        fields = self.model_dump(mode="json", exclude=left_out)
        return json.dumps(fields, sort_keys=True, separators=(",", ":"))
