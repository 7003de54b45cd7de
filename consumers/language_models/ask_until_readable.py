"""Asking about one caption until an answer can be read: what all language models have in common."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from consumers.language_models.base import Answer, Attempt, Question, verdict_of
from consumers.specs.answer_parsing import read_answer
from consumers.specs.prompts import Prompt, prompt_hash
from consumers.specs.spec_file import AnswerFormat
from schemas.records import AnnotationSpec

READABLE_TRIES = 3
"""How often a caption is asked about until an answer can be read."""
_SHOWN = 200  # characters of an answer in a dead letter


class Reply(NamedTuple):
    """An answer, and whether the model (or a filter before it) would not touch the content."""

    attempt: Attempt
    is_refusal: bool = False


class AskedSpec:
    """How one spec is asked: prompt and answer format; each model adds its parameters."""

    def __init__(self, spec: AnnotationSpec) -> None:
        self.prompt = Prompt(spec)
        self.format = AnswerFormat.model_validate_json(spec.parser)

    def attempt(
        self, raw_answer: str, prompt: str, *, tokens_in: int, tokens_out: int, latency_us: int
    ) -> Attempt:
        """What came of asking once; latency in microseconds."""
        reading = read_answer(self.format, raw_answer)
        return Attempt(
            verdict=reading.verdict,
            raw_answer=raw_answer,
            reason=reading.reason,
            prompt_hash=prompt_hash(prompt),
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            latency_us=latency_us,
            answered_at=time.time_ns() // 1000,
        )


async def answer_to(
    question: Question, asked: AskedSpec, ask_once: Callable[[str], Awaitable[Reply | str]]
) -> Answer:
    """Ask until an answer can be read, the content is refused, or enough was tried.

    Args:
        ask_once: sends a prompt; gives the reply, or in one line why this prompt will never get one.
    """
    prompt = asked.prompt.text(question.text, question.second)
    attempts: list[Attempt] = []
    while len(attempts) < READABLE_TRIES:
        reply = await ask_once(prompt)
        if isinstance(reply, str):
            return Answer(question, verdict_of(()), tuple(attempts), given_up=reply)
        attempts.append(reply.attempt)
        if reply.attempt.verdict is not None:
            return Answer(question, reply.attempt.verdict, tuple(attempts))
        if reply.is_refusal:
            why = f"the model refuses the content: {reply.attempt.raw_answer[:_SHOWN]!r}"
            return Answer(question, verdict_of(attempts), tuple(attempts), given_up=why)
    why = f"no verdict in {len(attempts)} answers, last: {attempts[-1].raw_answer[:_SHOWN]!r}"
    return Answer(question, verdict_of(attempts), tuple(attempts), given_up=why)


def sampling_value(text: str) -> Any:
    """A sampling setting of a spec, in which all are text, as what it is in JSON; else the text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
