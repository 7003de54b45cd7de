"""What a model is to answer: the words of each kind of specification, and how an answer is read."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict

from onibus.schemas.records import Kind, Verdict

WORDS = {
    Kind.JUDGE_ONE: (Verdict.HELPFUL, Verdict.UNHELPFUL, Verdict.UNSURE),
    Kind.COMPARE_TWO: (Verdict.FIRST, Verdict.SECOND, Verdict.TIE, Verdict.UNSURE),
}
"""The answers that a kind of specification may get."""


class SpecPart(BaseModel):
    """A part of a spec file; fields that it does not know are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AnswerFormat(SpecPart):
    """How a model's answer is read: see :mod:`onibus.consumers.specs.answer_parsing`."""

    parser: Literal["verdict-line", "one-word"] = "verdict-line"
    constrained: bool = False
    words: dict[Verdict, str] = {v: v.value for v in WORDS[Kind.JUDGE_ONE]}

    def canonical(self) -> str:
        """The text that stands as ``parser`` in the annotation spec."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
