"""Names of runs: each is the name of a folder, and part of keys on the bus."""

from __future__ import annotations

import unicodedata

from onibus.infra.errors import OnibusError

MOST_BYTES = 200
"""File systems take 255 for a name; suffixes need some."""


def check_run_name(name: str) -> str:
    """The name, if it can be that of a run.

    Raises:
        OnibusError: it is empty or too long, or has characters that a folder's name cannot have.
    """
    size = len(name.encode(errors="surrogateescape"))
    shown = ascii(name if len(name) <= 40 else f"{name[:40]}…")
    if size > MOST_BYTES:
        raise OnibusError(f"--run {shown} is {size} bytes long; choose a name of at most {MOST_BYTES}")
    if not name.strip() or name in (".", ".."):
        raise OnibusError(f"--run {shown} cannot be the name of a folder; choose another name")
    for character in name:
        if character in "/\\" or unicodedata.category(character) in ("Cc", "Cs"):
            raise OnibusError(
                f"--run {shown}: a run's name cannot have {character!a}, since it names a folder; "
                "choose where the folder lies with --runs-dir"
            )
    return name
