"""Where the command begins: Ctrl-C while it is being imported ends the process, without a traceback."""

from __future__ import annotations

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Entry point of the console script."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from onibus.infra.cli.main import main
    from onibus.infra.process.ending import end_process

    try:
        main()
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            raise
        end_process(ended.code or 0)
