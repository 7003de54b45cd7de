"""The long chaos tests run when asked for: ``make chaos``."""

from __future__ import annotations

import os

collect_ignore = [] if os.environ.get("CHAOS") else ["test_survival.py"]
