"""``--llm openai``: any server that speaks OpenAI's chat completions (vLLM, Ollama, llama.cpp, …).

Trouble that may pass (nobody listens, time-outs, 429, 5xx) is waited out with growing pauses, for as long
as it takes: nothing is labelled meanwhile. A caption that fails again and again while others succeed is
given up. A server that refuses the model, the key or the request itself ends the annotator.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import openai
from openai.types.chat import ChatCompletion

from consumers.annotation_specs import AnswerFormat
from consumers.answers import read_answer
from consumers.language_model import Answer, Attempt, ModelRefusedError, Question, verdict_of
from consumers.prompts import Prompt, prompt_hash
from infra.errors import OnibusError
from schemas.records import AnnotationSpec, Origin

_log = logging.getLogger(__name__)

KEY_VARIABLE = "OPENAI_API_KEY"
KEY_FILE_VARIABLE = "ONIBUS_OPENAI_API_KEY_FILE"
_NO_KEY = "none"  # local servers want some key and accept any

READABLE_TRIES = 3
"""How often a caption is asked about until an answer can be read."""
STRIKES = 5
"""How often a caption may fail while others succeed."""
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 15.0
REQUEST_SECONDS = 120.0
CONNECT_SECONDS = 5.0
CHECK_SECONDS = 10.0
"""How long the start waits for a server where nobody listens."""

_REFUSALS = (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError)
_NAMED_PARAMETERS: dict[str, type[float] | type[int]] = {
    "temperature": float,
    "top_p": float,
    "frequency_penalty": float,
    "presence_penalty": float,
    "max_tokens": int,
    "seed": int,
}
_WARN_EVERY_SECONDS = 10.0


def api_key() -> str:
    """The key from ``OPENAI_API_KEY`` or the file that ``ONIBUS_OPENAI_API_KEY_FILE`` names.

    Raises:
        OnibusError: that file cannot be read.
    """
    if key := os.environ.get(KEY_VARIABLE):
        return key
    if not (path := os.environ.get(KEY_FILE_VARIABLE)):
        return _NO_KEY
    try:
        return Path(path).read_text().split()[0]
    except (OSError, IndexError) as error:
        raise OnibusError(f"cannot read the API key from {path} ({KEY_FILE_VARIABLE}): {error}") from error


class OpenAIModel:
    """Judges captions by chat completions.

    Args:
        specs: what is asked, by spec id; all under one model name.
        base_url: of the server, usually ending in ``/v1``.
        key: sent as bearer token.
        concurrency: requests at a time.
        request_seconds: how long one request may take.
        sleep: waits between tries.
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
    ) -> None:
        self._asked = {spec_id: _Asked(spec) for spec_id, spec in specs.items()}
        self._url, self._sleep = base_url, sleep
        self._free = asyncio.Semaphore(concurrency)
        timeout = openai.Timeout(request_seconds, connect=CONNECT_SECONDS)
        try:
            self._client = openai.AsyncOpenAI(base_url=base_url, api_key=key, timeout=timeout, max_retries=0)
        except (openai.OpenAIError, ValueError, TypeError) as error:
            raise OnibusError(f"--base-url {base_url}: {error}; give http(s)://host:port/v1") from error
        self._successes = 0
        self._warn_at = 0.0

    async def check(self) -> None:
        """Ask one question under the first spec, to find out whether the server answers such questions."""
        asked = next(iter(self._asked.values()))
        deadline = time.monotonic() + CHECK_SECONDS
        while True:
            try:
                await self._request(asked, asked.prompt.example())
                return
            except _REFUSALS as error:
                raise self._refused(error, asked) from error
            except openai.BadRequestError as error:
                raise ModelRefusedError(
                    f"{self._url} does not take the request: {_reason(error)}; check the spec's [sampling]"
                ) from error
            except openai.OpenAIError as error:
                if time.monotonic() > deadline:
                    raise ModelRefusedError(
                        f"no answer from {self._url}: {_reason(error)}; is the server up, --base-url right?"
                    ) from error
                await self._sleep(FIRST_PAUSE_SECONDS)

    async def answer(self, question: Question) -> Answer:
        """See :meth:`consumers.language_model.LanguageModel.answer`."""
        asked = self._asked[question.spec_id]
        prompt = asked.prompt.text(question.text, question.second)
        attempts: list[Attempt] = []
        while len(attempts) < READABLE_TRIES:
            completed = await self._completion(asked, prompt)
            if isinstance(completed, str):
                return Answer(question, verdict_of(()), tuple(attempts), given_up=completed)
            attempts.append(completed)
            if completed.verdict is not None:
                return Answer(question, completed.verdict, tuple(attempts))
        return Answer(
            question,
            verdict_of(attempts),
            tuple(attempts),
            given_up=f"no verdict in {len(attempts)} answers, last: {attempts[-1].raw_answer[:200]!r}",
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _completion(self, asked: _Asked, prompt: str) -> Attempt | str:
        """One answer; or, in one line, why this prompt will never get one."""
        failures, strikes, successes = 0, 0, self._successes
        while True:
            try:
                async with self._free:
                    started = time.perf_counter_ns()
                    completion = await self._request(asked, prompt)
                    latency_us = (time.perf_counter_ns() - started) // 1000
                self._successes += 1
                return asked.attempt(completion, prompt, latency_us)
            except _REFUSALS as error:
                raise self._refused(error, asked) from error
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                return f"the server refuses the request: {_reason(error)}"
            except (openai.OpenAIError, json.JSONDecodeError, LookupError, TypeError) as error:
                if self._successes > successes:  # the server works for others
                    strikes, successes = strikes + 1, self._successes
                if strikes >= STRIKES:
                    return f"failed {failures + 1} times while others succeeded: {_reason(error)}"
                self._warn(error)
            pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**failures)
            failures = min(failures + 1, 30)
            await self._sleep(pause * random.uniform(0.5, 1.0))

    async def _request(self, asked: _Asked, prompt: str) -> ChatCompletion:
        completion: ChatCompletion = await self._client.chat.completions.create(
            model=asked.model, messages=[{"role": "user", "content": prompt}], **asked.parameters
        )
        return completion

    def _refused(self, error: openai.OpenAIError, asked: _Asked) -> ModelRefusedError:
        if isinstance(error, openai.NotFoundError):
            what = f"{self._url} has no model {asked.model} (or the address is wrong): {_reason(error)}"
            return ModelRefusedError(f"{what}; correct --model or --base-url")
        return ModelRefusedError(
            f"{self._url} refuses the key: {_reason(error)}; set {KEY_VARIABLE} or {KEY_FILE_VARIABLE}"
        )

    def _warn(self, error: Exception) -> None:
        if time.monotonic() > self._warn_at:
            self._warn_at = time.monotonic() + _WARN_EVERY_SECONDS
            _log.warning("language model at %s: %s; trying again", self._url, _reason(error))


class _Asked:
    """How one spec is asked: prompt, parameters, parser."""

    def __init__(self, spec: AnnotationSpec) -> None:
        self.model = spec.model
        self.prompt = Prompt(spec)
        self._format = AnswerFormat.model_validate_json(spec.parser)
        extra: dict[str, Any] = {}
        self.parameters: dict[str, Any] = {}
        for name, value in spec.sampling.items():
            if name in _NAMED_PARAMETERS:
                self.parameters[name] = _number(spec, name, value)
            else:
                extra[name] = _plain(value)
        if self._format.constrained:
            # vLLM's name for it; the older guided_choice is ignored without a word.
            extra["structured_outputs"] = {"choice": list(self._format.words.values())}
        if extra:
            self.parameters["extra_body"] = extra

    def attempt(self, completion: ChatCompletion, prompt: str, latency_us: int) -> Attempt:
        text = completion.choices[0].message.content or ""
        reading = read_answer(self._format, text)
        usage = completion.usage
        return Attempt(
            verdict=reading.verdict,
            raw_answer=text,
            reason=reading.reason,
            prompt_hash=prompt_hash(prompt),
            tokens_in=usage.prompt_tokens if usage else 0,
            tokens_out=usage.completion_tokens if usage else 0,
            latency_us=latency_us,
            answered_at=time.time_ns() // 1000,
        )


def _number(spec: AnnotationSpec, name: str, value: str) -> float | int:
    try:
        return _NAMED_PARAMETERS[name](value)
    except ValueError as error:
        raise OnibusError(f"spec {spec.name}: sampling {name} = {value!r} is no number; mend it") from error


def _plain(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    cause = error.__cause__
    if cause is not None and str(cause):
        text += f" ({' '.join(str(cause).split())})"
    return text[:300]
