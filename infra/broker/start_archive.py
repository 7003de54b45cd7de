"""An archive of the classes that a broker loads, loaded and linked: half of a start's processor time.

Java makes it when a program that it watched ends (JEP 514), and checks at each start whether it fits: if not,
it goes on without.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path

from onibus.infra.broker import node_process
from onibus.infra.broker.jars import cache_folder
from onibus.infra.broker.java import archive_of, format_storage
from onibus.infra.broker.options import BrokerOptions, Node
from onibus.infra.broker.properties import server_properties
from onibus.infra.errors import OnibusError

log = logging.getLogger(__name__)

KEPT = 3
"""Archives (64 MB each) of other versions of Java or Kafka that stay beside a new one."""
_SECONDS = 60.0


def make_archive(class_path: str) -> None:
    """Make the archive for this Java and these jars, once for all that share the cache: seven seconds.

    If it cannot be made, an empty file stands in its place, and brokers start without.
    """
    archive = archive_of(class_path)
    if archive.exists():
        return
    with (cache_folder() / ".archive.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if archive.exists():
            return
        with tempfile.TemporaryDirectory(prefix=".archive-", dir=cache_folder()) as folder:
            made = Path(folder) / archive.name
            try:
                _watch_a_broker(class_path, Path(folder), made)
            except (OSError, OnibusError) as error:
                log.debug("no archive of Kafka's classes: %s", error)
            made.touch()
            made.replace(archive)
    by_age = sorted(cache_folder().glob("kafka-*.aot"), key=os.path.getmtime)
    for old in by_age[: -KEPT - 1]:
        old.unlink(missing_ok=True)


def _watch_a_broker(class_path: str, folder: Path, archive: Path) -> None:
    """Start a broker and stop it; as it ends it writes what it had loaded."""
    client_port, controller_port = _free_ports(2)
    node = Node(1, "127.0.0.1", client_port, controller_port, folder / "node")
    options = BrokerOptions(folder, port=client_port, start_timeout=_SECONDS, stays=False)
    node.folder.mkdir()
    node.properties_file.write_text(server_properties(options, node, [node], None))
    arguments = ["--cluster-id", "b25pYnVzLWFyY2hpdmUtMQ", "--config", str(node.properties_file)]
    format_storage(class_path, arguments, node.folder / "format.arguments")
    node_process.start([node], class_path, options, watched_for=archive)
    node_process.stop([node], _SECONDS)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
