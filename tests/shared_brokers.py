"""Brokers that all processes of a test run share: a plug-in of pytest.

pytest's first process starts one when a test first asks for it, and ends last: pytest-xdist's processes
end as soon as no test is left for them. However it ends, its brokers end with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
import threading
from dataclasses import replace
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import IO, Any

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


MEMORY = Path("/dev/shm")
ROOM = 2 << 30
"""Bytes that must be free there; brokers take a tenth."""


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest) -> RunningBroker:
    """A real plaintext broker that lives as long as the test run. Tests must not stop it."""
    options = BrokerOptions(
        Path("broker"), port=free_port(), stays=False, properties=FAST_BROKER | NEVER_KILLED
    )
    return _shared(request.config, options)


@pytest.fixture(scope="session")
def secure(request: pytest.FixtureRequest) -> RunningBroker:
    """A real broker with TLS, logins and rights, as long as the test run. Tests must not stop it."""
    options = BrokerOptions(
        Path("secure"), port=free_port(), secure=True, heap="256m", stays=False, properties=NEVER_KILLED
    )
    return _shared(request.config, options)


class SharedBrokers:
    """What starts them, in pytest's first process."""

    def __init__(self) -> None:
        self._running: dict[Path, RunningBroker] = {}
        self._one_at_a_time = threading.Lock()
        self._listener: Listener | None = None
        self._folder: Path | None = None
        self._lock: IO[str] | None = None

    def get(self, options: BrokerOptions) -> RunningBroker:
        """The broker of that name, started by the first call; the others' options are ignored.

        Args:
            options: with a name in place of the folder.
        """
        with self._one_at_a_time:
            if options.data_dir not in self._running:
                if self._folder is None:
                    self._folder, self._lock = _new_folder()
                placed = replace(options, data_dir=self._folder / options.data_dir)
                self._running[options.data_dir] = start_broker(placed)
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
        """Stop them all, and remove their data."""
        with self._one_at_a_time:
            for running in self._running.values():
                stop_broker(running.data_dir)
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)


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


def _new_folder() -> tuple[Path, IO[str]]:
    """For the brokers' data, and the lock that is held as long as they are in use.

    In memory where there is room: each test makes a hundred files there and removes them. Folders of runs
    that were killed are removed.
    """
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    parent = MEMORY if in_memory else Path(tempfile.gettempdir())
    for lock in parent.glob("onibus-tests-*/lock"):
        with contextlib.suppress(OSError), lock.open("w") as left:  # one that another run holds
            fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix="onibus-tests-", dir=parent))
    held = (folder / "lock").open("w")
    fcntl.flock(held, fcntl.LOCK_EX)
    return folder, held
