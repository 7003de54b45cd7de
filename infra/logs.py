"""Logging to stderr, the same in every component."""

from __future__ import annotations

import logging


def set_up_logging(verbose: bool = False) -> None:
    """Plain one-line logs on stderr; what a user cannot act on (client chatter) stays away."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname).1s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
        force=True,
    )
    logging.captureWarnings(True)
    if not verbose:
        logging.getLogger("kafka").setLevel(logging.CRITICAL)
        logging.getLogger("httpx").setLevel(logging.WARNING)
        logging.getLogger("py.warnings").setLevel(logging.ERROR)
