"""Which specifications a run's reward stands on: names with the ids they had, kept with the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

SPECS_FILE = "specs.json"


def keep_specs(folder: Path, specs: Mapping[str, bytes]) -> None:
    """Keep the ids that the names stood for."""
    (folder / SPECS_FILE).write_text(json.dumps({name: spec_id.hex() for name, spec_id in specs.items()}))


def found_specs(folder: Path) -> dict[str, bytes]:
    """Spec ids by name of the run in ``folder``; empty if it found none."""
    path = folder / SPECS_FILE
    if not path.exists():
        return {}
    return {name: bytes.fromhex(spec_id) for name, spec_id in json.loads(path.read_text()).items()}
