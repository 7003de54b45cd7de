"""What benchmarks with annotators share: those that run, captions for them, their use of the processor."""

from __future__ import annotations

import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import psutil
from kafka import KafkaProducer

from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.kafka.topic_admin import create_topics
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.process.components import Component, Supervisor
from onibus.infra.reward_kinds import reward_kind
from onibus.infra.settings import Settings, environment_of
from onibus.learner.options import default_specs
from onibus.schemas import codec, ids
from onibus.schemas.records import CaptionObserved

PATIENCE_SECONDS = 180.0
_IDLE_CORES = 0.1
_STOP_SECONDS = 20.0
_READY_SECONDS = 120.0


@contextmanager
def annotator(settings: Settings, name: str, flags: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """The ``onibus annotate`` that users start, stopped at the end."""
    all_of_the_log = ("--backlog", "all", "--yes")
    log = settings.runs_dir / f"bench-annotate-{name}.log"
    started = Component(f"annotator {name}", ("annotate", "--name", name, *all_of_the_log, *flags), log)
    started.start(environment_of(settings))
    try:
        assert started.process is not None
        yield started.process
    finally:
        started.ask_to_stop()
        started.wait_stopped(_STOP_SECONDS)


@contextmanager
def judges(settings: Settings, task: str, rewards: Iterable[str]) -> Iterator[None]:
    """Annotators by rules and trainers, as many as these rewards of a task need, while the block runs."""
    specs = {reward: default_specs(task, reward)[0].name for reward in rewards if reward != "none"}
    supervisor = Supervisor(environment_of(settings))
    try:
        for name in sorted(set(specs.values())):
            flags = ("annotate", "--spec", name, "--name", f"bench-{name}")
            supervisor.start([Component("annotator", flags, settings.runs_dir / f"bench-{name}.log")])
        supervisor.wait_ready(_READY_SECONDS, threading.Event())
        for reward, name in specs.items():
            if reward_kind(reward).trainer:
                log = settings.runs_dir / f"bench-trainer-{reward}.log"
                supervisor.start([Component("trainer", ("train-reward", "--spec", name), log)])
        supervisor.wait_ready(_READY_SECONDS, threading.Event())
        yield
    finally:
        supervisor.stop()


def fresh(settings: Settings) -> Settings:
    """The same cluster, with topics of its own."""
    own = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}{uuid.uuid4().hex[:6]}."})
    create_topics(own)
    return own


def publish(settings: Settings, texts: Iterable[str]) -> None:
    """Put captions on the bus, all at once."""
    with clients.producer(settings) as sender:
        for text in texts:
            send(settings, sender, text)
        sender.flush()


def send(settings: Settings, sender: KafkaProducer, text: str) -> None:
    """Put one caption on the bus."""
    caption_id = ids.caption_id(text)
    observed = CaptionObserved(text, "score", "bench", 0, 0, 0, 1, -1, time.time_ns() // 1000)
    partition = ids.caption_partition(caption_id, settings.partitions)
    topic = TopicNames(settings.topic_prefix).captions
    sender.send(topic, key=caption_id, value=codec.encode(observed), partition=partition)


def cpu_seconds_of(process: subprocess.Popen[bytes]) -> float:
    """Processor time that it has used."""
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)


def wait_until_idle(process: subprocess.Popen[bytes]) -> None:
    """Until it has joined its group and restored its partitions, and so hardly uses the processor."""
    state = {"at": time.monotonic(), "used": cpu_seconds_of(process)}

    def is_idle() -> bool:
        if time.monotonic() < state["at"] + 1.0:
            return False
        before, state["at"], state["used"] = state["used"], time.monotonic(), cpu_seconds_of(process)
        return state["used"] - before < _IDLE_CORES

    wait(is_idle, "the annotator to be ready")


def wait(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, not forever.

    Raises:
        OnibusError: it did not come about.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise OnibusError(
                f"waited {PATIENCE_SECONDS:g} s for {what}; see bench-annotate-*.log in the folder of runs"
            )
        time.sleep(0.02)
