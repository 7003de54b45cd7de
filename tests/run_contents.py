"""What lies in a run's folder, as the page of operations lists it."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "infra" / "docs" / "operations.md"


def run_contents() -> set[str]:
    """Names of the files and folders."""
    table = PAGE.read_text().partition("| in `runs/NAME/` | holds |")[2].partition("\n\n")[0]
    names = set(re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE))
    assert {"options.json", "hf"} <= names, "the first and the last"
    return names
