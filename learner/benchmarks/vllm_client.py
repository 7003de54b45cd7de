"""Does our client keep a real vLLM server as busy as a bare one does? The same prompts, side by side."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence

import httpx

from consumers.annotation_specs import AnswerFormat, load_spec_file
from consumers.asking import Asking
from consumers.language_model import Question
from consumers.openai_model import OpenAIModel, api_key
from consumers.prompts import Prompt
from infra.errors import OnibusError
from infra.vllm_server import VllmServer
from learner.benchmarks.result import Figure
from schemas import ids

SPEC = "goals-one-word"
_WARM_UP = 200
_WAIT_SECONDS = 30.0


def measure(server: VllmServer, prompts: int, concurrency: int, rounds: int) -> list[Figure]:
    """Prompts a second through the annotator's client and through bare HTTP, in turns; their ratio.

    Raises:
        OnibusError: the server does not answer.
    """
    _bare(server, _captions("warm-up", _WARM_UP), concurrency)
    bare, ours = [], []
    for number in range(rounds):
        bare.append(prompts / _bare(server, _captions(f"b{number}", prompts), concurrency))
        ours.append(prompts / _ours(server, _captions(f"o{number}", prompts), concurrency))
    ratio = statistics.median(our / their for our, their in zip(ours, bare, strict=True))
    return [
        Figure("prompts a second, bare asyncio client", statistics.median(bare), "1/s"),
        Figure("prompts a second, the annotator's client", statistics.median(ours), "1/s"),
        Figure.at_least("the annotator's client ÷ bare client", ratio, "ratio", 0.95),
    ]


def _captions(run: str, count: int) -> list[str]:
    """Different ones each time, or the server would know the answers' prompts already."""
    return [f"You see here {n} scrolls labeled {run}." for n in range(count)]


def _ours(server: VllmServer, captions: Sequence[str], concurrency: int) -> float:
    """Seconds for all captions by the parts that an annotator asks with."""
    spec = load_spec_file(SPEC).for_model(server.name, server.revision)
    spec_id = ids.spec_id(spec)
    asking = Asking(OpenAIModel({spec_id: spec}, server.base_url, api_key(), concurrency))
    asking.start()
    try:
        began = time.perf_counter()
        left = iter(captions)
        under_way = answered = 0
        while answered < len(captions):
            asked = [Question(spec_id, c) for _, c in zip(range(concurrency - under_way), left, strict=False)]
            asking.ask(asked)
            answers = asking.answers(_WAIT_SECONDS)
            if not answers or any(answer.given_up for answer in answers):
                raise OnibusError(f"{server.base_url} does not answer; see its log")
            answered += len(answers)
            under_way += len(asked) - len(answers)
        return time.perf_counter() - began
    finally:
        asking.stop()


def _bare(server: VllmServer, captions: Sequence[str], concurrency: int) -> float:
    """Seconds for all captions by plain HTTP requests."""
    file = load_spec_file(SPEC)
    prompt = Prompt(file.for_model(server.name))
    choice = list(AnswerFormat.model_validate(file.answer).words.values())
    bodies = [
        {
            "model": server.name,
            "messages": [{"role": "user", "content": prompt.text(caption)}],
            "structured_outputs": {"choice": choice},
            **file.sampling,
        }
        for caption in captions
    ]

    async def ask_all() -> float:
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        async with httpx.AsyncClient(timeout=_WAIT_SECONDS, limits=limits) as client:
            left = iter(bodies)

            async def ask_on() -> None:
                for body in left:
                    (await client.post(f"{server.base_url}/chat/completions", json=body)).raise_for_status()

            began = time.perf_counter()
            await asyncio.gather(*(ask_on() for _ in range(concurrency)))
            return time.perf_counter() - began

    try:
        return asyncio.run(ask_all())
    except httpx.HTTPError as error:
        raise OnibusError(f"{server.base_url} does not answer: {error}; see its log") from error
