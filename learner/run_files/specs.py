"""Which specifications a run's reward stands on: names with the ids they had, kept with the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onibus.infra.files import read_state, write_whole

SPECS_FILE = "specs.json"


def keep_specs(folder: Path, specs: Mapping[str, bytes]) -> None:
    """Keep the ids that the names stood for.

    Raises:
        OSError: they cannot be written.
    """
    content = json.dumps({name: spec_id.hex() for name, spec_id in specs.items()})
    write_whole(folder / SPECS_FILE, content)


def found_specs(folder: Path) -> dict[str, bytes]:
    """Spec ids by name of the run in ``folder``; empty if it found none, or they cannot be read."""
    return read_state(folder / SPECS_FILE, _by_name, {})


def _by_name(kept: Any) -> dict[str, bytes]:
    return {name: bytes.fromhex(spec_id) for name, spec_id in kept.items()}
