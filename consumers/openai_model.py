"""``--llm openai``: any server that speaks OpenAI's chat completions (vLLM, Ollama, llama.cpp, …).

Trouble that may pass (nobody listens, time-outs, 429, 5xx) is waited out with growing pauses, for as long
as it takes: nothing is labelled meanwhile, and after some failures in a row all requests wait for one probe
to be answered (:mod:`consumers.circuit`). A caption that fails again and again while others succeed, or that
the server or the model refuses, is given up. A server that refuses the model, the key or every request ends
the annotator.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import openai

from consumers.asked_spec import AskedSpec, Reply, answer_to, sampling_value
from consumers.circuit import FIRST_PAUSE_SECONDS, Circuit, pause_seconds
from consumers.language_model import Answer, ModelRefusedError, Question
from infra import metrics
from infra.errors import OnibusError
from schemas.records import AnnotationSpec, Origin

_log = logging.getLogger(__name__)

KEY_VARIABLE = "OPENAI_API_KEY"
KEY_FILE_VARIABLE = "ONIBUS_OPENAI_API_KEY_FILE"
_NO_KEY = "none"  # local servers want some key and accept any

STRIKES = 10
"""How often a caption may fail while others succeed. A server that fails on one request in five gives up one
caption in ten million by mistake."""
LONGEST_RETRY_AFTER_SECONDS = 120.0
REQUEST_SECONDS = 120.0
CONNECT_SECONDS = 5.0
CHECK_SECONDS = 10.0
"""How long the start waits for a server where nobody listens."""

_REFUSALS = (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError)
_NOT_TAKEN = (openai.BadRequestError, openai.UnprocessableEntityError)
_MALFORMED = (json.JSONDecodeError, LookupError, TypeError, AttributeError)
"""What a body of another shape than a completion's leads to."""
_TOO_LARGE, _TOO_MANY = 413, 429
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
        self._circuit = Circuit(
            f"language model at {base_url}",
            (_MayPassError,),
            lambda error: _retry_after(error.__cause__),
            sleep=sleep,
        )
        self._successes = 0
        self._probing_refusal = asyncio.Lock()
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
            except _NOT_TAKEN as error:
                raise self._takes_nothing(error) from error
            except (openai.OpenAIError, *_MALFORMED) as error:
                if time.monotonic() > deadline:
                    raise ModelRefusedError(
                        f"no answer from {self._url}: {_reason(error)}; is the server up, --base-url right?"
                    ) from error
                await self._sleep(FIRST_PAUSE_SECONDS)

    async def answer(self, question: Question) -> Answer:
        """See :meth:`consumers.language_model.LanguageModel.answer`."""
        asked = self._asked[question.spec_id]
        return await answer_to(question, asked, partial(self._reply, asked))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _reply(self, asked: _Asked, prompt: str) -> Reply | str:
        """One answer; or, in one line, why this prompt will never get one."""
        failures, strikes, successes = 0, 0, self._successes
        while True:
            before = self._successes
            try:
                async with self._free:
                    reply = await self._circuit.send(lambda: self._send(asked, prompt))
                self._successes += 1
                return reply
            except _REFUSALS as error:
                raise self._refused(error, asked) from error
            except (*_NOT_TAKEN, _TooLargeError) as error:
                if self._successes > before or await self._is_answered(asked, before):
                    return f"the server refuses the request: {_reason(error)}"
                pause = pause_seconds(failures)
            except _MayPassError as error:
                if self._successes > successes:  # the server works for others
                    strikes, successes = strikes + 1, self._successes
                if strikes >= STRIKES:
                    return f"failed {failures + 1} times while others succeeded: {error}"
                self._warn(error)
                pause = pause_seconds(failures, _retry_after(error.__cause__))
            failures += 1
            await self._sleep(pause)

    async def _is_answered(self, asked: _Asked, successes: int) -> bool:
        """Whether the server takes another question, when it has refused one and taken none since.

        Raises:
            ModelRefusedError: it refuses that one too, so it would refuse all.
        """
        async with self._probing_refusal:
            if self._successes > successes:
                return True
            try:
                async with self._free:
                    await self._request(asked, asked.prompt.example())
            except _REFUSALS as error:
                raise self._refused(error, asked) from error
            except _NOT_TAKEN as error:
                raise self._takes_nothing(error) from error
            except (openai.OpenAIError, *_MALFORMED):
                return False
            self._successes += 1
            return True

    async def _send(self, asked: _Asked, prompt: str) -> Reply:
        """One request; trouble that may pass is a :class:`_MayPassError`."""
        started = time.perf_counter_ns()
        try:
            completion = await self._request(asked, prompt)
            return asked.reply(completion, prompt, (time.perf_counter_ns() - started) // 1000)
        except (*_REFUSALS, *_NOT_TAKEN):
            raise
        except (openai.OpenAIError, *_MALFORMED) as error:
            if isinstance(error, openai.APIStatusError) and error.status_code == _TOO_LARGE:
                raise _TooLargeError(_reason(error)) from error
            metrics.MODEL_FAILURES.labels(reason=_kind(error)).inc()
            raise _MayPassError(_reason(error)) from error

    async def _request(self, asked: _Asked, prompt: str) -> Any:
        """The completion as parsed JSON: building the library's objects would cost a third more CPU time."""
        body = {"model": asked.model, "messages": [{"role": "user", "content": prompt}], **asked.parameters}
        return await self._client.post("/chat/completions", cast_to=object, body=body)

    def _refused(self, error: openai.OpenAIError, asked: _Asked) -> ModelRefusedError:
        if isinstance(error, openai.NotFoundError):
            what = f"{self._url} has no model {asked.model} (or the address is wrong): {_reason(error)}"
            return ModelRefusedError(f"{what}; correct --model or --base-url")
        return ModelRefusedError(
            f"{self._url} refuses the key: {_reason(error)}; set {KEY_VARIABLE} or {KEY_FILE_VARIABLE}"
        )

    def _takes_nothing(self, error: openai.OpenAIError) -> ModelRefusedError:
        return ModelRefusedError(
            f"{self._url} does not take the request: {_reason(error)}; check the spec's [sampling]"
        )

    def _warn(self, error: _MayPassError) -> None:
        if time.monotonic() > self._warn_at and not self._circuit.is_open:
            self._warn_at = time.monotonic() + _WARN_EVERY_SECONDS
            _log.warning("language model at %s: %s; trying again", self._url, error)


class _MayPassError(Exception):
    """The server did not answer, or not in a way that says anything about the question; the cause is why."""


class _TooLargeError(Exception):
    """The request is larger than the server takes."""


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

    def reply(self, completion: Any, prompt: str, latency_us: int) -> Reply:
        """What a completion says.

        Raises:
            LookupError, TypeError, AttributeError: it has another shape than a completion.
        """
        choice = completion["choices"][0]
        message = choice["message"]
        refusal = message.get("refusal") or ""
        text = message.get("content") or refusal
        usage = completion.get("usage") or {}
        attempt = self.attempt(
            text,
            prompt,
            tokens_in=usage.get("prompt_tokens") or 0,
            tokens_out=usage.get("completion_tokens") or 0,
            latency_us=latency_us,
        )
        return Reply(attempt, bool(refusal) or choice.get("finish_reason") == "content_filter")


def _number(spec: AnnotationSpec, name: str, value: str) -> float | int:
    try:
        return _NAMED_PARAMETERS[name](value)
    except ValueError as error:
        raise OnibusError(f"spec {spec.name}: sampling {name} = {value!r} is no number; mend it") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    cause = error.__cause__
    if cause is not None and str(cause):
        text += f" ({' '.join(str(cause).split())})"
    return text[:300]


def _kind(error: Exception) -> str:
    """The failure in a word, for the metric."""
    if isinstance(error, openai.APITimeoutError):
        return "time-out"
    if isinstance(error, openai.APIConnectionError):
        return "no connection"
    if isinstance(error, openai.APIStatusError):
        return (
            "too many requests" if error.status_code == _TOO_MANY else f"status {error.status_code // 100}xx"
        )
    return "no completion"


def _retry_after(error: BaseException | None) -> float:
    """Seconds that the server asks to be left alone; 0 if it does not say."""
    if not isinstance(error, openai.APIStatusError):
        return 0.0
    try:
        return min(LONGEST_RETRY_AFTER_SECONDS, float(error.response.headers.get("retry-after", "0")))
    except ValueError:  # a date, which nobody sends
        return 0.0
