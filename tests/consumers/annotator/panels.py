"""What tests of panels share: judges as real HTTP servers, and what stands on the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from onibus.consumers.annotator.options import AnnotateOptions
from onibus.consumers.annotator.panel_file import PanelFile
from onibus.consumers.annotator.run import annotation_specs, language_model
from onibus.consumers.language_models.base import Answer, Question
from onibus.consumers.language_models.panel import PanelModel
from onibus.consumers.specs.spec_file import load_spec_file
from onibus.infra.settings import Settings
from onibus.schemas import codec
from onibus.schemas.records import AnnotationSpec, Label, Verdict
from tests.consumers.annotating import records
from tests.consumers.chat_server import ChatServer, Reply, chat_server

YES, NO, UNSURE = Verdict.HELPFUL, Verdict.UNHELPFUL, Verdict.UNSURE
SPEC = "keys-and-doors-one-word"
GOLD = [f"You see here {number} gold pieces." for number in range(12)]
WALLS = [f"It's a wall, number {number}." for number in range(12)]


def says(helpful: Callable[[str], bool]) -> Callable[[dict[str, Any]], Reply]:
    words = load_spec_file(SPEC).answer.words

    def reply(body: dict[str, Any]) -> Reply:
        return 200, words[YES if helpful(str(body["messages"][-1])) else NO]

    return reply


def about_gold(prompt: str) -> bool:
    return "gold pieces" in prompt


@contextmanager
def servers(*replies: Callable[[dict[str, Any]], Reply]) -> Iterator[list[ChatServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(chat_server(reply)) for reply in replies]


def options_for(running: list[ChatServer], **changes: Any) -> AnnotateOptions:
    judges = [
        {"model": f"model-{n}", "base_url": server.url, "price_in": n + 1.0}
        for n, server in enumerate(running)
    ]
    return AnnotateOptions(specs=(SPEC,), panel=PanelFile.model_validate({"judge": judges}), **changes)


def panel_of(
    running: list[ChatServer], patience: float = 60.0, quorum: int | None = None, **changes: Any
) -> tuple[dict[bytes, AnnotationSpec], PanelModel]:
    options, files = options_for(running, **changes), [load_spec_file(SPEC)]
    model = language_model(files, options)
    assert isinstance(model, PanelModel)
    return annotation_specs(files, options), PanelModel(model._seats, patience, quorum)


def asked(panel: PanelModel, spec_id: bytes, text: str) -> Answer:
    async def ask() -> Answer:
        try:
            return await panel.answer(Question(spec_id, text))
        finally:
            await panel.close()

    return asyncio.run(ask())


def labels(settings: Settings) -> dict[bytes, Label]:
    return {r.key[8:]: codec.decode(Label, r.value) for r in records(settings, "labels")}
