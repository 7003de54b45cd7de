"""Whoever publishes captions of another game needs neither NetHack nor an environment library."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
import onibus.producers.publishing.caption_publisher
print(sorted({"nle", "minihack", "gymnasium", "torch", "numpy"} & sys.modules.keys()))
"""


def test_publishing_a_caption_imports_no_game() -> None:
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"
