"""The end of a command."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from typing import NoReturn


def end_process(code: int) -> NoReturn:
    """End as Python does, except that modules are not taken apart.

    With PyTorch imported that takes half a second of processor time, and nothing is left to be done by then:
    threads have been waited for, exit handlers have run, streams are written out.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):  # which Python then meets in its own way
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)
    sys.exit(code)
