"""What tests of ``--llm openai`` share: a model, questions to it, and the caption in a request."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from onibus.consumers.language_models.base import Answer, Question
from onibus.consumers.language_models.openai import OpenAIModel
from onibus.consumers.specs.spec_file import load_spec
from onibus.schemas.records import AnnotationSpec

SPEC = b"testspec"
GOOD = "analysis: because.\nverdict: helpful"


def model(
    url: str,
    spec: AnnotationSpec | None = None,
    concurrency: int = 8,
    request_seconds: float = 20.0,
    pauses: list[float] | None = None,
) -> OpenAIModel:
    async def at_once(seconds: float) -> None:
        if pauses is not None:
            pauses.append(seconds)
        await asyncio.sleep(0)

    specs = {SPEC: spec or load_spec("goals", "m")}
    return OpenAIModel(specs, url, "secret-key", concurrency, request_seconds, sleep=at_once)


def ask(asked: OpenAIModel, *texts: str) -> list[Answer]:
    async def all_of_them() -> list[Answer]:
        try:
            return await asyncio.gather(*(asked.answer(Question(SPEC, text)) for text in texts))
        finally:
            await asked.close()

    return asyncio.run(all_of_them())


def check(asked: OpenAIModel) -> None:
    async def checked() -> None:
        try:
            await asked.check()
        finally:
            await asked.close()

    asyncio.run(checked())


def caption_in(request: dict[str, Any]) -> str:
    prompt: str = request["messages"][0]["content"]
    caption: str = json.loads(prompt.split("<message>")[1].split("</message>")[0])
    return caption
