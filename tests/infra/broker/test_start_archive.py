"""The archive of Kafka's classes: made once, used at each start, and never why a broker does not start."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from onibus.infra.broker import BrokerOptions, java, start_broker, stop_broker
from onibus.infra.broker.jars import class_path
from onibus.infra.broker.start_archive import make_archive
from tests.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.integration]


def jars_at(cache: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The class path that there is; archives of it belong into ``cache``."""
    jars = class_path()
    monkeypatch.setattr("onibus.infra.broker.java.cache_folder", lambda: cache)
    monkeypatch.setattr("onibus.infra.broker.start_archive.cache_folder", lambda: cache)
    return jars


def memory_maps(pid: int | None) -> set[str]:
    return {mapped.path for mapped in psutil.Process(pid).memory_maps()}


def test_it_is_made_once_however_many_want_it_and_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jars = jars_at(tmp_path, monkeypatch)
    with ThreadPoolExecutor(2) as both:
        list(both.map(make_archive, [jars, jars]))
    archive = java.archive_of(jars)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([".archive.lock", archive.name])
    made = archive.stat()
    assert made.st_size > 10_000_000
    options = BrokerOptions(tmp_path / "broker", port=free_port(), heap="256m", stays=False)
    try:
        (pid,) = start_broker(options).pids
        assert str(archive) in memory_maps(pid)
    finally:
        stop_broker(options.data_dir)
    assert (archive.stat().st_ino, archive.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns)


@pytest.mark.parametrize("content", [b"", b"not an archive", None], ids=["none", "garbage", "torn"])
def test_a_broker_starts_without_one_that_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    jars = class_path()
    make_archive(jars)
    whole = java.archive_of(jars)
    jars_at(tmp_path, monkeypatch)
    archive = java.archive_of(jars)
    archive.write_bytes(whole.read_bytes()[:20_000_000] if content is None else content)
    options = BrokerOptions(tmp_path / "broker", port=free_port(), heap="256m", stays=False)
    try:
        (node,) = start_broker(options).nodes
        assert "aot" not in node.log_file.read_text().lower()
    finally:
        stop_broker(options.data_dir)


def test_an_archive_that_cannot_be_made_is_not_tried_again_and_old_ones_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jars = jars_at(tmp_path, monkeypatch)
    for age in range(5):
        (old := tmp_path / f"kafka-{age}.aot").touch()
        os.utime(old, (1_000_000 - age, 1_000_000 - age))
    monkeypatch.setattr("onibus.infra.broker.java.java", lambda: tmp_path / "bin" / "java")
    (tmp_path / "release").write_text("JAVA_VERSION=1")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "modules").touch()
    make_archive(jars)
    archive = java.archive_of(jars)
    assert archive.read_bytes() == b""
    assert {path.name for path in tmp_path.glob("*.aot")} == {
        archive.name,
        "kafka-0.aot",
        "kafka-1.aot",
        "kafka-2.aot",
    }
    made = archive.stat().st_mtime_ns
    make_archive(jars)
    assert archive.stat().st_mtime_ns == made
