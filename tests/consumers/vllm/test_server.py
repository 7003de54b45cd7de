"""``--llm openai`` against a real vLLM server, alive and killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from onibus.consumers.language_models.openai import OpenAIModel
from onibus.consumers.specs.spec_file import load_spec_file
from onibus.infra.settings import Settings, environment_of
from onibus.schemas import ids
from onibus.schemas.records import AnnotationSpec, Origin, Verdict
from tests.command import run_onibus, the_one_line
from tests.consumers.annotating import (
    Running,
    annotator,
    assert_each_exactly_once,
    label_keys,
    publish,
    records,
    wait_for_labels,
)
from tests.consumers.vllm.judging import (
    SPEC,
    TOO_LONG,
    WORDS,
    annotations,
    assert_only_the_long_one_was_given_up,
    fresh_captions,
)
from tests.consumers.vllm.serving import RunningServer
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@contextmanager
def judged_by(
    server: RunningServer, settings: Settings, spec: str = SPEC, concurrency: int = 64
) -> Iterator[tuple[Running, dict[bytes, AnnotationSpec]]]:
    """An annotator that asks the server, as the demo's do."""
    asked = load_spec_file(spec).for_model(server.server.name, server.server.revision)
    specs = {ids.spec_id(asked): asked}
    model = OpenAIModel(specs, server.server.base_url, "none", concurrency)
    with annotator(settings, specs=specs, model=model, most_under_way=concurrency) as running:
        yield running, specs


def test_captions_of_the_game_are_answered_in_the_words_of_the_spec(
    server: RunningServer, settings: Settings
) -> None:
    texts = fresh_captions()
    publish(settings, texts)
    with judged_by(server, settings) as (_, specs):
        wait_for_labels(settings, len(texts))
    assert_each_exactly_once(settings, specs, texts)
    found = annotations(settings)
    assert {a.raw_answer for a in found} <= WORDS
    assert {a.origin for a in found} == {Origin.LLM}
    assert min(a.tokens_in for a in found) > 50


def test_captions_are_judged_by_probabilities_as_people_judge_them(
    server: RunningServer, settings: Settings
) -> None:
    texts = {"You see here a key.": Verdict.HELPFUL, "It's a wall.": Verdict.UNHELPFUL}
    publish(settings, texts)
    with judged_by(server, settings, "keys-and-doors-probability"):
        wait_for_labels(settings, len(texts))
    found = {a.texts[0]: a for a in annotations(settings)}
    assert {text: a.verdict for text, a in found.items()} == texts
    assert all(a.probability is not None and a.tokens_out == 1 for a in found.values())


def test_a_prompt_that_is_too_long_costs_that_caption_alone_its_verdict(
    server: RunningServer, settings: Settings
) -> None:
    texts = [*fresh_captions()[:20], TOO_LONG]
    publish(settings, texts)
    with judged_by(server, settings):
        wait_for_labels(settings, len(texts))
    assert_only_the_long_one_was_given_up(settings)


def test_a_model_that_the_server_has_not_is_said_in_one_line(
    server: RunningServer, settings: Settings
) -> None:
    annotate = [
        "annotate",
        "--llm",
        "openai",
        "--base-url",
        server.server.base_url,
        "--model",
        "no-such-model",
    ]
    environment = environment_of(settings)
    said = run_onibus(*annotate, "--spec", SPEC, folder=settings.runs_dir, environment=environment)
    assert "no model no-such-model" in the_one_line(said)
    assert not records(settings, "labels")


def test_a_server_killed_in_the_middle_and_back_again_costs_nothing(
    server: RunningServer, settings: Settings
) -> None:
    texts = [f"You see here {n} keys." for n in range(80)]
    publish(settings, texts)
    with judged_by(server, settings, concurrency=32) as (_, specs):
        wait_until(lambda: len(label_keys(settings)) > 20, 60, "the first labels")
        server.kill()
        server.stop()
        wait_until(lambda: not server.processes(), 10, "no engine that outlives its server")
        before = len(label_keys(settings))
        assert before < len(texts), "the server was too fast to be killed in the middle"
        server.start()
        wait_for_labels(settings, len(texts), timeout=120)
    assert_each_exactly_once(settings, specs, texts)
    assert not records(settings, "dead-letters")
