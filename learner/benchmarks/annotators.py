"""Annotators: calls in vain, how busy they keep a model, how they scale, how soon a label is there.

The models are servers on loopback that wait and then answer, so that the annotators are measured, and the
annotators are the ``onibus annotate`` that users start.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import httpx
import numpy as np
from kafka import KafkaProducer

from consumers.annotation_specs import load_spec
from consumers.prompts import Prompt
from infra import clients
from infra.errors import OnibusError
from infra.settings import Settings, environment_of
from infra.topic_admin import create_topics
from infra.topics import TopicNames
from learner.benchmarks.model_server import ModelServer
from learner.benchmarks.result import Figure
from schemas import codec, ids
from schemas.records import CaptionObserved

CONCURRENCY = 64
LATENCY_SECONDS = 0.2
SCALE = (1, 2, 4, 8)
SCALE_SLOTS, SCALE_SECONDS = 4, 10.0
"""A model of four slots and 200 ms answers 20 captions a second."""
ARRIVALS, ARRIVAL_SECONDS, IDLE_LATENCY = 300, 0.1, 0.05
_PATIENCE_SECONDS = 180.0
_FIRST_PORT = 19_400


def measure(settings: Settings, captions: int) -> list[Figure]:
    """All of it; about three minutes with 4,000 captions."""
    return [
        *measure_client(_fresh(settings), captions),
        *measure_scale(settings),
        *measure_latency(_fresh(settings)),
    ]


def measure_client(settings: Settings, captions: int) -> list[Figure]:
    """Calls a caption, and how busy the model is kept, beside a bare asyncio client with the same prompts."""
    texts = [f"You see here {n} arrows." for n in range(captions)]
    with _server() as server:
        bare = asyncio.run(_ask_bare(server.url, texts))
        server.forget()
        with _annotator(settings, "a1", server):
            _wait(lambda: len(server.answered) > 0, "the annotator's question of the start")
            server.forget()
            _publish(settings, texts)
            _wait(lambda: len(server.answered) == captions, "every caption to be asked about")
            ours = server.last - server.first
        calls = server.requests
    ideal = captions * LATENCY_SECONDS / CONCURRENCY
    return [
        Figure.at_most("calls to the model ÷ distinct captions, no faults", calls / captions, "ratio", 1.0),
        Figure(f"bare client, {CONCURRENCY} at a time, {LATENCY_SECONDS:g} s", captions / bare, "prompts/s"),
        Figure("annotator, the same prompts", captions / ours, "prompts/s"),
        Figure.at_least("annotator ÷ bare client", bare / ours, "ratio", 0.95),
        Figure.at_least("share of its concurrency that is busy", ideal / ours, "ratio", 0.95),
    ]


def measure_scale(settings: Settings) -> list[Figure]:
    """Labels a second of 1, 2, 4, 8 annotators, each with a model of its own that is the bottleneck."""
    rates = {count: _scaled(_fresh(settings), count) for count in SCALE}
    figures = [
        Figure(f"{count} annotators, each bound by its model", r, "labels/s") for count, r in rates.items()
    ]
    most = max(SCALE)
    efficiency = rates[most] / (most * rates[1])
    return [*figures, Figure.at_least(f"efficiency at {most}", efficiency, "ratio", 0.95)]


def measure_latency(settings: Settings) -> list[Figure]:
    """From publishing a caption to reading its committed label, with an idle model of 50 ms."""
    names = TopicNames(settings.topic_prefix)
    with _server(latency=IDLE_LATENCY) as server, _annotator(settings, "a1", server):
        _publish(settings, ["The first one, which everything is warmed up by."])
        reader = clients.consumer(settings, names.labels, fetch_max_wait_ms=50)
        _wait(lambda: bool(reader.poll(timeout_ms=50)), "the first label")
        sender = clients.producer(settings, linger_ms=0)
        sent: dict[bytes, float] = {}
        seen: dict[bytes, float] = {}
        due = time.monotonic()
        while len(seen) < ARRIVALS:
            if len(sent) < ARRIVALS and time.monotonic() >= due:
                text = f"You hear {len(sent)} bells."
                sent[ids.caption_id(text)] = time.monotonic()
                _send(settings, sender, text)
                due += ARRIVAL_SECONDS
            for records in reader.poll(timeout_ms=10).values():
                seen |= {r.key[8:]: time.monotonic() for r in records if r.key[8:] in sent}
            if time.monotonic() > due + _PATIENCE_SECONDS:
                raise OnibusError("labels did not arrive; look at the annotator's messages above")
        sender.close()
        reader.close()
    p50, p99 = np.quantile([1000 * (seen[key] - sent[key]) for key in sent], [0.5, 0.99])
    return [
        Figure.at_most("publish → committed label read, 50 ms model, p50", float(p50), "ms", 150),
        Figure.at_most("publish → committed label read, 50 ms model, p99", float(p99), "ms", 500),
    ]


def _scaled(settings: Settings, count: int) -> float:
    """Labels a second of all, while all have work."""
    rate = SCALE_SLOTS / LATENCY_SECONDS
    texts = [f"You see here {n} arrows." for n in range(int(1.6 * count * rate * SCALE_SECONDS))]
    with ExitStack() as stack:
        servers = [stack.enter_context(_server(k, at_once=SCALE_SLOTS)) for k in range(count)]
        for k, server in enumerate(servers):
            stack.enter_context(_annotator(settings, f"a{k}", server, concurrency=2 * SCALE_SLOTS))
        for server in servers:
            _wait(lambda own=server: own.requests > 0, "every annotator to be up")  # type: ignore[misc]
        _publish(settings, texts)
        for server in servers:
            _wait(lambda own=server: len(own.answered) > 1, "every annotator to work")  # type: ignore[misc]
        before, started = sum(len(s.answered) for s in servers), time.monotonic()
        _wait(lambda: time.monotonic() > started + SCALE_SECONDS, "the time to pass")
        answered = sum(len(s.answered) for s in servers) - before
        return answered / (time.monotonic() - started)


async def _ask_bare(url: str, texts: Sequence[str]) -> float:
    """Seconds that the same prompts take without anything around them."""
    spec = load_spec("goals", "m")
    prompt, sampling = Prompt(spec), {"temperature": 0.1, "max_tokens": 160}
    bodies = [
        {"model": "m", "messages": [{"role": "user", "content": prompt.text(text)}], **sampling}
        for text in texts
    ]
    free = asyncio.Semaphore(CONCURRENCY)
    limits = httpx.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
    async with httpx.AsyncClient(limits=limits, timeout=30, trust_env=False) as client:

        async def ask(body: object) -> None:
            async with free:
                (await client.post(f"{url}/chat/completions", json=body)).json()

        started = time.monotonic()
        await asyncio.gather(*(ask(body) for body in bodies))
        return time.monotonic() - started


@contextmanager
def _server(
    number: int = 0, latency: float = LATENCY_SECONDS, at_once: int | None = None
) -> Iterator[ModelServer]:
    server = ModelServer(_FIRST_PORT + number, at_once)
    server.behaviour.latency_seconds = latency
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def _annotator(
    settings: Settings, name: str, server: ModelServer, concurrency: int = CONCURRENCY
) -> Iterator[None]:
    command = [
        sys.executable, "-m", "infra.cli", "annotate", "--llm", "openai", "--base-url", server.url,
        "--model", "m", "--name", name, "--concurrency", str(concurrency),
    ]  # fmt: skip
    process = subprocess.Popen(command, env=os.environ | environment_of(settings), stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


def _fresh(settings: Settings) -> Settings:
    """The same cluster, with topics of its own."""
    own = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}{uuid.uuid4().hex[:6]}."})
    create_topics(own)
    return own


def _publish(settings: Settings, texts: Sequence[str]) -> None:
    sender = clients.producer(settings)
    for text in texts:
        _send(settings, sender, text)
    sender.flush()
    sender.close()


def _send(settings: Settings, sender: KafkaProducer, text: str) -> None:
    caption_id = ids.caption_id(text)
    observed = CaptionObserved(text, "score", "bench", 0, 0, 0, 1, -1, time.time_ns() // 1000)
    partition = ids.caption_partition(caption_id, settings.partitions)
    topic = TopicNames(settings.topic_prefix).captions
    sender.send(topic, key=caption_id, value=codec.encode(observed), partition=partition)


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise OnibusError(f"waited {_PATIENCE_SECONDS:g} s for {what}; look at the messages above")
        time.sleep(0.02)
