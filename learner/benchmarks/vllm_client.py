"""Does our client keep a real vLLM server as busy as a bare one does? The same prompts, side by side."""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections.abc import Sequence

import aiohttp

from onibus.consumers.annotator.model_thread import Asking
from onibus.consumers.language_models.api_keys import api_key
from onibus.consumers.language_models.base import Question
from onibus.consumers.language_models.openai import OpenAIModel
from onibus.consumers.specs.answer_format import AnswerFormat
from onibus.consumers.specs.prompts import Prompt
from onibus.consumers.specs.spec_file import load_spec_file
from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.observability.scraping import Scrape, scrape
from onibus.infra.settings import Settings
from onibus.infra.vllm.server import VllmServer
from onibus.learner.benchmarks.annotator_run import annotator, cpu_seconds_of, publish, wait
from onibus.learner.benchmarks.bare_client import ask_with_aiohttp, in_a_process, request_bodies
from onibus.learner.benchmarks.result import Figure
from onibus.schemas import codec, ids
from onibus.schemas.records import Annotation

SPEC = "goals-one-word"
_WARM_UP = 200
_WAIT_SECONDS = 30.0


def measure(
    settings: Settings, server: VllmServer, prompts: int, concurrency: int, rounds: int
) -> list[Figure]:
    """Prompts a second through an annotator and through bare HTTP, in turns; their ratio.

    And the share of the tokens of all prompts, but those of the warm-up, that were in vLLM's prefix cache.

    Raises:
        OnibusError: the server does not answer.
    """
    _bare(server, _captions("warm-up", _WARM_UP), concurrency)
    bare, client, whole, cpu = [], [], [], []
    flags = [*server.judge_flags(), "--spec", SPEC, "--concurrency", str(concurrency)]
    with annotator(settings, "a1", flags) as process:
        _whole(settings, _captions("first", _WARM_UP))
        before = scrape([server.port])
        for number in range(rounds):
            bare.append(prompts / _bare(server, _captions(f"b{number}", prompts), concurrency))
            client.append(prompts / _ours(server, _captions(f"o{number}", prompts), concurrency))
            used = cpu_seconds_of(process)
            whole.append(prompts / _whole(settings, _captions(f"w{number}", prompts)))
            cpu.append(1e6 * (cpu_seconds_of(process) - used) / prompts)
        after = scrape([server.port])
    return [
        Figure("prompts a second, bare asyncio client", statistics.median(bare), "1/s"),
        Figure("prompts a second, the annotator's client", statistics.median(client), "1/s"),
        Figure("prompts a second, the annotator, from Kafka to Kafka", statistics.median(whole), "1/s"),
        Figure.at_least("the annotator's client ÷ bare client", _ratio(client, bare), "ratio", 0.95),
        Figure.at_least("the annotator ÷ bare client", _ratio(whole, bare), "ratio", 0.95),
        Figure("processor time of a question, the annotator", statistics.median(cpu), "µs"),
        Figure("prompt tokens found in the prefix cache", 100 * cached_share(before, after), "%"),
    ]


def cached_share(before: Scrape, after: Scrape) -> float:
    """The share of prompt tokens between two readings of a server's metrics."""
    hits, asked = (
        after.total(name) - before.total(name)
        for name in ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total")
    )
    return hits / asked if asked else math.nan


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(our / their for our, their in zip(ours, theirs, strict=True))


def _captions(run: str, count: int) -> list[str]:
    """Different ones each time, or the server would know the answers' prompts already."""
    return [f"You see here {n} scrolls labeled {run}." for n in range(count)]


def _ours(server: VllmServer, captions: Sequence[str], concurrency: int) -> float:
    """Seconds for all captions by the parts that an annotator asks with."""
    spec = load_spec_file(SPEC).for_model(server.name, server.revision)
    spec_id = ids.spec_id(spec)
    asking = Asking(OpenAIModel({spec_id: spec}, server.base_url, api_key(), concurrency))
    asking.start(threading.Event())
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
    file, address = load_spec_file(SPEC), f"{server.base_url}/chat/completions"
    choice = list(AnswerFormat.model_validate(file.answer).words.values())
    further = {"structured_outputs": {"choice": choice}, **file.sampling}
    bodies = request_bodies(Prompt(file.for_model(server.name)), server.name, captions, **further)
    try:
        return in_a_process(ask_with_aiohttp, address, bodies, concurrency).seconds
    except aiohttp.ClientError as error:
        raise OnibusError(f"{server.base_url} does not answer: {error}; see its log") from error


def _whole(settings: Settings, captions: Sequence[str]) -> float:
    """Seconds from a running annotator's first request to its last answer."""
    publish(settings, captions)
    topic = TopicNames(settings.topic_prefix).annotations
    wanted, found = set(captions), dict[str, Annotation]()
    with clients.consumer(settings, topic) as reader:

        def have_all() -> bool:
            for records in reader.poll(timeout_ms=200).values():
                for record in records:
                    annotation = codec.decode(Annotation, record.value)
                    if annotation.texts[0] in wanted:
                        found[annotation.texts[0]] = annotation
            return len(found) == len(wanted)

        wait(have_all, "every caption to be answered")
    first = min(a.annotated_at - a.latency_us for a in found.values())
    return (max(a.annotated_at for a in found.values()) - first) / 1e6
