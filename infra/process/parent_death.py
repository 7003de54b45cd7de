"""No orphans: child processes end when their parent has ended, however it ended, kill -9 included.

Two kinds of children need two mechanisms. A program that is started as the leader of a process group (such as
Java or vLLM) is registered with :func:`stop_with_this_process`; a keeper process, which outlives the parent,
then stops the whole group. Workers of :mod:`multiprocessing` share their parent's group and call
:func:`end_with_parent` themselves.

The keeper runs this file as a script, without the rest of the package: standard library only.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable

GRACE_SECONDS = 10.0
"""From SIGTERM to SIGKILL."""
_LOOK_SECONDS = 0.05


def stop_with_this_process(group: int) -> None:
    """Have the process group ``group`` stopped when this process ends, however it ends.

    Its leader gets SIGTERM and :data:`GRACE_SECONDS`, then what is left of the group is killed. Groups are
    stopped one after the other, the last one registered first. Register a group once it has been started, and
    :func:`release` it once it has ended, before its number is reused. What was started and not yet registered
    when this process is killed goes on.
    """
    _keeper.keep(group)


def release(group: int) -> None:
    """Undo :func:`stop_with_this_process`; unknown groups are ignored."""
    _keeper.release(group)


def end_with_parent(grace_seconds: float = GRACE_SECONDS) -> bool:
    """In a worker of :mod:`multiprocessing`: end when the parent has ended.

    The worker gets SIGTERM, and SIGKILL if it is still running ``grace_seconds`` later; with 0 at once.
    Further calls do nothing.

    Returns:
        Whether this process is such a worker.
    """
    import multiprocessing
    import multiprocessing.connection

    global _watched_parent
    parent = multiprocessing.parent_process()
    if parent is None or _watched_parent == parent.pid:
        return parent is not None
    _watched_parent = parent.pid
    sentinel = parent.sentinel

    def watch() -> None:
        multiprocessing.connection.wait([sentinel])
        if grace_seconds > 0:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(grace_seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()
    return True


_watched_parent: int | None = None


class _Keeper:
    """Tells the keeper process, which is started for the first group, what to stop.

    The keeper detects the end of this process by its standard input, whose other end only this process holds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: dict[int, None] = {}
        os.register_at_fork(after_in_child=self._forget)

    def keep(self, group: int) -> None:
        with self._lock:
            self._groups[group] = None
            if self._process is None or not self._send(f"keep {group}\n"):
                self._start()

    def release(self, group: int) -> None:
        with self._lock:
            if group in self._groups:
                del self._groups[group]
                self._send(f"release {group}\n")

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # neither the terminal's signals nor those to our group reach it
        )
        self._send("".join(f"keep {group}\n" for group in self._groups))

    def _send(self, lines: str) -> bool:
        """Whether the keeper is alive and received them."""
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(lines.encode())
            self._process.stdin.flush()
        except OSError:  # someone killed it
            return False
        return True

    def _forget(self) -> None:
        """In a forked child: the parent's keeper is not the child's, and must not wait for its end."""
        self._lock = threading.Lock()
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                os.close(self._process.stdin.fileno())
            self._process.stdin = None
        self._process, self._groups = None, {}


_keeper = _Keeper()


def _keep(lines: Iterable[str]) -> None:
    """The keeper's main loop: read registrations until the parent has ended, then stop the groups."""
    leaders: dict[int, int | None] = {}  # by descriptors, no other process can be signalled by mistake
    for line in lines:
        word, number = line.split()
        if word == "keep":
            leaders[int(number)] = _descriptor(int(number))
        elif (descriptor := leaders.pop(int(number), None)) is not None:
            os.close(descriptor)
    for group, descriptor in reversed(leaders.items()):
        _stop(group, descriptor)


def _descriptor(process: int) -> int | None:
    """A pidfd; None if the process has ended, or where the system has no pidfds."""
    try:
        return os.pidfd_open(process)
    except (AttributeError, OSError):
        return None


def _stop(group: int, leader: int | None) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if leader is not None:
            signal.pidfd_send_signal(leader, signal.SIGTERM)
            select.select([leader], [], [], GRACE_SECONDS)  # readable once it has ended
        else:
            os.killpg(group, signal.SIGTERM)
            deadline = time.monotonic() + GRACE_SECONDS
            while time.monotonic() < deadline:
                time.sleep(_LOOK_SECONDS)
                os.killpg(group, 0)  # fails once all have ended
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    _keep(sys.stdin)
