"""``--llm openai``: any server that speaks OpenAI's chat completions (vLLM, Ollama, llama.cpp, …).

What is sent again, when, and when it is given up: :mod:`onibus.consumers.language_models.retries`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from onibus.consumers.language_models.api_keys import FLAGS, Given
from onibus.consumers.language_models.ask_until_readable import (
    AskedSpec,
    Reply,
    answer_to,
    sampling_value,
    with_tokens_of,
)
from onibus.consumers.language_models.base import Answer, Attempt, ModelRefusedError, Progress, Question
from onibus.consumers.language_models.chat_client import ChatClient
from onibus.consumers.language_models.circuit_breaker import FIRST_PAUSE_SECONDS, pause_seconds
from onibus.consumers.language_models.completions import reply_of
from onibus.consumers.language_models.failure_kinds import (
    ChatError,
    KeyRefusedError,
    ModelUnknownError,
    NoCompletionError,
    NotTakenError,
)
from onibus.consumers.language_models.refusals import FIRST_PROBES, REFUSALS
from onibus.consumers.language_models.retries import Retries
from onibus.consumers.specs.probabilities import MOST_LIKELY
from onibus.infra.errors import OnibusError
from onibus.schemas.records import AnnotationSpec, Origin

_log = logging.getLogger(__name__)

REQUEST_SECONDS = 120.0
CHECK_SECONDS = 10.0
"""How long the start waits for a server where no one listens."""

_NEW_LIMIT_NAME = "max_completion_tokens"
_NAMED_PARAMETERS: dict[str, type[float] | type[int]] = {
    "temperature": float,
    "top_p": float,
    "frequency_penalty": float,
    "presence_penalty": float,
    "max_tokens": int,
    "seed": int,
}


class OpenAIModel:
    """Judges captions by chat completions.

    Args:
        specs: what is asked, by spec id; all under one model name.
        base_url: of the server, usually ending in ``/v1``.
        key: sent as bearer token.
        concurrency: requests at a time.
        request_seconds: how long one request may take.
        sleep: waits between tries.
        given: where the user gave address, model and key.
    """

    origin = Origin.LLM

    def __init__(
        self,
        specs: Mapping[bytes, AnnotationSpec],
        base_url: str,
        key: str,
        concurrency: int,
        request_seconds: float = REQUEST_SECONDS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        given: Given = FLAGS,
    ) -> None:
        self._asked = {spec_id: _Asked(spec) for spec_id, spec in specs.items()}
        self._url, self._sleep, self._given = base_url, sleep, given
        self._client = ChatClient(base_url, key, request_seconds, given)
        self._retries = Retries(base_url, concurrency, self._probe, sleep)
        self._limit_name = "max_tokens"
        self._on_the_way, self._replies = Counter[Question](), Counter[Question]()

    async def check(self) -> Attempt:
        """Ask one question under the first spec, to find out whether the server answers such questions.

        And one under each further spec that reads probabilities, which not every server gives.
        """
        asked = next(iter(self._asked.values()))
        deadline, refused = time.monotonic() + CHECK_SECONDS, 0
        while True:
            try:
                reply = await self._probe()
                break
            except ChatError as error:
                if isinstance(error, (*REFUSALS, NoCompletionError)):  # each may be paid for
                    refused += 1
                    if refused == FIRST_PROBES:
                        raise self._refused(asked, error) from error
                    await self._sleep(pause_seconds(refused))
                    continue
                if time.monotonic() > deadline:
                    raise ModelRefusedError(
                        f"no answer from {self._url}: {error}; "
                        f"is the server up, {self._given.base_url}{self._given.of} right?"
                    ) from error
                await self._sleep(FIRST_PAUSE_SECONDS)
        tried, calibrating = asked.try_out(reply), list[Reply]()
        for one in self._asked.values():
            if one is not asked and one.format.reads_probabilities is not None:
                other = await self._reply(one, one.prompt.example())
                if not isinstance(other, str):
                    one.try_out(other)
                    calibrating.append(other)
            calibrating += await one.calibrate(partial(self._reply, one))
        return with_tokens_of(tried, calibrating)

    async def answer(self, question: Question) -> Answer:
        """See :meth:`onibus.consumers.language_models.base.LanguageModel.answer`."""
        asked = self._asked[question.spec_id]
        try:
            return await answer_to(question, asked, partial(self._reply, asked, question=question))
        finally:
            del self._on_the_way[question], self._replies[question]

    def progress(self, question: Question) -> Progress:
        """By its requests. Replies alone help no more where the server does not answer at present."""
        if self._on_the_way[question]:
            return Progress.SENT
        is_paid = self._replies[question] and not self._retries.circuit.is_open
        return Progress.PAID if is_paid else Progress.WAITING

    async def close(self) -> None:
        """Close the connections."""
        self._retries.close()
        await self._client.close()

    async def _reply(self, asked: _Asked, prompt: str, question: Question | None = None) -> Reply | str:
        """One answer; or, in one line, why this prompt will never get one."""

        async def send() -> Reply:
            if question is None:
                return await self._request(asked, prompt)
            self._on_the_way[question] += 1
            try:
                reply = await self._request(asked, prompt)
            finally:
                self._on_the_way[question] -= 1
            self._replies[question] += 1
            return reply

        return await self._retries.reply(
            send,
            lambda: self._request(asked, asked.prompt.example()),
            partial(self._refused, asked),
        )

    async def _probe(self) -> Reply:
        """The answer to the question of the start."""
        asked = next(iter(self._asked.values()))
        return await self._request(asked, asked.prompt.example())

    async def _request(self, asked: _Asked, prompt: str) -> Reply:
        """One request; an answer of another shape than a completion is trouble that may pass, too."""
        started = time.perf_counter_ns()
        given = {"prompt": prompt} if asked.is_plain else {"messages": asked.prompt.conversation(prompt)}
        completion = await self._complete({"model": asked.model, **given, **asked.parameters})
        return reply_of(completion, (time.perf_counter_ns() - started) // 1000)

    async def _complete(self, body: dict[str, Any]) -> Any:
        """The completion; ``max_tokens``, which newer models refuse, under the name that the server takes."""
        limit = body.pop("max_tokens", None)
        if limit is None:
            return await self._client.complete(body)
        name = self._limit_name
        try:
            return await self._client.complete(body | {name: limit})
        except NotTakenError as error:
            if name == _NEW_LIMIT_NAME or name not in str(error) or _NEW_LIMIT_NAME in body:
                raise
            try:
                completion = await self._client.complete(body | {_NEW_LIMIT_NAME: limit})
            except NotTakenError:
                raise error from None
            if self._limit_name != _NEW_LIMIT_NAME:
                _log.info("%s takes %s in place of max_tokens; it is sent so", self._url, _NEW_LIMIT_NAME)
                self._limit_name = _NEW_LIMIT_NAME
            return completion

    def _refused(self, asked: _Asked, error: ChatError) -> ModelRefusedError:
        given = self._given
        if isinstance(error, ModelUnknownError):
            what = f"{self._url} has no model {asked.model} (or the address is wrong): {error}"
            return ModelRefusedError(f"{what}; correct {given.model} or {given.base_url}{given.of}")
        if isinstance(error, KeyRefusedError):
            return ModelRefusedError(f"{self._url} refuses the key: {error}; set {given.key}{given.of}")
        if isinstance(error, NoCompletionError):
            return ModelRefusedError(
                f"{self._url} answers, but not as an OpenAI-compatible server does: {error}; correct "
                f"{given.base_url}{given.of}"
            )
        return ModelRefusedError(
            f"{self._url} does not take the request: {error}; check the spec's [sampling]"
        )


class _Asked(AskedSpec):
    """How one spec is asked, the request's parameters included."""

    def __init__(self, spec: AnnotationSpec) -> None:
        super().__init__(spec)
        self.model = spec.model
        self.parameters: dict[str, Any] = {
            name: _number(spec, name, value) if name in _NAMED_PARAMETERS else sampling_value(value)
            for name, value in spec.sampling.items()
        }
        if self.format.constrained:
            # vLLM's name for it; the older guided_choice is ignored without a word.
            self.parameters["structured_outputs"] = {"choice": list(self.format.words.values())}
        how = self.format.reads_probabilities
        self.is_plain = how is not None and how.plain
        if how is not None:
            most: dict[str, Any] = {"logprobs": True, "top_logprobs": MOST_LIKELY}
            self.parameters |= {"logprobs": MOST_LIKELY} if how.plain else most
            self.parameters |= {"max_tokens": 1, "temperature": 0.0}


def _number(spec: AnnotationSpec, name: str, value: str) -> float | int:
    try:
        return _NAMED_PARAMETERS[name](value)
    except ValueError as error:
        what = f"spec {spec.name}: sampling {name} = {value!r} is not a number"
        raise OnibusError(f"{what}; correct it") from error
