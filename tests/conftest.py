"""One real broker for the whole test run; topics of its own for every test."""

from __future__ import annotations

import gc
import os
import signal
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from xdist.scheduler import LoadFileScheduling

from onibus.infra.broker import RunningBroker
from onibus.infra.kafka.clients import admin
from onibus.infra.kafka.topic_admin import create_topics
from onibus.infra.process.shutdown import keep_hang_ups
from onibus.infra.settings import Settings, load_settings
from onibus.producers.publishing.caption_publisher import close_process_buses
from tests import no_orphans, shared_brokers
from tests.shared_brokers import broker as broker
from tests.shared_brokers import secure as secure

if TYPE_CHECKING:
    from playwright.sync_api import Browser

STARTING_FIXTURES = frozenset({"broker", "secure", "registry_url", "server", "browser"})
"""Fixtures that start a broker, a server or a browser; ``settings`` brings ``broker``."""


VLLM_TESTS = Path(__file__).parent / "consumers" / "vllm"
SLOW_END = 0.8
"""By which part of all files the last one with a long test begins."""
VLLM_SECONDS = 900
"""The first test waits until a model is trained and a server has loaded it: minutes on a busy machine."""


def pytest_configure(config: pytest.Config) -> None:
    """What runs tests leaves no process behind and shares its brokers."""
    gc.disable()  # until tests have been collected
    no_orphans.pytest_configure(config)
    shared_brokers.pytest_configure(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses one of these as ``integration``; tests that start processes by themselves say so.

    vLLM's tests come first. Of the rest long ones, those that wait for brokers and those that compute come
    by turns, so that there is always something to compute, the files with most tests first, and the last
    long one earlier than the others: at the end no process is left with much, nor with nothing to do.
    """
    for item in items:
        if STARTING_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.integration)
        if item.path.is_relative_to(VLLM_TESTS):
            item.add_marker(pytest.mark.timeout(VLLM_SECONDS))
    place = {path: number for number, path in enumerate(_ordered(items))}
    items.sort(key=lambda item: place[item.path])


def _ordered(items: list[pytest.Item]) -> list[Path]:
    """Files of tests in the order in which they begin."""
    tests = Counter(item.path for item in items)
    slow, waiting = (
        {item.path for item in items if item.get_closest_marker(mark)} for mark in ("slow", "integration")
    )
    vllm = {path for path in tests if path.is_relative_to(VLLM_TESTS)}
    others = sorted(tests.keys() - vllm, key=lambda path: (-tests[path], path))
    place: dict[Path, float] = {}
    for kind, end in ((slow, SLOW_END), (waiting - slow, 1.0), (tests.keys() - slow - waiting, 1.0)):
        paths = [path for path in others if path in kind]
        place |= {path: end * number / len(paths) for number, path in enumerate(paths)}
    return [*sorted(vllm), *sorted(others, key=place.__getitem__)]


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Else Python looks through all modules and tests again and again for what can be freed."""
    gc.freeze()
    gc.enable()


class FilesInOneProcess(LoadFileScheduling):
    """Where several processes run the tests, those of a file stay in one, and so do all of vLLM's.

    What their fixtures start is started once. (pytest 9.2 no longer sees the groups of ``--dist loadgroup``.)
    """

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        folder = VLLM_TESTS.relative_to(Path(__file__).parents[1]).as_posix()
        return folder if file.startswith(f"{folder}/") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """For ``-n auto``: two processes per core and one more. Tests wait for half of their time for others."""
    return 2 * (os.cpu_count() or 1) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesInOneProcess:
    """pytest-xdist asks for this."""
    return FilesInOneProcess(config, log)


# A runner may ignore hang-ups (nohup) and interrupts (in a shell's background), and children inherit that;
# some tests are about them.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine must not fail a test: no deadline for an example; pytest-timeout bounds the whole.
hypothesis.settings.register_profile("onibus", deadline=None)
hypothesis.settings.load_profile("onibus")


@pytest.fixture
def settings(broker: RunningBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings for the run's broker with this test's own topics, which exist until the test ends."""
    monkeypatch.chdir(tmp_path)  # no onibus.toml of the person who runs the tests
    settings = load_settings(
        **broker.client_settings(),
        topic_prefix=f"test-{uuid.uuid4().hex[:12]}.",
        partitions=4,
        replication=1,
        runs_dir=tmp_path,
    )
    create_topics(settings)
    yield settings
    close_process_buses()  # kafka-python spins over the metadata of a topic that is gone
    with admin(settings) as client:  # else a run's worth of partitions fills the broker's memory
        own = [name for name in client.list_topics() if name.startswith(settings.topic_prefix)]
        if own:
            client.delete_topics(own, raise_errors=False)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium for the tests of one file: its event loop must be gone when others run theirs."""
    from tests.browser import headless_browser  # Playwright is needed by the tests of pages alone

    with headless_browser() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_signal_stays_blocked_or_ignored() -> Iterator[None]:
    """Processes that later tests start would inherit it.

    What runs a command in this process may block SIGHUP, and NetHack, when a game ends, has it ignored.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    keep_hang_ups()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the person who runs the tests does not decide over their outcome."""
    for name in list(os.environ):
        if name.startswith("ONIBUS_") and name != "ONIBUS_CACHE_DIR":
            monkeypatch.delenv(name)
