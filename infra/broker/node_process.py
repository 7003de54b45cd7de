"""The processes of a cluster's nodes: start them, stop them cleanly, find out which are alive."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from onibus.infra.broker.java import error_in, launch_broker
from onibus.infra.broker.options import BrokerOptions, Node
from onibus.infra.errors import OnibusError
from onibus.infra.files import write_whole
from onibus.infra.process.parent_death import release, stop_with_this_process

_READY = b"Kafka Server started"
_POLL_SECONDS = 0.05


def start(
    nodes: Sequence[Node], class_path: str, options: BrokerOptions, watched_for: Path | None = None
) -> None:
    """Launch ``nodes`` together and wait until each is ready; if one fails, none is left running.

    Args:
        nodes: of the cluster ``options``.
        class_path: Kafka's jars.
        options: of the cluster.
        watched_for: as for :func:`~onibus.infra.broker.java.launch_broker`.

    Raises:
        OnibusError: a broker died or was not ready in time.
    """
    processes = []
    try:
        for node in nodes:
            if node.log_file.exists():  # one log per run, so that it does not grow from start to start
                node.log_file.replace(node.log_file.with_suffix(".previous.log"))
            process = launch_broker(
                class_path, node.properties_file, node.log_file, options.heap, watched_for
            )
            processes.append(process)
            stop_with_this_process(process.pid)  # at least until it is ready: no half-started cluster stays
            _write_pid(node, process.pid)
        deadline = time.monotonic() + options.start_timeout
        for node, process in zip(nodes, processes, strict=True):
            _wait_until_ready(node, process, deadline)
    except BaseException:  # Ctrl-C included: a half-started cluster must not stay behind
        for process in processes:
            process.kill()
            process.wait()
            release(process.pid)
        for node in nodes:
            node.pid_file.unlink(missing_ok=True)
        raise
    if options.stays:
        for process in processes:
            release(process.pid)


def stop(nodes: Sequence[Node], timeout: float) -> bool:
    """Send SIGTERM, and after ``timeout`` seconds SIGKILL; returns whether any of ``nodes`` was alive."""
    living = [process for node in nodes if (process := _living(node)) is not None]
    for process in living:
        process.terminate()
    _, stubborn = psutil.wait_procs(living, timeout=timeout)
    for process in stubborn:
        process.kill()
    psutil.wait_procs(stubborn, timeout=10)
    for process in living:
        release(process.pid)
    for node in nodes:
        node.pid_file.unlink(missing_ok=True)
    return bool(living)


def living_pid(node: Node) -> int | None:
    """Process id of ``node``; None if it is not running."""
    process = _living(node)
    return None if process is None else process.pid


def why_dead(node: Node) -> str | None:
    """The reason in the log of a node that ended without being stopped; None if it was stopped."""
    return _why_it_died(node) if node.pid_file.exists() and node.log_file.exists() else None


def _living(node: Node) -> psutil.Process | None:
    """The node's process, if the one that we started is still alive (its pid may have been reused)."""
    try:
        record = json.loads(node.pid_file.read_text())
        process = psutil.Process(record["pid"])
        same = abs(process.create_time() - record["created"]) < 1.0
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (FileNotFoundError, ValueError, KeyError, TypeError, psutil.NoSuchProcess):
        return None


def _write_pid(node: Node, pid: int) -> None:
    write_whole(node.pid_file, json.dumps({"pid": pid, "created": psutil.Process(pid).create_time()}))


def _wait_until_ready(node: Node, process: subprocess.Popen[bytes], deadline: float) -> None:
    while _READY not in node.log_file.read_bytes():
        if process.poll() is not None:
            raise OnibusError(_why_it_died(node))
        if time.monotonic() > deadline:
            raise OnibusError(
                f"broker {node.id} at {node.address} was not ready in time; its log is {node.log_file}"
            )
        time.sleep(_POLL_SECONDS)


def _why_it_died(node: Node) -> str:
    log = node.log_file.read_text(errors="replace")
    if "No space left on device" in log:
        return (
            f"disk full: broker {node.id} could not write its data in {node.folder}; "
            "free some space and start again"
        )
    if "Address already in use" in log:
        return (
            f"a port of broker {node.id} ({node.port} or {node.controller_port}) was taken by another "
            "program; start again, or choose another port"
        )
    reason = error_in(log) or "its log has no error, so it was killed (out of memory?)"
    return f"broker {node.id} died: {reason}; its log is {node.log_file}"
