"""Where the API key of a server comes from; a key is never on the command line, nor in a log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from onibus.infra.errors import OnibusError

KEY_VARIABLE = "OPENAI_API_KEY"
KEY_FILE_VARIABLE = "ONIBUS_OPENAI_API_KEY_FILE"
NO_KEY = "none"
"""Local servers want some key and accept any."""
_LONGEST_FILE = 64 * 1024


class Given(NamedTuple):
    """Where the user gave a server's address, model and key, for errors, and ``of`` which judge they are."""

    base_url: str = "--base-url"
    model: str = "--model"
    key: str = f"{KEY_VARIABLE} or {KEY_FILE_VARIABLE}"
    of: str = ""


FLAGS = Given()


def api_key() -> str:
    """The key from ``OPENAI_API_KEY`` or the file that ``ONIBUS_OPENAI_API_KEY_FILE`` names.

    Raises:
        OnibusError: that file cannot be read.
    """
    if key := os.environ.get(KEY_VARIABLE):
        return key
    if not (path := os.environ.get(KEY_FILE_VARIABLE)):
        return NO_KEY
    return key_in(Path(path), KEY_FILE_VARIABLE)


def key_in(path: Path, source: str) -> str:
    """The first word of a file.

    Args:
        source: where its path stands, for the error.

    Raises:
        OnibusError: it cannot be read, or holds no text.
    """
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST_FILE).decode().split()[0]
    except (OSError, ValueError) as error:
        raise OnibusError(f"cannot read the API key from {path} ({source}): {error}") from error
    except IndexError as error:
        raise OnibusError(f"the file {path} ({source}) is empty; write the API key into it") from error
