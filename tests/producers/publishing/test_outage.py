"""The environment never waits for the bus: whatever the broker does, steps go on and memory stays bounded."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from onibus.infra.broker import BrokerOptions, RunningBroker, start_broker, stop_broker
from onibus.infra.kafka.topic_admin import create_topics
from onibus.infra.settings import Settings, environment_of, load_settings
from onibus.producers.nethack.environment import NetHackEnvironment
from onibus.producers.nethack.messages import MESSAGE_BYTES, CaptionTable
from onibus.producers.publishing import kafka_sender as publisher
from onibus.producers.publishing.caption_publisher import CLOSE_SECONDS, RolloutBus
from onibus.producers.publishing.kafka_sender import OUTBOX_RECORDS, STOP_GRACE_SECONDS
from onibus.producers.publishing.outbox import BURST_RECORDS, Outgoing
from onibus.schemas.records import CaptionObserved
from tests.machine_pauses import machine_pauses, waited_for_processor
from tests.ports import free_port
from tests.producers.nethack.playing import environment
from tests.producers.publishing.test_caption_publisher import captions_on
from tests.shared_brokers import FAST_BROKER
from tests.waiting import wait_until

OUTAGE_SECONDS = 6.0
LONGEST_GAP_SECONDS = 1.0
LOOK_SECONDS = 0.05
"""How often what the process waited for the processor is looked at, which takes longer than a step."""
MANY = OUTBOX_RECORDS + BURST_RECORDS + 10_000
GROWTH_BYTES = 120 << 20
TABLE = CaptionTable()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def own_settings(tmp_path: Path, port: int) -> Settings:
    return load_settings(
        bootstrap_servers=f"127.0.0.1:{port}",
        partitions=4,
        replication=1,
        topic_prefix="outage.",
        runs_dir=tmp_path,
    )


@pytest.fixture
def own_broker(tmp_path: Path, port: int, own_settings: Settings) -> Iterator[RunningBroker]:
    broker = _start(tmp_path, port)
    create_topics(own_settings)
    yield broker
    stop_broker(tmp_path / "broker")


def _start(folder: Path, port: int) -> RunningBroker:
    return start_broker(BrokerOptions(folder / "broker", port=port, properties=FAST_BROKER))


@pytest.fixture
def pauses(tmp_path: Path) -> Iterator[Callable[[], float]]:
    with machine_pauses(tmp_path) as longest:
        yield longest


class Player:
    """Steps one environment, and says new captions besides those of the game."""

    def __init__(self, bus: RolloutBus) -> None:
        self.bus = bus
        self.longest_gap = 0.0
        self._waited, self._waited_at = waited_for_processor(), time.monotonic()
        self.said = 0
        self.offered = 0
        self._put, bus._publisher.put = bus._publisher.put, self._count  # type: ignore[method-assign]
        self.env: NetHackEnvironment = environment("score", bus, max_episode_steps=2000)  # type: ignore[arg-type]
        self.env.reset()

    def _count(self, outgoing: Outgoing) -> None:
        self.offered += isinstance(outgoing.record, CaptionObserved)
        self._put(outgoing)

    def play(self, seconds: float, new_captions: int) -> None:
        """Play for a time and say ``new_captions``, evenly; keep the longest time that one call took.

        Not that between two steps: after a pause of the machine's own, many captions are said at once. And
        less what this process was kept from the processor meanwhile, by others on a busy machine.
        """
        began = last = time.monotonic()
        target = self.said + new_captions
        while (elapsed := last - began) < seconds or self.said < target:
            while (
                self.said < target and self.said - (target - new_captions) <= new_captions * elapsed / seconds
            ):
                text = f"caption {self.said} {'x' * 180}".encode().ljust(MESSAGE_BYTES, b"\0")
                self.bus.observe(TABLE.caption([text]), 0, 0, 0, 0, 0)
                self.said += 1
                last = self._returned(last)
            _observation, _reward, terminated, truncated, _info = self.env.step(self.said % 23)
            if terminated or truncated:
                self.env.reset()
            last = self._returned(last)

    def _returned(self, last: float) -> float:
        now = time.monotonic()
        is_long = now - last > self.longest_gap
        if is_long or now - self._waited_at > LOOK_SECONDS:
            before, self._waited, self._waited_at = self._waited, waited_for_processor(), now
            if is_long:
                self.longest_gap = max(self.longest_gap, now - last - (self._waited - before))
        return now


def settled(bus: RolloutBus) -> int:
    return bus.captions.published + bus.captions.dropped


@pytest.mark.slow
def test_a_frozen_broker_stops_no_step_and_drops_are_counted(
    own_broker: RunningBroker, own_settings: Settings, pauses: Callable[[], float]
) -> None:
    bus = RolloutBus(own_settings, "run", "score")
    player = Player(bus)
    player.play(seconds=0.2, new_captions=100)
    assert bus.flush(20.0)
    before = psutil.Process().memory_info().rss
    (broker_process,) = own_broker.pids
    os.kill(broker_process, signal.SIGSTOP)
    try:
        player.longest_gap = 0.0
        player.play(OUTAGE_SECONDS, new_captions=MANY)
        assert player.longest_gap < LONGEST_GAP_SECONDS + pauses()
        assert psutil.Process().memory_info().rss - before < GROWTH_BYTES
        assert bus.captions.dropped > 5_000, "what found no room is counted"
    finally:
        os.kill(broker_process, signal.SIGCONT)
    assert bus.flush(60.0), "what was kept is published"
    dropped = bus.captions.dropped
    player.play(0.1, new_captions=10)
    assert bus.flush(60.0), "and so is what is new"
    assert bus.captions.dropped == dropped
    arrived = [record.text for record in captions_on(own_settings)]
    assert len(set(arrived)) <= bus.captions.published <= len(arrived)
    assert arrived.count(f"caption {player.said - 1} {'x' * 180}") == 1
    assert settled(bus) == player.offered, "each ends in exactly one of the two counts"
    bus.close()


@pytest.mark.slow
def test_publishing_goes_on_after_an_outage_longer_than_the_delivery_timeout(
    own_broker: RunningBroker, own_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(publisher._CLIENT_SETTINGS, "request_timeout_ms", 1_000)
    monkeypatch.setitem(publisher._CLIENT_SETTINGS, "delivery_timeout_ms", 1_500)
    bus = RolloutBus(own_settings, "run", "score")
    player = Player(bus)
    player.play(seconds=0.2, new_captions=100)
    assert bus.flush(20.0)
    (broker_process,) = own_broker.pids
    os.kill(broker_process, signal.SIGSTOP)
    try:
        player.play(0.2, new_captions=500)
        wait_until(lambda: bus.captions.dropped > 0, 20.0, "batches to expire")
    finally:
        os.kill(broker_process, signal.SIGCONT)

    def all_of_a_batch_arrives() -> bool:  # with so short a timeout a busy machine loses a batch or two
        dropped = bus.captions.dropped
        player.play(0.2, new_captions=100)
        return bus.flush(5.0) and bus.captions.dropped == dropped

    wait_until(all_of_a_batch_arrives, 60.0)
    texts = {record.text for record in captions_on(own_settings)}
    assert texts >= {f"caption {n} {'x' * 180}" for n in range(player.said - 100, player.said)}
    assert settled(bus) == player.offered
    bus.close()


@pytest.mark.slow
def test_a_broker_that_restarts_is_found_again_and_nothing_is_lost(
    own_broker: RunningBroker,
    own_settings: Settings,
    tmp_path: Path,
    port: int,
    pauses: Callable[[], float],
) -> None:
    bus = RolloutBus(own_settings, "run", "score")
    player = Player(bus)
    player.play(seconds=0.2, new_captions=100)
    assert bus.flush(20.0)
    stop_broker(tmp_path / "broker")
    player.play(OUTAGE_SECONDS, new_captions=1000)
    assert bus.captions.dropped == 0
    _start(tmp_path, port)
    player.play(0.1, new_captions=10)
    assert bus.flush(30.0)
    assert player.longest_gap < LONGEST_GAP_SECONDS + pauses()
    assert bus.captions.dropped == 0
    texts = {record.text for record in captions_on(own_settings)}
    assert texts >= {f"caption {n} {'x' * 180}" for n in range(player.said)}
    bus.close()


@pytest.mark.slow
def test_playing_starts_without_a_broker_and_publishing_when_there_is_one(
    own_settings: Settings,
    tmp_path: Path,
    port: int,
    pauses: Callable[[], float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus = RolloutBus(own_settings, "run", "score")
    player = Player(bus)
    player.play(OUTAGE_SECONDS, new_captions=500)
    assert player.longest_gap < LONGEST_GAP_SECONDS + pauses()
    assert settled(bus) == 0
    _start(tmp_path, port)
    try:
        player.play(1.0, new_captions=10)  # first without topics
        create_topics(own_settings)
        wait_until(lambda: bus.captions.published >= 510, 40.0, "publishing to begin")
        assert bus.flush(20.0)
        assert bus.captions.dropped == 0
        warnings = [record for record in caplog.records if record.name == "onibus.publisher"]
        assert 1 <= len([w for w in warnings if w.levelname == "WARNING"]) <= 3, "an outage is told once"
        bus.close()
    finally:
        stop_broker(tmp_path / "broker")


@pytest.mark.slow
def test_closing_with_no_broker_ends_in_time_and_counts_what_it_could_not_deliver(
    own_settings: Settings,
) -> None:
    bus = RolloutBus(own_settings, "run", "score")
    player = Player(bus)
    player.play(0.2, new_captions=300)
    before = time.monotonic()
    bus.close(timeout=1.0)
    assert time.monotonic() - before < 1.0 + STOP_GRACE_SECONDS + 1.0
    assert bus.captions.published == 0
    assert wait_until(lambda: bus.captions.dropped >= 300, 15.0)
    dropped = bus.captions.dropped
    player.play(0.1, new_captions=5)
    assert bus.captions.dropped >= dropped + 5, "a closed bus counts on"


_SAYS_AND_ENDS = """
import sys
from onibus.infra.settings import load_settings
from onibus.producers.publishing.caption_publisher import process_bus
from onibus.producers.nethack.messages import CaptionTable
bus = process_bus(load_settings(), "run", "score")
def say(text):
    bus.observe(CaptionTable().caption([text.encode().ljust(256, b"\\0")]), 0, 0, 0, 0, 0)
say("first")
print(bus.flush(20.0), flush=True)
sys.stdin.readline()
for number in range(100):
    say(f"caption {number}")
"""


@pytest.mark.slow
def test_a_process_ends_in_time_and_without_a_word_although_the_broker_is_frozen(
    own_broker: RunningBroker, own_settings: Settings
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _SAYS_AND_ENDS],
        env={**os.environ, **environment_of(own_settings)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "True\n"
    (broker_process,) = own_broker.pids
    os.kill(broker_process, signal.SIGSTOP)
    try:
        before = time.monotonic()
        _out, err = process.communicate("go on\n", timeout=60)
        assert time.monotonic() - before < CLOSE_SECONDS + STOP_GRACE_SECONDS + 2.0
        assert process.returncode == 0
        assert "Traceback" not in err
        assert "Exception ignored" not in err
    finally:
        os.kill(broker_process, signal.SIGCONT)


@pytest.mark.slow
def test_what_a_frozen_broker_has_not_confirmed_at_the_close_counts_as_dropped(
    own_broker: RunningBroker, own_settings: Settings
) -> None:
    bus = RolloutBus(own_settings, "run", "score")
    player = Player(bus)
    player.play(seconds=0.2, new_captions=100)
    assert bus.flush(20.0)
    (broker_process,) = own_broker.pids
    os.kill(broker_process, signal.SIGSTOP)
    try:
        player.play(0.5, new_captions=300)
        bus.close(timeout=0.5)
        wait_until(lambda: settled(bus) == player.offered, 10.0, "every record to be counted")
        assert bus.captions.dropped >= 300
        thread = bus._publisher._thread
        assert thread is not None
        wait_until(lambda: not thread.is_alive(), 10.0, "the publishing thread to end")
    finally:
        os.kill(broker_process, signal.SIGCONT)
