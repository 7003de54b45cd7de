"""Kafka's jars: pinned, checked, fetched again when damaged, and a clear line when they cannot be fetched."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from jgo.maven import MavenContext

from onibus.infra.broker.jars import PinnedJar, class_path, fetch, pinned_jars
from onibus.infra.errors import OnibusError
from tests.ports import free_port

CONTENT = b"a jar, as it was pinned"
JAR = PinnedJar("org.example", "thing", "1.0", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A Maven repository on loopback: the file it serves for :data:`JAR`, and its address."""
    served = tmp_path / "repository" / "org/example/thing/1.0/thing-1.0.jar"
    served.parent.mkdir(parents=True)
    handler = functools.partial(_QuietHandler, directory=str(tmp_path / "repository"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield served, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Requests are not for the terminal."""


def test_every_jar_is_pinned_once_by_its_hash() -> None:
    jars = pinned_jars()
    assert len({(jar.group, jar.artifact) for jar in jars}) == len(jars) > 40
    assert all(len(bytes.fromhex(jar.sha256)) == 32 for jar in jars)
    kafka = next(jar for jar in jars if jar.artifact == "kafka_2.13")
    assert all(jar.version == kafka.version for jar in jars if jar.group == "org.apache.kafka")


def test_a_jar_is_fetched_and_kept(repository: tuple[Path, str], tmp_path: Path) -> None:
    served, address = repository
    served.write_bytes(CONTENT)
    context = MavenContext(repo_cache=tmp_path / "cache", remote_repos={"test": address})
    assert fetch(JAR, context).read_bytes() == CONTENT
    served.unlink()
    assert fetch(JAR, context).read_bytes() == CONTENT


def test_a_truncated_jar_is_fetched_again(repository: tuple[Path, str], tmp_path: Path) -> None:
    served, address = repository
    served.write_bytes(CONTENT)
    context = MavenContext(repo_cache=tmp_path / "cache", remote_repos={"test": address})
    fetch(JAR, context).write_bytes(CONTENT[:5])
    assert fetch(JAR, context).read_bytes() == CONTENT


def test_a_jar_with_another_hash_is_refused(repository: tuple[Path, str], tmp_path: Path) -> None:
    served, address = repository
    served.write_bytes(b"something else")
    context = MavenContext(repo_cache=tmp_path / "cache", remote_repos={"test": address})
    with pytest.raises(OnibusError, match=r"org.example:thing:1.0 .* does not have the pinned SHA-256"):
        fetch(JAR, context)
    assert not list((tmp_path / "cache").rglob("*.jar"))


def test_no_network_is_one_clear_line(tmp_path: Path) -> None:
    nowhere = {"test": f"http://127.0.0.1:{free_port()}"}
    with pytest.raises(OnibusError, match="check the network") as raised:
        fetch(JAR, MavenContext(repo_cache=tmp_path, remote_repos=nowhere))
    assert "\n" not in str(raised.value)


def test_a_cache_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OnibusError, match="set ONIBUS_CACHE_DIR"):
        class_path(tmp_path / "file" / "cache")
