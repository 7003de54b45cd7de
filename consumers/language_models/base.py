"""What the annotator asks and what it gets: the interface that every language model here has."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from onibus.schemas.records import Origin, Verdict

NO_PROMPT = bytes(16)
"""Stands for the prompt where there was none."""


@dataclass(frozen=True, slots=True)
class Question:
    """One subject to be judged under one spec.

    Attributes:
        spec_id: 8-byte id of the spec.
        text: the caption; of a comparison the first one.
        ticket: the asker's own; comes back with the answer, and says whom the answer is for.
        second: the second caption of a comparison; None where one caption is judged.
        earlier: number of answers that there are already, where it is asked again.
    """

    spec_id: bytes
    text: str
    ticket: object = None
    second: str | None = None
    earlier: int = field(default=0, kw_only=True)


@dataclass(frozen=True, slots=True)
class JudgeName:
    """One of several who are asked the same: a model, or the keyword rules.

    Attributes:
        model, revision: as they stand in the judge's annotations; no two judges of a panel share both.
    """

    model: str
    revision: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class Attempt:
    """One answer that came back, readable or not, with what it cost. Times in microseconds.

    Attributes:
        probability: of helpful, or of the first, where words' probabilities were read; None elsewhere.
        was_flipped: whether the verdict is the opposite of what was said, for an experiment.
        said: what this answer itself said, where several decide and the verdict is theirs; None: alone.
        judge: whose answer it is, where there are several judges.
        usd: what it cost in US dollars, where its judge has prices of its own.
    """

    verdict: Verdict | None
    raw_answer: str
    reason: str
    prompt_hash: bytes
    tokens_in: int
    tokens_out: int
    latency_us: int
    answered_at: int
    tokens_are_estimated: bool = False
    probability: float | None = None
    was_flipped: bool = False
    said: Verdict | None = None
    judge: JudgeName | None = None
    usd: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a question.

    Attributes:
        verdict: the judgement; ``unsure`` also where no attempt could be read.
        attempts: every answer that came back, oldest first; the last one decided.
        given_up: why there is no readable answer, in one line; empty if there is one.
    """

    question: Question
    verdict: Verdict
    attempts: tuple[Attempt, ...]
    given_up: str = ""

    @classmethod
    def of(
        cls,
        question: Question,
        verdict: Verdict,
        *,
        raw_answer: str | None = None,
        reason: str = "",
        prompt_hash: bytes = NO_PROMPT,
        tokens_in: int = 0,
        tokens_out: int = 0,
        latency_us: int = 0,
    ) -> Answer:
        """The answer to a question that was understood at the first attempt, now.

        Args:
            question: what was asked.
            verdict: the judgement.
            raw_answer: what the model said, word for word; None for the verdict alone.
            reason: why, in a sentence; for people who look at labels.
            prompt_hash: 16 bytes that stand for the prompt.
            tokens_in: of the prompt; tokens_out: of what came back. Budgets count them.
            latency_us: how long it took, microseconds.
        """
        attempt = Attempt(
            verdict=verdict,
            raw_answer=verdict.value if raw_answer is None else raw_answer,
            reason=reason,
            prompt_hash=prompt_hash,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            latency_us=latency_us,
            answered_at=time.time_ns() // 1000,
        )
        return cls(question, verdict, (attempt,))

    def attempts_or_reason(self) -> tuple[Attempt, ...]:
        """Its attempts; one also where nothing came back, so that it stands on the log why."""
        nothing = Attempt(None, "", self.given_up, NO_PROMPT, 0, 0, 0, time.time_ns() // 1000)
        return self.attempts or (nothing,)

    @property
    def votes(self) -> list[Verdict]:
        """What each judge said, in their order; ``unsure`` where no answer of theirs could be read."""
        last = {attempt.judge: attempt.verdict for attempt in self.attempts if attempt.judge is not None}
        return [verdict or Verdict.UNSURE for verdict in last.values()] or [self.verdict]

    @property
    def confidence(self) -> float | None:
        """Probability of the verdict, where it was read from probabilities and is not unsure."""
        probability = self.attempts[-1].probability if self.attempts else None
        if probability is None or self.verdict in (Verdict.UNSURE, Verdict.TIE):
            return None
        return probability if self.verdict in (Verdict.HELPFUL, Verdict.FIRST) else 1.0 - probability


class ModelRefusedError(Exception):
    """The model can answer no question at all (no such model, key refused): asking on is pointless.

    The message is one line for the person who runs the annotator.

    Attributes:
        answer: of a panel, what the other judges said, and are paid for; None if nothing.
    """

    def __init__(self, line: str, answer: Answer | None = None) -> None:
        super().__init__(line)
        self.answer = answer


class Progress(IntEnum):
    """How far asking a question is: whether it can be taken back without a loss."""

    WAITING = 0
    """Nothing was sent, or nothing that was answered: no one pays for it."""
    PAID = 1
    """Something was answered that does not do alone, and nothing is on its way."""
    SENT = 2
    """A request is on its way."""


class LanguageModel(Protocol):
    """Judges captions. All methods run on one asyncio loop."""

    origin: Origin

    async def check(self) -> Attempt | None:
        """Find out whether questions can be answered at all, before any is asked.

        Returns:
            The answer to a question of its own that was asked for this; None if there was none.

        Raises:
            ModelRefusedError: they cannot.
        """

    async def answer(self, question: Question) -> Answer:
        """Judge one caption; many calls run at the same time. Trouble that may pass is waited out.

        Raises:
            ModelRefusedError: as for :meth:`check`.
        """

    def progress(self, question: Question) -> Progress:
        """How far asking this question is, which is being answered."""

    async def close(self) -> None:
        """Give up connections."""


def verdict_of(attempts: Sequence[Attempt]) -> Verdict:
    """The verdict that a sequence of attempts comes to: the last one's, or unsure."""
    last = attempts[-1].verdict if attempts else None
    return last if last is not None else Verdict.UNSURE
