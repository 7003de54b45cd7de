"""``--llm vllm``: vLLM in this process, no server in between.

The engine has a thread of its own, which alone touches it: it takes what has been asked meanwhile, steps the
engine, and hands finished answers back. So requests join and leave the running batch one by one, and prompts
that begin alike share their beginnings in vLLM's prefix cache. The prompts, the chat template and the
constrained choice are those of :mod:`onibus.consumers.language_models.openai`: a model answers both alike.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from onibus.consumers.language_models.ask_until_readable import (
    AskedSpec,
    Reply,
    answer_to,
    sampling_value,
    with_tokens_of,
)
from onibus.consumers.language_models.base import Answer, Attempt, ModelRefusedError, Progress, Question
from onibus.consumers.specs.probabilities import MOST_LIKELY, likeliest_of
from onibus.infra.errors import OnibusError
from onibus.infra.vllm.model_folder import is_folder, model_folder
from onibus.schemas.records import AnnotationSpec, Origin

_log = logging.getLogger(__name__)

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process: no engine is left behind, however this one ends
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
}
"""Set before vLLM is imported, unless they are set already."""
CPU_BLOCK = 32
"""Tokens of a block of vLLM's cache on a CPU; with its 128 short prompts would share nothing."""
_IDLE_SECONDS = 1.0
_CLOSE_SECONDS = 15.0
"""How long the engine's thread may take to end. One that is left behind aborts the process at its exit."""


class VllmModel:
    """Judges captions with a model that runs in this process.

    Args:
        specs: what is asked, by spec id.
        model: a folder in Hugging Face's layout, or a model's name on the hub.
        concurrency: requests in the running batch at most.
        revision: the hub's revision; nothing for a folder.

    Raises:
        OnibusError: vLLM is not in this environment, or there is no such folder.
    """

    origin = Origin.LLM

    def __init__(
        self, specs: Mapping[bytes, AnnotationSpec], model: str, concurrency: int, revision: str = ""
    ) -> None:
        folder = is_folder(model)
        given = {"model": str(model_folder(model)) if folder else model, "max_num_seqs": concurrency}
        if revision and not folder:
            given["revision"] = revision
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            import vllm  # noqa: F401  (takes seconds; what it needs is set above)
        except ModuleNotFoundError as error:
            raise OnibusError(
                f"--llm vllm needs vLLM here, and {error.name} is missing; run make vllm and start it as "
                ".venv-vllm/bin/onibus annotate --llm vllm …, or ask a server: --llm openai"
            ) from error
        self._name = model
        self._asked = {spec_id: _Asked(spec) for spec_id, spec in specs.items()}
        self._engine = _EngineThread(given)

    async def check(self) -> Attempt:
        """Load the model and see that it takes our prompts."""
        await self._engine.start()
        asked = next(iter(self._asked.values()))
        reply = await self._ask_once(asked, asked.prompt.example())
        if isinstance(reply, str):
            raise ModelRefusedError(f"{self._name}: {reply}; choose another model")
        tried, calibrating = asked.try_out(reply), list[Reply]()
        for one in self._asked.values():
            calibrating += await one.calibrate(partial(self._ask_once, one))
        return with_tokens_of(tried, calibrating)

    async def answer(self, question: Question) -> Answer:
        """See :meth:`onibus.consumers.language_models.base.LanguageModel.answer`."""
        asked = self._asked[question.spec_id]
        return await answer_to(question, asked, partial(self._ask_once, asked))

    def progress(self, question: Question) -> Progress:
        """The engine works on all that it is asked."""
        return Progress.SENT

    async def close(self) -> None:
        """Give the model's memory back."""
        await asyncio.get_running_loop().run_in_executor(None, self._engine.stop)

    async def _ask_once(self, asked: _Asked, prompt: str) -> Reply | str:
        started = time.perf_counter_ns()
        try:
            sent = prompt if asked.is_plain else asked.prompt.conversation(prompt)
            written = await self._engine.generate(sent, asked.sampling)
        except _RefusedPromptError as error:
            return f"the model does not take the prompt: {error}"
        return written._replace(latency_us=(time.perf_counter_ns() - started) // 1000)


class _RefusedPromptError(Exception):
    """This prompt will never be answered, others will; the message says why."""


class _Asked(AskedSpec):
    """How one spec is asked, sampling included."""

    def __init__(self, spec: AnnotationSpec) -> None:
        from vllm import SamplingParams
        from vllm.exceptions import VLLMError
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        super().__init__(spec)
        given: dict[str, Any] = {name: sampling_value(value) for name, value in spec.sampling.items()}
        if self.format.constrained:
            given["structured_outputs"] = StructuredOutputsParams(choice=list(self.format.words.values()))
        how = self.format.reads_probabilities
        self.is_plain = how is not None and how.plain
        if how is not None:
            given |= {"max_tokens": 1, "temperature": 0.0, "logprobs": MOST_LIKELY}
        try:
            self.sampling = SamplingParams(**given, output_kind=RequestOutputKind.FINAL_ONLY)
        except (TypeError, ValueError, VLLMError) as error:
            raise OnibusError(
                f"spec {spec.name}: [sampling] is not for vLLM: {_line(error)}; correct it"
            ) from error


@dataclass(slots=True)
class _Request:
    """One prompt on its way through the engine: a plain text, or the messages of a conversation."""

    prompt: str | list[dict[str, str]]
    sampling: Any
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    answer: asyncio.Future[Reply] = field(init=False)

    def __post_init__(self) -> None:
        self.answer = self.loop.create_future()

    def finish(self, outcome: Reply | Exception) -> None:
        """Hand the outcome to whoever waits, from the engine's thread."""
        self.loop.call_soon_threadsafe(self._settle, outcome)

    def _settle(self, outcome: Reply | Exception) -> None:
        if self.answer.done():  # given up meanwhile
            return
        if isinstance(outcome, Exception):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


class _EngineThread:
    """The thread that loads and steps the engine."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self._asked: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._running: dict[str, _Request] = {}
        self._numbers = itertools.count()
        self._stopping = threading.Event()
        self._failed: ModelRefusedError | None = None
        self._thread = threading.Thread(target=self._run, name="vllm", daemon=True)
        self._loaded: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Load the model.

        Raises:
            ModelRefusedError: it cannot be loaded.
        """
        self._loop = asyncio.get_running_loop()
        self._loaded = self._loop.create_future()
        self._thread.start()
        await self._loaded
        if self._failed is not None:
            raise self._failed

    async def generate(self, prompt: str | list[dict[str, str]], sampling: Any) -> Reply:
        """One answer, except how long it took.

        Raises:
            ModelRefusedError: the engine has failed, for everyone.
            _RefusedPromptError: the prompt cannot be answered.
        """
        if self._failed is not None:
            raise self._failed
        request = _Request(prompt, sampling)
        self._asked.put(request)
        if self._failed is not None:  # just now: no one may be there any more to take it
            raise self._failed
        return await request.answer

    def stop(self) -> None:
        """End the thread and give the model's memory back."""
        self._stopping.set()
        self._asked.put(None)
        if self._thread.is_alive():
            self._thread.join(_CLOSE_SECONDS)

    # --- in the thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        assert self._loop is not None
        assert self._loaded is not None
        engine = None
        try:
            engine = _load(self._given)
        except Exception as error:  # whatever it is, the one who waits must hear of it
            what = f"vLLM cannot run {self._given['model']}: {_line(error)}"
            self._failed = ModelRefusedError(f"{what}; correct the model")
        self._loop.call_soon_threadsafe(self._loaded.set_result, None)
        if engine is None:
            return
        try:
            while not self._stopping.is_set():
                self._take(engine)
                if self._running:
                    self._step(engine)
        except Exception as error:
            self._failed = ModelRefusedError(
                f"vLLM's engine failed: {_line(error)}; start the annotator again"
            )
            _log.debug("the engine failed", exc_info=True)
        finally:
            self._refuse_all()
            engine.engine_core.shutdown()

    def _take(self, engine: Any) -> None:
        """Give the engine all that was asked meanwhile; wait for something if it has nothing to do."""
        wait = not self._running
        while True:
            try:
                request = self._asked.get(timeout=_IDLE_SECONDS) if wait else self._asked.get_nowait()
            except queue.Empty:
                return
            if request is None:
                return
            wait = False
            self._add(engine, request)

    def _add(self, engine: Any, request: _Request) -> None:
        from vllm.exceptions import VLLMClientError

        try:
            number = str(next(self._numbers))
            engine.add_request(number, _rendered(engine, request.prompt), request.sampling)
        except (VLLMClientError, ValueError) as error:
            request.finish(_RefusedPromptError(_line(error)))
        else:
            self._running[number] = request

    def _step(self, engine: Any) -> None:
        for output in engine.step():
            if not output.finished:
                continue
            (written,) = output.outputs
            tokens_in, tokens_out = len(output.prompt_token_ids or ()), len(written.token_ids)
            is_cut = written.finish_reason == "length"
            likeliest = _likeliest(written.logprobs[0]) if written.logprobs else None
            self._running.pop(output.request_id).finish(
                Reply(written.text, tokens_in, tokens_out, 0, is_cut=is_cut, likeliest=likeliest)
            )

    def _refuse_all(self) -> None:
        reason = self._failed or ModelRefusedError("the annotator stops")
        waiting = list(self._running.values())
        while not self._asked.empty():
            if (request := self._asked.get_nowait()) is not None:
                waiting.append(request)
        for request in waiting:
            request.finish(reason)


def _load(given: Mapping[str, Any]) -> Any:
    """The engine, ready to be stepped by this thread."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.platforms import current_platform
    from vllm.v1.engine.llm_engine import LLMEngine

    settings = dict(given) | {"enable_prefix_caching": True, "max_model_len": -1, "disable_log_stats": True}
    if current_platform.is_cpu():
        settings |= {"dtype": "bfloat16", "block_size": CPU_BLOCK, "enforce_eager": True}
    return LLMEngine.from_engine_args(EngineArgs(**settings))


def _likeliest(tokens: Any) -> dict[str, float]:
    return likeliest_of((token.decoded_token or "", float(token.logprob)) for token in tokens.values())


def _rendered(engine: Any, prompt: str | list[dict[str, str]]) -> Any:
    """A conversation by the model's chat template, or a plain prompt as it is, in tokens."""
    from vllm.renderers.params import ChatParams

    renderer = engine.renderer
    if isinstance(prompt, str):
        (tokens,) = renderer.render_cmpl([{"prompt": prompt}], renderer.default_cmpl_tok_params)
        return tokens
    chat = ChatParams(chat_template_kwargs={"add_generation_prompt": True, "tokenize": False})
    _, (tokens,) = renderer.render_chat([prompt], chat, renderer.default_chat_tok_params)
    return tokens


def _line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300]
