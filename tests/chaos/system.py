"""A whole annotating system to be hurt: a model server, a load of captions, annotators as processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from kafka import KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.kafka.topic_admin import create_topics
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.kafka.transactions import give_up
from onibus.infra.settings import Settings, environment_of, load_settings
from onibus.learner.benchmarks.model_server import ModelServer
from onibus.schemas import codec, ids
from onibus.schemas.records import CaptionObserved
from tests.chaos import checker
from tests.command import Running, start_onibus
from tests.ports import free_port
from tests.waiting import wait_until

SESSION_SECONDS = 6.0
"""The least that brokers allow if nobody tells them otherwise."""
REQUEST_SECONDS = 4.0
CONCURRENCY = 32
_GROUP = "chaos"
_BURST = 250


class System:
    """Annotators by name, and what they work on.

    Args:
        settings: for the cluster, with a prefix of its own; the topics exist.
        folder: for the annotators' logs.
        captions: how many distinct ones are published, at about ``rate`` a second, once told to.
    """

    def __init__(self, settings: Settings, folder: Path, captions: int, rate: float) -> None:
        self.settings, self._folder, self._rate = settings, folder, rate
        self.model = ModelServer(free_port())
        self.kills = self.revived = 0
        self._running: dict[str, Running] = {}
        self._texts = [
            f"You see here {n} arrows, and kill the newt number {n % 977}." for n in range(captions)
        ]
        self._producer: KafkaProducer | None = None
        self._load_error: BaseException | None = None
        self._load = threading.Thread(target=self._publish_all, name="load")

    def publish(self) -> None:
        """Begin to publish the load."""
        self._load.start()

    @property
    def captions(self) -> list[str]:
        """The distinct ones."""
        return self._texts

    def publish_under_another_clock(self, captions: int) -> None:
        """Publish further captions as rollout workers do, with a clock wrong by ``CLOCK_SECONDS``."""
        environment = os.environ | environment_of(self.settings) | {"PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", "tests.producers.publishing.sending", str(captions)]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=90, check=True
        )
        assert done.stdout == f"{captions} published, 0 dropped\n", done.stderr

    # --- annotators -----------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """The annotators that run."""
        return list(self._running)

    def start(self, name: str, *flags: str, module: str = "onibus", started: bool = False) -> None:
        """Start an annotator; ``flags`` on top of the usual ones."""
        command = [
            "annotate", "--llm", "openai", "--model", "m", "--group", _GROUP,
            "--base-url", self.model.url, "--name", name, "--concurrency", str(CONCURRENCY),
            "--session-timeout", str(SESSION_SECONDS), "--request-timeout", str(REQUEST_SECONDS),
            "--backlog", "all", "--yes", *flags,
        ]  # fmt: skip
        environment = environment_of(self.settings)
        with self._log(name).open("ab") as log:
            self._running[name] = start_onibus(
                *command, module=module, started=started, environment=environment, stdout=log, stderr=log
            )

    def wait_ready(self) -> None:
        """Wait until every annotator has said that it is ready; they share the partitions out meanwhile."""
        wait_until(
            lambda: all("ready: " in self._log(name).read_text() for name in self.names),
            90,
            "annotators to be ready",
        )

    def kill(self, name: str) -> None:
        """kill -9."""
        self.kills += 1
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def kill_parent(self, name: str) -> None:
        """kill -9 of an annotator with --workers, whose workers must then end by themselves."""
        workers = psutil.Process(self._running[name].pid).children(recursive=True)
        assert workers
        self.kill(name)
        wait_until(lambda: not any(worker.is_running() for worker in workers), 20, "its workers to end")

    def stop(self, name: str) -> None:
        """SIGTERM, after which it must end cleanly within ten seconds."""
        process = self._running.pop(name)
        process.terminate()
        try:
            code = process.wait(timeout=12)  # two for a busy machine
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = None
        assert code == 0, f"annotator {name} ended with {code}:\n{self._log(name).read_text()[-2000:]}"

    def commit_beyond_the_end(self, offsets: int) -> None:
        """Have the group's offsets lie beyond the log's end, as after a disk was restored."""
        servers, prefix, group = self._names()
        _, ends = checker.offsets(servers, f"{prefix}captions", group)
        beyond = {
            TopicPartition(f"{prefix}captions", p): OffsetAndMetadata(end + offsets, "", -1)
            for p, end in ends.items()
        }
        with clients.admin(self.settings) as client:
            client.alter_group_offsets(group, beyond)

    def signal(self, name: str, number: int) -> None:
        """Send any signal."""
        self._running[name].send_signal(number)

    def revive(self) -> None:
        """Start those anew that ended by themselves (a zombie that was fenced may)."""
        for name, process in list(self._running.items()):
            if process.poll() is not None:
                del self._running[name]
                self.revived += 1
                self.start(name)

    def exit_code(self, name: str) -> int | None:
        """With what an annotator ended by itself; None while it runs."""
        return self._running[name].poll()

    def log(self, name: str) -> str:
        """What an annotator has written, over all its lives."""
        return self._log(name).read_text()

    # --- the end ----------------------------------------------------------------------------------------

    def finish(self, timeout: float) -> checker.Findings:
        """Wait until nothing is left to do, stop everything, and look at what is on the topics."""
        self._load.join(timeout)
        assert not self._load.is_alive(), "the load could not be published"
        if self._load_error is not None:
            raise self._load_error
        servers, prefix, group = self._names()

        def is_done() -> bool:
            self.revive()
            return checker.lag(servers, prefix, group) == 0

        wait_until(is_done, timeout, "every caption to be done", interval=1.0)
        for name in self.names:
            self.stop(name)
        return checker.check(servers, prefix, group)

    def labels_so_far(self) -> int:
        """Labels committed by now, roughly: the model's answers, less what is under way."""
        return len(self.model.answered)

    def asked_twice(self) -> int:
        """Answers beyond the first of each caption: paid for and of no use."""
        return sum(max(0, self.model.answered[text] - 1) for text in self._texts)

    def close(self) -> None:
        """End whatever still runs."""
        for process in self._running.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        if self._load.is_alive():
            self._load.join(30)
        self.model.stop()

    def _names(self) -> tuple[str, str, str]:
        prefix = self.settings.topic_prefix
        return self.settings.bootstrap_servers, prefix, f"{prefix}{_GROUP}"

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _publish_all(self) -> None:
        """Each burst until it has been taken: captions that are there twice are no harm."""
        try:
            started = time.monotonic()
            for first in range(0, len(self._texts), _BURST):
                burst = [*self._texts[first : first + _BURST], self._texts[first // 2]]  # one seen again
                while not self._is_taken(burst):
                    self._drop_producer()  # after an outage kafka-python's may never send again
                time.sleep(max(0.0, started + first / self._rate - time.monotonic()))
        except BaseException as error:
            self._load_error = error
        finally:
            self._drop_producer()

    def _drop_producer(self) -> None:
        if self._producer is not None:
            give_up(self._producer)
            self._producer = None

    def _is_taken(self, texts: Sequence[str]) -> bool:
        try:
            self._producer = self._producer or clients.producer(self.settings, enable_idempotence=False)
            sent = [self._send(self._producer, text) for text in texts]
            self._producer.flush(timeout=15)
            for future in sent:
                future.get(timeout=0)
        except (KafkaError, OnibusError):
            return False
        return True

    def _send(self, producer: KafkaProducer, text: str) -> Any:
        caption_id = ids.caption_id(text)
        observed = CaptionObserved(text, "score", "run", 0, 0, 0, 1, -1, time.time_ns() // 1000)
        partition = int.from_bytes(caption_id[8:16], "little") % self.settings.partitions
        topic = TopicNames(self.settings.topic_prefix).captions
        return producer.send(topic, key=caption_id, value=codec.encode(observed), partition=partition)


@contextmanager
def running_system(
    client_settings: dict[str, object], folder: Path, captions: int, rate: float, copies: int
) -> Iterator[System]:
    """A system on new topics; everything is ended at the end."""
    settings = load_settings(
        **client_settings | {"replication": copies},
        topic_prefix=f"chaos-{uuid.uuid4().hex[:8]}.",
        partitions=16,
        runs_dir=folder,
    )
    create_topics(settings)
    system = System(settings, folder, captions, rate)
    try:
        yield system
    finally:
        system.close()
