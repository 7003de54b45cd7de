"""Which onibus this is."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

NUMBER = "0.2.0.dev0"

_GIT_SECONDS = 5.0


@cache
def version() -> str:
    """The version when it is first asked for, in a checkout with the commit.

    For example ``0.2.0 (commit 1a2b3c4d5e6f, changed)``.
    """
    commit = _git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return NUMBER
    changed = ", changed" if _git("status", "--porcelain", "--untracked-files=no") else ""
    return f"{NUMBER} (commit {commit}{changed})"


def _git(*arguments: str) -> str:
    """What git says about the checkout that this file is in; empty where it is not in one, or without git."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
