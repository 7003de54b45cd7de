"""``--llm openai``: any server that speaks OpenAI's chat completions (vLLM, Ollama, llama.cpp, …).

Trouble that may pass (no one listens, time-outs, 429, 5xx) is waited out with growing pauses, for as long
as it takes: nothing is labelled meanwhile, and after some failures in a row all requests wait until the
question of the start is answered (:mod:`onibus.consumers.language_models.circuit_breaker`). A caption that
fails again and again while others succeed, or that the server or the model refuses, is given up. A server
that refuses the model, the key or the form of every request ends the annotator
(:mod:`onibus.consumers.language_models.refusals`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
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
from onibus.consumers.language_models.base import Answer, Attempt, ModelRefusedError, Question
from onibus.consumers.language_models.chat_client import ChatClient
from onibus.consumers.language_models.circuit_breaker import FIRST_PAUSE_SECONDS, Circuit, pause_seconds
from onibus.consumers.language_models.completions import reply_of
from onibus.consumers.language_models.failure_kinds import (
    ChatError,
    KeyRefusedError,
    MayPassError,
    ModelUnknownError,
    NotTakenError,
)
from onibus.consumers.language_models.refusals import (
    FIRST_PROBES,
    REFUSALS,
    RefusalCheck,
    is_about_this_request,
)
from onibus.consumers.specs.probabilities import MOST_LIKELY
from onibus.infra.errors import OnibusError
from onibus.infra.observability import metrics
from onibus.schemas.records import AnnotationSpec, Origin

_log = logging.getLogger(__name__)

STRIKES = 10
"""How often a caption may fail while others succeed. A server that fails on one request in five gives up one
caption in ten million by mistake."""
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
_WARN_EVERY_SECONDS = 10.0


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
        self._free = asyncio.Semaphore(concurrency)
        self._client = ChatClient(base_url, key, request_seconds, given)
        self._circuit = Circuit(
            f"language model at {base_url}",
            (MayPassError,),
            lambda error: error.retry_after if isinstance(error, ChatError) else 0.0,
            self._probe,
            sleep=sleep,
        )
        self._refusals = RefusalCheck(sleep)
        self._limit_name = "max_tokens"
        self._warn_at = 0.0

    async def check(self) -> Attempt:
        """Ask one question under the first spec, to find out whether the server answers such questions."""
        asked = next(iter(self._asked.values()))
        deadline, refused = time.monotonic() + CHECK_SECONDS, 0
        while True:
            try:
                reply = await self._request(asked, asked.prompt.example())
                break
            except REFUSALS as error:
                refused += 1
                if refused == FIRST_PROBES:
                    raise self._refused(asked, error) from error
                await self._sleep(pause_seconds(refused))
            except ChatError as error:
                if time.monotonic() > deadline:
                    raise ModelRefusedError(
                        f"no answer from {self._url}: {error}; "
                        f"is the server up, {self._given.base_url}{self._given.of} right?"
                    ) from error
                await self._sleep(FIRST_PAUSE_SECONDS)
        tried, calibrating = asked.try_out(reply), list[Reply]()
        for one in self._asked.values():
            calibrating += await one.calibrate(partial(self._reply, one))
        return with_tokens_of(tried, calibrating)

    async def answer(self, question: Question) -> Answer:
        """See :meth:`onibus.consumers.language_models.base.LanguageModel.answer`."""
        asked = self._asked[question.spec_id]
        return await answer_to(question, asked, partial(self._reply, asked))

    async def close(self) -> None:
        """Close the connections."""
        self._circuit.close()
        await self._client.close()

    async def _reply(self, asked: _Asked, prompt: str) -> Reply | str:
        """One answer; or, in one line, why this prompt will never get one."""
        failures, strikes, refused, successes = 0, 0, 0, self._refusals.answered
        while True:
            before = self._refusals.answered
            try:
                async with self._free:
                    reply = await self._circuit.send(lambda: self._send(asked, prompt))
                self._refusals.answered += 1
                return reply
            except REFUSALS as error:
                if await self._is_answered(asked, before):
                    refused += 1
                    if is_about_this_request(error, refused):
                        return f"the server refuses the request: {error}"
                pause = pause_seconds(failures)
            except MayPassError as error:
                if self._refusals.answered > successes:  # the server works for others
                    strikes, successes = strikes + 1, self._refusals.answered
                if strikes >= STRIKES:
                    return f"failed {failures + 1} times while others succeeded: {error}"
                self._warn(error)
                pause = pause_seconds(failures, error.retry_after)
            failures += 1
            await self._sleep(pause)

    async def _is_answered(self, asked: _Asked, before: int) -> bool:
        """Whether the server, which has refused a request, answers the question of the start.

        Raises:
            ModelRefusedError: it refuses that one too, again and again, so it would refuse all.
        """

        async def ask() -> None:
            async with self._free:
                await self._request(asked, asked.prompt.example())

        return await self._refusals.concerns_one(ask, partial(self._refused, asked), before)

    async def _probe(self) -> None:
        """Ask the question of the start. A refusal is an answer, too: the server is there."""
        asked = next(iter(self._asked.values()))
        with contextlib.suppress(*REFUSALS):
            await self._send(asked, asked.prompt.example())
            self._refusals.answered += 1

    async def _send(self, asked: _Asked, prompt: str) -> Reply:
        """One request, whose failures are counted."""
        try:
            return await self._request(asked, prompt)
        except MayPassError as error:
            metrics.MODEL_FAILURES.labels(reason=error.reason).inc()
            raise

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
        return ModelRefusedError(
            f"{self._url} does not take the request: {error}; check the spec's [sampling]"
        )

    def _warn(self, error: MayPassError) -> None:
        if time.monotonic() > self._warn_at and not self._circuit.is_open:
            self._warn_at = time.monotonic() + _WARN_EVERY_SECONDS
            _log.warning("language model at %s: %s; trying again", self._url, error)


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
