"""Clean stops: SIGTERM, SIGINT and the end of the terminal set an event that loops check."""

from __future__ import annotations

import _thread
import signal
import threading
from types import FrameType


def stop_event() -> threading.Event:
    """An event that is set by the first SIGTERM, SIGINT or SIGHUP to this process (main thread only).

    SIGHUP, which is sent when the terminal is closed, is left alone where it is ignored (``nohup``). It is
    blocked in child processes: a terminal sends it to the whole process group, but parents stop their
    children in order.
    """
    global _newest
    stopping = _newest = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        # Not set here: the main thread may be holding the event's lock, and would wait for itself.
        _thread.start_new_thread(stopping.set, ())

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, on_signal)
        _take_hang_ups()
    return stopping


def keep_hang_ups() -> None:
    """Undo what NetHack does when a game ends: it makes the process ignore SIGHUP, unknown to Python.

    Does nothing outside the main thread, where Python cannot set handlers.
    """
    handler = signal.getsignal(signal.SIGHUP)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, handler)


_newest: threading.Event | None = None
_HANG_UP_THREAD = "hang-up"


def _take_hang_ups() -> None:
    """Receive SIGHUP in one thread and block it in all others: children inherit the mask, but no handler."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    if not any(thread.name == _HANG_UP_THREAD for thread in threading.enumerate()):
        threading.Thread(target=_wait_for_hang_ups, daemon=True, name=_HANG_UP_THREAD).start()


def _wait_for_hang_ups() -> None:
    while True:
        signal.sigwait({signal.SIGHUP})
        request_stop()


def request_stop() -> bool:
    """Set the event that :func:`stop_event` created last; False if there is none."""
    if _newest is not None:
        _newest.set()
    return _newest is not None
