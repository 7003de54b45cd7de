"""Brokers that all processes of a test run share: a plug-in of pytest.

pytest's first process starts one when a test first asks for it, and ends last: pytest-xdist's processes
end as soon as no test is left for them. However it ends, its brokers end with it.
"""

from __future__ import annotations

import threading
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any

import pytest

from onibus.infra.broker import BrokerOptions, RunningBroker, start_broker, stop_broker
from tests.ports import free_port

FAST_BROKER = {
    "log.cleaner.backoff.ms": "500",
    "group.min.session.timeout.ms": "1000",
    "log.segment.delete.delay.ms": "1000",
}
"""Kafka server properties that make compaction, failover and clean-up show within a test's patience."""

NEVER_KILLED = {"broker.heartbeat.interval.ms": "5000", "broker.session.timeout.ms": "18000"}
"""The session counts only for one that starts again after a kill; heartbeats take processor time."""


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RunningBroker:
    """A real plaintext broker that lives as long as the test run. Tests must not stop it."""
    folder = _folder_of_the_run(request.config, tmp_path_factory) / "broker"
    options = BrokerOptions(folder, port=free_port(), stays=False, properties=FAST_BROKER | NEVER_KILLED)
    return _shared(request.config, options)


@pytest.fixture(scope="session")
def secure(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RunningBroker:
    """A real broker with TLS, logins and rights, as long as the test run. Tests must not stop it."""
    folder = _folder_of_the_run(request.config, tmp_path_factory) / "secure-broker"
    options = BrokerOptions(
        folder, port=free_port(), secure=True, heap="256m", stays=False, properties=NEVER_KILLED
    )
    return _shared(request.config, options)


class SharedBrokers:
    """What starts them, in pytest's first process."""

    def __init__(self) -> None:
        self._running: dict[Path, RunningBroker] = {}
        self._one_at_a_time = threading.Lock()
        self._listener: Listener | None = None

    def get(self, options: BrokerOptions) -> RunningBroker:
        """The broker of ``options.data_dir``, started by the first call; the others' options are ignored."""
        with self._one_at_a_time:
            if options.data_dir not in self._running:
                self._running[options.data_dir] = start_broker(options)
            return self._running[options.data_dir]

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """pytest-xdist calls this for each of its processes."""
        if self._listener is None:
            self._listener = Listener()
            threading.Thread(target=self._answer, args=(self._listener,), daemon=True).start()
        node.workerinput["shared_brokers"] = self._listener.address

    def _answer(self, listener: Listener) -> None:
        while True:
            with listener.accept() as asking:
                try:
                    asking.send(self.get(asking.recv()))
                except Exception as error:
                    asking.send(error)

    def pytest_unconfigure(self) -> None:
        """Stop them all."""
        with self._one_at_a_time:
            for folder in self._running:
                stop_broker(folder)


def pytest_configure(config: pytest.Config) -> None:
    """Be ready to start brokers, where this is the first process."""
    if not _is_of_xdist(config):
        config.pluginmanager.register(SharedBrokers(), "shared-brokers")


def _shared(config: pytest.Config, options: BrokerOptions) -> RunningBroker:
    if not _is_of_xdist(config):
        brokers: SharedBrokers = config.pluginmanager.get_plugin("shared-brokers")
        return brokers.get(options)
    with Client(config.workerinput["shared_brokers"]) as first_process:
        first_process.send(options)
        answer: RunningBroker | Exception = first_process.recv()
    if isinstance(answer, Exception):
        raise answer
    return answer


def _is_of_xdist(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _folder_of_the_run(config: pytest.Config, factory: pytest.TempPathFactory) -> Path:
    """pytest-xdist's processes have a folder each in that of the first."""
    return factory.getbasetemp().parent if _is_of_xdist(config) else factory.getbasetemp()
