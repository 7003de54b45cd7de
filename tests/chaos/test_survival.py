"""What annotators must survive, each on a three-broker cluster under a load of 20,000 captions (make chaos).

``CHAOS_CAPTIONS`` and ``CHAOS_RATE`` change the load. Every case ends with the same question to the checker:
is every caption labelled, none judged twice in what is committed, every label's annotation there, the label
topic the fold of the log of answers, and every offset committed?
"""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from onibus.infra.broker import BrokerOptions, RunningBroker, broker_status, start_broker, stop_broker
from onibus.infra.kafka.clients import admin
from onibus.infra.settings import load_settings
from tests.chaos.system import SESSION_SECONDS, System, running_system
from tests.ports import free_port
from tests.waiting import wait_until

CAPTIONS = int(os.environ.get("CHAOS_CAPTIONS", "20000"))
RATE = float(os.environ.get("CHAOS_RATE", "500"))
FAULTS_SECONDS = 40.0
OUTAGE_SECONDS = 30.0
HOUR, DAY = 3_600, 86_400
FURTHER = 20
"""Captions that a publisher with a wrong clock publishes."""
LARGEST_FILE = 4_096
"""Bytes; a write beyond it fails. Files on a full disk fail the same way, but the disk is everybody's."""
NAMES = ("a1", "a2", "a3")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]


class Cluster:
    """Three brokers that may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._options = BrokerOptions(folder, port=free_port(), brokers=3, heap="320m")
        self.running: RunningBroker = start_broker(self._options)

    def kill(self, node: int) -> None:
        pid = self._status().pids[node]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self._status().pids[node] is None, 30, "a broker's death")

    def fill_disk(self, node: int) -> None:
        """Let no file of this broker grow any further, as on a full disk: Kafka then gives up its folder."""
        pid = self._status().pids[node]
        assert pid is not None
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
        wait_until(lambda: self._status().pids[node] is None, 60, "a broker's giving up")

    def start_missing(self) -> None:
        if not self._status().running:
            self.running = start_broker(self._options)

    def leader_of_most(self, topic: str) -> int:
        """Place of the broker that leads most partitions of this topic."""
        with admin(load_settings(**self.running.client_settings())) as client:
            (described,) = client.describe_topics([topic])
        leaders = [partition["leader_id"] for partition in described["partitions"]]
        ids = [node.id for node in self.running.nodes]
        return max(range(len(ids)), key=lambda place: leaders.count(ids[place]))

    def _status(self) -> RunningBroker:
        status = broker_status(self._options.data_dir)
        assert status is not None
        return status


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    yield Cluster(folder)
    stop_broker(folder)


@pytest.fixture
def system(cluster: Cluster, tmp_path: Path) -> Iterator[System]:
    cluster.start_missing()
    client_settings = cluster.running.client_settings()
    with running_system(client_settings, tmp_path, CAPTIONS, RATE, copies=3) as system:
        yield system


def begin(system: System, *flags: str) -> None:
    """Start the annotators and the load, and wait until they work."""
    for name in NAMES:
        system.start(name, *flags)
    system.wait_ready()
    system.publish()
    wait_until(lambda: system.labels_so_far() > min(500, CAPTIONS // 10), 90, "the work to begin")


def survived(
    system: System, capsys: pytest.CaptureFixture[str], timeout: float = 600, further: int = 0
) -> None:
    """The end of every case."""
    found = system.finish(timeout)
    of_no_use = system.asked_twice()
    with capsys.disabled():
        print(f"\n    {found.line()}; {system.kills} kills; asked twice: {of_no_use:,}")
    assert found.problems == []
    assert found.captions == CAPTIONS + further


def for_a_while(
    step: Callable[[], None], pause: Callable[[], float], seconds: float = FAULTS_SECONDS
) -> None:
    """``step()`` again and again, with pauses."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        step()
        time.sleep(pause())


def test_without_faults_each_caption_is_asked_about_once(
    system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(system)
    survived(system, capsys)
    assert system.asked_twice() == 0
    assert system.model.requests == CAPTIONS + len(NAMES), "one more for each annotator, to check"


@pytest.mark.parametrize("flags", [(), ("--static",)], ids=["", "static members"])
def test_kill_9_of_annotators_again_and_again(
    system: System, flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    luck = random.Random(7)
    begin(system, *flags)

    def kill_one() -> None:
        name = luck.choice(NAMES)
        system.kill(name)
        system.start(name, *flags)

    for_a_while(kill_one, lambda: luck.uniform(1, 3))
    survived(system, capsys)


def test_kill_9_of_the_parent_of_annotators_again_and_again(
    system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(system, "--workers", "2")
    luck = random.Random(13)

    def kill_one() -> None:
        name = luck.choice(NAMES)
        system.kill_parent(name)
        system.start(name, "--workers", "2")

    for_a_while(kill_one, lambda: luck.uniform(2, 5))
    survived(system, capsys)


@pytest.mark.parametrize("flags", [(), ("--static",)], ids=["", "static members"])
def test_a_rolling_restart(
    system: System, flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    begin(system, *flags)
    for name in NAMES * 2:
        before = system.labels_so_far()
        wait_until(lambda at=before: system.labels_so_far() > min(at + 500, CAPTIONS - 1), 120, "work")  # type: ignore[misc]
        system.stop(name)
        system.start(name, *flags)
    survived(system, capsys)


def test_the_leader_of_most_partitions_is_killed_and_comes_back(
    cluster: Cluster, system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(system)
    cluster.kill(cluster.leader_of_most(f"{system.settings.topic_prefix}labels"))
    before = system.labels_so_far()
    wait_until(lambda: system.labels_so_far() > min(before + 300, CAPTIONS - 1), 120, "work with two brokers")
    cluster.start_missing()
    survived(system, capsys)


def test_the_disk_of_one_broker_is_full_until_there_is_room_again(
    cluster: Cluster, system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(system)
    cluster.fill_disk(cluster.leader_of_most(f"{system.settings.topic_prefix}labels"))
    before = system.labels_so_far()
    wait_until(lambda: system.labels_so_far() > min(before + 300, CAPTIONS - 1), 120, "work with two brokers")
    cluster.start_missing()
    survived(system, capsys)


def test_all_brokers_are_restarted_one_after_another(
    cluster: Cluster, system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(system)
    for node in range(3):
        cluster.kill(node)
        cluster.start_missing()
        before = system.labels_so_far()
        wait_until(lambda at=before: system.labels_so_far() > min(at + 100, CAPTIONS - 1), 120, "work")  # type: ignore[misc]
    survived(system, capsys)


def test_all_brokers_are_gone_for_half_a_minute(
    cluster: Cluster, system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(system)
    for node in range(3):
        cluster.kill(node)
    time.sleep(OUTAGE_SECONDS)
    cluster.start_missing()
    survived(system, capsys)


def test_the_model_is_down_for_half_a_minute(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    begin(system)
    system.model.down()
    time.sleep(OUTAGE_SECONDS)
    system.model.up()
    survived(system, capsys)


def test_the_model_hangs_without_an_answer(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    begin(system)
    system.model.behaviour.hangs = True
    time.sleep(OUTAGE_SECONDS)
    system.model.behaviour.hangs = False
    survived(system, capsys)


def test_the_model_answers_garbage_one_time_in_five(
    system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    system.model.behaviour.garbage = 0.2
    begin(system)
    survived(system, capsys)


def test_the_model_fails_one_time_in_five(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    system.model.behaviour.errors = 0.2
    begin(system)
    survived(system, capsys)
    assert system.asked_twice() == 0


def test_members_join_and_leave_every_few_seconds(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    begin(system)
    luck = random.Random(11)

    def join_or_leave() -> None:
        guests = [name for name in system.names if name not in NAMES]
        if guests and (len(guests) == 3 or luck.random() < 0.5):
            system.stop(guests[0])
        else:
            system.start(f"guest-{luck.random():.6f}")

    for_a_while(join_or_leave, lambda: luck.uniform(2, 4))
    survived(system, capsys)


def test_a_zombie_wakes_up(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    begin(system)
    for name in NAMES[:2]:
        system.signal(name, signal.SIGSTOP)
        time.sleep(SESSION_SECONDS + 4)
        system.signal(name, signal.SIGCONT)
    survived(system, capsys)


@pytest.mark.parametrize("seconds", [HOUR, 2 * HOUR, -8 * DAY], ids=["an hour", "two hours", "8 days behind"])
def test_the_clock_of_one_annotator_and_one_publisher_is_wrong(
    system: System, seconds: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLOCK_SECONDS", str(seconds))
    system.start("wrong", module="tests.chaos.another_clock", started=True)
    begin(system)
    system.kill("wrong")
    system.start("wrong", module="tests.chaos.another_clock", started=True)
    system.publish_under_another_clock(FURTHER)
    survived(system, capsys, further=FURTHER)


def test_the_offsets_lie_beyond_the_end_of_the_log(
    system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(system)
    for name in NAMES:
        system.stop(name)
    system.commit_beyond_the_end(500)
    for name in NAMES:
        system.start(name)
    survived(system, capsys)
    assert system.asked_twice() == 0
