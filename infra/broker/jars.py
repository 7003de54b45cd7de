"""The class path of Apache Kafka: fetched once from Maven Central, checked against pinned hashes."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from onibus.infra.errors import OnibusError

_ATTEMPTS = 3
_DOWNLOADS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class PinnedJar:
    """One jar: its Maven coordinate and the hash that it must have."""

    group: str
    artifact: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"


def class_path(cache: Path | None = None) -> str:
    """Kafka's jars as a Java class path; those that are missing from ``cache`` are downloaded (44 MB).

    Every jar's hash is checked every time (0.1 s), so a damaged cache repairs itself.

    Raises:
        OnibusError: a jar cannot be downloaded, or does not have the pinned hash.
    """
    cache = cache or cache_folder()
    with _only_one_process(cache):
        context = _maven(cache / "maven")
        with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
            paths = pool.map(lambda jar: fetch(jar, context), pinned_jars())
            return os.pathsep.join(str(path) for path in paths)


def cache_folder() -> Path:
    """``$ONIBUS_CACHE_DIR``, else ``onibus`` in the user's XDG cache folder."""
    if chosen := os.environ.get("ONIBUS_CACHE_DIR"):
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "onibus"


def pinned_jars() -> list[PinnedJar]:
    """The jars of ``jars.txt``."""
    lines = resources.files("onibus.infra.broker").joinpath("jars.txt").read_text().splitlines()
    return [_pinned_jar(line) for line in lines if line and not line.startswith("#")]


def _pinned_jar(line: str) -> PinnedJar:
    coordinate, sha256 = line.split()
    group, artifact, version = coordinate.split(":")
    return PinnedJar(group, artifact, version, sha256)


def fetch(jar: PinnedJar, context: Any) -> Path:
    """Path of ``jar`` with the right hash. A file with another one (if truncated, say) is fetched again."""
    artifact = context.project(jar.group, jar.artifact).at_version(jar.version).artifact()
    problem = ""
    for _ in range(_ATTEMPTS):
        try:
            path = Path(artifact.resolve())
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors, jgo's "not found" is not
            problem = str(error).split("\n")[0]
            continue
        if hashlib.sha256(path.read_bytes()).hexdigest() == jar.sha256:
            return path
        path.unlink()
        problem = "it does not have the pinned SHA-256"
    advice = "check the network, or set other repositories in jgo's configuration file"
    if "CERTIFICATE_VERIFY_FAILED" in problem:
        advice = "name the certificates that your network needs in REQUESTS_CA_BUNDLE"
    raise OnibusError(f"cannot fetch Kafka's {jar} from Maven Central: {problem}; {advice}")


def _maven(repository: Path) -> Any:
    """jgo's Maven client, with the repositories of the user's jgo configuration, such as a mirror.

    It trusts the certificates of ``SSL_CERT_FILE``, as Python does, unless ``REQUESTS_CA_BUNDLE`` is set.
    """
    if "SSL_CERT_FILE" in os.environ:
        os.environ.setdefault("REQUESTS_CA_BUNDLE", os.environ["SSL_CERT_FILE"])
    try:
        from jgo.config import GlobalSettings
        from jgo.maven import MavenContext
    except ImportError as error:
        raise OnibusError(
            f"a local broker needs the package {error.name}; install it with: pip install 'onibus[broker]'"
        ) from error
    return MavenContext(
        repo_cache=repository, remote_repos=GlobalSettings.load().repositories or None, timeout=60
    )


@contextmanager
def _only_one_process(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise OnibusError(
            f"cannot write to the cache {folder} ({error.strerror}); set ONIBUS_CACHE_DIR to a folder you own"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
