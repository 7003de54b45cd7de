"""Annotators: calls in vain, how busy they keep a model, how they scale, how soon a label is there.

The models are servers on loopback that wait and then answer, so that the annotators are measured, and the
annotators are the ``onibus annotate`` that users start.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import numpy as np

from onibus.consumers.specs.prompts import Prompt
from onibus.consumers.specs.spec_file import load_spec
from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.learner.benchmarks.annotator_run import (
    PATIENCE_SECONDS,
    annotator,
    cpu_seconds_of,
    fresh,
    publish,
    send,
    wait,
    wait_until_idle,
)
from onibus.learner.benchmarks.bare_client import (
    ask_with_aiohttp,
    ask_with_httpx,
    in_a_process,
    request_bodies,
)
from onibus.learner.benchmarks.model_server import ModelServer
from onibus.learner.benchmarks.result import Figure
from onibus.schemas import ids

CONCURRENCY = 64
LATENCY_SECONDS = 0.2
SCALE = (1, 2, 4, 8)
SCALE_SLOTS, SCALE_SECONDS = 4, 10.0
"""A model of four slots and 200 ms answers 20 captions a second."""
ARRIVALS, ARRIVAL_SECONDS, IDLE_LATENCY = 300, 0.1, 0.05
NEWEST = 100
_FIRST_PORT = 19_400


def measure(settings: Settings, captions: int, backlog: int) -> list[Figure]:
    """All of it; about five minutes with 4,000 captions and a backlog of a million."""
    return [
        *measure_client(fresh(settings), captions),
        *measure_scale(settings),
        *measure_latency(fresh(settings)),
        *measure_backlog(fresh(settings), backlog),
    ]


def measure_client(settings: Settings, captions: int) -> list[Figure]:
    """Calls a caption, and how busy the model is kept, beside bare asyncio clients with the same prompts.

    The processor time of a question is the steady figure where others use the machine as well: how busy the
    model is kept depends on who else wants the cores, the broker and the server itself among them.
    """
    texts = [f"You see here {n} arrows." for n in range(captions)]
    with _server() as server:
        prompt, address = Prompt(load_spec("goals", "m")), f"{server.url}/chat/completions"
        bodies = request_bodies(prompt, "m", texts, temperature=0.1, max_tokens=1024)
        fewer = bodies[: captions // 4]  # httpx takes its time
        bare = in_a_process(ask_with_aiohttp, address, bodies, CONCURRENCY)
        httpx = in_a_process(ask_with_httpx, address, fewer, CONCURRENCY)
        server.forget()
        with _annotator(settings, "a1", server) as process:
            wait(lambda: len(server.answered) > 0, "the annotator's question of the start")
            server.forget()
            wait_until_idle(process)
            before = cpu_seconds_of(process)
            publish(settings, texts)
            wait(lambda: len(server.answered) == captions, "every caption to be asked about")
            cpu_seconds, ours = cpu_seconds_of(process) - before, server.last - server.first
        calls = server.requests
    ideal = captions * LATENCY_SECONDS / CONCURRENCY
    return [
        Figure.at_most("calls to the model ÷ distinct captions, no faults", calls / captions, "ratio", 1.0),
        Figure(
            f"bare aiohttp, {CONCURRENCY} at a time, {LATENCY_SECONDS:g} s", captions / bare.seconds, "1/s"
        ),
        Figure("bare httpx, the same", len(fewer) / httpx.seconds, "1/s"),
        Figure("annotator, the same prompts", captions / ours, "1/s"),
        Figure("processor time of a question, bare aiohttp", 1e6 * bare.cpu_seconds / captions, "µs"),
        Figure("… bare httpx", 1e6 * httpx.cpu_seconds / len(fewer), "µs"),
        Figure("… annotator, from Kafka to Kafka", 1e6 * cpu_seconds / captions, "µs"),
        Figure.at_least("annotator ÷ bare aiohttp", bare.seconds / ours, "ratio", 0.95),
        Figure("share of its concurrency that is busy, bare aiohttp", ideal / bare.seconds, "ratio"),
        Figure.at_least("share of its concurrency that is busy", ideal / ours, "ratio", 0.95),
    ]


def measure_scale(settings: Settings) -> list[Figure]:
    """Labels a second of 1, 2, 4, 8 annotators, each with a model of its own that is the bottleneck."""
    rates = {count: _scaled(fresh(settings), count) for count in SCALE}
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
        publish(settings, ["The first one, which everything is warmed up by."])
        reader = clients.consumer(settings, names.labels, fetch_max_wait_ms=50)
        wait(lambda: bool(reader.poll(timeout_ms=50)), "the first label")
        sender = clients.producer(settings, linger_ms=0)
        sent: dict[bytes, float] = {}
        seen: dict[bytes, float] = {}
        due = time.monotonic()
        while len(seen) < ARRIVALS:
            if len(sent) < ARRIVALS and time.monotonic() >= due:
                text = f"You hear {len(sent)} bells."
                sent[ids.caption_id(text)] = time.monotonic()
                send(settings, sender, text)
                due += ARRIVAL_SECONDS
            for records in reader.poll(timeout_ms=10).values():
                seen |= {r.key[8:]: time.monotonic() for r in records if r.key[8:] in sent}
            if time.monotonic() > due + PATIENCE_SECONDS:
                raise OnibusError("labels did not arrive; look at the annotator's messages above")
        sender.close()
        reader.close()
    p50, p99 = np.quantile([1000 * (seen[key] - sent[key]) for key in sent], [0.5, 0.99])
    return [
        Figure.at_most("publish → committed label read, 50 ms model, p50", float(p50), "ms", 150),
        Figure.at_most("publish → committed label read, 50 ms model, p99", float(p99), "ms", 500),
    ]


def measure_backlog(settings: Settings, backlog: int) -> list[Figure]:
    """How soon an annotator that starts with a backlog has judged what came last, with a model of 50 ms."""
    newest = [f"You hear {n} bells." for n in range(NEWEST)]
    publish(settings, (f"You see here {n} arrows." for n in range(backlog)))
    publish(settings, newest)
    wanted = {ids.caption_id(text) for text in newest}
    reader = clients.consumer(settings, TopicNames(settings.topic_prefix).labels)
    began, joined = time.monotonic(), 0.0
    with _server(latency=IDLE_LATENCY) as server, _annotator(settings, "a1", server):
        while wanted:
            for records in reader.poll(timeout_ms=50).values():
                wanted -= {r.key[8:] for r in records}
            joined = joined or (time.monotonic() - began if server.requests > 1 else 0.0)
            if time.monotonic() > began + PATIENCE_SECONDS:
                raise OnibusError("labels did not arrive; look at the annotator's messages above")
        seconds = time.monotonic() - began
    reader.close()
    return [
        Figure(f"start with {backlog:,} captions waiting → first question about one", joined, "s"),
        Figure.at_most(
            f"start with {backlog:,} captions waiting → the newest {NEWEST} labelled", seconds, "s", 10
        ),
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
            wait(lambda own=server: own.requests > 0, "every annotator to be up")  # type: ignore[misc]
        publish(settings, texts)
        for server in servers:
            wait(lambda own=server: len(own.answered) > 1, "every annotator to work")  # type: ignore[misc]
        before, started = sum(len(s.answered) for s in servers), time.monotonic()
        wait(lambda: time.monotonic() > started + SCALE_SECONDS, "the time to pass")
        answered = sum(len(s.answered) for s in servers) - before
        return answered / (time.monotonic() - started)


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


def _annotator(
    settings: Settings, name: str, server: ModelServer, concurrency: int = CONCURRENCY
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    flags = ["--llm", "openai", "--base-url", server.url, "--model", "m"]
    return annotator(settings, name, [*flags, "--concurrency", str(concurrency)])
