"""Clean stops: SIGTERM, SIGINT and the end of the terminal set an event that loops check, or end a block."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from onibus.infra.errors import OnibusError


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


class _StoppedError(BaseException):
    """Not an Exception, so that no code takes it for an error of its own."""


@contextmanager
def ended_by_signals(message: str) -> Iterator[None]:
    """End the block at the first SIGTERM or SIGINT to this process, wherever it is (main thread only).

    For programs that wait in many places, and undo on the way out what they have started. Later signals are
    ignored, so that they do not cut that short.

    Raises:
        OnibusError: with this message; the block was ended.
    """
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, lambda *_: None)  # not SIG_IGN, which child processes would inherit
        raise _StoppedError

    for number in numbers:
        signal.signal(number, on_signal)
    try:
        yield
    except _StoppedError as error:
        raise OnibusError(message) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


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
