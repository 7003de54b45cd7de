"""Asking about one caption until an answer can be read: what all language models have in common."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from onibus.consumers.language_models.base import Answer, Attempt, ModelRefusedError, Question, verdict_of
from onibus.consumers.language_models.comprehension import Comprehension, shown
from onibus.consumers.specs.answer_format import TOKEN_LIMITS, AnswerFormat
from onibus.consumers.specs.answer_parsing import Reading, read_answer
from onibus.consumers.specs.probabilities import judged, log_odds, raw_answer
from onibus.consumers.specs.prompts import EXAMPLES, Prompt
from onibus.consumers.specs.shares import is_settled, share_of
from onibus.schemas.records import AnnotationSpec, Kind

_log = logging.getLogger(__name__)

READABLE_TRIES = 3
"""How often a caption is asked about until an answer can be read; for probabilities, which stay, once."""
_CHARACTERS_PER_TOKEN = 3
"""Of ASCII; English text has four or more. Other characters are reckoned at two tokens each."""
_MOST_TOKENS_OUT = 1_024
"""Reckoned for an answer where the spec sets no limit."""
_TOKENS_AROUND = 16
"""Reckoned for what a chat template puts around a prompt."""


class Reply(NamedTuple):
    """What a model wrote in answer to one prompt.

    Attributes:
        text: the answer.
        tokens_in, tokens_out: as the server counted them; None where it did not.
        latency_us: microseconds from sending the request.
        is_refusal: the model, or a filter before it, would not touch the content.
        is_cut: it ends where it does because it reached max_tokens.
        thoughts: what the model wrote besides, and is paid for.
        likeliest: log-probabilities of the likeliest first tokens, by their text, where they were asked for.
    """

    text: str
    tokens_in: int | None
    tokens_out: int | None
    latency_us: int
    is_refusal: bool = False
    is_cut: bool = False
    thoughts: str = ""
    likeliest: Mapping[str, float] | None = None


AskOnce = Callable[[str], Awaitable[Reply | str]]
"""Sends a prompt; gives the reply, or in one line why this prompt will never get one."""


class AskedSpec:
    """How one spec is asked: prompt and answer format; each model adds its parameters."""

    def __init__(self, spec: AnnotationSpec) -> None:
        self.prompt = Prompt(spec)
        self.format = AnswerFormat.model_validate_json(spec.parser)
        self.max_tokens = spec.sampling.get("max_tokens", "")
        self.tries = tries_of(self.format)
        self._name = spec.name
        self._comprehension = Comprehension(spec)
        self._model = spec.model
        self._is_estimating = self._has_probabilities = False
        self._baseline, self._compares = 0.0, spec.kind is Kind.COMPARE_TWO

    async def calibrate(self, ask_once: AskOnce) -> list[Reply]:
        """Find out the log-odds of captions that say nothing, if the spec names any; what was answered."""
        how = self.format.reads_probabilities
        replies = []
        for caption in () if how is None else how.content_free:
            reply = await ask_once(self.prompt.text(caption, caption if self._compares else None))
            if not isinstance(reply, str):
                replies.append(reply)
        odds = [log_odds(self.format, reply.likeliest or {}) for reply in replies]
        known = [one.value for one in odds if one is not None and one.are_known]
        self._baseline = sum(known) / len(known) if known else 0.0
        return replies

    def attempt(self, prompt: str, captions: Sequence[str], reply: Reply) -> Attempt:
        """What came of asking once.

        Raises:
            ModelRefusedError: this model's answers cannot be read, so that asking on is pointless.
        """
        reading, probability, raw_answer = self._read(captions, reply)
        attempt = Attempt(
            verdict=reading.verdict,
            raw_answer=raw_answer,
            reason=reading.reason,
            prompt_hash=self.prompt.hash(prompt),
            tokens_in=self._estimated(prompt) if reply.tokens_in is None else reply.tokens_in,
            tokens_out=self._written(reply) if reply.tokens_out is None else reply.tokens_out,
            latency_us=reply.latency_us,
            answered_at=time.time_ns() // 1000,
            tokens_are_estimated=reply.tokens_in is None or reply.tokens_out is None,
            probability=probability,
        )
        self._comprehension.heard(attempt, self.why_unreadable(reply))
        return attempt

    def _read(self, captions: Sequence[str], reply: Reply) -> tuple[Reading, float | None, str]:
        """What stands in a reply, its probability, and what is kept of it."""
        if self.format.reads_probabilities is None:
            return read_answer(self.format, reply.text, captions), None, reply.text
        if not reply.likeliest:
            if not (self._has_probabilities or reply.is_refusal):
                raise ModelRefusedError(self._no_probabilities())
            return Reading(None, ""), None, f"{reply.text} (without log-probabilities)"
        self._has_probabilities = True
        raw = raw_answer(reply.likeliest)
        odds = log_odds(self.format, reply.likeliest)
        if odds is None or (found := judged(self.format, odds, self._baseline)) is None:
            return Reading(None, ""), None, raw
        reason = f"log-odds {odds.value:.3f}, of captions that say nothing {self._baseline:.3f}"
        return Reading(found.verdict, reason), found.probability, raw

    def try_out(self, reply: Reply) -> Attempt:
        """Look at the answer to the question of the start, and say so if it cannot be read."""
        attempt = self.attempt(self.prompt.example(), EXAMPLES, reply)
        if attempt.verdict is None:
            _log.warning(
                "spec %s: the first answer holds no verdict: %s%s",
                self._name,
                shown(attempt.raw_answer),
                self.why_unreadable(reply),
            )
        return attempt

    def why_unreadable(self, reply: Reply) -> str:
        """The end of a line about a reply that cannot be read: why that may be, and what to do."""
        if self.format.reads_probabilities is not None:
            return "; choose another model, or end the template so that one of the [answer] words comes next"
        if reply.is_cut:
            limit = f"max_tokens {self.max_tokens}" if self.max_tokens else "the server's limit"
            return f"; it was cut at {limit}: raise max_tokens in the spec's [sampling]"
        return "; choose another model, or fit the spec's template and [answer] to what it writes"

    def _no_probabilities(self) -> str:
        return (
            f"{self._model} answers without log-probabilities, from which spec {self._name} reads verdicts; "
            "choose a server that gives them, such as vLLM, or a spec that asks for words, with "
            "answer.samples if labels are to have probabilities"
        )

    def _written(self, reply: Reply) -> int:
        """Tokens of an answer that were not counted; at its limit, if it was cut there, and never beyond."""
        estimate = self._estimated(reply.thoughts + reply.text)
        if not self.max_tokens.isdecimal():
            return estimate
        return int(self.max_tokens) if reply.is_cut else min(estimate, int(self.max_tokens))

    def _estimated(self, text: str) -> int:
        if not self._is_estimating:
            self._is_estimating = True
            _log.warning(
                "spec %s: the server does not count tokens (no usage in its answers); they are estimated "
                "from the text for annotations, costs and budgets, rather too many than too few",
                self._name,
            )
        return estimated_tokens(text)


def estimated_tokens(text: str) -> int:
    """About how many tokens a text has, rather too many than too few."""
    ascii_only = len(text.encode("ascii", errors="ignore"))
    others = len(text) - ascii_only
    return -(-ascii_only // _CHARACTERS_PER_TOKEN) + 2 * others + _TOKENS_AROUND


def answer_tokens(spec: AnnotationSpec) -> int:
    """How many tokens one answer under a spec can have."""
    if AnswerFormat.model_validate_json(spec.parser).reads_probabilities is not None:
        return 1
    limits = [int(spec.sampling[name]) for name in TOKEN_LIMITS if name in spec.sampling]
    return max(limits, default=_MOST_TOKENS_OUT)


def tries_of(answer_format: AnswerFormat) -> int:
    """How often a caption is asked about until an answer can be read; where several decide together, once."""
    is_once = answer_format.reads_probabilities is not None or answer_format.samples > 1
    return 1 if is_once else READABLE_TRIES


def with_tokens_of(attempt: Attempt, replies: Sequence[Reply]) -> Attempt:
    """An attempt whose tokens are those of these replies, too."""
    return replace(
        attempt,
        tokens_in=attempt.tokens_in + sum(reply.tokens_in or 0 for reply in replies),
        tokens_out=attempt.tokens_out + sum(reply.tokens_out or 0 for reply in replies),
    )


async def answer_to(question: Question, asked: AskedSpec, ask_once: AskOnce) -> Answer:
    """Ask until an answer can be read, the content is refused, or enough was tried.

    Raises:
        ModelRefusedError: the model can answer no question at all.
    """
    captions = (question.text,) if question.second is None else (question.text, question.second)
    prompt = asked.prompt.text(*captions)
    if asked.format.samples > 1:
        return await _answer_by_share(question, asked, ask_once, prompt, captions)
    attempts: list[Attempt] = []
    why = ""
    while len(attempts) < asked.tries:
        reply = await ask_once(prompt)
        if isinstance(reply, str):
            return Answer(question, verdict_of(()), tuple(attempts), given_up=reply)
        attempts.append(asked.attempt(prompt, captions, reply))
        if (verdict := attempts[-1].verdict) is not None:
            return Answer(question, verdict, tuple(attempts))
        if reply.is_refusal:
            why = f"the model refuses the content: {shown(reply.text)}"
            return Answer(question, verdict_of(attempts), tuple(attempts), given_up=why)
        why = asked.why_unreadable(reply) if reply.is_cut and asked.tries > 1 else ""
    why = f"no verdict in {len(attempts)} answers, last: {shown(attempts[-1].raw_answer)}{why}"
    return Answer(question, verdict_of(attempts), tuple(attempts), given_up=why)


async def _answer_by_share(
    question: Question, asked: AskedSpec, ask_once: AskOnce, prompt: str, captions: Sequence[str]
) -> Answer:
    """Ask as often as the spec says, at the same time; the share of the readable answers decides.

    An annotator that ends gets the verdict of the answers that came, if those that are missing could not
    change it.
    """
    asking = [asyncio.ensure_future(ask_once(prompt)) for _ in range(asked.format.samples)]
    try:
        replies = await asyncio.gather(*asking)
    except asyncio.CancelledError:
        replies = [one.result() for one in asking if one.done() and not (one.cancelled() or one.exception())]
    attempts = [asked.attempt(prompt, captions, one) for one in replies if not isinstance(one, str)]
    verdicts = [attempt.verdict for attempt in attempts if attempt.verdict is not None]
    if (missing := len(asking) - len(replies)) and not is_settled(asked.format, verdicts, missing):
        raise asyncio.CancelledError
    if not verdicts:
        refusals = [one for one in replies if isinstance(one, str)]
        why = refusals[0] if refusals else f"no verdict in {len(attempts)} answers, last: "
        last = "" if refusals else shown(attempts[-1].raw_answer)
        return Answer(question, verdict_of(()), tuple(attempts), given_up=why + last)
    found = share_of(asked.format, verdicts)
    # The last annotation of a caption is the one in force: an answer that says the same, where there is one.
    attempts.sort(key=lambda attempt: (attempt.verdict is not None, attempt.verdict is found.verdict))
    said = f"share {found.probability:.2f} of {len(verdicts)} answers; {attempts[-1].reason}".rstrip("; ")
    attempts[-1] = replace(attempts[-1], verdict=found.verdict, probability=found.probability, reason=said)
    return Answer(question, found.verdict, tuple(attempts))


def sampling_value(text: str) -> Any:
    """A sampling setting of a spec, in which all are text, as what it is in JSON; else the text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
