"""Logging to stderr, the same in every component."""

from __future__ import annotations

import logging

from onibus.infra.process.terminal import printable_lines


class LineFormatter(logging.Formatter):
    """Plain lines without control characters, since log records quote captions and answers."""

    def format(self, record: logging.LogRecord) -> str:
        """See :class:`logging.Formatter`."""
        return printable_lines(super().format(record))


def set_up_logging(verbose: bool = False) -> None:
    """Log plain lines to stderr, without what a user cannot act on (chatter of client libraries)."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        LineFormatter("%(asctime)s %(levelname).1s %(name)s: %(message)s", datefmt="%H:%M:%S")
    )
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    # Never DEBUG: kafka-python would log its configuration and its bytes, passwords included.
    logging.getLogger("kafka").setLevel(logging.INFO if verbose else logging.CRITICAL)
    if not verbose:
        logging.getLogger("httpx").setLevel(logging.WARNING)  # one line per request
        logging.getLogger("nle").setLevel(logging.WARNING)
        logging.getLogger("py.warnings").setLevel(logging.ERROR)
