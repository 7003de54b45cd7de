"""The local broker: its data outlive it, and every way not to start is one clear error."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from onibus.infra.broker import BrokerOptions, broker_status, start_broker, stop_broker
from onibus.infra.broker.java import error_in
from onibus.infra.errors import OnibusError
from onibus.infra.kafka.clients import producer, read_all
from onibus.infra.kafka.topic_admin import create_topics
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings, load_settings
from tests.command import run_onibus, the_one_line
from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def options(tmp_path: Path) -> Iterator[BrokerOptions]:
    """A broker of the test's own, to be stopped and killed."""
    yield (options := BrokerOptions(tmp_path / "broker", port=free_port(), heap="256m"))
    stop_broker(options.data_dir)


def settings_for(options: BrokerOptions) -> Settings:
    running = broker_status(options.data_dir)
    assert running is not None
    return load_settings(**running.client_settings(), partitions=2)


def publish(settings: Settings, *values: bytes) -> None:
    sender = producer(settings)
    for value in values:
        sender.send(TopicNames(settings.topic_prefix).episodes, value)
    sender.flush()
    sender.close()


def published(settings: Settings) -> list[bytes]:
    topic = TopicNames(settings.topic_prefix).episodes
    return [record.value for batch in read_all(settings, topic) for record in batch]


def test_data_are_kept_when_the_broker_is_stopped_and_started(options: BrokerOptions) -> None:
    first = start_broker(options)
    create_topics(settings_for(options))
    publish(settings_for(options), b"one", b"two")
    assert stop_broker(options.data_dir)

    second = start_broker(options)
    assert second.cluster_id == first.cluster_id
    assert published(settings_for(options)) == [b"one", b"two"]


@pytest.mark.slow
def test_data_are_kept_when_the_broker_is_killed_and_moved_to_another_port(options: BrokerOptions) -> None:
    (pid,) = start_broker(options).pids
    assert pid is not None
    create_topics(settings_for(options))
    publish(settings_for(options), b"one")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not broker_status(options.data_dir).running, what="the broker's death")
    (reason,) = broker_status(options.data_dir).why_dead()
    assert reason.startswith("broker 1 died: ")

    moved = BrokerOptions(options.data_dir, port=free_port(), heap="256m")
    assert start_broker(moved).bootstrap_servers == f"127.0.0.1:{moved.port}"
    publish(settings_for(moved), b"two")
    assert published(settings_for(moved)) == [b"one", b"two"]


def test_stopping_leaves_no_process_and_no_open_port(options: BrokerOptions) -> None:
    (pid,) = start_broker(options).pids
    assert pid is not None
    assert stop_broker(options.data_dir)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", options.port)) != 0
    assert broker_status(options.data_dir).pids == (None,)
    assert broker_status(options.data_dir).why_dead() == [], "it was stopped, it did not die"
    data = broker_status(options.data_dir).nodes[0].folder / "data"
    assert (data / ".kafka_cleanshutdown").exists(), "it was not killed: Kafka could write everything down"
    assert not stop_broker(options.data_dir), "stopping twice is no error, and says that nothing ran"


@pytest.mark.slow
def test_command_starts_says_already_running_and_stops(tmp_path: Path) -> None:
    port = free_port()
    started = run_onibus("broker", "start", "--port", port, folder=tmp_path)
    try:
        assert started.returncode == 0, started.stderr
        assert f"127.0.0.1:{port}" in started.stdout
        status = json.loads(run_onibus("broker", "status", "--json", folder=tmp_path).stdout)
        assert status["running"]
        assert status["data_dir"] == str(tmp_path / "runs" / "broker")
        (pid,) = status["pids"]

        line = the_one_line(run_onibus("broker", "start", "--port", port, folder=tmp_path))
        assert "already running" in line
        assert f"pid {pid}" in line
    finally:
        stopped = run_onibus("broker", "stop", folder=tmp_path)
    assert stopped.returncode == 0, stopped.stderr
    assert not psutil.pid_exists(pid)
    assert run_onibus("broker", "stop", folder=tmp_path).returncode == 0


@pytest.mark.slow
def test_of_two_starts_at_once_one_wins_and_the_other_says_already_running(options: BrokerOptions) -> None:
    def start() -> str:
        try:
            return start_broker(options).bootstrap_servers
        except OnibusError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        outcomes = sorted(pool.map(lambda _: start(), range(2)))
    assert outcomes[0] == f"127.0.0.1:{options.port}"
    assert "already running" in outcomes[1]


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = the_one_line(run_onibus("broker", "start", "--port", port, folder=tmp_path))
    assert f"port {port} on 127.0.0.1 is in use" in line
    assert "--port" in line


def test_a_controller_port_in_use_is_skipped(options: BrokerOptions) -> None:
    with socket.create_server(("127.0.0.1", options.port + 1)):
        (node,) = start_broker(options).nodes
    assert node.controller_port == options.port + 2


def test_data_of_a_cluster_are_not_started_with_other_options(options: BrokerOptions) -> None:
    start_broker(options)
    stop_broker(options.data_dir)
    with pytest.raises(OnibusError, match="holds the data of 1 broker"):
        start_broker(BrokerOptions(options.data_dir, port=options.port, brokers=3))
    with pytest.raises(OnibusError, match="holds the data of a plaintext broker"):
        start_broker(BrokerOptions(options.data_dir, port=options.port, secure=True))


def test_a_broker_that_dies_while_starting_is_reported_and_leaves_nothing(tmp_path: Path) -> None:
    broken = BrokerOptions(tmp_path, port=free_port(), properties={"num.io.threads": "-1"})
    with pytest.raises(OnibusError) as raised:
        start_broker(broken)
    assert "num.io.threads" in str(raised.value)
    assert "\n" not in str(raised.value)
    status = broker_status(tmp_path)
    assert status is None or status.pids == (None,)


KILLED = """2026-11-26 09:22:43.890 WARN o.a.k.NetworkClient - [id=2] Connection to node 3 failed.
java.net.ConnectException: Connection refused
2026-11-26 09:22:45.182 INFO kafka.server.KafkaRaftServer - [nodeId=2] Kafka Server started
WARNING: A restricted method in java.lang.System has been called
"""
FAILED = """2026-11-26 09:22:43.890 ERROR k.Other - Error: will be tried again
2026-11-26 09:22:43.901 ERROR k.server.Fault - Encountered fatal fault: caught exception
java.lang.RuntimeException: outer
\tat kafka.Server.start(Server.scala:1)
Caused by: java.net.BindException: Cannot assign requested address
\tat sun.nio.ch.Net.bind(Net.java:5)
2026-11-26 09:22:44.000 WARN k.Other - shutting down
org.apache.kafka.common.errors.TimeoutException: too late
"""


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (KILLED, None),
        (KILLED + FAILED, "java.net.BindException: Cannot assign requested address"),
        (
            "Error: Could not find or load main class kafka.Kafka\n",
            "Error: Could not find or load main class kafka.Kafka",
        ),
        ("", None),
    ],
)
def test_the_reason_in_a_log_is_its_error_never_a_warning(log: str, expected: str | None) -> None:
    assert error_in(log) == expected


def test_a_killed_broker_is_reported_as_killed(options: BrokerOptions) -> None:
    (pid,) = start_broker(options).pids
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: (s := broker_status(options.data_dir)) is not None and not s.running, 10, "its death")
    status = broker_status(options.data_dir)
    assert status is not None
    (reason,) = status.why_dead()
    assert "broker 1 died: its log has no error, so it was killed" in reason


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--brokers", "2"], "1 or 3 brokers, not 2"),
        (["--host", "192.0.2.1"], "choose an address of this machine"),
        (["--port", "65535"], "change --port"),
        (["--data-dir", "/dev/null/data"], "choose another --data-dir"),
    ],
)
def test_impossible_options_are_refused_in_one_line(
    arguments: list[str], expected: str, tmp_path: Path
) -> None:
    wishes = ["--port", str(free_port()), *arguments]
    assert expected in the_one_line(run_onibus("broker", "start", *wishes, folder=tmp_path))


def test_status_without_data_says_what_to_do(tmp_path: Path) -> None:
    assert "onibus broker start" in the_one_line(run_onibus("broker", "status", folder=tmp_path))
