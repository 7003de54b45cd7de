"""A full disk is reported in one line: before the start, and when it fills up while the broker runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from onibus.infra.broker import BrokerOptions, broker_status, start_broker
from onibus.infra.errors import OnibusError
from tests.command import REPOSITORY, the_one_line
from tests.ports import free_port

pytestmark = pytest.mark.integration

FILL_THE_DISK = """
import os, sys
from pathlib import Path
from kafka.errors import KafkaError
from onibus.infra.broker import BrokerOptions, broker_status, start_broker, stop_broker
from onibus.infra.kafka.clients import producer
from onibus.infra.settings import load_settings
from onibus.infra.kafka.topic_admin import create_topics
from tests.waiting import wait_until

folder = Path(sys.argv[1])
running = start_broker(BrokerOptions(folder, port=int(sys.argv[2]), heap="256m", minimum_free_bytes=0))
settings = load_settings(**running.client_settings(), partitions=1)
create_topics(settings)
sender = producer(settings, compression_type=None, delivery_timeout_ms=3000, request_timeout_ms=2000)
try:
    for _ in range(100):
        sender.send("onibus.episodes", os.urandom(500_000)).get(timeout=5)
except KafkaError:
    pass  # the disk is full now
else:
    sys.exit("50 MB fitted on a disk of 20 MB")
wait_until(lambda: not broker_status(folder).running, what="the broker's death")
print(*broker_status(folder).why_dead())
sender.close(timeout=1)
stop_broker(folder)
"""


def test_too_little_free_space_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    greedy = BrokerOptions(tmp_path, port=free_port(), minimum_free_bytes=2**60)
    with pytest.raises(OnibusError, match=r"disk full: \d+ MiB free .* choose another --data-dir"):
        start_broker(greedy)
    assert broker_status(tmp_path) is None


def test_a_really_full_disk_is_reported_in_one_line(tmp_path: Path) -> None:
    port = free_port()
    line = the_one_line(
        on_a_disk_of_20_mib(
            tmp_path, "-m", "onibus", "broker", "start", "--data-dir", tmp_path, "--port", port
        )
    )
    assert "disk full" in line
    assert "512 MiB needed" in line


@pytest.mark.slow
def test_a_disk_that_fills_up_is_named_as_the_cause_of_death(tmp_path: Path) -> None:
    done = on_a_disk_of_20_mib(tmp_path, "-c", FILL_THE_DISK, tmp_path, free_port())
    assert done.returncode == 0, done.stderr
    assert "disk full: broker 1 could not write its data" in done.stdout


def on_a_disk_of_20_mib(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Python with a small memory disk mounted on ``folder``, seen only by that process and its children."""
    mount = 'mount -t tmpfs -o size=20m tmpfs "$0" && exec "$@"'
    namespace = ["unshare", "--mount", "--user", "--map-root-user"]
    try:
        subprocess.run([*namespace, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system lets us mount nothing (unshare), so no disk can be filled")
    return subprocess.run(
        [*namespace, "sh", "-c", mount, str(folder), sys.executable, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
