"""The end of a command."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from typing import NoReturn

_left_to_python = False


def leave_the_end_to_python() -> None:
    """Code of the user's own has been imported: what it holds open is closed as modules are taken apart."""
    global _left_to_python
    _left_to_python = True


def end_process(code: int) -> NoReturn:
    """End as Python does, except that modules are not taken apart.

    With PyTorch imported that takes half a second of processor time, and nothing of ours is left to be done
    by then: threads have been waited for, exit handlers have run, streams are written out.
    """
    if _left_to_python or _is_watched():
        sys.exit(code)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError, AttributeError):  # which Python then meets in its own way
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code & 0xFF)
    sys.exit(code)


def _is_watched() -> bool:
    """Whether a profiler, a debugger or an interactive Python goes on after the command."""
    monitoring = getattr(sys, "monitoring", None)
    tools = map(monitoring.get_tool, range(6)) if monitoring else ()
    return bool(sys.flags.inspect or sys.getprofile() or sys.gettrace() or any(tools))
